"""Figures of players, players against each other, and the report of an evaluation."""

from __future__ import annotations

import io
import json
import random
import re
from dataclasses import replace

import pytest
from rich.console import Console

from agentgym.errors import DataError
from agentgym.evaluation.pairs import Verdict, pair
from agentgym.evaluation.players import measure, scaled
from agentgym.evaluation.scoreboard import EvalReport, Player
from agentgym.evaluation.statistics import mcnemar_exact, mean_interval, sign_flip_exact, wilson_interval
from agentgym.evaluation.tables import figure_cell, figures_table, percent
from agentgym.manner import Manner
from agentgym.settings import FormatName, Prompt
from envpool import environments, get_spec
from envpool.types import Completion, Split, StopReason, Task, Trajectory, Turn

SPECS = {name: get_spec(name) for name in ("maze", "textcraft", "babyai", "sciworld")}
MANNER = Manner(Prompt.brief, FormatName.react, 400, 12)


def episode(name: str, index: int, score: float | None, *, sample: int = 0, turns: int = 1, version: str = "1"):
    turn = Turn(Completion("Action:\nup"), "up", "you went up", score or 0.0)
    stop = StopReason.ERROR if score is None else StopReason.DONE
    success = None if score is None else get_spec(name).success(score)
    task = Task(name, index)
    return Trajectory(task, sample, "me", "", "", (turn,) * turns, stop, score, success, version=version)


def tried(name: str, solved: list[list[bool | None]]) -> list[Trajectory]:
    """Tries at tasks 0, 1, ...: whether each was solved; None if it failed."""
    return [
        episode(name, index, None if ok is None else float(ok), sample=sample)
        for index, tries in enumerate(solved)
        for sample, ok in enumerate(tries)
    ]


def test_with_one_try_a_task_success_has_wilsons_interval():
    figures = measure(tried("maze", [[True], [True], [False], [None]]), SPECS).environments["maze"]
    assert (figures.tasks, figures.episodes, figures.errored, figures.finished) == (4, 4, 1, 3)
    assert figures.success == pytest.approx(2 / 3)
    assert figures.success_interval == pytest.approx(wilson_interval(2, 3))
    assert figures.pass_at_k == figures.pass_hat_k == {1: pytest.approx(2 / 3)}


def test_with_several_tries_each_task_weighs_the_same_and_is_one_observation():
    played = tried("maze", [[True, True, None], [False, True, False], [False] * 3])
    figures = measure(played, SPECS).environments["maze"]
    assert (figures.tasks, figures.episodes, figures.errored) == (3, 9, 1)
    assert figures.success == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert figures.success_interval == mean_interval([1, 1 / 3, 0], 8)


def test_pass_at_k_is_of_the_tasks_with_so_many_finished_tries():
    figures = measure(tried("maze", [[True, True, None], [False, True, False]]), SPECS).environments["maze"]
    assert figures.pass_at_k == {1: pytest.approx(2 / 3), 2: pytest.approx((1 + 2 / 3) / 2), 3: 1.0}
    assert figures.pass_hat_k == {1: pytest.approx(2 / 3), 2: 0.5, 3: 0.0}
    assert measure(tried("maze", [[True, None]]), SPECS).environments["maze"].pass_at_k == {1: 1.0, 2: None}


def test_an_errored_episode_is_never_a_zero():
    with_error = measure(tried("maze", [[True], [None]]), SPECS)
    figures = with_error.environments["maze"]
    assert (figures.success, figures.score, figures.turns, figures.errored) == (1.0, 1.0, 1.0, 1)
    nothing = measure(tried("maze", [[None], [None]]), SPECS)
    figures = nothing.environments["maze"]
    assert (figures.success, figures.score, figures.headline, figures.turns) == (None, None, None, None)
    assert figures.success_interval == figures.score_interval == (0, 1)
    assert (nothing.macro.success, nothing.macro.headline, nothing.macro.headline_interval) == (None, None, (0, 1))


def test_the_headline_is_the_environments_own_metric():
    played = [episode("babyai", 0, 0.9), episode("babyai", 1, 0.5), episode("maze", 0, 0.4)]
    result = measure(played, SPECS)
    babyai, maze = result.environments["babyai"], result.environments["maze"]
    assert (babyai.metric, babyai.success, babyai.headline) == ("score", 1.0, pytest.approx(0.7))
    assert babyai.headline_interval == babyai.score_interval
    assert (maze.metric, maze.success, maze.score, maze.headline) == ("success", 0.0, 0.4, 0.0)
    assert result.macro.headline == pytest.approx(0.35)


