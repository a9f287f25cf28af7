"""What a policy's answers held: how many had no action, and why, from what trajectories record of them.

An answer without an action was corrected, and costs a turn. A policy whose answers never hold one scores 0 with full
coverage, whatever it can do: so the share, its reasons and the cure stand beside every score.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from agentgym.settings import FormatName, Prompt
from envpool import EnvSpec, Trajectory, Turn
from envpool.errors import MalformedAction
from envpool.formats import FORMATS, ActionFormat, format_for
from envpool.thoughts import ENDS, OPENS

MANY = 0.2
"""Above this share of answers without an action, a report says what was seen and the cure."""

MOST = 5
"""Corrections and causes of failures that are named; the rest are counted together."""

LONGEST = 200
"""Characters that are shown of a correction or of a cause."""


class Why(StrEnum):
    """Why an answer held no action."""

    EMPTY = "empty"  # nothing at all
    THOUGHTS = "thoughts"  # thoughts beside the text or in it, and nothing behind them
    CUT = "cut"  # ended at the length limit before an action, or perhaps within it
    SEVERAL = "several"  # more than one action
    OTHER_FORMAT = "other_format"  # an action that another answer format reads
    UNREADABLE = "unreadable"  # anything else


WORDS = {
    Why.EMPTY: "nothing at all",
    Why.THOUGHTS: "only thoughts",
    Why.CUT: "cut at the length limit",
    Why.SEVERAL: "more than one action",
    Why.OTHER_FORMAT: "another format",
    Why.UNREADABLE: "no readable action",
}
"""How a report names the reasons."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the answers of a policy held.

    Attributes:
        given: all answers, those of episodes that failed too.
        without_action: of these, those without a readable action, which were corrected.
        why: how many of them for which reason, by `Why`; the most frequent first.
        cut: answers that ended at a length limit, with or without an action.
        cut_with_action: of these, those that held an action all the same.
        corrections: how often the policy was corrected in which words; the most frequent first, at most `MOST`.
        format: the format that reads most of those in another format; None where there are none.
    """

    given: int = 0
    without_action: int = 0
    why: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    cut_with_action: int = 0
    corrections: Mapping[str, int] = field(default_factory=dict)
    format: str | None = None

    @property
    def share(self) -> float | None:
        """The share of answers without an action; None if there was no answer."""
        return self.without_action / self.given if self.given else None

    @property
    def cut_share(self) -> float | None:
        """The share of answers that were cut; None if there was no answer."""
        return self.cut / self.given if self.given else None

    @property
    def main(self) -> Why | None:
        """The most frequent reason; None if every answer held an action."""
        return Why(next(iter(self.why))) if self.why else None

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return asdict(self)


def answers_of(trajectories: Iterable[Trajectory], specs: Mapping[str, EnvSpec]) -> Answers:
    """Sums up what the answers in these episodes held.

    Args:
        trajectories: the episodes.
        specs: the cards of their environments.
    """
    formats: dict[str, dict[str, ActionFormat]] = {}
    why, corrections, other = Counter[str](), Counter[str](), Counter[str]()
    given = cut = cut_with_action = 0
    for trajectory in trajectories:
        for turn in trajectory.turns:
            given += 1
            cut += turn.completion.cut
            cut_with_action += turn.completion.cut and turn.action is not None
            if turn.action is not None:
                continue
            name = trajectory.task.environment
            if name not in formats:
                formats[name] = {each: format_for(each, specs[name]) for each in FORMATS}
            reason, read_by = why_none(turn, formats[name])
            why[str(reason)] += 1
            corrections[turn.observation] += 1
            other.update([read_by] if read_by else [])
    return Answers(
        given=given,
        without_action=why.total(),
        why=dict(ranked(why)),
        cut=cut,
        cut_with_action=cut_with_action,
        corrections=alike(corrections),
        format=next(iter(dict(ranked(other))), None),
    )


_SEVERAL = re.compile(r"^Give (exactly )?one\b", re.IGNORECASE)
"""How the corrections of all formats begin that find more than one action."""


def why_none(turn: Turn, formats: Mapping[str, ActionFormat]) -> tuple[Why, str | None]:
    """Says why the answer of a turn held no action.

    Args:
        turn: one whose `action` is None.
        formats: all formats of its environment, by name.

    Returns:
        The reason, and the name of the other format that reads the answer, if there is one.
    """
    answer = turn.completion
    spoken = without_thoughts(answer.text)
    if not spoken:
        if answer.text.strip() or answer.reasoning.strip():
            return Why.THOUGHTS, None
        return (Why.CUT if answer.cut else Why.EMPTY), None
    if _SEVERAL.search(turn.observation):
        return Why.SEVERAL, None
    if answer.cut:
        return Why.CUT, None
    read_by = next((name for name, each in formats.items() if _reads(each, spoken)), None)
    if read_by:
        return Why.OTHER_FORMAT, read_by
    return Why.UNREADABLE, None


def without_thoughts(text: str) -> str:
    """What stands behind the private thoughts in an answer; thoughts that do not end have nothing behind them."""
    rest = text[max((end.end() for end in ENDS.finditer(text)), default=0) :]
    opened = OPENS.search(rest)
    return (rest if opened is None else rest[: opened.start()]).strip()


def _reads(format: ActionFormat, text: str) -> bool:
    try:
        format.parse(text)
    except MalformedAction:
        return False
    return True


def alike(texts: Mapping[str, int]) -> dict[str, int]:
    """Counts texts that differ in their numbers only together, under one of them; the most frequent first.

    Returns:
        At most `MOST` texts in one line each, and how many others there are, if any.
    """
    counts, shown = Counter[str](), dict[str, str]()
    for text, count in texts.items():
        line = " ".join(text.split())
        key = re.sub(r"\d+", "0", line)
        counts[key] += count
        shown[key] = min(shown.get(key, line), line)  # whatever the order
    first, rest = ranked(counts)[:MOST], ranked(counts)[MOST:]
    found = Counter[str]()
    for key, count in first:
        text = shown[key]
        found[text if len(text) <= LONGEST else f"{text[:LONGEST]} …"] += count
    others = sum(count for _, count in rest)
    return {**found, **({"others": others} if others else {})}


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sorts by count, the most frequent first, then by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def per_cent(share: float | None) -> str:
    """Writes a share, as in ``61 %`` or ``0.3 %``; a question mark if it is not known."""
    if share is None:
        return "?"
    return f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"


def reasons(answers: Answers, most: int = 2) -> str:
    """The most frequent reasons with their shares of all answers, as in ``58 % only thoughts, 3 % another format``."""
    return ", ".join(
        f"{per_cent(count / answers.given)} {WORDS[Why(why)]}" for why, count in list(answers.why.items())[:most]
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about the cure: how a policy is asked.

    Attributes:
        served: whether a server renders its conversations.
        learned: whether it has learned here how answers are written.
        own: whether it is asked as it was taught, which goes before what the recipe says.
        full: whether its prompt holds all of an environment's instructions.
        native: whether tools are offered to it as data.
    """

    served: bool = False
    learned: bool = False
    own: bool = False
    full: bool = False
    native: bool = False

    def setting(self, text: str) -> str:
        """A setting that changes how it is asked, with what else that takes."""
        return f"{text} together with eval.manner=recipe" if self.own else text

    @classmethod
    def by(cls, recipe: Mapping[str, Any]) -> Asked:
        """As a resolved recipe says."""
        endpoint = recipe.get("model", {}).get("endpoint")
        return cls(
            served=bool(endpoint) and not endpoint.get("tokens"),
            full=recipe.get("prompt") == Prompt.full,
            native=recipe.get("format") == FormatName.native,
        )


