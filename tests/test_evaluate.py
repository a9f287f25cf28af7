"""Whole evaluations, with players that need no model and with a model that was never taught anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym import cli, evaluate, play
from agentgym.data import store
from agentgym.data.journal import Journal
from agentgym.errors import DataError, ModelError, RecipeError, RunError
from agentgym.manner import FILE, in_manner_of, manner_of, read_manner, write_manner
from agentgym.models import build_tiny
from agentgym.play import tasks_of
from agentgym.recipe import load_recipe
from agentgym.settings import EnvironmentSettings, FormatName, ModelSettings, Prompt, Recipe, TinySettings
from envpool import Split

RECIPE = """\
name: board
output: {output}
model: {{name: random, context: 2048}}
environments:
  maze: {{eval: 8, max_turns: 4, where: {{size: [4], distance: [2, 3, 4]}}}}
  textcraft: {{eval: 6, max_turns: 4, where: {{depth: [1], distractors: [1]}}}}
generation: {{max_tokens: 64}}
trainer: {{accelerator: cpu}}
"""

TAUGHT = ("prompt=brief", "format=function_calling", "model.context=400", "generation.max_tokens=12")


def recipe(folder: Path, *overrides: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(output=folder / "runs"))
    return load_recipe(file, overrides)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that answers nonsense, with a note of how it was taught."""
    folder = tmp_path_factory.mktemp("model")
    settings = TinySettings(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, vocabulary=400)
    build_tiny(settings, ["Thought: go. Action: move up"] * 50, context=400, seed=0, folder=folder / "taught")
    write_manner(recipe(folder, *TAUGHT), folder / "taught")
    return folder / "taught"


def report_of(folder: Path, name: str = "board") -> dict:
    return json.loads((folder / "runs" / name / "report.json").read_text())


def test_every_player_has_a_row_in_one_run_folder(tmp_path, capsys):
    recipe(tmp_path)
    assert cli.main(["eval", str(tmp_path / "recipe.yaml"), "--player", "expert", "--player", "random"]) == 0
    report = report_of(tmp_path)
    expert, random = report["players"]
    assert [expert["player"], random["player"]] == ["expert", "random"]
    assert expert["macro"]["success"] == 1.0
    assert random["macro"]["success"] < 0.6
    (comparison,) = report["comparisons"]
    assert (comparison["won"], comparison["tasks"]) == (0, 14)
    assert comparison["lost"] > 0
    assert (tmp_path / "runs" / "board" / "report.md").read_text().startswith("# board\n")
    assert "expert" in (tmp_path / "runs" / "board" / "report.html").read_text()
    assert "expert: 14 held-out tasks, coverage 14/14." in capsys.readouterr().out
    assert report["recipe"]["eval"] == {"samples": 1, "limit": None, "players": ["expert", "random"], "manner": "model"}


def test_without_players_the_recipes_model_is_measured(tmp_path):
    made = evaluate.evaluate(recipe(tmp_path))
    assert [player.name for player in made.players] == ["random"]
    assert made.players[0].trajectories == ["eval-random-0.parquet"]


def test_several_tries_are_different_and_lie_in_files_of_their_own(tmp_path):
    recipe(tmp_path)
    assert cli.main(["eval", str(tmp_path / "recipe.yaml"), "--sample", "3", "--limit", "4"]) == 0
    (player,) = report_of(tmp_path)["players"]
    assert player["samples"] == 3
    assert player["trajectories"] == [f"eval-random-{sample}.parquet" for sample in range(3)]
    maze = player["environments"]["maze"]
    assert (maze["tasks"], maze["episodes"], list(maze["pass_at_k"])) == (4, 12, ["1", "2", "3"])
    assert maze["pass_hat_k"]["3"] <= maze["success"] <= maze["pass_at_k"]["3"]
    folder = tmp_path / "runs" / "board" / "trajectories"
    tries = [store.read([folder / name]) for name in player["trajectories"]]
    assert [{t.sample for t in played} for played in tries] == [{0}, {1}, {2}]
    assert tries[0][0].turns != tries[1][0].turns


def test_a_limit_takes_some_of_the_same_tasks(tmp_path):
    everything = tasks_of(recipe(tmp_path), Split.EVAL)
    few, more = (evaluate._tasks(recipe(tmp_path, f"eval.limit={limit}")) for limit in (3, 5))
    assert set(few) < set(more) < set(everything)
    assert [task.environment for task in few] == ["maze"] * 3 + ["textcraft"] * 3


