from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentgym import cli
from agentgym.compare import compare, read_players, transfer
from agentgym.data import store
from agentgym.errors import DataError, RunError
from agentgym.evaluation.pairs import Verdict
from envpool import Task, environments, get_spec
from envpool.types import Completion, StopReason, Trajectory, Turn


def episodes(shares: dict[str, float], *, seed: int = 0, tasks: int = 40, sample: int = 0, version: str = "1"):
    rng = random.Random(seed)
    turn = Turn(Completion("Action:\nup"), "up", "up", 0.0)
    return [
        Trajectory(
            Task(name, i), sample, "me", "", "", (turn,), StopReason.DONE, float(ok), ok, version=version, seconds=1.0
        )
        for name, share in shares.items()
        for i in range(tasks)
        for ok in [rng.random() < share]
    ]


def write_recipe(folder: Path, **environments: dict[str, object]) -> None:
    """The recipe of a run as far as comparing needs it."""
    folder.mkdir(parents=True)
    settings = {name: {"expert": 0, "explore": 0, "max_turns": None, **given} for name, given in environments.items()}
    (folder / "recipe.yaml").write_text(json.dumps({"name": folder.name, "imports": [], "environments": settings}))


def fitted(folder: Path, *iterations: dict[str, float], control: dict[str, float] | None = None, **options) -> Path:
    """A run of fit that learned maze and measured each iteration."""
    seed = options.pop("seed", 0)
    write_recipe(folder, maze={"expert": 2, "explore": 5}, textcraft={"max_turns": options.pop("max_turns", None)})
    files = folder / "trajectories"
    store.write(files / "expert.parquet", episodes({"maze": 1.0}, tasks=2), iteration=0, phase="expert")
    for number, shares in enumerate(iterations):
        played = episodes(shares, seed=seed + number, **options)
        store.write(files / f"it{number:03d}-eval.parquet", played, iteration=number, phase="eval")
    if control is not None:
        store.write(files / "control-eval.parquet", episodes(control, seed=9), iteration=0, phase="control")
    return folder


def evaluated(folder: Path, samples: int = 1, **players: dict[str, float]) -> Path:
    """A run of eval."""
    write_recipe(folder, maze={}, textcraft={})
    rows = []
    for number, (player, shares) in enumerate(players.items()):
        names = [f"eval-{number}-{sample}.parquet" for sample in range(samples)]
        for sample, name in enumerate(names):
            played = episodes(shares, seed=10 * number + sample, sample=sample)
            store.write(folder / "trajectories" / name, played, iteration=0, phase="eval")
        rows.append({"player": player, "trajectories": names})
    (folder / "report.json").write_text(json.dumps({"kind": "eval", "players": rows}))
    return folder


def test_fits_are_compared_by_their_last_iterations_in_plain_words(tmp_path, capsys):
    old = fitted(tmp_path / "a", {"maze": 0.1, "textcraft": 0.5}, {"maze": 0.2, "textcraft": 0.5})
    new = fitted(tmp_path / "b", {"maze": 0.1, "textcraft": 0.5}, {"maze": 0.9, "textcraft": 0.5})
    found = compare(f"{old}", f"{new}")
    assert found.named(Verdict.BETTER) == ["maze"]
    assert found.named(Verdict.NO_EVIDENCE) == ["textcraft"]
    shown = capsys.readouterr().out
    assert "better on 1 (maze), worse on 0, no evidence on 1 (textcraft); pairs: 80 of 80 tasks." in shown
    assert "40/40" in shown


def test_an_iteration_a_control_and_a_player_can_be_named(tmp_path):
    run = fitted(tmp_path / "a", {"maze": 0.1}, {"maze": 0.9}, {"maze": 0.5}, control={"maze": 0.4})
    board = evaluated(tmp_path / "e", expert={"maze": 1.0}, **{"org/model:7b": {"maze": 0.3}})
    assert compare(f"{run}:0", f"{run}:1").named(Verdict.BETTER) == ["maze"]
    assert compare(f"{run}:control", f"{run}", iteration=1).named(Verdict.BETTER) == ["maze"]
    assert compare(f"{board}:expert", f"{board}:org/model:7b").named(Verdict.WORSE) == ["maze"]
    assert compare(f"{board}:expert", f"{run}:1").tasks == 40


def test_several_tries_at_a_task_are_averaged(tmp_path):
    board = evaluated(tmp_path / "e", samples=3, one={"maze": 0.3}, other={"maze": 0.7})
    found = compare(f"{board}:one", f"{board}:other").environments["maze"]
    assert (found.tasks, found.test, found.verdict) == (40, "sign flips", Verdict.BETTER)


def test_other_turn_limits_are_said(tmp_path, capsys):
    old = fitted(tmp_path / "a", {"maze": 0.5, "textcraft": 0.5})
    new = fitted(tmp_path / "b", {"maze": 0.5, "textcraft": 0.5}, max_turns=8)
    compare(f"{old}", f"{new}")
    turns = get_spec("textcraft").max_turns
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"textcraft was played with {turns} turns by {old}, iteration 0 and with 8 by {new}, iteration 0."


