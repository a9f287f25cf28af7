"""Run folders that were damaged, or that somebody else made: one line, nothing lost, and nothing of them runs."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_html import SPECS, data, episode, run

import envpool
from agentgym import cli
from agentgym.compare import read_players
from agentgym.data import store
from agentgym.errors import AgentGymError, RecipeError, RunError
from agentgym.evaluation import html, measure, reading
from agentgym.evaluation.scoreboard import EvalReport, Player
from agentgym.manner import Manner
from agentgym.recipe import LONGEST, load_recipe, read_recipe, save_recipe
from agentgym.runfolder import RunFolder
from agentgym.settings import EnvironmentSettings, FormatName, ModelSettings, Prompt, Recipe
from envpool import Task

RECIPE = "name: x\nmodel: {name: tiny}\nenvironments: {maze: {eval: 4}}\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs") / "fit", tasks=4, tries=4)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of two players."""
    folder = tmp_path_factory.mktemp("runs") / "eval"
    folder.mkdir()
    recipe = Recipe(
        name="board", model=ModelSettings(name="random"), environments={"maze": EnvironmentSettings(eval=9)}
    )
    save_recipe(recipe, folder / "recipe.yaml")
    players = []
    for name in ("random", "org/model"):
        rng = random.Random(name)
        played = [episode(rng, env, i, share=0.5, policy=name) for i in range(5) for env in SPECS]
        file = f"eval-{name.replace('/', '-')}-0.parquet"
        store.write(folder / "trajectories" / file, played, iteration=0, phase=store.Phase.EVAL)
        manner = Manner(Prompt.full, FormatName.react, 4096, 512)
        players.append(
            Player(name=name, manner=manner, taught=False, played=measure(played, SPECS), trajectories=[file])
        )
    facts = {"seconds": {"eval": 1.0}, "versions": {"python": "3"}, "machine": {"cores": 2}}
    EvalReport(name="board", seed=0, recipe={"model": {"name": "random"}}, players=players, **facts).write(folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with."""
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said
    return said.err


LAUGHS = "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DAMAGED = {
    "not UTF-8": (b"# \xff\n", "is no UTF-8 text (byte 2): save it as UTF-8"),
    "nested": (b"a: " + b"[" * 5_000, "it nests too deeply, or a part of it holds itself"),
    "in itself": (b"x: &a [*a]\n", "it nests too deeply, or a part of it holds itself"),
    "in itself as a section": (b"x: &a {y: *a}\n", "it nests too deeply, or a part of it holds itself"),
    "laughs": (b"a: &a [x]\n" + LAUGHS.encode(), "it has more than 100,000 values, its aliases written out"),
    "long": (b"# " + b"x" * LONGEST, "has more than 500,000 bytes: it is no recipe"),
    "half a character": (b'x: "\\ud800"\n', "this is not YAML"),
    "zero byte": (b"x: \0\n", "this is not YAML"),
    "digits": (b"seed: " + b"9" * 5_000 + b"\n", "this is not YAML"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_recipe_is_one_line_wherever_it_is_read(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, line = DAMAGED[name]
    (copied / "recipe.yaml").write_bytes(content + RECIPE.encode())
    (copied / "report.html").write_text("the page before")
    for words in (["validate", f"{copied / 'recipe.yaml'}"], ["compare", f"{copied}", f"{copied}"]):
        assert line in refused(words, capsys)
    (copied / "report.json").unlink()
    assert line in refused(["report", f"{copied}"], capsys)
    assert (copied / "report.html").read_text() == "the page before"
    mine = Recipe(name=copied.name, output=copied.parent, model=ModelSettings(name="tiny"))
    with pytest.raises(RecipeError):
        RunFolder(mine)
    assert (copied / "recipe.yaml").read_bytes() == content + RECIPE.encode()


@pytest.mark.parametrize("override", ["seed=" + "[" * 5_000, "seed=&a [*a]", "data=[\udcff]", f"bc.lr=1{'0' * 400}"])
def test_a_damaged_override_is_one_line(override: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml", [override])
    assert len(caught.value.complaints) == 1
    assert "\n" not in caught.value.complaints[0]


VALUES = [None, 5, -1, 10**400, 0.5, True, "x", "\ud800", "x" * 200_000, [], [1], {}, {"a": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of the parts of a value; of a list the first and the last item."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("kind", ["finished", "board"])
def test_a_report_in_which_anything_is_wrong_is_one_line_or_a_page(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)
    report = json.loads((folder / "report.json").read_text())
    path = tmp_path / "report.json"
    parts = places({key: part for key, part in report.items() if key != "recipe"})
    lines = []
    for place, new in [*itertools.product(parts, VALUES)][::37]:
        path.write_text(json.dumps(changed(report, place, new)))
        try:
            json.dumps(reading.read_report(path, html._whole), allow_nan=False).encode()
        except RunError as error:
            lines.append(str(error))
    assert len(lines) > 60
    assert all(str(path) in line and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.replace('"name": "trial"', '"name": "\\ud800"', 1), "half a character"),
        (lambda text: text.replace('"seed": 0', '"seed": NaN', 1), "NaN is no number of JSON"),
        (lambda text: text.replace('"seed": 0', '"seed": 1e999', 1), "a number that is not finite"),
        (lambda text: "[" * 100_000, "it nests too deeply"),
        (lambda text: text[: len(text) // 2], "cannot read"),
        (lambda text: "", "cannot read"),
    ],
)
def test_a_report_that_no_browser_reads_is_one_line_and_the_page_stays(
    change: Callable[[str], str], line: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "report.json"
    path.write_text(change(path.read_text()))
    (copied / "report.html").write_text("the page before")
    said = refused(["report", f"{copied}"], capsys)
    assert line in said
    assert str(path) in said
    assert (copied / "report.html").read_text() == "the page before"


def test_a_page_that_is_a_link_is_replaced_and_what_it_leads_to_stays(copied: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (copied / "report.html").symlink_to(precious)
    html.write_html(copied)
    assert precious.read_text() == "precious"
    assert not (copied / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["it000-eval", "zzz"])
def test_a_pipe_in_place_of_trajectories_is_not_waited_for(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "report.json").unlink()
    path = copied / "trajectories" / f"{name}.parquet"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert "is no regular file" in refused(["report", f"{copied}"], capsys)


def test_a_pipe_in_place_of_a_report_is_not_waited_for(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "report.json").unlink()
    os.mkfifo(copied / "report.json")
    assert "is no regular file" in refused(["report", f"{copied}"], capsys)


@pytest.mark.parametrize(
    "done", [b"{", b"[]", b'{"steps": 1}', b'{"steps": "a", "tokens": 1, "trajectories": 1}', b"[" * 100_000, b"\xff"]
)
def test_what_a_phase_left_and_was_damaged_is_one_line(
    done: bytes, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "report.json").unlink()
    (copied / "it001" / "done.json").write_bytes(done)
    assert "done.json" in refused(["report", f"{copied}"], capsys)


def test_damaged_times_count_for_nothing(copied: Path) -> None:
    (copied / "report.json").unlink()
    lines = [
        '{"event": "bc", "seconds": 2.5}',
        '{"event": "bc", "seconds": NaN}',
        f'{{"event": "x", "seconds": 1{"0" * 400}}}',
    ]
    lines += ['{"event": ["a"], "seconds": 1}', "[" * 100_000, "{", "5"]
    (copied / "events.jsonl").write_text("\n".join(lines))
    assert data(html.write_html(copied))["seconds"] == {"bc": 2.5}


def test_an_episode_of_no_phase_is_one_line(copied: Path) -> None:
    path = copied / "trajectories" / "expert.parquet"
    store.write_rows(path, [{**row, "phase": "</script>"} for row in store.rows(path)])
    with pytest.raises(AgentGymError, match=r"expert\.parquet holds an episode of no phase"):
        html.write_html(copied)


def test_other_files_beside_the_trajectories_are_no_iterations(copied: Path) -> None:
    (copied / "trajectories" / "itabc-eval.parquet").write_bytes(b"")
    assert read_players(f"{copied}")[0].name.endswith("iteration 2")


@pytest.mark.parametrize("file", ["../secret.parquet", "/etc/passwd", 5, None])
def test_the_files_of_a_report_lie_in_its_folder(file: Any, board: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(board, tmp_path / "board")
    report = json.loads((copy / "report.json").read_text())
    report["players"][0]["trajectories"] = [file]
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(RunError, match="is no trajectory file of the run"):
        read_players(f"{copy}:random")


EVIL = """
from pathlib import Path
from dataclasses import replace
import envpool
Path("executed").write_text("")
envpool.register(replace(envpool.get_spec("maze"), name="foreign"))
"""


@pytest.fixture
def foreign(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run folder that names a module, which lies in it, and was played in an environment of that module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    folder = shutil.copytree(finished, tmp_path / "runs" / "foreign")
    (folder / "evil.py").write_text(EVIL)
    recipe = replace(read_recipe(folder / "recipe.yaml"), imports=["runs.foreign.evil"], module="runs.foreign.evil.X")
    save_recipe(recipe, folder / "recipe.yaml")
    yield folder
    for name in [name for name in sys.modules if name == "runs" or name.startswith("runs.")]:
        del sys.modules[name]
    envpool.registry._registered.pop("foreign", None)


COMMANDS = (
    *("compare runs/foreign runs/foreign", "transfer runs/foreign", "report runs/foreign"),
    *("tasks list runs/foreign", "traj show runs/foreign", "traj stats runs/foreign"),
)


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("unfinished", [True, False])
def test_no_command_runs_what_a_run_folder_names(words: str, unfinished: bool, foreign: Path) -> None:
    if unfinished:
        (foreign / "report.json").unlink()
    assert cli.main(words.split()) == 0  # what works without the import works
    assert not Path("executed").exists()


@pytest.mark.parametrize("words", COMMANDS[:3])
def test_what_needs_the_modules_of_a_run_folder_says_how(
    words: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign / "report.json").unlink()
    for path in (foreign / "trajectories").glob("*.parquet"):
        there = [(row, store.from_row(row)) for row in store.rows(path)]
        moved = [
            replace(t, task=Task("foreign" if t.task.environment == "maze" else t.task.environment, t.task.index))
            for _, t in there
        ]
        store.write(path, moved, iteration=there[0][0]["iteration"], phase=there[0][0]["phase"])
    said = refused(words.split(), capsys)
    assert "runs/foreign has tasks of 'foreign', which is not known here" in said
    assert "names the modules runs.foreign.evil: --trust imports them" in said
    assert not Path("executed").exists()
    assert cli.main([*words.split(), "--trust"]) == 0
    assert Path("executed").exists()


def test_going_on_in_a_foreign_run_folder_runs_nothing_of_it(foreign: Path) -> None:
    with pytest.raises(RunError, match="belongs to a run with another"):
        RunFolder(Recipe(name="foreign", model=ModelSettings(name="tiny")))
    assert not Path("executed").exists()


def test_a_second_process_changes_nothing_before_it_is_refused(tmp_path: Path) -> None:
    recipe = Recipe(name="x", output=tmp_path, model=ModelSettings(name="tiny"), environments={"maze": {"eval": 1}})
    save_recipe(recipe, tmp_path / "r.yaml")
    code = (
        "import sys\nfrom agentgym.recipe import load_recipe\nfrom agentgym.runfolder import RunFolder\n"
        "RunFolder(load_recipe(sys.argv[1]))\nprint('taken', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r.yaml")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        before = (tmp_path / "x" / "recipe.yaml").read_bytes()
        slower = replace(recipe, pool={"workers": 3})  # which may change when a run goes on
        with pytest.raises(RunError, match="another process is at work"):
            RunFolder(slower)
        assert (tmp_path / "x" / "recipe.yaml").read_bytes() == before
        assert holder.stdin is not None
        holder.stdin.close()
    RunFolder(slower).leave()
    assert read_recipe(tmp_path / "x" / "recipe.yaml").pool.workers == 3


def test_the_lock_of_a_foreign_run_folder_may_be_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".lock").symlink_to(precious)
    with pytest.raises(RunError, match="is a link: delete it"):
        RunFolder(Recipe(name="x", output=tmp_path, model=ModelSettings(name="tiny")))
    assert precious.read_text() == "precious"


def test_a_run_that_was_killed_before_its_recipe_was_written_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in (".lock", "recipe.yaml.0123.tmp"):
        (tmp_path / "x" / name).write_text("")
    RunFolder(Recipe(name="x", output=tmp_path, model=ModelSettings(name="tiny"))).leave()
    assert (tmp_path / "x" / "recipe.yaml").is_file()
