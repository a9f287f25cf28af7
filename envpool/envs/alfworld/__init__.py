"""ALFWorld (https://arxiv.org/abs/2010.03768): household tasks in text."""
