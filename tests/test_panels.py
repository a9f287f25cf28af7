from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agentgym
from agentgym.cli import main
from agentgym.errors import DataError, RecipeError
from agentgym.panel import Panel, hash_of, load_panel, make_panel, panel_text, panels
from agentgym.panelcheck import Difference, steps_of, verify
from agentgym.play import tasks_of
from agentgym.recipe import load_recipe
from envpool import EnvSpec, Split, Step, Task, UnknownTask, get_spec, register

RECIPE = """
name: trial
model: {name: random}
panel: panel.json
environments:
  maze: {}
  textcraft: {}
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)


def small() -> Panel:
    return make_panel("small", [*get_spec("maze").select("eval", 4), *get_spec("textcraft").select("eval", 3)])


def written(panel: Panel, *changes: tuple[str, str]) -> str:
    text = panel_text(panel)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    Path("panel.json").write_text(text)
    return "panel.json"


def ids(*item_ids: str, name: str = "panel.json") -> str:
    Path(name).write_text(json.dumps([{"item_id": item_id} for item_id in item_ids]))
    return name


def test_the_shipped_panel_is_the_same_on_this_machine():
    pytest.importorskip("minigrid")
    panel = load_panel("agenteval-mini")
    verdict = verify(panel)
    assert verdict.differences == []
    assert verdict.tasks == 400
    assert verdict.goldens >= 4 * 8
    assert verdict.unverified == {}


def test_the_shipped_panel_holds_a_hundred_drawn_tasks_of_each_embedded_environment():
    panel = load_panel("agenteval-mini")
    for name in ("textcraft", "babyai", "maze", "wordle"):
        assert panel.tasks(name) == get_spec(name).select("eval", 100)
    assert panels() == ["agenteval-mini"]


def test_a_panel_is_read_as_it_was_written():
    panel = small()
    assert load_panel(written(panel)).environments == panel.environments


def test_a_panel_pins_first_observations_and_what_the_expert_did():
    panel = small()
    world = get_spec("maze").make()
    part = panel.environments["maze"]
    assert [part.tasks[task.item_id] for task in panel.tasks("maze")] == [
        hash_of(world.reset(task.index)) for task in panel.tasks("maze")
    ]
    assert [golden.score for golden in part.goldens] == [1.0] * 4
    assert len(part.packages["python"].split(".")) == 2


def test_where_all_tasks_begin_alike_there_is_a_golden_of_each():
    part = make_panel("words", get_spec("wordle").select("eval", 12)).environments["wordle"]
    assert len(part.goldens) == 12


def test_another_first_observation_is_named():
    panel = small()
    item_id, begins = next(iter(panel.environments["maze"].tasks.items()))
    assert begins is not None
    verdict = verify(load_panel(written(panel, (f'"{item_id}": "{begins}"', f'"{item_id}": "{"0" * 16}"'))))
    assert verdict.differences == [Difference("maze", item_id, "first observation", "0" * 16, begins)]


def test_the_turn_at_which_a_golden_differs_is_named():
    panel = small()
    golden = panel.environments["textcraft"].goldens[0]
    verdict = verify(load_panel(written(panel, (f'"{golden.observations[1]}"', '"0000000000000000"'))))
    (difference,) = verdict.differences
    assert (difference.item_id, difference.where) == (golden.item_id, "turn 2")
    assert (difference.expected, difference.found) == ("0" * 16, golden.observations[1])


def test_another_score_is_named():
    panel = small()
    golden = panel.environments["maze"].goldens[0]
    changed = (f'"{golden.item_id}", "score": 1.0', f'"{golden.item_id}", "score": 0.5')
    (difference,) = verify(load_panel(written(panel, changed))).differences
    assert (difference.item_id, difference.where, difference.expected) == (golden.item_id, "score", "0.5")


def test_the_command_says_what_differs_and_ends_with_one(capsys):
    panel = small()
    first, begins = next(iter(panel.environments["maze"].tasks.items()))
    path = written(panel, (f'"{first}": "{begins}"', f'"{first}": "{"0" * 16}"'), ('"python": "3', '"python": "2'))
    assert main(["tasks", "verify", path]) == 1
    out = capsys.readouterr().out
    assert "panel was made with python 2." in out
    row = next(line for line in out.splitlines() if first in line)
    assert row.split() == ["maze", first, "first", "observation", "0" * 16, begins]


def test_packages_of_another_version_alone_are_told_and_no_failure(capsys):
    assert main(["tasks", "verify", written(small(), ('"python": "3', '"python": "2'))]) == 0
    out = capsys.readouterr().out
    assert "maze: the panel was made with python 2." in out
    assert "panel.json is the same here: 7 first observations" in out


def test_another_version_of_an_environment_is_a_difference_and_no_recipe_takes_the_panel(capsys):
    path = written(small(), ('"version": "1"', '"version": "0"'))
    assert main(["tasks", "verify", path]) == 1
    assert "version" in capsys.readouterr().out
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml")
    assert caught.value.complaints == [
        "environments.maze: panel panel.json: it was made for version 0 of maze, and here is version 1: "
        "make another one with `agentgym tasks panel` (r.yaml, line 6)"
    ]


class Moody:
    """A world that breaks in task 3, and at the second action of task 2."""

    def reset(self, index: int) -> str:
        if index == 3:
            raise KeyError("no world")
        self.index, self.turns = index, 0
        return f"Task {index}."

    def step(self, action: str) -> Step:
        self.turns += 1
        if self.index == 2 and self.turns == 2:
            raise ValueError("broken\nworld")
        return Step(f"{action} {self.turns}", 0.0, False)

    def available_actions(self) -> list[str]:
        return ["wait"]

    def close(self) -> None:
        pass


@pytest.fixture
def moody() -> EnvSpec:
    return register(
        EnvSpec(
            name="moody",
            version="1",
            summary="",
            instructions="",
            brief="",
            make=Moody,
            tasks=lambda split: range(5) if split is Split.EVAL else (),
            max_turns=2,
            success_above=0.5,
        )
    )


def test_an_environment_that_breaks_is_a_finding(moody, monkeypatch):
    golden = {"item_id": "moody_2", "score": 0.0, "actions": ["a", "b"], "observations": [hash_of("a 1"), "0" * 16]}
    part = {"version": "1", "packages": {}, "tasks": {"moody_3": "0" * 16}, "goldens": [golden]}
    Path("panel.json").write_text(json.dumps({"environments": {"moody": part}}))
    monkeypatch.setattr("envpool.registry._registered", {"moody": moody})
    panel = load_panel("panel.json")
    steps = []
    verdict = verify(panel, lambda: steps.append(1))
    assert [(d.where, d.found) for d in verdict.differences] == [
        ("first observation", "KeyError: 'no world'"),
        ("turn 2", "ValueError: broken world"),
    ]
    assert len(steps) == steps_of(panel) == 2


def test_the_evaluation_tasks_of_a_recipe_are_those_of_its_panel():
    panel = small()
    written(panel)
    recipe = load_recipe("r.yaml")
    assert tasks_of(recipe, Split.EVAL) == [*panel.tasks("maze"), *panel.tasks("textcraft")]
    assert tasks_of(recipe, Split.TRAIN) == []
    shipped = load_recipe("r.yaml", ["panel=agenteval-mini"])
    assert tasks_of(shipped, Split.EVAL) == [
        *get_spec("maze").select("eval", 100),
        *get_spec("textcraft").select("eval", 100),
    ]


def test_a_panel_of_a_recipe_holds_its_evaluation_tasks(capsys):
    Path("counts.yaml").write_text("name: c\nmodel: {name: random}\nenvironments:\n  maze: {eval: 7}\n")
    assert main(["tasks", "panel", "counts.yaml", "environments.maze.eval=5", "--to", "mine.json"]) == 0
    assert "mine.json: 5 maze; 5 goldens" in capsys.readouterr().out
    assert load_panel("mine.json").tasks("maze") == get_spec("maze").select("eval", 5)
    assert main(["tasks", "verify", "mine.json"]) == 0


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["environments.maze.eval=3"], "environments.maze.eval: the panel panel.json says which tasks are measured"),
        (["panel=agenteval-min"], "panel: there is no panel 'agenteval-min'; did you mean 'agenteval-mini'?"),
        (["panel=r.yaml"], "panel: r.yaml is no JSON"),
        (["panel=empty"], "panel: the folder 'empty' holds no .json file"),
        (["environments={wordle: {}}"], "environments.wordle: panel panel.json has no tasks of wordle: it has maze"),
    ],
)
def test_a_panel_that_does_not_fit_a_recipe_is_one_complaint(overrides, complaint):
    written(small())
    Path("empty").mkdir()
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", overrides)
    assert any(line.startswith(complaint) for line in caught.value.complaints)


@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', '{"environments": 3}', '{"environments": {"maze": {"tasks": 1}}}', '[{"item": 1}]', '["maze_1"]', "3"],
)
def test_a_file_that_is_no_panel_is_refused_in_one_line(content):
    Path("panel.json").write_text(content)
    with pytest.raises(DataError, match="panel") as caught:
        load_panel("panel.json")
    assert len(str(caught.value).splitlines()) == 1


def test_official_ids_are_taken_where_they_name_the_same_task():
    panel = load_panel(ids("lmrlgym_maze_3", "lmrlgym_maze_0", "maze_3", "babyai_1804"))
    assert panel.tasks("maze") == [Task("maze", 3), Task("maze", 0)]
    assert panel.tasks("babyai") == [Task("babyai", 1804)]


@pytest.mark.parametrize("name", ["textcraft", "wordle"])
def test_official_ids_are_refused_where_they_name_another_task_unless_the_original_server_plays(name):
    panel = load_panel(ids(f"{name}_3"))
    with pytest.raises(DataError, match=f"{name}_3 is another problem here"):
        panel.tasks(name)
    assert panel.tasks(name, served=True) == [Task(name, 3)]


def test_a_recipe_takes_official_ids_for_served_environments():
    ids("sciworld_536", "sciworld_7", "textcraft_0")
    address = "endpoints: [http://127.0.0.1:1]"
    environments = f"sciworld: {{{address}}}\n  textcraft: {{{address}}}"
    Path("s.yaml").write_text(f"name: s\nmodel: {{name: random}}\npanel: panel.json\nenvironments:\n  {environments}\n")
    tasks = tasks_of(load_recipe("s.yaml"), Split.EVAL)
    assert tasks == [Task("sciworld", 536), Task("sciworld", 7), Task("textcraft", 0)]


def test_a_folder_of_lists_is_one_panel():
    Path("eval").mkdir()
    ids("maze_1", name="eval/maze_test.json")
    ids("sciworld_2", "maze_4", name="eval/sciworld_test.json")
    panel = load_panel("eval")
    assert panel.tasks("maze") == [Task("maze", 1), Task("maze", 4)]
    assert panel.tasks("sciworld") == [Task("sciworld", 2)]


@pytest.mark.parametrize(
    ("item_id", "environment"), [("maze_999999", "maze"), ("sciworld_99999", "sciworld"), ("nq_3", "searchqa")]
)
def test_a_task_that_there_is_not_is_refused(item_id, environment):
    with pytest.raises(DataError, match=f"{environment} has no task '{item_id}'"):
        load_panel(ids(item_id)).tasks(environment)


def test_textcraft_tasks_with_conversations_are_mapped_by_goal(capsys):
    spec = get_spec("textcraft")
    world = spec.make()
    begins = [world.reset(task.index) for task in spec.select("eval", 2)]
    records = [
        {
            "item_id": f"textcraft_{number}",
            "conversations": [
                {"from": "human", "loss": None, "value": f"Instruction:\n{text}"},
                {"from": "gpt", "loss": True, "value": "Thought:\n.\n\nAction:\ninventory"},
            ],
        }
        for number, text in enumerate([*begins, begins[0]])
    ]
    Path("textcraft_train.json").write_text(json.dumps(records))
    assert main(["tasks", "panel", "textcraft_train.json", "--to", "mapped.json"]) == 0
    assert "textcraft: 3 tasks were chosen by their goal" in capsys.readouterr().out
    tasks = load_panel("mapped.json").tasks("textcraft")
    goals = [world.reset(task.index).rsplit("\n", 1)[1] for task in tasks]
    assert goals == [text.rsplit("\n", 1)[1] for text in [*begins, begins[0]]]
    assert len(set(tasks)) == 3
    assert all(task.index in spec.tasks(Split.EVAL) for task in tasks)


def test_textcraft_ids_alone_cannot_be_mapped(capsys):
    assert main(["tasks", "panel", ids("textcraft_0"), "--to", "mapped.json"]) == 2
    assert "'textcraft_0' is another task here" in capsys.readouterr().err
    assert not Path("mapped.json").exists()


def test_served_environments_are_pinned_but_cannot_be_verified(capsys):
    panel = make_panel("far", get_spec("sciworld").select("eval", 3))
    assert set(panel.environments["sciworld"].tasks.values()) == {None}
    assert verify(load_panel(written(panel))).unverified == {"sciworld": 3}
    assert main(["tasks", "verify", "panel.json"]) == 2
    assert "sciworld: 3 tasks are not verified: it lives behind a server" in capsys.readouterr().err
    mixed = make_panel("mixed", [*get_spec("sciworld").select("eval", 3), *get_spec("maze").select("eval", 2)])
    assert main(["tasks", "verify", written(mixed)]) == 0
    assert "sciworld: 3 tasks are not verified: it lives behind a server" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([{"item_id": "textcraft_0"}], "textcraft: 1 tasks are not verified: they are other ones here (the original"),
        ([{"item_id": "maze_3"}], "maze: 1 tasks are not verified: there is no hash of them"),
        ([], "it names no task"),
        ({"environments": {}}, "it names no task"),
        (
            {"environments": {"maze": {"version": "1", "packages": {}, "tasks": {"maze_3": None}, "goldens": []}}},
            "maze: 1 tasks are not verified: there is no hash of them",
        ),
    ],
)
def test_a_panel_of_which_nothing_can_be_compared_is_not_the_same(content, why, capsys):
    Path("panel.json").write_text(json.dumps(content))
    assert main(["tasks", "verify", "panel.json"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"agentgym: nothing of panel.json can be verified ({why}")
    assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("item_id", "complaint"),
    [
        ("foo", "item_id 'foo' is not <environment>_<index>"),
        (3, "'item_id' is of a wrong type"),
        (None, "'item_id' is missing"),
        ("babyai_3", "'babyai_3' is no task of maze"),
        ("nq_3", "'nq_3' is no task of maze"),
    ],
)
def test_a_golden_of_no_task_of_its_environment_is_refused(item_id, complaint, capsys):
    golden = {"item_id": item_id, "score": 0.0, "actions": [], "observations": []}
    part = {"version": "1", "packages": {}, "tasks": {}, "goldens": [golden]}
    Path("panel.json").write_text(json.dumps({"environments": {"maze": part}}))
    assert main(["tasks", "verify", "panel.json"]) == 2
    assert capsys.readouterr().err.startswith(f"agentgym: panel.json is no panel ({complaint}): ")


def test_a_golden_needs_a_number():
    golden = {"item_id": "nq_3", "score": 0.0, "actions": [], "observations": []}
    part = {"version": "1", "packages": {}, "tasks": {}, "goldens": [golden]}
    Path("panel.json").write_text(json.dumps({"environments": {"searchqa": part}}))
    with pytest.raises(DataError, match="the golden 'nq_3' names no number"):
        load_panel("panel.json")


def test_an_empty_hash_is_compared_and_counted():
    part = {"version": "1", "packages": {}, "tasks": {"maze_3": ""}, "goldens": []}
    Path("panel.json").write_text(json.dumps({"environments": {"maze": part}}))
    panel, steps = load_panel("panel.json"), []
    verdict = verify(panel, lambda: steps.append(1))
    assert (verdict.tasks, len(verdict.differences), len(steps), steps_of(panel)) == (1, 1, 1, 1)


def test_a_record_without_an_id_is_named_with_its_file():
    Path("eval").mkdir()
    ids("maze_1", "maze_2", name="eval/maze_test.json")
    Path("eval/todo_test.json").write_text('[{"item_id": "todo_1"}, {"item_id": 3}]')
    with pytest.raises(DataError, match=r"eval/todo_test.json: record 2 has no readable item_id"):
        load_panel("eval")


def test_the_shipped_panel_goes_before_a_folder_of_its_name():
    Path("agenteval-mini").mkdir()
    assert load_panel("agenteval-mini").tasks("maze") == get_spec("maze").select("eval", 100)


def test_no_task_is_pinned_that_an_environment_refuses():
    with pytest.raises(UnknownTask):
        make_panel("wrong", [Task("maze", 999_999)])


def test_a_panel_holds_whatever_the_hash_seed_the_folder_and_the_locale():
    written(small())
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "LC_ALL": "C",
        "PYTHONPATH": str(Path(agentgym.__file__).parents[1]),
    }
    folder = Path("elsewhere")
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "agentgym", "tasks", "verify", str(Path("panel.json").resolve())],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
