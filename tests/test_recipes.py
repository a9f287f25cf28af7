from __future__ import annotations

from pathlib import Path

import pytest

from agentgym.errors import RecipeError
from agentgym.preflight import check_eval, check_fit
from agentgym.recipe import load_recipe

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("**/*.yaml"))


def test_there_are_recipes() -> None:
    assert {"agentevol", "agentevol-7b-fsdp", "agenteval", "agenteval-paper", "bc"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_starts_with_the_command_that_runs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER.parent)
    recipe = load_recipe(path)
    comment = path.read_text().split("\n\n")[0].splitlines()
    program, command, name = comment[0].removeprefix("# ").split()
    assert (program, name) == ("agentgym", str(path.relative_to(FOLDER.parent)))
    assert comment[1] == "#"
    assert all(line.startswith("# ") for line in comment[2:])
    assert " ".join(comment[2:]).count(".") >= 3
    if any(environment.endpoints for environment in recipe.environments.values()):
        with pytest.raises(RecipeError, match="no server answers"):
            check_fit(recipe)
    elif command == "fit":
        check_fit(recipe)
    else:
        assert command == "eval"
    if command == "eval" and not any(environment.endpoints for environment in recipe.environments.values()):
        check_eval(recipe)


def test_recipes_name_their_run_folders_differently() -> None:
    names = [load_recipe(path).name for path in RECIPES]
    assert len(set(names)) == len(names)


def test_the_default_recipe_measures_at_least_400_tasks_with_a_control_and_needs_no_gpu() -> None:
    recipe = load_recipe(FOLDER / "agentevol.yaml")
    assert sum(environment.eval for environment in recipe.environments.values()) >= 400
    assert recipe.evol.control
    assert recipe.trainer.accelerator == "cpu"
    assert recipe.model.name == "tiny"
