from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agentgym.checks import check_recipe
from agentgym.errors import RecipeError
from agentgym.play import place_of
from agentgym.preflight import check_fit, check_play
from agentgym.recipe import load_recipe, recipe_text, same_run, save_recipe
from agentgym.settings import EnvironmentSettings, Merge, ModelSettings, Optimizer, Recipe, TrackingMode
from envpool import Split, environments

GOOD = """
name: trial-${seed}
seed: 3
model: {name: tiny}
environments:
  maze: {expert: 2, explore: 3, eval: 4, where: {size: [4, 5]}}
  wordle: {where: }
bc: {steps: 5, optimizer: muon, lr: 1e-3}
learn: {epochs: 1}
tracking: {mode: off}
data:
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str = GOOD, *overrides: str) -> Recipe:
    Path("recipe.yaml").write_text(text)
    return load_recipe("recipe.yaml", overrides)


def complaints(text: str = GOOD, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    assert all(line and "\n" not in line for line in caught.value.complaints)
    return caught.value.complaints


def test_a_recipe_becomes_a_plain_object_with_defaults_and_references_filled_in() -> None:
    recipe = load()
    assert type(recipe) is Recipe
    assert recipe.name == "trial-3"
    assert recipe.environments["maze"] == EnvironmentSettings(expert=2, explore=3, eval=4, where={"size": [4, 5]})
    assert recipe.environments["wordle"] == EnvironmentSettings()
    assert recipe.bc.optimizer is Optimizer.muon
    assert recipe.bc.lr == 1e-3
    assert recipe.tracking.mode is TrackingMode.off
    assert recipe.data == []


def test_overrides_win_over_the_file_and_the_last_one_wins() -> None:
    recipe = load(GOOD, "seed=5", "seed=6", "bc.lr=1", "evol.merge=previous", "model.lora.rank=8", "name=7")
    assert (recipe.seed, recipe.bc.lr, recipe.evol.merge, recipe.name) == (6, 1.0, Merge.previous, "7")
    assert recipe.model.lora is not None
    assert recipe.model.lora.rank == 8
    assert load(GOOD, "model.lora.rank=8", "model.lora=null").model.lora is None


@pytest.mark.parametrize("name", ["12e4567", "2026_07_01", "010", "1.50", "0x1f"])
def test_a_name_that_looks_like_a_number_stays_as_it_was_written(name: str) -> None:
    recipe = load(GOOD, f"name={name}")
    assert recipe.name == name
    save_recipe(recipe, Path("saved.yaml"))
    assert load_recipe("saved.yaml").name == name
    assert load(GOOD.replace("trial-${seed}", name)).name == name


@pytest.mark.parametrize("name", ["12e4567", "2026_07_01", "010", "1.50", "0x1f"])
def test_texts_in_a_list_that_look_like_numbers_stay_as_they_were_written(name: str) -> None:
    assert load(GOOD, f"eval.players=[random, {name}]").eval.players == ["random", name]
    assert load(f"{GOOD}\neval: {{players: [{name}, random]}}").eval.players == [name, "random"]


CONSEQUENCES = [
    (["imports=[my_worlds]", "environments.mine.eval=1"], "imports"),
    (["imprts=[my_worlds]", "environments.mine.eval=1"], "imprts"),
    (["data=3", "prompt=from_data"], "data"),
    (["model.context=0"], "model.context"),
    (["model.context=x", "generation.max_tokens=5000"], "model.context"),
    (["trainer.strategy=fsdpp", "trainer.offload=true"], "trainer.strategy"),
    (["evol.temperature=-1", "evol.samples=2"], "evol.temperature"),
    (["model.tiny.heads=0"], "model.tiny.heads"),
    (["model.endpoint=3", "model.name='a b'"], "model.endpoint"),
    (["panel=agenteval-mini", "environments={maze: {eval: 0}, mase: {}}"], "environments.mase"),
]


@pytest.mark.parametrize(("overrides", "cause"), CONSEQUENCES)
def test_a_consequence_is_no_second_mistake(overrides: list[str], cause: str) -> None:
    (line,) = complaints(GOOD, *overrides)
    assert line.startswith(f"{cause}: ")


def test_a_recipe_made_in_python_is_told_its_mistakes_without_their_consequences() -> None:
    environments = {"mine": EnvironmentSettings(eval=1)}
    recipe = Recipe(name="x", model=ModelSettings(name="tiny"), imports=["my_worlds"], environments=environments)
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe)
    assert [line.split(":")[0] for line in caught.value.complaints] == ["imports"]
    with pytest.raises(RecipeError) as caught:
        check_recipe(Recipe())
    assert [line.split(":")[0] for line in caught.value.complaints] == ["model.name", "name", "environments"]


def test_a_time_is_repeated_as_it_was_written() -> None:
    assert complaints(GOOD, "name=1:30")[0].startswith("name: '1:30' cannot name a folder")


def test_a_saved_recipe_reads_back_as_the_same_recipe() -> None:
    recipe = load(GOOD, "model.lora.rank=8", "trainer.precision=bf16-mixed")
    save_recipe(recipe, Path("saved.yaml"))
    assert load_recipe("saved.yaml") == recipe
    assert Path("saved.yaml").read_text() == recipe_text(recipe)
    assert sorted(p.name for p in Path().iterdir()) == ["recipe.yaml", "saved.yaml"]


def test_saving_into_a_folder_that_is_not_there_leaves_nothing_behind() -> None:
    recipe = load()
    with pytest.raises(FileNotFoundError):
        save_recipe(recipe, Path("nowhere/saved.yaml"))
    assert [p.name for p in Path().iterdir()] == ["recipe.yaml"]


def hide(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a package look as if it were not installed, also where a part of it has been imported already."""
    for name in {package, *(name for name in sys.modules if name.startswith(f"{package}."))}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("bc.stps=5", "bc.stps: unknown key; did you mean 'bc.steps'? (override bc.stps)"),
        ("lr=1", "lr: unknown key; did you mean 'bc.lr' or 'learn.lr'? (override lr)"),
        ("tracking.qqq=1", "tracking.qqq: unknown key (known here: mode, project) (override tracking.qqq)"),
        ("environments.maze.exprt=1", "unknown key; did you mean 'environments.maze.expert'?"),
        ("bc.lr=fast", "bc.lr: 'fast' is not a number (override bc.lr)"),
        ("seed=1.5", "seed: 1.5 is not a whole number"),
        ("seed=true", "seed: True is not a whole number"),
        ("name=true", "name: True is not a text"),
        ("evol.control=1", "evol.control: 1 is not true or false"),
        ("bc.steps=many", "bc.steps: 'many' is not a whole number or null"),
        ("data=file.json", "data: 'file.json' is not a list, as in [a, b]"),
        ("data=[{a: 1}]", "data: [{'a': 1}] is not a list"),
        (
            "+model.name=x",
            "+model.name: no key begins with +: leave out the +, as settings are added and changed alike",
        ),
        ("++seed=1", "++seed: no key begins with +: leave out the +"),
        ("~seed=1", "~seed: no key begins with ~: set it to null"),
        ("bc.optimizer=adam", "bc.optimizer: 'adam' is not one of adamw, muon; did you mean 'adamw'?"),
        ("evol.merge=[a]", "evol.merge: ['a'] is not one of initial, previous"),
        ("evol.merge=off", "evol.merge: False is not one of initial, previous"),
        ("bc=3", "bc: 3 is no section of settings: write its keys below it"),
        ("environments=[maze]", "environments: ['maze'] is no section: write `name: ...` below it"),
        ("environments.maze.where.size=4", "environments.maze.where.size: 4 is not a list"),
        ("foo", "override 'foo' is not written key=value, as in bc.lr=1e-4"),
        ("=3", "override '=3' is not written key=value"),
        ("bc.lr=[1", "override 'bc.lr': what follows the = is not YAML"),
        ("name=${nam}", "name: '${nam}' does not lead to a text (override name)"),
        ("name=${name}", "name: '${name}' does not lead to a text"),
        ("learn.lr=${bc}", "learn.lr: '${bc}' does not lead to a number"),
        ("evol.merge=['${seed}']", "evol.merge: ['${seed}'] is not one of initial, previous"),
        ("data={a: '${seed}'}", "data: {'a': '${seed}'} is not a list"),
        ("name=???", "name: missing: add `name: ...` to the recipe"),
        ("output=${oc.env:HOME}", "may only refer to other settings, as in ${seed}: a recipe is saved as it is"),
        ("data=['${oc.env:HOME}']", "may only refer to other settings"),
    ],
)
def test_what_does_not_fit_the_schema_is_one_line_with_a_cure(override: str, line: str) -> None:
    found = complaints(GOOD, override)
    assert len(found) == 1
    assert line in found[0]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("environments.maz.eval=1", "environments.maz: unknown environment 'maz'; did you mean 'maze'?"),
        ("environments.no_such.eval=1", "environments.no_such: unknown environment 'no_such' (known:"),
        ("imports=[my_worlds]", "imports: there is no module 'my_worlds' here"),
        (
            "environments.maze.where.sise=[4]",
            "environments.maze.where.sise: maze tasks have no fact 'sise'; did you mean 'size'?",
        ),
        ("environments.maze.expert=100000", "environments.maze.expert: maze has"),
        (
            "environments.maze={expert: 0, explore: 0, where: {size: [99]}}",
            "maze has 0 tasks in split 'eval' that match",
        ),
        ("environments.maze.eval=-1", "environments.maze.eval: -1 is out of range: it must be at least 0"),
        ("environments.maze.max_turns=0", "environments.maze.max_turns: 0 is out of range: it must be at least 1"),
        ("environments.maze.keep_above=1", "no score of maze is greater than 1 (they go up to 1)"),
        ("environments.maze.place=proces", "did you mean 'process'"),
        ("environments.maze.endpoints=[localhost]", "'localhost' is no address: write it as http://host:port"),
        ("environments.maze.endpoints=['http://[::1']", "is no address: write it as http://host:port"),
        ("environments.maze.endpoints=['http://a..b:80']", "is no address: write it as http://host:port"),
        ("environments.maze.endpoints=['http://a:99999']", "is no address: write it as http://host:port"),
        ('output="\\0"', "cannot be a folder: name another one"),
        ("name='x\n\ny'", "cannot name a folder"),
        ("environments.maze.endpoints=['http://me:pass@host:1']", "an address must not hold a password"),
        ("bc.lr=0", "bc.lr: 0.0 is out of range: it must be greater than 0 (override bc.lr)"),
        ("bc.lr=.nan", "bc.lr: nan is out of range"),
        ("bc.lr=.inf", "bc.lr: inf is out of range"),
        ("bc.warmup=1.5", "it must be at least 0 and at most 1"),
        ("bc.epochs=1", "bc: both steps (5) and epochs (1) are given: keep one (override bc.epochs)"),
        ("bc.steps=null", "bc: says not how long to learn: give bc.steps or bc.epochs"),
        ("learn.epochs=null", "learn: says not how long to learn: give learn.steps or learn.epochs"),
        ("model.name=./none", "model.name: the folder './none' does not exist"),
        ("model.name=.", "model.name: the folder '.' holds no config.json"),
        ("model.name='a b'", "'a b' is neither `tiny`, a Hugging Face id (`owner/model`) nor a folder"),
        ("model.tiny.heads=6", "6 heads do not divide the width 128 evenly"),
        ("model.tiny.kv_heads=3", "3 kv_heads do not divide the 4 heads evenly"),
        ("model.lora.rank=0", "model.lora.rank: 0 is out of range"),
        ("generation.max_tokens=4096", "4096 tokens of one answer leave no room in a context of 4096"),
        ("evol={samples: 2, temperature: 0}", "evol.samples: 2 tries at temperature 0 are all the same"),
        ("name=a/b", "name: 'a/b' cannot name a folder"),
        ("output=recipe.yaml", "output: 'recipe.yaml' is a file: name a folder"),
        ("data=[none.json]", "data: there is no file 'none.json'"),
        ("data=[010]", "data: there is no file '010'"),
        ("data=[x, 1e5, 2026_07_01]", "data: there is no file 'x'"),
        ("data=[recipe.yml]", "there is no file 'recipe.yml'; did you mean 'recipe.yaml'?"),
        ("data=[recipe.yaml]", "its name should end in .json (AgentTraj), .jsonl (a record a line) or .parquet"),
        ("trainer.accelerator=gpus", "'gpus' is not one of auto, cpu, gpu, cuda, mps; did you mean 'gpu'?"),
        ("trainer.precision=bf16", "'bf16' is not one of 32-true, bf16-mixed, 16-mixed"),
        ("trainer={strategy: fsdp, precision: 16-mixed}", "'16-mixed' does not go with fsdp"),
    ],
)
def test_what_makes_no_sense_is_one_line_with_a_cure(override: str, line: str) -> None:
    found = complaints(GOOD, override)
    assert len(found) == 1
    assert line in found[0]


