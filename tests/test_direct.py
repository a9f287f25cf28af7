"""Commands that ask an environment themselves, without a pool: one of asyncio that takes calls."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from agentgym.catalogue import show_environment
from agentgym.data.instructions import instructions
from agentgym.panel import make_panel
from agentgym.panelcheck import verify
from envpool import Call, EnvSpec, Split, Step, Task, register, tool
from envpool.__main__ import main
from envpool.calls import Toolbox
from envpool.direct import directly
from envpool.errors import EnvironmentFailed
from envpool.tools import tools_of


class Counter:
    """Counts up to the number of its task."""

    async def reset(self, index: int) -> str:
        if index == 5:
            raise OSError("no pen")
        self.left = index % 3 + 1
        return f"Count {self.left} of {index}."

    @tool
    async def count(self, by: int = 1) -> Step:
        """counts"""
        self.left -= by
        return Step(f"{self.left} left.", float(self.left == 0), self.left <= 0)

    async def step(self, action: Call) -> Step:
        return await BOX.run(action, self)

    async def available_actions(self) -> list[str]:
        return ["count with Action Input: {}"]

    async def close(self) -> None:
        self.closed = True


BOX = Toolbox(tools_of(Counter), calls=True)


def expert(counter: Counter) -> Iterator[tuple[str, Call]]:
    while True:
        yield "On.", Call("count", {})


@pytest.fixture
def spec() -> Iterator[EnvSpec]:
    import envpool.registry

    card = EnvSpec(
        name="counter",
        version="1",
        summary="count",
        instructions="Count.",
        brief="Count.",
        make=Counter,
        tasks=lambda split: range(list(Split).index(split), 30, 3),
        max_turns=4,
        success_above=0.5,
        expert=expert,
        tools=tools_of(Counter),
        takes_calls=True,
    )
    register(card)
    yield card
    envpool.registry._registered.pop("counter")


def test_instructions_panels_and_the_catalogue_know_an_environment_of_asyncio(spec, capsys):
    assert instructions(spec, [3, 4]) == {3: "Count 1 of 3", 4: "Count 2 of 4"}
    panel = make_panel("p", [Task("counter", 2), Task("counter", 8)])
    assert [golden.score for golden in panel.environments["counter"].goldens] == [1.0, 1.0]
    assert verify(panel, lambda: None).differences == []
    show_environment("counter")
    shown = capsys.readouterr().out
    assert "count(by: int = 1): counts" in shown
    assert "count with Action Input: {...}\n" in shown
    assert "Count 1 of 0." in shown


def test_an_environment_called_directly_is_closed_and_what_it_raises_is_one_line(spec):
    with directly(spec) as live:
        live.call("reset", 3)
        assert live.call("step", 'count with Action Input: {"by": 1}').done
    assert live.environment.closed
    with (
        pytest.raises(EnvironmentFailed, match="counter: reset: OSError: no pen: look with `envpool check counter`"),
        directly(spec) as live,
    ):
        live.call("reset", 5)
    assert live.environment.closed


def test_who_plays_by_hand_is_told_how_calls_are_written(spec, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("count with Action Input: {}\n"))
    assert main(["play", "counter", "3"]) == 0
    shown = capsys.readouterr().out
    assert "count with Action Input: {...}\n  count(by: int = 1): counts\n" in shown
    assert "Thought:" not in shown  # lines that are typed have none
    assert "success True" in shown