def outcome(folder: Path) -> dict[str, object]:
    report = json.loads((folder / "report.json").read_text())
    files = sorted(folder.glob("trajectories/*.parquet"))
    episodes = {path.name: [_timeless(t) for t in store.read([path])] for path in files}
    return {"report": {k: v for k, v in report.items() if k not in ("seconds", "recipe")}, "episodes": episodes}


def _timeless(trajectory):
    turns = tuple((turn.completion.text, turn.action, turn.observation, turn.score) for turn in trajectory.turns)
    return trajectory.task, trajectory.sample, turns, trajectory.stop, trajectory.score


KILLED = """\
import os, signal, sys
from agentgym import cli
from agentgym.data.journal import Journal
before, added = Journal.add, []
def add(journal, episodes):
    before(journal, episodes)
    added.append(1)
    if len(added) == 20:  # in the middle of the second player
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = add
cli.main(sys.argv[1:])
"""


def test_an_evaluation_that_was_killed_goes_on_and_plays_nothing_twice(tmp_path, monkeypatch):
    settings = recipe(tmp_path, "eval.players=[expert, random]")
    evaluate.evaluate(replace(settings, output=str(tmp_path / "whole")))
    command = ["eval", str(tmp_path / "recipe.yaml"), "--player", "expert", "--player", "random"]
    ended = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    run = tmp_path / "runs" / "board"
    done = {t.task: t for _, t in Journal(run / "trajectories" / "eval-random-0.parquet").read()}
    assert (run / "trajectories" / "eval-expert-0.parquet").exists()
    assert 0 < len(done) < len(tasks_of(settings, Split.EVAL))
    asked = []
    before = play.collect

    def collect(pool, tasks, policy, **options):
        asked.extend(tasks)
        return before(pool, tasks, policy, **options)

    monkeypatch.setattr(play, "collect", collect)
    evaluate.evaluate(settings)
    assert set(asked) == set(tasks_of(settings, Split.EVAL)) - done.keys()
    assert outcome(run) == outcome(tmp_path / "whole" / "board")
    assert sorted(path.name for path in (run / "trajectories").iterdir()) == [
        "eval-expert-0.parquet",
        "eval-random-0.parquet",
    ]


def test_a_finished_evaluation_is_only_reported_again(tmp_path):
    first = evaluate.evaluate(recipe(tmp_path))
    folder = tmp_path / "runs" / "board" / "trajectories"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert evaluate.evaluate(recipe(tmp_path)).players == first.players
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    with pytest.raises(RunError, match=r"another eval\.samples"):
        evaluate.evaluate(recipe(tmp_path, "eval.samples=2"))


def test_workers_divide_the_tasks(tmp_path):
    alone = evaluate.evaluate(recipe(tmp_path))
    shared = evaluate.evaluate(recipe(tmp_path, "pool.workers=2", "name=shared"))
    assert shared.players[0].played == alone.players[0].played


def test_a_model_is_measured_as_it_was_taught(tmp_path, model):
    made = evaluate.evaluate(recipe(tmp_path, f"eval.players=[{model}]"))
    (player,) = made.players
    assert player.taught
    assert player.manner == manner_of(recipe(tmp_path, *TAUGHT))
    file = tmp_path / "runs" / "board" / "trajectories" / player.trajectories[0]
    prompts = {trajectory.prompt for trajectory in store.read([file])}
    assert all(len(prompt) < 600 for prompt in prompts)
    assert any("is measured as it was taught (prompt brief, format function_calling" in line for line in made.lines())
    assert made.lines()[-1].endswith("together with eval.manner=recipe"), made.lines()
    assert report_of(tmp_path)["players"][0]["manner"]["from"] == "model"


def test_a_recipe_can_insist_on_its_own_manner(tmp_path, model):
    made = evaluate.evaluate(recipe(tmp_path, f"eval.players=[{model}]", "eval.manner=recipe", "eval.limit=1"))
    assert not made.players[0].taught
    assert made.players[0].manner == manner_of(recipe(tmp_path))


