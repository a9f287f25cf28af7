from __future__ import annotations

import contextlib
import json
import random
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agentgym.cli import main
from agentgym.data import store, tasklist, tasksource
from agentgym.data.agenttraj import read_record
from agentgym.data.instructions import instruction_of, instructions
from agentgym.errors import DataError
from agentgym.itemids import read_item_id
from agentgym.overlap import of_role, overlap_of, overlaps
from agentgym.recipe import load_recipe
from agentgym.tasks import list_tasks, show_stats
from envpool import EnvSpec, ExpertPolicy, MissingExtra, Split, Step, Task, collect, get_spec
from envpool.pool import EnvPool

DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def conversation(observation: str) -> list[dict[str, object]]:
    return [
        {"from": "human", "loss": None, "value": "You are an agent. Think, then act."},
        {"from": "gpt", "loss": False, "value": "OK. I will do as you say."},
        {"from": "human", "loss": None, "value": observation},
        {"from": "gpt", "loss": True, "value": "Thought:\nWell.\n\nAction:\nlook"},
    ]


def agenttraj(name: str, ids: list[str], observation: str = "") -> str:
    """Writes a file in AgentTraj's shape: one record an id, `{}` in the observation stands for the id."""
    records = [{"item_id": i, "conversations": conversation(observation.replace("{}", i))} for i in ids]
    Path(name).write_text(json.dumps(records))
    return name


def agenteval(name: str, ids: list[str]) -> str:
    Path(name).write_text(json.dumps([{"item_id": i} for i in ids]))
    return name


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["tasks", *words]) == code
    out, err = capsys.readouterr()
    return err if code else out


def read_source(name: str) -> pl.DataFrame:
    return tasksource.read_source(name, print)


def printed(function, *arguments, **options) -> list[str]:
    console = Console(record=True, width=160, highlight=False)
    function(*arguments, **options, console=console)
    return console.export_text().splitlines()


@pytest.mark.parametrize(
    ("environment", "observation", "instruction"),
    [
        (
            "textcraft",
            "Instruction:\nCrafting commands:\ncraft 2 lead using 4 string\n\nGoal: craft lead.",
            "craft lead",
        ),
        ("babyai", "Your goal: pick up a red box\nIn front of you there is nothing.", "pick up a red box"),
        ("babyai", "Goal: pick up a red box.\nYou see: nothing.", "pick up a red box"),
        ("maze", "Maze 3. Goal 8,6. You are at 1,2. Walls: up.", "walk from 1,2 to 8,6 in maze 3"),
        (
            "maze",
            "As in: The goal is at position 8, 6. Your current position is at position 5, 6. Walk.\nNow begin:\n"
            "The goal is at position 8, 6. Your current position is at position 5, 7. There are walls above you.",
            "walk from 5,7 to 8,6 in maze 0",
        ),
        ("alfworld", "You are in a room.\n\nYour task is to: heat an egg.\nAvailable actions: look", "heat an egg"),
        (
            "sciworld",
            "Your task is to boil tin. Focus on it.\nThis is a hall.",
            "Your task is to boil tin. Focus on it",
        ),
        ("webshop", "WebShop [SEP] Instruction: [SEP] Find me a red hat [SEP] Search", "Find me a red hat"),
        (
            "weather",
            "Now new trial starts.\nYou should perform actions to accomplish the goal: Is it hot?\nGive me one action.",
            "Is it hot?",
        ),
        ("webarena", "When was it founded?\nTab 0 (current): shop", "When was it founded?"),
        ("searchqa", "You must reason.\n\nQuestion: who wrote it?\n", "who wrote it?"),
        ("sqlgym", "The table t has a column c.\nHow many?", "The table t has a column c. How many?"),
        ("wordle", "Guess the word.", "Guess the word"),
    ],
)
def test_the_instruction_is_the_goal_in_the_first_observation(environment, observation, instruction):
    assert instruction_of(environment, observation) == instruction


@given(st.text(), st.sampled_from(["maze", "textcraft", "weather", "webarena", "anything"]))
def test_whatever_was_observed_has_an_instruction_on_one_line(observation, environment):
    assert "\n" not in instruction_of(environment, observation)


