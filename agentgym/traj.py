"""What `agentgym traj` does: shows episodes, counts them, and brings them into other formats and out of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agentgym import progress
from agentgym.data import store
from agentgym.data.agenttraj import check_environment
from agentgym.data.atomic import write_gradually
from agentgym.data.imports import QUARANTINE, Imported, check_any, read_files, write_quarantine
from agentgym.data.rows import MEASURED, SAME_EPISODE, is_double
from agentgym.data.sources import complaint_about, find
from agentgym.data.stream import write_stream
from agentgym.data.where import Where, expression, said
from agentgym.errors import DataError
from agentgym.forms import Form, form_of, not_written, writer
from envpool import StopReason, Trajectory

if TYPE_CHECKING:
    from polars import DataFrame, Expr, LazyFrame

UNFINISHED = tuple(stop for stop in StopReason if not stop.by_itself)
"""How episodes end that did not end by themselves."""

MESSAGES = 5
"""How many error messages `stats` lists."""

_SAME_TRY = ("environment", "version", "index", "sample", "phase", "iteration", "policy")
"""Columns in which two episodes of a store differ, unless one was imported twice."""


def show(sources: Sequence[Path], where: Where, count: int, console: Console | None = None) -> None:
    """Prints the conversations of the first episodes that match.

    Args:
        sources: trajectory files, or folders of them.
        where: which.
        count: how many at most.
        console: where to print; stdout if None.

    Raises:
        DataError: a file cannot be used, or nothing matches.
    """
    console = console or _console()
    paths, matching = _files(sources), expression(where)
    total = _count(paths, matching)
    if not total:
        raise DataError(f"no episode matches {said(where)}: `agentgym traj stats` shows what there is")
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


def stats(sources: Sequence[Path], where: Where, console: Console | None = None) -> None:
    """Prints a table of the episodes by environment, phase and iteration, and the most frequent errors.

    Raises:
        DataError: a file cannot be used.
    """
    console = console or _console()
    paths = _files(sources)
    frame = store.scan(paths).filter(expression(where))
    rows, left_out = _grouped(frame, paths), 0
    while (width := _width(table := _table(rows, left_out), console)) > console.width and left_out < len(_LEAST):
        left_out += 1
    console.width = max(console.width, width)  # rather than cut: half a number is another number
    console.print(table)
    missing = f"; a wider terminal shows {', '.join(_LEAST[:left_out])} too" if left_out else ""
    console.print(f"{_LEGEND}{missing}", style="dim", soft_wrap=True)
    for environment, message, times in _errors(frame, paths):
        console.print(f"{times:,} x {environment}: {message}", markup=False)


def export(
    sources: Sequence[Path], to: Path, where: Where, form: str | None = None, tokenizer: str | None = None
) -> None:
    """Writes the episodes that match for other programs.

    What was kept of an exploration is left out where the explored episode is written too. AgentTraj and messages are
    for learning: without a word about it in `where`, what was played to measure, or has failed, is left out.

    Args:
        sources: trajectory files, or folders of them.
        to: a file that is not there yet.
        where: which episodes.
        form: a `Form`; if None, the name of the file says which: ``.json`` AgentTraj, ``.jsonl`` rollouts.
        tokenizer: of messages: a model for whose tokenizer ``input_ids`` and ``assistant_masks`` are written, too.

    Raises:
        DataError: a file cannot be used, nothing is to be written, or `to` is there already or ends otherwise.
        ModelError: the tokenizer cannot be used.
        RunError: the file cannot be written.
    """
    chosen = form_of(to, form)
    if to.exists():
        raise DataError(f"{to} is there already: name another file")
    paths, matching = _files(sources), expression(where)
    total = _count(paths, matching)
    if not total:
        raise DataError(f"no episode matches {said(where)}: `agentgym traj stats` shows what there is")
    lessons, listed = chosen != Form.rollouts, chosen == Form.agenttraj
    make = writer(chosen, tokenizer)
    seen = _explored_and_kept(paths, matching) if "phase" not in where else set()
    written: Counter[str] = Counter()
    left: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    with progress.phase("exporting", total, unit="episodes") as bar, write_gradually(to, new=True) as write:
        for path in paths:
            for row, trajectory in store.episodes(path, matching):
                bar.advance()
                reason = _no_lesson(row, trajectory, where) if lessons else ""
                if not reason and "phase" not in where and is_double(row, seen):
                    reason = "kept (and explored as well)"
                if reason:
                    left[reason] += 1
                    continue
                before = ("" if not listed else ",\n" if written else "[\n").encode()
                record = json.dumps(make(trajectory), ensure_ascii=False)
                write(before + record.encode() + (b"" if listed else b"\n"))
                written[row["phase"]] += 1
                lost.update(not_written(trajectory, chosen, tokenizer is not None))
        if not written:
            named = "name them, as in --where phase=eval,success=false"
            raise DataError(f"nothing is left to write: of {total:,} episodes {_counted(left)} are left out: {named}")
        if listed:
            write(b"\n]\n")
    progress.show(f"{written.total():,} episodes are in {to}: {_counted(written)}")
    if left:
        progress.show(f"{left.total():,} of {total:,} are left out: {_counted(left)}")
    for what, count in lost.items():
        progress.show(f"{count:,} of {written.total():,} episodes {what}")


def _no_lesson(row: Mapping[str, Any], trajectory: Trajectory, where: Where) -> str:
    """Why a trainer should not learn from an episode, unless the user asks for such; empty if it should."""
    if row["phase"] in MEASURED and "phase" not in where:
        return f"{row['phase']} (only measured)"
    if (trajectory.success is False or not trajectory.stop.by_itself) and not {"success", "stop"} & where.keys():
        return "without success"
    return "" if trajectory.turns else "without a turn"


def _explored_and_kept(paths: Sequence[Path], matching: Expr) -> set[tuple[Any, ...]]:
    """Which of the matching episodes are there as explored and as kept."""
    phase = store.polars().col("phase")
    frame = store.scan(paths).filter(matching).select("phase", *SAME_EPISODE)
    kept, explored = (frame.filter(phase == str(name)) for name in (store.Phase.KEPT, store.Phase.EXPLORE))
    both = explored.join(kept, on=SAME_EPISODE, how="semi").select(SAME_EPISODE)
    return set(_ask(both, paths).rows())


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.most_common())


def bring_in(sources: Sequence[str], to: Path, environment: str | None = None) -> None:
    """Imports files, folders and data sets of the Hub. What cannot be read is set aside, and told.

    Args:
        sources: where they are.
        to: a Parquet file that is not there yet, or the folder of a store, to which a file is added.
        environment: of records whose item id does not tell it; if None, the names of the files may.

    Raises:
        DataError: a source is missing, no record is sound, or `to` is neither.
        RunError: something cannot be written.
    """
    is_file = to.suffix == ".parquet"
    if is_file and to.exists():
        raise DataError(f"{to} is there already: name another file, or a folder to add one to")
    if not is_file and (to.is_file() or (to.suffix and not to.is_dir())):
        raise DataError(
            f"{to} is no folder: name a new FILE.parquet, or a folder (one with a dot must be there already)"
        )
    if (to / "trajectories").is_dir():
        raise DataError(f"{to} is a run: name another folder")
    unknown = _unknown(environment)
    others: list[Path] = []
    paths = [path for source in sources for path in find(source, others.append)]
    path = to if is_file else store.name_in(to)
    before = [] if is_file or not any(to.glob("*.parquet")) else store.files(to)
    imported = Imported()
    with progress.phase("importing", len(paths), unit="files") as bar:
        episodes = read_files(_each(paths, bar.advance), imported, environment)
        write_stream(path, (row for row, _ in episodes), new=True)
    quarantine = (to.parent if is_file else to) / QUARANTINE
    if imported.quarantined:
        write_quarantine(quarantine, imported.quarantined)
    check_any(imported, " ".join(sources), quarantine)
    known = _known(before, path)
    progress.show(f"{imported.good:,} of {imported.records:,} records are in {path}")
    if imported.quarantined:
        progress.show(f"{imported.complaint}: see {quarantine}")
    for line in [*unknown, *imported.told]:
        progress.show(line)
    if known:
        progress.show(f"{known:,} of them are the same task and try as an episode that was in {to} before")
    if others:
        progress.show(complaint_about(others))


def _unknown(environment: str | None) -> list[str]:
    """What to tell about an environment that the user names."""
    try:
        told = "" if environment is None else check_environment(environment)
    except ValueError as error:
        raise DataError(f"--environment: {error}: write one of `agentgym envs`") from error
    return [told] if told else []


def _known(before: Sequence[Path], path: Path) -> int:
    """How many of a file's rows were there already, as far as task and try tell."""
    if not before:
        return 0
    there = store.scan(before).select(_SAME_TRY).unique()
    mine = store.scan([path]).select(_SAME_TRY)
    return int(_ask(mine.join(there, on=_SAME_TRY, how="semi").select(store.polars().len()), [*before, path]).item())


