from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.envs.maze.spec import SPEC, UNSEEN
from envpool.envs.maze.world import LAYOUTS, Maze, layout, walk
from envpool.errors import UnknownTask
from envpool.types import Split

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
SIDES = {"to your right": "right", "to your left": "left", "above you": "up", "below you": "down"}


def shared(name: str) -> object:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return json.loads(path.read_text("utf-8"))


def their_facts(text: str) -> tuple[str, str, set[str]]:
    """Goal, position and walls out of an observation of the predecessor."""
    found = re.search(r"goal is at position (\d+), (\d+)\. Your current position is at position (\d+), (\d+)\.", text)
    assert found
    walls = {ours for theirs, ours in SIDES.items() if theirs in text[found.end() :]}
    return ",".join(found.groups()[:2]), ",".join(found.groups()[2:]), walls


def our_facts(text: str) -> tuple[str, str, set[str]]:
    found = re.fullmatch(r"Maze \d+\. Goal (\d+,\d+)\. You are at (\d+,\d+)\. Walls: (.*)\.", text)
    assert found
    return found[1], found[2], set(found[3].split(", ")) - {"none"}


def play_expert(index: int) -> list[str]:
    """Returns the expert's actions up to the end, at most `max_turns` of them."""
    maze = Maze()
    maze.reset(index)
    assert SPEC.expert
    actions = []
    for _, action in SPEC.expert(maze):
        actions.append(action)
        step = maze.step(action)
        if step.done:
            assert SPEC.success(step.score)
            return actions
        assert len(actions) < SPEC.max_turns
    raise AssertionError("the expert gave up")


def sample(split: Split) -> Iterator[int]:
    yield from SPEC.tasks(split)[::97]


def test_the_original_starts_in_the_upper_left_corner_and_has_its_goal_at_8_6() -> None:
    assert Maze().reset(0) == "Maze 0. Goal 8,6. You are at 1,1. Walls: up, down, left."


def test_a_move_right_adds_a_column_and_a_move_down_adds_a_row() -> None:
    maze = Maze()
    maze.reset(1)
    assert maze.step("move right").observation == "Maze 0. Goal 8,6. You are at 1,3. Walls: up."
    assert maze.step("move down").observation == "Maze 0. Goal 8,6. You are at 2,3. Walls: left, right."


def test_a_wall_leaves_the_walker_in_place() -> None:
    maze = Maze()
    before = maze.reset(0)
    assert maze.step("move up").observation == before


def test_reaching_the_goal_ends_the_walk_with_score_1() -> None:
    maze = Maze()
    maze.reset(18)
    step = maze.step("move down")
    assert (step.observation, step.score, step.done) == ("Success.", 1.0, True)
    assert SPEC.success(step.score)
    assert maze.step("move up").done


def test_capital_letters_and_spaces_do_not_matter() -> None:
    maze = Maze()
    maze.reset(18)
    assert maze.step("  Move   DOWN ").done


@pytest.mark.parametrize("action", ["", "jump", "move", "right", "move right now", "move right left"])
def test_nonsense_is_answered_with_the_actions_and_moves_nobody(action: str) -> None:
    maze = Maze()
    before = maze.reset(3)
    step = maze.step(action)
    assert step.observation.startswith("Unknown action. Take one of: move up, move down, move left, move right.")
    assert step.observation.endswith(before)
    assert (step.score, step.done) == (0.0, False)


@given(st.lists(st.text() | st.sampled_from(["move up", "move down", "move left", "move right"]), max_size=8))
def test_no_text_raises(actions: list[str]) -> None:
    maze = Maze()
    maze.reset(26)
    for action in actions:
        step = maze.step(action)
        assert step.observation
        assert step.score == float(step.done)


@pytest.mark.parametrize("index", [-1, -40, 26 + LAYOUTS * 100_000, 26 + LAYOUTS * 206])
def test_an_index_without_a_task_is_refused_in_one_line(index: int) -> None:
    with pytest.raises(UnknownTask, match=rf"^maze has no task {index}: take .*$"):
        Maze().reset(index)


def test_every_original_task_but_the_last_is_an_eval_task_as_in_agenteval() -> None:
    assert list(SPEC.tasks(Split.EVAL)[:25]) == list(range(25))
    assert all(min(SPEC.tasks(split)) > 25 for split in (Split.TRAIN, Split.EXPLORE))
    assert 25 not in SPEC.tasks(Split.EVAL)


def test_no_two_tasks_of_all_splits_begin_alike() -> None:
    tasks = [index for split in Split for index in SPEC.tasks(split)]
    assert len(tasks) > 100_000
    assert len({(w.layout, w.start, w.goal) for w in map(walk, tasks)}) == len(tasks) == len(set(tasks))


