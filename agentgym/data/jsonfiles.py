"""The records of a JSON file, however it is laid out.

A file holds a list of records, one record a line, one record, records one behind the other, or an object with a list
in it (``{"data": [...]}``), whatever its name ends in. It is UTF-8, or UTF-16 or UTF-32 with a byte order mark; marks
inside a joined file are passed over.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.data.conversation import LISTS, PAIRS
from agentgym.errors import DataError

WRAPPINGS = ("data", "train", "records", "rows", "examples", "items", "episodes", "trajectories", "validation", "test")
"""Keys under which an object holds a list of records."""

_MARKS = {"item_id", *LISTS, *(key for pair in PAIRS for key in pair)}
"""Keys by which a record is known."""

_BOM = b"\xef\xbb\xbf"
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (
    (b"\x1f\x8b", "is compressed (gzip): unpack it"),
    (b"BZh", "is compressed (bzip2): unpack it"),
    (b"\xfd7zXZ", "is compressed (xz): unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd): unpack it"),
    (b"PK\x03\x04", "is an archive (ZIP): unpack it"),
    (b"PAR1", "is a Parquet file: let its name end in .parquet"),
    (b"ARROW1", "is an Arrow file: save it as Parquet or JSON lines"),
    (b"SQLite format 3", "is a database (SQLite): save it as Parquet or JSON lines"),
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file itself: fetch it, as in git lfs pull"),
)
"""What other files begin with, and what to do about them."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a record, or a file, that is no JSON; says why in one line."""

    reason: str


def records(path: Path) -> Iterator[tuple[int | None, Any]]:
    """Yields every record of a file with its number; a number of None means the file as a whole.

    The number is the place in a list or, where records stand on lines, the line.

    Raises:
        DataError: the file cannot be read from the disk.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    for mark, encoding in _ENCODINGS:
        if content.startswith(mark):
            try:
                content = content.decode(encoding).encode()
            except ValueError as error:
                yield None, Unreadable(f"is no JSON ({error})")
                return
            break
    content = content.removeprefix(_BOM)
    if other := _other(path, content):
        yield None, Unreadable(other)
        return
    if _line_of_many(content):
        yield from _lines(content)
        return
    whole = _parsed(content)
    by_lines = path.suffix.lower() == ".jsonl"
    if isinstance(whole, list) and (_holds_records(whole) or not by_lines):
        yield from enumerate(whole, start=1)
    elif isinstance(whole, dict):
        yield from _unwrapped(whole)
    elif not isinstance(whole, Unreadable) and not by_lines:
        yield None, Unreadable("is no list of records")
    elif (several := _sequence(content)) is not None:
        yield from several
    elif by_lines or any(isinstance(record, dict) for _, record in _lines(content)):
        yield from _lines(content)
    else:
        yield None, whole


def _other(path: Path, content: bytes) -> str:
    """Names what a file is that cannot be JSON, and the way out; empty if it may be JSON."""
    for beginning, words in _OTHERS:
        if content.startswith(beginning):
            return words
    if b"\0" in content[:4]:
        return "is UTF-16 or UTF-32 without a byte order mark: save it as UTF-8"
    begins = {line.lstrip(b" \t\r" + _BOM)[:1] for line in content.split(b"\n")}
    if begins & {b"{", b"["} or not content.strip() or not isinstance(_parsed(content), Unreadable):
        return ""
    if path.suffix.lower() in (".csv", ".tsv"):
        return "is a table (CSV): save it as Parquet or JSON lines, with the messages in a list"
    first = content.lstrip().partition(b"\n")[0][:24].decode(errors="replace")
    return f"is no JSON (it begins with {first!r}): save it as JSON, JSON lines or Parquet"


def _line_of_many(content: bytes) -> bool:
    """Whether the first line is a record of its own, and there are others."""
    first, _, rest = content.lstrip().partition(b"\n")
    return bool(rest.strip()) and isinstance(_parsed(first), dict)


def _lines(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        line = line.replace(_BOM, b"", 1) if line.lstrip().startswith(_BOM) else line
        if line.strip():
            record = _parsed(line)
            if _holds_records(record):
                yield from ((number, each) for each in record)
            else:
                yield number, record


def _holds_records(value: Any) -> bool:
    """Whether a value is a list of records, and not a record itself that is no object."""
    return isinstance(value, list) and any(isinstance(each, dict) and _MARKS & each.keys() for each in value)


def _unwrapped(whole: dict[str, Any]) -> Iterator[tuple[int | None, Any]]:
    """The record that an object is, or those in it."""
    if _MARKS & whole.keys():
        yield 1, whole
        return
    found = {key: value for key, value in whole.items() if key in WRAPPINGS and isinstance(value, list) and value}
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        yield None, Unreadable(f"holds several lists ({names}): save the one that is meant to a file of its own")
    elif found:
        yield from enumerate(next(iter(found.values())), start=1)
    else:
        yield 1, whole  # the evaluation of models behind an API writes a file a task


def _sequence(content: bytes) -> list[tuple[int, Any]] | None:
    """Values one behind the other, each of any number of lines; None if something else is between them."""
    try:
        text = content.decode()
    except ValueError:
        return None
    decoder, place, line = json.JSONDecoder(), 0, 1
    values: list[tuple[int, Any]] = []
    while True:
        start = place
        while start < len(text) and (text[start].isspace() or text[start] == "\ufeff"):
            start += 1
        if start == len(text):
            return values if len(values) > 1 else None
        line += text.count("\n", place, start)
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        if _holds_records(value):
            values += [(line, each) for each in value]
        else:
            values.append((line, value))
        line += text.count("\n", start, place)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        return Unreadable(f"is no JSON ({error}): save it as UTF-8")
    except (ValueError, RecursionError) as error:
        return Unreadable(f"is no JSON ({error})")