@pytest.mark.parametrize(
    ("text", "environment", "key", "task_type"),
    [
        ("lmrlgym_maze_19", "maze", "maze_19", None),
        ("tool_sheet_3", "sheet", "sheet_3", None),
        ("babyai_1804", "babyai", "babyai_1804", None),
        ("nq_12", "searchqa", "nq_12", "nq"),
        ("2wikimultihopqa_5", "searchqa", "2wikimultihopqa_5", "2wikimultihopqa"),
        ("pick_two_obj_and_place-Mug-None-Desk-3/trial_T1", "alfworld", None, "pick_two_obj_and_place"),
    ],
)
def test_item_ids_tell_environment_number_and_type(text, environment, key, task_type):
    item = read_item_id(text)
    assert (item.environment, item.key, item.task_type) == (environment, key or text, task_type)


@given(st.text())
def test_an_item_id_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        assert read_item_id(text).text == text


def test_all_tasks_of_an_environment_are_rows_with_facts_and_instructions():
    frame = tasklist.with_instructions(tasklist.of_environment(get_spec("textcraft"), [Split.EVAL]).head(50))
    row = frame.row(0, named=True)
    index = get_spec("textcraft").tasks(Split.EVAL)[0]
    assert row["item_id"] == f"textcraft_{index}"
    assert (row["split"], row["version"]) == ("eval", get_spec("textcraft").version)
    assert json.loads(row["facts"]) == get_spec("textcraft").facts(index)
    world = get_spec("textcraft").make()
    texts = [f"Goal: {text}." in world.reset(i) for i, text in frame.select("index", "instruction").iter_rows()]
    assert all(texts)


@pytest.mark.parametrize("name", ["list.parquet", "list.jsonl"])
def test_a_list_that_was_written_is_read_back_alike(name):
    list_tasks(["wordle:eval", "wordle"], count=30, to=Path(name))
    frame = read_source(name)
    assert frame.height == 30
    assert frame.equals(tasklist.with_instructions(read_source("wordle:eval").head(30)))


def test_tasks_are_listed_by_split_and_fact(capsys):
    out = said(capsys, "list", "textcraft", "--split", "eval", "--where", "depth=4", "--where", "kind=other", "-n", "2")
    spec = get_spec("textcraft")
    wanted = [i for i in spec.tasks(Split.EVAL) if spec.facts(i)["depth"] == 4 and spec.facts(i)["kind"] == "other"]
    assert [line.split()[0] for line in out.splitlines()[1:3]] == [f"textcraft_{i}" for i in wanted[:2]]
    assert f"2 of {len(wanted)} tasks" in out


def test_stats_count_tasks_types_and_difficulties():
    lines = printed(show_stats, ["textcraft", "wordle:eval"])
    counts = {tuple(line.split()[:3:2]): line.split()[3:] for line in lines}
    spec = get_spec("textcraft")
    assert counts["textcraft", "train"] == [f"{len(spec.tasks(Split.TRAIN)):,}", "4", "1-4", "-"]
    total = sum(len(spec.tasks(split)) for split in Split) + len(get_spec("wordle").tasks(Split.EVAL))
    assert f"{total:,}" in lines[-1]


