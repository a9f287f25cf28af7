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
from agentgym.data.conversation import LISTS, PAIRS, no_conversation
from agentgym.data.jsonfiles import Unreadable, records
from agentgym.data.rows import Phase, from_row, to_row
from agentgym.data.scores import BeyondScores, Scores, check_score
from agentgym.errors import DataError, RunError
from envpool import environments
from envpool.types import Task, Trajectory

__all__ = [
    "QUARANTINE",
    "Imported",
    "Quarantined",
    "Unreadable",
    "check_any",
    "import_files",
    "read_files",
    "records",
    "write_quarantine",
]

QUARANTINE = "quarantine.jsonl"
"""The file, in a run folder or beside what was written, that says what was set aside."""

_CURE = 'name a JSON list of {"item_id": ..., "conversations": [{"from", "loss", "value"}, ...]}, as AgentTraj has it'
_OURS = frozenset({"environment", "turns", "phase"})  # columns by which our own files are known, damaged or not
_LONGEST = 10  # remarks; a file may have any number of keys


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
        remarks: what should be known of the good records, and of how many: keys that are not read, and the like.
        notes: what should be known of files, in one line each.
    """

    episodes: list[tuple[dict[str, Any], Trajectory]] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    records: int = 0
    files: list[str] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

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

    @property
    def good(self) -> int:
        """How many records are good."""
        return self.records - len(self.quarantined)

    @property
    def told(self) -> list[str]:
        """What should be known of the good records, one line each."""
        often = self.remarks.most_common()
        more = [f"and {len(often) - _LONGEST:,} more such keys"] if len(often) > _LONGEST else []
        lines = [f"{count:,} of {self.records:,} records {remark}" for remark, count in often[:_LONGEST]]
        return [*self.notes, *lines, *more]


def import_files(paths: Iterable[Path], environment: str | None = None) -> Imported:
    """Reads files of any kind in `checks.DATA_SUFFIXES`. Records of the same task are its samples, over all files.

    Args:
        paths: the files.
        environment: of records whose item id does not tell it; if None, the names of the files may.

    Raises:
        DataError: a file cannot be read from the disk.
    """
    result = Imported()
    result.episodes.extend(read_files(paths, result, environment))
    return result


def read_files(
    paths: Iterable[Path], result: Imported, environment: str | None = None
) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """Reads files as `import_files` does, but gives the good records one by one, and does not keep them.

    Args:
        paths: the files.
        result: gets everything else.
        environment: of records whose item id does not tell it; if None, the names of the files may.

    Raises:
        DataError: a file cannot be read from the disk.
    """
    samples: Counter[Task] = Counter()
    for path in paths:
        result.files.append(str(path))
        scores: dict[str, Scores] = {}
        for number, record in _rows(path) if _is_parquet(path) else records(path):
            result.records += 1
            remarks: set[str] = set()
            try:
                yield _episode(path, number, record, environment, samples, remarks, scores)
            except ValueError as error:
                reason = " ".join(str(error).encode(errors="replace").decode().split())
                result.quarantined.append(Quarantined(str(path), number, reason[:300]))
            else:
                result.remarks.update(remarks)
        result.notes += [note for name, seen in scores.items() if (note := seen.note(name, path.name))]


def _episode(
    path: Path,
    number: int | None,
    record: Any,
    environment: str | None,
    samples: Counter[Task],
    remarks: set[str],
    scores: dict[str, Scores],
) -> tuple[dict[str, Any], Trajectory]:
    if isinstance(record, Unreadable):
        raise ValueError(record.reason)
    try:
        if isinstance(record, _Row):
            row, trajectory = dict(record), from_row(record)
            if trajectory.score is not None:
                check_score(trajectory.task.environment, trajectory.score)
        else:
            otherwise = environment or environment_in(path.name)
            place = f"{path.name} {number}"
            trajectory = read_record(record, samples, otherwise, place=place, remarks=remarks)
            row = to_row(trajectory, iteration=0, phase=Phase.IMPORTED)
    except BeyondScores as error:
        scores.setdefault(error.environment, Scores()).beyond += 1
        raise
    if trajectory.score is not None and trajectory.task.environment in environments():
        scores.setdefault(trajectory.task.environment, Scores()).add(trajectory.score)
    return row, trajectory


def check_any(imported: Imported, source: str, quarantine: Path | None = None) -> None:
    """Refuses a source in which there is no good record.

    Args:
        imported: what came of the source.
        source: how the user named it.
        quarantine: the file that says what was set aside, if there is one.

    Raises:
        DataError: there is none.
    """
    if not imported.good:
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


class _Row(dict[str, Any]):
    """A row of a trajectory file."""


def _rows(path: Path) -> Iterator[tuple[int | None, Any]]:
    """Yields every row of a Parquet file with its number; a number of None means the file as a whole."""
    columns: list[str] = []

    def wanted(names: Sequence[str]) -> bool:
        columns.extend(names)
        return _has_conversations(names)

    try:
        foreign = store.foreign_rows(path, wanted)
        if foreign is None and not _OURS & set(columns):
            yield None, Unreadable(no_conversation(dict.fromkeys(columns, "something")).replace("record", "file", 1))
        elif foreign is None:
            yield from enumerate(map(_Row, store.rows(path)), start=1)
        else:
            yield from enumerate(map(_without_nulls, foreign), start=1)
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        yield None, Unreadable(str(error).removeprefix(f"{path} "))


def _is_parquet(path: Path) -> bool:
    """Whether a file is to be read as Parquet: by its name, unless what it holds is text."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return path.suffix.lower() == ".parquet"
    try:
        with path.open("rb") as file:
            beginning = file.read(7).lstrip()
    except OSError:
        return True  # which tells why it cannot be read
    return not beginning.startswith((b"{", b"[", b"version"))


def _has_conversations(columns: Sequence[str]) -> bool:
    return any(key in columns for key in LISTS) or any(set(pair) <= set(columns) for pair in PAIRS)


def _without_nulls(value: Any) -> Any:
    """What a column holds, without the fields that it has only because another row has them."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
