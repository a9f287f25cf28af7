"""JSON objects amid any text, also those that are JSON but for a slip that leaves no doubt.

Read beside JSON: a comma too many, single quotes, ``True``, ``False`` and ``None``, names without quotes, comments.
Whatever else is wrong is said in words.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envpool.errors import MalformedAction

FAILURES = 16
"""How often text that looks like an object and is none is passed over; each may take as long as the whole text."""


class Broken(MalformedAction):
    """Text that is meant to be JSON and cannot be read."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise Broken(f"Your JSON object holds {twice[:40]!r} twice: give each name once.")
    return value


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once)
_OBJECT = re.compile(r"""\{\s*(?:["'\u201c]|[A-Za-z_]\w*\s*:|//|/\*)""")
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|//[^\n]*|/\*.*?(?:\*/|\Z)|[A-Za-z_]\w*|[-+]?[0-9.][\w.+-]*|\s+|.',
    re.DOTALL,
)
_BREAK = re.compile(r"\r\n?|\n")
_ODD_BREAKS = re.compile("[\x85\u2028\u2029]")
"""The line breaks that `json.dumps` leaves as they are."""
_COLON = re.compile(r"\s*:")
_ESCAPE = re.compile(r'\\x([0-9A-Fa-f]{2})|\\(.)|"', re.DOTALL)
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_IN_PYTHON = {"true": "True", "false": "False", "null": "None"}
_IN_JSON = {python: word for word, python in _IN_PYTHON.items()}
_PYTHON_STRING = re.compile(r"(?<!\\)(?:\\\\)*\\(?:/|u[dD][89abAB])")
"""Escapes that Python reads otherwise: of a slash, and of the first half of a character."""
_ENDLESS = "Your JSON object does not end: close its strings and braces."


@dataclass(frozen=True, slots=True)
class Object:
    """An object and where in the text it lies."""

    value: dict[str, Any]
    start: int
    end: int


def objects(text: str) -> tuple[list[Object], Broken | None]:
    """Finds the outermost JSON objects amid any text, and what is wrong with the first that cannot be read.

    Raises:
        Broken: an object does not end, is nested too deeply or holds a number with too many digits.
    """
    found: list[Object] = []
    trouble: Broken | None = None
    start = failures = 0
    while failures < FAILURES and (brace := _OBJECT.search(text, start)):
        try:
            value, start = _decode(text, brace.start())
            found.append(Object(value, brace.start(), start))
        except _NotThis as slip:
            failures += 1
            start = max(slip.place, brace.start() + 1)
            trouble = trouble or Broken(str(slip))
    return found, trouble


def whole_object(text: str) -> dict[str, Any]:
    """Reads an object that is all of a text.

    Raises:
        Broken: it cannot be read.
    """
    if not text[1:-1].strip():
        return {}
    found, broken = objects(text)
    if broken or [(one.start, one.end) for one in found] != [(0, len(text))]:
        raise broken or Broken("Your JSON cannot be read: give one object with names in double quotes.")
    return found[0].value


def end_of_object(text: str, start: int) -> int:
    """Where the object ends that begins with the brace at `start`; it need not be JSON but for its strings and braces.

    Raises:
        Broken: it does not end.
    """
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += (token[0] in ("{", "[")) - (token[0] in ("}", "]"))
        if depth <= 0:
            return token.end()
        if token[0] in ('"', "'"):
            break  # a string that does not end
    raise Broken(_ENDLESS)


def on_one_line(text: str) -> str:
    """Writes an object on one line: line breaks in its strings are escaped, those between are spaces."""

    def joined(token: re.Match[str]) -> str:
        if token[0][0] in "\"'":
            return _BREAK.sub(r"\\n", token[0])
        return " " if token[0].isspace() and _BREAK.search(token[0]) else token[0]

    return _TOKEN.sub(joined, text)


