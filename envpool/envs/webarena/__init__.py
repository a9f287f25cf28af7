"""WebArena (https://arxiv.org/abs/2307.13854): tasks on real web sites in a browser."""
