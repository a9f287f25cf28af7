"""Trajectories from files of other programs. What cannot be read is set aside, with the place and the reason.

Nothing is dropped without a word: every record is either stored or set aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentgym.data import store
from agentgym.data.agenttraj import environment_in, read_record
from agentgym.data.rows import Phase, from_row, to_row
from agentgym.errors import DataError, RunError
from envpool.types import Task, Trajectory

QUARANTINE = "quarantine.jsonl"
"""The file, in a run folder or beside what was written, that says what was set aside."""

_CURE = 'name a JSON list of {"item_id": ..., "conversations": [{"from", "loss", "value"}, ...]}, as AgentTraj has it'


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that was set aside.

    Attributes:
        file: where it stands.
        record: which it is there, counted from 1 (in JSON lines: its line, in Parquet: its row); None if the whole
            file is meant.
        reason: why, in one line.
    """

    file: str
    record: int | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.record is None else f"record {self.record}: "
        return f"{Path(self.file).name}: {place}{self.reason}"


@dataclass(slots=True)
class Imported:
    """What came of some files.

    Attributes:
        episodes: the good records, file by file, each in its order: as rows of `rows`, and as trajectories. Rows of
            Parquet files are as they were there; the others are imported ones.
        quarantined: the others.
        records: how many there were; a file that cannot be read as a whole counts as one.
        files: the files.
    """

    episodes: list[tuple[dict[str, Any], Trajectory]] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    records: int = 0
    files: list[str] = field(default_factory=list)

    @property
    def trajectories(self) -> list[Trajectory]:
        """The good records."""
        return [trajectory for _, trajectory in self.episodes]

    @property
    def complaint(self) -> str:
        """How many records were set aside and why the first ones, in one line; empty if none was."""
        if not self.quarantined:
            return ""
        more = len(self.quarantined) - 3
        some = "; ".join(map(str, self.quarantined[:3])) + (f"; and {more} more" if more > 0 else "")
        return f"{len(self.quarantined)} of {self.records} records are set aside ({some})"


def import_files(paths: Iterable[Path]) -> Imported:
    """Reads files of any kind in `checks.DATA_SUFFIXES`. Records of the same task are its samples, over all files.

    Raises:
        DataError: a file cannot be read from the disk.
    """
    result = Imported()
    samples: Counter[Task] = Counter()
    for path in paths:
        result.files.append(str(path))
        is_parquet = path.suffix.lower() == ".parquet"
        environment = environment_in(path.name)
        for number, record in _rows(path) if is_parquet else records(path):
            result.records += 1
            try:
                if isinstance(record, Unreadable):
                    raise ValueError(record.reason)
                if is_parquet:
                    result.episodes.append((record, from_row(record)))
                else:
                    trajectory = read_record(record, samples, environment)
                    result.episodes.append((to_row(trajectory, iteration=0, phase=Phase.IMPORTED), trajectory))
            except ValueError as error:
                reason = " ".join(str(error).encode(errors="replace").decode().split())
                result.quarantined.append(Quarantined(str(path), number, reason[:300]))
    return result


def check_any(imported: Imported, source: str, quarantine: Path | None = None) -> None:
    """Refuses a source in which there is no good record.

    Args:
        imported: what came of the source.
        source: how the user named it.
        quarantine: the file that says what was set aside, if there is one.

    Raises:
        DataError: there is none.
    """
    if not imported.episodes:
        first = imported.quarantined[0] if imported.quarantined else None
        reason = "the list is empty" if first is None else str(first)
        cure = _CURE if first is None or not first.file.lower().endswith(".parquet") else "name another file"
        listed = f" ({quarantine} lists all that was set aside)" if first and quarantine else ""
        raise DataError(f"{source} holds no trajectory ({reason}): {cure}{listed}")


def write_quarantine(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Adds what was set aside to a file of JSON lines, which it makes if need be; what it says already is not repeated.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        there = path.read_bytes() if path.exists() else b""
        known = set(there.split(b"\n"))
        lines = [json.dumps(asdict(each)).encode() for each in quarantined]
        new = b"".join(line + b"\n" for line in lines if line not in known)
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(b"\n" + new if there and not there.endswith(b"\n") else new)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; name another place") from error


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a record, or a file, that is no JSON; says why in one line."""

    reason: str


def _rows(path: Path) -> Iterator[tuple[int | None, Any]]:
    """Yields every row of a Parquet file with its number; a number of None means the file as a whole."""
    try:
        yield from enumerate(store.rows(path), start=1)
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        yield None, Unreadable(str(error).removeprefix(f"{path} "))


def records(path: Path) -> Iterator[tuple[int | None, Any]]:
    """Yields every record of a file with its number; a number of None means the file as a whole."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    if path.suffix.lower() == ".jsonl":
        yield from _lines(content)
        return
    whole = _parsed(content)
    if isinstance(whole, list):
        yield from enumerate(whole, start=1)
    elif isinstance(whole, dict):  # the evaluation of models behind an API writes a file a task
        yield 1, whole
    elif isinstance(whole, Unreadable) and any(isinstance(record, dict) for _, record in _lines(content)):
        yield from _lines(content)  # JSON lines under another name
    else:
        yield None, whole if isinstance(whole, Unreadable) else Unreadable("is no list of records")


def _lines(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        return Unreadable(f"is no JSON ({error})")