def test_stats_know_environments_that_live_behind_servers():
    lines = printed(show_stats, ["alfworld", "sciworld", "academia"])
    assert ["alfworld", "1", "eval", "200", "-", "-", "-"] in [line.split() for line in lines]
    assert lines[-1].split()[:3] == ["3", "environments", f"{2620 + 4639 + 20:,}"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list", "mase"], "did you mean 'maze'?"),
        (["list", "maze:evil"], "there is no split 'evil'; did you mean 'eval'?"),
        (["list", "wordle", "--where", "repeat=4"], "did you mean 'repeats'?"),
        (["list", "wordle", "--where", "repeats"], "is not written FACT=VALUE"),
        (["list", "wordle", "-n", "0"], "at least one task"),
        (["list", "wordle", "-n", "1", "--to", "x.csv"], "should end in .parquet or .jsonl"),
        (["list", "bad.json"], "bad.json holds no task (bad.json: is no JSON"),
        (["list", "odd.json"], "odd.json holds no task (odd.json: record 1: the record has no 'item_id')"),
        (["list", "none.json"], "none.json holds no task (the list is empty)"),
        (
            ["list", "far.json"],
            "far.json holds no task (far.json: record 1: maze has no task 99999999: its numbers end",
        ),
        (["list", "strange.xml"], "its name should end in .json, .jsonl, .parquet"),
        (["overlap", "wordle", "nowhere"], "there is no environment, file, folder or panel 'nowhere'"),
        ([], "are required"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, complaint, capsys):
    Path("bad.json").write_text("[")
    Path("odd.json").write_text('[{"item": 1}, 3]')
    Path("none.json").write_text("[]")
    Path("far.json").write_text('[{"item_id": "maze_99999999"}]')
    Path("strange.xml").write_text("")
    err = said(capsys, *words, code=2)
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_overlaps_like_those_of_the_original_data_are_found(capsys):
    """Ids in the ranges of AgentTraj-L and AgentEval, and as many shared ones."""
    rng = random.Random(0)
    maze = [f"lmrlgym_maze_{i}" for i in (13, 14, 15, 17, 18, 19, 20, 21, 22, 24, 25)]
    mazes = [*maze, *rng.choices(maze, k=204)]  # 215 records of 11 tasks, one of which (25) is not in the test
    words = [i for i in range(25) if i not in (3, 8, 11, 19)] + rng.sample(range(25, 1451), 934)
    science = sorted(rng.sample(range(536, 4337), 200))
    learned = rng.sample(science, 61) + rng.sample([i for i in range(4633) if i not in set(science)], 2059)
    Path("train").mkdir()
    Path("test").mkdir()
    agenttraj("train/lmrlgym_maze_train.json", mazes, "Somewhere in {}.")
    agenttraj("train/lmrlgym_wordle_train.json", [f"lmrlgym_wordle_{i}" for i in words], "Let's start Wordle!")
    agenttraj("train/sciworld_train.json", [f"sciworld_{i}" for i in learned], "Your task is to boil {}.\nA hall.")
    agenteval("test/lmrlgym_maze_test.json", [f"lmrlgym_maze_{i}" for i in range(25)])
    agenteval("test/lmrlgym_wordle_test.json", [f"lmrlgym_wordle_{i}" for i in range(25)])
    agenteval("test/sciworld_test.json", [f"sciworld_{i}" for i in science])
    out = said(capsys, "overlap", "train", "test")
    assert "maze: 10 of 25 evaluation tasks are in training (lmrlgym_maze_13, lmrlgym_maze_14, lmrlgym_maze_15" in out
    assert "wordle: 21 of 25 evaluation tasks are in training (lmrlgym_wordle_0, " in out
    assert "sciworld: 61 of 200 evaluation tasks are in training" in out
    assert "OVERLAP: 92 of 250 evaluation tasks are in training, and 0 more share an instruction" in out


def test_tasks_that_share_only_their_instruction_are_found_and_named():
    spec = get_spec("textcraft")
    world = spec.make()
    mine, other = spec.select("eval", 2)
    agenttraj("textcraft_train.json", ["textcraft_0"], "Instruction:\n" + world.reset(mine.index))
    evaluation = tasklist.of_tasks([mine, other], Split.EVAL)
    (overlap,) = overlaps(read_source("textcraft_train.json"), evaluation)
    assert overlap.same_id is None  # the original's numbers mean other problems
    goal = instruction_of("textcraft", world.reset(mine.index))
    assert overlap.same_text == [(mine.item_id, goal)]
    assert f"1 of 2 evaluation tasks has the instruction of a training task ({mine.item_id}: {goal})" in overlap.line


def test_instructions_that_all_tasks_share_say_nothing():
    (overlap,) = overlaps(read_source("wordle:train"), read_source("wordle:eval"))
    assert overlap.same_id == []
    assert not overlap.found
    assert "instructions are not compared: all evaluation tasks have the same one" in overlap.line


def test_lists_of_different_mazes_share_neither_tasks_nor_instructions(capsys):
    said(capsys, "list", "maze:train", "-n", "200", "--to", "train.jsonl")
    out = said(capsys, "overlap", "train.jsonl", agenteval("lmrlgym_maze_test.json", ["maze_3", "maze_4"]))
    assert "none has the instruction of a training task" in out
    assert "no overlap was found among" in out


def test_files_of_agentgym_are_training_or_evaluation_as_the_user_says(capsys):
    """Whether a file holds conversations or ids only says nothing about what it is for."""
    Path("train").mkdir()
    Path("eval").mkdir()
    agenttraj("train/babyai_train.json", ["babyai_3"], "Your goal: go to the red ball\nIn front of you.")
    agenteval("train/searchqa_train.json", ["nq_1", "nq_2", "nq_3"])
    agenteval("eval/searchqa_test.json", ["nq_1", "nq_2", "nq_3"])
    agenttraj("eval/sciworld.json", ["sciworld_7"], "Your task is to boil {}.\nA hall.")
    out = said(capsys, "overlap", "train", "eval")
    assert "searchqa: 3 of 3 evaluation tasks are in training (nq_1, nq_2, nq_3)" in out
    assert "sciworld: none of 1 evaluation task is in training" in out
    assert "OVERLAP: 3 of 4 evaluation tasks" in out
    assert "left out" not in out
    said(capsys, "list", "train", "--to", "list.jsonl")
    assert "searchqa: 3 of 3 evaluation tasks" in said(capsys, "overlap", "list.jsonl", "eval")
    agenteval("eval/searchqa_test.json", ["todo_1"])
    assert "1 sciworld, 1 todo" in said(capsys, "panel", "eval", "--to", "panel.json")


def test_imported_trajectories_are_what_the_user_says_and_those_of_a_run_what_the_run_used_them_for(capsys):
    tasks = get_spec("maze").select("train", 4)
    run = Path("run/trajectories")
    store.write(run / "imported.parquet", episodes(tasks[:1]), iteration=0, phase="imported")
    store.write(run / "expert.parquet", episodes(tasks[1:2]), iteration=0, phase="expert")
    store.write(run / "eval.parquet", episodes(tasks[2:]), iteration=0, phase="eval")
    out = said(capsys, "overlap", "run", "run")
    assert "run: 2 tasks of split eval are left out of training" in out
    assert "run: 1 tasks of split train are left out of evaluation" in out
    assert f"maze: 1 of 3 evaluation tasks is in training ({tasks[0].item_id})" in out
    out = said(capsys, "list", "run", "--split", "eval")
    assert "1 tasks are left out: nothing tells their split" in out
    assert "2 of 2 tasks" in out


def test_how_many_instructions_were_compared_is_told():
    spec = get_spec("textcraft")
    observations = [spec.make().reset(task.index) for task in spec.select("eval", 2)]
    agenttraj("webshop_train.json", ["webshop_1", "webshop_2"], "Instruction: [SEP] Find {} [SEP]")
    records = json.loads(
        Path(agenttraj("webshop_eval.json", ["webshop_7"], "Instruction: [SEP] Find it [SEP]")).read_text()
    )
    Path("webshop_eval.json").write_text(json.dumps([*records, *({"item_id": f"webshop_{i}"} for i in range(10, 109))]))
    (overlap,) = overlaps(read_source("webshop_train.json"), read_source("webshop_eval.json"))
    assert overlap.line == (
        "webshop: none of 100 evaluation tasks is in training by item id; "
        "none of the 1 whose instruction is known has the instruction of a training task"
    )
    (overlap,) = overlaps(read_source("webshop_eval.json"), read_source("webshop_train.json"))
    assert overlap.line.endswith(
        "none has the instruction of a training task; the instruction of 99 of 100 training tasks is not known"
    )
    Path("webshop_eval.json").write_text(json.dumps([*records, {"item_id": "webshop_1"}, {"item_id": "webshop_9"}]))
    (overlap,) = overlaps(read_source("webshop_train.json"), read_source("webshop_eval.json"))
    assert "; none of the 1 others whose instruction is known has the instruction" in overlap.line
    agenttraj("textcraft_train.json", ["textcraft_0"], observations[0])
    mixed = tasklist.joined(
        [
            read_source(agenteval("textcraft_test.json", ["textcraft_0", "textcraft_5"])),
            tasklist.of_tasks(spec.select("eval", 1), Split.EVAL),
        ]
    )
    (overlap,) = overlaps(read_source("textcraft_train.json"), mixed)
    assert overlap.line.startswith("textcraft: 1 of the 2 (of 3 evaluation tasks) whose item ids can be compared is in")


def test_tasks_that_cannot_be_compared_at_all_are_counted(capsys):
    agenteval("textcraft_test.json", ["textcraft_0", "textcraft_5"])
    out = said(capsys, "overlap", "textcraft:train", "textcraft_test.json")
    assert "no overlap was found among 2 evaluation tasks; 2 of them cannot be compared" in out


def test_all_tasks_are_named_on_demand(capsys):
    agenteval("wordle_test.json", [f"wordle_{i}" for i in range(5)])
    out = said(capsys, "overlap", "wordle_test.json", "wordle_test.json")
    assert "(wordle_0, wordle_1, wordle_2, and 2 more)" in out
    assert out.endswith("; --all names every one\n")
    out = said(capsys, "overlap", "wordle_test.json", "wordle_test.json", "--all")
    assert [line for line in out.splitlines() if line.startswith("  ")] == [f"  wordle_{i}" for i in range(5)]
    assert "--all" not in out


def test_two_long_lists_are_compared():
    frame = tasklist.of_environment(get_spec("maze"), [Split.EVAL])
    frame = frame.with_columns(instruction=pl.format("walk {}", "index"))
    (overlap,) = overlaps(frame, frame)  # minutes if every task were looked for in a list
    assert len(overlap.same_id or ()) == frame.height


def test_what_files_say_does_not_command_a_terminal(capsys):
    evil = "nq_\x1b]0;owned\x07"
    agenttraj("searchqa_train.json", [evil], "Question: what is \x1b[31mred?\n")
    Path("test").mkdir()
    agenttraj("test/searchqa_1.json", [evil, "nq_2"], "Question: what is \x1b[31mred?\n")
    agenttraj("test/searchqa_2.json", ["nq_3"], "Question: who?\n")
    out = said(capsys, "list", "searchqa_train.json")
    out += said(capsys, "overlap", "searchqa_train.json", "test", "--all")
    assert "\x1b" not in out
    assert out.count("nq_\\x1b]0;owned\\x07") == 3
    assert "nq_2: what is \\x1b[31mred?" in out


def test_an_environment_that_is_not_in_training_is_named():
    agenteval("todo_test.json", ["todo_1"])
    (overlap,) = overlaps(read_source("wordle:train"), read_source("todo_test.json"))
    assert overlap.line == "todo: none of 1 evaluation task is in training, which has no tasks of it"


def episodes(tasks: list[Task]):
    return collect(EnvPool(sessions=4), tasks, ExpertPolicy())


def test_a_run_folder_gives_what_it_learned_from_as_training_and_what_it_measured_as_evaluation():
    spec = get_spec("maze")
    expert, measured = spec.select("train", 3), spec.select("eval", 4)
    run = Path("runs/trial/trajectories")
    store.write(run / "expert.parquet", episodes(expert), iteration=0, phase="expert")
    store.write(run / "it000-eval.parquet", episodes([*measured, expert[1]]), iteration=0, phase="eval")
    frame = read_source("runs/trial")
    assert set(of_role(frame, evaluation=False)["item_id"]) == {task.item_id for task in expert}
    assert of_role(frame, evaluation=True).height == 5
    (overlap,) = overlaps(of_role(frame, evaluation=False), of_role(frame, evaluation=True))
    assert overlap.same_id == [expert[1].item_id]
    assert overlap.same_text == []


def test_a_recipe_is_told_which_of_its_data_it_is_measured_on():
    maze = "maze: {expert: 3, explore: 5, eval: 6}"
    Path("r.yaml").write_text(
        f"name: r\nmodel: {{name: tiny}}\nenvironments:\n  {maze}\nbc: {{steps: 1}}\nlearn: {{steps: 1}}\n"
    )
    recipe = load_recipe("r.yaml")
    spec = get_spec("maze")
    own, measured = episodes(spec.select("train", 3)), spec.select("eval", 6)
    assert overlap_of(recipe, own) == []
    (line,) = overlap_of(recipe, [*own, *episodes(measured[:2])])
    assert line.startswith("maze: 2 of 6 evaluation tasks are in training (")
    assert all(task.item_id in line for task in measured[:2])


def test_a_recipe_is_told_when_its_panel_pins_what_it_explores():
    Path("r.yaml").write_text("name: r\npanel: list.json\nmodel: {name: tiny}\nenvironments:\n  maze: {explore: 5}\n")
    explored = get_spec("maze").select("explore", 5)
    agenteval("list.json", ["maze_3", explored[2].item_id])
    (line,) = overlap_of(load_recipe("r.yaml"), [])
    assert line.startswith(f"maze: 1 of 2 evaluation tasks is in training ({explored[2].item_id})")


def test_without_the_package_of_an_environment_item_ids_are_still_compared(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    agenteval("babyai_test.json", ["babyai_3", "babyai_7"])
    agenttraj("babyai_train.json", ["babyai_3"], "Your goal: go to the red ball\nIn front of you.")
    (overlap,) = overlaps(read_source("babyai_train.json"), read_source("babyai_test.json"))
    assert overlap.same_id == ["babyai_3"]
    assert overlap.same_text is None
    with pytest.raises(MissingExtra):
        tasklist.with_instructions(read_source("babyai_test.json"))


def test_tasks_of_an_original_server_are_compared_by_its_numbers():
    server = "endpoints: [http://127.0.0.1:1]"
    Path("r.yaml").write_text(
        f"name: r\npanel: list.json\nmodel: {{name: tiny}}\nenvironments:\n  textcraft: {{{server}}}\n"
        "data: [textcraft_train.json]\nbc: {steps: 1}\nlearn: {steps: 1}\nevol: {iterations: 0}\n"
    )
    agenteval("list.json", ["textcraft_3", "textcraft_4"])
    records = json.loads(Path(agenttraj("textcraft_train.json", ["textcraft_4"], "Goal: craft lead.")).read_text())
    learned = [read_record(record, Counter()) for record in records]
    (line,) = overlap_of(load_recipe("r.yaml"), learned)
    assert line.startswith("textcraft: 1 of 2 evaluation tasks is in training (textcraft_4)")


class Slow:
    """A world that counts how often any of them was reset."""

    resets = 0

    def reset(self, index: int) -> str:
        Slow.resets += 1
        return f"Goal number {index}."

    def step(self, action: str) -> Step:
        return Step("", 0.0, True)

    def available_actions(self) -> list[str]:
        return ["wait"]

    def close(self) -> None:
        pass


def slow(name: str) -> EnvSpec:
    return EnvSpec(
        name=name,
        version="1",
        summary="",
        instructions="",
        brief="",
        make=Slow,
        tasks=lambda split: range(9),
        max_turns=1,
        success_above=0.5,
    )


def test_instructions_that_took_long_are_kept_for_the_next_time(monkeypatch):
    monkeypatch.setattr("agentgym.data.instructions.KEPT_SECONDS", -1.0)
    monkeypatch.setattr(Slow, "resets", 0)
    first = instructions(slow("babyai"), range(4))
    assert first == {i: f"Goal number {i}" for i in range(4)}
    assert instructions(slow("babyai"), [1, 3]) == {1: "Goal number 1", 3: "Goal number 3"}
    assert Slow.resets == 4
    assert instructions(slow("babyai"), [3, 7])[7] == "Goal number 7"
    assert Slow.resets == 5


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"a": 1}', b"\xff"])
def test_a_damaged_cache_is_made_anew(monkeypatch, tmp_path, damage):
    monkeypatch.setattr("agentgym.data.instructions.KEPT_SECONDS", -1.0)
    instructions(slow("babyai"), [2])
    (file,) = (tmp_path / "cache" / "agentgym").iterdir()
    file.write_bytes(damage)
    assert instructions(slow("babyai"), [2]) == {2: "Goal number 2"}
    assert json.loads(file.read_text()) == {"2": "Goal number 2"}


def test_an_environment_of_the_users_own_is_never_kept(monkeypatch, tmp_path):
    monkeypatch.setattr("agentgym.data.instructions.KEPT_SECONDS", -1.0)
    instructions(slow("my_own"), [2])
    assert not (tmp_path / "cache").exists()


def test_official_ids_of_embedded_environments_get_the_same_facts_and_instructions():
    agenteval("lmrlgym_maze_test.json", ["lmrlgym_maze_3"])
    row = tasklist.with_instructions(read_source("lmrlgym_maze_test.json")).row(0, named=True)
    assert row["instruction"] == "walk from 1,4 to 8,6 in maze 0"
    assert row["difficulty"] == 11
    agenteval("textcraft_test.json", ["textcraft_3"])
    row = tasklist.with_instructions(read_source("textcraft_test.json")).row(0, named=True)
    assert (row["instruction"], row["difficulty"], row["facts"]) == (None, None, "{}")


def test_ids_that_name_no_number_keep_their_own_name():
    agenttraj("alfworld_train.json", ["pick_heat_then_place_in_recep-Egg-1/trial_T2"], "Your task is to: heat an egg.")
    row = read_source("alfworld_train.json").row(0, named=True)
    assert (row["environment"], row["index"], row["task_type"]) == ("alfworld", None, "pick_heat_then_place_in_recep")
    assert row["instruction"] == "heat an egg"


def lines(name: str, *changes: dict[str, object]) -> str:
    """Writes a list of tasks as `tasks list --to` does, a line for each of the changes that are made to it."""
    list_tasks(["maze:eval"], count=len(changes), to=Path("whole.jsonl"))
    rows = [
        json.loads(line) | change
        for line, change in zip(Path("whole.jsonl").read_text().splitlines(), changes, strict=True)
    ]
    if name.endswith(".parquet"):
        rows = [row | {"facts": json.dumps(row["facts"])} for row in rows]
        pl.DataFrame(rows, schema=tasklist.schema()).write_parquet(name)
    else:
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"item_id": None}, "the task has no 'item_id'"),
        ({"environment": ""}, "the task has no 'environment'"),
        ({"version": 1}, "'version' of the task is no text"),
        ({"index": 3.7}, "'index' of the task is no whole number"),
        ({"index": True}, "'index' of the task is no whole number"),
        ({"index": -3}, "'index' of the task is below 0 or far too large"),
        ({"index": 10**400}, "'index' of the task is below 0 or far too large"),
        ({"index": 99_999_999}, "maze has no task 99999999: its numbers end at 261367"),
        ({"split": "test"}, "there is no split 'test' (known: train, explore, eval)"),
        ({"facts": None}, "the task has no 'facts'"),
        ({"facts": ["a"]}, "'facts' of the task is no object"),
        ({"instruction": "\ud83d"}, "'instruction' of the task holds half a character"),
    ],
)
def test_a_row_of_a_list_that_is_no_task_is_set_aside_with_its_place(change, complaint, capsys):
    said(capsys, "stats", lines("list.jsonl", {}, change, {}))
    out = said(capsys, "list", "list.jsonl", "--where", "layout=1,2,3,4,5,6,7,8,9")
    assert f"list.jsonl: 1 of 3 records are set aside (list.jsonl: record 2: {complaint}" in out
    assert read_source("list.jsonl").height == 2
    err = said(capsys, "overlap", "maze:train", lines("list.jsonl", change, change), code=2)
    assert err.startswith(f"agentgym: list.jsonl holds no task (list.jsonl: record 1: {complaint}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"item_id": None}, "the task has no 'item_id'"),
        ({"split": "test"}, "there is no split 'test'"),
        ({"facts": 3}, "'facts' of the task is no object"),
    ],
)
def test_so_is_a_row_of_a_list_in_parquet(change, complaint, capsys):
    out = said(capsys, "stats", lines("list.parquet", {}, {}, change))
    assert f"list.parquet: 1 of 3 records are set aside (list.parquet: record 3: {complaint}" in out