def json_text(value: Any) -> str:
    """Writes a value of JSON on one line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _ODD_BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def spelled_in_python(text: str) -> str:
    """Writes the object in a text so that Python reads it as JSON is meant, and leaves all else as it is."""
    return _respelled(text, _IN_PYTHON, _PYTHON_STRING)


def spelled_in_json(text: str) -> str:
    """Writes the truth values and the ``None`` of the object in a text as JSON does."""
    return _respelled(text, _IN_JSON, None)


def _respelled(text: str, words: Mapping[str, str], strings: re.Pattern[str] | None) -> str:
    start = text.find("{")
    if start < 0:
        return text
    try:
        end = end_of_object(text, start)
    except Broken:
        return text

    def written(token: re.Match[str]) -> str:
        if strings is not None and token[0][0] == '"' and strings.search(token[0]):
            return _without_escapes(token[0])
        return token[0] if _COLON.match(text, start + token.end()) else words.get(token[0], token[0])

    return text[:start] + _TOKEN.sub(written, text[start:end]) + text[end:]


def _without_escapes(string: str) -> str:
    try:
        written = json_text(json.loads(string, strict=False))
        written.encode()
    except ValueError:  # it is Python's, or holds half a character
        return string
    return written


class _NotThis(Exception):
    """What keeps an object from being read, and where; the search goes on from there."""

    def __init__(self, words: str, text: str, place: int, found_at: int | None = None) -> None:
        near = repr(text[max(0, place - 12) : place + 12])
        super().__init__(f"Your JSON cannot be read: {words}, near {near}.")
        self.place = place if found_at is None else found_at


def _decode(text: str, start: int) -> tuple[dict[str, Any], int]:
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError:
        raise Broken("Your JSON is nested too deeply: give a flat object.") from None
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string") or error.pos >= len(text):
            raise Broken(_ENDLESS) from None
    except ValueError:  # a number of more digits than Python reads
        raise Broken("Your JSON holds a number with too many digits.") from None
    strict, end = _strict(text, start)
    try:
        value = _DECODER.decode(strict)
    except RecursionError:
        raise Broken("Your JSON is nested too deeply: give a flat object.") from None
    except json.JSONDecodeError as error:
        raise _NotThis(error.msg, strict, error.pos, end) from None
    except ValueError:
        raise Broken("Your JSON holds a number with too many digits.") from None
    return value, end


def _strict(text: str, start: int) -> tuple[str, int]:
    """Writes the object that begins at `start` as strict JSON, as far as there is no doubt; tells where it ends."""
    written: list[str] = []
    closing: list[str] = []
    comma = -1  # where a comma was written that nothing has followed yet
    for token in _TOKEN.finditer(text, start):
        part = token[0]
        if part.isspace() or part.startswith(("//", "/*")):
            continue
        if written and part not in "}]:," and written[-1] not in "{[:,":
            raise _NotThis("a comma is missing", text, token.start())
        if part in "{[":
            closing.append("}" if part == "{" else "]")
        elif part in "}]":
            if part != closing.pop():
                raise _NotThis(f"{part!r} closes nothing", text, token.start())
            if comma == len(written) - 1:
                written.pop()  # a comma too many
        elif part not in ":,":
            part = _value(part, text, token)
        written.append(part)
        comma = len(written) - 1 if part == "," else -1
        if not closing:
            return "".join(written), token.end()
    raise _NotThis("close its strings and braces", text, len(text))


def _value(part: str, text: str, token: re.Match[str]) -> str:
    if part[0] == '"' and len(part) > 1:
        return part
    if part[0] == "'" and len(part) > 1:
        return f'"{_ESCAPE.sub(_escaped, part[1:-1])}"'
    if part in _WORDS:
        return _WORDS[part]
    if part.isidentifier() and _COLON.match(text, token.end()):
        return f'"{part}"'
    if part[0] in "-+0123456789.":
        return part
    raise _NotThis("write names and texts in double quotes, and commas between", text, token.start())


def _escaped(escape: re.Match[str]) -> str:
    """Writes an escape of Python's, or a double quote, as JSON does."""
    if escape[1]:
        return f"\\u00{escape[1]}"
    if escape[2] is None:
        return '\\"'
    return escape[2] if escape[2] == "'" else escape[0] if escape[2] in '"\\/bfnrtu' else f"\\{escape[0]}"
