"""Task panels: files that pin which tasks are measured, and what these tasks look like on every machine.

A panel names per environment its version, the tasks with a hash of each first observation, and a few *goldens*: what
the expert did in a task, with a hash of every answer and the final score. Each folder of `envpool.envs` holds its part
of the panels that ship. A plain AgentEval list (``[{"item_id": "NAME_1804"}, ...]``), or a folder of them, is a panel
as well: it pins the tasks only, and its numbers are those of the original environments.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.itemids import ItemId, read_item_id
from envpool import EnvSpec, Split, Task, UnknownTask, get_spec
from envpool.direct import directly
from envpool.errors import did_you_mean
from envpool.options import mark_of
from envpool.places.actions import as_text
from envpool.places.live import Live
from envpool.registry import is_installed, shipped

GOLDENS = 8
"""How many goldens a new panel holds per environment that has an expert; one a task where all tasks begin alike."""

_CURE = "name a panel that `agentgym tasks panel` wrote, or an AgentEval list"


@dataclass(frozen=True, slots=True)
class Golden:
    """One recorded episode.

    Attributes:
        item_id: the task.
        actions: what was done, in order.
        observations: the hash of the answer to each action.
        score: the score after the last one.
    """

    item_id: str
    actions: tuple[str, ...]
    observations: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Part:
    """What a panel says about one environment.

    Attributes:
        version: of the environment; None in a plain list, whose numbers are those of the original.
        packages: the versions of Python and of the packages that decide its tasks with which it was made.
        tasks: item id -> hash of the first observation; None where it is not known.
        goldens: recorded episodes.
    """

    version: str | None
    tasks: Mapping[str, str | None]
    packages: Mapping[str, str] = field(default_factory=dict)
    goldens: Sequence[Golden] = ()

    def complaints(self, spec: EnvSpec, *, served: bool = False) -> list[str]:
        """Returns what keeps these tasks from being played here, each in one line.

        Args:
            spec: the card of the environment.
            served: whether it is played behind servers, whose numbers are those of the original.
        """
        if self.version is None and spec.renumbered is not None and not served:
            return [
                f"{next(iter(self.tasks))} is another problem here ({spec.renumbered}): "
                f"give environments.{spec.name}.endpoints of the original server, or a panel of this version"
            ]
        if self.version not in (None, spec.version):
            return [
                f"it was made for version {self.version} of {spec.name}, and here is version {spec.version}: "
                f"{self._cure(spec)}"
            ]
        known = frozenset[int]().union(*(spec.tasks(split) for split in Split))
        unknown = [item_id for item_id in self.tasks if not _known(spec, known, read_item_id(item_id))]
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return [f"{spec.name} has no task {unknown[0]!r}{more}: take it out"] if unknown else []

    def _cure(self, spec: EnvSpec) -> str:
        if self.version is None or mark_of(self.version) == mark_of(spec.version):
            return "make another one with `agentgym tasks panel`"
        return f"give {spec.name} the options and the data that it was made with, or make another one"

    def drawn(self, environment: str) -> list[Task]:
        """The tasks, in the order of the panel; those without a number, which cannot be played, are left out."""
        indices = dict.fromkeys(read_item_id(item_id).index for item_id in self.tasks)
        return [Task(environment, index) for index in indices if index is not None]


@dataclass(frozen=True)
class Panel:
    """The tasks that are measured, by environment.

    Attributes:
        name: how it is called.
        environments: the tasks.
        imports: the modules that register those of the environments that do not ship with envpool. They are never
            imported by reading a panel: somebody else may have written it.
    """

    name: str
    environments: Mapping[str, Part]
    imports: Sequence[str] = ()

    def tasks(self, environment: str, *, served: bool = False) -> list[Task]:
        """The tasks of an environment, in the order of the panel.

        Raises:
            DataError: they are not in the panel, or cannot be played here.
        """
        if environment not in self.environments:
            raise DataError(f"panel {self.name} has no tasks of {environment}: {self.offer()}")
        part = self.environments[environment]
        for complaint in part.complaints(get_spec(environment), served=served):
            raise DataError(f"panel {self.name}: {complaint}")
        return part.drawn(environment)

    def offer(self) -> str:
        """Says of which environments it has tasks."""
        return f"it has {', '.join(self.environments) or 'none at all'}"


def hash_of(text: str) -> str:
    """The hash under which a panel knows an observation: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def panels() -> list[str]:
    """The names of the panels that ship with the environments."""
    return sorted({file.name.removesuffix(".json") for files in _shipped().values() for file in files})


