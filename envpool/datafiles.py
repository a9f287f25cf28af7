"""Files with the real data of environments: what they should be, and whether what is here is that.

Data counts by its content, never by its path. The checksum of a file is computed once and kept in the user's cache
folder, by path, size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from envpool.errors import EnvPoolError

BLOCK = 1 << 20
"""Bytes that are read at once."""

SETTLED_SECONDS = 2.0
"""The checksum of a file that changed less than these seconds ago is not kept: it may change again at the same time."""

OnBytes = Callable[[int], None]
"""Told how many more bytes were read."""

_Here = tuple[str, int, int]
"""A file in a state: its path, its bytes, and when it changed, in nanoseconds."""

_remembered: dict[_Here, str] = {}
"""Checksums that this process knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that an environment can use, as its publisher gives it away.

    Attributes:
        name: its path within the folder of the data, parts separated by ``/``.
        size: bytes.
        sha256: checksum, 64 hexadecimal digits.
        summary: what it holds, in a few words.
        source: where the original is published, an address.
        needed: whether the environment cannot do without it.
    """

    name: str
    size: int
    sha256: str
    summary: str
    source: str
    needed: bool = True

    def at(self, folder: Path) -> Path:
        """Where it lies in a folder of data."""
        return folder / self.name


class State(StrEnum):
    """What became of a declared file."""

    GOOD = "good"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """A declared file as it is here.

    Attributes:
        file: what was declared.
        state: whether it is that.
        why: what is wrong, in a few words; empty if nothing is.
    """

    file: DataFile
    state: State
    why: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the data cannot be used like this: a file that is not needed may be missing, but not damaged."""
        return self.state == State.DAMAGED or (self.state == State.MISSING and self.file.needed)


def examine(folder: Path, file: DataFile, on_bytes: OnBytes = lambda count: None) -> Finding:
    """Looks whether a declared file is in a folder: by its size, then by its checksum.

    Args:
        folder: of the data.
        file: what is declared.
        on_bytes: told of the bytes that are read, in sum those of the file.
    """
    path = file.at(folder)
    try:
        size = path.stat().st_size
        if not path.is_file():
            return Finding(file, State.MISSING, "it is not a file")
        if size != file.size:
            on_bytes(file.size)
            return Finding(file, State.DAMAGED, f"it has {size:,} bytes, not {file.size:,}")
        if checksum(path, on_bytes) != file.sha256:
            return Finding(file, State.DAMAGED, "its checksum is another")
    except FileNotFoundError:
        on_bytes(file.size)
        return Finding(file, State.MISSING, "it is not there")
    except OSError as error:
        return Finding(file, State.DAMAGED, f"it cannot be read: {error.strerror or error}")
    return Finding(file, State.GOOD)


def complaint(folder: Path, findings: Sequence[Finding]) -> str | None:
    """Says in one line what is wrong with a folder of data; None if nothing is."""
    wrong = [finding for finding in findings if finding.wrong]
    if not wrong:
        return None
    first = wrong[0]
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{first.file.name} is {first.state} in {str(folder)!r} ({first.why}){more}: get it from {first.file.source}"


def content_of(path: Path, files: Sequence[DataFile] = ()) -> str:
    """The checksum of what an environment reads at a path: a file, or a folder with all that is in it.

    Args:
        path: the file or folder.
        files: what is declared of the folder; only these files count, and they have to be as declared.

    Raises:
        EnvPoolError: it is not there, cannot be read, or is not what is declared.
    """
    if files:
        findings = [examine(path, file) for file in files]
        if not path.is_dir():
            raise EnvPoolError(f"there is no folder {str(path)!r}: name the one that holds {files[0].name}")
        if wrong := complaint(path, findings):
            raise EnvPoolError(wrong)
        return _joined((finding.file.name, finding.file.sha256) for finding in findings if finding.state == State.GOOD)
    try:
        if path.is_dir():
            return _joined((part.relative_to(path).as_posix(), checksum(part)) for part in _files_in(path))
        if path.exists() and not path.is_file():
            raise EnvPoolError(f"{str(path)!r} is neither a file nor a folder: check the path")
        return checksum(path)
    except FileNotFoundError:
        raise EnvPoolError(f"there is no file or folder {str(path)!r}: check the path") from None
    except OSError as error:
        raise EnvPoolError(f"cannot read {str(path)!r} ({error.strerror or error}): check the path") from None


def checksum(path: Path, on_bytes: OnBytes = lambda count: None) -> str:
    """The SHA-256 of a file, from the cache if the file has not changed.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    here = (str(path.resolve()), found.st_size, found.st_mtime_ns)
    if (kept := _remembered.get(here) or _kept(here)) is not None:
        on_bytes(found.st_size)
        return kept
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            on_bytes(len(block))
    if time.time() - found.st_mtime > SETTLED_SECONDS:
        _remembered[here] = digest.hexdigest()
        _keep(here, digest.hexdigest())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where what takes long to find out is kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentgym"


def _files_in(folder: Path) -> Iterator[Path]:
    yield from sorted(part for part in folder.rglob("*") if part.is_file())


def _joined(parts: Iterator[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()


def _entry(here: _Here) -> Path:
    return cache_folder() / "checksums" / f"{hashlib.sha256(os.fsencode(here[0])).hexdigest()}.json"


def _kept(here: _Here) -> str | None:
    """The checksum that is kept of a file; None if there is none, it is of another state of the file, or damaged."""
    with suppress(OSError, ValueError):
        match json.loads(_entry(here).read_bytes()):
            case [path, size, changed, str(checksum)] if (path, size, changed) == here:
                return checksum
    return None


def _keep(here: _Here, checksum: str) -> None:
    entry = _entry(here)
    temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.tmp")
    with suppress(OSError):  # a home that cannot be written costs the time again, and nothing else
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps([*here, checksum]))
        temporary.replace(entry)
