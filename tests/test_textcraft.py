from __future__ import annotations

import collections
import importlib.metadata
import json
import re
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest

from envpool.envs.textcraft.book import book, parse_recipe
from envpool.envs.textcraft.expert import _ways, expert
from envpool.envs.textcraft.spec import SPEC
from envpool.envs.textcraft.world import TextCraft
from envpool.errors import EnvPoolError, UnknownTask
from envpool.formats import REACT
from envpool.types import Split, Step

ROOT = Path(__file__).parents[1]
RECORDS = ROOT.parent / "shared" / "data" / "textcraft_train_sample.json"
FENCE = (
    "craft 3 birch fence using 4 birch planks, 2 stick",
    "craft 4 birch planks using 1 birch logs",
    "craft 4 stick using 2 planks",
    "craft 1 birch button using 1 birch planks",
)
LEAD = ("craft 2 lead using 4 string, 1 slime ball",)


def started(commands: Sequence[str], goal: str) -> TextCraft:
    world = TextCraft()
    world.start(commands, goal)
    return world


def fresh(world: TextCraft) -> TextCraft:
    """The same task from its start."""
    return started([recipe.line for recipe in world.commands], world.goal)


def told(world: TextCraft, *actions: str) -> list[str]:
    return [world.step(action).observation for action in actions]


def played(world: TextCraft) -> list[str]:
    """Lets the expert play; returns what it did."""
    actions = []
    for _, action in expert(world):
        actions.append(action)
        world.step(action)
    return actions


def test_the_goals_are_the_544_of_the_predecessor_in_number_and_depth() -> None:
    assert collections.Counter(book().depth[goal] for goal in book().goals) == {1: 140, 2: 280, 3: 113, 4: 11}


def test_every_recipe_of_the_data_file_is_read_and_can_be_made() -> None:
    data = json.loads((ROOT / "envpool" / "envs" / "textcraft" / "data" / "recipes.json").read_text(encoding="utf-8"))
    assert [recipe.line for recipe in book().recipes] == data["recipes"]
    assert {name for recipe in book().recipes for name in recipe.names} <= book().depth.keys()


@pytest.mark.parametrize(
    "pair", [("iron nugget", "iron ingot"), ("gold ingot", "gold nugget"), ("honey bottle", "honey block")]
)
def test_of_each_cycle_only_one_direction_can_be_crafted(pair: tuple[str, str]) -> None:
    product, ingredient = pair
    assert [recipe for recipe in book().made[product] if ingredient in recipe.names]
    assert ingredient in book().raw


def test_the_data_file_is_what_its_script_makes() -> None:
    try:
        found = importlib.metadata.version("minecraft_data")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("minecraft-data is not installed")
    script = runpy.run_path(str(ROOT / "scripts" / "make_textcraft_data.py"))
    if found != script["PACKAGE_VERSION"]:
        pytest.skip(f"minecraft-data is {found}")
    assert script["build"]() == (ROOT / "envpool" / "envs" / "textcraft" / "data" / "recipes.json").read_text(
        encoding="utf-8"
    )


def test_no_first_observation_occurs_in_two_splits() -> None:
    world = TextCraft()
    split_of: dict[str, Split] = {}
    tasks = 0
    for split in Split:
        for index in SPEC.tasks(split):
            observation = world.reset(index)
            tasks += 1
            assert split_of.setdefault(observation, split) is split
    assert tasks == 528 * 101
    assert len(split_of) > 0.98 * tasks


def test_splits_share_no_task_and_each_has_every_number_of_distractors() -> None:
    indices = {split: SPEC.tasks(split) for split in Split}
    assert len(set().union(*indices.values())) == sum(len(part) for part in indices.values())
    for part in indices.values():
        assert {SPEC.facts(index)["distractors"] for index in part} == set(range(11))
        assert list(part) == sorted(part)


def test_facts_tell_what_a_world_holds() -> None:
    world = TextCraft()
    for index in [*range(544), *range(544, 101 * 544, 101)]:
        world.reset(index)
        facts = SPEC.facts(index)
        needed = {recipe.line for recipe, _ in _ways(world).values()}
        assert facts["depth"] == book().depth[world.goal]
        assert facts["distractors"] == len(world.commands) - len(needed)
        first = world.goal.split()[0]
        assert facts["kind"] != "wood" or first in {
            "acacia",
            "birch",
            "crimson",
            "dark",
            "jungle",
            "oak",
            "spruce",
            "warped",
        }
    goal_facts = {book().goals[rank]: SPEC.facts(rank)["kind"] for rank in range(544)}
    assert goal_facts["dark oak boat"] == "wood"
    assert goal_facts["dark prismarine"] == "other"
    assert goal_facts["light blue bed"] == "colour"


