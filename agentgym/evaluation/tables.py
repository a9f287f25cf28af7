"""Tables of figures and of pairs, for the terminal and as Markdown.

Figures are taken as report.json has them, so that a report shows the same table when it is made and when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from agentgym.evaluation.answers import MANY
from agentgym.evaluation.episodes import fair_shares
from agentgym.evaluation.pairs import Pair, Pairing
from agentgym.evaluation.statistics import Interval

COLUMNS = 80
"""A table that would be wider than this has a row per environment instead of a column, if that makes it narrower."""

TOO_LONG = 1e9
"""Numbers from here on are written in three digits: a score beyond its range can be as long as a line."""

FIRST = {"success": "iteration", "headline": "player"}
"""Which figure a report shows, and what its rows are called."""

Figure = Literal["success", "headline"]
Row = Mapping[str, Any]
"""What was measured of one policy: ``environments``, ``macro`` and ``answers``."""

NO_ACTION = "no action"
"""The column of answers without an action, in per cent, and their main reason; it is there where they are many."""


def figures_table(rows: Mapping[str, Row], figure: Figure, *, title: str) -> Table:
    """Returns a table for the terminal: one figure in per cent, its 95 % limits below.

    Args:
        rows: by their labels.
        figure: which one.
        title: stands above the table.
    """
    matrix = _matrix(rows, figure, between="\n")
    turned = [list(column) for column in zip(*matrix, strict=True)]
    header, *cells = turned if max(COLUMNS, _wide(turned[0])) < _wide(matrix[0]) else matrix
    return terminal_table(header, cells, title=title)


def _wide(header: Sequence[str]) -> int:
    return 1 + sum(max(len(name), len("[38-57]")) + len(" | ") for name in header)


def figures_markdown(rows: Mapping[str, Row], figure: Figure) -> str:
    """The same as Markdown."""
    header, *cells = _matrix(rows, figure, between=" ")
    return markdown_table(header, cells)


def _matrix(rows: Mapping[str, Row], figure: Figure, between: str) -> list[list[str]]:
    metrics = {name: part["metric"] for row in rows.values() for name, part in row["environments"].items()}
    names = sorted(metrics)
    titles = names if figure == "success" else [_titled(name, metrics[name]) for name in names]
    many = any(_without_action(row["answers"]) > MANY for row in rows.values())
    matrix = [[FIRST[figure], *titles, "macro", *([NO_ACTION] if many else [])]]
    for label, row in rows.items():
        cells = [figure_cell(row["environments"].get(name), figure, between) for name in names]
        cells.append(figure_cell(row["macro"], figure, between))
        matrix.append([label, *cells, *([_no_action_cell(row["answers"], between)] if many else [])])
    return matrix


def _without_action(answers: Mapping[str, Any]) -> float:
    return answers["without_action"] / answers["given"] if answers["given"] else 0.0


def _no_action_cell(answers: Mapping[str, Any], between: str) -> str:
    if not answers["given"]:
        return "?"
    main = next(iter(answers["why"]), None)
    return f"{100 * _without_action(answers):.1f}" + (f"{between}{main.replace('_', ' ')}" if main else "")


def figure_cell(part: Mapping[str, Any] | None, figure: Figure, between: str) -> str:
    """A figure and its limits in per cent; a question mark where nothing was finished."""
    return "?" if part is None else percent(part[figure], part[f"{figure}_interval"], between)


def percent(figure: float | None, interval: Interval, between: str = " ") -> str:
    """A share and its limits, as in ``45.1 [38-57]``; a question mark if it is not known."""
    if figure is None:
        return "?"
    low, high = (number_text(100 * limit, 0) for limit in interval)
    return f"{number_text(100 * figure, 1)}{between}[{low}{' to ' if '-' in low else '-'}{high}]"


def number_text(number: float, digits: int, sign: str = "") -> str:
    """Writes a number with the given digits behind the point, unless it is too long to be read."""
    return f"{number:{sign}z.{digits}f}" if abs(number) < TOO_LONG else f"{number:{sign}.3g}"


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
        shown += f"{between}[{number_text(100 * low, 0, '+')} to {number_text(100 * high, 0, '+')}]"
    p = p_text(part.p_value).removeprefix("p ").removeprefix("= ")
    return [name, f"{part.tasks}/{part.given}", f"{part.won}", f"{part.lost}", shown, p, verdict]


def points(difference: float | None) -> str:
    """Writes a difference of shares, as in ``+31.2``; a question mark if it is not known."""
    return "?" if difference is None else number_text(100 * difference, 1, "+")


def p_text(value: float) -> str:
    """Writes a p-value, as in ``p = 0.031``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def terminal_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> Table:
    """Returns a table for the terminal, in which names may fold, and numbers are never cut short."""
    table = _Blocks(title=Text(title), title_justify="left")
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


class _Blocks(Table):
    """A table that is printed in blocks of columns, one below the other, where there is no room for all side by side.

    Every block has the first column.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        texts = [[str(column.header), *map(str, column.cells)] for column in self.columns]
        title = self.title
        for widths in _blocks(texts, options.max_width):
            block = Table(title=title, title_justify=self.title_justify, show_lines=True)
            for i, width in widths.items():
                column = self.columns[i]
                block.add_column(column.header, justify=column.justify, overflow="fold", width=width)
            for row in zip(*(self.columns[i].cells for i in widths), strict=True):
                block.add_row(*row)
            yield block
            title = None


_HEAD, _LABEL = 10, 16
"""Of a longer name in the head of a column, or of a row, so many characters stand in a line at least."""


def _blocks(columns: Sequence[Sequence[str]], room: int) -> list[dict[int, int]]:
    """Divides columns of texts, the head first, among blocks; a block says how wide each of its columns is."""
    most = [max(map(_longest, texts)) for texts in columns]
    least = [min(most[0], _LABEL)]
    least += [max(min(_longest(name), _HEAD), *map(_longest, cells)) for name, *cells in columns[1:]]
    blocks = [[0]]
    for i in range(1, len(columns)):
        if len(blocks[-1]) > 1 and _room(least, [*blocks[-1], i]) > room:
            blocks.append([0])
        blocks[-1].append(i)
    return [_widths(block, least, most, room) for block in blocks]


def _widths(block: Sequence[int], least: Sequence[int], most: Sequence[int], room: int) -> dict[int, int]:
    """Divides what a block leaves free among its names; if it is too wide, its labels give way."""
    free = room - _room(least, block)
    shares = fair_shares([most[i] - least[i] for i in block], max(free, 0))
    widths = {i: least[i] + share for i, share in zip(block, shares, strict=True)}
    return {**widths, 0: max(widths[0] + min(free, 0), 1)}


def _room(widths: Sequence[int], block: Sequence[int]) -> int:
    return 1 + sum(widths[i] + len(" | ") for i in block)


def _longest(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)


def markdown_table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table as Markdown; all columns but the first are aligned to the right."""
    names = list(header)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
