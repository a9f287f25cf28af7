"""Episodes of a job that is under way, so that an interruption costs none that was finished.

A journal lies beside the trajectory file that the job will write in the end, one row of `rows` a line of JSON. A line
that cannot be read (the interruption cut it short, or the disk lost it) is no episode: it is played again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agentgym.data.rows import from_row
from agentgym.errors import RunError
from envpool import Trajectory

SUFFIX = ".journal"


class Journal:
    """The journal of the job that will write a file.

    Args:
        out: the trajectory file.
    """

    def __init__(self, out: Path) -> None:
        self._path = out.with_suffix(SUFFIX)

    def read(self) -> list[tuple[dict[str, Any], Trajectory]]:
        """The episodes so far, as rows and as trajectories, in the order in which they were added."""
        if not self._path.exists():
            return []
        whole, _, cut = self._path.read_bytes().rpartition(b"\n")
        if cut:
            os.truncate(self._path, len(whole) + 1 if whole else 0)
        return [found for line in whole.split(b"\n") if (found := _episode(line)) is not None]

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends episodes.

        Raises:
            RunError: the file cannot be written.
        """
        lines = [json.dumps(row) for row in rows]
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


def _episode(line: bytes) -> tuple[dict[str, Any], Trajectory] | None:
    try:
        row = json.loads(line)
        return row, from_row(row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
