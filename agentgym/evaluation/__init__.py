"""Measuring: what a policy solves, how sure that is, and the report of a run.

statistics.py   intervals and exact tests for shares
agenteval.py    from played episodes to results and comparisons
report.py       table, report.json and report.md
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
