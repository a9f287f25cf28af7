from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, NotRequired

import pytest
from known import EMBEDDED, SERVED
from pydantic import Field
from test_pool import Counting, card, play
from typing_extensions import TypedDict

import envpool
from envpool import Episode, RandomPolicy, StopReason, Task, get_spec, run_sync, tool
from envpool.calls import Toolbox
from envpool.formats import FORMATS, REACT


class Echo(Counting):
    """Names a thing and two numbers, and never ends."""

    def reset(self, index: int) -> str:
        self.index = index
        return f'You see: a "brass lamp {index}", 40 of 70 coins. Version 3.5, item7.'

    def step(self, action: str) -> envpool.Step:
        return envpool.Step("A tin whistle.", 0.0, False)


@tool("wait")
def wait() -> None: ...


@tool("take {number} of {thing}")
def take(number: int, thing: str) -> None: ...


class Deal(TypedDict):
    price: float
    paid: bool
    note: NotRequired[str]


@tool("ask with {**}")
def ask(
    question: str,
    price: float,
    names: list[str] = ...,
    deal: Deal | None = ...,
    way: Literal["cash", "card"] = ...,
    tip: Annotated[int, Field(le=40)] = ...,
) -> None: ...


ECHO = card(
    "echo", make=Echo, expert=None, max_turns=400, brief="Trade.", instructions="Trade.", tools=(wait, take, ask)
)


def test_every_kind_of_action_is_drawn_and_its_arguments_are_what_the_conversation_showed():
    (played,) = play([Task("echo", 4)], RandomPolicy(0), prompts={"echo": "Trade."})
    assert played.stop is StopReason.MAX_TURNS, played.error
    calls = [Toolbox(ECHO.tools).call(turn.action) for turn in played.turns]
    kinds = Counter(call.tool for call in calls)
    assert set(kinds) == {"wait", "take", "ask"}
    assert min(kinds.values()) > 400 / 3 - 55  # five standard deviations
    words = set(re.findall(r"\w+", f"{played.prompt} {played.observation} A tin whistle."))
    asked = [call.arguments for call in calls if call.tool == "ask"]
    texts, numbers = [], []
    for call in calls:
        texts += [call.arguments[name] for name in ("thing", "question") if name in call.arguments]
        texts += call.arguments.get("names", [])
        numbers += [call.arguments[name] for name in ("number", "price", "tip") if name in call.arguments]
    assert set(numbers) == {4, 40, 70}
    for phrase in texts:
        assert set(re.findall(r"\w+", phrase)) <= words, phrase
        assert 1 <= len(phrase.split()) <= 4
    assert {"brass lamp 4", "A tin whistle"} <= {call.arguments["thing"] for call in calls if call.tool == "take"}
    for optional in ("names", "deal", "way", "tip"):
        assert {optional in arguments for arguments in asked} == {True, False}
    assert {arguments["way"] for arguments in asked if "way" in arguments} == {"cash", "card"}
    assert {arguments["tip"] for arguments in asked if "tip" in arguments} == {4, 40}  # 70 is more than it may be
    deals = [arguments["deal"] for arguments in asked if "deal" in arguments]
    assert None in deals
    for key, values in (("paid", {True, False}), ("price", {4, 40, 70})):
        assert {deal[key] for deal in deals if deal} == values
    assert {"note" in deal for deal in deals if deal} == {True, False}


def test_another_seed_task_or_sample_is_another_player_and_the_same_is_the_same():
    def actions(seed, index, sample):
        played = play([Task("echo", index)], RandomPolicy(seed), samples=sample + 1)
        (found,) = [t for t in played if t.sample == sample]
        return tuple(turn.action for turn in found.turns)

    assert actions(0, 1, 0) == actions(0, 1, 0)
    assert len({actions(0, 1, 0), actions(1, 1, 0), actions(0, 1, 1), actions(0, 2, 0)}) == 4


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("name", EMBEDDED)
def test_every_environment_is_played_in_every_format_and_understands_the_form(name, format_name):
    tasks = get_spec(name).select("eval", 20)
    played = play(tasks, RandomPolicy(0), format=format_name)
    assert {t.stop for t in played} <= {StopReason.MAX_TURNS, StopReason.DONE}, [t.error for t in played if t.error]
    assert all(turn.action is not None for t in played for turn in t.turns)


def test_it_is_a_floor_while_knowing_what_is_possible_is_none():
    tasks = get_spec("textcraft").select("eval", 60)
    told, blind = (
        sum(bool(t.success) for t in play(tasks, RandomPolicy(0, available=available))) for available in (True, False)
    )
    assert blind == 0
    assert told > 10


@pytest.mark.parametrize("name", [*EMBEDDED, *SERVED])
def test_the_tools_of_every_environment_can_be_drawn(name):
    """Also of those whose server is not here: the actor needs the card and the conversation only."""
    spec = get_spec(name)

    async def draw():
        episode = Episode(Task(name, 0), 0, spec, REACT, None)
        async with RandomPolicy(1).actor(episode) as actor:
            return [REACT.parse((await actor.act(text)).text).action for text in ["", "Room 5."] * 60]

    assert all(run_sync(draw))