def test_a_player_that_does_nothing_has_a_headline_of_0_and_a_perfect_one_of_1():
    for name in environments():
        spec = get_spec(name)
        assert (scaled(spec.initial_score, spec), scaled(spec.score_range[1], spec)) == (0, 1)
    sciworld = measure([episode("sciworld", 0, 30.0), episode("sciworld", 1, -100.0)], SPECS).environments["sciworld"]
    assert (sciworld.score, sciworld.headline) == (-35.0, -0.35)
    low, high = sciworld.headline_interval
    assert -1 <= low < -0.35 < high <= 1
    assert sciworld.score_interval == pytest.approx((100 * low, 100 * high))


def test_types_of_task_are_counted_apart_and_add_up():
    tasks = get_spec("textcraft").select(Split.EVAL, 60)
    played = [episode("textcraft", task.index, float(i % 3 == 0)) for i, task in enumerate(tasks)]
    figures = measure(played, SPECS).environments["textcraft"]
    assert figures.task_type == "depth"
    assert set(figures.types) == {str(get_spec("textcraft").facts(task.index)["depth"]) for task in tasks}
    assert list(figures.types) == sorted(figures.types)
    assert sum(part.tasks for part in figures.types.values()) == 60
    solved = sum(part.success * part.finished for part in figures.types.values())
    assert solved == pytest.approx(20)


def test_numbered_types_are_in_the_order_of_their_numbers():
    played = [episode("babyai", level - 1, 0.5) for level in (11, 2, 9)]
    assert list(measure(played, SPECS).environments["babyai"].types) == ["2", "9", "11"]


@pytest.mark.parametrize("name", environments())
def test_the_type_of_a_task_is_a_fact_of_it(name):
    spec = get_spec(name)
    if spec.task_type is not None:
        assert all(spec.task_type in spec.facts(spec.tasks(split)[0]) for split in Split)


def test_the_order_of_episodes_does_not_matter_and_none_may_be_there_twice():
    played = tried("maze", [[True, False], [None, True]]) + tried("textcraft", [[True, True]])
    shuffled = random.Random(1).sample(played, len(played))
    assert measure(played, SPECS) == measure(shuffled, SPECS)
    with pytest.raises(DataError, match="try 2 of maze_0 was measured twice"):
        measure([*played, played[1]], SPECS)


def players(*shares: tuple[float, float], tasks: int = 60, samples: int = 1, seed: int = 0):
    """Players that solve shares of the tasks of two environments."""
    rng = random.Random(seed)
    return [
        measure(
            [
                episode(name, i, float(rng.random() < share), sample=sample)
                for name, share in zip(("maze", "textcraft"), both, strict=True)
                for i in range(tasks)
                for sample in range(samples)
            ],
            SPECS,
        )
        for both in shares
    ]


def test_pairs_with_one_try_are_judged_by_mcnemars_test_and_adjusted_for_the_environments():
    old, new = players((0.2, 0.5), (0.7, 0.5), seed=1)
    found = pair(old, new, names=("old", "new"))
    maze, textcraft = found.environments["maze"], found.environments["textcraft"]
    assert (maze.test, maze.verdict, textcraft.verdict) == ("McNemar", Verdict.BETTER, Verdict.NO_EVIDENCE)
    assert maze.p_value == pytest.approx(2 * mcnemar_exact(maze.won, maze.lost))
    assert maze.difference == pytest.approx((maze.won - maze.lost) / 60)
    assert found.words() == (
        "new against old: better on 1 (maze), worse on 0, no evidence on 1 (textcraft); pairs: 120 of 120 tasks."
    )
    assert found.difference == pytest.approx(new.macro.headline - old.macro.headline)


def test_pairs_of_scores_and_of_several_tries_are_judged_by_flipping_signs_of_whole_tasks():
    rng = random.Random(4)
    scores = [(rng.random(), rng.random()) for _ in range(40)]
    old, new = (measure([episode("babyai", i, s[side]) for i, s in enumerate(scores)], SPECS) for side in (0, 1))
    found = pair(old, new, names=("old", "new")).environments["babyai"]
    assert (found.test, found.metric) == ("sign flips", "score")
    assert found.p_value == sign_flip_exact([b - a for a, b in scores])
    several = pair(*players((0.3, 0.3), (0.6, 0.3), samples=4), names=("old", "new"))
    assert several.environments["maze"].test == "sign flips"
    assert several.environments["maze"].verdict is Verdict.BETTER
    assert several.tasks == 120  # tasks, not episodes


