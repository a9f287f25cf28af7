from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("minigrid")

from envpool.envs.babyai.spec import SPEC
from envpool.envs.babyai.view import Move, Thing
from envpool.envs.babyai.world import LEVELS, BabyAI, facts
from envpool.errors import EnvPoolError, MissingExtra, UnknownTask
from envpool.types import Split, Step

SAMPLE = Path(__file__).parents[1].parent / "shared" / "data" / "babyai_train_sample.json"


def index_of(level: int, seed: int) -> int:
    return seed * len(LEVELS) + level - 1


def opened(level: int, seed: int) -> tuple[BabyAI, str]:
    env = BabyAI()
    return env, env.reset(index_of(level, seed))


def play_expert(index: int) -> tuple[Step, int, list[tuple[str, str]]]:
    """Lets the expert play; returns the last step, the number of steps in the world, and what the expert said."""
    assert SPEC.expert is not None
    env = BabyAI()
    env.reset(index)
    said = []
    for thought, action in SPEC.expert(env):
        said.append((thought, action))
        step = env.step(action)
        if step.done or len(said) == SPEC.max_turns:
            break
    return step, env.world.step_count, said


def test_the_splits_hold_every_task_once() -> None:
    parts = [SPEC.tasks(split) for split in Split]
    assert all(list(part) == sorted(part) for part in parts)
    assert sorted(index for part in parts for index in part) == list(range(40_000))
    for part in parts:
        assert {facts(index)["level"] for index in part} == set(range(1, 41))


def test_splits_share_no_first_observation_even_where_worlds_are_tiny() -> None:
    split_of = {index: split for split in Split for index in SPEC.tasks(split)}
    seen: dict[str, set[Split]] = {}
    env = BabyAI()
    for level in (3, 4, 13, 33):
        for seed in range(400):
            index = index_of(level, seed)
            seen.setdefault(env.reset(index), set()).add(split_of[index])
    assert len(seen) < 800  # more than half of the tasks do look alike at first
    assert all(len(splits) == 1 for splits in seen.values())


def test_facts_name_level_and_seed() -> None:
    assert facts(0) == {"level": 1, "name": "GoToRedBallGrey", "seed": 0}
    assert facts(40 * 7 + 39) == {"level": 40, "name": "BossLevelNoUnlock", "seed": 7}
    with pytest.raises(UnknownTask, match="babyai has no task -1"):
        facts(-1)


def test_the_first_observation_states_the_goal_and_what_is_seen() -> None:
    env, text = opened(5, 0)
    goal, view = text.split("\n")
    assert re.fullmatch(r"Goal: go to (the|a) \w+ \w+\.", goal)
    assert view == env.view.text
    assert re.fullmatch(r"You see: \w+ \w+ 1 \(.*\)\. (Wall|Box) \d ahead\. Carrying nothing\.", view)


def test_objects_are_numbered_by_distance_then_from_far_ahead_then_from_the_left() -> None:
    for seed in range(40):
        env, _ = opened(33 if seed % 2 else 21, seed)
        keys = [(thing.ahead + abs(thing.right), -thing.ahead, thing.right) for thing in env.view.things]
        assert keys == sorted(keys)
        for name in {thing.name for thing in env.view.things}:
            numbers = [thing.number for thing in env.view.things if thing.name == name]
            assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("place", "words"),
    [((2, 1), "2 ahead, 1 right"), ((0, -3), "3 left"), ((4, 0), "4 ahead"), ((1, -2), "1 ahead, 2 left")],
)
def test_places_are_said_from_the_agent(place: tuple[int, int], words: str) -> None:
    assert Thing("red ball", 1, *place).place == words


@pytest.mark.parametrize("level", range(1, 41))
def test_the_expert_reaches_the_goal_of_every_level(level: int) -> None:
    step, steps, said = play_expert(index_of(level, 3))
    assert step.done
    assert step.observation == "Goal reached."
    assert SPEC.success(step.score)
    assert 0.1 <= step.score < 1.0
    assert steps >= len(said)


def test_what_the_bot_alone_cannot_do_the_expert_does() -> None:
    worlds = [(16, 10), (23, 66), (26, 3), (29, 17), (29, 38)]  # minigrid's bot fails or hangs in each of these
    assert all(SPEC.success(play_expert(index_of(*world))[0].score) for world in worlds)


def test_the_expert_thinks_of_the_goal_and_whether_it_sees_it_in_one_pattern() -> None:
    pattern = r"Goal [a-z ]+?( \d: in view|: not seen)\.( First [a-z ]+ \d: in view\.)?"
    for level in (1, 5, 8, 16, 22, 27):
        for thought, action in play_expert(index_of(level, 2))[2]:
            assert re.fullmatch(pattern, thought), thought
            if action[-1].isdigit():
                assert re.sub("^(go to|pick up|(toggle and )?go through) ", "", action) + ":" in thought


