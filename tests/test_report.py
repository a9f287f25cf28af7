from __future__ import annotations

import io
import json
import math
import random
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from agentgym.errors import RunError
from agentgym.evaluation import (
    Explored,
    Iteration,
    Learned,
    Played,
    Report,
    describe_machine,
    installed_versions,
    measure,
)
from agentgym.evaluation.answers import Answers
from agentgym.evaluation.ends import Ends
from agentgym.evaluation.tables import figures_table, percent, points
from envpool import get_spec
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

FOUR = ["babyai", "maze", "textcraft", "wordle"]
PLAIN = replace(get_spec("maze"), task_type=None)
"""The card of environments that there are not."""

LEARNED = Learned(steps=600, tokens=5_000_000, trajectories=100)
EXPLORED = Explored(tried=800, finished=799, errored=1, succeeded=500, kept=450, newly_solved=120)


def measured(share: float, *, names: list[str] = FOUR, tasks: int = 105, errored: int = 0, seed: int = 0) -> Played:
    """What a policy that solves `share` of the tasks would get; the first `errored` tasks of each environment fail."""
    rng = random.Random(seed)
    turn = Turn(Completion("Action:\nup"), "up", "up", 0.0)
    played = []
    for name in names:
        for i in range(tasks):
            good, solved = i >= errored, rng.random() < share
            stop = StopReason.DONE if good else StopReason.ERROR
            score, success = (float(solved), solved) if good else (None, None)
            played.append(Trajectory(Task(name, i), 0, "model", "", "", (turn,) * 3, stop, score, success))
    specs = {name: get_spec(name) if name in FOUR else PLAIN for name in names}
    return measure(rng.sample(played, len(played)), specs)


def report(**changes) -> Report:
    names = changes.pop("names", FOUR)
    rows = [
        Iteration(
            iteration=i,
            played=measured(0.5 + 0.1 * i, names=names, seed=i),
            learned=LEARNED,
            explored=EXPLORED if i else None,
        )
        for i in range(4)
    ]
    made = Report(
        name="agentevol",
        seed=0,
        recipe={"name": "agentevol", "evol": {"iterations": 3}},
        iterations=rows,
        control=Iteration(iteration=3, played=measured(0.6, names=names, seed=9), learned=LEARNED),
        seconds={"bc": 60.5, "total": 400.0},
        versions=installed_versions(),
        machine=describe_machine(),
    )
    return replace(made, **changes)