def test_pairs_are_antisymmetric():
    old, new = players((0.2, 0.5), (0.5, 0.6), samples=3)
    there, back = pair(old, new, names=("a", "b")), pair(new, old, names=("b", "a"))
    assert there.difference == pytest.approx(-back.difference)
    assert there.interval == pytest.approx(tuple(-limit for limit in reversed(back.interval)))
    assert (there.won, there.lost, there.p_value) == (back.lost, back.won, back.p_value)


def test_tasks_that_one_did_not_finish_are_no_pairs_and_said():
    old = measure(tried("maze", [[True], [None], [False]]), SPECS)
    new = measure(tried("maze", [[True], [True], [None], [True]]), SPECS)
    found = pair(old, new, names=("old", "new"))
    assert (found.tasks, found.given) == (1, 4)
    assert "pairs: 1 of 4 tasks" in found.words()


def test_an_environment_without_pairs_gives_no_macro_difference_and_does_not_count_in_the_adjustment():
    old = measure(tried("maze", [[False]] * 8) + tried("textcraft", [[None]]), SPECS)
    new = measure(tried("maze", [[True]] * 8) + tried("textcraft", [[True]]), SPECS)
    found = pair(old, new, names=("old", "new"))
    assert found.difference is None
    assert found.environments["textcraft"].verdict is Verdict.NO_PAIRS
    assert found.environments["maze"].p_value == mcnemar_exact(8, 0)
    assert "no pairs on 1 (textcraft)" in found.words()


