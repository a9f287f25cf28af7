"""The expert of Maze."""

from __future__ import annotations

from collections.abc import Iterator

from envpool.envs.maze.world import MOVES, Maze, name_of


def expert(maze: Maze) -> Iterator[tuple[str, str]]:
    """Walks a shortest way; among equally short ones the first direction in `MOVES` wins."""
    distances = maze.layout.distances(maze.goal)
    while True:
        exits = maze.layout.exits[maze.position]
        direction = min((d for d in MOVES if d in exits), key=lambda d: distances[exits[d]])
        yield f"From {name_of(maze.position)} to {name_of(maze.goal)}: {direction}.", f"move {direction}"
