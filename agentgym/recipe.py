"""From a YAML file and `key=value` overrides to a checked `Recipe`, with every complaint at once.

Nothing here imports torch: `agentgym validate` ends in this room.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentgym.checks import complaints_about
from agentgym.errors import RecipeError
from agentgym.settings import Recipe
from envpool.errors import did_you_mean

RESUMABLE = (
    "environments.*.endpoints",
    "environments.*.headers",
    "environments.*.processes",
    "environments.*.token",
    "generation.batch",
    "generation.graphs",
    "generation.lockstep",
    "model.endpoint.concurrency",
    "model.endpoint.key",
    "model.endpoint.retries",
    "model.endpoint.seconds",
    "model.endpoint.trust_env",
    "model.endpoint.url",
    "output",
    "pool",
    "tracking",
    "trainer.accelerator",
    "trainer.checkpoint_every",
    "trainer.threads",
)
"""Settings that may change when a run goes on: they say how fast, where and how long, not what is learned."""

_SECRETIVE = (
    "environments.*.endpoints",
    "environments.*.headers",
    "environments.*.headers.*",
    "environments.*.token",
    "model.endpoint",
    "model.endpoint.key",
    "model.endpoint.options*",
    "model.endpoint.url",
)
"""Settings in whose place a secret may have been written: complaints do not repeat it."""

_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list, as in [a, b]"}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, applies overrides and checks the result.

    Args:
        path: a YAML file.
        overrides: `key=value` texts such as ``bc.lr=1e-4``, applied in order; values are YAML.

    Returns:
        The recipe with every default filled in and every ``${key}`` resolved.

    Raises:
        RecipeError: the file, an override or a setting is wrong; carries all complaints.
    """
    reader = _Reader(OmegaConf.structured(Recipe))
    given, lines, texts = _read(Path(path))
    reader.section(reader.config, Recipe, given, _Source(str(path), lines, texts))
    for override in overrides:
        changes, texts = _parse_override(override, reader)
        # The key alone: the value may be a secret that was written in the wrong place.
        name = " ".join(["override", *override.partition("=")[0].split()])
        reader.section(reader.config, Recipe, changes, _Source(name, {}, texts))
    recipe = reader.finish()
    for key, text in complaints_about(recipe):
        if not reader.explains(key):
            reader.complain(key, text)
    if reader.lines:
        raise RecipeError(reader.lines)
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Returns a recipe as YAML, with every setting."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes a recipe as YAML that `load_recipe` reads back; all of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(recipe_text(recipe), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def same_run(first: Recipe, second: Recipe) -> list[str]:
    """Lists the settings in which two recipes differ so that one cannot go on with the other's run folder.

    Settings in `RESUMABLE` may differ.

    Returns:
        Dotted keys, sorted; empty if `second` may go on where `first` was.
    """
    flat_first, flat_second = (dict(_leaves(OmegaConf.to_container(OmegaConf.structured(r)))) for r in (first, second))
    missing = object()
    return sorted(
        key
        for key in flat_first.keys() | flat_second.keys()
        if flat_first.get(key, missing) != flat_second.get(key, missing)
        and not any(fnmatchcase(key, free) or fnmatchcase(key, f"{free}.*") for free in RESUMABLE)
    )


@dataclass(frozen=True)
class _Source:
    """Where settings were written: a file with the line of each key, or an override; and how they were spelt."""

    name: str
    lines: Mapping[str, int]
    texts: Mapping[str, str]

    def place(self, key: str) -> str:
        line = self.lines.get(key)
        return f"{self.name}, line {line}" if line else self.name