def test_how_a_model_was_taught_is_read_back(tmp_path, model):
    taught = recipe(tmp_path, *TAUGHT)
    assert read_manner(str(model)) == manner_of(taught)
    assert manner_of(in_manner_of(recipe(tmp_path), str(model))) == manner_of(taught)
    assert read_manner("org/model") is None
    assert in_manner_of(taught, "random") is taught
    assert json.loads((model / FILE).read_text()) == {
        "prompt": "brief", "format": "function_calling", "context": 400, "max_tokens": 12,
    }  # fmt: skip
    assert (manner_of(taught).prompt, manner_of(taught).format) == (Prompt.brief, FormatName.function_calling)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"prompt": "brief", "format": "react", "context": 5, "max_tokens": 9}', '{"prompt": "loud"}'],
)
def test_a_damaged_note_of_how_a_model_was_taught_is_one_line_with_a_cure(content, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ModelError, match=r"is damaged .* set eval\.manner=recipe") as error:
        read_manner(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_model_taught_with_the_words_of_its_data_is_not_measured_with_others(tmp_path):
    note = {"prompt": "from_data", "format": "react", "context": 400, "max_tokens": 12}
    (tmp_path / FILE).write_text(json.dumps(note))
    with pytest.raises(ModelError, match="set prompt=from_data"):
        in_manner_of(recipe(tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--player expert --player expert", "eval.players: 'expert' is there 2 times"),
        ("--player ./nowhere", "eval.players: the folder './nowhere' does not exist"),
        ("--player tiny", "eval.players: `tiny` is built by `agentgym fit`"),
        ("--sample 0", "eval.samples: 0 is out of range"),
        ("--limit 0", "eval.limit: 0 is out of range"),
        ("--sample 2 evol.temperature=0", "eval.samples: 2 tries at temperature 0 are all the same"),
        ("--player expert environments.maze.processes=2", "the expert of maze plays in this process only"),
        ("eval.manner=mine", "eval.manner: 'mine' is not one of model, recipe"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words, line, tmp_path, capsys):
    recipe(tmp_path)
    assert cli.main(["eval", str(tmp_path / "recipe.yaml"), *words.split()]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_no_model_is_said_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    recipe(tmp_path)
    command = ["eval", str(tmp_path / "recipe.yaml"), "--player", "random", "--player", str(tmp_path / "empty")]
    assert cli.main(command) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_files_of_players_have_names_that_differ_and_are_no_paths():
    names = ["expert", "runs/a/it001/model", "runs/b/it001/model", "runs-a-it001-model", "org/model:7b", "/", "x" * 300]
    slugs = [evaluate.slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert slugs[0] == "expert"
    for slug in slugs:
        assert os.sep not in slug
        assert len(slug) <= 70


def made_here(folder: Path) -> Recipe:
    """A recipe that was made in Python, without a mistake."""
    return Recipe(
        name="board",
        output=str(folder / "runs"),
        model=ModelSettings(name="random"),
        environments={"maze": EnvironmentSettings(explore=2, eval=2, max_turns=2)},
    )


MISTAKES = [
    (lambda recipe: setattr(recipe.pool, "sessions", 0), RecipeError, "pool.sessions"),
    (lambda recipe: setattr(recipe, "name", "a/b"), RecipeError, "name: 'a/b' cannot name a folder"),
    (lambda recipe: recipe.environments.update(mase=EnvironmentSettings(eval=1)), RecipeError, "mean 'maze'"),
    (lambda recipe: setattr(recipe.model, "name", "tiny"), (RecipeError, ModelError), "tiny"),
    (
        lambda recipe: setattr(recipe.environments["maze"], "endpoints", ["http://127.0.0.1:9"]),
        RecipeError,
        "no server",
    ),
    (lambda recipe: recipe.environments["maze"].where.update(colour=["red"]), RecipeError, "no fact 'colour'"),
]


@pytest.mark.parametrize(("spoil", "error", "words"), MISTAKES)
@pytest.mark.parametrize("command", [evaluate.evaluate, lambda recipe: evaluate.collect(recipe, "eval")])
def test_from_python_a_mistake_is_found_before_anything_is_written(command, spoil, error, words, tmp_path):
    wrong = made_here(tmp_path)
    spoil(wrong)
    with pytest.raises(error, match=words):
        command(wrong)
    assert not (tmp_path / "runs").exists()


def test_from_python_a_split_and_a_file_may_be_text(tmp_path):
    out = evaluate.collect(made_here(tmp_path), "explore", str(tmp_path / "tries.parquet"))
    assert out == tmp_path / "tries.parquet"
    assert [row["phase"] for row, _ in store.episodes(out)] == ["explore"] * 2
    with pytest.raises(DataError, match="there is no split 'evall'; did you mean 'eval'"):
        evaluate.collect(made_here(tmp_path), "evall")
    assert evaluate.collect(made_here(tmp_path), Split.EVAL).name == "collected-eval.parquet"
