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
from agentgym.errors import DataError, RunError
from envpool.types import Trajectory

QUARANTINE = "quarantine.jsonl"
"""The file, in a run folder or beside what was written, that says what was set aside."""

_CURE = 'name a JSON list of {"item_id": ..., "conversations": [{"from", "loss", "value"}, ...]}, as AgentTraj has it'


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that was set aside.

    Attributes:
        file: where it stands.
        record: which it is there, counted from 1 (in JSON lines: its line); None if the whole file is meant.
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
        trajectories: the good records, file by file, each in its order.
        quarantined: the others.
        records: how many there were; a file that is no JSON at all counts as one.
        files: the files.
    """

    trajectories: list[Trajectory] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    records: int = 0
    files: list[str] = field(default_factory=list)

    @property
    def complaint(self) -> str:
        """How many records were set aside and why the first ones, in one line; empty if none was."""
        if not self.quarantined:
            return ""
        more = len(self.quarantined) - 3
        some = "; ".join(map(str, self.quarantined[:3])) + (f"; and {more} more" if more > 0 else "")
        return f"{len(self.quarantined)} of {self.records} records are set aside ({some})"


def import_files(paths: Iterable[Path]) -> Imported:
    """Reads files of any kind in `checks.DATA_SUFFIXES`. Records of the same item are its samples, over all files.

    Raises:
        DataError: a file cannot be read, or a Parquet file is damaged or no trajectory file.
    """
    result = Imported()
    samples: Counter[tuple[str, str]] = Counter()
    for path in paths:
        result.files.append(str(path))
        if path.suffix == ".parquet":
            trajectories = store.read([path])
            result.trajectories += trajectories
            result.records += len(trajectories)
            continue
        environment = environment_in(path.name)
        for number, record in _records(path):
            result.records += 1
            try:
                if isinstance(record, _Unreadable):
                    raise ValueError(record.reason)
                result.trajectories.append(read_record(record, samples, environment))
            except ValueError as error:
                reason = " ".join(str(error).encode(errors="replace").decode().split())
                result.quarantined.append(Quarantined(str(path), number, reason[:300]))
    return result


def check_any(imported: Imported, source: str) -> None:
    """Refuses a source in which there is no good record.

    Raises:
        DataError: there is none.
    """
    if not imported.trajectories:
        reason = str(imported.quarantined[0]) if imported.quarantined else "the list is empty"
        raise DataError(f"{source} holds no trajectory ({reason}): {_CURE}")


def write_quarantine(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Adds what was set aside to a file of JSON lines, which it makes if need be; what it says already is not repeated.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        known = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        lines = [json.dumps(asdict(each)) for each in quarantined]
        new = "".join(f"{line}\n" for line in lines if line not in known)
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(new.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


def _records(path: Path) -> Iterator[tuple[int | None, Any]]:
    """Yields every record of a file with its number; a number of None means the file as a whole."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    if path.suffix == ".jsonl":
        yield from _lines(content)
        return
    whole = _parsed(content)
    if isinstance(whole, list):
        yield from enumerate(whole, start=1)
    elif isinstance(whole, dict):  # the evaluation of models behind an API writes a file a task
        yield 1, whole
    elif isinstance(whole, _Unreadable) and isinstance(_parsed(content.lstrip().partition(b"\n")[0]), dict):
        yield from _lines(content)  # JSON lines under another name
    else:
        yield None, whole if isinstance(whole, _Unreadable) else _Unreadable("is no list of records")


def _lines(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"is no JSON ({error})")
