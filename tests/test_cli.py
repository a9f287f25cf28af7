from __future__ import annotations

import errno
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import agentgym
import envpool
from agentgym.cli import main
from agentgym.errors import AgentGymError, ModelError, RecipeError
from envpool import EnvPoolError

RECIPE = """
name: trial
model: {name: tiny}
environments:
  maze: {expert: 2, explore: 3, eval: 4}
bc: {steps: 5}
learn: {steps: 5}
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)


@pytest.fixture
def fit_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], list[tuple[Any, ...]]]:
    """Puts rooms in place of `agentgym.fit` and `agentgym.evaluate` whose functions are one that is given."""

    def place(function: Callable[..., object]) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def called(*args: object) -> None:
            calls.append(args)
            function(*args)

        for name in ("fit", "evaluate"):
            room = ModuleType(f"agentgym.{name}")
            vars(room).update(fit=called, evaluate=called, collect=called)
            monkeypatch.setitem(sys.modules, room.__name__, room)
        return calls

    return place


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in the test's own folder, with this checkout in reach whether it is installed or not."""
    environment = {**os.environ, "PYTHONPATH": str(Path(agentgym.__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def hide(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a package look as if it were not installed, also where a part of it has been imported already."""
    for name in {package, *(name for name in sys.modules if name.startswith(f"{package}."))}:
        monkeypatch.setitem(sys.modules, name, None)


def raising(error: BaseException) -> Callable[..., object]:
    def function(*args: object) -> None:
        raise error

    return function


BAD = [
    ("", "the following arguments are required: COMMAND"),
    ("fti recipe.yaml", "there is no command 'fti'; did you mean 'fit'? (known: fit, eval, "),
    ("--verbose", "the following arguments are required: COMMAND"),
    ("fit", "the following arguments are required: RECIPE (`agentgym fit --help` shows how)"),
    ("fit nope.yaml", "there is no recipe file 'nope.yaml'"),
    ("fit recipe.yml", "there is no recipe file 'recipe.yml'; did you mean 'recipe.yaml'?"),
    ("fit recipe.yaml --lr 3", "unknown option '--lr': settings are written key=value, as in bc.lr=1e-4"),
    ("fit recipe.yaml seed", "override 'seed' is not written key=value"),
    ("fit recipe.yaml sed=1", "sed: unknown key; did you mean 'seed'?"),
    ("fit recipe.yaml seed=a", "seed: 'a' is not a whole number"),
    ("fit recipe.yaml environments.mase.eval=1", "unknown environment 'mase'; did you mean 'maze'?"),
    ("fit recipe.yaml data=[none.json]", "data: there is no file 'none.json'"),
    ("fit recipe.yaml model.name=./none", "model.name: the folder './none' does not exist"),
    ("fit recipe.yaml model.name=random", "model.name: 'random' cannot learn"),
    ("fit recipe.yaml environments.maze.endpoints=[http://127.0.0.1:9]", "no server answers (http://127.0.0.1:9:"),
    ("eval recipe.yaml environments.maze.eval=0", "no task to play: set environments.NAME.eval"),
    ("collect recipe.yaml --split explore environments.maze.explore=0", "set environments.NAME.explore"),
    ("collect recipe.yaml --split test", "argument --split: invalid choice: 'test'"),
    ("validate recipe.yaml bc.lr=-1", "bc.lr: -1.0 is out of range"),
    ("envs mase", "unknown environment 'mase'; did you mean 'maze'?"),
    ("traj stats runs --trust", "unknown option '--trust': --help lists what there is"),
    ("envs maze wordle", "envs does not know what to do with 'wordle'"),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[words or "nothing" for words, _ in BAD])
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentgym: ")
    assert err.count("\n") == 1
    assert line in err
    assert [p.name for p in Path().iterdir()] == ["recipe.yaml"]


def test_several_mistakes_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "recipe.yaml", "sed=1", "bc.lr=x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["sed", "bc.lr"]


def test_a_missing_extra_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide("minigrid", monkeypatch)
    for words in (["validate", "recipe.yaml", "environments.babyai.eval=1"], ["envs", "babyai"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "pip install 'agentgym-lightning[babyai]'" in err
        assert err.count("\n") == 1
    assert main(["envs"]) == 0
    assert "pip install 'agentgym-lightning[babyai]'" in capsys.readouterr().out


def test_the_real_command_prints_a_mistake_without_a_traceback_and_without_loading_torch() -> None:
    ended = run(sys.executable, "-m", "agentgym", "fit", "recipe.yaml", "bc.stps=3")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "agentgym: bc.stps: unknown key; did you mean 'bc.steps'? (override bc.stps)\n"


def test_what_needs_no_model_is_answered_without_importing_heavy_packages() -> None:
    heavy = {"torch", "lightning", "transformers", "polars", "wandb", "peft"}
    commands = ["--help", "validate recipe.yaml", "envs", "envs maze", "fit recipe.yaml a=1"]
    code = f"import sys; from agentgym.cli import main; print([main(c.split()) for c in {commands!r}])"
    ended = run(sys.executable, "-c", f"{code}; print(sorted({heavy!r} & set(sys.modules)))")
    assert ended.stdout.splitlines()[-2:] == ["[0, 0, 0, 0, 2]", "[]"]


def test_help_names_every_command_and_says_how_settings_are_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("fit", "eval", "collect", "validate", "envs", "key=value"))
    assert main(["collect", "--help"]) == 0
    assert "--split" in capsys.readouterr().out


def test_validate_says_that_a_recipe_is_fine_or_prints_it_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "recipe.yaml", "seed=4"]) == 0
    assert capsys.readouterr().out == "recipe.yaml is fine; it would write to runs/trial\n"
    assert main(["validate", "--print", "recipe.yaml", "seed=4"]) == 0
    printed = capsys.readouterr().out
    assert "seed: 4\n" in printed
    Path("printed.yaml").write_text(printed)
    assert main(["validate", "printed.yaml"]) == 0


def test_envs_lists_all_environments_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("babyai", "maze", "textcraft", "wordle"))
    assert main(["envs", "maze"]) == 0
    shown = capsys.readouterr().out
    assert "facts for `where`:\n  layout: 0 to " in shown
    assert "success above 0.99" in shown
    assert "Action:" in shown
    assert "begins:\n  " in shown


def test_each_command_hands_the_recipe_to_its_function(fit_room: Any) -> None:
    calls = fit_room(lambda *args: None)
    assert main(["fit", "recipe.yaml", "seed=7"]) == 0
    assert main(["eval", "recipe.yaml", "model.name=expert"]) == 0
    assert main(["collect", "--split", "explore", "--to", "x.parquet", "recipe.yaml", "seed=8"]) == 0
    assert main(["collect", "recipe.yaml", "--split", "eval", "seed=9", "name=y"]) == 0
    assert [call[0].seed for call in calls] == [7, 0, 8, 9]
    assert calls[1][0].model.name == "expert"
    assert calls[2][1:] == ("explore", Path("x.parquet"))
    assert calls[3][1:] == ("eval", None)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ModelError("no such model: download it"), "no such model: download it"),
        (EnvPoolError("no expert"), "no expert"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free some space and run the same"),
        (
            OSError(errno.EACCES, "Permission denied", "runs/x"),
            "'runs/x': Permission denied; choose a folder that you may",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            "'a/b': Not a directory; something else is in the",
        ),
        (ExceptionGroup("two", [ExceptionGroup("one", [ModelError("bad model")])]), "bad model"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(
    error: Exception, line: str, fit_room: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_room(raising(error))
    assert main(["fit", "recipe.yaml"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"agentgym: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("trio", [ModelError("x"), KeyboardInterrupt()])]
)
def test_ctrl_c_says_how_to_go_on(error: BaseException, fit_room: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fit_room(raising(error))
    assert main(["fit", "recipe.yaml"]) == 130
    assert capsys.readouterr().err == "agentgym: interrupted: the same command goes on where it was\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ExceptionGroup("mixed", [ModelError("x"), ValueError("a bug")]),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception, fit_room: Any) -> None:
    fit_room(raising(error))
    with pytest.raises(type(error)):
        main(["fit", "recipe.yaml"])


def test_a_reader_that_leaves_early_is_no_mistake() -> None:
    for words in ("envs", "validate --print recipe.yaml"):
        ended = run("bash", "-c", f"{sys.executable} -m agentgym {words} | true; echo ${{PIPESTATUS[0]}}")
        assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_modules_of_the_current_folder_are_in_reach_of_the_installed_command() -> None:
    Path("my_module.py").write_text("from agentgym.modules import AgentModule\nclass Mine(AgentModule): pass\n")
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; sys.argv = sys.argv[:1] + ['validate', 'recipe.yaml', "
    )
    code += "'module=my_module.Mine']; from agentgym.cli import command; command()"
    ended = run(sys.executable, "-c", code)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_door_offers_what_it_lists_and_imports_it_late() -> None:
    assert agentgym.__all__ == sorted(agentgym.__all__)
    assert len(agentgym.__all__) < 30
    assert agentgym.RecipeError is RecipeError
    assert issubclass(agentgym.RecipeError, AgentGymError)
    assert set(agentgym.__all__) <= set(dir(agentgym))
    with pytest.raises(AttributeError, match="module 'agentgym' has no attribute 'fitt'"):
        _ = agentgym.fitt
    missing = [name for name in agentgym.__all__ if not hasattr(agentgym, name)]
    assert missing == []


@pytest.mark.parametrize("door", [agentgym, envpool])
def test_every_name_at_the_door_is_documented(door: ModuleType) -> None:
    page = (Path(__file__).parents[1] / "docs" / "how-it-works.md").read_text()
    named = set(re.findall(r"\w+", page.partition("## From Python")[2].partition("\n## ")[0]))
    assert set(door.__all__) - named == set()
    assert [name for name in door.__all__ if not inspect.getdoc(getattr(door, name))] == []
