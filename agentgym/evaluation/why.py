"""Why tasks were not solved, in words and tables: how episodes ended, and which answers held no action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentgym.evaluation.answers import WORDS, Answers, Why, alike, per_cent, warnings
from agentgym.evaluation.ends import WORDS as STOPS
from agentgym.evaluation.ends import Ends, counted
from agentgym.evaluation.players import Played
from agentgym.evaluation.tables import markdown_table


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says of one policy: of a measurement or of an exploration."""

    answers: Answers
    ends: Ends


def looked_at(name: str, played: Played) -> dict[str, Answers]:
    """What `warnings` looks at: the answers of a policy and, where these are fine, those in each environment.

    Args:
        name: of the policy.
        played: its figures.
    """
    if warnings({name: played.answers}) or len(played.environments) < 2:
        return {name: played.answers}
    return {f"{name} in {environment}": part.answers for environment, part in played.environments.items()}


def why_lines(rows: Mapping[str, Told]) -> list[str]:
    """Says in a few lines why tasks were not solved; nothing where all were.

    Args:
        rows: by the name of what was played.
    """
    said = []
    ends = [f"{name}: {told.ends}" for name, told in rows.items() if str(told.ends)]
    if ends:
        said.append(f"Episodes that were not solved: {'; '.join(ends)}.")
    answers = {name: told.answers for name, told in rows.items() if told.answers.given}
    given = sum(a.given for a in answers.values())
    if any(a.without_action for a in answers.values()):
        shares = "; ".join(f"{name}: {_of(a)}" for name, a in answers.items())
        said.append(f"Answers without an action: {shares}.")
    corrections = Counter[str]()
    for each in answers.values():
        corrections.update(each.corrections)
    if corrections:
        said.append(f"Corrections: {counted(dict(list(alike(corrections).items())[:_FEW]))}")
    cut = sum(a.cut for a in answers.values())
    if cut:
        acted = sum(a.cut_with_action for a in answers.values())
        said.append(
            f"{per_cent(cut / given)} of all answers were cut at the length limit ({cut:,}, of which {acted:,} held an "
            "action all the same)."
        )
    said += [f"Failures in {name}: {counted(told.ends.causes)}" for name, told in rows.items() if told.ends.causes]
    return said


_FEW = 2
"""Corrections that the terminal shows; report.md and the page have more."""


def _of(answers: Answers) -> str:
    """As in ``3.1 % (only thoughts)``."""
    main = f" ({WORDS[answers.main]})" if answers.main is not None else ""
    return f"{per_cent(answers.share)}{main}"


def why_markdown(first: str, rows: Mapping[str, Told]) -> list[str]:
    """The same as parts of report.md, in full.

    Args:
        first: what the rows are called.
        rows: by the name of what was played.
    """
    parts = ["## Why tasks were not solved", "Episodes by how they ended.", _ends_table(first, rows)]
    answers = {name: told.answers for name, told in rows.items()}
    parts += [
        "Answers of the policy, and how many of them held no action, by what they held instead. An answer that was cut "
        "at the length limit may hold an action all the same.",
        _answers_table(first, answers),
    ]
    texts = [
        [name, kind, f"{count:,}", text]
        for name, told in rows.items()
        for kind, found in (("correction", told.answers.corrections), ("failure", told.ends.causes))
        for text, count in found.items()
    ]
    if texts:
        parts.append(markdown_table([first, "what", "times", "text"], texts))
    return parts


def _ends_table(first: str, rows: Mapping[str, Told]) -> str:
    stops = [stop for stop in STOPS if any(stop in {**t.ends.unsolved, **t.ends.errored} for t in rows.values())]
    lines = []
    for name, told in rows.items():
        counts = {**told.ends.unsolved, **told.ends.errored}
        lines.append([name, f"{told.ends.solved:,}", *(f"{counts.get(stop, 0):,}" for stop in stops)])
    return markdown_table([first, "solved", *(STOPS[stop] for stop in stops)], lines)


def _answers_table(first: str, rows: Mapping[str, Answers]) -> str:
    kinds: Sequence[Why] = [why for why in Why if any(why in answers.why for answers in rows.values())]
    lines = [
        [
            name,
            f"{answers.given:,}",
            per_cent(answers.share),
            *(f"{answers.why.get(why, 0):,}" for why in kinds),
            f"{answers.cut:,}",
            f"{answers.cut_with_action:,}",
        ]
        for name, answers in rows.items()
    ]
    header = [first, "answers", "no action", *(WORDS[why] for why in kinds), "cut", "cut, with an action"]
    return markdown_table(header, lines)
