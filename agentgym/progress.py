"""What the terminal shows while a run goes on: what is happening, how far it is and how long it will take.

On a terminal a phase is a bar; elsewhere it is one line when it starts. Either way one line stays when it ends.
Only the first of several ranks prints.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agentgym.ranks import is_first_rank

_console = Console(highlight=False)
_clock = time.monotonic


def quiet() -> None:
    """Keeps transformers and, once it is imported, Lightning from talking over the bars."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)  # peft's call
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning's own call


def header(folder: Path, seed: int, *, console: Console | None = None) -> None:
    """Prints where a run is kept and what its seed is."""
    show(f"run folder {folder}, seed {seed}", console=console)


def show(what: RenderableType, *, console: Console | None = None) -> None:
    """Prints a line of text, or anything rich can draw (a table), above a bar that may be running."""
    if is_first_rank():
        shown = visible(what) if isinstance(what, str) else what
        (console or _console).print(shown, markup=False, soft_wrap=isinstance(what, str))


def visible(text: str) -> str:
    """Spells control characters out: what an environment, a model or a file says must not command a terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


class Bar:
    """Counts what a phase has done; made by `phase`.

    Attributes:
        done: how much is done.
    """

    def __init__(self, title: str, total: int | None, done: int, unit: str, progress: Progress) -> None:
        self.done = done
        self._note = ""
        self._title = title
        self._total = total
        self._unit = f" {unit}" if unit else ""
        self._progress = progress
        self._task: TaskID = progress.add_task(title, total=total, completed=done, note="")

    def advance(self, count: int = 1) -> None:
        """Says that `count` more are done."""
        self.done += count
        self._progress.update(self._task, completed=self.done)

    def note(self, text: str) -> None:
        """Shows a few words beside the bar, as in ``61 % solved``; the last ones stay in the closing line."""
        self._note = text
        self._progress.update(self._task, note=text)

    def opening(self) -> str:
        """What is printed at the start where there is no terminal."""
        many = "" if self._total is None else f": {self._total - self.done:,}{self._unit} to go"
        return f"{self._title}{many}"

    def closing(self, seconds: float, ended: bool) -> str:
        """What stays on the screen."""
        of = "" if ended or self._total is None else f" of {self._total:,}"
        words = "" if ended else " stopped at"
        note = f", {self._note}" if self._note else ""
        return f"{self._title}:{words} {self.done:,}{of}{self._unit} in {_duration(seconds)}{note}"


@contextmanager
def phase(
    title: str, total: int | None = None, *, done: int = 0, unit: str = "", console: Console | None = None
) -> Iterator[Bar]:
    """Shows one phase of a run while the block runs.

    Args:
        title: what is happening, as in ``exploring 1 of 3``.
        total: how much there is to do; None if nobody knows.
        done: how much of it was done before, by a run that was interrupted.
        unit: what is counted, as in ``episodes``.
        console: where to print; stdout if None.
    """
    console = console or _console
    speaks = is_first_rank()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,  # the closing line takes its place
        disable=not (speaks and console.is_terminal),
    )
    bar = Bar(title, total, done, unit, progress)
    start = _clock()
    ended = False
    if not console.is_terminal:
        show(bar.opening(), console=console)
    try:
        with progress:
            yield bar
        ended = True
    finally:
        show(bar.closing(_clock() - start, ended), console=console)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
