from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agentgym.cli import main
from agentgym.data import store
from agentgym.data.prompts import data_prompts
from agentgym.errors import DataError, RecipeError, RunError
from agentgym.fit import read_data
from agentgym.play import environment_pool
from agentgym.recipe import load_recipe
from agentgym.settings import Recipe
from agentgym.traj import bring_in, export, filters, show, stats
from envpool import Completion, EnvPool, ExpertPolicy, StopReason, Task, Trajectory, Turn, collect


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def episode(index: int = 0, environment: str = "maze", **changes) -> Trajectory:
    turn = Turn(Completion("Action:\nup", (5, 6, 7), (-0.5, -0.25, 0.0)), "up", "moved", 1.0, True, 0.5, 0.25)
    task = Task(environment, index)
    done = Trajectory(task, 0, "model", "Go.", "A maze.", (turn, turn), StopReason.DONE, 1.0, True, seconds=2.0)
    return replace(done, **changes)


def failed(index: int, error: str, stop: StopReason = StopReason.ERROR) -> Trajectory:
    return episode(index, stop=stop, score=None, success=None, error=error, turns=())


def record(item_id: str, prompt: str = "Walk.", **more: object) -> dict[str, object]:
    said = [(prompt, None), ("OK.", False), ("Where?", None), ("Action:\nmove up", True)]
    conversation = [
        {"from": ("human", "gpt")[i % 2], "loss": loss, "value": value} for i, (value, loss) in enumerate(said)
    ]
    return {"conversations": conversation, "item_id": item_id, **more}


def save(name: str, *records: object) -> str:
    Path(name).write_text(json.dumps(records))
    return name


@pytest.fixture
def run() -> Path:
    """A run folder with episodes of three phases."""
    folder = Path("run/trajectories")
    bad = [failed(3, "turn 1: it broke"), failed(4, "turn 2: it broke"), failed(5, "slow", StopReason.TIMEOUT)]
    lost = episode(2, success=False, score=0.0)
    store.write(folder / "explore.parquet", [episode(1), lost, *bad], iteration=1, phase="explore")
    store.write(folder / "kept.parquet", [episode(1)], iteration=1, phase="kept")
    store.write(
        folder / "eval.parquet",
        [episode(7, "wordle")],
        iteration=0,
        phase="eval",
        weights="f00d",
        sampling={"top_p": 1},
    )
    return Path("run")


def printed(call, *arguments) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        call(*arguments, console)
    return capture.get()


def test_an_episode_is_shown_to_be_read(run):
    text = printed(show, [run], {"environment": "wordle"}, 5)
    assert text.splitlines() == [
        "wordle_7, try 0: eval, iteration 0, model",
        "done after 2 turns, score 1, success, 2.0 s",
        "weights f00d",
        'sampling {"top_p": 1}',
        *["-- prompt", "Go.", "-- observation", "A maze."],
        *["-- turn 1", "Action:", "up", "-- observation, score 1", "moved"],
        *["-- turn 2", "Action:", "up", "-- observation, score 1", "moved"],
        *["", "1 of 1 episodes"],
    ]


def test_only_so_many_are_shown_and_the_others_are_counted(run):
    text = printed(show, [run], {"phase": "explore"}, 2)
    assert [line for line in text.splitlines() if "try 0" in line] == [
        "maze_1, try 0: explore, iteration 1, model",
        "maze_2, try 0: explore, iteration 1, model",
    ]
    assert text.endswith("2 of 5 episodes (-n N shows more)\n")


def test_what_an_environment_wrote_cannot_command_the_terminal():
    evil = episode(observation="\x1b[2Jgone\rover\x07 [bold]x[/bold]", error="\x9b31m")
    store.write(Path("a.parquet"), [evil], iteration=0, phase="eval")
    text = printed(show, [Path("a.parquet")], {}, 1)
    assert "\\x1b[2Jgone\\x0dover\\x07 [bold]x[/bold]" in text
    assert not {"\x1b", "\x9b", "\x07", "\r"} & set(text)


def test_statistics_count_by_environment_phase_and_iteration(run):
    rows = [" ".join(line.split()) for line in printed(stats, [run], {}).splitlines()]
    assert rows[:4] == [
        "environment phase iteration episodes finished succeeded turns tokens seconds policy environment errors",
        "maze explore 1 5 2 1 of 2 0.8 12 2.00 0.40 0.20 1 timeout, 2 error",
        "maze kept 1 1 1 1 of 1 2.0 6 2.00 1.00 0.50",
        "wordle eval 0 1 1 1 of 1 2.0 6 2.00 1.00 0.50",
    ]
    assert rows[-2:] == ["2 x maze: turn: it broke", "1 x maze: slow"]
    assert "wordle" not in printed(stats, [run], {"environment": "maze"})


