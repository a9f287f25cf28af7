from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentgym import cli
from agentgym.errors import RecipeError
from agentgym.evaluate import evaluate
from agentgym.evaluation import Explored, Iteration, Learned, Played, Report, measure, scalars
from agentgym.evaluation.answers import Answers
from agentgym.fit import fit
from agentgym.hooks import PhaseLogger
from agentgym.recipe import load_recipe
from agentgym.settings import TrackingMode, TrackingSettings
from agentgym.tracking import SAMPLE, Tracker
from envpool import Completion, StopReason, Task, Trajectory, Turn, get_spec

KEY = "0123456789abcdef0123456789abcdef01234567"


class FakeRun:
    """Remembers what was logged."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.logged: list[dict[str, Any]] = []
        self.finished = 0

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def finish(self) -> None:
        self.finished += 1


class FakeWandb:
    """Stands in for the package; its runs are kept in `runs`."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self.refusal = ""
        self.errors = SimpleNamespace(Error=ConnectionError)
        self.__spec__ = ModuleSpec("wandb", None)  # accelerate looks whether there is such a package

    def Settings(self, **options: Any) -> dict[str, Any]:  # noqa: N802
        return options

    def Table(self, columns: list[str], data: list[list[Any]]) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(columns=columns, data=data)

    def init(self, **options: Any) -> FakeRun:
        if self.refusal:
            raise ConnectionError(self.refusal)
        self.runs.append(FakeRun(**options))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def tracker(folder: Path, mode: TrackingMode = TrackingMode.offline) -> Tracker:
    return Tracker(TrackingSettings(mode=mode, project="tests"), folder, name="trial", config={"seed": 1})


def trajectory(index: int) -> Trajectory:
    turn = Turn(Completion("go", token_ids=(7, 8), logprobs=(-1.0, -2.0)), "go", "there", 1.0)
    return Trajectory(Task("maze", index), 0, "it001", "play", "here", (turn,), StopReason.DONE, 1.0, True)


def test_a_real_offline_run_needs_no_account_or_network_prints_nothing_and_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    ids = []
    for iteration in range(2):
        tracked = tracker(tmp_path)
        tracked.log({"eval/macro/success": 0.5}, iteration)
        tracked.log_trajectories([trajectory(n) for n in range(3)], iteration)
        tracked.finish()
        ids.append((tmp_path / "wandb_id").read_text())
    assert ids[0] == ids[1]
    runs = sorted((tmp_path / "wandb").glob(f"offline-run-*-{ids[0]}"))
    assert len(runs) >= 1
    (table, *_) = runs[0].glob("files/media/table/*.json")
    rows = json.loads(table.read_text())["data"]
    assert rows[2][0] == "maze_2"
    assert rows[2][-1] == "[user]\nplay\n\nhere\n\n[assistant]\ngo"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert capfd.readouterr() == ("", "")


def test_nothing_starts_before_there_is_something_to_log(tmp_path: Path, wandb: FakeWandb) -> None:
    tracked = tracker(tmp_path / "run")
    tracked.finish()
    assert wandb.runs == []
    assert list(tmp_path.iterdir()) == []


def test_all_iterations_and_all_starts_are_one_run(tmp_path: Path, wandb: FakeWandb) -> None:
    for iteration in range(2):
        tracked = tracker(tmp_path)
        tracked.log({"a": 1.0}, iteration)
        tracked.log({"a": 2.0}, iteration)
        tracked.finish()
        tracked.finish()
    assert len(wandb.runs) == 2
    assert len({run.options["id"] for run in wandb.runs}) == 1
    assert [run.finished for run in wandb.runs] == [1, 1]
    options = wandb.runs[0].options
    assert (options["mode"], options["project"], options["name"]) == ("offline", "tests", "trial")
    assert options["config"] == {"seed": 1}
    assert options["settings"]["silent"]


