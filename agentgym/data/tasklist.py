"""The instruction database: tasks as rows.

    environment, version, index, item_id    which task; `index` is null where the id names no number
    split                                   train, explore or eval; null where its source does not tell
    instruction                             the goal as the model sees it; null where it is not known
    difficulty, task_type, facts            what is known of it without playing it; `facts` is a JSON object

The tasks of the embedded environments are made here, those of the others are read from files (`tasksource`). Tasks
with the numbers of AgentGym have the version ``agenttraj`` (with conversations) or ``agenteval`` (ids only).
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.data.instructions import instructions
from agentgym.data.store import polars, write_atomically
from agentgym.errors import DataError
from agentgym.itemids import renumbered
from envpool import EnvSpec, MissingExtra, Split, Task, UnknownEnvironment, UnknownTask, environments, get_spec
from envpool.errors import did_you_mean
from envpool.spec import Facts

if TYPE_CHECKING:
    import polars as pl

_REQUIRED: Mapping[str, type] = {"environment": str, "version": str, "item_id": str, "facts": dict}
_OPTIONAL: Mapping[str, type] = {
    "index": int,
    "split": str,
    "instruction": str,
    "difficulty": int,
    "task_type": str,
}
_CALLED: Mapping[type, str] = {str: "text", int: "whole number", dict: "object"}
"""What stands in which column of a task, and what that is called; the optional ones may be null."""

_SPLITS = frozenset([None, *map(str, Split)])


@cache
def schema() -> pl.Schema:
    """The columns."""
    lib = polars()
    text, number = lib.String(), lib.Int64()
    columns: pl.Schema = lib.Schema(
        {
            "environment": text,
            "version": text,
            "index": number,
            "item_id": text,
            "split": text,
            "instruction": text,
            "difficulty": number,
            "task_type": text,
            "facts": text,
        }
    )
    return columns


def of_environment(spec: EnvSpec, splits: Iterable[Split] = Split) -> pl.DataFrame:
    """All tasks of some splits, without their instructions."""
    tasks = {str(split): spec.tasks(split) for split in splits}
    indices = [index for part in tasks.values() for index in part]
    return _frame(spec, indices, [split for split, part in tasks.items() for _ in range(len(part))])


def of_tasks(tasks: Sequence[Task], split: Split) -> pl.DataFrame:
    """The tasks of a recipe or panel, without their instructions."""
    names = dict.fromkeys(task.environment for task in tasks)
    groups = {name: [task.index for task in tasks if task.environment == name] for name in names}
    return joined([_frame(get_spec(name), group, [str(split)] * len(group)) for name, group in groups.items()])


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One frame below the other, each task once."""
    lib = polars()
    every: pl.DataFrame = lib.concat([lib.DataFrame(schema=schema()), *frames])
    return every.unique(["environment", "version", "item_id", "split"], keep="first", maintain_order=True)


def with_instructions(
    frame: pl.DataFrame, on_done: Callable[[int], None] = lambda count: None, *, needed: bool = True
) -> pl.DataFrame:
    """Fills in the instructions that are missing and can be found by resetting embedded environments.

    Args:
        frame: tasks.
        on_done: told how many more of `to_find` are done.
        needed: whether a package that is not installed is an error; if not, instructions that need it stay missing.

    Raises:
        MissingExtra: an environment needs a package that is not installed.
    """
    lib = polars()
    found = []
    for (name,), group in _findable(frame).group_by("environment", maintain_order=True):
        try:
            texts = instructions(get_spec(str(name)), group["index"].to_list(), on_done)
        except MissingExtra:
            if needed:
                raise
            continue
        columns = {"environment": [str(name)] * len(texts), "index": list(texts), "_found": list(texts.values())}
        found.append(
            lib.DataFrame(columns, schema={"environment": lib.String, "index": lib.Int64, "_found": lib.String})
        )
    if not found:
        return frame
    # what has the number of another task must not get its text
    mine = _same_task(frame)
    filled = frame.join(lib.concat(found), on=["environment", "index"], how="left", maintain_order="left")
    text = lib.coalesce("instruction", lib.when(mine).then(lib.col("_found")))
    return filled.with_columns(instruction=text).drop("_found")


def to_find(frame: pl.DataFrame) -> int:
    """How many instructions `with_instructions` would look for."""
    return _findable(frame).height


