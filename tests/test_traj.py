from __future__ import annotations

import json
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agentgym.cli import main
from agentgym.data import store
from agentgym.data.codec import Codec
from agentgym.data.prompts import data_prompts
from agentgym.data.where import filters
from agentgym.errors import DataError, RecipeError, RunError
from agentgym.experts import read_data
from agentgym.models import build_tiny, load_tokenizer
from agentgym.play import environment_pool
from agentgym.recipe import load_recipe
from agentgym.settings import Recipe, TinySettings
from agentgym.traj import bring_in, export, show, stats
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
    text = printed(show, [run], {"environment": ["wordle"]}, 5)
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
    text = printed(show, [run], {"phase": ["explore"]}, 2)
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
        "environment phase iteration episodes finished succeeded turns tokens seconds policy s env s errors",
        "maze explore 1 5 2 1 of 2 0.8 12 2.00 0.40 0.20 1 timeout, 2 error",
        "maze kept 1 1 1 1 of 1 2.0 6 2.00 1.00 0.50",
        "wordle eval 0 1 1 1 of 1 2.0 6 2.00 1.00 0.50",
    ]
    assert rows[-2:] == ["2 x maze: turn: it broke", "1 x maze: slow"]
    assert "wordle" not in printed(stats, [run], {"environment": ["maze"]})


def test_an_export_of_a_run_holds_every_episode_once(run, capsys):
    export([run], Path("out.jsonl"), {})
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert sorted(line["item_id"] for line in lines) == [*(f"maze_{n}" for n in range(1, 6)), "wordle_7"]
    assert [line["reward"] for line in lines if line["item_id"] == "maze_2"] == [0.0]
    export([run], Path("kept.json"), {"phase": ["kept"]})
    (kept,) = json.loads(Path("kept.json").read_text())
    assert kept["item_id"] == "maze_1"
    assert [m["value"] for m in kept["conversations"][-2:]] == ["moved", "Action:\nup"]
    capsys.readouterr()
    with pytest.raises(DataError, match=r"kept\.json is there already: name another file"):
        export([run], Path("kept.json"), {})


def test_messages_are_lessons_that_hold_what_was_sampled(run, capsys):
    masked = episode(9, turns=(replace(episode().turns[0], learned=False), *episode().turns[1:]))
    store.write(run / "trajectories/more.parquet", [masked], iteration=1, phase="explore")
    assert main(["traj", "export", str(run), "--to", "out.jsonl", "--as", "messages"]) == 0
    first, second = (json.loads(line) for line in Path("out.jsonl").read_text().splitlines())
    assert [line["item_id"] for line in (first, second)] == ["maze_1", "maze_9"]
    answer = {"role": "assistant", "content": "Action:\nup", "token_ids": [5, 6, 7], "logprobs": [-0.5, -0.25, 0.0]}
    assert first["messages"] == [
        {"role": "user", "content": "Go.\n\nA maze."},
        {**answer, "loss": True},
        {"role": "user", "content": "moved"},
        {**answer, "loss": True},
    ]
    assert [message.get("loss") for message in second["messages"]] == [None, False, None, True]
    out = capsys.readouterr().out
    assert "1 of 2 episodes have answers that are not learned from (loss: false), which TRL does not see" in out
    assert main(["traj", "import", "out.jsonl", "--to", "back.parquet"]) == 0
    assert "have a key" not in capsys.readouterr().out
    for back, before in zip(store.read(["back.parquet"]), (episode(1), masked), strict=True):
        assert [(t.completion, t.learned) for t in back.turns] == [(t.completion, t.learned) for t in before.turns]


