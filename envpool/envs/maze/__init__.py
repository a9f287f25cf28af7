"""Maze: find the goal by walking, seeing only the walls around you."""
