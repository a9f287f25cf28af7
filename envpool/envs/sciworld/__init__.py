"""ScienceWorld (https://arxiv.org/abs/2203.07540): science tasks of primary school."""
