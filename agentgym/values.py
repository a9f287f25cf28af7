"""Values of settings: from what a user writes, in YAML or in Python, to the type that the setting has."""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Hashable, Mapping
from enum import Enum
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from agentgym.errors import RecipeError
from envpool.errors import did_you_mean

E = TypeVar("E", bound=Enum)

_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list, as in [a, b]"}
_SECRETIVE = frozenset(["endpoint", "endpoints", "headers", "key", "options", "token", "url"])


class Misfit(ValueError):
    """A value that a setting cannot hold.

    Args:
        complaints: (dotted key below the setting, what is wrong); the key is empty if it is about the whole value.
    """

    def __init__(self, *complaints: tuple[str, str]) -> None:
        super().__init__("; ".join(text for _, text in complaints))
        self.complaints = complaints

    def below(self, name: str) -> list[tuple[str, str]]:
        """The complaints with the name of the setting in front of their keys."""
        name = name if name.isprintable() else repr(name)  # a key of the user's, in one line
        return [(f"{name}.{key}" if key else name, text) for key, text in self.complaints]


class _Unsound(Misfit):
    """A text that no file can hold."""


class Section:
    """A part of a recipe; its fields take values as `converted` does, whether given at once or set later.

    Raises:
        RecipeError: a field cannot hold its value, with all complaints, or there is no such field.
    """

    def __post_init__(self) -> None:
        wrong: list[tuple[str, str]] = []
        for name, hint in hints_of(cast(Any, type(self))).items():
            try:
                self.__dict__[name] = converted(hint, getattr(self, name), name)
            except Misfit as misfit:
                wrong += misfit.below(name)
        _refuse(wrong)
        self.__dict__["_made"] = True

    if not TYPE_CHECKING:  # a type checker should still find fields that do not exist

        def __setattr__(self, name: str, value: Any) -> None:
            hints = hints_of(type(self))
            if name not in hints:
                raise RecipeError([f"{name}: {unknown_key(name, hints)}"])
            if "_made" in self.__dict__:
                try:
                    value = converted(hints[name], value, name)
                except Misfit as misfit:
                    _refuse(misfit.below(name))
            self.__dict__[name] = value


def _refuse(complaints: list[tuple[str, str]]) -> None:
    if complaints:
        raise RecipeError([f"{key}: {text}" for key, text in complaints])


@cache
def hints_of(section: Hashable) -> Mapping[str, Any]:
    """The type of each field of a section."""
    return get_type_hints(section)


def without_none(hint: Any) -> tuple[Any, bool]:
    """Returns `int, True` for `int | None`, and `int, False` for `int`."""
    if get_origin(hint) in (Union, UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None)), True
    return hint, False


def unknown_key(name: str, known: Mapping[str, Any]) -> str:
    """What is wrong with a key that a section does not have."""
    return "unknown key" + (did_you_mean(name, known) or f" (known here: {', '.join(known)})")


def may_be_secret(path: str) -> bool:
    """Whether a secret may have been written in the place of a setting: complaints do not repeat it."""
    parts = path.split(".")
    return parts[-1] in _SECRETIVE or not {"headers", "options"}.isdisjoint(parts)


def shown(path: str, value: Any) -> str:
    """How a complaint names a value: as it is, unless it may be a secret that was written in the wrong place."""
    if may_be_secret(path):
        return "this"
    try:
        text = repr(value)
    except Exception:  # an object of the user's that cannot be printed, or a number of too many digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def member(kind: type[E], value: E | str, path: str) -> E:
    """Returns the member of an enumeration that is meant, by itself or by its name.

    Args:
        kind: the enumeration.
        value: a member, or the name of one.
        path: the dotted key of the setting.

    Raises:
        RecipeError: there is none of that name.
    """
    try:
        return cast(E, converted(kind, value, path))
    except Misfit as misfit:
        raise RecipeError([f"{path}: {text}" for path, text in misfit.below(path)]) from None