def test_other_versions_and_other_tasks_are_refused_in_one_line(tmp_path, capsys):
    old = fitted(tmp_path / "a", {"maze": 0.5})
    fitted(tmp_path / "b", {"maze": 0.5}, version="2")
    fitted(tmp_path / "c", {"textcraft": 0.5})
    with pytest.raises(DataError, match=r"version 1 by .* and in version 2"):
        compare(f"{old}", f"{tmp_path / 'b'}")
    assert cli.main(["compare", f"{old}", f"{tmp_path / 'c'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no finished task in common" in line


def test_a_run_that_is_not_there_or_not_measured_is_one_line(tmp_path, capsys):
    run = fitted(tmp_path / "a", {"maze": 0.5})
    board = evaluated(tmp_path / "e", expert={"maze": 1.0}, random={"maze": 0.0})
    write_recipe(tmp_path / "new", maze={})
    write_recipe(tmp_path / "half", maze={})
    store.write(tmp_path / "half" / "trajectories" / "eval-expert-0.parquet", [], iteration=0, phase="eval")
    for name, words in [
        (f"{tmp_path / 'aa'}", f"did you mean '{run}'"),
        (f"{run}:7", "has no iteration '7' (it has: 0)"),
        (f"{board}", "holds 2 players: name one of them"),
        (f"{board}:expart", "did you mean 'expert'"),
        (f"{tmp_path / 'new'}", "has not measured anything yet"),
        (f"{tmp_path / 'half'}", "is not finished and has no report yet"),
    ]:
        assert cli.main(["compare", f"{run}", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    with pytest.raises(RunError, match="no iteration '3'"):
        compare(f"{run}", f"{run}", iteration=3)


@pytest.mark.parametrize("content", ["[]", '{"kind": "eval"}', '{"kind": "eval", "players": [1]}', "{"])
def test_a_report_that_is_none_is_one_line(tmp_path, capsys, content):
    run = fitted(tmp_path / "a", {"maze": 0.5})
    board = evaluated(tmp_path / "e", expert={"maze": 1.0})
    (board / "report.json").write_text(content)
    assert cli.main(["compare", f"{run}", f"{board}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{board / 'report.json'}" in line
    assert "delete it and repeat the command that wrote it" in line


@pytest.mark.parametrize(
    ("source", "reason"),
    [("def (", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("import nowhere_to_be", "No module")],
)
def test_a_module_of_a_run_that_cannot_be_imported_is_one_line(tmp_path, capsys, monkeypatch, source, reason):
    run = fitted(tmp_path / "a", {"maze": 0.5})
    recipe = json.loads((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(json.dumps({**recipe, "imports": ["broken_environment"]}))
    (tmp_path / "broken_environment.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["compare", f"{run}:0", f"{run}"]) == 0  # nothing that a run folder names is imported
    assert cli.main(["compare", f"{run}:0", f"{run}", "--trust"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot import broken_environment" in line
    assert reason in line


def test_two_runs_that_differ_by_seed_only_show_no_evidence(tmp_path):
    shares = {"maze": 0.4, "textcraft": 0.7}
    runs = [fitted(tmp_path / f"{seed}", shares, seed=seed) for seed in range(20)]
    found = [compare(f"{old}", f"{new}") for old, new in zip(runs[::2], runs[1::2], strict=True)]
    assert all(not (f.named(Verdict.BETTER) or f.named(Verdict.WORSE)) for f in found)


def test_the_transfer_table_has_a_row_for_what_was_learned_and_a_column_for_what_was_measured(tmp_path):
    run = fitted(tmp_path / "a", {"maze": 0.9, "textcraft": 0.2})
    board = evaluated(tmp_path / "e", random={"maze": 0.1, "textcraft": 0.1})
    header, row, base = transfer([f"{run}"], f"{board}")
    assert header == ["learned from", "maze", "textcraft"]
    assert row[0] == f"maze ({run}, iteration 0)"
    maze, limits, gain, p = row[1].splitlines()
    assert (maze.endswith("*"), limits[0], gain[0], p) == (True, "[", "+", "p < 0.001")
    assert "*" not in row[2]
    assert base[0] == f"baseline: {board}"
    assert transfer([f"{run}", f"{board}"], f"{board}")[1:] == [row, base]
    assert transfer([f"{run}"])[1][1] == f"{maze}\n{limits}"


def test_a_baseline_alone_makes_no_transfer_table(tmp_path, capsys):
    board = evaluated(tmp_path / "e", random={"maze": 0.1}, expert={"maze": 1.0})
    assert cli.main(["transfer", f"{board}:random", "--baseline", f"{board}:random"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "there is only the baseline" in said.err


def test_a_transfer_table_with_many_environments_shows_every_number(tmp_path, capsys):
    names = [*environments()][:9]
    board = evaluated(tmp_path / "e", random=dict.fromkeys(names, 0.1), me=dict.fromkeys(names, 0.6))
    header, *rows = transfer([f"{board}:me"], f"{board}:random")
    shown = capsys.readouterr().out
    assert len(header) == 10
    for row in rows:
        for cell in row[1:]:
            for line in cell.splitlines():
                assert shown.count(line) >= sum(line in other.splitlines() for r in rows for other in r[1:])


def test_a_model_that_lies_in_a_run_learned_what_the_run_learned(tmp_path):
    run = fitted(tmp_path / "a", {"maze": 0.5})
    names = [f"{run}/it001/model", f"{run}/base", "org/model"]
    board = evaluated(tmp_path / "e", **{name: {"textcraft": 0.5} for name in names})
    assert [player.trained_on for player in read_players(f"{board}")] == [{"maze"}, frozenset(), None]
    assert [row[0].split(" (")[0] for row in transfer([f"{board}"])[1:]] == ["maze", "nothing", f"{board}:org/model"]
