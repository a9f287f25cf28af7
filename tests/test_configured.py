"""Runs, panels and lists of tasks of an environment's own data and of other data never mix; each says so in a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from anagrams import FOLDER, known, write_original

import agentgym
from agentgym import cli
from agentgym.data import store
from agentgym.errors import RecipeError
from agentgym.numbering import configured, spec_of
from agentgym.play import tasks_of
from agentgym.recipe import load_recipe
from agentgym.settings import EnvironmentSettings
from envpool import Split, get_spec

RECIPE = f"""
name: x
model: {{name: random}}
imports: [{FOLDER}/]
environments: {{anagram: {{eval: 2, options: {{words: words.txt}}}}}}
tracking: {{mode: off}}
"""
KEY = "environments.anagram.options"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("r.yaml").write_text(RECIPE)
    Path("words.txt").write_text("stone\nnotes\nonset\nseton\ntones\nsteno\nalert\nalter\nlater\n")
    with known():
        yield


def run(capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str]:
    """Runs a command; returns its exit code and what it said, the error if there is one."""
    capsys.readouterr()
    code = cli.main(words.split())
    said = capsys.readouterr()
    return code, said.err if code == 2 else said.out + said.err


def version(words: str = "words.txt") -> str:
    return get_spec("anagram", {"words": words}).version


def test_options_of_a_recipe_are_checked_with_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "validate r.yaml")[0] == 0
    wrong = f"{KEY}.words=wrds.txt {KEY}.lifes=3 {KEY}.hint=frist {KEY}.original=. seed=x environments.anagram.eval=9"
    code, said = run(capsys, f"validate r.yaml {wrong}")
    lines = said.splitlines()
    assert code == 2
    assert len(lines) == 5
    for key, text in [
        ("seed", "'x' is not a whole number"),
        (f"{KEY}.lifes", "unknown option; did you mean 'lives'?"),
        (f"{KEY}.hint", "'frist' is not one of none, first; did you mean 'first'?"),
        (f"{KEY}.words", "there is no file or folder 'wrds.txt': check the path"),
        (
            f"{KEY}.original",
            "lists/big.txt is missing in '.' (it is not there): get it from https://example.org/anagram",
        ),
    ]:
        assert any(f"{key}: {text}" in line for line in lines), (key, said)
    for setting, text in [
        ("anagram.eval=9", "anagram has 3 tasks in split 'eval', fewer than 9"),
        ("maze.options.lives=3", "environments.maze.options.lives: there are no options: leave it out"),
    ]:
        assert text in run(capsys, f"validate r.yaml environments.{setting}")[1]


def test_a_recipe_made_in_python_takes_paths(tmp_path: Path) -> None:
    settings = EnvironmentSettings(eval=1, options={"words": tmp_path / "words.txt"})
    recipe = agentgym.Recipe(name="x", model={"name": "random"}, environments={"anagram": settings})
    agentgym.recipe.save_recipe(recipe, Path("saved.yaml"))
    assert spec_of(load_recipe("saved.yaml"), "anagram").version == version()
    with pytest.raises(RecipeError, match="options: this is no section"):
        EnvironmentSettings(options="words")


def test_a_run_plays_the_data_of_its_recipe_and_goes_on_with_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "eval r.yaml")[0] == 0
    first = version()
    (episode, _) = store.read([Path("runs/x/trajectories/eval-random-0.parquet")])
    assert episode.version == first
    assert "Letters: " in episode.observation
    Path("moved").mkdir()
    Path("words.txt").rename("moved/list.txt")
    assert run(capsys, f"eval r.yaml {KEY}.words=moved/list.txt {KEY}.log=log.txt")[0] == 0  # the same data elsewhere
    Path("words.txt").write_text("stone\nnotes\nonset\nseton\ntones\nsteno\n")
    code, said = run(capsys, "eval r.yaml")
    assert (code, said.count("\n")) == (2, 1)
    assert f"runs/x was begun with version {first} of anagram, and here is version {version()}: give {KEY}" in said
    code, said = run(capsys, f"eval r.yaml {KEY}.words=null")
    assert (code, "and here is version 1: give" in said) == (2, True)
    assert run(capsys, "eval r.yaml name=y")[0] == 0
    code, said = run(capsys, "compare runs/x runs/y")
    assert (code, said.count("\n")) == (2, 1)
    assert f"anagram was played in version {first} by" in said
    code, said = run(capsys, "transfer runs/x runs/y")
    assert (code, said.count("\n")) == (2, 1)
    assert "anagram was played with other options or data by" in said
    Path("moved/list.txt").unlink()
    code, said = run(capsys, "compare runs/x runs/x")
    assert "runs/x was played with options that cannot be had here: anagram: words: there is no file" in said


def test_a_panel_of_one_data_is_not_a_panel_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "tasks panel r.yaml --to p.json")[0] == 0
    panel = json.loads(Path("p.json").read_text())["environments"]["anagram"]
    assert panel["version"] == version()
    assert all(golden["score"] == 1 for golden in panel["goldens"])
    refused = f"it was made for version {version()} of anagram, and here is version 1: give anagram the options"
    for words in ("verify p.json", "list p.json", "overlap anagram:train p.json", "panel p.json --to q.json"):
        code, said = run(capsys, f"tasks {words} --option anagram.words=null")
        assert (code, refused in said, said.count("\n")) == (2, True, 1), said
        assert run(capsys, f"tasks {words} --option anagram.words=words.txt")[0] == 0
    code, said = run(capsys, f"validate r.yaml panel=p.json {KEY}.words=null environments.anagram.eval=0")
    assert (code, refused in said) == (2, True)
    assert run(capsys, "eval r.yaml panel=p.json environments.anagram.eval=0")[0] == 0


def test_lists_of_other_data_tell_no_goals_and_overlap_by_words_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "tasks list anagram:train --option anagram.words=words.txt --to train.parquet")[0] == 0
    code, said = run(capsys, "tasks overlap train.parquet anagram:eval --option anagram.words=words.txt")
    assert (code, "none of 3 evaluation tasks is in training by item id" in said) == (0, True)
    code, said = run(capsys, "tasks overlap train.parquet anagram:eval")
    assert (code, "item ids say nothing, for one side has other options or data" in said) == (0, True)
    assert "none of 12 evaluation tasks has the instruction of a training task" in said
    listed = json.loads(json.dumps(said))
    assert "stone" not in listed
    code, said = run(capsys, "tasks panel train.parquet --to p.json")
    assert (code, said.count("\n")) == (2, 1)
    assert f"'anagram_0' is of version {version()} of anagram, and here is version 1, other tasks: give anagram" in said


def test_demonstrations_of_other_data_are_not_learned_from(capsys: pytest.CaptureFixture[str]) -> None:
    expert = "collect r.yaml model.name=expert environments.anagram.expert=2 bc.steps=1 learn.steps=1"
    code, said = run(capsys, f"{expert} {KEY}.words=null --to own.parquet")
    assert code == 0, said
    code, said = run(capsys, "fit r.yaml model.name=tiny data=[own.parquet] bc.steps=1 evol.iterations=0")
    assert (code, said.count("\n")) == (2, 1)
    assert f"own.parquet: 2 trajectories of anagram are of version 1, and this recipe plays version {version()}" in said
    assert not Path("runs/x/trajectories").exists() or not [*Path("runs/x/trajectories").glob("expert*")]


def test_workers_play_what_the_recipe_says() -> None:
    write_original(Path("data"))
    environment = {**os.environ, "PYTHONPATH": str(Path(agentgym.__file__).parents[1])}
    words = ["eval", "r.yaml", f"{KEY}.words=null", f"{KEY}.original=data", f"{KEY}.log=log.txt", "pool.workers=2"]
    ended = subprocess.run(
        [sys.executable, "-m", "agentgym", *words], capture_output=True, text=True, env=environment, check=False
    )
    assert (ended.returncode, "coverage 2/2" in ended.stdout) == (0, True), ended.stderr
    pids = Path("log.txt").read_text().split()
    assert len(pids) == len(set(pids)) == 2  # each worker opens the data once
    (episode, _) = store.read([Path("runs/x/trajectories/eval-random-0.parquet")])
    assert episode.version == get_spec("anagram", {"original": "data"}).version


def test_recipes_of_other_options_draw_their_own_tasks() -> None:
    own = load_recipe("r.yaml", [f"{KEY}.words=null", "environments.anagram.eval=12"])
    other = load_recipe("r.yaml", ["environments.anagram.eval=3"])
    assert (len(tasks_of(own, Split.EVAL)), len(tasks_of(other, Split.EVAL))) == (12, 3)
    with configured(other):
        assert len(tasks_of(own, Split.EVAL)) == 12
        assert get_spec("anagram").version == version()


def test_a_server_of_other_data_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(agentgym.__file__).parents[1])}
    command = [sys.executable, "-m", "envpool", "serve", "anagram", "words=words.txt", "--port", "0"]
    with subprocess.Popen(
        [*command, "--import", f"{FOLDER}/"], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            served = f"environments.anagram.endpoints=[{address}]"
            assert run(capsys, f"eval r.yaml {served}")[0] == 0
            code, said = run(capsys, f"eval r.yaml {served} {KEY}.words=null name=y")
        finally:
            server.terminate()
    assert (code, said.count("\n"), Path("runs/y").exists()) == (2, 1, False)
    assert f"{address} serves version {version()} of anagram, and the recipe plays version 1: give both" in said
