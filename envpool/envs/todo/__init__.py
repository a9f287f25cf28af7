"""TODOList: a list of things to do, asked and changed."""