def test_an_export_of_a_run_holds_every_episode_once(run, capsys):
    export([run], Path("out.jsonl"), {})
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert sorted(line["item_id"] for line in lines) == [*(f"maze_{n}" for n in range(1, 6)), "wordle_7"]
    assert [line["reward"] for line in lines if line["item_id"] == "maze_2"] == [0.0]
    export([run], Path("kept.json"), {"phase": "kept"})
    (kept,) = json.loads(Path("kept.json").read_text())
    assert kept["item_id"] == "maze_1"
    assert [m["value"] for m in kept["conversations"][-2:]] == ["moved", "Action:\nup"]
    export([run], Path("all.json"), {"environment": "maze"})
    assert len(json.loads(Path("all.json").read_text())) == 2
    assert "2 episodes are in all.json; 3 without a turn have no place in AgentTraj" in capsys.readouterr().out


def test_agenttraj_comes_out_of_an_import_as_it_went_in(capsys):
    records = [record("lmrlgym_maze_3"), record("textcraft_4"), record("lmrlgym_maze_3", "Run.")]
    bring_in([save("a.json", *records)], Path("a.parquet"))
    export([Path("a.parquet")], Path("b.json"), {})
    assert json.dumps(json.loads(Path("b.json").read_text())) == json.dumps(records)
    assert "3 of 3 records are in a.parquet" in capsys.readouterr().out
    assert not Path("quarantine.jsonl").exists()


def test_an_import_sets_damaged_records_aside_and_says_where(capsys):
    bring_in([save("a.json", record("maze_3"), {"item_id": "maze_1"}), save("b.json", 5)], Path("to"))
    out = capsys.readouterr().out
    assert "1 of 3 records are in to/" in out
    assert "2 of 3 records are set aside (a.json: record 2: the record has no 'conversations'" in out
    lines = [json.loads(line) for line in Path("to/quarantine.jsonl").read_text().splitlines()]
    assert [(line["file"], line["record"]) for line in lines] == [("a.json", 2), ("b.json", 1)]
    bring_in([save("c.json", record("maze_4"))], Path("to"))
    assert len(store.read(store.files(Path("to")))) == 2


def test_nothing_sound_is_one_line_but_the_quarantine_is_written():
    with pytest.raises(DataError, match=r"a\.json holds no trajectory \(a\.json: record 1: the record is no object\)"):
        bring_in([save("a.json", 5)], Path("a.parquet"))
    assert Path("quarantine.jsonl").exists()
    assert not Path("a.parquet").exists()


def test_an_export_that_fails_leaves_nothing_behind():
    store.write(Path("a.parquet"), [episode()], iteration=0, phase="eval")
    Path("file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write file/out"):
        export([Path("a.parquet")], Path("file/out.json"), {})
    damaged = bytearray(Path("a.parquet").read_bytes())
    damaged[20] ^= 255
    Path("b.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match=r"b\.parquet is damaged"):
        export([Path("a.parquet"), Path("b.parquet")], Path("out.json"), {})
    assert sorted(path.name for path in Path().iterdir()) == ["a.parquet", "b.parquet", "file"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("traj", "the following arguments are required: show | stats | export | import"),
        ("traj show nope", "there is no nope: name a run"),
        ("traj show recipe.json", "recipe.json is no Parquet file"),
        ("traj show a.parquet --item maze_9", "no episode matches item_id=maze_9"),
        ("traj stats a.parquet --where envronment=maze", "no 'envronment'; did you mean 'environment'?"),
        ("traj stats a.parquet --where success=perhaps", "success=perhaps: 'perhaps' is no Boolean"),
        ("traj stats a.parquet --where index=one", "index=one: 'one' is no Int64"),
        ("traj stats a.parquet --where turns=2", "episodes have no 'turns'"),
        ("traj stats a.parquet --where maze", "--where 'maze' is not written like environment=maze,success=true"),
        ("traj export a.parquet --to out.csv", "'out.csv' should end in .json (AgentTraj) or .jsonl"),
        ("traj import recipe.json --to a.parquet", "a.parquet is there already"),
        ("traj import none.json --to b.parquet", "there is no none.json"),
        ("traj import hf://AgentGym --to b.parquet", "'hf://AgentGym' names no data set"),
    ],
)
def test_mistakes_are_one_line(words, line, capsys):
    store.write(Path("a.parquet"), [episode()], iteration=0, phase="eval")
    save("recipe.json")
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert line in err
    assert sorted(path.name for path in Path().iterdir()) == ["a.parquet", "recipe.json"]


