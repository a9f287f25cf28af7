"""Reading report.json back: it may be damaged, of another version, or written by a stranger.

What the tables and the page use is compared with the classes that wrote it (`fit`); of everything else it is only asked
that JSON and a browser can hold it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import EnumType
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from agentgym.errors import RunError
from agentgym.evaluation.answers import Answers
from agentgym.evaluation.ends import Ends
from agentgym.evaluation.pairs import Pairing
from agentgym.evaluation.players import EnvironmentFigures, Macro
from agentgym.evaluation.report import Explored, Learned
from agentgym.values import hints_of, without_none

T = TypeVar("T")

MOST_BYTES = 64_000_000
"""Most bytes of a report.json."""

LONGEST_TEXT = 100_000
"""Most characters of one text in it."""

_LARGEST = 2**63  # no seed is larger
_CURE = "delete it and repeat the command that wrote it"

_MEASURED = {"macro": Macro, "environments": Mapping[str, EnvironmentFigures], "answers": Answers, "ends": Ends}
_ITERATION = {"iteration": int, **_MEASURED, "learned": Learned, "explored": Explored | None}
_PLAYER = {"player": str, **_MEASURED, "samples": int | None, "trajectories": Sequence[str], "manner": dict | None}
_BOTH = {
    "name": str,
    "seed": int,
    "recipe": Mapping[str, Any],
    "comparisons": Sequence[Pairing],
    "lines": Sequence[str],
    "why": Sequence[str],
    "seconds": Mapping[str, float],
    "versions": Mapping[str, str],
    "machine": Mapping[str, Any],
}
_FIT = {**_BOTH, "method": str, "iterations": [_ITERATION], "control": (_ITERATION, None)}
_EVAL = {**_BOTH, "players": [_PLAYER]}


def read_report(path: Path, use: Callable[[Any], T]) -> T:
    """Reads a report.json and returns what `use` makes of it.

    Raises:
        RunError: it is not there or damaged, or no report that can be used so.
    """
    found = read_json(path, MOST_BYTES)
    try:
        sound(found)
        return use(found)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise RunError(f"{path} is no report of this version of agentgym ({reason}); {_CURE}") from error


def read_json(path: Path, most: int, cure: str = _CURE) -> Any:
    """Reads a file of JSON, as strictly as a browser does.

    Args:
        path: the file.
        most: how many bytes it may have.
        cure: what to do if it cannot be read.

    Raises:
        RunError: it is not there, too long, or no JSON.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"it has more than {most:,} bytes")
        return json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise RunError(f"cannot read {path}: it nests too deeply; {cure}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise RunError(f"cannot read {path}: {reason}; {cure}") from error


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def sound(value: Any) -> None:
    """Makes sure that a browser can hold a value of JSON.

    Raises:
        ValueError: it cannot; says why.
    """
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, str) and len(part) > LONGEST_TEXT:
            raise ValueError(f"it holds a text of {len(part):,} characters")
        elif isinstance(part, str) and any("\ud800" <= letter <= "\udfff" for letter in part):
            raise ValueError("it holds half a character (a lone surrogate)")
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError("it holds a number that is not finite")
        elif isinstance(part, int) and abs(part) > _LARGEST:
            raise ValueError("it holds a number that is far too large")


def fit(report: Any) -> None:
    """Makes sure that a report has what the table and the page show of it.

    Raises:
        ValueError: it has not; says where.
    """
    _fits(_EVAL if isinstance(report, dict) and "players" in report else _FIT, report, "the report")


def learned(value: Any) -> Learned:
    """What a learning phase consumed, as its done.json has it.

    Raises:
        ValueError: it has another shape.
    """
    _fits(Learned, value, "it")
    return Learned(**{field.name: value[field.name] for field in dataclasses.fields(Learned) if field.name in value})


def _fits(shape: Any, value: Any, place: str) -> None:
    """Compares a value of JSON with a type, or with a shape of types: `{key: ...}`, `[each]` or `(this, or None)`."""
    if isinstance(shape, tuple):
        shape = None if value is None else shape[0]
    optional = False
    if not isinstance(shape, dict | list):
        shape, optional = without_none(shape)
    if shape is None or shape is Any or (value is None and optional):
        return
    origin = shape if isinstance(shape, type) else get_origin(shape) or type(shape)
    if isinstance(shape, dict) or dataclasses.is_dataclass(shape):
        _object(shape, _of(value, dict, place), place)
    elif issubclass(origin, Mapping):
        for name, item in _of(value, dict, place).items():
            if get_args(shape):
                _fits(get_args(shape)[1], item, f"{place}.{name}"[:200])
    elif issubclass(origin, str):
        _of(value, str, place)
        choices = [*map(str, origin)] if isinstance(origin, EnumType) else [value]
        if value not in choices:
            raise ValueError(f"{place} is none of {', '.join(choices)}")
    elif issubclass(origin, Sequence):
        _list(shape, _of(value, list, place), place)
    else:
        _number(origin, value, place)


def _object(shape: Any, value: Mapping[str, Any], place: str) -> None:
    if isinstance(shape, dict):
        hints = shape
        needed = {n for n, part in shape.items() if type(part) in (dict, list, tuple) or not without_none(part)[1]}
    else:
        hints = dict(hints_of(shape))
        needed = {f.name for f in dataclasses.fields(shape) if f.default is f.default_factory is dataclasses.MISSING}
    for name, part in hints.items():
        if name in value:
            _fits(part, value[name], f"{place}.{name}")
        elif name in needed:
            raise ValueError(f"{place}.{name} is missing")


def _list(shape: Any, value: list[Any], place: str) -> None:
    kinds = shape if isinstance(shape, list) else get_args(shape)
    if get_origin(shape) is tuple and Ellipsis not in kinds:
        if len(value) != len(kinds):
            raise ValueError(f"{place} has {len(value)} items, not {len(kinds)}")
    else:
        kinds = (kinds[0],) * len(value)
    for i, (kind, item) in enumerate(zip(kinds, value, strict=True)):
        _fits(kind, item, f"{place}[{i}]")


def _number(kind: type, value: Any, place: str) -> None:
    wanted = {bool: bool, int: int, float: int | float}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place} is no {'truth' if kind is bool else 'number'}")
    if abs(value) > _LARGEST:
        raise ValueError(f"{place} is far too large")


def _of(value: Any, kind: type[T], place: str) -> T:
    if not isinstance(value, kind):
        called = {dict: "object", list: "list", str: "text"}[kind]  # type: ignore[index]
        raise ValueError(f"{place} is no {called}")
    return value