def test_a_list_may_leave_the_split_open(capsys):
    out = said(capsys, "stats", lines("list.jsonl", {"split": None}, {}))
    assert [line.split()[:4] for line in out.splitlines()[2:4]] == [["maze", "1", "eval", "1"], ["maze", "1", "-", "1"]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"phase": "dream"}, "the episode has the phase 'dream'"),
        ({"phase": None}, "the episode has the phase None"),
        ({"index": None}, "the episode does not say of which task it is"),
        ({"index": 99_999_999}, "maze has no task 99999999"),
    ],
)
def test_an_episode_of_no_task_is_set_aside(change, complaint, capsys):
    store.write(Path("run.parquet"), episodes(get_spec("maze").select("train", 2)), iteration=0, phase="expert")
    frame = pl.read_parquet("run.parquet")
    changed = frame.with_columns(**{name: pl.lit(value, frame.schema[name]) for name, value in change.items()})
    pl.concat([frame, changed]).write_parquet("run.parquet")
    out = said(capsys, "stats", "run.parquet")
    assert f"run.parquet: 2 of 4 records are set aside (run.parquet: record 3: {complaint}" in out
    changed.write_parquet("run.parquet")
    assert f"run.parquet: record 1: {complaint}" in said(capsys, "list", "run.parquet", code=2)


