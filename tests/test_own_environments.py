"""Environments of one's own are known to every command, and only because the user says so."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import agentgym
import envpool
from agentgym import cli, commands
from agentgym.cli import _parser
from agentgym.errors import RecipeError, RunError
from agentgym.panel import load_panel, panels
from agentgym.recipe import read_recipe
from envpool import EnvPoolError
from envpool.__main__ import main as envpool_main
from envpool.imports import VARIABLE, import_modules, import_named

OWN = """
from pathlib import Path
from dataclasses import replace
import envpool
Path("executed").write_text("")
make = lambda: envpool.get_spec("maze").make()
envpool.register(replace(envpool.get_spec("maze"), name="{name}", make=make))
"""
RECIPE = "name: x\nmodel: {name: random}\nenvironments: {crm: {eval: 2}}\ntracking: {mode: off}\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv(VARIABLE, raising=False)
    Path("crm.py").write_text(OWN.format(name="crm"))
    Path("r.yaml").write_text(RECIPE)
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name not in before and lies_in(tmp_path, sys.modules[name])]:
        del sys.modules[name]
    envpool.registry._registered.pop("crm", None)
    envpool.registry._modules.pop("crm", None)


def lies_in(folder: Path, module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    places = [spec.origin or "", *(spec.submodule_search_locations or [])] if isinstance(spec, ModuleSpec) else []
    return any(Path(place).is_relative_to(folder) for place in places)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    parts = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not parts:
        yield parser
    for action in parts:
        for each in action.choices.values():
            yield from leaves(each)


def test_every_command_takes_imports() -> None:
    found = [*leaves(_parser())]
    assert len(found) > len(commands.COMMANDS)
    for parser in found:
        assert "--import" in parser.format_help(), parser.prog


AGENTGYM = [
    *("envs crm", "tasks list crm -n 1", "tasks stats crm", "tasks overlap crm:train crm:eval", "validate r.yaml"),
    *("tasks panel r.yaml --to p.json", "eval r.yaml", "collect r.yaml --split eval"),
]


@pytest.mark.parametrize("words", AGENTGYM)
@pytest.mark.parametrize("module", ["crm", "crm.py", "./crm.py"])
def test_a_command_knows_what_the_user_imports(
    words: str, module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert "--import crm.py" in said
    assert said.count("\n") == 1
    assert not Path("executed").exists()
    assert cli.main([*words.split(), "--import", module]) == 0
    assert Path("executed").exists()


@pytest.mark.parametrize("words", ["list", "play crm 0 --player expert", "check crm --tasks 1"])
@pytest.mark.parametrize("given", ["option", "variable"])
def test_the_commands_of_envpool_do_too(
    words: str, given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if given == "option":
        assert envpool_main([*words.split(), "--import", "crm.py"]) == 0
    else:
        monkeypatch.setenv(VARIABLE, " crm.py, ")
        assert envpool_main(words.split()) == 0
    assert "crm" in capsys.readouterr().out


def test_a_variable_names_them_for_all_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "crm,json")
    assert import_named(["crm"]) == ["crm", "json"]
    assert cli.main(["envs", "crm"]) == 0
    assert capsys.readouterr().out.startswith("crm ")
    monkeypatch.setenv(VARIABLE, "no_such_module")
    assert cli.main(["envs"]) == 2
    assert "there is no module 'no_such_module' here" in capsys.readouterr().err


def test_what_a_run_imports_is_written_in_its_recipe_and_workers_know_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(agentgym.__file__).parents[1])}
    words = ["eval", "r.yaml", "--import", "crm.py", "pool.workers=2", "environments.crm.processes=1"]
    ended = subprocess.run(
        [sys.executable, "-m", "agentgym", *words], capture_output=True, text=True, env=environment, check=False
    )
    assert (ended.returncode, "coverage 2/2" in ended.stdout) == (0, True), ended.stderr
    assert read_recipe("runs/x/recipe.yaml").imports == ["crm.py"]


def test_a_panel_remembers_its_imports_and_runs_them_only_for_who_trusts_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("r.yaml").write_text(RECIPE.replace("name: x", "name: x\nimports: [crm]"))
    assert cli.main(["tasks", "panel", "r.yaml", "--to", "p.json"]) == 0
    assert load_panel("p.json").imports == ("crm",)
    del sys.modules["crm"]
    envpool.registry._registered.pop("crm")
    Path("executed").unlink()
    capsys.readouterr()
    for words in ("tasks verify p.json", "tasks list p.json", "tasks stats p.json", "tasks overlap p.json p.json"):
        assert cli.main(words.split()) == 2
        said = capsys.readouterr().err
        assert "p.json has tasks of 'crm', which is not known here; p.json names the modules crm: --trust" in said
        assert said.count("\n") == 1
    assert not Path("executed").exists()
    assert cli.main(["tasks", "verify", "p.json", "--trust"]) == 0
    assert Path("executed").exists()


def test_a_panel_of_shipped_environments_names_no_module() -> None:
    assert all(load_panel(name).imports == () for name in panels())
    Path("r.yaml").write_text(RECIPE.replace("crm", "maze") + "imports: [crm]\n")
    assert cli.main(["tasks", "panel", "r.yaml", "--to", "p.json"]) == 0
    assert "imports" not in json.loads(Path("p.json").read_text())


@pytest.mark.parametrize("imports", ["crm", [1], {"a": "b"}])
def test_imports_of_a_panel_are_a_list_of_texts(imports: object) -> None:
    Path("p.json").write_text(json.dumps({"panel": "p", "environments": {}, "imports": imports}))
    with pytest.raises(Exception, match="'imports' is no list of texts"):
        load_panel("p.json")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere.py", "there is no file 'nowhere.py' to import: check the path"),
        ("with space.py", "is no name of a module"),
        ("json.py", "the name 'json' of .*json.py is taken by .*: rename the file"),
        ("sys.py", "the name 'sys' of .*sys.py is taken by a part of Python: rename the file"),
        ("raises.py", r"cannot import raises.py \(ValueError: a b\): mend the module"),
        ("leaves.py", r"cannot import leaves.py \(SystemExit: 3\): mend the module"),
        ("needs.py", r"cannot import needs.py \(ModuleNotFoundError: .*\): install what it needs"),
        ("nowhere", "there is no module 'nowhere' here"),
        ("a..b", "is no name of a module"),
        ("a/b", "there is no file or folder 'a/b' to import: check the path"),
    ],
)
def test_what_cannot_be_imported_is_one_line(name: str, line: str) -> None:
    for file, source in {
        "with space.py": "",
        "json.py": "",
        "sys.py": "",
        "raises.py": "raise ValueError('a\\nb')",
        "leaves.py": "raise SystemExit(3)",
        "needs.py": "import no_such_thing",
    }.items():
        Path(file).write_text(source)
    with pytest.raises(EnvPoolError, match=line) as caught:
        import_modules([name])
    assert "\n" not in str(caught.value)


CARD = """
from dataclasses import replace
from pathlib import Path
import envpool
{more}
summary = (Path(__file__).parent / "data" / "summary.txt").read_text()
SPEC = replace(envpool.get_spec("maze"), name="crm", summary=summary)
"""


def write_folder(folder: str, more: str = "from .world import THING") -> None:
    Path(folder, "data").mkdir(parents=True)
    Path(folder, "data", "summary.txt").write_text("a folder with data")
    Path(folder, "world.py").write_text("THING = 1\n")
    Path(folder, "spec.py").write_text(CARD.format(more=more))


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("desk", "desk/"),
        ("desk", "./desk"),
        ("desk", "desk"),
        ("desk", "desk.spec"),
        ("desk", "desk/spec.py"),
        ("deep/inner/desk", "deep/inner/desk"),
        ("deep/inner/desk", "deep.inner.desk"),
    ],
)
def test_a_folder_or_module_with_a_card_need_not_register_it(folder: str, named: str) -> None:
    write_folder(folder)
    for _ in range(2):
        import_modules([named])
        spec = envpool.get_spec("crm")
    assert spec.summary == "a folder with data"
    (module,) = envpool.registry.modules_of(spec)
    assert module.endswith("desk.spec")
    command = [sys.executable, "-m", "envpool", "play", "crm", "--player", "random", "--import", named]
    path = {**os.environ, "PYTHONPATH": str(Path(agentgym.__file__).parents[1])}
    if named == "desk/":
        assert subprocess.run(command, env=path, capture_output=True, check=False).returncode == 0


def test_a_card_may_be_registered_as_well() -> None:
    write_folder("desk", more="from .world import THING\nfrom envpool import register")
    Path("desk/spec.py").write_text(Path("desk/spec.py").read_text() + "\nregister(SPEC)\n")
    import_modules(["desk/"])
    assert envpool.registry.modules_of(envpool.get_spec("crm")) == ["desk.spec"]


@pytest.mark.parametrize(
    ("prepare", "named", "line"),
    [
        (
            lambda: Path("empty").mkdir(),
            "empty/",
            "the folder 'empty/' holds no spec.py: name the folder",
        ),
        (lambda: write_folder("my-desk"), "my-desk/", "'my-desk/' is no name of a module"),
        (
            lambda: write_folder("json"),
            "./json",
            "the name 'json.spec' of .* is taken by .*: rename the folder",
        ),
        (
            lambda: write_folder("desk", "import nowhere"),
            "desk/",
            r"cannot import desk/ \(ModuleNotFound.*nowhere",
        ),
        (lambda: [write_folder("desk"), import_modules(["crm"])], "desk/", "the environment name 'crm' is taken"),
    ],
)
def test_a_folder_that_is_no_environment_is_one_line(prepare: Callable[[], None], named: str, line: str) -> None:
    prepare()
    with pytest.raises(EnvPoolError, match=line) as caught:
        import_modules([named])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["desk", "desk.py", "desk2"])
def test_a_name_of_a_file_or_folder_that_was_not_imported_says_how(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder("desk")
    Path("desk2.py").write_text("")
    for main, words in ((envpool_main, ["play", name]), (cli.main, ["tasks", "list", name])):
        assert main(words) == 2
        said = capsys.readouterr().err
        hint = {"desk": "desk/", "desk.py": "desk.py", "desk2": "desk2.py"}[name]
        assert f"import what registers it, as in --import {hint}, or `imports: [{hint}]` in a recipe" in said


def test_a_file_of_a_package_is_imported_as_a_part_of_it() -> None:
    Path("worlds/inner").mkdir(parents=True)
    for folder in ("worlds", "worlds/inner"):
        Path(folder, "__init__.py").write_text("")
    Path("worlds/inner/one.py").write_text("from . import two\n")
    Path("worlds/inner/two.py").write_text("")
    import_modules(["worlds/inner/one.py"])
    assert "worlds.inner.two" in sys.modules


def test_the_example_of_an_environment_keeps_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(agentgym.__file__).parents[1] / "examples" / "higher_lower.py"
    try:
        assert envpool_main(["check", "higher_lower", "--import", str(file)]) == 0
    finally:
        sys.modules.pop("higher_lower", None)
        envpool.registry._registered.pop("higher_lower", None)
    assert "12 checks: 12 passed" in capsys.readouterr().out


def test_the_public_name_of_learning_can_be_called() -> None:
    from agentgym import fit

    for call in (agentgym.fit, fit):
        with pytest.raises(RecipeError, match="environments: there is none"):
            call(agentgym.Recipe(name="x", model={"name": "tiny"}))
    assert issubclass(RunError, agentgym.AgentGymError)