def _each(paths: Iterable[Path], done: Callable[[], None]) -> Iterator[Path]:
    for path in paths:
        yield path
        done()


def _files(sources: Sequence[Path]) -> list[Path]:
    return [path for source in sources for path in store.files(source)]


def _count(paths: Sequence[Path], matching: Expr) -> int:
    pl = store.polars()
    return int(_ask(store.scan(paths).filter(matching).select(pl.len()), paths).item())


def _ask(frame: LazyFrame, paths: Sequence[Path], *, streaming: bool = False) -> DataFrame:
    """Carries out a question about files; where one is damaged, says which."""
    try:
        return store.collect(frame, paths[-1], streaming=streaming)
    except DataError:
        for path in paths:
            next(store.rows(path), None)
        raise


def _conversation(row: Mapping[str, Any], trajectory: Trajectory) -> Text:
    """An episode as text to be read: what it is, then what was said by whom."""
    text = Text()
    played = f"{row['phase']}, iteration {row['iteration']}, {trajectory.policy}"
    text.append(progress.visible(f"{trajectory.item_id}, try {trajectory.sample}: {played}\n"), "bold")
    score = "score unknown" if trajectory.score is None else f"score {trajectory.score:g}"
    success = {None: "success unknown", True: "success", False: "no success"}[trajectory.success]
    ended = f"{trajectory.stop} after {len(trajectory.turns)} turns, {score}, {success}, {trajectory.seconds:.1f} s\n"
    text.append(ended)
    for name in ("version", "weights", "sampling", "error"):
        if row[name]:
            text.append(progress.visible(f"{name} {row[name]}\n"), "dim")
    if trajectory.tools:
        names = ", ".join(tool["function"]["name"] for tool in trajectory.tools)
        text.append(progress.visible(f"tools offered as data: {names}\n"), "dim")
    if trajectory.prompt:
        _say(text, "prompt", trajectory.prompt)
    if trajectory.acknowledgement is not None:
        _say(text, "acknowledgement", trajectory.acknowledgement)
    _say(text, "observation", trajectory.observation)
    for number, turn in enumerate(trajectory.turns, start=1):
        marks = ("" if turn.learned else ", not learned from") + (", cut" if turn.completion.cut else "")
        if turn.completion.reasoning:
            _say(text, f"thoughts beside turn {number}", turn.completion.reasoning)
        _say(text, f"turn {number}{marks}", turn.completion.text, "bold cyan")
        if turn.observation or number < len(trajectory.turns):
            kind = "observation" if turn.action is not None else "correction"
            scored = "" if turn.score != turn.score else f", score {turn.score:g}"
            for nth, observation in enumerate(turn.results or (turn.observation,), start=1):
                _say(text, f"{kind}{f' {nth}' if turn.results else ''}{scored}", observation)
        if turn.info:
            _say(text, "info", ", ".join(f"{name} {value}" for name, value in turn.info.items()))
    return text


