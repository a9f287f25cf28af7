"""What `agentgym traj` does: shows episodes, counts them, and brings them into other formats and out of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentgym import progress
from agentgym.data import store
from agentgym.data.agenttraj import write_record, write_rollout
from agentgym.data.atomic import write_gradually
from agentgym.data.imports import QUARANTINE, check_any, import_files, write_quarantine
from agentgym.data.sources import find
from agentgym.errors import DataError
from envpool import StopReason, Trajectory
from envpool.errors import did_you_mean

if TYPE_CHECKING:
    from polars import Expr, LazyFrame

UNFINISHED = tuple(stop for stop in StopReason if not stop.by_itself)
"""How episodes end that did not end by themselves."""

MESSAGES = 5
"""How many error messages `stats` lists."""

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def filters(words: str | None) -> dict[str, str]:
    """Reads ``environment=maze,success=true``.

    Raises:
        DataError: it is not written so.
    """
    pairs = [word.partition("=") for word in words.split(",")] if words else []
    for name, equals, _ in pairs:
        if not equals or not name.strip():
            raise DataError(f"--where {words!r} is not written like environment=maze,success=true")
    return {name.strip(): value.strip() for name, _, value in pairs}


def show(sources: Sequence[Path], where: Mapping[str, str], count: int, console: Console | None = None) -> None:
    """Prints the conversations of the first episodes that match.

    Args:
        sources: trajectory files, or folders of them.
        where: what columns are to hold.
        count: how many at most.
        console: where to print; stdout if None.

    Raises:
        DataError: a file cannot be used, or nothing matches.
    """
    console = console or _console()
    paths, matching = _files(sources), _expression(where)
    total = _count(paths, matching)
    if not total:
        raise DataError(f"no episode matches {_said(where)}: `agentgym traj stats` shows what there is")
    shown = 0
    for path in paths:
        if shown >= count:
            break
        if not _count([path], matching):
            continue
        for row, trajectory in store.episodes(path, matching):
            if shown >= count:
                break
            console.print(_conversation(row, trajectory), soft_wrap=True)
            shown += 1
    console.print(f"{shown:,} of {total:,} episodes" + (" (-n N shows more)" if shown < total else ""), style="dim")


def stats(sources: Sequence[Path], where: Mapping[str, str], console: Console | None = None) -> None:
    """Prints a table of the episodes by environment, phase and iteration, and the most frequent errors.

    Raises:
        DataError: a file cannot be used.
    """
    console = console or _console()
    frame = store.scan(_files(sources)).filter(_expression(where))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("environment", "phase"):
        table.add_column(title)
    numbers = ("iteration", "episodes", "finished", "succeeded", "turns", "tokens", "seconds", "policy", "environment")
    for title in numbers:
        table.add_column(title, justify="right")
    table.add_column("errors")
    for row in _grouped(frame):
        table.add_row(*_cells(row))
    console.print(table)
    console.print(
        "turns and seconds (of which policy and environment): means per episode; tokens: sampled ones, in all; "
        "finished: ended by itself; succeeded: of those whose success is known",
        style="dim",
    )
    for environment, message, times in _errors(frame):
        console.print(f"{times:,} x {environment}: {message}", markup=False)


def export(sources: Sequence[Path], to: Path, where: Mapping[str, str]) -> None:
    """Writes the episodes that match as AgentTraj (``.json``), or as rollouts with roles and rewards (``.jsonl``).

    Of folders, what was kept of an exploration is left out unless `where` names a phase: it is among the explored.

    Raises:
        DataError: a file cannot be used, nothing matches, or the name of `to` ends otherwise.
        RunError: the file cannot be written.
    """
    if to.suffix not in (".json", ".jsonl"):
        raise DataError(f"{str(to)!r} should end in .json (AgentTraj) or .jsonl (roles and rewards)")
    paths, matching = _files(sources), _expression(where)
    if "phase" not in where and any(source.is_dir() for source in sources):
        matching = matching & (store.polars().col("phase") != str(store.Phase.KEPT))
    total = _count(paths, matching)
    if not total:
        raise DataError(f"no episode matches {_said(where)}: `agentgym traj stats` shows what there is")
    list_of_records = to.suffix == ".json"
    written = 0
    with progress.phase("exporting", total, unit="episodes") as bar, write_gradually(to) as file:
        for path in paths:
            for _, trajectory in store.episodes(path, matching):
                bar.advance()
                if list_of_records and not trajectory.turns:
                    continue
                record = write_record(trajectory) if list_of_records else write_rollout(trajectory)
                before = "" if not list_of_records else ",\n" if written else "[\n"
                after = "" if list_of_records else "\n"
                file.write(f"{before}{json.dumps(record, ensure_ascii=False)}{after}".encode())
                written += 1
        if list_of_records:
            file.write(b"\n]\n" if written else b"[]\n")
    left = f"; {total - written:,} without a turn have no place in AgentTraj" if written < total else ""
    progress.show(f"{written:,} episodes are in {to}{left}")


def bring_in(sources: Sequence[str], to: Path) -> None:
    """Imports files, folders and data sets of the Hub. What cannot be read is set aside, and told.

    Args:
        sources: where they are.
        to: a Parquet file that is not there yet, or the folder of a store, to which a file is added.

    Raises:
        DataError: a source is missing, or no record is sound.
        RunError: something cannot be written.
    """
    is_file = to.suffix == ".parquet"
    if is_file and to.exists():
        raise DataError(f"{to} is there already: name another file, or a folder to add one to")
    paths = [path for source in sources for path in find(source)]
    with progress.phase("importing", len(paths), unit="files") as bar:
        imported = import_files(_each(paths, bar.advance))
    quarantine = (to.parent if is_file else to) / QUARANTINE
    if imported.quarantined:
        write_quarantine(quarantine, imported.quarantined)
    check_any(imported, " ".join(sources))
    if is_file:
        store.write(to, imported.trajectories, iteration=0, phase=store.Phase.IMPORTED)
    else:
        to = store.append(to, imported.trajectories, iteration=0, phase=store.Phase.IMPORTED)
    progress.show(f"{len(imported.trajectories):,} of {imported.records:,} records are in {to}")
    if imported.quarantined:
        progress.show(f"{imported.complaint}: see {quarantine}")


def _each(paths: Iterable[Path], done: Callable[[], None]) -> Iterator[Path]:
    for path in paths:
        yield path
        done()


def _files(sources: Sequence[Path]) -> list[Path]:
    return [path for source in sources for path in store.files(source)]


def _count(paths: Sequence[Path], matching: Expr) -> int:
    pl = store.polars()
    return int(store.scan(paths).filter(matching).select(pl.len()).collect().item())


def _expression(where: Mapping[str, str]) -> Expr:
    """What polars filters for.

    Raises:
        DataError: there is no such column, or it cannot hold the value.
    """
    pl = store.polars()
    expression: Expr = pl.lit(True)
    columns = {name: dtype for name, dtype in store.schema().items() if not dtype.is_nested()}
    for name, value in where.items():
        if name not in columns:
            near = did_you_mean(name, columns)
            raise DataError(f"episodes have no {name!r}{near} (they have: {', '.join(columns)})")
        column, dtype = pl.col(name), columns[name]
        if value in ("null", "none"):
            expression = expression & column.is_null()
            continue
        try:
            known = _TRUTH[value.lower()] if dtype == pl.Boolean else pl.Series([value]).cast(dtype).item()
        except (KeyError, pl.exceptions.PolarsError):
            raise DataError(f"{name}={value}: {value!r} is no {dtype}, which {name} is") from None
        expression = expression & (column == known)
    return expression


def _said(where: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in where.items()) or "at all"


def _conversation(row: Mapping[str, Any], trajectory: Trajectory) -> Text:
    """An episode as text to be read: what it is, then what was said by whom."""
    text = Text()
    played = f"{row['phase']}, iteration {row['iteration']}, {trajectory.policy}"
    text.append(_visible(f"{trajectory.item_id}, try {trajectory.sample}: {played}\n"), "bold")
    score = "score unknown" if trajectory.score is None else f"score {trajectory.score:g}"
    success = {None: "success unknown", True: "success", False: "no success"}[trajectory.success]
    ended = f"{trajectory.stop} after {len(trajectory.turns)} turns, {score}, {success}, {trajectory.seconds:.1f} s\n"
    text.append(ended)
    for name in ("version", "weights", "sampling", "error"):
        if row[name]:
            text.append(_visible(f"{name} {row[name]}\n"), "dim")
    if trajectory.prompt:
        _say(text, "prompt", trajectory.prompt)
    if trajectory.acknowledgement is not None:
        _say(text, "acknowledgement", trajectory.acknowledgement)
    _say(text, "observation", trajectory.observation)
    for number, turn in enumerate(trajectory.turns, start=1):
        ignored = "" if turn.learned else ", not learned from"
        _say(text, f"turn {number}{ignored}", turn.completion.text, "bold cyan")
        if turn.observation or number < len(trajectory.turns):
            kind = "observation" if turn.action is not None else "correction"
            scored = "" if turn.score != turn.score else f", score {turn.score:g}"
            _say(text, f"{kind}{scored}", turn.observation)
    return text


def _say(text: Text, who: str, what: str, style: str = "cyan") -> None:
    text.append(f"-- {who}\n", style)
    text.append(f"{_visible(what)}\n")


def _visible(text: str) -> str:
    """Spells control characters out: what an environment or a model wrote must not command a terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _grouped(frame: LazyFrame) -> list[dict[str, Any]]:
    pl = store.polars()

    def seconds(field: str) -> Any:
        return pl.col("turns").list.eval(pl.element().struct.field(field)).list.sum().mean()

    tokens = pl.col("turns").list.eval(pl.element().struct.field("token_ids").list.len()).list.sum()
    phases = [str(phase) for phase in store.Phase]
    keys = ["environment", "phase", "iteration"]
    grouped = frame.group_by(keys).agg(
        pl.len().alias("episodes"),
        pl.col("stop").is_in(list(map(str, UNFINISHED))).not_().sum().alias("finished"),
        pl.col("success").sum().alias("succeeded"),
        pl.col("success").count().alias("known"),
        pl.col("turns").list.len().mean().alias("turns"),
        tokens.sum().alias("tokens"),
        pl.col("seconds").mean(),
        seconds("policy_seconds").alias("policy"),
        seconds("environment_seconds").alias("worlds"),
        *((pl.col("stop") == str(stop)).sum().alias(str(stop)) for stop in UNFINISHED),
    )
    found = grouped.collect(engine="streaming").rows(named=True)
    order = {phase: number for number, phase in enumerate(phases)}
    return sorted(found, key=lambda r: (r["environment"], r["iteration"], order.get(r["phase"], len(order))))


def _cells(row: Mapping[str, Any]) -> list[str]:
    errors = ", ".join(f"{row[str(stop)]:,} {stop}" for stop in UNFINISHED if row[str(stop)])
    known = f"{row['succeeded']:,} of {row['known']:,}" if row["known"] else "unknown"
    return [
        row["environment"],
        row["phase"],
        str(row["iteration"]),
        f"{row['episodes']:,}",
        f"{row['finished']:,}",
        known,
        f"{row['turns']:.1f}",
        f"{row['tokens']:,}" if row["tokens"] else "-",
        f"{row['seconds']:.2f}",
        f"{row['policy']:.2f}",
        f"{row['worlds']:.2f}",
        errors,
    ]


def _errors(frame: LazyFrame) -> list[tuple[str, str, int]]:
    """The most frequent error messages, wherever in an episode they came up."""
    pl = store.polars()
    message = pl.col("error").str.replace(r"^turn \d+", "turn").alias("message")
    failed = frame.filter(pl.col("error").is_not_null()).group_by("environment", message).len()
    top = failed.sort("len", "environment", "message", descending=[True, False, False]).head(MESSAGES)
    return [(_visible(e), _visible(m), n) for e, m, n in top.collect().rows()]


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)