def converted(hint: Any, value: Any, path: str = "") -> Any:
    """Returns a value as the type that a setting has.

    Enumerations are also named by text, texts by paths and numbers, fractions by whole numbers, lists by tuples, and
    sections by dicts.

    Args:
        hint: the type.
        value: what was given.
        path: the dotted key of the setting, as far as it is known.

    Raises:
        Misfit: it is of another kind.
    """
    kind, optional = without_none(hint)
    if (value is None and optional) or (isinstance(value, str) and value == MISSING):
        return value
    if kind is Any:
        return _sound(os.fspath(value) if isinstance(value, os.PathLike) else value, path)
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, cast(type, kind)) else _section(cast(type, kind), value, path)
    if get_origin(kind) is dict:
        return _dict(get_args(kind)[1], value, path)
    found = _list(kind, value, path) if get_origin(kind) is list else _plain(kind, value)
    if found is None:
        text = f"{shown(path, value)} is not {expected(hint)}{_near(kind, value)}"
        raise Misfit(("", text))
    return _sound(found, path)


def expected(hint: Any) -> str:
    """What a setting may be, in words."""
    plain, optional = without_none(hint)
    words = f"one of {', '.join(choices)}" if (choices := _choices(plain)) else _KINDS[get_origin(plain) or plain]
    return f"{words} or null" if optional else words


def _choices(kind: Any) -> Mapping[str, Enum]:
    return kind.__members__ if isinstance(kind, type) and issubclass(kind, Enum) else {}


def _near(kind: Any, value: Any) -> str:
    return did_you_mean(value, _choices(kind)) if isinstance(value, str) else ""


def _plain(kind: Any, value: Any) -> Any:
    """The value as an enumeration, text, number or truth; None if it is none."""
    choices = _choices(kind)
    if choices:
        word = "off" if value is False else value  # YAML reads the word off as false
        return value if isinstance(value, kind) else choices.get(word) if isinstance(word, str) else None
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    wanted = {str: str | int | float, int: numbers.Integral, float: numbers.Real}[kind]
    try:
        return kind(value) if isinstance(value, wanted) else None
    except (OverflowError, ValueError):  # a whole number of too many digits
        return None


def _list(kind: Any, value: Any, path: str) -> list[Any] | None:
    if not isinstance(value, list | tuple | None):
        return None
    try:
        return [converted(get_args(kind)[0], item, path) for item in value or ()]
    except _Unsound:
        raise
    except Misfit:
        return None


def _dict(hint: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise Misfit(("", f"{shown(path, value)} is no section: write `name: ...` below it"))
    found, wrong = {}, []
    for name, item in (value or {}).items():
        try:
            found[cast(str, converted(str, name, path))] = converted(hint, item, f"{path}.{name}")
        except Misfit as misfit:
            wrong += misfit.below(str(name))
    if wrong:
        raise Misfit(*wrong)
    return found


def _section(kind: type, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise Misfit(("", f"{shown(path, value)} is no section of settings: write its keys below it"))
    hints = hints_of(kind)
    wrong = []
    for name in map(str, value.keys() - hints.keys()):
        wrong += Misfit(("", unknown_key(name, hints))).below(name)
    found = {}
    for name in hints.keys() & value.keys():
        try:
            found[name] = converted(hints[name], value[name], f"{path}.{name}")
        except Misfit as misfit:
            wrong += misfit.below(name)
    if wrong:
        raise Misfit(*sorted(wrong))
    return kind(**found)


def _sound(value: Any, path: str) -> Any:
    """Makes sure that no text in a value is one that no file can hold.

    Raises:
        Misfit: one is.
    """
    parts, seen = [value], set()
    while parts:
        part = parts.pop()
        if isinstance(part, Mapping | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            parts += [*part.keys(), *part.values()] if isinstance(part, Mapping) else part
        elif isinstance(part, str) and any("\ud800" <= letter <= "\udfff" for letter in part):
            raise _Unsound(("", f"{shown(path, part)} holds half a character (a lone surrogate): take it out"))
    return value
