"""WebShop (https://arxiv.org/abs/2207.01206): find and buy a product."""
