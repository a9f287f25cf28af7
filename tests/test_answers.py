"""Why answers held no action, how episodes ended, and what a report says of both."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import NothingFinished
from agentgym.evaluation import measure
from agentgym.evaluation.answers import (
    MOST,
    Answers,
    Asked,
    Why,
    alike,
    answers_of,
    per_cent,
    warnings,
    without_thoughts,
)
from agentgym.evaluation.ends import check_any_finished, ends_of
from agentgym.evaluation.why import Told, looked_at, why_lines, why_markdown
from envpool import Completion, EnvPool, StopReason, Task, Trajectory, Turn, collect, get_spec
from envpool.errors import MalformedAction
from envpool.formats import FORMATS, format_for

SPECS = {name: get_spec(name) for name in ("maze", "sciworld", "babyai")}
CALL = '{"name": "move", "arguments": {"direction": "up"}}'
ACT = "Thought:\nUp.\n\nAction:\nmove up"


def answered(completion: Completion, format: str = "react") -> Turn:
    """The turn that the pool makes of an answer in the maze."""
    try:
        action = format_for(format, SPECS["maze"]).parse(completion.text).action
    except MalformedAction as malformed:
        return Turn(completion, None, str(malformed), 0.0)
    return Turn(completion, action, "You moved.", 0.0)


def episode(*turns: Turn, index: int = 0, stop: StopReason = StopReason.MAX_TURNS, error: str | None = None, **more):
    score = more.pop("score", 0.0 if stop.by_itself else None)
    success = None if score is None else score == 1
    return Trajectory(Task("maze", index), 0, "m", "", "", turns, stop, score, success, error=error, **more)


SEEN: dict[str, tuple[Completion, str, Why, str | None]] = {
    "nothing": (Completion(""), "react", Why.EMPTY, None),
    "blanks": (Completion(" \n"), "function_calling", Why.EMPTY, None),
    "thoughts beside no text": (Completion("", reasoning="hm"), "react", Why.THOUGHTS, None),
    "thoughts beside no text, cut": (Completion("", reasoning="hm", cut=True), "react", Why.THOUGHTS, None),
    "thoughts in the text": (Completion("<think>hm</think>\n\n"), "react", Why.THOUGHTS, None),
    "thoughts that never end": (Completion("<think>I will go up, or", cut=True), "react", Why.THOUGHTS, None),
    "thoughts that the template began": (Completion("hm hm</think>\n"), "function_calling", Why.THOUGHTS, None),
    "thoughts with another tag": (Completion("[THINK]hm[/THINK]"), "function_calling", Why.THOUGHTS, None),
    "nothing, cut": (Completion("", cut=True), "react", Why.CUT, None),
    "half an answer": (Completion("Thought:\nI will go to the", cut=True), "react", Why.CUT, None),
    "half a call": (Completion('{"name": "move", "argum', cut=True), "function_calling", Why.CUT, None),
    "two actions": (Completion(f"{ACT}\n\nObservation: ...\n\n{ACT}"), "react", Why.SEVERAL, None),
    "two actions, cut": (Completion(f"{ACT}\n\n{ACT}\n\nObs", cut=True), "react", Why.SEVERAL, None),
    "two calls": (Completion(f"{CALL}\n{CALL}"), "function_calling", Why.SEVERAL, None),
    "a call where a line was wanted": (Completion(CALL), "react", Why.OTHER_FORMAT, "function_calling"),
    "a line where a call was wanted": (Completion(ACT), "function_calling", Why.OTHER_FORMAT, "react"),
    "prose": (Completion("I would rather go north."), "react", Why.UNREADABLE, None),
    "an unknown tool": (Completion('{"name": "fly", "arguments": {}}'), "function_calling", Why.UNREADABLE, None),
}


@pytest.mark.parametrize("case", SEEN)
def test_an_answer_without_an_action_is_sorted_by_what_it_held(case: str) -> None:
    completion, format, why, read_by = SEEN[case]
    turn = answered(completion, format)
    assert turn.action is None
    found = answers_of([episode(turn)], SPECS)
    assert (found.given, found.without_action, dict(found.why), found.format) == (1, 1, {str(why): 1}, read_by)
    assert (found.cut, found.cut_with_action) == (completion.cut, 0)
    assert dict(found.corrections) == {turn.observation: 1}


def test_an_answer_that_was_cut_behind_its_action_is_counted_apart() -> None:
    found = answers_of([episode(answered(Completion(ACT, cut=True)), answered(Completion(ACT)))], SPECS)
    assert (found.given, found.without_action, found.cut, found.cut_with_action) == (2, 0, 1, 1)
    assert found.main is None
    assert why_lines({"m": Told(found, ends_of([]))}) == [
        "50 % of all answers were cut at the length limit (1, of which 1 held an action all the same)."
    ]


@pytest.mark.parametrize("name", ["think", "thinking", "Thought", "reasoning", "seed:think"])
def test_thoughts_are_taken_off_whatever_their_tag(name: str) -> None:
    assert without_thoughts(f"<{name}>Action: a</{name}> b ") == "b"
    assert without_thoughts(f"a</{name}>b") == "b"
    assert without_thoughts(f"a <{name}>b") == "a"


@given(st.text(), st.text(), st.booleans(), st.sampled_from(list(FORMATS)))
def test_every_answer_without_an_action_has_one_reason(text: str, reasoning: str, cut: bool, format: str) -> None:
    turn = answered(Completion(text, reasoning=reasoning, cut=cut), format)
    found = answers_of([episode(turn)], SPECS)
    assert found.without_action == (turn.action is None) == sum(found.why.values())
    assert set(found.why) <= set(Why)
    assert found.cut == cut


def many(why: Why, share: float, **more) -> Answers:
    count = round(100 * share)
    return Answers(given=100, without_action=count, why={str(why): count}, **more)


CURES: dict[str, tuple[Answers, bool, str]] = {
    "thoughts": (
        many(Why.THOUGHTS, 0.61),
        False,
        "61 % of the answers of X held no action (61 % only thoughts): raise generation.max_tokens, or switch thinking "
        "off where the template knows how: model.template_options={enable_thinking: false}",
    ),
    "thoughts of a server": (many(Why.THOUGHTS, 0.61), True, "{chat_template_kwargs: {enable_thinking: false}}"),
    "cut": (many(Why.CUT, 0.3, cut=30), False, "(30 % cut at the length limit): raise generation.max_tokens"),
    "several": (many(Why.SEVERAL, 1), True, 'model.endpoint.stop=["Observation:"]'),
    "several here": (many(Why.SEVERAL, 1), False, "expert episodes"),
    "format": (many(Why.OTHER_FORMAT, 0.5, format="function_calling"), False, "set format=function_calling"),
    "empty": (many(Why.EMPTY, 0.5), True, "ask the server by hand"),
    "empty here": (many(Why.EMPTY, 0.5), False, "check its chat template"),
    "unreadable": (many(Why.UNREADABLE, 0.5), False, "agentgym traj show"),
}


@pytest.mark.parametrize("case", CURES)
def test_many_answers_without_an_action_are_one_line_with_the_cure(case: str) -> None:
    answers, served, cure = CURES[case]
    (line,) = warnings({"X": answers}, Asked(served))
    assert cure in line
    assert line.startswith(f"{per_cent(answers.share)} of the answers of X held no action (")
    assert "\n" not in line


HELPS: dict[str, tuple[Why, Asked, str]] = {
    "here": (Why.SEVERAL, Asked(), "teach it by expert episodes first, or set prompt=full"),
    "here, full": (Why.UNREADABLE, Asked(full=True), "teach it by expert episodes first"),
    "taught": (Why.SEVERAL, Asked(learned=True), "teach it for longer (bc.steps) or by more expert episodes"),
    "taught, own": (
        Why.CUT,
        Asked(learned=True, own=True),
        "raise generation.max_tokens together with eval.manner=recipe",
    ),
    "a server": (Why.UNREADABLE, Asked(served=True), "set prompt=full"),
    "a server, full": (
        Why.UNREADABLE,
        Asked(served=True, full=True),
        "set another format, as in format=function_calling",
    ),
    "a server, native": (
        Why.UNREADABLE,
        Asked(served=True, full=True, native=True),
        "set another format, as in format=react",
    ),
    "a server's tools": (Why.SEVERAL, Asked(served=True), "one call of a tool at a time in model.endpoint.options"),
}
"""What helps whom: nobody is told to set what is set, what is passed over, or to teach what cannot learn."""


@pytest.mark.parametrize("case", HELPS)
def test_the_cure_is_one_that_helps(case: str) -> None:
    why, asked, cure = HELPS[case]
    (line,) = warnings({"X": many(why, 0.5)}, asked)
    assert line.endswith(cure)


def test_a_fifth_is_not_many_and_policies_alike_share_a_line() -> None:
    assert warnings({"X": many(Why.CUT, 0.2)}) == []
    (line,) = warnings({"a": many(Why.CUT, 0.3), "b": many(Why.CUT, 0.9), "c": many(Why.CUT, 0.1)})
    assert line.startswith("30 to 90 % of the answers of a and b held no action (mostly cut at the length limit): ")


def test_many_answers_that_were_cut_are_told_though_they_held_actions() -> None:
    (line,) = warnings({"X": Answers(given=10, cut=3, cut_with_action=3)})
    assert line == "30 % of the answers of X were cut at the length limit: raise generation.max_tokens"


def test_how_a_policy_is_asked_is_read_from_the_recipe() -> None:
    for endpoint, served in (
        (None, False),
        ({"url": "x", "tokens": False}, True),
        ({"url": "x", "tokens": True}, False),
    ):
        assert Asked.by({"model": {"name": "m", "endpoint": endpoint}}).served is served
    assert Asked.by({}).served is False
    assert [Asked.by({"prompt": prompt}).full for prompt in ("full", "brief")] == [True, False]


def test_texts_that_differ_in_numbers_count_together_and_few_are_named() -> None:
    texts = {f"turn {n}: answered 500": 1 for n in range(9)} | dict.fromkeys("abcdefg", 2)
    found = alike(texts)
    assert next(iter(found.items())) == ("turn 0: answered 500", 9)
    assert len(found) == MOST + 1
    assert found["others"] == 2 * 3
    assert sum(found.values()) == sum(texts.values())
    assert alike(dict(reversed(texts.items()))) == found
    assert all(len(text) < 300 and "\n" not in text for text in alike({"x" * 9_999: 1, "a\nb": 1}))


def test_episodes_are_counted_by_how_they_ended_and_failures_by_their_cause() -> None:
    played = [
        episode(score=1.0, stop=StopReason.DONE),
        episode(stop=StopReason.DONE),
        *[episode(index=n) for n in range(3)],
        *[episode(index=n, stop=StopReason.ERROR, error=f"turn {n}: answered 500") for n in range(4)],
        episode(stop=StopReason.TIMEOUT, error="took more than 60 s"),
        episode(stop=StopReason.CANCELLED),
    ]
    ends = ends_of(played)
    assert (ends.solved, ends.finished) == (1, 5)
    assert dict(ends.unsolved) == {"max_turns": 3, "done": 1}
    assert dict(ends.errored) == {"error": 4, "cancelled": 1, "timeout": 1}
    assert dict(ends.causes) == {"turn 0: answered 500": 4, "took more than 60 s": 1}
    assert ends_of(random.Random(1).sample(played, len(played))) == ends
    (_, failures) = why_lines({"me": Told(Answers(), ends)})
    assert failures == "Failures in me: 4x turn 0: answered 500; 1x took more than 60 s"
    table = why_markdown("player", {"me": Told(Answers(), ends)})
    assert "| me | 1 | 1 | 3 | 1 | 4 | 1 |" in "\n".join(table)


def test_a_phase_in_which_nothing_finished_is_refused_with_causes_and_counts() -> None:
    down = [episode(index=n, stop=StopReason.ERROR, error=f"open: no server answers (try {n})") for n in range(12)]
    late = episode(stop=StopReason.TIMEOUT, error="took more than 60 s")
    check_any_finished({"x": ends_of([])})
    check_any_finished({"x": ends_of(down), "y": ends_of([episode()])})
    with pytest.raises(NothingFinished) as refused:
        check_any_finished({"x": ends_of([*down, late]), "y": ends_of([late])})
    first, second = str(refused.value).splitlines()
    assert first.startswith(
        "x: none of 13 episodes finished (12x open: no server answers (try 0); 1x took more than 60 s)"
    )
    assert second.startswith("y: none of 1 episodes finished")
    with pytest.raises(NothingFinished, match=r"none of 1 episodes finished \(1 by cancelled\)"):
        check_any_finished({"x": ends_of([episode(stop=StopReason.CANCELLED)])})


ODD = [10**400, -(10**400), float("inf"), float("-inf"), float("nan"), 1e300, 1.7e308]


@pytest.mark.parametrize("score", ODD, ids=str)
def test_a_score_that_is_no_number_counts_as_a_failure_and_crashes_nothing(score: float) -> None:
    odd = replace(episode(index=1, stop=StopReason.DONE), score=score, success=True)
    found = measure([odd, episode(index=0)], SPECS)
    figures = found.environments["maze"]
    assert (figures.tasks, figures.errored, figures.score) == (2, 1, 0.0)
    assert found.ends.finished == 1


def test_the_answers_of_an_environment_are_told_apart_from_those_of_others() -> None:
    silent = replace(episode(answered(Completion(""))), task=Task("sciworld", 0))
    found = measure([silent, episode(answered(Completion(ACT)))], SPECS)
    assert found.environments["sciworld"].answers.share == 1
    assert found.environments["maze"].answers.share == 0
    assert (found.answers.given, found.answers.share) == (2, 0.5)


def test_one_environment_in_which_a_policy_never_acts_is_named() -> None:
    fine = [episode(*[answered(Completion(ACT))] * 9, index=n) for n in range(9)]
    silent = replace(episode(answered(Completion(""))), task=Task("sciworld", 0))
    (line,) = warnings(looked_at("X", measure([*fine, silent], SPECS)))
    assert line.startswith("100 % of the answers of X in sciworld held no action (100 % nothing at all): ")
    assert warnings(looked_at("X", measure(fine, SPECS))) == []
    (line,) = warnings(looked_at("X", measure([silent, replace(silent, task=Task("maze", 0))], SPECS)))
    assert line.startswith("100 % of the answers of X held no action")


def test_a_policy_that_never_acts_is_seen_in_a_real_pool() -> None:
    async def silent(conversation) -> str:
        return "<think>Where am I?</think>"

    played = collect(EnvPool(), [Task("maze", n) for n in range(3)], silent)
    found = measure(played, SPECS)
    assert (found.macro.success, found.finished) == (0, 3)
    assert (found.answers.share, found.answers.main) == (1, Why.THOUGHTS)