def test_the_commands_work_from_end_to_end(capsys):
    save("alfworld_train.json", record("pick_two-Pen_trial_T1"), record("maze_1", reward=0.0))
    assert main(["traj", "import", "alfworld_train.json", "--to", "a.parquet"]) == 0
    assert main(["traj", "stats", "a.parquet"]) == 0
    assert main(["traj", "show", "a.parquet", "--item", "pick_two-Pen_trial_T1"]) == 0
    assert main(["traj", "show", "a.parquet", "--where", "success=null,environment=alfworld", "-n", "3"]) == 0
    assert main(["traj", "export", "a.parquet", "--where", "success=false", "--to", "out.jsonl"]) == 0
    out = capsys.readouterr().out
    assert out.count("pick_two-Pen_trial_T1, try 0: imported, iteration 0, agenttraj") == 2
    assert json.loads(Path("out.jsonl").read_text())["reward"] == 0.0


def test_filters_are_read_as_they_are_written():
    assert filters("environment=maze, success=true") == {"environment": "maze", "success": "true"}
    assert filters("error=a=b") == {"error": "a=b"}
    assert filters(None) == {}


RECIPE = """
name: trial
model: {name: tiny}
environments: {maze: {eval: 2}, wordle: {eval: 2}}
bc: {steps: 5}
learn: {steps: 5}
prompt: from_data
"""


def recipe(*files: str, **overrides: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE)
    return load_recipe("recipe.yaml", [f"data=[{', '.join(files)}]", *(f"{k}={v}" for k, v in overrides.items())])


def test_models_are_told_what_the_data_tells_most_often():
    first = save("a.json", record("lmrlgym_maze_1", "Run."), record("lmrlgym_maze_2"), record("wordle_3", "Guess."))
    second = save("b.json", record("lmrlgym_maze_4"), record("babyai_5", "Other."))
    found = data_prompts(recipe(first, second))
    assert found.texts == {"maze": "Walk.", "wordle": "Guess."}
    assert found.notes == ("`data` has 2 prompts for maze: the one of 2 of 3 records is used",)
    tasks = [Task("maze", 3), Task("wordle", 3)]
    played = collect(environment_pool(recipe(first, second), here=True), tasks, ExpertPolicy())
    assert sorted((t.task.environment, t.prompt) for t in played) == [("maze", "Walk."), ("wordle", "Guess.")]
    assert data_prompts(recipe(first, second, prompt="full")).texts == {}


def test_an_environment_without_a_prompt_in_the_data_is_a_mistake(capsys):
    no_prompt = {"item_id": "wordle_3", "conversations": record("x")["conversations"][2:]}
    name = save("a.json", record("maze_1"), no_prompt)
    with pytest.raises(RecipeError, match=r"^prompt: no file of `data` tells how to play wordle .*: add one that does"):
        data_prompts(recipe(name))
    assert main(["validate", "recipe.yaml", f"data=[{name}]"]) == 2
    assert "tells how to play wordle" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="prompt: from_data takes the words from trajectory files"):
        recipe()


def test_the_pool_says_a_prompt_word_for_word():
    pool = EnvPool(prompts={"maze": " Walk!\n"})
    played = {t.task.environment: t for t in collect(pool, [Task("maze", 3), Task("wordle", 3)], ExpertPolicy())}
    assert played["maze"].prompt == " Walk!\n"
    assert played["maze"].messages[0].content == f" Walk!\n\n\n{played['maze'].observation}"
    assert "Thought:" in played["wordle"].prompt


def test_data_is_read_from_folders_and_what_did_not_succeed_is_not_learned_from(capsys):
    Path("data").mkdir()
    save("data/maze_test.json", record("maze_1", reward=1.0), record("maze_2", reward=0.0), record("maze_3"), 5)
    store.write(Path("data/b.parquet"), [episode(4), failed(5, "it broke")], iteration=0, phase="explore")
    assert recipe("data").data == ["data"]
    learned = read_data("data", Path("run/quarantine.jsonl"))
    assert sorted(t.item_id for t in learned) == ["maze_1", "maze_3", "maze_4"]
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "data: 1 of 6 records are set aside (maze_test.json: record 4: the record is no object): "
        "see run/quarantine.jsonl",
        "data: 2 of 5 episodes did not succeed and are left out",
    ]
    assert len(Path("run/quarantine.jsonl").read_text().splitlines()) == 1


def test_a_recipe_names_data_that_there_is():
    Path("empty").mkdir()
    for name, words in [
        ("empty", "the folder 'empty' holds no trajectory file"),
        ("hf://x", "write hf://OWNER/DATASET"),
    ]:
        with pytest.raises(RecipeError, match=words):
            recipe(name)
    assert recipe("hf://AgentGym/AgentTraj-L").data == ["hf://AgentGym/AgentTraj-L"]


def test_a_score_that_nobody_knows_is_not_shown():
    turn = Turn(Completion("Hm."), None, "Say what you do.", math.nan, learned=False)
    store.write(Path("a.parquet"), [episode(turns=(turn,), score=None, success=None)], iteration=0, phase="eval")
    text = printed(show, [Path("a.parquet")], {}, 1)
    assert "score unknown, success unknown" in text
    assert "-- turn 1, not learned from\nHm.\n-- correction\nSay what you do.\n" in text