def test_all_complaints_come_together_and_say_where_the_setting_stands() -> None:
    text = (
        "nam: x\nbc:\n  lr: abc\nenvironments:\n  maze: {expert: 1, exprt: 2}\n  wordel: {eval: 3}\nlearn: {steps: 1}\n"
    )
    assert complaints(text, "seed=x") == [
        "nam: unknown key; did you mean 'name'? (recipe.yaml, line 1)",
        "bc.lr: 'abc' is not a number (recipe.yaml, line 3)",
        "environments.maze.exprt: unknown key; did you mean 'environments.maze.expert'? (recipe.yaml, line 5)",
        "seed: 'x' is not a whole number (override seed)",
        "model.name: missing: add `model.name: ...` to the recipe, or give `model.name=...`",
        "name: missing: add `name: ...` to the recipe, or give `name=...`",
        "environments.wordel: unknown environment 'wordel'; did you mean 'wordle'? "
        f"(known: {', '.join(environments())}) (recipe.yaml, line 6)",
    ]


def test_a_misspelt_key_of_a_section_is_not_reported_again_as_missing() -> None:
    assert len(complaints(GOOD, "bc={steps: null, step: 4}")) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: [1\nb: 2", "recipe.yaml, line 2: this is not YAML"),
        (b"seed: 1\nseed: 2", "recipe.yaml, line 2: this is not YAML: found duplicate key seed"),
        (b"a: !!python/object:os.system x", "recipe.yaml, line 1: this is not YAML: could not determine a constructor"),
        (b"- 1", "recipe.yaml is no recipe: it should consist of `key: value` lines"),
        (b"", "recipe.yaml is no recipe"),
        (b"a: \x00", "recipe.yaml: this is not YAML"),
        (b"name: \xff", "recipe.yaml is no UTF-8 text (byte 6): save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(content: bytes, line: str) -> None:
    Path("recipe.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipe.yaml")
    assert len(caught.value.complaints) == 1
    assert line in caught.value.complaints[0]


def test_a_missing_recipe_offers_the_nearest_one() -> None:
    Path("recipes").mkdir()
    Path("recipes/agentevol.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"^there is no recipe file 'agentevl.yaml'; did you mean 'recipes/agentevol"):
        load_recipe("agentevl.yaml")
    with pytest.raises(RecipeError, match="'recipes' is a folder: name a recipe file in it"):
        load_recipe("recipes")


MODULES = """
from agentgym.modules import AgentModule
class Good(AgentModule): pass
class Bare: pass
def function(): pass
Other = Good
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("my_modules.Good", None),
        ("my_modules.AgentModule", None),
        ("my_modules.Other", None),
        ("my_package.inner.Good", None),
        ("my_package.Lazy", None),
        ("Good", "'Good' is no import path: write `package.module.Class`"),
        ("no_such.Good", "there is no Python module 'no_such'"),
        ("my_modules.deeper.Good", "there is no Python module 'my_modules.deeper'"),
        ("my_modules.Goood", "the module 'my_modules' has no 'Goood'; did you mean 'Good'?"),
        ("my_modules.Bare", "'my_modules.Bare' is no subclass of agentgym.AgentModule"),
        ("my_modules.function", "'my_modules.function' is no subclass of agentgym.AgentModule"),
        ("broken.Good", "broken.py, line 1: "),
        ("agentgym.modules.AgentEvl", "has no 'AgentEvl'; did you mean 'AgentEvol'?"),
    ],
)
def test_the_learning_module_is_looked_up_without_being_imported(
    path: str, line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    alarm = "raise SystemExit('imported')\n"
    Path("my_modules.py").write_text(alarm + MODULES)
    Path("broken.py").write_text("class Good(\n")
    Path("my_package").mkdir()
    Path("my_package/__init__.py").write_text(f"{alarm}__all__ = ['Lazy']\ndef __getattr__(name): ...\n")
    Path("my_package/inner.py").write_text(alarm + MODULES)
    if line is None:
        assert load(GOOD, f"module={path}").module == path
    else:
        found = complaints(GOOD, f"module={path}")
        assert len(found) == 1
        assert line in found[0]


def test_a_program_that_is_running_is_no_module_to_learn_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "running", ModuleType("running"))
    assert "there is no Python module 'running'" in complaints(GOOD, "module=running.Good")[0]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide("minigrid", monkeypatch)
    assert "pip install 'agentgym-lightning[babyai]'" in complaints(GOOD, "environments.babyai.eval=1")[0]


def test_only_what_makes_the_run_slower_or_faster_may_change_when_it_goes_on() -> None:
    recipe = load()
    faster = load(
        GOOD, "pool.workers=3", "tracking.mode=offline", "generation.batch=8", "trainer.threads=2", "output=b"
    )
    assert same_run(recipe, faster) == []
    other = load(GOOD, "bc.lr=1", "environments.textcraft.eval=3", "name=x")
    added = [f"environments.textcraft.{name}" for name in ("cap", "eval", "expert", "explore", "max_turns", "where")]
    different = same_run(recipe, other)
    assert different == sorted(different)
    assert {"bc.lr", *added, "name"} <= set(different)
    assert all(key in ("bc.lr", "name") or key.startswith("environments.textcraft.") for key in different)
    assert same_run(recipe, recipe) == []


def test_fit_needs_something_to_learn_from_and_to_explore_and_a_model() -> None:
    check_fit(load())
    measured = load(GOOD, "environments.maze={expert: 0, explore: 0, eval: 5}", "model.name=random")
    with pytest.raises(RecipeError) as caught:
        check_fit(measured)
    assert caught.value.complaints == [
        "model.name: 'random' cannot learn: name a model, or use `agentgym eval`",
        "nothing to learn from: set environments.NAME.expert or data",
        "nothing to explore: set environments.NAME.explore, or evol.iterations=0",
    ]
    check_play(measured, Split.EVAL)
    with pytest.raises(RecipeError, match=r"no task to play: set environments.NAME.expert"):
        check_play(measured, Split.TRAIN)


def test_a_run_on_servers_is_refused_before_it_begins_if_none_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        nowhere = "http://127.0.0.1:9"
        check_fit(load(GOOD, f"environments.maze.endpoints=['{nowhere}', '{here}']"))
        silent = load(GOOD, f"environments.maze.endpoints=['{nowhere}']")
        for check in (check_fit, lambda r: check_play(r, Split.EVAL)):
            with pytest.raises(RecipeError, match=rf"no server answers \({nowhere}: .*envpool serve maze"):
                check(silent)
        locked = load(GOOD, f"environments.maze.endpoints=['{here}']", "environments.maze.token=NO_SUCH_VARIABLE")
        with pytest.raises(RecipeError, match="the environment variable NO_SUCH_VARIABLE is not set"):
            check_fit(locked)


def test_an_environment_behind_servers_needs_an_address_and_has_no_expert() -> None:
    with pytest.raises(RecipeError) as mistakes:
        load("name: x\nmodel: {name: random}\nenvironments: {webshop: {eval: 3, expert: 2}}\n")
    assert "environments.webshop.endpoints: webshop runs behind a server only" in str(mistakes.value)
    assert "environments.webshop.expert: webshop has no expert" in str(mistakes.value)


def test_where_environments_live_may_change_when_a_run_goes_on() -> None:
    moved = load(GOOD, "environments.maze.endpoints=['http://127.0.0.1:36001']")
    assert same_run(load(), moved) == []
    assert same_run(load(), load(GOOD, "environments.maze.processes=2")) == []
    assert same_run(load(), load(GOOD, "environments.maze.place=thread")) == []
    assert same_run(load(), load(GOOD, "format=function_calling")) == ["format"]


def test_a_recipe_says_where_environments_live_in_one_way_only() -> None:
    complaint = "environments.maze.processes: place is thread: set it to process, or leave one of them out"
    with pytest.raises(RecipeError, match=complaint):
        load(GOOD, "environments.maze.place=thread", "environments.maze.processes=2")
    with pytest.raises(RecipeError, match=r"environments.maze.place: endpoints are given as well"):
        load(GOOD, "environments.maze.place=thread", "environments.maze.endpoints=['http://127.0.0.1:36001']")
    recipe = load(GOOD, "environments.maze.place=process", "environments.maze.processes=3")
    assert place_of(recipe, "maze") == "process"
    assert place_of(load(GOOD, "environments.maze.processes=3"), "maze") == "process"
    assert (place_of(load(GOOD, "environments.maze.place=thread"), "maze"), place_of(load(), "maze")) == (
        "thread", "inline",
    )  # fmt: skip


def test_learning_settings_are_not_asked_for_where_nothing_is_learned() -> None:
    text = "name: x\nmodel: {name: random}\nenvironments: {maze: {eval: 3}}\n"
    assert load(text).bc.steps is None


def test_a_recipe_made_in_python_is_checked_by_the_same_rules() -> None:
    recipe = Recipe(name="x", model=ModelSettings(name="tiny"))
    with pytest.raises(RecipeError, match=r"^environments: there is none: add one"):
        check_recipe(recipe)
    recipe.environments["maze"] = EnvironmentSettings(eval=1)
    check_recipe(recipe)


def test_a_pipe_in_the_place_of_a_recipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"is no regular file: name a recipe file$"):
        load_recipe(tmp_path / "recipe.yaml")