def test_messages_can_hold_the_tokens_of_a_model_and_the_mask_of_what_is_learned_from(tmp_path, capsys):
    tiny = str(tmp_path / "tiny")
    settings = TinySettings(vocabulary=300, layers=1, hidden=16, heads=2)
    build_tiny(settings, ["Go. A maze. moved Action: up"], context=64, seed=0, folder=Path(tiny))
    masked = episode(9, turns=(replace(episode().turns[0], learned=False), *episode().turns[1:]))
    store.write(Path("a.parquet"), [masked], iteration=1, phase="explore")
    assert main(["traj", "export", "a.parquet", "--to", "a.jsonl", "--as", "messages", "--tokenizer", tiny]) == 0
    (line,) = (json.loads(line) for line in Path("a.jsonl").read_text().splitlines())
    tokens = Codec(load_tokenizer(tiny)).encode(masked)
    assert line["input_ids"] == list(tokens.ids)
    assert line["assistant_masks"] == list(map(int, tokens.mask))
    assert 0 < sum(line["assistant_masks"]) < len(line["assistant_masks"])
    capsys.readouterr()
    bring_in(["a.jsonl"], Path("back.parquet"))
    assert "not read" not in capsys.readouterr().out
    assert [turn.learned for turn in store.read(["back.parquet"])[0].turns] == [False, True]


def test_thoughts_beside_an_answer_are_shown_and_said_where_an_export_has_no_place_for_them(capsys):
    turn = replace(episode().turns[0], completion=Completion("Action:\nup", reasoning="North is free.", cut=True))
    store.write(Path("a.parquet"), [episode(turns=(turn,))], iteration=0, phase="explore")
    text = printed(show, [Path("a.parquet")], {}, 1)
    assert "-- thoughts beside turn 1\nNorth is free.\n-- turn 1, cut\nAction:\nup\n" in text
    export([Path("a.parquet")], Path("a.json"), {})
    out = capsys.readouterr().out
    assert "1 of 1 episodes have thoughts beside their answers, which AgentTraj has no place for" in out
    for form in ("rollouts", "messages"):
        export([Path("a.parquet")], Path(f"{form}.jsonl"), {}, form)
        bring_in([f"{form}.jsonl"], Path(f"{form}.parquet"))
        assert store.read([f"{form}.parquet"])[0].turns[0].completion == turn.completion


def test_rollouts_of_what_was_played_hold_no_turn_that_was_not(run):
    export([run], Path("out.jsonl"), {"item_id": ["wordle_7"]})
    (line,) = (json.loads(line) for line in Path("out.jsonl").read_text().splitlines())
    said = [(message["role"], message["content"]) for message in line["conversations"]]
    turn = [("assistant", "Action:\nup"), ("user", "moved")]
    assert said == [("user", "Go.\n\nA maze."), *turn, *turn]


def test_agenttraj_is_for_learning_unless_a_filter_asks_for_the_rest(run, capsys):
    store.write(run / "trajectories/control.parquet", [episode(8)], iteration=1, phase="control")
    export([run], Path("all.json"), {})
    assert [record["item_id"] for record in json.loads(Path("all.json").read_text())] == ["maze_1"]
    assert capsys.readouterr().out.splitlines()[2:] == [
        "1 episodes are in all.json: 1 explore",
        "7 of 8 are left out: 4 without success, 1 control (only measured), 1 eval (only measured), "
        "1 kept (and explored as well)",
    ]
    export([run], Path("failed.json"), {"phase": ["explore"], "success": ["true", "false", "null"]})
    assert [record["item_id"] for record in json.loads(Path("failed.json").read_text())] == ["maze_1", "maze_2"]
    assert "3 of 5 are left out: 3 without a turn" in capsys.readouterr().out
    export([run], Path("eval.json"), {"phase": ["eval", "control"]})
    assert len(json.loads(Path("eval.json").read_text())) == 2
    with pytest.raises(DataError, match=r"of 1 episodes 1 eval \(only measured\) are left out: name them, as in"):
        export([run / "trajectories/eval.parquet"], Path("none.json"), {})
    assert not Path("none.json").exists()