def _say(text: Text, who: str, what: str, style: str = "cyan") -> None:
    text.append(f"-- {who}\n", style)
    text.append(f"{progress.visible(what)}\n")


def _grouped(frame: LazyFrame, paths: Sequence[Path]) -> list[dict[str, Any]]:
    pl = store.polars()

    def seconds(field: str) -> Any:
        return pl.col("turns").list.eval(pl.element().struct.field(field)).list.sum().mean()

    tokens = pl.col("turns").list.eval(pl.element().struct.field("token_ids").list.len()).list.sum()
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
    found = _ask(grouped, paths, streaming=True).rows(named=True)
    order = {str(phase): number for number, phase in enumerate(store.Phase)}

    def place(row: Mapping[str, Any]) -> tuple[str, int, int, str]:
        phase = row["phase"] or ""
        return row["environment"] or "", row["iteration"] or 0, order.get(phase, len(order)), phase

    return sorted(found, key=place)


def _mean(name: str, digits: int) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "?" if row[name] is None else f"{row[name]:,.{digits}f}"


def _word(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "?" if row[name] is None else progress.visible(str(row[name]))


_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "environment": _word("environment"),
    "phase": _word("phase"),
    "iteration": _word("iteration"),
    "episodes": _mean("episodes", 0),
    "finished": _mean("finished", 0),
    "succeeded": lambda row: f"{row['succeeded']:,} of {row['known']:,}" if row["known"] else "unknown",
    "turns": _mean("turns", 1),
    "tokens": lambda row: f"{row['tokens']:,}" if row["tokens"] else "-",
    "seconds": _mean("seconds", 2),
    "policy s": _mean("policy", 2),
    "env s": _mean("worlds", 2),
    "errors": lambda row: ", ".join(f"{row[str(stop)]:,} {stop}" for stop in UNFINISHED if row[str(stop)]),
}
"""What `stats` shows, and how it is written."""