def where(frame: pl.DataFrame, wanted: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Keeps the tasks with these facts; the values are compared as text.

    Raises:
        DataError: no task has such a fact.
    """
    if not wanted:
        return frame
    facts = [json.loads(text) for text in frame["facts"]]
    known = dict.fromkeys(fact for each in facts for fact in each)
    for fact in wanted:
        if fact not in known:
            raise DataError(
                f"no task here has a fact {fact!r}{did_you_mean(fact, known)} (known: {', '.join(known) or 'none'})"
            )
    return frame.filter([all(str(each.get(f)) in values for f, values in wanted.items()) for each in facts])


def write(path: Path, frame: pl.DataFrame) -> None:
    """Writes tasks as Parquet, or as JSON lines if the name ends in ``.jsonl``.

    Raises:
        DataError: the name ends in neither.
        RunError: the file cannot be written.
    """
    if path.suffix == ".jsonl":
        rows = ({**row, "facts": json.loads(row["facts"])} for row in frame.iter_rows(named=True))
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    elif path.suffix == ".parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        content = buffer.getvalue()
    else:
        raise DataError(f"{str(path)!r} should end in .parquet or .jsonl")
    write_atomically(path, content)


def check_row(row: Mapping[str, Any]) -> None:
    """Looks whether a row of a list that was written before is a task; `facts` is an object there.

    Raises:
        ValueError: it is none; says why.
    """
    for name, wanted in _REQUIRED.items():
        if row.get(name) in (None, ""):
            raise ValueError(f"the task has no {name!r}")
        _check_value(name, row[name], wanted)
    for name, wanted in _OPTIONAL.items():
        if row.get(name) is not None:
            _check_value(name, row[name], wanted)
    if row.get("split") not in _SPLITS:
        raise ValueError(f"there is no split {row['split'][:40]!r} (known: {', '.join(Split)})")
    check_index(row["environment"], row["version"], row.get("index"))


def _check_value(name: str, value: Any, wanted: type) -> None:
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{name!r} of the task is no {_CALLED[wanted]}")
    if isinstance(value, str) and not value.isascii() and value != value.encode(errors="replace").decode():
        raise ValueError(f"{name!r} of the task holds half a character")
    if isinstance(value, int) and not 0 <= value < 2**63:
        raise ValueError(f"{name!r} of the task is below 0 or far too large")


def check_index(environment: str, version: str, index: int | None) -> None:
    """Looks whether an environment that can be made here has the task.

    Raises:
        ValueError: it has not.
    """
    if index is None or renumbered(environment, version):
        return
    try:
        spec = get_spec(environment)
        spec.facts(index)
    except UnknownEnvironment:
        return
    except UnknownTask:
        highest = max(max(spec.tasks(split), default=0) for split in Split)
        raise ValueError(f"{environment} has no task {index}: its numbers end at {highest}") from None


def meaning(environment: str, version: str, index: int | None) -> dict[str, Any]:
    """What is known of a task without playing it: the columns `difficulty`, `task_type` and `facts`."""
    facts: Facts = {}
    if index is None or renumbered(environment, version) or environment not in environments():
        return {"difficulty": None, "task_type": None, "facts": "{}"}
    spec = get_spec(environment)
    with contextlib.suppress(UnknownTask):
        facts = spec.facts(index)
    return _columns(spec, facts)


def _frame(spec: EnvSpec, indices: Sequence[int], splits: Sequence[str]) -> pl.DataFrame:
    lib = polars()
    known: dict[tuple[tuple[str, int | str], ...], dict[str, Any]] = {}  # most tasks share their facts with others
    columns: dict[str, list[Any]] = {"difficulty": [], "task_type": [], "facts": []}
    for index in indices:
        facts = spec.facts(index)
        key = tuple(facts.items())
        if key not in known:
            known[key] = _columns(spec, facts)
        for name, values in columns.items():
            values.append(known[key][name])
    frame: pl.DataFrame = lib.DataFrame(
        {"index": indices, "split": splits, **columns}, schema_overrides=schema(), strict=True
    )
    return frame.select(
        environment=lib.lit(spec.name),
        version=lib.lit(spec.version),
        index="index",
        item_id=lib.format(f"{spec.name}_{{}}", "index"),
        split="split",
        instruction=lib.lit(None, dtype=lib.String),
        difficulty="difficulty",
        task_type="task_type",
        facts="facts",
    )


def _columns(spec: EnvSpec, facts: Facts) -> dict[str, Any]:
    """A type is a fact that is a word, or a number with the name of the fact before it."""
    task_type = facts.get(spec.task_type or "")
    difficulty = facts.get(spec.difficulty or "difficulty")
    return {
        "difficulty": difficulty if isinstance(difficulty, int) else None,
        "task_type": f"{spec.task_type} {task_type}" if isinstance(task_type, int) else task_type,
        "facts": json.dumps(dict(facts)),
    }


def _findable(frame: pl.DataFrame) -> pl.DataFrame:
    lib = polars()
    known = [name for name in frame["environment"].unique() if name in environments()]
    made_here = [name for name in known if not get_spec(name).served]
    return frame.filter(
        lib.col("environment").is_in(made_here),
        lib.col("instruction").is_null(),
        lib.col("index").is_not_null(),
        _same_task(frame),
    )


def _same_task(frame: pl.DataFrame) -> pl.Expr:
    """Whether the number of a task means here what it means where it is from."""
    lib = polars()
    kinds = frame.select("environment", "version").unique().iter_rows()
    others = [f"{environment} {version}" for environment, version in kinds if renumbered(environment, version)]
    other: pl.Expr = lib.concat_str("environment", "version", separator=" ").is_in(others)
    return ~other