def test_a_task_is_the_same_on_every_machine() -> None:
    assert TextCraft().reset(1247) == (
        "Crafting commands:\n"
        "craft 4 birch planks using 1 birch logs\n"
        "craft 2 birch trapdoor using 6 birch planks\n"
        "craft 1 stick using 2 bamboo\n"
        "craft 3 birch fence using 4 birch planks, 2 stick\n"
        "\n"
        "Goal: craft birch fence."
    )


def test_reset_forgets_the_task_before() -> None:
    world = TextCraft()
    first = world.reset(1247)
    world.step("get 4 bamboo")
    world.reset(3)
    assert world.reset(1247) == first
    assert told(world, "inventory") == ["Inventory: nothing"]


def test_the_expert_crafts_every_goal_that_is_in_a_split_within_the_turn_limit() -> None:
    world = TextCraft()
    listed = [index for split in Split for index in SPEC.tasks(split)]
    for index in [*sorted(listed)[:528], *sorted(listed)[528::23]]:
        world.reset(index)
        actions = played(world)
        assert world.done, index
        assert len(actions) <= SPEC.max_turns, index


def test_goals_in_no_split_are_those_that_can_take_more_turns_than_there_are() -> None:
    world = TextCraft()
    listed = {index % 544 for split in Split for index in SPEC.tasks(split)}
    for rank in set(range(544)) - listed:
        lengths = []
        for variant in range(0, 101, 5):
            world.reset(variant * 544 + rank)
            lengths.append(len(played(world)))
            assert world.done
        assert max(lengths) > SPEC.max_turns, world.goal


def test_the_expert_gets_at_once_what_several_steps_need_and_restates_the_goal() -> None:
    world = started(FENCE, "birch fence")
    moves = []
    for move in expert(world):
        moves.append(move)
        world.step(move[1])
    assert moves == [
        ("Goal birch fence. I need 6 birch planks, so 2 birch logs.", "get 2 birch logs"),
        ("Goal birch fence. I need 6 birch planks.", "craft 4 birch planks using 1 birch logs"),
        ("Goal birch fence. I need 6 birch planks, have 4.", "craft 4 birch planks using 1 birch logs"),
        ("Goal birch fence. I need 2 stick.", "craft 4 stick using 2 birch planks"),
        ("Goal birch fence. I can craft it.", "craft 3 birch fence using 4 birch planks, 2 stick"),
    ]


def test_the_expert_goes_on_from_what_is_held_already() -> None:
    world = started(FENCE, "birch fence")
    told(world, "get 1 birch logs", "craft 4 birch planks using 1 birch logs")
    assert next(expert(world)) == (
        "Goal birch fence. I need 6 birch planks, so 1 birch logs.",
        "get 1 birch logs",
    )


def test_the_expert_gives_up_where_the_commands_do_not_suffice() -> None:
    assert list(expert(started(FENCE[:1], "birch fence"))) == []


def test_crafting_the_goal_ends_the_task_with_score_one() -> None:
    world = started(LEAD, "lead")
    assert world.step("get 4 string") == Step("Got 4 string", 0.0, False)
    assert world.step("get 1 slime ball") == Step("Got 1 slime ball", 0.0, False)
    assert world.step(LEAD[0]) == Step("Crafted 2 lead", 1.0, True)
    assert world.step("inventory") == Step("The goal is crafted already.", 1.0, True)
    assert SPEC.success(1.0)
    assert not SPEC.success(0.0)


@pytest.mark.parametrize(
    "item", ["birch planks", "planks", "wool", "oak planks", "gold ingot", "unicorn", "2 birch logs"]
)
def test_only_raw_items_can_be_got(item: str) -> None:
    world = started(FENCE, "birch fence")
    assert told(world, f"get 1 {item}", "inventory") == [f"Could not find {item}", "Inventory: nothing"]


@pytest.mark.parametrize(
    "item", ["birch logs", "birch log", "stone tool materials", "cobblestone", "iron ingot", "gold nugget"]
)
def test_raw_items_and_raw_groups_can_be_got(item: str) -> None:
    assert told(started(FENCE, "birch fence"), f"get 3 {item}", "inventory") == [
        f"Got 3 {item}",
        f"Inventory: 3 {item}",
    ]


def test_a_special_item_stands_in_for_a_kind_but_must_be_named() -> None:
    world = started(FENCE, "birch fence")
    told(world, "get 1 birch log", "craft 4 birch planks using 1 birch log")
    assert told(world, "craft 4 stick using 2 planks", "craft 4 stick using 2 oak planks") == [
        "Could not find enough items to craft stick",
        "Could not find enough items to craft stick",
    ]
    assert told(world, "craft 4 stick using 2 birch planks", "inventory") == [
        "Crafted 4 stick",
        "Inventory: 2 birch planks, 4 stick",
    ]