@dataclass
class _Reader:
    """Fills the schema from what was given, and notes what does not fit."""

    config: DictConfig
    lines: list[str] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)
    references: dict[str, tuple[DictConfig, str, Any]] = field(default_factory=dict)

    def complain(self, key: str, text: str) -> None:
        self.wrong.add(key)
        place = f" ({self.places[key]})" if key in self.places else ""
        self.lines.append(f"{key}: {text}{place}" if key else text)

    def explains(self, key: str) -> bool:
        """Whether a complaint about `key` would only echo an earlier one about it or about a key right in it."""
        return key in self.wrong or (key in get_type_hints(Recipe) and any(w.startswith(f"{key}.") for w in self.wrong))

    def section(self, node: DictConfig, schema: type, given: Mapping[Any, Any], source: _Source, key: str = "") -> None:
        hints = get_type_hints(schema)
        for given_name, value in given.items():
            name = str(given_name)
            path = f"{key}.{name}" if key else name
            self.places[path] = source.place(path)
            if name in hints:
                self.setting(node, name, hints[name], value, source, path)
            else:
                self.complain(path, f"unknown key{_nearest(name, key, hints)}")

    def setting(self, node: DictConfig, name: str, hint: Any, value: Any, source: _Source, path: str) -> None:
        plain, optional = _without_none(hint)
        if dataclasses.is_dataclass(plain):
            if value is None and optional:
                node[name] = None
            elif value is None or isinstance(value, Mapping):
                if name not in node or node[name] is None:
                    node[name] = cast(type, plain)()
                self.section(node[name], cast(type, plain), value or {}, source, path)
            else:
                self.complain(path, f"{_shown(path, value)} is no section of settings: write its keys below it")
        elif get_origin(plain) is dict:
            if not isinstance(value, Mapping | None):
                self.complain(path, f"{_shown(path, value)} is no section: write `name: ...` below it")
                return
            for key, item in (value or {}).items():
                item_path = f"{path}.{key}"
                self.places[item_path] = source.place(item_path)
                self.setting(node[name], str(key), get_args(plain)[1], item, source, item_path)
        else:
            if plain is str and type(value) in (int, float):
                value = source.texts.get(path, value)  # 010 is a text here, not the number 8
            self.leaf(node, name, hint, value, path)

    def leaf(self, node: DictConfig, name: str, hint: Any, value: Any, path: str) -> None:
        plain, _ = _without_none(hint)
        shown = _shown(path, value)
        if "${" in str(value):
            if re.search(r"\$\{[^}]*[:$]", str(value)):
                text = f"{shown} may only refer to other settings, as in ${{seed}}: a recipe is saved as it is"
                self.complain(path, text)
                return
            self.references[path] = (node, name, hint)
        else:
            self.references.pop(path, None)
        try:
            node[name] = value if path in self.references else _convert(hint, value)
        except (OmegaConfBaseException, ValueError):
            self.references.pop(path, None)
            self.complain(path, f"{shown} is not {_expected(hint)}{did_you_mean(str(value), _choices(plain))}")

    def finish(self) -> Recipe:
        """Resolves references and returns the recipe; what could not be read has its default.

        Raises:
            RecipeError: a reference leads nowhere.
        """
        before = len(self.lines)
        for path, (node, name, hint) in self.references.items():
            try:
                OmegaConf.to_container(OmegaConf.create({"value": node[name]}))
            except (OmegaConfBaseException, ValueError):
                raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]
                self.complain(path, f"{_shown(path, raw)} does not lead to {_expected(hint)}")
        if len(self.lines) > before:
            raise RecipeError(self.lines)
        for path in sorted(OmegaConf.missing_keys(self.config)):
            self.complain(path, f"missing: add `{path}: ...` to the recipe, or give `{path}=...`")
            OmegaConf.update(self.config, path, "unnamed")
        OmegaConf.resolve(self.config)
        return cast(Recipe, OmegaConf.to_object(self.config))


def _shown(path: str, value: Any) -> str:
    """How a complaint names a value: as it is, unless it may be a secret that was written in the wrong place."""
    return "this" if any(fnmatchcase(path, secret) for secret in _SECRETIVE) else repr(value)