def test_the_loggers_steps_count_over_all_phases_and_later_numbers_stand_at_the_last_step(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    tracked = tracker(tmp_path)
    for iteration, offset in ((0, 0), (1, 100)):
        logger = PhaseLogger(tracked, iteration, offset)
        assert isinstance(logger, PhaseLogger)
        logger.log_hyperparams({"lr": 1})
        logger.log_metrics({"train/loss": 0.5, "epoch": 0}, 9)
        tracked.log({"eval/macro/success": 0.5}, iteration)
        assert (logger.name, logger.version, logger.save_dir) == ("agentgym", iteration, None)
    assert wandb.runs[0].logged == [
        {"train/loss": 0.5, "iteration": 0, "step": 9},
        {"eval/macro/success": 0.5, "iteration": 0, "step": 9},
        {"train/loss": 0.5, "iteration": 1, "step": 109},
        {"eval/macro/success": 0.5, "iteration": 1, "step": 109},
    ]


def test_a_table_of_trajectories_is_a_sample_of_the_whole_and_holds_text_only(tmp_path: Path, wandb: FakeWandb) -> None:
    tracked = tracker(tmp_path)
    tracked.log_trajectories([trajectory(n) for n in range(3 * SAMPLE - 1)], 2, "explored")
    tracked.log_trajectories([], 2)
    logged, empty = wandb.runs[0].logged
    assert logged["iteration"] == 2
    table = logged["explored"]
    assert len(table.data) == SAMPLE
    assert [row[0] for row in table.data[:2]] == ["maze_0", "maze_3"]
    assert table.data[0][:8] == ["maze_0", 0, "it001", 1.0, True, "done", 1, None]
    assert len(table.columns) == len(table.data[0])
    assert empty["trajectories"].data == []


def test_turned_off_it_does_nothing(tmp_path: Path, wandb: FakeWandb) -> None:
    tracked = tracker(tmp_path, TrackingMode.off)
    tracked.log({"a": 1.0}, 0)
    tracked.log_trajectories([trajectory(1)], 0)
    assert not tracked.on
    tracked.finish()
    assert wandb.runs == []
    assert list(tmp_path.iterdir()) == []


def test_without_wandb_it_does_nothing_unless_the_recipe_wants_it_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracked = tracker(tmp_path)
    tracked.log({"a": 1.0}, 0)
    assert not tracked.on
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecipeError, match=r"online needs wandb: pip install wandb, or set tracking.mode=offline"):
        tracker(tmp_path, TrackingMode.online)


def test_online_without_a_key_is_one_line_and_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: FakeWandb
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(RecipeError, match=r"online needs a W&B key: set WANDB_API_KEY, or set tracking.mode=offline"):
        tracker(tmp_path, TrackingMode.online)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    tracker(tmp_path, TrackingMode.online)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracked = tracker(tmp_path, TrackingMode.online)
    tracked.log({"a": 1.0}, 0)
    assert wandb.runs[0].options["resume"] == "allow"
    assert KEY not in repr(wandb.runs[0].options)


def test_a_server_that_refuses_is_one_line(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.refusal = "no such project\nand a long explanation"
    with pytest.raises(RecipeError, match=r"W&B answers 'no such project'; set tracking.mode=offline") as caught:
        tracker(tmp_path).log({"a": 1.0}, 0)
    assert len(caught.value.complaints) == 1


def test_only_the_first_rank_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: FakeWandb) -> None:
    monkeypatch.setenv("RANK", "1")
    tracked = tracker(tmp_path)
    tracked.log({"a": 1.0}, 0)
    tracked.log_trajectories([trajectory(1)], 0)
    assert wandb.runs == []
    monkeypatch.setenv("RANK", "0")
    tracked.log({"a": 1.0}, 0)
    assert len(wandb.runs) == 1


DOCUMENT = Path(__file__).parents[1] / "docs" / "tracking.md"