def test_what_was_kept_is_only_left_out_where_it_is_explored_too(run):
    export([run / "trajectories/kept.parquet"], Path("a.jsonl"), {})
    assert len(Path("a.jsonl").read_text().splitlines()) == 1
    later = [episode(1), episode(6)]  # `merge: previous` carries what was kept before
    store.write(run / "trajectories/kept-2.parquet", later, iteration=2, phase="kept")
    files = sorted((run / "trajectories").glob("*.parquet"), reverse=True)
    export(files, Path("b.json"), {})
    assert [record["item_id"] for record in json.loads(Path("b.json").read_text())] == ["maze_6", "maze_1"]


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
    with pytest.raises(
        RunError, match=r"cannot write file/out\.json: (File exists|Not a directory); name another place$"
    ):
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
        ("traj stats a.parquet --where maze", "--where 'maze' is not written like environment=NAME,success=true"),
        ("traj show a.parquet --item=", "no episode matches item_id="),
        ("traj show a.parquet -n 0", "-n 0: at least one episode"),
        ("traj show a.parquet -n -5", "-n -5: at least one episode"),
        ("traj export a.parquet --to out.csv", "'out.csv' should end in .json (AgentTraj) or .jsonl"),
        (
            "traj export a.parquet --to a.jsonl --as message",
            "--as 'message' is not one of agenttraj, rollouts, messages",
        ),
        ("traj export a.parquet --to a.json --as messages", "'a.json' should end in .jsonl, as messages do"),
        ("traj export a.parquet --to a.jsonl --tokenizer x", "only messages hold tokens: add --as messages"),
        ("traj export a.parquet --to recipe.json", "recipe.json is there already: name another file"),
        ("traj import recipe.json --to new.json", "new.json is no folder: name a new FILE.parquet, or a folder"),
        ("traj import recipe.json --to recipe.json", "recipe.json is no folder"),
        (f"traj import {'x' * 300} --to b.parquet", "File name too long; choose a shorter one"),
        (f"traj export a.parquet --to {'x' * 300}.jsonl", "File name too long; choose a shorter one"),
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
    assert filters("environment=maze, success=true") == {"environment": ["maze"], "success": ["true"]}
    assert filters("environment=maze,environment=babyai") == {"environment": ["maze", "babyai"]}
    assert filters("error=a=b") == {"error": ["a=b"]}
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


def test_what_a_run_does_not_read_of_its_data_is_told(capsys):
    save("maze_train.json", record("maze_1", source="web"), record("maze_2", reward=50))
    assert len(read_data("maze_train.json", Path("run/quarantine.jsonl"))) == 1
    out = capsys.readouterr().out
    assert "the reward 50 is beyond maze's scores, 0 to 1 (is it a percentage?)" in out
    assert "maze_train.json: 1 of 2 records have a key 'source' that is not read" in out


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


def test_two_values_of_a_column_mean_either(run):
    text = printed(stats, [run], filters("environment=maze,environment=wordle,phase=eval,phase=kept"))
    assert [line.split()[:2] for line in text.splitlines()[1:3]] == [["maze", "kept"], ["wordle", "eval"]]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_statistics_never_cut_a_number(run, width):
    many = [episode(index, "a_long_environment") for index in range(2_345)]
    store.write(run / "trajectories/many.parquet", many, iteration=12, phase="control")
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        stats([run], {}, console)
    head, row, *rest = capture.get().splitlines()
    titles = re.split(r"  +", head)
    assert len(set(titles)) == len(titles)
    assert "\u2026" not in capture.get()
    assert row.split()[:4] == ["a_long_environment", "control", "12", "2,345"]
    assert "2,345 of 2,345" in row
    assert ("env s" in head) == (width == 200)
    assert ("a wider terminal shows env s" in capture.get()) == (width < 200)
    assert width == 40 or max(map(len, (head, row))) <= width
    assert any(line.endswith("1 timeout, 2 error" if width == 200 else "1 timeout") for line in rest)


