"""Measuring: what a policy solves, how sure that is, and the report of a run.

statistics.py   intervals and exact tests for shares and scores
agenteval.py    from played episodes to results and comparisons: the iterations of a fit
report.py       its table, report.json and report.md
players.py      what players did, per environment and type of task, in one try or several
pairs.py        players against each other
scoreboard.py   the table, report.json and report.md of an evaluation
scalars.py      the same as names and numbers, for tracking
unfinished.py   the report of a run that is not finished
episodes.py     which episodes a page shows, and how they fit
html.py         report.html: a page that needs nothing else
report_page/    its style and script
"""

from __future__ import annotations

from agentgym.evaluation.agenteval import (
    Comparison,
    Difference,
    EnvironmentResult,
    MacroResult,
    Result,
    compare,
    summarize,
)
from agentgym.evaluation.report import (
    Explored,
    Iteration,
    Learned,
    Report,
    describe_machine,
    installed_versions,
    results_table,
)

__all__ = [
    "Comparison",
    "Difference",
    "EnvironmentResult",
    "Explored",
    "Iteration",
    "Learned",
    "MacroResult",
    "Report",
    "Result",
    "compare",
    "describe_machine",
    "installed_versions",
    "results_table",
    "summarize",
]
