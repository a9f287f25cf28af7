"""Where lists of tasks are read from: environments, files of AgentGym, runs, panels, and lists written before.

A source is written as one of

    maze                 all tasks of an environment; `maze:eval` those of a split
    babyai_test.json     an AgentTraj or AgentEval file, or a list of rollouts (.json, .jsonl)
    expert.parquet       trajectories, or a list that `agentgym tasks list --to` wrote (.parquet, .jsonl)
    runs/agentevol       a run folder: all its trajectories
    AgentEval/           any other folder, or a data set as in hf://AgentGym/AgentEval: all such files in it
    agenteval-mini       a panel
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.data import store
from agentgym.data.agenttraj import environment_in, read_record, task_of
from agentgym.data.instructions import instruction_of
from agentgym.data.rows import Phase
from agentgym.data.sources import HUB, find
from agentgym.data.store import polars
from agentgym.data.tasklist import joined, meaning, of_environment, of_tasks, schema
from agentgym.errors import DataError
from agentgym.itemids import ItemId, read_item_id
from agentgym.panel import load_panel, panels
from envpool import Split, Task, Trajectory, environments, get_spec
from envpool.errors import did_you_mean

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".json", ".jsonl", ".parquet")

_SPLITS: Mapping[str, Split] = {
    **dict.fromkeys((Phase.EXPERT, Phase.IMPORTED), Split.TRAIN),
    **dict.fromkeys((Phase.EXPLORE, Phase.KEPT), Split.EXPLORE),
    **dict.fromkeys((Phase.EVAL, Phase.CONTROL), Split.EVAL),
}
"""What the tasks of a phase of a run were used for."""


def read_source(name: str) -> pl.DataFrame:
    """Reads the tasks of a source; see the top of this module.

    Raises:
        DataError: there is no such source, or it cannot be read.
        UnknownEnvironment, MissingExtra: as of environments.
    """
    environment, colon, split = name.partition(":")
    path = Path(name)
    if name.startswith(HUB) or path.is_dir():
        run = path / "trajectories"
        return joined([_file(file) for file in find(str(run) if run.is_dir() else name)])
    if path.is_file():
        return _file(path)
    if environment in environments():
        if colon and split not in list(Split):
            near = did_you_mean(split, map(str, Split))
            raise DataError(f"{name!r}: there is no split {split!r}{near} (known: {', '.join(Split)})")
        return of_environment(get_spec(environment), [Split(split)] if colon else Split)
    if name in panels():
        return _panel(name)
    choices = [*environments(), *panels(), *(str(p) for p in path.parent.glob("*"))]
    raise DataError(
        f"there is no environment, file, folder or panel {name!r}{did_you_mean(name, choices)} "
        "(write e.g. maze, maze:eval, babyai_test.json or runs/agentevol)"
    )


def _file(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no list of tasks: its name should end in {', '.join(SUFFIXES)}")
    content = _json(path)
    if isinstance(content, dict):
        return _panel(str(path))
    if content and all(isinstance(record, dict) and record.keys() >= schema().keys() for record in content):
        return _checked(path, ({**record, "facts": json.dumps(record["facts"])} for record in content))
    return _official(path, content)


def _panel(name: str) -> pl.DataFrame:
    panel = load_panel(name)
    return of_tasks([task for environment in panel.environments for task in panel.tasks(environment)], Split.EVAL)


def _json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = path.suffix == ".jsonl"
        content = [json.loads(line) for line in text.split("\n") if line.strip()] if lines else json.loads(text)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}): name an AgentTraj or AgentEval file") from error
    if not isinstance(content, list | dict):
        raise DataError(f"{path} is no list of tasks: name an AgentTraj or AgentEval file")
    return content


def _parquet(path: Path) -> pl.DataFrame:
    lib = polars()
    try:
        columns = lib.read_parquet_schema(path)
    except (OSError, lib.exceptions.PolarsError, lib.exceptions.PanicException) as error:
        raise DataError(f"cannot read {path} ({' '.join(str(error).split())[:120]}): name a Parquet file") from error
    if columns == schema():
        tasks: pl.DataFrame = lib.read_parquet(path)
        return tasks
    wanted = ["environment", "version", "index", "item_id", "phase", "observation"]
    episodes = store.scan(path).select(wanted).collect()
    episodes = episodes.unique(["environment", "version", "item_id", "phase"], maintain_order=True)
    rows = []
    for e in episodes.iter_rows(named=True):
        instruction = instruction_of(e["environment"], e["observation"]) if e["observation"] else None
        item = _item(e["item_id"], Task(e["environment"], e["index"]))
        rows.append(_row(item, e["version"], _SPLITS[e["phase"]], instruction))
    return joined([_checked(path, rows)])


def _checked(path: Path, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    lib = polars()
    try:
        return _framed(rows)
    except (lib.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds a row that is no task ({' '.join(str(error).split())[:120]})") from error


def _framed(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    frame: pl.DataFrame = polars().DataFrame(list(rows), schema=schema(), orient="row")
    return frame


def of_trajectories(trajectories: Iterable[Trajectory]) -> pl.DataFrame:
    """The tasks that some trajectories were played in, as learned from (split train)."""
    rows = {(t.item_id, t.version): _played(t, Split.TRAIN) for t in trajectories}
    return _framed(rows.values())


def _official(path: Path, records: list[Any]) -> pl.DataFrame:
    """Reads a list of AgentGym's: ``{"item_id": ..., "conversations": [...]}``, conversations or not."""
    rows, complaints = [], []
    for number, record in enumerate(records, start=1):
        try:
            rows.append(_official_row(path, record))
        except ValueError as error:
            complaints.append(f"record {number}: {error}")
    if complaints:
        more = f"; and {len(complaints) - 1} more" if len(complaints) > 1 else ""
        raise DataError(f"{path}: {complaints[0]}{more}: mend or remove them")
    return joined([_checked(path, rows)])


def _official_row(path: Path, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    if record.get("conversations") or record.get("messages"):
        played = read_record(record, Counter(), environment_in(path.name))
        split = Split.EVAL if path.stem.endswith("_test") else Split.TRAIN
        return _played(played, split)
    task, item_id = task_of(record.get("item_id"), None, environment_in(path.name))
    return _row(_item(item_id or task.item_id, task), "agenteval", Split.EVAL, None)


def _item(item_id: str, task: Task) -> ItemId:
    """A task as a trajectory knows it: one without a number has one below zero that is made of its id."""
    if task.index >= 0:
        return ItemId(item_id, task.environment, task.index)
    try:
        return read_item_id(item_id)
    except ValueError:
        return ItemId(item_id, task.environment, None)


def _played(trajectory: Trajectory, split: Split) -> dict[str, Any]:
    instruction = (
        instruction_of(trajectory.task.environment, trajectory.observation) if trajectory.observation else None
    )
    return _row(_item(trajectory.item_id, trajectory.task), trajectory.version, split, instruction)


def _row(item: ItemId, version: str, split: Split, instruction: str | None) -> dict[str, Any]:
    known = meaning(item.environment, version, item.index)
    return {
        "environment": item.environment,
        "version": version,
        "index": item.index,
        "item_id": item.text,
        "split": str(split),
        "instruction": instruction,
        **known,
        "task_type": known["task_type"] or item.task_type,
    }
