"""From a YAML file and `key=value` overrides to a checked `Recipe`, with every complaint at once.

Nothing here imports torch: `agentgym validate` ends in this room.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentgym.checks import complaints_about
from agentgym.errors import RecipeError
from agentgym.settings import Recipe
from agentgym.values import Misfit, converted, expected, hints_of, shown, without_none
from envpool.errors import did_you_mean

RESUMABLE = (
    "environments.*.endpoints",
    "environments.*.headers",
    "environments.*.options",  # of these, what changes the tasks is in the version, which `runfolder` compares
    "environments.*.place",
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

LONGEST = 500_000
"""Most bytes of a recipe."""

_TOO_DEEP = "it nests too deeply, or a part of it holds itself: write it out"
_MOST_NODES, _DEEPEST = 100_000, 60
"""Most values that a recipe's YAML may come to with every alias written out, and how deep they may nest."""


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
    reader = _read(Path(path), overrides)
    recipe = reader.finish()
    for key, text, _ in complaints_about(recipe, reader.wrong):
        reader.complain(key, text)
    reader.refuse()
    return recipe


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe as it was written down; files, servers and modules that it names need not be there any more.

    Nothing that it names is imported: it may lie in a folder that somebody else made.

    Raises:
        RecipeError: the file cannot be read, or a setting is of a wrong type; carries all complaints.
    """
    reader = _read(Path(path))
    recipe = reader.finish(whole=False)
    reader.refuse()
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Returns a recipe as YAML, with every setting."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes a recipe as YAML that `load_recipe` reads back; all of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(recipe_text(recipe))
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

    def refuse(self) -> None:
        if self.lines:
            raise RecipeError(self.lines)

    def section(self, node: DictConfig, schema: type, given: Mapping[Any, Any], source: _Source, key: str = "") -> None:
        hints = hints_of(schema)
        for given_name, value in given.items():
            name = str(given_name)
            path = f"{key}.{name}" if key else name
            self.places[path] = source.place(path)
            if name in hints:
                self.setting(node, name, hints[name], value, source, path)
            else:
                meant, text = _nearest(name, key, hints)
                self.complain(path, f"unknown key{text}")
                self.wrong.update(meant)

    def setting(self, node: DictConfig, name: str, hint: Any, value: Any, source: _Source, path: str) -> None:
        plain, optional = without_none(hint)
        if dataclasses.is_dataclass(plain):
            if value is None and optional:
                node[name] = None
            elif value is None or isinstance(value, Mapping):
                if name not in node or node[name] is None:
                    node[name] = cast(type, plain)()
                self.section(node[name], cast(type, plain), value or {}, source, path)
            else:
                self.complain(path, f"{shown(path, value)} is no section of settings: write its keys below it")
        elif get_origin(plain) is dict:
            if not isinstance(value, Mapping | None):
                self.complain(path, f"{shown(path, value)} is no section: write `name: ...` below it")
                return
            for key, item in (value or {}).items():
                item_path = f"{path}.{key}"
                self.places[item_path] = source.place(item_path)
                self.setting(node[name], str(key), get_args(plain)[1], item, source, item_path)
        else:
            if plain is str and type(value) in (int, float):
                value = source.texts.get(path, value)  # 010 is a text here, not the number 8
            elif plain == list[str] and isinstance(value, list):
                items = enumerate(value)
                value = [source.texts.get(f"{path}.{i}", v) if type(v) in (int, float) else v for i, v in items]
            self.leaf(node, name, hint, value, path)

    def leaf(self, node: DictConfig, name: str, hint: Any, value: Any, path: str) -> None:
        if "${" in str(value):
            if re.search(r"\$\{[^}]*[:$]", str(value)):
                text = "may only refer to other settings, as in ${seed}: a recipe is saved as it is"
                self.complain(path, f"{shown(path, value)} {text}")
                return
            self.references[path] = (node, name, hint)
        else:
            self.references.pop(path, None)
        try:
            node[name] = value if path in self.references else converted(hint, value, path)
        except Misfit as misfit:
            self.complain(path, str(misfit))
        except (OmegaConfBaseException, ValueError):
            self.references.pop(path, None)
            self.complain(path, f"{shown(path, value)} is not {expected(hint)}")

    def finish(self, *, whole: bool = True) -> Recipe:
        """Resolves references and returns the recipe; what could not be read has its default.

        Args:
            whole: whether it is a mistake that a setting without a default is missing.

        Raises:
            RecipeError: a reference leads nowhere.
        """
        before = len(self.lines)
        for path, (node, name, hint) in self.references.items():
            try:
                OmegaConf.to_container(OmegaConf.create({"value": node[name]}))
            except (OmegaConfBaseException, ValueError):
                raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]
                self.complain(path, f"{shown(path, raw)} does not lead to {expected(hint)}")
        if len(self.lines) > before:
            raise RecipeError(self.lines)
        for path in sorted(OmegaConf.missing_keys(self.config)):
            if whole:
                self.complain(path, f"missing: add `{path}: ...` to the recipe, or give `{path}=...`")
            OmegaConf.update(self.config, path, "unnamed")
        OmegaConf.resolve(self.config)
        return cast(Recipe, OmegaConf.to_object(self.config))


def _read(path: Path, overrides: Sequence[str] = ()) -> _Reader:
    """Reads a recipe file and overrides into the schema; what does not fit is noted."""
    reader = _Reader(OmegaConf.structured(Recipe))
    given, source = _parse(path)
    reader.section(reader.config, Recipe, given, source)
    for override in overrides:
        changes, texts = _parse_override(override, reader)
        # The key alone: the value may be a secret that was written in the wrong place.
        name = " ".join(["override", *override.partition("=")[0].split()])
        reader.section(reader.config, Recipe, changes, _Source(name, {}, texts))
    return reader


def text_of(path: Path) -> str:
    """Returns the text of a recipe file.

    Raises:
        RecipeError: it is not there, too long, or no text.
    """
    if path.is_fifo() and not path.is_relative_to("/dev"):  # nobody writes to it, unlike what a shell puts there
        raise RecipeError([f"{str(path)!r} is no regular file: name a recipe file"])
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        text = content.decode()
    except (FileNotFoundError, NotADirectoryError):
        near = sorted({str(p) for folder in (path.parent, Path("recipes")) for p in folder.glob("*.yaml")})
        raise RecipeError([f"there is no recipe file {str(path)!r}{did_you_mean(str(path), near)}"]) from None
    except IsADirectoryError:
        raise RecipeError([f"{str(path)!r} is a folder: name a recipe file in it"]) from None
    except UnicodeDecodeError as error:
        if len(content) <= LONGEST:
            raise RecipeError([f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8"]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError([f"cannot read the recipe {str(path)!r} ({reason}): check the path"]) from None
    if len(content) > LONGEST:
        raise RecipeError([f"{path} has more than {LONGEST:,} bytes: it is no recipe, name another file"])
    return text


def _parse(path: Path) -> tuple[Mapping[Any, Any], _Source]:
    """Returns what a recipe file says, with the line and the spelling of each dotted key."""
    text = text_of(path)
    try:
        root = _composed(text)
        if not isinstance(root, yaml.MappingNode):
            raise RecipeError([f"{path} is no recipe: it should consist of `key: value` lines"])
        given = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError([f"{path}{line}: this is not YAML: {error.problem}"]) from None
    except RecursionError:
        raise RecipeError([f"{path}: {_TOO_DEEP}"]) from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RecipeError([f"{path}: this is not YAML: {str(error).splitlines()[0]}"]) from None
    return cast(Mapping[Any, Any], given), _Source(str(path), dict(_lines(root)), dict(_spellings(root)))


def _composed(text: str) -> yaml.Node | None:
    """Parses YAML, and makes sure that it is of a size that can be gone through.

    Raises:
        yaml.YAMLError: it is not YAML, or its aliases come to too much.
        RecursionError: it nests too deeply, or holds itself.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # composing goes as deep as the text, and takes long there
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise RecursionError
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    sizes: dict[int, int] = {}  # by the id of a node, all that its aliases come to included

    def size(node: yaml.Node, depth: int) -> int:
        if depth > _DEEPEST:  # an alias of what it lies in nests without an end
            raise RecursionError
        if id(node) not in sizes:
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            nodes = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
            sizes[id(node)] = 1 + sum(size(each, depth + 1) for each in nodes)
        if sizes[id(node)] > _MOST_NODES:
            raise yaml.YAMLError(f"it has more than {_MOST_NODES:,} values, its aliases written out")
        return sizes[id(node)]

    if root is not None:
        size(root, 0)
    return root


