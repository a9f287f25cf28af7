"""The episodes that a page shows: chosen evenly, cut where they are long, deflated so that thousands fit."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.data import store
from agentgym.errors import DataError, RunError

if TYPE_CHECKING:
    import polars as pl

MOST = 2_000
"""Most episodes of one page."""

LONGEST = 20_000
"""Characters of one text that are ever shown; what goes beyond is cut with a note."""

_CUTS = (LONGEST, 4_000, 2_000, 1_000, 500, 350, 250, 180, 120)
"""Where texts are cut, one after the other, until the episodes fit."""

_SAMPLE = 50
"""Episodes from whose size it is guessed whether all of them might fit."""

_ORDER = {phase: place for place, phase in enumerate(store.Phase)}
_TRY = ("environment", "index", "sample", "policy", "seconds")
"""What one try at a task is known by."""

_SHOWN = (
    *("file", "environment", "item_id", "sample", "iteration", "phase", "kept"),
    *("policy", "version", "stop", "success"),
)

_TEXTS = ("item_id", "version", "prompt", "acknowledgement", "observation", "stop", "score", "success", "error")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The episodes of a page.

    Attributes:
        rows: as the trajectory files have them, with `kept` added and without tokens.
        total: how many episodes there are in the files.
    """

    rows: Sequence[Mapping[str, Any]]
    total: int


@dataclass(frozen=True, slots=True)
class Packed:
    """Episodes ready to be put into a page.

    Attributes:
        text: base64 of the zlib stream of the JSON.
        shown: how many episodes it holds.
        cut: the length at which texts were cut; 0 if none was.
    """

    text: str
    shown: int
    cut: int


def choose(folder: Path, most: int = MOST) -> Chosen:
    """Chooses episodes from the trajectory files of a run, as many from each phase, iteration and environment.

    Episodes that were kept are among the explored ones too; they are counted once, and marked.

    Args:
        folder: the folder `trajectories` of a run; it may be missing or empty.
        most: how many at most.

    Raises:
        DataError: a file is damaged or no trajectory file.
    """
    frames = {path.name: store.scan(path).with_row_index("row") for path in sorted(folder.glob("*.parquet"))}
    found = [
        {**episode, "file": name}
        for name, frame in frames.items()
        for episode in _collect(frame.select("row", *_TRY, "iteration", "phase"), name)
    ]
    kept = {_try(episode) for episode in found if episode["phase"] == store.Phase.KEPT}
    episodes = sorted((episode for episode in found if episode["phase"] != store.Phase.KEPT), key=_place)
    groups = [list(group) for _, group in groupby(episodes, key=_group)]
    shares = fair_shares([len(group) for group in groups], most)
    chosen = [episode for group, share in zip(groups, shares, strict=True) for episode in evenly(group, share)]
    texts = _read(frames, chosen)
    rows = [
        {**episode, **text, "kept": episode["phase"] == store.Phase.EXPLORE and _try(episode) in kept}
        for episode, text in zip(chosen, texts, strict=True)
    ]
    return Chosen(rows, len(episodes))


_BEFORE, _ROOM, _TURNS = "it000-eval.parquet", 60_000, 40
"""The first measurement of a fit; characters and turns that are shown of a task before and after."""