def test_what_cannot_be_compared_is_refused_in_one_line():
    old = measure(tried("maze", [[True]]), SPECS)
    with pytest.raises(DataError, match="no finished task in common"):
        pair(old, measure(tried("textcraft", [[True]]), SPECS), names=("old", "new"))
    with pytest.raises(DataError, match="no finished task in common"):
        pair(old, measure([episode("maze", 9, 1.0)], SPECS), names=("old", "new"))
    newer = measure([episode("maze", 0, 1.0, version="2")], SPECS)
    with pytest.raises(DataError, match="maze was played in version 1 by old and in version 2 by new") as refused:
        pair(old, newer, names=("old", "new"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("samples", [1, 3])
def test_two_runs_that_differ_by_seed_only_show_no_evidence_in_95_of_100_pairs(samples):
    rng = random.Random(samples)
    hardness = {name: [rng.betavariate(0.7, 0.7) for _ in range(60)] for name in SPECS}

    def run():
        return measure(
            [
                episode(name, i, get_spec(name).score_range[1] * rng.uniform(0.6, 1) ** 0.01 * (rng.random() < p))
                if get_spec(name).metric == "score"
                else episode(name, i, float(rng.random() < p), sample=sample)
                for name, tasks in hardness.items()
                for i, p in enumerate(tasks)
                for sample in range(1 if get_spec(name).metric == "score" else samples)
            ],
            SPECS,
        )

    found = [pair(run(), run(), names=("a", "b")) for _ in range(100)]
    quiet = [not (f.named(Verdict.BETTER) or f.named(Verdict.WORSE)) for f in found]
    assert sum(quiet) >= 95
    assert sum(f.p_value >= 0.05 for f in found) >= 90


def report(**changes) -> EvalReport:
    rows = players((1.0, 1.0), (0.0, 0.1), (0.5, 0.6), tasks=25, samples=changes.pop("samples", 1))
    names = ("expert", "random", "runs/small/it001/model")
    made = EvalReport(
        name="mini",
        seed=0,
        recipe={"name": "mini"},
        players=[
            Player(name=n, manner=MANNER, taught="/" in n, played=p, trajectories=[f"eval-{n[:6]}-0.parquet"])
            for n, p in zip(names, rows, strict=True)
        ],
        seconds={"eval": 1.5},
        versions={"python": "3.11"},
        machine={"cores": 2},
    )
    return replace(made, **changes)


def test_the_json_has_the_keys_that_the_documentation_names():
    made = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert list(made) == [
        "kind", "name", "seed", "recipe", "players", "comparisons", "lines", "why", "seconds", "versions", "machine",
    ]  # fmt: skip
    assert made["kind"] == "eval"
    first = made["players"][0]
    assert list(first) == [
        "player", "manner", "samples", "macro", "environments", "answers", "ends", "trajectories",
    ]  # fmt: skip
    assert first["manner"] == {
        "prompt": "brief", "format": "react", "context": 400, "max_tokens": 12, "from": "recipe",
    }  # fmt: skip
    assert made["players"][2]["manner"]["from"] == "model"
    assert list(first["macro"]) == ["success", "success_interval", "score", "headline", "headline_interval"]
    figures = [
        "tasks", "episodes", "errored", "success", "success_interval", "score", "score_interval", "turns",
        "pass_at_k", "pass_hat_k",
    ]  # fmt: skip
    maze = first["environments"]["maze"]
    assert list(maze) == [
        *figures, "versions", "metric", "headline", "headline_interval", "answers", "ends", "task_type", "types",
    ]  # fmt: skip
    assert all(list(part) == figures for part in maze["types"].values())
    assert maze["pass_at_k"] == {"1": 1.0}
    assert [(c["baseline"], c["candidate"]) for c in made["comparisons"]] == [
        ("random", "runs/small/it001/model"),
        ("expert", "runs/small/it001/model"),
        ("expert", "random"),
    ]
    assert made["comparisons"][2]["environments"]["maze"]["verdict"] == "worse"


def test_the_words_say_who_was_better_and_then_who_was_measured_how():
    lines = report().lines()
    assert lines[0].startswith("runs/small/it001/model against random: better on 2 (maze, textcraft), worse on 0, ")
    assert "random against expert: better on 0, worse on 2 (maze, textcraft), no evidence on 0" in lines[2]
    assert lines[3] == "expert: 50 held-out tasks, coverage 50/50."
    assert lines[6].startswith("runs/small/it001/model is measured as it was taught (prompt brief, format react, ")


def test_errored_episodes_have_a_column_and_a_line_of_their_own():
    broken = measure(tried("maze", [[True], [None], [None]]), SPECS)
    made = report(players=[Player(name="me", manner=MANNER, taught=False, played=broken, trajectories=[])])
    assert made.lines() == [
        "me: 3 held-out tasks, coverage 1/3.",
        "2 episodes of me did not finish (maze 2) and are not counted.",
    ]
    assert "| maze | 3 | 3 | 2 | 100.0 [21-100] |" in made.markdown()


def test_players_without_a_task_in_common_are_not_compared():
    alone = measure(tried("maze", [[None]]), SPECS)
    row = Player(name="broken", manner=MANNER, taught=False, played=alone, trajectories=[])
    made = report(players=[row, report().players[0]])
    assert made.comparisons == []
    assert made.lines()[0] == (
        "Not compared: broken and expert have no finished task in common: play the same tasks with both."
    )


def test_a_player_of_another_version_is_not_compared_and_said(tmp_path):
    old = report().players[1]
    parts = {name: replace(part, versions=["2"]) for name, part in old.played.environments.items()}
    newer = replace(old, name="newer", played=replace(old.played, environments=parts))
    made = report(players=[*report().players[:2], newer])
    made.write(tmp_path)
    assert [(c.baseline, c.candidate) for c in made.comparisons] == [("expert", "random")]
    said = [line for line in json.loads((tmp_path / "report.json").read_text())["lines"] if "Not compared" in line]
    assert len(said) == 2
    assert "maze was played in version 1 by random and in version 2 by newer" in said[0]


def test_report_md_has_types_passes_and_pairs(tmp_path):
    made = report(samples=4)
    made.write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text == made.markdown()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(made.to_json()))
    for words in ("pass@4", "pass^4", "maze, size", "textcraft, depth", "## random against expert", "worse"):
        assert words in text
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_table_that_is_too_wide_stands_in_blocks_and_loses_no_number(width):
    rng = random.Random(width)
    names = [name for name in environments() if name != "alfworld"]
    models = [f"runs/agentevol/it{n:03d}/model" for n in (0, 2, 4)]
    rows = {}
    for player in ("expert", "random", *models):
        tried = [episode(n, i, round(rng.uniform(*get_spec(n).score_range), 2)) for n in names for i in range(20)]
        rows[player] = measure(tried, {name: get_spec(name) for name in names}).to_json()
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(figures_table(rows, "headline", title="14 environments"))
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= width
    cells = [
        line
        for row in rows.values()
        for part in (*row["environments"].values(), row["macro"])
        for line in figure_cell(part, "headline", "\n").splitlines()
    ]
    assert sorted(re.findall(r"[-\d.]+(?=  *│)|\[[^]]*\]", shown)) == sorted(cells)


def test_limits_below_0_are_written_so_that_their_sign_is_seen():
    assert percent(-0.31, (-0.53, -0.06)) == "-31.0 [-53 to -6]"
    assert percent(0.01, (-0.01, 0.06)) == "1.0 [-1 to 6]"
    assert percent(-0.0001, (-0.001, 0.06)) == "0.0 [0-6]"


def test_the_terminal_shows_every_players_headline_within_80_columns():
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(report())
    shown = capture.get()
    assert max(len(line) for line in shown.splitlines()) <= 80
    for player in report().players:
        for part in (*player.played.environments.values(), player.played.macro):
            assert f"{100 * part.headline:.1f}" in shown