def test_the_score_is_minigrids_and_counts_every_primitive_move() -> None:
    env, _ = opened(4, 0)
    for _thought, action in SPEC.expert(env):  # type: ignore[misc]
        step = env.step(action)
        if step.done:
            break
    assert step.score == 1 - 0.9 * env.world.step_count / env.world.max_steps
    assert env.step("turn left") == Step("The episode is over.", step.score, True)
    assert env.reset(index_of(4, 0)).startswith("Goal:")
    assert not env.step("turn left").done


def test_a_world_that_runs_out_of_time_ends_without_score() -> None:
    env, _ = opened(13, 1)
    env.world.max_steps = 3
    assert [env.step("turn left").done for _ in range(2)] == [False, False]
    assert env.step("turn left") == Step("Out of time.", 0.0, True)


def test_a_failed_goal_ends_the_episode_without_score() -> None:
    env, text = opened(20, 2)  # in this level picking up anything else is a failure
    wanted = text.split("\n")[0].removeprefix("Goal: pick up the ").rstrip(".").replace("object", "")
    other = next(thing for thing in env.view.things if wanted not in thing.name)
    assert env.step(f"pick up {other.label}") == Step("Goal failed.", 0.0, True)


def first_possible(prefix: str, levels: tuple[int, ...]) -> tuple[BabyAI, str]:
    for seed in range(50):
        for level in levels:
            env, _ = opened(level, seed)
            action = next((action for action in env.available_actions() if action.startswith(prefix)), None)
            if action:
                return env, action
    raise AssertionError(f"no world offers {prefix}")


def test_things_can_be_picked_up_and_dropped() -> None:
    env, action = first_possible("pick up", (33, 7))
    name = action.removeprefix("pick up ")[:-2]
    assert "Carrying " + name in env.step(action).observation
    assert env.moves[-1] is Move.PICKUP
    assert env.step("pick up " + name + " 1").observation.startswith(("Your hands are full.", "No "))
    assert "Carrying nothing" in env.step("drop").observation
    assert env.view.things[0].place == "1 ahead"
    assert env.step("drop").observation.startswith("You carry nothing.")
    assert "Carrying " + name in env.step(action.replace("pick up", "PickUp  ")).observation


def test_doors_are_opened_walked_through_and_closed() -> None:
    env, action = first_possible("toggle and go through", (12,))
    door = action.removeprefix("toggle and go through ")
    env.step(f"go to {door}")
    opened_door = door.replace("closed", "open")[:-1] + "1"
    assert f"{opened_door} (1 ahead)" in env.step("toggle").observation
    assert f"{opened_door.replace('open', 'closed')} (1 ahead)" in env.step("toggle").observation
    env.step("toggle")
    assert env.step(f"toggle and go through {opened_door}").observation.startswith("The door is open.")
    before = env.world.step_count
    env.step(f"go through {opened_door}")
    assert env.world.step_count == before + 1
    assert env.world.grid.get(*env.world.agent_pos).type == "door"


def test_locked_doors_want_the_key_of_their_colour() -> None:
    for seed in range(20):
        env, _ = opened(25, seed)
        door = next((thing for thing in env.view.things if "locked" in thing.name), None)
        if door:
            break
    assert door is not None
    colour = door.name.split()[0]
    refusal = env.step(f"toggle and go through {door.label}").observation
    assert refusal.startswith(f"The door is locked: carry a {colour} key.")
    assert env.step(f"go through {door.label}").observation.startswith("The door is locked.")
    assert env.step(f"pick up {door.label}").observation.startswith("A door cannot be picked up.")
    assert env.world.step_count == 0


def test_to_go_where_one_already_stands_is_to_wait_a_step() -> None:
    env, action = first_possible("go to", (33,))
    view = env.step(action).observation
    label = next(thing.label for thing in env.view.things if thing.place == "1 ahead")
    steps = env.world.step_count
    assert env.step(f"go to {label}") == Step(view, 0.0, False)
    assert env.world.step_count == steps + 1


