"""Where lists of tasks are read from: environments, files of AgentGym, runs, panels, and lists written before.

A source is written as one of

    NAME                 all tasks of an environment; `NAME:eval` those of a split
    NAME_test.json       an AgentTraj or AgentEval file, or a list of rollouts (.json, .jsonl)
    expert.parquet       trajectories, or a list that `agentgym tasks list --to` wrote (.parquet, .jsonl)
    runs/agentevol       a run folder: all its trajectories
    AgentEval/           any other folder, or a data set as in hf://AgentGym/AgentEval: all such files in it
    agenteval-mini       a panel
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.checks import DATA_SUFFIXES
from agentgym.data import imports, store
from agentgym.data.agenttraj import environment_in, read_record, task_of
from agentgym.data.instructions import instruction_of
from agentgym.data.rows import Phase
from agentgym.data.sources import HUB, complaint_about, find
from agentgym.data.store import polars
from agentgym.data.tasklist import check_index, check_row, joined, meaning, of_environment, of_tasks, schema
from agentgym.errors import DataError
from agentgym.foreign import cards
from agentgym.itemids import ItemId, read_item_id
from agentgym.panel import load_panel, panels
from envpool import Split, Task, Trajectory, environments, get_spec
from envpool.errors import did_you_mean, hint_of

if TYPE_CHECKING:
    import polars as pl

_SPLITS: Mapping[str, Split | None] = {
    Phase.EXPERT: Split.TRAIN,
    **dict.fromkeys((Phase.EXPLORE, Phase.KEPT), Split.EXPLORE),
    **dict.fromkeys((Phase.EVAL, Phase.CONTROL), Split.EVAL),
    Phase.IMPORTED: None,
}
"""What the tasks of a phase of a run were used for; None if nobody said."""


def read_source(name: str, tell: Callable[[str], None], *, trust: bool = False) -> pl.DataFrame:
    """Reads the tasks of a source; see the top of this module. Names of environments and panels go before files.

    Args:
        name: the source.
        tell: told in a line which records were set aside, if any were.
        trust: whether the modules that a panel names are imported.

    Raises:
        DataError: there is no such source, it cannot be read, or there is no task in it.
        RunError: a panel has tasks of an environment that is not known here.
        UnknownEnvironment, MissingExtra: as of environments.
    """
    environment, colon, split = name.partition(":")
    if environment in environments():
        if colon and split not in list(Split):
            near = did_you_mean(split, Split)
            raise DataError(f"{name!r}: there is no split {split!r}{near} (known: {', '.join(Split)})")
        return of_environment(get_spec(environment), [Split(split)] if colon else Split)
    if name in panels():
        return _panel(name, trust=trust)
    path = Path(name)
    hint = hint_of(environment)
    if name.startswith(HUB) or (path.is_dir() and not (path / "spec.py").is_file()):
        run = path / "trajectories"
        others: list[Path] = []
        found = find(str(run) if run.is_dir() else name, others.append)
        if others:
            tell(f"{name}: {complaint_about(others)}")
        return _files(name, found, tell, trust=trust)
    if path.is_file() and path.suffix != ".py":
        return _files(name, [path], tell, trust=trust)
    if hint:
        raise DataError(f"{environment!r} is not a known environment: import what registers it, {hint}")
    beside = (str(p) for p in path.parent.glob("*") if p.is_dir() or p.suffix.lower() in DATA_SUFFIXES)
    choices = [*environments(), *panels(), *beside]
    raise DataError(
        f"there is no environment, file, folder or panel {name!r}{did_you_mean(name, choices)} "
        "(write the name of an environment, NAME:eval, NAME_test.json or runs/agentevol)"
    )


def _files(name: str, paths: Iterable[Path], tell: Callable[[str], None], *, trust: bool) -> pl.DataFrame:
    """Reads files as `traj import` does: what is no task is set aside."""
    read = imports.Imported()
    frame = joined([_file(path, read, trust=trust) for path in paths])
    if not frame.height:
        reason = str(read.quarantined[0]) if read.quarantined else "the list is empty"
        raise DataError(f"{name} holds no task ({reason}): name an AgentTraj or AgentEval file, or a list of tasks")
    if read.quarantined:
        tell(f"{name}: {read.complaint}")
    return frame


def _file(path: Path, read: imports.Imported, *, trust: bool) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in DATA_SUFFIXES:
        raise DataError(f"{path} is no list of tasks: its name should end in {', '.join(DATA_SUFFIXES)}")
    if suffix == ".parquet":
        try:
            return _parquet(path, read)
        except DataError as error:
            read.records += 1
            read.quarantined.append(imports.Quarantined(str(path), None, str(error).removeprefix(f"{path} ")))
            return joined([])
    records = list(imports.records(path))
    objects = [record for _, record in records if isinstance(record, dict)]
    if len(records) == 1 and objects and "environments" in objects[0]:
        return _panel(str(path), trust=trust)
    if any(record.keys() >= schema().keys() for record in objects):
        return _framed(_sound(path, records, _listed_record, read))
    environment = environment_in(path.name)
    return _framed(_sound(path, records, lambda record: _official_row(record, environment), read))


def _sound(
    path: Path,
    records: Iterable[tuple[int | None, Any]],
    make: Callable[[Any], dict[str, Any]],
    read: imports.Imported,
) -> Iterator[dict[str, Any]]:
    """Makes rows of records, and sets those aside of which none can be made."""
    for number, record in records:
        read.records += 1
        try:
            if isinstance(record, imports.Unreadable):
                raise ValueError(record.reason)
            yield make(record)
        except ValueError as error:
            read.quarantined.append(imports.Quarantined(str(path), number, " ".join(str(error).split())[:300]))


def _panel(name: str, *, trust: bool) -> pl.DataFrame:
    panel = load_panel(name)
    cards(panel.environments, panel.imports, name, trust=trust)
    return of_tasks([task for environment in panel.environments for task in panel.tasks(environment)], Split.EVAL)


def _parquet(path: Path, read: imports.Imported) -> pl.DataFrame:
    lib = polars()
    try:
        listed = lib.scan_parquet(path, glob=False, hive_partitioning=False)
        columns = listed.collect_schema()
    except (OSError, lib.exceptions.PolarsError, lib.exceptions.PanicException) as error:
        raise DataError(f"cannot read {path} ({' '.join(str(error).split())[:120]}): name a Parquet file") from error
    if columns == schema():
        rows = store.collect(listed, path).iter_rows(named=True)
        return _framed(_sound(path, enumerate(rows, start=1), _listed_row, read))
    wanted = ["environment", "version", "index", "item_id", "phase", "observation"]
    episodes = store.collect(store.scan([path]).select(wanted), path).iter_rows()
    once = cache(_episode_row)  # a task is there as often as it was played
    return _framed(_sound(path, enumerate(episodes, start=1), lambda episode: once(*episode), read))


def _framed(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    frame: pl.DataFrame = polars().DataFrame(list(rows), schema=schema(), orient="row")
    return frame


def of_trajectories(trajectories: Iterable[Trajectory]) -> pl.DataFrame:
    """The tasks that some trajectories were played in."""
    rows = {(t.item_id, t.version): _played(t) for t in trajectories}
    return _framed(rows.values())


def _listed_record(record: Any) -> dict[str, Any]:
    """Reads a line of a list in JSON lines, where `facts` is an object."""
    if not isinstance(record, dict):
        raise ValueError("the record is no object")
    check_row(record)
    return {**{name: record.get(name) for name in schema()}, "facts": json.dumps(record["facts"])}


def _listed_row(row: dict[str, Any]) -> dict[str, Any]:
    """Checks a row of a list in Parquet, where `facts` is text."""
    check_row({**row, "facts": _facts(row["facts"])})
    return row


@lru_cache(maxsize=1024)
def _facts(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _episode_row(
    environment: str | None,
    version: str | None,
    index: int | None,
    item_id: str | None,
    phase: str | None,
    observation: str | None,
) -> dict[str, Any]:
    if environment is None or version is None or index is None or item_id is None:
        raise ValueError("the episode does not say of which task it is")
    if phase is None or phase not in _SPLITS:
        raise ValueError(f"the episode has the phase {phase!r} (known: {', '.join(_SPLITS)})")
    item = _item(item_id, Task(environment, index))
    check_index(environment, version, item.index)
    return _row(item, version, _SPLITS[phase], instruction_of(environment, observation) if observation else None)


def _official_row(record: Any, environment: str | None) -> dict[str, Any]:
    """Reads a record of AgentGym's lists: ``{"item_id": ..., "conversations": [...]}``, conversations or not."""
    if not isinstance(record, dict):
        raise ValueError("the record is no object")
    if record.get("conversations") or record.get("messages"):
        row = _played(read_record(record, Counter(), environment))
    else:
        task, item_id = task_of(record.get("item_id"), None, environment)
        row = _row(_item(item_id or task.item_id, task), "agenteval", None, None)
    check_index(row["environment"], row["version"], row["index"])
    return row


def _item(item_id: str, task: Task) -> ItemId:
    """A task as a trajectory knows it: one without a number has one below zero that is made of its id."""
    if task.index >= 0:
        return ItemId(item_id, task.environment, task.index)
    with contextlib.suppress(ValueError):
        item = read_item_id(item_id)
        if item.environment == task.environment:
            return item
    return ItemId(item_id, task.environment, None)


def _played(trajectory: Trajectory) -> dict[str, Any]:
    instruction = (
        instruction_of(trajectory.task.environment, trajectory.observation) if trajectory.observation else None
    )
    return _row(_item(trajectory.item_id, trajectory.task), trajectory.version, None, instruction)


def _row(item: ItemId, version: str, split: Split | None, instruction: str | None) -> dict[str, Any]:
    known = meaning(item.environment, version, item.index)
    return {
        "environment": item.environment,
        "version": version,
        "index": item.index,
        "item_id": item.text,
        "split": None if split is None else str(split),
        "instruction": instruction,
        **known,
        "task_type": known["task_type"] or item.task_type,
    }
