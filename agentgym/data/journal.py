"""Episodes of a job that is under way, so that an interruption costs none that was finished.

A journal lies beside the trajectory file that the job will write in the end, one episode a line of JSON. A line that
was cut short by the interruption is no episode.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from agentgym.data.rows import Phase, from_row, to_row
from agentgym.errors import RunError
from envpool import Task, Trajectory


class Journal:
    """The journal of the job that will write a file.

    Args:
        out: the trajectory file.
    """

    def __init__(self, out: Path) -> None:
        self._path = out.with_suffix(".journal")

    def read(self) -> dict[Task, Trajectory]:
        """The episodes so far, by task, in the order in which they were added."""
        if not self._path.exists():
            return {}
        whole, _, cut = self._path.read_bytes().rpartition(b"\n")
        if cut:
            os.truncate(self._path, len(whole) + 1 if whole else 0)
        episodes = [from_row(json.loads(line)) for line in whole.splitlines()]
        return {episode.task: episode for episode in episodes}

    def add(self, episodes: Iterable[Trajectory]) -> None:
        """Appends episodes.

        Raises:
            RunError: the file cannot be written.
        """
        lines = [json.dumps(to_row(episode, iteration=0, phase=Phase.EXPLORE)) for episode in episodes]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise RunError(
                f"cannot write {self._path}: {error.strerror or error}; free some space and run the same command again"
            ) from error

    def remove(self) -> None:
        """Removes the file; the trajectories are in their place now."""
        self._path.unlink(missing_ok=True)
