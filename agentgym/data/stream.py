"""Trajectory files of any number of rows, of which only some are in memory at a time."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentgym.data import store

BATCH = 10_000
"""Rows that are in memory at a time."""

Rows = list[Mapping[str, Any]]


def write_stream(path: Path, given: Iterable[Mapping[str, Any]], *, new: bool = False) -> None:
    """Writes rows as `store.write_rows` does, however many there are; where there are none, no file.

    Args:
        path: the file.
        given: the rows.
        new: whether a file that is there already is an error; if not, it is replaced.

    Raises:
        RunError: the file cannot be written, or is there already.
        DataError: polars is not installed.
    """
    batches = _batches(given)
    first, second = next(batches, []), next(batches, [])
    if not second:
        if first:
            store.write_rows(path, first, new=new)
        return
    with tempfile.TemporaryDirectory() as folder:
        parts: list[Path] = []
        for batch in itertools.chain([first, second], batches):
            parts.append(Path(folder) / f"{len(parts):09d}.parquet")
            store.write_rows(parts[-1], batch)
            batch.clear()
        store.join(path, parts, new=new)


def _batches(given: Iterable[Mapping[str, Any]]) -> Iterator[Rows]:
    rows = iter(given)
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch
