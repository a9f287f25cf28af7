"""What a conformance check found, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"  # to be seen among the others
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        verdict: how it ended.
        why: what was seen, in one line.
    """

    name: str
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one environment.

    Attributes:
        target: what was checked.
        checks: in the order in which they were made.
    """

    target: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if check.verdict == Verdict.FAILED]


def format_report(report: Report) -> str:
    """Writes a report for the terminal, a line per check."""
    width = max((len(check.name) for check in report.checks), default=0)
    lines = [f"{check.verdict:8}{check.name:{width}}  {check.why}" for check in report.checks]
    counts = [sum(check.verdict == verdict for check in report.checks) for verdict in Verdict]
    total = ", ".join(f"{count} {verdict.lower()}" for count, verdict in zip(counts, Verdict, strict=True))
    return "\n".join([f"{report.target}:", *lines, f"{len(report.checks)} checks: {total}"])