@pytest.mark.parametrize("kind", ["tasks", "episodes"])
def test_a_damaged_parquet_file_is_one_line(kind, capsys):
    if kind == "tasks":
        lines("some.parquet", {}, {})
    else:
        store.write(Path("some.parquet"), episodes(get_spec("maze").select("train", 2)), iteration=0, phase="expert")
    content = Path("some.parquet").read_bytes()
    complaints = 0
    for place in range(10, 40, 5):
        Path("some.parquet").write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        code = main(["tasks", "list", "some.parquet"])
        err = capsys.readouterr().err
        assert (code, len(err.splitlines())) in ((0, 0), (2, 1))
        complaints += "is damaged or gone" in err
    assert complaints


def test_a_file_that_vanishes_is_one_line(monkeypatch, capsys):
    store.write(Path("some.parquet"), episodes(get_spec("maze").select("train", 2)), iteration=0, phase="expert")
    collect_all = store.collect

    def gone(frame, name):
        Path("some.parquet").unlink()
        return collect_all(frame, name)

    monkeypatch.setattr(store, "collect", gone)
    assert "some.parquet: is damaged or gone" in said(capsys, "list", "some.parquet", code=2)


def test_names_of_files_are_no_patterns():
    Path("runs[lr=1]").mkdir()
    lines("runs[lr=1]/list.parquet", {}, {})
    assert read_source("runs[lr=1]").height == 2
    lines("a.parquet", {}, {}, {})
    lines("*.parquet", {})
    assert read_source("*.parquet").height == 1


