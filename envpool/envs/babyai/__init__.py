"""BabyAI (https://arxiv.org/abs/1810.08272): go to, pick up, open and move objects in a grid of rooms."""