def test_a_maze_divides_its_pairs_20_60_20_and_the_last_mazes_are_only_in_eval() -> None:
    counts = {split: [0] * (LAYOUTS + 1) for split in Split}
    for split in Split:
        for index in SPEC.tasks(split):
            counts[split][walk(index).layout] += 1
    for number in range(1, LAYOUTS + 1):
        train, explore, held_out = (counts[split][number] for split in (Split.TRAIN, Split.EXPLORE, Split.EVAL))
        pairs = train + explore + held_out
        if number in UNSEEN:
            assert (train, explore) == (0, 0)
            assert held_out > 100
        else:
            assert [train / pairs, explore / pairs, held_out / pairs] == pytest.approx([0.2, 0.6, 0.2], abs=0.02)


@pytest.mark.parametrize("number", range(1, LAYOUTS + 1))
def test_seeded_mazes_are_connected_two_way_and_have_more_than_one_way(number: int) -> None:
    maze = layout(number)
    assert 4 <= maze.size <= 9
    cells = maze.size**2
    assert len(maze.distances((1, 1))) == len(maze.exits) == cells
    back = {"up": "down", "down": "up", "left": "right", "right": "left"}
    assert all(maze.exits[there][back[d]] == here for here, exits in maze.exits.items() for d, there in exits.items())
    passages = sum(map(len, maze.exits.values())) // 2
    assert passages == cells - 1 + maze.size // 2  # a tree has cells - 1


def test_the_seeded_mazes_are_the_same_everywhere() -> None:
    assert Maze().reset(26) == "Maze 1. Goal 1,2. You are at 4,4. Walls: up, down, right."
    assert Maze().reset(26 + LAYOUTS * 7 + 5).startswith("Maze 6. ")


@pytest.mark.parametrize("split", list(Split))
def test_the_expert_takes_a_shortest_way_to_the_goal_in_every_task(split: Split) -> None:
    for index in sample(split):
        assert len(play_expert(index)) == SPEC.facts(index)["distance"]


def test_the_expert_solves_every_original_task() -> None:
    assert [len(play_expert(index)) for index in range(3)] == [12, 11, 10]
    assert max(len(play_expert(index)) for index in range(26)) == 12


def test_the_experts_thought_names_position_goal_and_direction() -> None:
    maze = Maze()
    maze.reset(19)
    assert SPEC.expert
    assert next(SPEC.expert(maze)) == ("From 5,7 to 8,6: left.", "move left")


def test_two_instances_say_the_same() -> None:
    one, other = Maze(), Maze()
    for index in sample(Split.TRAIN):
        assert one.reset(index) == other.reset(index)
        assert [one.step(a) for a in one.available_actions()] == [other.step(a) for a in other.available_actions()]


def test_facts_tell_maze_size_and_distance() -> None:
    assert SPEC.facts(0) == {"layout": 0, "size": 10, "distance": 12}
    assert SPEC.facts(26) == {"layout": 1, "size": 4, "distance": 7}
    drawn = SPEC.select("explore", 20, where={"layout": [2], "distance": [3, 4]})
    assert {SPEC.facts(task.index)["size"] for task in drawn} == {5}


def test_the_recorded_trajectories_reach_the_goal_and_say_the_same() -> None:
    records = shared("lmrlgym_maze_train_sample.json")
    assert isinstance(records, list)
    reached = 0
    for record in records:
        turns = record["conversations"][2:]
        maze = Maze()
        observation, step = maze.reset(int(record["item_id"].rsplit("_", 1)[1])), None
        for human, gpt in zip(turns[::2], turns[1::2], strict=True):
            theirs = human["value"].rsplit("environment state:", 1)[-1]
            assert our_facts(observation) == their_facts(theirs), record["item_id"]
            step = maze.step(gpt["value"].rsplit("Action:", 1)[1])
            observation = step.observation
        reached += step is not None and step.done and SPEC.success(step.score)
    assert reached / len(records) >= 0.95


def test_the_recorded_exchanges_with_the_original_server_say_the_same() -> None:
    samples = shared("agentgym_wire_samples.json")
    assert isinstance(samples, dict)
    maze, compared = Maze(), 0
    for exchange in samples["maze"]:
        theirs = exchange["response"].get("observation") if isinstance(exchange["response"], dict) else None
        if theirs is None or exchange["method"] != "POST":
            continue
        if exchange["path"] == "/reset":
            ours = maze.reset(exchange["json"]["game"])
        else:
            step = maze.step(exchange["json"]["action"])
            assert (step.score, step.done) == (exchange["response"]["reward"], exchange["response"]["done"])
            ours = step.observation[step.observation.index("Maze") :]
        assert our_facts(ours) == their_facts(theirs)
        compared += 1
    assert compared >= 4