def documented() -> dict[str, re.Pattern[str]]:
    """The names in the first column of the document's tables of numbers and of tables."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## Numbers", 1)[1]
    names = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    tokens = {
        "WHO": r"(eval|control|player/[\w.-]+)",
        "NAME": r"[\w.-]+",
        "_K": r"_\d+",
        "ENV": r"\w+",
        "PHASE": r"\w+",
    }
    return {
        name: re.compile(re.sub("|".join(tokens), lambda found: tokens[found[0]], re.escape(name))) for name in names
    }


def measured(share: float, samples: int = 1) -> Played:
    played = [
        replace(trajectory(n), task=Task(name, n), sample=sample, success=n < share * 10)
        for name in ("maze", "wordle")
        for n in range(10)
        for sample in range(samples)
    ]
    return measure(played, {name: get_spec(name) for name in ("maze", "wordle")})


def report() -> Report:
    work = Learned(steps=3, tokens=40, trajectories=5, loss=0.5)
    held = Answers(given=8, without_action=2, why={"thoughts": 2}, cut=1)
    found = Explored(tried=6, finished=5, errored=1, succeeded=4, kept=3, newly_solved=2, answers=held)
    rows = [Iteration(iteration=0, played=measured(0.2), learned=work)]
    rows += [Iteration(iteration=1, played=measured(0.6), learned=work, explored=found)]
    return Report(
        name="trial",
        seed=0,
        recipe={},
        iterations=rows,
        control=replace(rows[0], iteration=1, played=measured(0.4)),
        seconds={"bc": 1.5},
        versions={},
        machine={},
    )


def test_every_number_of_a_report_is_documented_and_every_documented_number_is_logged() -> None:
    made = report()
    assert made.control is not None
    last = made.iterations[-1]
    assert last.explored is not None
    logged = {
        **scalars.measured("eval", last.played),
        **scalars.measured("control", made.control.played),
        **scalars.explored(last.explored),
        **scalars.learned(last.learned),
        **scalars.concluded(made),
    }
    logged |= scalars.measured("player/expert", measured(0.6, samples=2))
    names = documented()
    assert [name for name in logged if not any(each.fullmatch(name) for each in names.values())] == []
    elsewhere = {"iteration", "step", "explored", "eval", "control", "results", "players", "player/NAME"}
    elsewhere |= {f"train/{name}" for name in ("loss", "grad_norm", "lr", "tokens")}
    assert {n for n, each in names.items() if not any(each.fullmatch(name) for name in logged)} == elsewhere
    assert logged["eval/macro/success"] == pytest.approx(0.6)
    assert logged["eval/macro/success_low"] < 0.6 < logged["eval/macro/success_high"]
    assert logged["against_bc/difference"] == pytest.approx(0.4)
    assert (logged["explore/without_action"], logged["explore/without_action_thoughts"]) == (0.25, 0.25)
    assert (logged["explore/without_action_cut"], logged["explore/answers_cut"]) == (0, 0.125)
    assert logged["eval/without_action"] == logged["eval/maze/without_action"] == 0
    assert (logged["against_control/won"], logged["explore/kept"], logged["learned/tokens"]) == (4, 3, 40)


def test_what_is_not_known_is_not_logged() -> None:
    failed = replace(trajectory(1), score=None, success=None, stop=StopReason.ERROR)
    logged = scalars.measured("eval", measure([failed], {"maze": get_spec("maze")}))
    assert logged["eval/coverage"] == 0
    assert "eval/maze/success" not in logged
    assert None not in logged.values()


def test_the_table_of_results_has_a_row_for_each_iteration_and_the_control() -> None:
    header, rows = scalars.results(report())
    assert header == ["iteration", "maze", "wordle", "macro", "macro_low", "macro_high"]
    assert [row[0] for row in rows] == ["0 (BC)", "1", "control"]
    assert rows[1][1:4] == pytest.approx([0.6, 0.6, 0.6])


def test_whatever_a_run_logs_is_documented(tmp_path: Path, wandb: FakeWandb) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    fit(load_recipe(tmp_path / "recipe.yaml"))
    logged = {name for run in wandb.runs for values in run.logged for name in values}
    names = documented()
    assert {"train/loss", "eval/macro/success", "control/macro/success", "explored", "eval"} <= logged
    assert [name for name in sorted(logged) if not any(each.fullmatch(name) for each in names.values())] == []
    of_evaluations = {"players", "player/NAME", "WHO/ENV/pass_at_K", "WHO/ENV/pass_hat_K"}
    assert {n for n, each in names.items() if not any(each.fullmatch(one) for one in logged)} == of_evaluations
    steps = [values["step"] for run in wandb.runs for values in run.logged]
    assert steps == sorted(steps)


def test_an_evaluation_logs_its_table_and_some_episodes_of_each_player(tmp_path: Path, wandb: FakeWandb) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["eval.players=[expert, random]", "model.name=random", "environments.maze.max_turns=20"]
    evaluate(load_recipe(tmp_path / "recipe.yaml", words))
    tables = {name: each for run in wandb.runs for values in run.logged for name, each in values.items()}
    assert tables["players"].columns == ["player", "maze", "macro", "macro_low", "macro_high"]
    assert tables["players"].data[0][:3] == ["expert", 1.0, 1.0]
    assert len(tables["player/random"].data) == 2
    numbers = {name: each for run in wandb.runs for values in run.logged for name, each in values.items()}
    assert numbers["player/expert/maze/headline"] == numbers["player/expert/macro/success"] == 1
    assert 0 < numbers["player/expert/maze/success_low"] < 1
    names = documented()
    assert [name for name in numbers if not any(each.fullmatch(name) for each in names.values())] == []


def test_no_path_and_no_name_of_this_machine_is_written_for_wandb(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    # in a process of its own: wandb's writer may lag behind until its process ends
    words = ["eval", str(tmp_path / "recipe.yaml"), "--player", "random", "model.name=random"]
    subprocess.run([sys.executable, "-m", "agentgym", *words], check=True, capture_output=True)
    (record,) = (tmp_path / "runs").rglob("*.wandb")
    content = record.read_bytes()
    assert b"player/random/maze/headline" in content
    for told in (str(tmp_path), sys.executable, str(Path.cwd())):
        assert told.encode() not in content
    assert not list((tmp_path / "runs").rglob("wandb-metadata.json"))


def test_online_without_a_key_is_said_before_anything_is_played(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["eval", str(tmp_path / "recipe.yaml"), "--player", "random", "tracking.mode=online", "model.name=random"]
    assert cli.main(words) == 2
    assert "online needs a W&B key" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("*.parquet"))


RECIPE = """\
name: small
output: {output}
prompt: brief
model:
  name: tiny
  context: 400
  tiny: {{hidden: 32, layers: 1, heads: 2, kv_heads: 1, intermediate: 32, vocabulary: 400}}
environments:
  maze: {{expert: 4, explore: 3, eval: 2, max_turns: 3, where: {{size: [4], distance: [2, 3, 4]}}}}
bc: {{steps: 10, tokens_per_step: 256, tokens_per_row: 256, lr: 1e-2}}
learn: {{steps: 2, tokens_per_step: 256, tokens_per_row: 256, lr: 1e-2}}
evol: {{iterations: 1, control: true}}
generation: {{max_tokens: 8}}
pool: {{workers: 1}}
trainer: {{accelerator: cpu}}
tracking: {{mode: offline}}
"""