@pytest.mark.parametrize(
    "action",
    [
        "craft 8 birch planks using 2 birch logs",  # twice at once
        "craft 4 birch planks using 2 birch logs",
        "craft 4 birch planks using 1 oak logs",
        "craft 4 birch planks using 1 birch logs, 1 string",
        "craft 4 acacia planks using 1 acacia logs",  # a recipe of the book that is not shown
    ],
)
def test_only_the_commands_shown_can_be_used_and_only_with_their_numbers(action: str) -> None:
    world = started(FENCE, "birch fence")
    product = action.split(" using")[0].split(maxsplit=2)[2]
    observation = told(world, "get 9 birch logs", "get 9 acacia logs", action, "inventory")[2:]
    assert observation == [
        f"Could not find a command like that for {product}",
        "Inventory: 9 birch logs, 9 acacia logs",
    ]


def test_the_number_of_products_need_not_be_stated() -> None:
    for action in ("craft birch planks using 1 birch logs", "craft 1 birch planks using 1 birch logs"):
        assert told(started(FENCE, "birch fence"), "get 1 birch logs", action)[1] == "Crafted 4 birch planks"


def test_spaces_and_a_full_stop_do_not_matter() -> None:
    assert told(started(LEAD, "lead"), "  get  4   string. ", "inventory.") == ["Got 4 string", "Inventory: 4 string"]


@pytest.mark.parametrize(
    "action",
    [
        "",
        "get",
        "get string",
        "get 0 string",
        "get -1 string",
        "get 99999 string",
        "get \u0664 string",
        "craft lead",
        "craft 2 lead using",
        "craft 2 lead using string",
        "craft 2 lead using 4 string, 4 string",
        "craft 2 lead using 4 string,",
        "jump",
        "inventory of string",
    ],
)
def test_nonsense_is_answered_in_words(action: str) -> None:
    step = started(LEAD, "lead").step(action)
    assert step == Step("Could not understand that: get, craft or inventory?", 0.0, False)


def test_available_actions_are_all_accepted_and_lead_to_the_goal() -> None:
    world = TextCraft()
    for index in range(544, 2 * 544, 9):
        world.reset(index)
        for wanted in played(fresh(world)):
            for action in world.available_actions():
                other = fresh(world)
                other.inventory = world.inventory.copy()
                assert re.match("Got|Crafted|Inventory", other.step(action).observation), action
            if wanted.startswith("craft"):
                assert wanted in world.available_actions()
            world.step(wanted)
        assert world.done


@pytest.mark.parametrize("index", [-1, 101 * 544])
def test_a_task_that_does_not_exist_is_named_with_the_range(index: int) -> None:
    with pytest.raises(UnknownTask, match=f"no task {index}: they are numbered 0 to 54943"):
        TextCraft().reset(index)
    with pytest.raises(UnknownTask, match="0 to 54943"):
        SPEC.facts(index)


def test_stepping_before_a_task_is_started_says_what_to_do() -> None:
    with pytest.raises(EnvPoolError, match="call reset first"):
        TextCraft().step("inventory")


def test_commands_that_make_no_sense_are_refused_with_a_cure() -> None:
    with pytest.raises(EnvPoolError, match="'craft lead' is no crafting command: write it like"):
        TextCraft().start(["craft lead"], "lead")
    with pytest.raises(EnvPoolError, match="no crafting command makes the goal 'leed'; did you mean 'lead'"):
        TextCraft().start(LEAD, "leed")


def test_items_that_only_the_given_commands_know_can_be_got() -> None:
    world = started(["craft 1 moon cake using 2 moon dust"], "moon cake")
    assert played(world) == ["get 2 moon dust", "craft 1 moon cake using 2 moon dust"]
    assert world.done


@pytest.mark.parametrize(
    "record", json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else [], ids=lambda r: r["item_id"]
)
def test_recorded_episodes_of_the_predecessor_reach_their_goal(record: dict[str, list[dict[str, str]]]) -> None:
    conversation = [message["value"].removeprefix("Instruction:\n") for message in record["conversations"]]
    commands, goal = conversation[2].removeprefix("Crafting commands:\n").removesuffix(".").split("\n\nGoal: craft ")
    world = TextCraft()
    assert world.start(commands.splitlines(), goal) == conversation[2]
    for answer, expected in zip(conversation[3::2], [*conversation[4::2], ""], strict=True):
        step = world.step(REACT.parse(answer).action)
        if expected.startswith(("Got", "Crafted", "Could not find enough")):
            assert step.observation == expected.replace("minecraft:", "").replace("_", " ")
        if expected.startswith("Inventory"):
            held = [f"{count} {item}" for item, count in re.findall(r"\[(.+?)\] \((\d+)\)", expected)]
            assert step.observation == "Inventory: " + (", ".join(held) or "nothing")
    assert step == Step(step.observation, 1.0, True)
    known = {(r.product, r.count, frozenset(r.ingredients)) for r in book().recipes}
    read = [parse_recipe(line) for line in commands.splitlines()]
    assert {(r.product, r.count, frozenset(r.ingredients)) for r in read if r} <= known
    number = int(str(record["item_id"]).removeprefix("textcraft_"))
    assert SPEC.facts(number)["depth"] == book().depth[goal]  # ids name other goals with us, but of the same depth
