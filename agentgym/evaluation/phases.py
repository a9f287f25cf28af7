"""The learning phases of a run as a page draws them: loss and gradient norm over the optimiser steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgym import curve

MOST = 1_500
"""Most points of all phases of a page together."""

_NAME = re.compile(r"it\d{3,}")


def phases(folder: Path) -> list[dict[str, Any]]:
    """The phases of a run folder of which figures were written down, those of the control last.

    Returns:
        Of each its iteration, whether it is the control's, how many steps lie before it, and its points: step within
        the phase, loss, gradient norm.
    """
    own, control = _found(folder), _found(folder / "control")
    most = max(10, MOST // max(1, len(own) + len(control)))
    before = own[0][1][-1].step if own and own[0][0] == 0 else 0  # the control goes on from behavioural cloning
    return [*_drawn(own, 0, most, control=False), *_drawn(control, before, most, control=True)]


def _found(folder: Path) -> list[tuple[int, list[curve.Point]]]:
    names = sorted(path.parent.name for path in folder.glob(f"it*/{curve.FILE}") if _NAME.fullmatch(path.parent.name))
    return [(int(name[2:]), points) for name in names if (points := curve.read(folder / name))]


def _drawn(
    found: Sequence[tuple[int, list[curve.Point]]], before: int, most: int, *, control: bool
) -> list[dict[str, Any]]:
    drawn = []
    for iteration, points in found:
        every = -(-len(points) // most)
        shown = [point for n, point in enumerate(points) if n % every == 0 or n == len(points) - 1]
        values = [[point.step, point.loss, point.grad_norm] for point in shown]
        drawn.append({"iteration": iteration, "control": control, "before": before, "points": values})
        before += points[-1].step
    return drawn