def shown(thing: object, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_the_json_has_the_keys_that_the_documentation_names():
    made = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert list(made) == [
        "kind", "name", "seed", "method", "recipe", "iterations", "control", "comparisons", "lines", "why", "seconds",
        "versions", "machine",
    ]  # fmt: skip
    assert [row["iteration"] for row in made["iterations"]] == [0, 1, 2, 3]
    first, last = made["iterations"][0], made["iterations"][-1]
    assert list(first) == list(made["control"]) == ["iteration", "macro", "environments", "answers", "ends", "learned"]
    assert list(last) == ["iteration", "macro", "environments", "answers", "ends", "explored", "learned"]
    for row in (*made["iterations"], made["control"]):
        assert list(row["macro"]) == ["success", "success_interval", "score", "headline", "headline_interval"]
        assert list(row["environments"]) == FOUR
        for part in row["environments"].values():
            assert list(part) == [
                "tasks", "episodes", "errored", "success", "success_interval", "score", "score_interval", "turns",
                "pass_at_k", "pass_hat_k", "versions", "metric", "headline", "headline_interval", "answers", "ends",
                "task_type", "types",
            ]  # fmt: skip
            assert list(part["answers"]) == list(row["answers"]) == [
                "given", "without_action", "why", "cut", "cut_with_action", "corrections", "format",
            ]  # fmt: skip
            assert list(part["ends"]) == list(row["ends"]) == ["solved", "unsolved", "errored", "causes"]
            low, high = part["success_interval"]
            assert 0 <= low <= part["success"] <= high <= 1
        assert row["learned"] == asdict(LEARNED)
    assert last["explored"] == {
        "tried": 800, "finished": 799, "errored": 1, "succeeded": 500, "kept": 450, "newly_solved": 120,
        "answers": Answers().to_json(), "ends": Ends().to_json(),
    }  # fmt: skip


def test_the_comparisons_are_of_the_last_iteration_with_the_first_and_with_the_control():
    made = report().to_json()
    assert [list(each) for each in made["comparisons"]] == [
        ["baseline", "candidate", "tasks", "given", "won", "lost", "difference", "interval", "p_value", "environments"]
    ] * 2
    assert [(each["baseline"], each["candidate"]) for each in made["comparisons"]] == [
        ("iteration 0", "iteration 3"),
        ("control", "iteration 3"),
    ]
    last = made["iterations"][-1]["macro"]["success"]
    for each, baseline in zip(made["comparisons"], (made["iterations"][0], made["control"]), strict=True):
        assert each["difference"] == pytest.approx(last - baseline["macro"]["success"])
        assert each["p_value"] < 0.001
        assert each["tasks"] == 420
        assert list(each["environments"]) == FOUR
        assert each["won"] == sum(part["won"] for part in each["environments"].values())


def test_behavioural_cloning_alone_has_nothing_to_be_compared_with():
    made = report(iterations=report().iterations[:1], control=None)
    assert made.to_json()["control"] is None
    assert made.to_json()["comparisons"] == []
    assert made.lines() == ["Behavioural cloning: 420 held-out tasks, coverage 420/420."]
    assert "against" not in made.markdown()


def test_the_words_say_what_the_table_means():
    made = report()
    gains = [f"{100 * each.difference:+.1f} points" for each in made.comparisons]
    assert made.lines() == [
        f"AgentEvol after 3 iterations: {gains[0]} over BC (p < 0.001), {gains[1]} over the control that learned from "
        "the expert set for as many steps (p < 0.001); 420 held-out tasks, coverage 420/420."
    ]


@pytest.mark.parametrize(
    ("module", "iterations", "method", "words"),
    [
        ("agentgym.modules.AgentEvol", 4, "AgentEvol", "AgentEvol after 3 iterations: "),
        ("my_package.Smoothed", 4, "Smoothed", "Smoothed after 3 iterations: "),
        ("agentgym.modules.BehavioralCloning", 2, "BehavioralCloning", "BehavioralCloning after 1 iteration: "),
        ("agentgym.modules.AgentEvol", 1, "Behavioural cloning", "Behavioural cloning: "),
        ("agentgym.modules.BehavioralCloning", 1, "Behavioural cloning", "Behavioural cloning: "),
        ("my_package.Smoothed", 1, "Behavioural cloning by Smoothed", "Behavioural cloning by Smoothed: "),
    ],
)
def test_a_report_names_the_method_that_ran(module, iterations, method, words):
    made = report(recipe={"module": module}, iterations=report().iterations[:iterations], control=None)
    assert made.to_json()["method"] == made.method == method
    assert made.lines()[0].startswith(words)


def silenced(played: Played, why: str, share: float) -> Played:
    """The same policy with so large a share of answers without an action."""
    count = round(1000 * share)
    return replace(played, answers=Answers(given=1000, without_action=count, why={why: count}, cut=5))


def test_a_policy_that_never_acts_is_seen_in_the_table_and_in_a_line_with_the_cure():
    rows = report().iterations
    made = report(iterations=[rows[0], replace(rows[3], played=silenced(rows[3].played, "thoughts", 0.975))])
    text = shown(made)
    header = next(line for line in text.splitlines() if "macro" in line)
    assert "no action" in header
    assert "97.5" in text
    assert "thoughts" in text
    assert made.lines()[-1].startswith("98 % of the answers of iteration 3 held no action (98 % only thoughts): raise ")
    assert "| no action |" in made.markdown()
    assert made.to_json()["iterations"][1]["answers"]["why"] == {"thoughts": 975}


def test_few_answers_without_an_action_are_a_line_below_the_table_and_no_column():
    rows = report().iterations
    made = report(iterations=[rows[0], replace(rows[3], played=silenced(rows[3].played, "several", 0.004))])
    assert "no action" not in next(line for line in shown(made).splitlines() if "macro" in line)
    assert any("iteration 3: 0.4 % (more than one action)" in line for line in made.why())
    assert made.lines()[1:] == []
    assert "| iteration 3 | 1,000 | 0.4 % |" in made.markdown()


def test_why_tasks_were_not_solved_is_told_of_every_row():
    (line,) = report().why()
    assert line.startswith("Episodes that were not solved: iteration 0: ")
    assert [f"iteration {n}: " in line for n in range(4)] == [True] * 4
    assert "; control: " in line
    assert line in shown(report(), width=10_000)
    solved = replace(report().iterations[3], played=measured(1.0))
    assert report(iterations=[replace(solved, explored=None)], control=None).why() == []


def test_a_figure_beyond_its_range_is_short_and_crashes_nothing():
    assert percent(1e98, (-1e98, 1e97)) == "1e+100 [-1e+100 to 1e+99]"
    assert points(-1e98) == "-1e+100"
    turn = Turn(Completion("Action:\nup"), "up", "up", 0.0)
    tried = [
        [
            Trajectory(Task("sciworld", i), 0, "m", "", "", (turn,), StopReason.DONE, sign * 9e99, False)
            for i in range(9)
        ]
        for sign in (1, -1)
    ]
    rows = [
        Iteration(iteration=n, played=measure(each, {"sciworld": get_spec("sciworld")}), learned=LEARNED)
        for n, each in enumerate(tried)
    ]
    made = report(iterations=rows, control=None)
    json.dumps(made.to_json(), allow_nan=False)
    assert max(map(len, shown(made).splitlines())) <= 80
    assert "## Why tasks were not solved" in made.markdown()


def test_a_loss_is_called_a_loss():
    worse = replace(report().iterations[3], played=measured(0.3))
    made = report(iterations=[report().iterations[0], worse], control=None)
    assert made.comparisons[0].difference < 0
    assert f"{100 * made.comparisons[0].difference:.1f} points against BC (p < 0.001)" in made.lines()[0]


def test_errored_episodes_are_never_a_number():
    partly = replace(report().iterations[3], played=measured(1.0, errored=5))
    made = report(iterations=[report().iterations[0], partly])
    part = made.to_json()["iterations"][-1]["environments"]["maze"]
    assert (part["tasks"], part["errored"], part["success"], part["score"]) == (105, 5, 1.0, 1.0)
    assert made.to_json()["comparisons"][0]["tasks"] == 400
    assert "coverage 400/420." in made.lines()[0]
    unfinished = "20 of 420 tasks did not finish in iteration 3 (babyai 5, maze 5, textcraft 5, wordle 5)"
    assert made.lines()[-1] == f"{unfinished} and are not counted."


def test_what_is_not_known_is_null_in_the_json_and_a_question_mark_in_the_table():
    nothing = replace(report().iterations[3], played=measured(1.0, errored=105, names=["maze"]))
    made = report(iterations=[report(names=["maze"]).iterations[0], nothing], control=None)
    row = made.to_json()["iterations"][-1]
    assert row["macro"]["success"] is row["macro"]["score"] is None
    assert row["macro"]["success_interval"] == [0, 1]
    maze = row["environments"]["maze"]
    assert (maze["tasks"], maze["errored"], maze["success_interval"]) == (105, 105, [0, 1])
    assert maze["success"] is maze["score"] is maze["turns"] is None
    assert made.to_json()["comparisons"] == []
    assert made.to_json()["lines"] == made.lines()
    assert "Not compared: iteration 0 and iteration 3 have no finished task in common" in made.lines()[1]
    assert shown(made).count("?") == 2


@pytest.mark.parametrize("names", [["maze"], FOUR, [f"environment_{i}" for i in range(4)], [*"abcdefghijklm"]])
def test_the_table_fits_into_80_columns_with_every_number_in_it(names):
    made = report(names=names)
    text = shown(made)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for row in (*made.iterations, made.control):
        for part in (*row.played.environments.values(), row.played.macro):
            low, high = part.success_interval
            assert f"{100 * part.success:.1f}" in text
            assert f"[{100 * low:.0f}-{100 * high:.0f}]" in text
    assert all(name in text for name in names)


def test_a_narrow_terminal_costs_no_digit():
    text = shown(report(names=["a_very_long_name_of_an_environment", "b"]), width=50)
    assert "…" not in text
    assert (
        f"{100 * report(names=['a_very_long_name_of_an_environment', 'b']).iterations[0].played.macro.success:.1f}"
        in text
    )


def test_names_are_shown_as_they_are_written():
    rows = {"[bold]policy[/bold]": measured(0.5, names=["maze"]).to_json()}
    assert "[bold]policy[/bold]" in shown(figures_table(rows, "success", title="[red]title"))
    assert "[red]title" in shown(figures_table(rows, "success", title="[red]title"))


def test_an_environment_without_a_common_finished_task_leaves_no_difference():
    rows = report().iterations
    half = [
        replace(rows[3], played=measured(1.0, errored=105 * broken, names=[name]))
        for name, broken in (("maze", False), ("wordle", True))
    ]
    both = {name: part for row in half for name, part in row.played.environments.items()}
    made = report(iterations=[report(names=["maze", "wordle"]).iterations[0], replace(half[0], played=replace(
        half[0].played, environments=both, given=half[0].played.given | half[1].played.given,
    ))], control=None)  # fmt: skip
    (compared,) = made.comparisons
    assert compared.difference is None
    assert "no figure against BC, for in some environment no task was finished by both" in made.lines()[0]


def test_iterations_that_played_other_versions_of_an_environment_are_not_compared():
    old = report(names=["maze"]).iterations
    parts = {name: replace(part, versions=["2"]) for name, part in old[3].played.environments.items()}
    newer = replace(old[3], played=replace(old[3].played, environments=parts))
    made = report(iterations=[old[0], newer], control=None)
    assert made.comparisons == []
    assert "maze was played in version  by iteration 0 and in version 2 by iteration 3" in made.lines()[1]


def test_the_same_measurements_make_the_same_report(tmp_path):
    slower = report(seconds={"bc": 99.0}, machine={"cores": 64}, versions={"python": "3.99"})
    assert shown(slower) == shown(report())
    assert slower.markdown() == report().markdown()
    for folder in ("a", "b"):
        report().write(tmp_path / folder)
    for name in ("report.json", "report.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_written_report_is_the_report(tmp_path):
    made = report()
    made.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    assert json.loads((tmp_path / "report.json").read_text()) == made.to_json()
    text = (tmp_path / "report.md").read_text()
    assert text == made.markdown()
    assert text.startswith("# agentevol\n")
    assert "| 1 | 800 | 799 | 1 | 500 | 450 | 120 | 600 | 5,000,000 | 100 |" in text
    assert "## Iteration 3 against control" in text
    won, lost = made.comparisons[0].won, made.comparisons[0].lost
    points = f"{100 * made.comparisons[0].difference:+.1f}"
    low, high = made.comparisons[0].interval
    assert f"| all | 420/420 | {won} | {lost} | {points} [{100 * low:+.0f} to {100 * high:+.0f}] | < 0.001 |  |" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_a_report_without_a_number_in_it_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        report(seconds={"bc": math.nan}).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*report\.json"):
        report().write(tmp_path / "file")


def test_versions_and_machine_hold_facts_and_no_names_of_hosts():
    assert installed_versions()["polars"]
    assert set(describe_machine(["a GPU"])) == {"system", "architecture", "cores", "accelerators"}
    assert describe_machine()["cores"] >= 1