def test_environments_and_panels_go_before_files_of_their_name(capsys):
    for name in ("maze", "maze:eval", "agenteval-mini"):
        Path(name).mkdir()
    agenteval("maze/list.json", ["todo_1"])
    assert read_source("maze").height > 100_000
    assert read_source("maze:eval").height == len(get_spec("maze").tasks(Split.EVAL))
    assert read_source("agenteval-mini").height == 400
    assert read_source("./maze")["item_id"].to_list() == ["todo_1"]
    assert "agenteval-mini holds no trajectory file" in said(capsys, "list", "./agenteval-mini", code=2)


def test_without_a_source_no_file_is_looked_at(monkeypatch):
    for name in ("babyai", "wordle"):
        Path(name).mkdir()
    monkeypatch.setattr("agentgym.tasks.environments", lambda: ["babyai", "wordle"])
    assert printed(show_stats, [])[-1].split()[:2] == ["2", "environments"]


def test_the_files_that_are_imported_are_lists_of_tasks_too(capsys):
    Path("rollouts").mkdir()
    spoken = [{"role": "user", "content": "Goal: craft lead."}, {"role": "assistant", "content": "Action:\nlook"}]
    record = {"item_id": "textcraft_3", "conversations": spoken, "reward": 1.0}
    Path("rollouts/3.json").write_text(json.dumps(record, indent=1))  # a record a file
    several = [record | {"item_id": f"textcraft_{i}"} for i in (4, 5)]
    Path("rollouts/lines.json").write_text("".join(json.dumps(each) + "\n" for each in several))
    frame = read_source("rollouts")
    assert frame["item_id"].to_list() == ["textcraft_3", "textcraft_4", "textcraft_5"]
    assert set(frame["instruction"]) == {"craft lead"}
    said(capsys, "panel", agenteval("list.json", ["maze_3"]), "--to", "rollouts/panel.json")
    assert read_source("rollouts")["item_id"].to_list()[-1] == "maze_3"


