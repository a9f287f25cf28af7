"""Options of an environment: fields of a frozen dataclass, read from recipes and command lines.

@dataclass(frozen=True)
class Options:
    words: Path | None = option(None, "file of words, one a line; the list that ships with it if null")
    seconds: float = option(5.0, "time limit of a query", changes_tasks=False)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from envpool.datafiles import DataFile, content_of
from envpool.errors import EnvPoolError, did_you_mean

MARK = "+"
"""What stands in a version in front of the fingerprint of options."""

_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as it is declared.

    Attributes:
        name: what it is called.
        hint: its type.
        default: its value if nothing else is given.
        summary: one line on what it does.
        changes_tasks: whether tasks, rules or observations depend on it, so that another value is another version.
        files: for a folder, the files that it should hold.
    """

    name: str
    hint: Any
    default: Any
    summary: str
    changes_tasks: bool
    files: Sequence[DataFile]

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        return _expected(self.hint)

    @property
    def takes_path(self) -> bool:
        """Whether it is a path, or a list of them."""
        return Path in _parts(self.hint)

    def __str__(self) -> str:
        return f"{self.name}: {self.summary} ({self.expected}; default: {json.dumps(_plain(self.default))})"


class OptionError(EnvPoolError):
    """Options that an environment cannot take.

    Args:
        environment: its name.
        complaints: (option, what is wrong); the option is empty if it is about all of them.
    """

    def __init__(self, environment: str, *complaints: tuple[str, str]) -> None:
        lines = [f"{name}: {text}" if name else text for name, text in complaints]
        super().__init__(f"{environment}: {'; '.join(lines)}")
        self.complaints = complaints


def option(default: Any, summary: str, *, changes_tasks: bool = True, files: Sequence[DataFile] = ()) -> Any:
    """Declares an option: the default of a field of a frozen dataclass.

    Args:
        default: its value if nothing else is given; of a path it is null, for data that ships with an environment is
            its own. A list is given as a tuple.
        summary: one line on what it does, with its unit.
        changes_tasks: whether tasks, rules or observations depend on it. Not so for an address or a limit of memory.
        files: of a folder, what it should hold.
    """
    return dataclasses.field(
        default=default, metadata={"summary": summary, "changes_tasks": changes_tasks, "files": tuple(files)}
    )


def declared(kind: Any) -> Mapping[str, Option]:
    """The options that a dataclass declares, by name.

    Raises:
        EnvPoolError: it is not a frozen dataclass of options.
    """
    return _declared(kind)


@cache
def _declared(kind: type) -> Mapping[str, Option]:
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise EnvPoolError(f"{kind.__name__} declares no options: write @dataclass(frozen=True) above the class")
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if "summary" not in field.metadata:
            raise EnvPoolError(f"{kind.__name__}.{field.name} says not what it does: write option(DEFAULT, SUMMARY)")
        one = Option(name=field.name, hint=hints[field.name], default=field.default, **field.metadata)
        _check(kind, one)
        found[field.name] = one
    return found


def read_options(environment: str, kind: type | None, given: Any) -> Any:
    """Reads what a user gives as options.

    Args:
        environment: its name.
        kind: the dataclass that declares the options; None if there are none.
        given: values by name, as in a recipe, or an object of that class.

    Raises:
        OptionError: with all complaints.
    """
    if kind is None:
        names = list(given) if isinstance(given, Mapping) else [""] * (given is not None)
        if names:
            raise OptionError(environment, *((str(name), "there are no options: leave it out") for name in names))
        return None
    known = declared(kind)
    if isinstance(given, kind):
        given = {name: getattr(given, name) for name in known}
    if not isinstance(given, Mapping | None):
        raise OptionError(environment, ("", f"{given!r} is not a section of options: write `name: value` below it"))
    found, wrong = {}, []
    for name, value in (given or {}).items():
        if name not in known:
            near = did_you_mean(str(name), known) or f" (known here: {', '.join(known)})"
            wrong.append((str(name), f"unknown option{near}"))
            continue
        try:
            found[name] = _read(known[name].hint, value)
        except ValueError:
            near = did_you_mean(value, map(str, _choices(known[name].hint))) if isinstance(value, str) else ""
            wrong.append((name, f"{_shown(value)} is not {known[name].expected}{near}"))
    if wrong:
        files = [complaint for name, value in found.items() for complaint in _wrong_files(known[name], value)]
        raise OptionError(environment, *wrong, *files)
    try:
        return kind(**found)
    except ValueError as error:  # of a __post_init__
        raise OptionError(environment, ("", " ".join(str(error).split()))) from error


