"""The report as one page: report.html, which needs no network, no server and no other file.

What the page shows travels in it as JSON; its script draws it. The page's own policy (CSP) lets nothing else run and
nothing be fetched, whatever an environment or a model wrote.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from rich.table import Table

from agentgym import progress
from agentgym.data.store import write_atomically
from agentgym.errors import RunError
from agentgym.evaluation import episodes, reading, scoreboard
from agentgym.evaluation.phases import phases
from agentgym.evaluation.report import TITLE
from agentgym.evaluation.tables import figures_table
from agentgym.evaluation.unfinished import unfinished_report
from agentgym.recipe import text_of

LIMIT = 5_000_000
"""Most bytes of a page."""

MOST = 50
"""Most comparisons of a page, and most lines of its summary; report.md has all."""

_UNFOLDED = 4
"""Lines of the summary that are in sight; the first one is large."""

_SCRIPTS = ("draw.js", "results.js", "training.js", "failures.js", "episodes.js", "page.js")
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def write_html(folder: Path) -> Path:
    """Writes report.html of a run folder, from its report.json, its recipe and its trajectories.

    A run of `fit` without a report.json is shown as far as it has come.

    Args:
        folder: the run folder of `fit` or `eval`.

    Returns:
        The page.

    Raises:
        AgentGymError: there is nothing to show yet, a file of the run is damaged, or the page cannot be written.
    """
    page = folder / "report.html"
    write_atomically(page, render(_read(folder), folder).encode())
    return page


def rebuild(folder: Path, *, trust: bool = False) -> Path:
    """Writes report.html anew and prints what it says: the table and the words.

    Args:
        folder: the run folder; somebody else may have made it.
        trust: whether the modules that its recipe names are imported, where it is not finished.

    Raises:
        AgentGymError: as `write_html`.
    """
    report = _read(folder, trust=trust)
    page = write_html(folder)
    progress.show(_table(report))
    for line in [*report.get("lines", []), *report.get("why", [])]:
        progress.show(line)
    progress.show(f"wrote {page}")
    return page


def render(report: Mapping[str, Any], folder: Path) -> str:
    """Returns the page.

    Args:
        report: as report.json has it.
        folder: where the recipe and the trajectories are.
    """
    chosen = episodes.choose(folder / "trajectories")
    recipe = folder / "recipe.yaml"
    shown = {key: value for key, value in report.items() if key not in ("recipe", "lines", "why")}
    comparisons = report.get("comparisons", [])
    shown |= {
        "comparisons": comparisons[:MOST],
        "compared": len(comparisons),
        "recipe": text_of(recipe) if recipe.exists() else "",
        "model": _model(report),
        "phases": phases(folder),
        "contrast": episodes.before_and_after(folder / "trajectories"),
    }
    frame = _frame(report, shown, 0, 0, chosen.total, "")
    packed = episodes.pack(chosen.rows, LIMIT - len(frame.encode()) - 100)
    return _frame(report, shown, packed.shown, packed.cut, chosen.total, packed.text)


def _model(report: Mapping[str, Any]) -> str:
    model = report.get("recipe", {}).get("model", {})
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


def _frame(report: Mapping[str, Any], shown: Mapping[str, Any], count: int, cut: int, total: int, packed: str) -> str:
    style = _file("page.css")
    script = "\n".join(_file(name) for name in _SCRIPTS)
    data = {**shown, "episodes": {"shown": count, "total": total, "cut": cut}}
    return Template(_file("page.html")).substitute(
        title=html.escape(report["name"]),
        summary=_summary(report.get("lines", [])),
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:",
        style=style,
        script=script,
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES),
        episodes=packed,
    )


def _summary(lines: Sequence[str]) -> str:
    """The lines that say what came out; the first ones are in sight, the others are folded away."""
    shown = [f"<p>{html.escape(line)}</p>" for line in lines[:MOST]]
    if len(lines) > MOST:
        shown.append(f"<p>{len(lines) - MOST:,} more are in report.md.</p>")
    folded = len(lines) - _UNFOLDED
    if folded > 1:
        shown[_UNFOLDED:] = ["<details>", f"<summary>{folded:,} more</summary>", *shown[_UNFOLDED:], "</details>"]
    return "\n".join(shown)


def _file(name: str) -> str:
    return (files("agentgym.evaluation") / "report_page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(folder: Path, *, trust: bool = False) -> dict[str, Any]:
    """Returns report.json, or what an unfinished run would have there; `unfinished` says which."""
    path = folder / "report.json"
    if not path.exists():
        if not (folder / "recipe.yaml").exists():
            raise RunError(f"{folder} is no run folder: name one, as in runs/agentevol")
        return {**unfinished_report(folder, trust=trust).to_json(), "unfinished": True}
    return reading.read_report(path, _whole)


def _whole(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report of which the table can be shown."""
    reading.fit(report)
    whole = {**report, "unfinished": False}
    _table(whole)
    return whole


def _table(report: Mapping[str, Any]) -> Table:
    """The table of a report as the terminal shows it, out of report.json."""
    unfinished = ", unfinished" if report["unfinished"] else ""
    if "players" in report:
        players = {player["player"]: player for player in report["players"]}
        return figures_table(players, "headline", title=f"{report['name']}: {scoreboard.TITLE}")
    rows = {f"{row['iteration']}" if row["iteration"] else "0 (BC)": row for row in report["iterations"]}
    rows |= {"control": report["control"]} if report["control"] else {}
    return figures_table(rows, "success", title=f"{report['name']}{unfinished}: {TITLE}")