HERE = Asked()
"""A model in this process."""

LEARNED = Asked(learned=True)
"""The model of a training run."""


def warnings(named: Mapping[str, Answers], asked: Asked = HERE) -> list[str]:
    """Says of which policies many answers held no action or were cut, with the cure; one line a reason.

    Args:
        named: what the answers of each policy held, by how it is called.
        asked: how they were asked.
    """
    groups: dict[tuple[Why, str | None], dict[str, Answers]] = {}
    for name, answers in named.items():
        main = answers.main
        if main is not None and (answers.share or 0) > MANY:
            groups.setdefault((main, answers.format if main == Why.OTHER_FORMAT else None), {})[name] = answers
    said = [
        f"{_spread([a.share for a in found.values()])} of the answers of {_listed(found)} held no action "
        f"({_seen(found)}): {_cure(main, form, asked)}"
        for (main, form), found in groups.items()
    ]
    told = {name for (main, _), found in groups.items() if main in (Why.CUT, Why.THOUGHTS) for name in found}
    cut = {name: a for name, a in named.items() if (a.cut_share or 0) > MANY and name not in told}
    if cut:
        said.append(
            f"{_spread([a.cut_share for a in cut.values()])} of the answers of {_listed(cut)} were cut at the length "
            f"limit: {asked.setting('raise generation.max_tokens')}"
        )
    return said


def _spread(shares: Iterable[float | None]) -> str:
    known = sorted(share for share in shares if share is not None)
    low, high = per_cent(known[0]), per_cent(known[-1])
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _seen(found: Mapping[str, Answers]) -> str:
    """The reasons of one policy, or the main one of several."""
    first = next(iter(found.values()))
    assert first.main is not None
    return reasons(first) if len(found) == 1 else f"mostly {WORDS[first.main]}"


def _cure(why: Why, format: str | None, asked: Asked) -> str:
    match why:
        case Why.THOUGHTS:
            option = "model.endpoint.options={chat_template_kwargs: {enable_thinking: false}}"
            off = option if asked.served else "model.template_options={enable_thinking: false}"
            longer = asked.setting("raise generation.max_tokens")
            return f"{longer}, or switch thinking off where the template knows how: {off}"
        case Why.CUT:
            return asked.setting("raise generation.max_tokens")
        case Why.SEVERAL if asked.served:
            return (
                'let the server stop before the second one, as by model.endpoint.stop=["Observation:"], or allow one '
                "call of a tool at a time in model.endpoint.options"
            )
        case Why.SEVERAL:
            return f"it does not end after the first one: {_lesson(asked)}"
        case Why.OTHER_FORMAT:
            return asked.setting(f"set format={format}")
        case Why.EMPTY if asked.served:
            return "ask the server by hand what it answers; model.endpoint.options changes what it is asked"
        case Why.EMPTY:
            return "it ends at once: teach it for longer (bc.steps), or check its chat template and stop tokens"
    return f"read some with `agentgym traj show`; {_lesson(asked)}"


def _lesson(asked: Asked) -> str:
    """How a policy comes to know how answers are written; a model behind a server cannot be taught."""
    if asked.learned:
        return "teach it for longer (bc.steps) or by more expert episodes"
    if asked.served:
        other = "react" if asked.native else "function_calling"
        return f"set another format, as in format={other}" if asked.full else "set prompt=full"
    return "teach it by expert episodes first" + ("" if asked.full else ", or set prompt=full")