def before_and_after(folder: Path) -> dict[str, Any] | None:
    """One task at iteration 0 and at the last one, as a page reads it; one that was solved only at the end, if any was.

    Of several the one with the fewest turns is taken, but not of a single one.

    Args:
        folder: the folder `trajectories` of a run.

    Returns:
        Both episodes, how many such tasks there are, and whether they were solved only at the end; None if no task was
        finished in both, or there is only one measurement.

    Raises:
        DataError: a file is damaged or no trajectory file.
    """
    names = sorted(path.name for path in folder.glob("it*-eval.parquet"))
    if len(names) < 2 or names[0] != _BEFORE:
        return None
    pl = store.polars()
    frames = {name: store.scan(folder / name).with_row_index("row") for name in (_BEFORE, names[-1])}
    count = pl.col("turns").list.len().alias("count")
    wanted = ("row", *_TRY, "iteration", "phase", "success", count)
    first, last = (
        {(e["environment"], e["index"]): {**e, "file": name} for e in _collect(frame.select(wanted), name)}
        for name, frame in frames.items()
    )
    both = [(first[task], last[task]) for task in sorted(first.keys() & last.keys())]
    both = [pair for pair in both if None not in (pair[0]["success"], pair[1]["success"])]
    gained = [pair for pair in both if pair[1]["success"] and not pair[0]["success"]]
    found = gained or both
    if not found:
        return None
    chosen = min(found, key=lambda pair: (pair[1]["count"] < 2, pair[0]["count"] + pair[1]["count"]))
    rows = [{**e, **text, "kept": False} for e, text in zip(chosen, _read(frames, chosen), strict=True)]
    left = [max(0, len(row["turns"]) - _TURNS) for row in rows]
    rows = [{**row, "turns": row["turns"][:_TURNS]} for row in rows]
    document = next(
        (d for cut in _CUTS if len(json.dumps(d := _document(rows, cut))) <= _ROOM), _document(rows, _CUTS[-1])
    )
    return {**document, "left": left, "tasks": len(found), "gained": bool(gained)}


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divides `most` among groups: all of a small group, and as many from each of the others.

    Returns:
        How many to take from each group; together `most`, or all if there are not so many.
    """
    shares = [0] * len(sizes)
    left = most
    by_size = sorted(range(len(sizes)), key=sizes.__getitem__)
    for position, i in enumerate(by_size):
        shares[i] = min(sizes[i], left // (len(sizes) - position))
        left -= shares[i]
    return shares


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Takes `count` items that are spread evenly over those given."""
    return [items[i * len(items) // count] for i in range(count)]


def pack(rows: Sequence[Mapping[str, Any]], room: int) -> Packed:
    """Packs episodes into at most `room` characters: cuts texts first, then leaves episodes out.

    Args:
        rows: of `choose`.
        room: characters that there are.

    Raises:
        RunError: they do not hold a page without any episode.
    """
    while True:
        longest = max((len(text) for row in rows for text in _texts(row)), default=0)
        for cut in (_CUTS[0], *(cut for cut in _CUTS[1:] if cut < longest)):
            sample = evenly(rows, min(len(rows), _SAMPLE))
            if len(_packed(sample, cut)) * len(rows) > 1.2 * room * max(len(sample), 1):
                continue
            text = _packed(rows, cut)
            if len(text) <= room:
                return Packed(text, len(rows), cut if cut < longest else 0)
        if not rows:
            raise RunError(
                "report.html has no room for so many figures: measure fewer players in one run; report.json and "
                "report.md have them all"
            )
        rows = evenly(rows, len(rows) // 2)


def _packed(rows: Sequence[Mapping[str, Any]], cut: int) -> str:
    plain = json.dumps(_document(rows, cut), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(plain.encode(), 9)).decode()


def _try(episode: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(episode[name] for name in _TRY)


def _group(episode: Mapping[str, Any]) -> tuple[Any, ...]:
    """In the order of a run; the control comes last."""
    phase = episode["phase"]
    if phase not in _ORDER:
        raise DataError(f"{episode['file']} holds an episode of no phase ({phase!r:.60}): delete it")
    last = phase == store.Phase.CONTROL
    return last, episode["iteration"], _ORDER[phase], episode["file"], episode["environment"]


def _place(episode: Mapping[str, Any]) -> tuple[Any, ...]:
    return *_group(episode), episode["index"], episode["sample"], episode["row"]


def _read(frames: Mapping[str, pl.LazyFrame], chosen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Reads the texts of episodes, in their order; the tokens stay where they are."""
    pl = store.polars()
    turn = pl.struct(pl.element().struct.field("text", "action", "observation", "score", "reasoning", "cut"))
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for name, frame in frames.items():
        rows = [episode["row"] for episode in chosen if episode["file"] == name]
        wanted = frame.filter(pl.col("row").is_in(rows)).select("row", *_TEXTS, pl.col("turns").list.eval(turn))
        if rows:
            found |= {(name, row.pop("row")): row for row in _collect(wanted, name)}
    return [found[episode["file"], episode["row"]] for episode in chosen]


def _collect(frame: pl.LazyFrame, name: str) -> list[dict[str, Any]]:
    pl = store.polars()
    try:
        return list(frame.collect().iter_rows(named=True))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(
            f"{name} is damaged ({' '.join(str(error).split())[:120]}): delete it, and go on with the run"
        ) from error


def _document(rows: Iterable[Mapping[str, Any]], cut: int) -> dict[str, Any]:
    """What the page reads. Each prompt is stored once and named by its number."""
    prompts: dict[str, int] = {}
    episodes = []
    for row in rows:
        prompt = prompts.setdefault(_cut(row["prompt"], LONGEST) or "", len(prompts))
        episode = {name: row[name] for name in _SHOWN} | {"prompt": prompt}
        episode |= {name: _cut(row[name], cut) for name in ("acknowledgement", "observation", "error")}
        episode |= {name: _finite(row[name]) for name in ("score", "seconds")}
        episodes.append({**episode, "turns": [_turn(turn, cut) for turn in row["turns"]]})
    return {"prompts": list(prompts), "episodes": episodes}


def _turn(turn: Mapping[str, Any], cut: int) -> list[Any]:
    """Text, action, observation and score; where there are any, thoughts beside the text and whether it was cut."""
    shown = [*(_cut(turn[name], cut) for name in ("text", "action", "observation")), _finite(turn["score"])]
    return [*shown, _cut(turn["reasoning"], cut), turn["cut"]] if turn["reasoning"] or turn["cut"] else shown


def _texts(row: Mapping[str, Any]) -> Iterator[str]:
    for part in (row, *row["turns"]):
        yield from (
            part[name]
            for name in ("acknowledgement", "observation", "error", "text", "action", "reasoning")
            if part.get(name)
        )


def _finite(number: float | None) -> float | None:
    """The number in five digits; None where JSON has none."""
    return None if number is None or not math.isfinite(number) else float(f"{number:.5g}")


def _cut(text: str | None, length: int) -> str | None:
    if text is None or len(text) <= length:
        return text
    return f"{text[:length]} … [{len(text) - length:,} more characters]"