def _lines(node: yaml.MappingNode, key: str = "") -> Iterator[tuple[str, int]]:
    for name, value in node.value:
        path = f"{key}.{name.value}" if key else str(name.value)
        yield path, name.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, path)


def _spellings(node: yaml.Node | None, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted key of each plain value, and how it was written; items of a list are counted from 0."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _spellings(value, f"{key}.{name.value}" if key else str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _spellings(value, f"{key}.{i}")
    elif isinstance(node, yaml.ScalarNode):
        yield key, node.value


def _parse_override(override: str, reader: _Reader) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """Returns what an override says, and the spelling of each dotted key."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip(". "):
        reader.complain("", f"override {override!r} is not written key=value, as in bc.lr=1e-4")
        return {}, {}
    if key[0] in "+~":
        cure = f"leave out the {key[0]}" if key[0] == "+" else "set it to null"
        reader.complain(key, f"no key begins with {key[0]}: {cure}, as settings are added and changed alike")
        return {}, {}
    try:
        texts = dict(_spellings(_composed(value), key.strip()))
        return cast(Mapping[Any, Any], OmegaConf.to_container(OmegaConf.from_dotlist([override]))), texts
    except RecursionError:
        reader.complain("", f"override {key!r}: {_TOO_DEEP}")
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        reader.complain("", f"override {key!r}: what follows the = is not YAML; quote it, as in 'key=\"text\"'")
    return {}, {}


def _nearest(name: str, key: str, siblings: Collection[str]) -> tuple[list[str], str]:
    """Returns the keys that may have been meant, and offers them: one nearby in spelling, or those of that name."""
    prefix = f"{key}." if key else ""
    near = [prefix + name for name in difflib.get_close_matches(name, siblings, n=1)]
    meant = near or [path for path in _schema_keys(Recipe) if path.rpartition(".")[2] == name]
    if not meant:
        return [], f" (known here: {', '.join(siblings)})"
    return meant, f"; did you mean {' or '.join(map(repr, meant))}?"


def _schema_keys(schema: type, key: str = "") -> Iterator[str]:
    for name, hint in hints_of(schema).items():
        yield key + name
        plain, _ = without_none(hint)
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
