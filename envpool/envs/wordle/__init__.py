"""Wordle: guess a five-letter word in six tries."""