@cache
def _shipped() -> Mapping[str, Sequence[Traversable]]:
    """The panel files in the folders of the environments, by environment: each holds that one's part."""
    folders = {name: resources.files(f"envpool.envs.{name}") / "panels" for name in sorted(shipped())}
    return {name: list(folder.iterdir()) for name, folder in folders.items() if folder.is_dir()}


def _assembled(name: str) -> Panel:
    found = [
        _panel(name, _json(file, name))
        for files in _shipped().values()
        for file in files
        if file.name == f"{name}.json"
    ]
    return Panel(name, {environment: part for panel in found for environment, part in panel.environments.items()})


def load_panel(name: str) -> Panel:
    """Reads a panel.

    Args:
        name: that of a panel that ships with the environments, else a panel file, an AgentEval list, or a folder of
            such lists.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if name in panels():
        return _assembled(name)
    path = Path(name)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise DataError(f"the folder {name!r} holds no .json file: {_CURE}")
        return Panel(name, _plain([place for file in files for place in _records(file)]))
    if not path.is_file():
        near = did_you_mean(name, panels())
        raise DataError(f"there is no panel {name!r}{near} (known: {', '.join(panels())}; or name a file)")
    return _panel(name, _json(path, path))


def make_panel(name: str, tasks: Iterable[Task], *, goldens: int = GOLDENS, imports: Sequence[str] = ()) -> Panel:
    """Makes a panel by looking at each task in this process.

    Tasks of environments that live behind servers only are pinned without hashes.

    Args:
        name: how to call it.
        tasks: what to pin.
        goldens: how many goldens an environment gets, at most.
        imports: the modules that were imported; kept if an environment may be one of theirs.

    Raises:
        MissingExtra: an environment needs a package that is not installed.
    """
    indices: dict[str, list[int]] = {}
    for task in tasks:
        indices.setdefault(task.environment, []).append(task.index)
    parts = {env: _made(get_spec(env), numbers, goldens) for env, numbers in indices.items()}
    return Panel(name, parts, () if all(map(is_installed, parts)) else imports)


def panel_text(panel: Panel) -> str:
    """Returns a panel as the text of its file: one line a task, one line a golden."""
    parts = []
    for environment, part in panel.environments.items():
        tasks = ",\n".join(f"    {_dump(item_id)}: {_dump(begins)}" for item_id, begins in part.tasks.items())
        goldens = ",\n".join(
            "    "
            + _dump({"item_id": g.item_id, "score": g.score, "actions": g.actions, "observations": g.observations})
            for g in part.goldens
        )
        parts.append(
            f'  {_dump(environment)}: {{\n   "version": {_dump(part.version)},\n'
            f'   "packages": {_dump(part.packages)},\n   "tasks": {{\n{tasks}\n   }},\n'
            f'   "goldens": [\n{goldens}\n   ]\n  }}'
        )
    imports = f' "imports": {_dump([*panel.imports])},\n' if panel.imports else ""
    return f'{{\n "panel": {_dump(panel.name)},\n{imports} "environments": {{\n' + ",\n".join(parts) + "\n }\n}\n"


def packages_of(environment: str) -> dict[str, str]:
    """The versions that are installed here of what decides an environment's tasks; ``none`` for what is missing."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in get_spec(environment).packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def _known(spec: EnvSpec, in_splits: frozenset[int], item: ItemId) -> bool:
    if item.index is None or item.index in in_splits:
        return item.index is not None
    try:
        return bool(spec.facts(item.index))  # it may be playable without being in a split
    except UnknownTask:
        return False


def _made(spec: EnvSpec, indices: Sequence[int], goldens: int) -> Part:
    ids = [Task(spec.name, index).item_id for index in indices]
    if spec.served:
        return Part(spec.version, dict.fromkeys(ids))
    with directly(spec) as live:
        begins = {item_id: hash_of(live.call("reset", index)) for item_id, index in zip(ids, indices, strict=True)}
        chosen = indices[:goldens] if len(set(begins.values())) > 1 else indices
        recorded = [_golden(spec, live, index) for index in chosen] if spec.expert else []
    return Part(spec.version, begins, packages_of(spec.name), recorded)