def foreign(path: Path, **columns: object) -> None:
    """A trajectory file that another program wrote, with some columns changed."""
    pl = store.polars()
    store.write(path, [episode(0), episode(1)], iteration=0, phase="explore")
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def test_statistics_of_what_should_not_be_null_are_a_question_mark():
    pl = store.polars()
    null = {"turns": pl.lit(None, store.schema()["turns"]), "seconds": pl.lit(None, pl.Float64)}
    foreign(Path("a.parquet"), phase=pl.Series(["[/training]", None]), iteration=pl.Series([1, None]), **null)
    foreign(Path("b.parquet"), environment=pl.lit(None, pl.String), error=pl.lit("lost"))
    rows = [line.split() for line in printed(stats, [Path("a.parquet"), Path("b.parquet")], {}).splitlines()]
    assert rows[1][:3] == ["?", "explore", "0"]
    assert rows[2][:3] == ["maze", "?", "?"]
    assert rows[3] == ["maze", "[/training]", "1", "1", "1", "1", "of", "1", "?", "-", "?", "?", "?"]
    assert rows[-1] == ["2", "x", "?:", "lost"]


def damaged(path: Path) -> None:
    """Makes nonsense of the pages of a file and leaves its footer."""
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    path.write_bytes(bytes(content[:4]) + bytes(end - 4) + bytes(content[end:]))


@pytest.mark.parametrize("words", ["stats", "show --where success=true", "export --where success=true --to out.jsonl"])
def test_a_damaged_page_is_one_line_that_names_the_file(words, run, capsys):
    damaged(run / "trajectories/explore.parquet")
    command, *rest = words.split()
    assert main(["traj", command, str(run), *rest]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("agentgym: run/trajectories/explore.parquet is damaged")


def test_a_file_that_vanishes_meanwhile_is_one_line(run, monkeypatch):
    scan = store.scan

    def vanishing(paths):
        frame = scan(paths)
        (run / "trajectories/eval.parquet").unlink(missing_ok=True)
        return frame

    monkeypatch.setattr(store, "scan", vanishing)
    with pytest.raises(DataError, match=r"eval\.parquet"):
        stats([run], {})


def test_an_import_of_parquet_changes_nothing(run):
    bring_in([str(run / "trajectories")], Path("all.parquet"))
    before = [row for path in store.files(run) for row in store.rows(path)]
    assert list(store.rows(Path("all.parquet"))) == before
    assert {(row["phase"], row["iteration"], row["weights"], row["sampling"]) for row in before} == {
        ("explore", 1, None, None),
        ("kept", 1, None, None),
        ("eval", 0, "f00d", '{"top_p": 1}'),
    }


def test_a_damaged_file_of_a_folder_is_set_aside_and_alone_it_is_an_error(run, capsys):
    pl = store.polars()
    damaged(run / "trajectories/kept.parquet")
    pl.DataFrame({"price": [2.0]}).write_parquet(run / "trajectories/other.parquet")
    foreign(run / "trajectories/null.parquet", prompt=pl.Series(["Go.", None]))
    bring_in([str(run)], Path("st"))
    out = capsys.readouterr().out
    assert "7 of 10 records are in st/" in out
    assert "3 of 10 records are set aside (kept.parquet: is damaged" in out
    lines = [json.loads(line) for line in Path("st/quarantine.jsonl").read_text().splitlines()]
    assert [(Path(line["file"]).name, line["record"]) for line in lines] == [
        ("kept.parquet", None), ("null.parquet", 2), ("other.parquet", None),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"kept\.parquet holds no trajectory \(kept\.parquet: is damaged"):
        bring_in([str(run / "trajectories/kept.parquet")], Path("b.parquet"))


def test_what_an_import_set_aside_is_no_data(capsys):
    bring_in([save("a.json", record("maze_3"), 5)], Path("st"))
    capsys.readouterr()
    bring_in(["st"], Path("b.parquet"))
    assert "1 of 1 records are in b.parquet" in capsys.readouterr().out
    assert len(read_data("st", Path("q.jsonl"))) == 1
    assert main(["tasks", "list", "st"]) == 0


def test_a_second_import_of_the_same_file_is_told(capsys):
    name = save("a.json", record("lmrlgym_maze_3"), record("maze_3"), record("maze_4"))
    bring_in([name], Path("st"))
    assert "before" not in capsys.readouterr().out
    assert [t.sample for t in store.read(store.files(Path("st")))] == [0, 1, 0]
    bring_in([save("b.json", record("maze_3"), record("maze_5"))], Path("st"))
    assert "1 of them are the same task and try as an episode that was in st before" in capsys.readouterr().out
    bring_in([name], Path("new"))
    assert "before" not in capsys.readouterr().out


def test_files_of_other_kinds_are_named(capsys):
    Path("data").mkdir()
    save("data/maze_test.JSON", record("maze_3"))
    for name in ("a.txt", "b.json.gz", "c.md", "d.md"):
        Path("data", name).write_text("?")
    line = "4 files are left out, for they do not end in .json, .jsonl, .parquet (a.txt, b.json.gz, c.md and 1 more)"
    bring_in(["data"], Path("a.parquet"))
    assert line in capsys.readouterr().out.splitlines()
    assert len(read_data("data", Path("q.jsonl"))) == 1
    assert f"data: {line}" in capsys.readouterr().out.splitlines()


def test_when_nothing_is_sound_the_quarantine_is_named():
    with pytest.raises(DataError, match=r"\(st/quarantine\.jsonl lists all that was set aside\)$"):
        bring_in([save("a.json", 5)], Path("st"))


def test_an_import_into_a_run_would_not_be_seen(run):
    with pytest.raises(DataError, match="run is a run: name another folder"):
        bring_in([save("a.json", record("maze_3"))], run)


def test_of_two_imports_to_one_file_one_is_refused(monkeypatch):
    write = store.write_rows

    def beaten(path, rows, **how):
        path.write_bytes(b"the other one's")
        write(path, rows, **how)

    monkeypatch.setattr(store, "write_rows", beaten)
    with pytest.raises(RunError, match=r"a\.parquet is there already: name another file"):
        bring_in([save("a.json", record("maze_3"))], Path("a.parquet"))
    assert Path("a.parquet").read_bytes() == b"the other one's"
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "a.parquet"]


