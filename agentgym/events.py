"""How long the parts of a run took: lines of JSON in its folder, one a part that was finished."""

from __future__ import annotations

import json
import time
from pathlib import Path

FILE = "events.jsonl"

LONGEST = 1e10
"""Seconds; no part of a run takes longer, and a line that says so is damaged."""


def note(folder: Path, what: str, seconds: float) -> None:
    """Writes down that a part of the run in `folder` took so long.

    Raises:
        OSError: the file cannot be written.
    """
    line = json.dumps({"event": what, "at": round(time.time(), 3), "seconds": round(seconds, 3)})
    path = folder / FILE
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")  # a full disk may have cut the line before
    with path.open("a", encoding="utf-8") as events:
        events.write(f"{line}\n" if whole else f"\n{line}\n")


def seconds_by_part(folder: Path) -> dict[str, float]:
    """Wall time by part, over all attempts that finished it; a line that was cut short counts for nothing."""
    path = folder / FILE
    total: dict[str, float] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
            what, seconds = event["event"], float(event["seconds"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if isinstance(what, str) and 0 <= seconds < LONGEST:
            total[what] = total.get(what, 0.0) + seconds
    return {what: round(seconds, 1) for what, seconds in total.items()}
