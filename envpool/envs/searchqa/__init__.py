"""SearchQA: questions that a search in Wikipedia answers."""
