"""Measuring: what a policy solves, how sure that is, and the report of a run.

statistics.py   intervals and exact tests for shares and scores
bootstrap.py    the paired bootstrap
answers.py      what a policy's answers held, and why some held no action
ends.py         how episodes ended, and what made them fail
players.py      from played episodes to figures, per environment and type of task, in one try or several
pairs.py        players against each other
tables.py       both as tables
why.py          why tasks were not solved, in words and tables
report.py       report.json and report.md of a fit
scoreboard.py   report.json and report.md of an evaluation
reading.py      report.json read back, however it was damaged
scalars.py      the same as names and numbers, for tracking
unfinished.py   the report of a run that is not finished
episodes.py     which episodes a page shows, and how they fit
phases.py       loss and gradient norm of the learning phases, as a page draws them
html.py         report.html: a page that needs nothing else
report_page/    its style and script
"""

from __future__ import annotations

from agentgym.evaluation.pairs import Pair, Pairing, Verdict, pair
from agentgym.evaluation.players import EnvironmentFigures, Figures, Macro, Played, measure
from agentgym.evaluation.report import (
    Explored,
    Iteration,
    Learned,
    Report,
    describe_machine,
    installed_versions,
)

__all__ = [
    "EnvironmentFigures",
    "Explored",
    "Figures",
    "Iteration",
    "Learned",
    "Macro",
    "Pair",
    "Pairing",
    "Played",
    "Report",
    "Verdict",
    "describe_machine",
    "installed_versions",
    "measure",
    "pair",
]