def test_files_of_a_folder_that_cannot_be_read_are_set_aside_and_told(capsys):
    Path("some").mkdir()
    agenteval("some/maze_test.JSON", ["maze_3"])
    agenteval("some/maze_train.json", ["left_4"])  # another name, but the file says maze
    Path("some/notes.txt").write_text("")
    Path("some/bad.jsonl").write_text("{")
    Path("some/bad.parquet").write_text("PAR1")
    out = said(capsys, "list", "some")
    assert "some: 1 file is left out" in out
    assert "some: 2 of 4 records are set aside (bad.jsonl: record 1: is no JSON" in out
    assert "; bad.parquet: cannot read some/bad.parquet (" in out
    frame = read_source("some")
    assert frame.select("environment", "item_id").rows() == [("maze", "maze_3"), ("maze", "left_4")]


def test_a_bad_record_is_set_aside_and_told(capsys):
    records = [{"item_id": "maze_3"}, {"item": 1}, {"item_id": "maze_99999999"}, {"item_id": "maze_4"}]
    Path("list.json").write_text(json.dumps(records))
    out = said(capsys, "list", "list.json")
    assert "list.json: 2 of 4 records are set aside (list.json: record 2: the record has no 'item_id'; " in out
    assert "list.json: record 3: maze has no task 99999999: its numbers end at 261367)" in out
    assert "2 of 2 tasks" in out


def test_a_parquet_file_of_something_else_is_refused():
    pl.DataFrame({"a": [1]}).write_parquet("some.parquet")
    with pytest.raises(DataError, match="is no trajectory file"):
        read_source("some.parquet")


@pytest.mark.skipif(not DATA.is_dir(), reason="the samples of AgentGym's data are not here")
def test_the_real_samples_are_read():
    pytest.importorskip("minigrid")
    train, test = read_source(str(DATA / "babyai_train_sample.json")), read_source(str(DATA / "babyai_test.json"))
    here = tasklist.with_instructions(train.with_columns(instruction=pl.lit(None, dtype=pl.String)))
    assert here["instruction"].equals(train["instruction"])  # the same number is the same goal
    (overlap,) = overlaps(train, test)
    assert (overlap.tasks, overlap.same_id) == (90, [])
    agenteval("lmrlgym_maze_test.json", [f"lmrlgym_maze_{i}" for i in range(25)])
    learned = read_source(str(DATA / "lmrlgym_maze_train_sample.json"))
    (overlap,) = overlaps(learned, read_source("lmrlgym_maze_test.json"))
    assert set(overlap.same_id or ()) == {i for i in learned["item_id"] if int(i.removeprefix("lmrlgym_maze_")) < 25}
