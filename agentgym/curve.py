"""Loss and gradient norm of a learning phase: lines of JSON in its folder, one for an optimiser step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "curve.jsonl"

MOST = 200
"""Most points of one phase; of a longer one every second step is written down, or every third, and so on."""


@dataclass(frozen=True, slots=True)
class Point:
    """One optimiser step.

    Attributes:
        step: its number within the phase, from 1.
        loss: over all rows and ranks, in nats a token; None if it was no number.
        grad_norm: norm of the gradient before clipping; None if it was no number.
    """

    step: int
    loss: float | None
    grad_norm: float | None

    @classmethod
    def of(cls, step: int, loss: float, grad_norm: float) -> Point:
        """Takes figures as they are, in six digits."""
        return cls(step, _finite(loss), _finite(grad_norm))


def wanted(step: int, total: int) -> bool:
    """Whether a step of a phase is written down; the first and the last one are."""
    return step in (1, total) or step % max(1, math.ceil(total / (MOST - 2))) == 0


def add(folder: Path, point: Point) -> None:
    """Writes down a step of the phase in `folder`.

    Raises:
        OSError: the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(_line(point))


def go_on_from(folder: Path, step: int) -> None:
    """Forgets the steps after this one: a phase that was interrupted takes them again.

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / FILE
    if path.exists():
        part = path.with_suffix(".part")
        part.write_text("".join(_line(point) for point in read(folder) if point.step <= step), encoding="utf-8")
        part.replace(path)


def read(folder: Path) -> list[Point]:
    """The steps that were written down, in their order; a line that is damaged counts for nothing."""
    path = folder / FILE
    if not path.is_file():  # a pipe would keep its reader waiting
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    return list(_points(lines))


def _points(lines: Iterable[bytes]) -> Iterable[Point]:
    last = 0
    for line in lines:
        try:
            found = json.loads(line)
            step, loss, norm = found["step"], found["loss"], found["grad_norm"]
            if type(step) is int and last < step < 10**12:
                yield Point.of(step, *(math.nan if value is None else float(value) for value in (loss, norm)))
                last = step
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue


def _line(point: Point) -> str:
    return f"{json.dumps(asdict(point), allow_nan=False)}\n"


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