def parse_words(environment: str, kind: type | None, words: Sequence[str]) -> dict[str, Any]:
    """Reads options that are given as ``name=value`` on a command line; lists as ``[a, b]``.

    Raises:
        OptionError: a word is not written so.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise OptionError(environment, ("", f"option {word!r} is not written name=value"))
        hint = declared(kind)[name].hint if kind is not None and name in declared(kind) else str
        found[name] = _from_word(hint, text)
    return found


def options_json(options: Any) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON values that `read_options` reads back."""
    if options is None:
        return {}
    values = {name: getattr(options, name) for name in declared(type(options))}
    return {name: _plain(value) for name, value in values.items() if value != declared(type(options))[name].default}


def fingerprint(environment: str, options: Any) -> str:
    """Eight hexadecimal digits for what options make of the tasks; empty if the tasks are those of the defaults.

    A path counts by the content of what lies there.

    Raises:
        OptionError: a file is not there or not as declared, with all complaints.
    """
    if options is None:
        return ""
    values = [(one, getattr(options, name)) for name, one in declared(type(options)).items()]
    if wrong := [complaint for one, value in values for complaint in _wrong_files(one, value)]:
        raise OptionError(environment, *wrong)
    parts = [
        [one.name, [content_of(path, one.files) for path in _paths(value)] or _plain(value)]
        for one, value in values
        if one.changes_tasks and value != one.default
    ]
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()[:8] if parts else ""


def mark_of(version: str) -> str:
    """What options have put behind a version of an environment; empty if its tasks are those of the defaults."""
    return version.partition(MARK)[2]


def _wrong_files(one: Option, value: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with the files that an option names, if its tasks depend on them or they are declared."""
    for path in _paths(value) if one.changes_tasks or one.files else ():
        try:
            content_of(path, one.files)
        except EnvPoolError as error:
            yield one.name, str(error)


def _check(kind: type, one: Option) -> None:
    where = f"{kind.__name__}.{one.name}"
    if one.default is dataclasses.MISSING:
        raise EnvPoolError(f"{where} has no default: give it one, or null, for an environment is known without options")
    if _paths(one.default):
        raise EnvPoolError(f"{where} has a path as default: make it null, and read what ships with the environment")
    if one.files and not one.takes_path:
        raise EnvPoolError(f"{where} declares files and is not a path: write Path | None")
    if not all(part in (*_KINDS, type(None)) or _choices(part) for part in _parts(one.hint)):
        kinds = "bool, int, float, str, Path, Literal, Enum, or a list of these or None"
        raise EnvPoolError(f"{where} is of a type that recipes cannot write: take {kinds}")


def _parts(hint: Any) -> list[Any]:
    """The plain types of which a hint is made."""
    if get_origin(hint) in (Union, UnionType, list, tuple):
        return [part for inner in get_args(hint) if inner is not ... for part in _parts(inner)]
    return [hint]


def _choices(hint: Any) -> list[Any]:
    found: list[Any] = []
    for part in [hint] if get_origin(hint) is Literal else _parts(hint):
        if get_origin(part) is Literal:
            found += get_args(part)
        elif isinstance(part, type) and issubclass(part, Enum):
            found += [member.value for member in part]
    return found


def _expected(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if part is type(None) else _expected(part) for part in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return f"a list, as in [a, b], of which each is {_expected(get_args(hint)[0])}"
    if choices := _choices(hint):
        return f"one of {', '.join(map(str, choices))}"
    return _KINDS[hint]


def _read(hint: Any, value: Any) -> Any:
    """A value as its type. It goes through JSON, so that a recipe, a command line and Python are read alike.

    Raises:
        ValueError: it is of another kind.
    """
    try:
        read = _adapter(hint).validate_json(json.dumps(_plain(value)), strict=True)
    except (ValidationError, TypeError) as error:
        raise ValueError(str(error)) from error
    if isinstance(read, float) and not math.isfinite(read):
        raise ValueError("not a number that can be reckoned with")
    if _paths(read) and any(not text or "\0" in text for text in _texts(value)):
        raise ValueError("not a path that any file can have")
    return _expanded(read)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _expanded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_expanded, value))
    return value.expanduser() if isinstance(value, Path) else value


def _from_word(hint: Any, text: str) -> Any:
    """A word of a command line as a JSON value: a list or a text where the option may be one, else what it says."""
    parts, lists = _parts(hint), [part for part in (hint, *get_args(hint)) if get_origin(part) in (list, tuple)]
    if type(None) in parts and text == "null":
        return None
    if lists and (text.startswith("[") or get_origin(hint) in (list, tuple)):
        items = text.removeprefix("[").removesuffix("]").split(",")
        return [_from_word(get_args(lists[0])[0], item.strip()) for item in items if item.strip()]
    if str in parts or Path in parts or text in _choices(hint):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [*map(_plain, value)] if isinstance(value, list | tuple) else value


def _paths(value: Any) -> list[Path]:
    if isinstance(value, list | tuple):
        return [path for item in value for path in _paths(item)]
    return [value] if isinstance(value, Path) else []


def _texts(value: Any) -> list[str]:
    plain = _plain(value)
    return [text for text in (plain if isinstance(plain, list) else [plain]) if isinstance(text, str)]


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of too many digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."