def _golden(spec: EnvSpec, live: Live, index: int) -> Golden:
    assert spec.expert is not None
    live.call("reset", index)
    actions, observations, score = [], [], spec.initial_score
    for _, (_, action) in zip(range(spec.max_turns), spec.expert(live.environment), strict=False):
        step = live.call("step", action)
        actions.append(as_text(spec, action))
        observations.append(hash_of(step.observation))
        score = step.score
        if step.done:
            break
    return Golden(Task(spec.name, index).item_id, tuple(actions), tuple(observations), score)


def _json(file: Any, name: object) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}; check the path") from error
    except RecursionError as error:
        raise DataError(f"{name} nests too deeply: {_CURE}") from error
    except ValueError as error:
        raise DataError(f"{name} is no JSON ({error}): {_CURE}") from error


def _panel(name: str, content: Any) -> Panel:
    if isinstance(content, list):
        return Panel(name, _plain([(f"{name}: record {number}", each) for number, each in enumerate(content, start=1)]))
    try:
        environments = _of(content, "environments", dict)
        parts = {environment: _part(environment, part) for environment, part in environments.items()}
        imports = content.get("imports", [])
        if not isinstance(imports, list) or not all(isinstance(module, str) for module in imports):
            raise ValueError("'imports' is no list of texts")
    except ValueError as error:
        raise DataError(f"{name} is no panel ({error}): {_CURE}") from error
    return Panel(name, parts, tuple(imports))


def _part(environment: str, content: Any) -> Part:
    tasks = _of(content, "tasks", dict)
    for item_id, begins in tasks.items():
        _item_of(environment, item_id)
        if not isinstance(begins, str | None):
            raise ValueError(f"the hash of {item_id!r} is no text")
    version, packages = _of(content, "version", str), _of(content, "packages", dict)
    return Part(version, tasks, packages, [_golden_of(environment, each) for each in _of(content, "goldens", list)])


def _golden_of(environment: str, content: Any) -> Golden:
    item = _item_of(environment, _of(content, "item_id", str))
    if item.index is None:
        raise ValueError(f"the golden {item.text!r} names no number of a task")
    actions, observations = _of(content, "actions", list), _of(content, "observations", list)
    if len(actions) != len(observations):
        raise ValueError(f"the golden {item.text!r} has not as many observations as actions")
    if not all(isinstance(text, str) for text in (*actions, *observations)):
        raise ValueError(f"the golden {item.text!r} has an action or an observation that is no text")
    return Golden(item.text, tuple(actions), tuple(observations), float(_of(content, "score", float, int)))


def _item_of(environment: str, item_id: str) -> ItemId:
    item = read_item_id(item_id)
    if item.environment != environment:
        raise ValueError(f"{item_id!r} is no task of {environment}")
    return item


def _of(content: Any, name: str, *kinds: type) -> Any:
    """What an object of a panel says under a name.

    Raises:
        ValueError: nothing, or something of another kind.
    """
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kinds):
        raise ValueError(f"{name!r} is {'missing' if value is None else 'of a wrong type'}")
    return value


def _records(file: Path) -> list[tuple[str, Any]]:
    content = _json(file, file)
    if not isinstance(content, list):
        raise DataError(f"{file} is no list of item ids: {_CURE}")
    return [(f"{file}: record {number}", record) for number, record in enumerate(content, start=1)]


def _plain(records: Sequence[tuple[str, Any]]) -> dict[str, Part]:
    """Reads an AgentEval list, records with their places; what it says besides item ids does not matter."""
    tasks: dict[str, dict[str, str | None]] = {}
    for place, record in records:
        try:
            item = read_item_id(_of(record, "item_id", str))
        except ValueError as error:
            raise DataError(f"{place} has no readable item_id ({error}): {_CURE}") from error
        tasks.setdefault(item.environment, {})[item.text] = None
    return {environment: Part(None, ids) for environment, ids in tasks.items()}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