def _read(path: Path) -> tuple[Mapping[Any, Any], dict[str, int], dict[str, str]]:
    """Returns what a recipe file says, and the line and the spelling of each dotted key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        near = sorted({str(p) for folder in (path.parent, Path("recipes")) for p in folder.glob("*.yaml")})
        raise RecipeError([f"there is no recipe file {str(path)!r}{did_you_mean(str(path), near)}"]) from None
    except IsADirectoryError:
        raise RecipeError([f"{str(path)!r} is a folder: name a recipe file in it"]) from None
    except UnicodeDecodeError as error:
        raise RecipeError([f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8"]) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise RecipeError([f"{path} is no recipe: it should consist of `key: value` lines"])
        given = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError([f"{path}{line}: this is not YAML: {error.problem}"]) from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RecipeError([f"{path}: this is not YAML: {str(error).splitlines()[0]}"]) from None
    return cast(Mapping[Any, Any], given), dict(_lines(root)), dict(_spellings(root))


def _lines(node: yaml.MappingNode, key: str = "") -> Iterator[tuple[str, int]]:
    for name, value in node.value:
        path = f"{key}.{name.value}" if key else str(name.value)
        yield path, name.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, path)


def _spellings(node: yaml.Node | None, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted key of each setting that is no list and no section, and its value as it was written."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _spellings(value, f"{key}.{name.value}" if key else str(name.value))
    elif isinstance(node, yaml.ScalarNode):
        yield key, node.value


def _parse_override(override: str, reader: _Reader) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """Returns what an override says, and the spelling of each dotted key."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip(". "):
        reader.complain("", f"override {override!r} is not written key=value, as in bc.lr=1e-4")
        return {}, {}
    try:
        texts = dict(_spellings(yaml.compose(value, Loader=yaml.SafeLoader), key.strip()))
        return cast(Mapping[Any, Any], OmegaConf.to_container(OmegaConf.from_dotlist([override]))), texts
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        reader.complain("", f"override {key!r}: what follows the = is not YAML; quote it, as in 'key=\"text\"'")
        return {}, {}


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Returns `int, True` for `int | None`, and `int, False` for `int`."""
    if get_origin(hint) in (Union, UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None)), True
    return hint, False


def _choices(kind: Any) -> Mapping[str, Enum]:
    return kind.__members__ if isinstance(kind, type) and issubclass(kind, Enum) else {}


def _convert(hint: Any, value: Any) -> Any:
    """Returns `value` as the type that a setting has; raises ValueError if it is of another kind."""
    kind, optional = _without_none(hint)
    choices = _choices(kind)
    if kind is Any or (value is None and optional) or type(value) is kind:
        return value
    if get_origin(kind) is list and (value is None or isinstance(value, list)):
        return [_convert(get_args(kind)[0], item) for item in value or ()]
    if choices:
        word = "off" if value is False else value  # YAML reads the word off as false
        if isinstance(word, str) and word in choices:
            return choices[word]
    elif (kind is float and type(value) is int) or (kind is str and type(value) in (int, float)):
        return kind(value)
    raise ValueError(value)


def _expected(hint: Any) -> str:
    plain, optional = _without_none(hint)
    words = f"one of {', '.join(choices)}" if (choices := _choices(plain)) else _KINDS[get_origin(plain) or plain]
    return f"{words} or null" if optional else words


def _nearest(name: str, key: str, siblings: Collection[str]) -> str:
    """Offers the key that was meant: one nearby in spelling, or one of that name elsewhere."""
    prefix = f"{key}." if key else ""
    elsewhere = [path for path in _schema_keys(Recipe) if path.rpartition(".")[2] == name]
    near = difflib.get_close_matches(name, siblings, n=1)
    return (
        (f"; did you mean {prefix + near[0]!r}?" if near else "")
        or (f"; did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else "")
        or f" (known here: {', '.join(siblings)})"
    )


def _schema_keys(schema: type, key: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(schema).items():
        yield key + name
        plain, _ = _without_none(hint)
        if get_origin(plain) is dict:
            plain, name = get_args(plain)[1], f"{name}.NAME"
        if dataclasses.is_dataclass(plain):
            yield from _schema_keys(cast(type, plain), f"{key}{name}.")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