_LEAST = ("env s", "policy s", "seconds", "finished", "tokens", "turns")
"""Columns that are left out where there is no room for all, in this order."""

_LEGEND = (
    "succeeded: of those whose success is known; finished: ended by itself; tokens: sampled ones, in all; turns and "
    "seconds, of which the policy took `policy s` and the environment `env s`: means per episode"
)


def _table(rows: Sequence[Mapping[str, Any]], left_out: int) -> Table:
    """The table of `stats` without so many columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = {title: cell for title, cell in _COLUMNS.items() if title not in _LEAST[:left_out]}
    for title in shown:
        words = title in ("environment", "phase", "errors")
        table.add_column(title, justify="left" if words else "right", no_wrap=True)
    for row in rows:
        cells = {title: cell(row) for title, cell in shown.items()}
        if left_out:
            cells["errors"] = cells["errors"].replace(", ", "\n")
        table.add_row(*map(Text, cells.values()))
    return table


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _errors(frame: LazyFrame, paths: Sequence[Path]) -> list[tuple[str, str, int]]:
    """The most frequent error messages, wherever in an episode they came up."""
    pl = store.polars()
    message = pl.col("error").str.replace(r"^turn \d+", "turn").alias("message")
    failed = frame.filter(pl.col("error").is_not_null()).group_by("environment", message).len()
    top = failed.sort("len", "environment", "message", descending=[True, False, False]).head(MESSAGES)
    return [(progress.visible(e or "?"), progress.visible(m), n) for e, m, n in _ask(top, paths).rows()]


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=200)
