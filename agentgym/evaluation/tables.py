"""Tables of figures and of pairs, for the terminal and as Markdown.

Figures are taken as report.json has them, so that a report shows the same table when it is made and when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from agentgym.evaluation.pairs import Pair, Pairing
from agentgym.evaluation.statistics import Interval

COLUMNS = 80
"""A table that would be wider than this has a row per environment instead of a column."""

FIRST = {"success": "iteration", "headline": "player"}
"""Which figure a report shows, and what its rows are called."""

Figure = Literal["success", "headline"]
Row = Mapping[str, Any]
"""What was measured of one policy: ``environments`` and ``macro``."""

_CELL = len("[38-57]")


def figures_table(rows: Mapping[str, Row], figure: Figure, *, title: str) -> Table:
    """Returns a table for the terminal: one figure in per cent, its 95 % limits below.

    Args:
        rows: by their labels.
        figure: which one.
        title: stands above the table.
    """
    header, *cells = _matrix(rows, figure, between="\n")
    if 1 + sum(max(len(name), _CELL) + 3 for name in header) > COLUMNS:
        header, *cells = [list(column) for column in zip(header, *cells, strict=True)]
    return terminal_table(header, cells, title=title)


def figures_markdown(rows: Mapping[str, Row], figure: Figure) -> str:
    """The same as Markdown."""
    header, *cells = _matrix(rows, figure, between=" ")
    return markdown_table(header, cells)


def _matrix(rows: Mapping[str, Row], figure: Figure, between: str) -> list[list[str]]:
    metrics = {name: part["metric"] for row in rows.values() for name, part in row["environments"].items()}
    names = sorted(metrics)
    titles = names if figure == "success" else [_titled(name, metrics[name]) for name in names]
    matrix = [[FIRST[figure], *titles, "macro"]]
    for label, row in rows.items():
        cells = [figure_cell(row["environments"].get(name), figure, between) for name in names]
        matrix.append([label, *cells, figure_cell(row["macro"], figure, between)])
    return matrix


def figure_cell(part: Mapping[str, Any] | None, figure: Figure, between: str) -> str:
    """A figure and its limits in per cent; a question mark where nothing was finished."""
    return "?" if part is None else percent(part[figure], part[f"{figure}_interval"], between)


def percent(figure: float | None, interval: Interval, between: str = " ") -> str:
    """A share and its limits, as in ``45.1 [38-57]``; a question mark if it is not known."""
    if figure is None:
        return "?"
    low, high = (f"{100 * limit:.0f}" for limit in interval)
    return f"{100 * figure:.1f}{between}[{low}-{high}]".replace("--", " to -")


def _titled(name: str, metric: str) -> str:
    return name if metric == "success" else f"{name} (score)"


PAIRS_HEADER = ("environment", "pairs", "won", "lost", "points", "p", "verdict")

TESTED = (
    "Pairs of the same task, a task's tries averaged; points on the scale of the table above, with 95 % intervals. p "
    "is exact, two-sided, and adjusted for the number of environments (Holm): McNemar's where every difference is a "
    "whole success, else over all ways to flip the signs of the differences, with intervals by the paired bootstrap. "
    "Tasks that one of the two did not finish are left out."
)
"""What stands below tables of pairs."""


def pairs_rows(comparison: Pairing, between: str = " ") -> list[list[str]]:
    """The rows of a table of pairs, below `PAIRS_HEADER`: one an environment, and one for all."""
    rows = [
        _pair_row(_titled(name, part.metric), part, str(part.verdict), between)
        for name, part in comparison.environments.items()
    ]
    return [*rows, _pair_row("all", comparison, "", between)]


def pairs_markdown(comparison: Pairing) -> str:
    """The same as Markdown."""
    return markdown_table(PAIRS_HEADER, pairs_rows(comparison))


def _pair_row(name: str, part: Pair | Pairing, verdict: str, between: str) -> list[str]:
    low, high = part.interval
    shown = points(part.difference)
    if part.difference is not None:
        shown += f"{between}[{100 * low:+.0f} to {100 * high:+.0f}]"
    p = p_text(part.p_value).removeprefix("p ").removeprefix("= ")
    return [name, f"{part.tasks}/{part.given}", f"{part.won}", f"{part.lost}", shown, p, verdict]


def points(difference: float | None) -> str:
    """Writes a difference of shares, as in ``+31.2``; a question mark if it is not known."""
    return "?" if difference is None else f"{100 * difference:+.1f}"


def p_text(value: float) -> str:
    """Writes a p-value, as in ``p = 0.031``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def terminal_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> Table:
    """Returns a table for the terminal; where it is too wide it folds names and cuts no number short."""
    table = Table(title=Text(title), title_justify="left", show_lines=True)
    for i, name in enumerate(header):
        cells = [row[i] for row in rows] if i else []
        widest = max((len(line) for cell in cells for line in cell.splitlines()), default=None)
        table.add_column(Text(name), justify="right" if i else "left", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def markdown_table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table as Markdown; all columns but the first are aligned to the right."""
    names = list(header)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
