"""What a run measured as names and numbers, for tracking; docs/tracking.md lists every name.

What is not known (a share of no finished task) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from agentgym.evaluation.answers import Answers, Why
from agentgym.evaluation.players import EnvironmentFigures, Macro, Played
from agentgym.evaluation.report import Explored, Learned, Report
from agentgym.evaluation.scoreboard import EvalReport

Scalars = dict[str, float]
"""Numbers by name."""

FUNNEL = ("tried", "finished", "errored", "succeeded", "kept", "newly_solved")
"""The stages of an exploration."""


def measured(phase: str, played: Played) -> Scalars:
    """How a policy did on the held-out tasks.

    Args:
        phase: ``eval``, ``control`` for the control, or ``player/NAME`` for a player of an evaluation.
        played: its figures.
    """
    numbers: dict[str, float | None] = {f"{phase}/coverage": _share(played.finished, played.episodes)}
    numbers |= _answers(phase, played.answers)
    parts: Mapping[str, EnvironmentFigures | Macro] = {**played.environments, "macro": played.macro}
    for name, part in parts.items():
        found = {"success": part.success, "score": part.score, "headline": part.headline}
        limits = {"success": part.success_interval, "headline": part.headline_interval}
        for figure, (low, high) in limits.items():
            found |= {f"{figure}_low": low, f"{figure}_high": high}
        if isinstance(part, EnvironmentFigures):
            found |= {"turns": part.turns, "coverage": _share(part.finished, part.episodes)}
            found["without_action"] = part.answers.share
            for key, by_k in (("pass_at", part.pass_at_k), ("pass_hat", part.pass_hat_k)):
                found |= {f"{key}_{k}": share for k, share in by_k.items() if k > 1}  # with one it is success
        numbers |= {f"{phase}/{name}/{figure}": number for figure, number in found.items()}
    return _known(numbers)


def _answers(phase: str, answers: Answers) -> dict[str, float | None]:
    """Shares of the answers: those without an action, in all and by what they held, and those that were cut."""
    by_reason = {f"{phase}/without_action_{why}": _share(answers.why.get(why, 0), answers.given) for why in Why}
    return {f"{phase}/without_action": answers.share, **by_reason, f"{phase}/answers_cut": answers.cut_share}


def explored(found: Explored) -> Scalars:
    """The funnel of an exploration, and what its answers held."""
    funnel = {f"explore/{name}": getattr(found, name) for name in FUNNEL}
    return _known({**funnel, **_answers("explore", found.answers)})


def learned(work: Learned) -> Scalars:
    """What a learning phase consumed."""
    return _known({f"learned/{name}": number for name, number in asdict(work).items()})


def concluded(report: Report) -> Scalars:
    """The comparisons of the last iteration, and where the time went."""
    numbers: dict[str, float | None] = {f"seconds/{what}": seconds for what, seconds in report.seconds.items()}
    for comparison in report.comparisons:
        name = "control" if comparison.baseline == "control" else "bc"
        numbers |= {
            f"against_{name}/{key}": getattr(comparison, key)
            for key in ("difference", "p_value", "won", "lost", "tasks")
        }
    return _known(numbers)


def results(report: Report) -> tuple[list[str], list[list[str | float | None]]]:
    """The report's table: header and rows, shares of held-out tasks solved between 0 and 1."""
    rows = report.rows()
    environments = sorted({name for played in rows.values() for name in played.environments})
    header = ["iteration", *environments, "macro", "macro_low", "macro_high"]
    return header, [
        [
            label,
            *(played.environments[name].success if name in played.environments else None for name in environments),
            played.macro.success,
            *played.macro.success_interval,
        ]
        for label, played in rows.items()
    ]


def players(report: EvalReport) -> tuple[list[str], list[list[str | float | None]]]:
    """The table of an evaluation: header and rows, headline figures between 0 and 1, the macro with its limits."""
    environments = sorted({name for player in report.players for name in player.played.environments})
    header = ["player", *environments, "macro", "macro_low", "macro_high"]
    rows: list[list[str | float | None]] = []
    for player in report.players:
        parts, macro = player.played.environments, player.played.macro
        figures = [parts[name].headline if name in parts else None for name in environments]
        rows.append([player.name, *figures, macro.headline, *macro.headline_interval])
    return header, rows


def _known(numbers: Mapping[str, float | None]) -> Scalars:
    return {name: number for name, number in numbers.items() if number is not None}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