def test_of_a_run_only_what_is_for_learning_is_read_and_once(run, capsys):
    store.write(run / "trajectories/control.parquet", [episode(8)], iteration=1, phase="control")
    assert [t.item_id for t in read_data("run/trajectories", Path("q.jsonl"))] == ["maze_1"]
    assert capsys.readouterr().out.splitlines() == [
        "run/trajectories: 2 of 8 episodes were played to measure (eval, control) and are left out",
        "run/trajectories: 1 of 8 episodes are there twice (explored and kept) and count once",
        "run/trajectories: 4 of 8 episodes did not succeed and are left out",
    ]
    bring_in(["run/trajectories"], Path("a.parquet"))
    assert [t.item_id for t in read_data("a.parquet")] == ["maze_1"]
    assert [t.item_id for t in read_data("run/trajectories/kept.parquet")] == ["maze_1"]


def test_only_commands_that_save_say_that_they_go_on(monkeypatch, capsys):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    def stopped(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("agentgym.traj.stats", interrupted)
    assert main(["traj", "stats", "run"]) == 130
    assert capsys.readouterr().err == "agentgym: interrupted\n"
    monkeypatch.setattr("agentgym.traj.stats", stopped)
    assert main(["traj", "stats", "run"]) == 75
    assert capsys.readouterr().err == "agentgym: stopped by SIGTERM\n"


def test_calls_as_data_are_shown_with_the_result_of_each():
    both = '<tool_call>\n{"name": "move", "arguments": {"direction": "up"}}\n</tool_call>\n' * 2

    def answer(conversation):
        return both

    (played,) = collect(EnvPool(format="native", max_turns={"maze": 2}), [Task("maze", 3)], answer)
    turn = replace(played.turns[0], info={"walls": 2})
    store.write(Path("a.parquet"), [replace(played, turns=(turn,))], iteration=0, phase="explore")
    text = printed(show, [Path("a.parquet")], {}, 1)
    assert "tools offered as data: move, act" in text
    assert f"-- observation 1, score 0\n{turn.results[0]}\n-- observation 2, score 0\n{turn.results[1]}\n" in text
    assert "-- info\nwalls 2\n" in text
