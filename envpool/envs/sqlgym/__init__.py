"""SQLGym: questions that one SQL query answers, of BIRD (https://arxiv.org/abs/2305.03111)."""