def test_a_way_over_cells_out_of_view_ends_where_it_is_blocked() -> None:
    bumps = 0
    for level in (18, 28, 33, 39):
        for seed in range(25):
            env, _ = opened(level, seed)
            for thing in env.view.things:
                if env.view.route(thing) is None and env.view.route(thing, guess=True) is not None:
                    step = env.step(f"go to {thing.label}")
                    assert step.observation.startswith("You see: ") or step.done
                    bumps += env.moves[-1] == Move.FORWARD and "(1 ahead)" not in step.observation
                    break
    assert bumps


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("", "Unknown action."),
        ("fly to the moon", "Unknown action."),
        ("go to red ball", "Unknown action."),
        ("go to pink ball 1", "No pink ball 1 in view."),
        ("go to pink ball " + "1" * 9999, "No pink ball 1111"),
        ("go through red ball 1", "red ball 1 is no door."),
        ("toggle", "Nothing to open or close right ahead."),
        ("drop", "You carry nothing."),
    ],
)
def test_an_action_that_is_not_possible_is_answered_with_the_reason_and_the_view(action: str, answer: str) -> None:
    env, text = next((env, text) for env, text in (opened(2, seed) for seed in range(9)) if "red ball 1 (" in text)
    step = env.step(action)
    assert step.observation.startswith(answer)
    assert step.observation.endswith(text.split("\n")[1])
    assert len(step.observation) < 500
    assert (step.score, step.done, env.world.step_count) == (0.0, False, 0)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"(go to|pick up|go through|toggle and go through) .* \d+", fullmatch=True)))
def test_no_text_breaks_the_environment(action: str) -> None:
    env, _ = opened(18, 1)
    assert env.step(action).done is False


def test_every_available_action_is_carried_out() -> None:
    rng = random.Random(0)
    for level in (5, 12, 18, 23, 26, 33, 39):
        env, _ = opened(level, 1)
        for _ in range(15):
            actions = env.available_actions()
            assert {"turn left", "turn right"} <= set(actions)
            assert len(actions) == len(set(actions))
            if env.step(rng.choice(actions)).done:
                break
            assert env.moves


def test_a_step_before_the_first_reset_says_so() -> None:
    with pytest.raises(EnvPoolError, match="reset comes before the first step"):
        BabyAI().step("turn left")


def test_missions_keep_their_order_words() -> None:
    missions = " ".join(opened(8, seed)[1].split("\n")[0] for seed in range(30))
    assert ", then go to" in missions
    assert "after you go to" in missions


def test_a_missing_extra_is_named_and_the_card_can_be_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(MissingExtra, match=r"pip install 'agentgym-lightning\[babyai\]'"):
        SPEC.make()
    assert SPEC.select("eval", 3, where={"level": [1, 2]})


def test_the_same_task_is_the_same_in_another_process_and_the_terminal_stays_silent() -> None:
    def digest() -> str:
        env = BabyAI()
        texts = [env.reset(index) + env.step("move forward").observation for index in range(40 * 3)]
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    program = (
        "import hashlib; from envpool.envs.babyai.world import BabyAI; env = BabyAI()\n"
        "texts = [env.reset(index) + env.step('move forward').observation for index in range(40 * 3)]\n"
        "print(hashlib.sha256('\\n'.join(texts).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[1]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env={"PYTHONHASHSEED": "7"})
    assert ran.stdout == digest() + "\n"
    assert ran.stderr == ""


# --- AgentTraj-L


def recorded() -> list[tuple[int, list[str]]]:
    if not SAMPLE.exists():
        pytest.skip("the sample of AgentTraj-L is not here")
    records: list[dict[str, Any]] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    return [(int(r["item_id"].split("_")[-1]), [turn["value"] for turn in r["conversations"][2:]]) for r in records]


def test_goals_and_first_observations_are_those_of_agenttraj() -> None:
    seen = re.compile(r"There is a ([a-z ]+ \d+) (?:right in front of you (\d+)|(\d+) steps in front of you and (\d+))")
    env = BabyAI()
    for index, (first, *_) in recorded():
        env.reset(index)
        goal = env.world.mission.replace("then", "and").replace("after you", "and")  # as it was written there
        assert first.split("\n")[0] == f"Your goal: {goal}"
        theirs = [(name, int(straight or ahead), int(side or 0)) for name, straight, ahead, side in seen.findall(first)]
        assert theirs == [(thing.label, thing.ahead, abs(thing.right)) for thing in env.view.things]
        sides = re.findall(r"to your (left|right)", first)
        assert sides == ["left" if thing.right < 0 else "right" for thing in env.view.things if thing.right]
        facing = re.search(r"facing a (wall|box) (\d+) steps away", first)
        assert env.view.barrier == ((facing[1], int(facing[2])) if facing else None)
        assert ("not carrying anything" in first) == (env.view.carrying is None)


def test_recorded_actions_reach_the_goal() -> None:
    reached = []
    for index, turns in recorded():
        env = BabyAI()
        env.reset(index)
        for answer in turns[1::2]:
            line = next(iter(re.findall(r"Action:\s*(.*)", answer)), "")  # of several lines the first was taken
            step = env.step(re.sub(r"[^A-Za-z0-9, ]", "", line))
            if step.done:
                break
        reached.append(SPEC.success(step.score))
    assert sum(reached) >= 0.95 * len(reached)
