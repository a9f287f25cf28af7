"""Whole runs of a model so small that it learns nothing: what matters here is what is done, kept and repeated."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from torch.distributed.checkpoint.api import CheckpointException

from agentgym import cli, curve, events
from agentgym.data import store
from agentgym.errors import RunError
from agentgym.fit import fit
from agentgym.learn import weight
from agentgym.manner import Manner, read_manner
from agentgym.recipe import load_recipe
from agentgym.runfolder import RunFolder
from agentgym.selection import keep
from agentgym.settings import Dedup, EnvironmentSettings, FormatName, Prompt, Recipe, Reward
from envpool import Completion, EnvPool, ExpertPolicy, StopReason, Task, Trajectory, Turn, collect

RECIPE = """\
name: small
output: {output}
prompt: brief
model:
  name: tiny
  context: 400
  tiny: {{hidden: 32, layers: 1, heads: 2, kv_heads: 1, intermediate: 32, vocabulary: 400}}
environments:
  maze: {{expert: 6, explore: 8, eval: 5, max_turns: 4, where: {{size: [4], distance: [2, 3, 4]}}}}
  textcraft: {{expert: 4, explore: 6, eval: 5, max_turns: 4, where: {{depth: [1], distractors: [1]}}}}
bc: {{steps: 4, tokens_per_step: 512, tokens_per_row: 512, lr: 1e-2, optimizer: muon}}
learn: {{steps: 3, tokens_per_step: 512, tokens_per_row: 512, lr: 1e-2}}
evol: {{iterations: 2, samples: 2, control: true}}
generation: {{max_tokens: 12}}
trainer: {{accelerator: cpu, checkpoint_every: 2}}
tracking: {{mode: 'off'}}
"""


GOOD_RECORD = {
    "item_id": "lmrlgym_maze_3",
    "conversations": [
        {"from": "human", "loss": None, "value": "Walk."},
        {"from": "gpt", "loss": False, "value": "OK."},
        {"from": "human", "loss": None, "value": "Where?"},
        {"from": "gpt", "loss": True, "value": "Action:\nmove up"},
    ],
}
"""One record as AgentTraj has it."""


def recipe(folder: Path, *overrides: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(output=folder / "runs"))
    return load_recipe(file, overrides)


def commands_naming(folder: Path) -> list[str]:
    """The running processes that have the folder on their command line (on Linux; elsewhere none are seen)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            found.append(file.read_bytes().decode(errors="replace"))
    return [command for command in found if str(folder) in command]


def wait_for(process: subprocess.Popen, folder: Path, marker: str) -> None:
    """Waits until a run has got to a point: until there is a file like `marker` in its folder."""
    while not any(folder.glob(marker)):
        assert process.poll() is None, f"ended before {marker}"
        os.sched_yield()


def outcome(folder: Path) -> dict[str, object]:
    """All that must be the same in two runs: the report and every episode less their times, and the curves."""
    report = json.loads((folder / "report.json").read_text())
    episodes = {path.name: store.fingerprint(store.read([path])) for path in folder.glob("trajectories/*.parquet")}
    curves = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(curve.FILE)}
    same = {key: value for key, value in report.items() if key not in ("seconds", "recipe")}
    return {"report": same, "episodes": episodes, "curves": curves}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    report = fit(recipe(folder))
    return report, folder / "runs" / "small"


def test_a_run_reports_every_iteration_the_control_and_two_comparisons(undisturbed):
    _, folder = undisturbed
    report = json.loads((folder / "report.json").read_text())
    assert [row["iteration"] for row in report["iterations"]] == [0, 1, 2]
    for row in [*report["iterations"], report["control"]]:
        assert set(row["environments"]) == {"maze", "textcraft"}
        assert row["environments"]["maze"]["tasks"] == 5
        assert 0 <= row["macro"]["success"] <= 1
    assert [(c["baseline"], c["candidate"]) for c in report["comparisons"]] == [
        ("iteration 0", "iteration 2"),
        ("control", "iteration 2"),
    ]
    assert "+" in (folder / "report.md").read_text()


def test_every_learning_phase_leaves_its_loss_and_gradient_norm(undisturbed):
    report, folder = undisturbed
    steps = {"it000": 4, "it001": 3, "it002": 3, "control/it001": 3, "control/it002": 3}
    for phase, count in steps.items():
        points = curve.read(folder / phase)
        assert [point.step for point in points] == list(range(1, count + 1))
        assert all(point.loss > 0 and point.grad_norm > 0 for point in points)
    assert curve.read(folder / "it000")[-1].loss == pytest.approx(report.iterations[0].learned.loss, rel=1e-5)


def test_the_report_says_how_episodes_ended_and_what_answers_held(undisturbed):
    _, folder = undisturbed
    report = json.loads((folder / "report.json").read_text())
    for row in (*report["iterations"], report["control"]):
        assert row["ends"]["solved"] + sum(row["ends"]["unsolved"].values()) == 10
        assert row["answers"]["given"] > 0
        assert sum(row["answers"]["why"].values()) == row["answers"]["without_action"]
    assert report["iterations"][1]["explored"]["answers"]["given"] > 0
    assert report["method"] == "AgentEvol"


def test_the_control_learns_for_as_many_steps_from_the_expert_set_alone(undisturbed):
    report, folder = undisturbed
    evolved = report.iterations[1:]
    assert report.control.learned.steps == sum(iteration.learned.steps for iteration in evolved) == 6
    assert report.control.learned.trajectories == len(store.read([folder / "trajectories" / "expert.parquet"])) == 10


def test_the_control_matches_the_steps_of_epochs_too(tmp_path):
    report = fit(recipe(tmp_path, "learn={steps: null, epochs: 2, tokens_per_step: 128, tokens_per_row: 128}"))
    assert report.control.learned.steps == sum(iteration.learned.steps for iteration in report.iterations[1:]) > 2


def test_ctrl_c_in_the_middle_of_learning_ends_with_130_and_no_worker_left(tmp_path):
    recipe(tmp_path)
    command = [sys.executable, "-m", "agentgym", "fit", str(tmp_path / "recipe.yaml"), "bc.steps=100000"]
    process = subprocess.Popen(
        [*command, "pool.workers=2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_for(process, tmp_path / "runs/small", "it000/checkpoints/step-*.ckpt")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].endswith("interrupted: the same command goes on where it was\n")
    assert process.returncode == 130
    assert commands_naming(tmp_path) == []


@pytest.mark.parametrize("marker", ["it000/checkpoints/step-*.ckpt", "trajectories/*.journal"])
def test_sigterm_saves_what_was_done_and_ends_with_a_code_of_its_own(tmp_path, marker):
    recipe(tmp_path)
    learning = "checkpoints" in marker
    words = ["bc.steps=100000" if learning else "generation.lockstep=false", "environments.maze.explore=60"]
    command = [sys.executable, "-m", "agentgym", "fit", str(tmp_path / "recipe.yaml"), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for(process, tmp_path / "runs/small", marker)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert said.endswith("stopped by SIGTERM, all is saved: the same command goes on where it was\n")
    assert process.returncode == cli.PREEMPTED == 75
    if learning:
        (saved,) = (tmp_path / "runs/small/it000/checkpoints").iterdir()
        assert int(saved.stem.removeprefix("step-")) > 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/nobody-knows"), "No space left on device"),
        (CheckpointException("save", {1: (OSError("unexpected pos"), None)}), "unexpected pos"),
    ],
    ids=["alone", "several ranks together"],
)
def test_a_checkpoint_that_cannot_be_saved_is_one_line_and_the_run_goes_on_later(tmp_path, error, reason):
    def full(*args: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", full)
        with pytest.raises(RunError, match=rf"cannot save .*it000/checkpoints .*: {reason}; free some space") as failed:
            fit(recipe(tmp_path, "evol.iterations=0"))
    assert "\n" not in str(failed.value)
    assert fit(recipe(tmp_path, "evol.iterations=0")).iterations[0].learned.steps == 4


def test_exploration_tries_every_task_as_often_as_asked(undisturbed):
    report, folder = undisturbed
    assert report.iterations[1].explored.tried == 2 * (8 + 6)
    first, second = (store.read([folder / "trajectories" / f"it001-explore-{k}.parquet"]) for k in (0, 1))
    assert [t.task for t in first] == [t.task for t in second]
    assert {t.sample for t in second} == {1}
    assert [t.turns for t in first] != [t.turns for t in second]


def test_the_models_of_a_run_load_in_plain_transformers(undisturbed):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = undisturbed
    for model in ("base", "it000/model", "it002/model", "control/it002/model"):
        assert AutoModelForCausalLM.from_pretrained(folder / model).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(folder / "it002/model").chat_template


def test_repeating_a_finished_run_does_nothing_but_report(undisturbed):
    _, folder = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    again = fit(recipe(folder.parents[1]))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == before
    assert again.control is not None


def test_the_same_seed_gives_the_same_run_and_another_seed_another(undisturbed, tmp_path):
    _, folder = undisturbed
    fit(recipe(tmp_path))
    assert outcome(tmp_path / "runs" / "small") == outcome(folder)
    fit(recipe(tmp_path, "seed=1", "name=other", "evol.iterations=0"))
    first, other = (store.read([f / "trajectories" / "expert.parquet"]) for f in (folder, tmp_path / "runs" / "other"))
    assert {t.task for t in first} != {t.task for t in other}


def test_a_run_killed_at_any_point_goes_on_where_it_was(undisturbed, tmp_path):
    _, folder = undisturbed
    settings = recipe(tmp_path)
    run = tmp_path / "runs" / "small"
    command = [sys.executable, "-m", "agentgym", "fit", str(tmp_path / "recipe.yaml")]
    for marker in ("it000/checkpoints/step-*.ckpt", "trajectories/it001-explore-0.parquet", "control/it001/done.json"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(process, run, marker)
        process.send_signal(signal.SIGKILL)
        process.wait()
    fit(settings)
    assert outcome(run) == outcome(folder)


def test_workers_share_the_work_and_leave_with_the_run(tmp_path):
    report = fit(recipe(tmp_path, "pool.workers=2", "evol.iterations=1"))
    folder = tmp_path / "runs" / "small" / "trajectories"
    assert sorted(path.name for path in folder.iterdir()) == [
        "control-eval.parquet",
        "expert.parquet",
        "it000-eval.parquet",
        "it001-eval.parquet",
        "it001-explore-0.parquet",
        "it001-explore-1.parquet",
        "it001-kept.parquet",
    ]
    assert len(store.read([folder / "it001-explore-0.parquet"])) == 14
    assert report.control.played.episodes == 10


def test_a_worker_that_dies_ends_the_run_with_one_line(tmp_path, monkeypatch):
    from agentgym import workers

    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"worker process died \(exit code 1\): it said nothing; mend that, then run"):
        fit(recipe(tmp_path, "pool.workers=2"))


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("raise OSError(28, 'No space left')", r"died \(exit code 1\): OSError: \[Errno 28\] No space left; mend that"),
        ("sys.exit('boom \x1b[31m')", r"died \(exit code 1\): boom \\x1b\[31m; mend that, then run the same command"),
        ("os.kill(os.getpid(), 9)", r"died \(killed by SIGKILL, as it happens where memory runs out: lower pool"),
        ("os.kill(os.getpid(), 6)", r"died \(killed by SIGABRT\); the same command goes on where it was"),
    ],
)
def test_why_a_worker_died_is_said_and_what_to_do(does, says, tmp_path, monkeypatch, capsys):
    from agentgym import workers

    program = tmp_path / "dying"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.stdin.readline()\nprint('first', file=sys.stderr)\n{does}\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(workers.sys, "executable", str(program))
    with pytest.raises(RunError, match=says) as caught:
        fit(recipe(tmp_path, "pool.workers=2"))
    assert "\n" not in str(caught.value)
    assert "first" in capsys.readouterr().err  # what workers say is passed on


def test_a_run_folder_refuses_another_recipe_and_foreign_files(undisturbed, tmp_path):
    _, folder = undisturbed
    with pytest.raises(RunError, match=r"another bc\.lr, seed: choose another folder with name=NAME"):
        fit(recipe(folder.parents[1], "seed=3", "bc.lr=1e-3"))
    (tmp_path / "runs" / "small").mkdir(parents=True)
    (tmp_path / "runs" / "small" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="holds no run"):
        fit(recipe(tmp_path))


def test_what_is_wrong_with_files_or_model_is_said_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "bad.json").write_text(json.dumps([{"item_id": "maze_1"}]))
    file = tmp_path / "recipe.yaml"
    recipe(tmp_path)
    for override, word in [
        (f"data=[{tmp_path / 'bad.json'}]", "bad.json holds no trajectory"),
        ("model.name=nobody/nothing", "nobody/nothing"),
        ("module=agentgym.modules.AgentEvil", "did you mean 'AgentEvol'"),
    ]:
        assert cli.main(["fit", str(file), override]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert word in line
        assert not (tmp_path / "runs").exists()


def test_a_file_of_the_expert_set_is_learned_from(tmp_path):
    tasks = [Task("maze", 3), Task("maze", 4)]
    store.write(tmp_path / "mine.parquet", collect(EnvPool(), tasks, ExpertPolicy()), iteration=0, phase="expert")
    fit(recipe(tmp_path, f"data=[{tmp_path / 'mine.parquet'}]", "evol.iterations=0"))
    expert = store.read([tmp_path / "runs" / "small" / "trajectories" / "expert.parquet"])
    assert len(expert) == 12
    assert [t.task for t in expert[-2:]] == tasks


def test_damaged_records_of_the_data_are_set_aside_and_told(tmp_path, capsys):
    (tmp_path / "data.json").write_text(json.dumps([GOOD_RECORD, {"item_id": "maze_1"}]))
    report = fit(recipe(tmp_path, f"data=[{tmp_path / 'data.json'}]", "evol.iterations=0"))
    quarantine = tmp_path / "runs" / "small" / "quarantine.jsonl"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "set aside" in line]
    assert "1 of 2 records are set aside (data.json: record 2: " in line
    assert line.endswith(f"see {quarantine}")
    assert json.loads(quarantine.read_text())["record"] == 2
    assert report.iterations[0].learned.trajectories == 11


def test_every_model_of_a_run_remembers_how_it_was_taught(undisturbed):
    _, folder = undisturbed
    for model in ("it000/model", "it002/model", "control/it002/model"):
        assert read_manner(str(folder / model)) == Manner(Prompt.brief, FormatName.react, 400, 12)
    assert read_manner(str(folder / "base")) is None


def episode(index: int, *, sample=0, success=True, turns=1, text="a", score: float | None = None) -> Trajectory:
    score = float(success) if score is None else score
    turn = Turn(Completion(text), text, "", score)
    return Trajectory(Task("maze", index), sample, "me", "", "", (turn,) * turns, StopReason.DONE, score, success)


MAZE = {"maze": EnvironmentSettings()}


def test_only_what_the_success_rule_accepts_is_kept():
    failed = replace(episode(3), score=None, success=None, stop=StopReason.ERROR)
    assert keep([episode(1), episode(2, success=False), failed], MAZE, Dedup.none) == [episode(1)]


def test_a_threshold_of_the_recipe_replaces_the_success_rule():
    tried = [episode(1, success=False, score=0.4), episode(2, success=False, score=0.2)]
    assert keep(tried, {"maze": EnvironmentSettings(keep_above=0.3)}, Dedup.none) == tried[:1]


def test_of_several_successes_at_a_task_the_shortest_is_kept():
    tried = [episode(1, sample=0, turns=3), episode(1, sample=1, turns=2), episode(1, sample=2, turns=2)]
    assert keep(tried, MAZE, Dedup.task) == [tried[1]]
    assert keep(tried, MAZE, Dedup.none) == tried


def test_equal_texts_can_count_as_one():
    tried = [episode(1, text="a"), episode(1, sample=1, text="b"), episode(1, sample=2, text="a")]
    assert keep(tried, MAZE, Dedup.text) == tried[:2]


def test_an_environment_can_have_a_cap():
    assert keep([episode(n) for n in range(5)], {"maze": EnvironmentSettings(cap=2)}, Dedup.task) == [
        episode(0),
        episode(1),
    ]


def test_a_trajectory_weighs_1_or_by_its_score():
    half = replace(episode(1, score=0.5))
    assert weight(half, Reward.binary) == 1.0
    assert weight(half, Reward.score) == 0.5
    assert weight(replace(half, score=None), Reward.score) == 1.0


@pytest.mark.parametrize("control", ["true", "false"])
def test_learning_that_diverges_ends_at_once_in_one_line(control, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["bc.lr=1e30", "bc.optimizer=adamw", f"evol.control={control}", "bc.clip=1e30"]
    assert cli.main(["fit", str(tmp_path / "recipe.yaml"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "learning diverged: the loss is nan at step 4 of 4; choose a lower learning rate (lr, now 1e+30)" in line
    assert not (tmp_path / "runs" / "small" / "it000" / "done.json").exists()


@pytest.mark.parametrize("damage", ["cut", "gone", "odd"])
def test_a_damaged_list_of_times_costs_only_its_times(damage, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    recipe = load_recipe(tmp_path / "recipe.yaml", ["evol.iterations=0"])
    first = fit(recipe)
    path = tmp_path / "runs" / "small" / "events.jsonl"
    if damage == "gone":
        path.unlink()
    else:
        with path.open("a") as file:
            file.write('{"event": "eval", "at": 17' if damage == "cut" else '[3]\n{"event": "eval"}\n')
    again = fit(recipe)
    assert again.lines() == first.lines()
    assert again.seconds == ({} if damage == "gone" else first.seconds)
    events.note(path.parent, "eval", 5.0)
    assert events.seconds_by_part(path.parent)["eval"] == pytest.approx(again.seconds.get("eval", 0) + 5, abs=0.2)


def test_what_may_change_in_a_run_that_goes_on_is_what_its_workers_read(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    RunFolder(load_recipe(tmp_path / "recipe.yaml"))
    changed = ["environments.maze.endpoints=[http://127.0.0.1:9]", "pool.workers=2", "generation.batch=3"]
    folder = RunFolder(load_recipe(tmp_path / "recipe.yaml", changed))
    written = load_recipe(folder.recipe_file)
    assert written.environments["maze"].endpoints == ["http://127.0.0.1:9"]
    assert (written.pool.workers, written.generation.batch) == (2, 3)


def killed_at(tmp_path: Path, code: str, *words: str) -> None:
    """Runs `agentgym fit` until a place at which it kills itself."""
    program = f"import os, signal, sys\nfrom agentgym import cli\n{code}\ncli.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "fit", str(tmp_path / "recipe.yaml"), *words]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr


DIE = "def die(*args, **options): os.kill(os.getpid(), signal.SIGKILL)\n"
WEIGHTS = "it000/model/model.safetensors"


def test_a_phase_that_was_killed_after_its_last_checkpoint_keeps_its_loss(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    code = DIE + "from agentgym.modules import AgentModule\nAgentModule.export = die"
    killed_at(tmp_path, code, "evol.iterations=0")
    words = ["evol.iterations=0"]
    report = fit(load_recipe(tmp_path / "recipe.yaml", words))
    undisturbed = fit(load_recipe(tmp_path / "recipe.yaml", [*words, "name=undisturbed"]))
    assert report.iterations[0].learned == undisturbed.iterations[0].learned


def test_dropout_is_the_same_in_a_phase_that_was_killed(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["evol.iterations=0", "model.lora.rank=4", "model.lora.dropout=0.5", "bc.steps=8", "evol.control=false"]
    code = "from agentgym.hooks import Checkpoints\nsave = Checkpoints._save\n" + DIE
    code += "Checkpoints._save = lambda self, trainer, step: (save(self, trainer, step), step == 4 and die())"
    killed_at(tmp_path, code, *words)
    fit(load_recipe(tmp_path / "recipe.yaml", words))
    fit(load_recipe(tmp_path / "recipe.yaml", [*words, "name=undisturbed"]))
    killed, undisturbed = ((tmp_path / "runs" / name / WEIGHTS).read_bytes() for name in ("small", "undisturbed"))
    assert killed == undisturbed


def test_a_run_whose_first_file_was_half_written_begins_anew(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    killed_at(tmp_path, DIE + "from pathlib import Path\nPath.replace = die")
    left = {path.suffix or path.name for path in (tmp_path / "runs" / "small").iterdir()}
    assert left == {".lock", ".tmp"}
    RunFolder(load_recipe(tmp_path / "recipe.yaml")).leave()


def test_a_run_may_be_moved(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["evol.iterations=1", "evol.control=false"]
    first = fit(load_recipe(tmp_path / "recipe.yaml", words))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "small" / "trajectories" / "it001-eval.parquet").unlink()
    again = fit(load_recipe(tmp_path / "recipe.yaml", [*words, f"output={tmp_path / 'elsewhere'}"]))
    assert again.lines() == first.lines()


def test_two_processes_do_not_work_in_one_folder(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    program = (
        "import sys\nfrom agentgym.recipe import load_recipe\nfrom agentgym.runfolder import RunFolder\n"
        "RunFolder(load_recipe(sys.argv[1]))\nprint('taken', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "recipe.yaml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"taken\n"
        assert cli.main(["fit", str(tmp_path / "recipe.yaml")]) == 2
        assert "another process is at work in" in capsys.readouterr().err
        other.stdin.close()
    RunFolder(load_recipe(tmp_path / "recipe.yaml")).leave()


def test_an_evaluation_and_a_fit_do_not_share_a_folder(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = [str(tmp_path / "recipe.yaml"), "evol.iterations=0", "eval.players=[random]"]
    assert cli.main(["fit", *words]) == 0
    report = (tmp_path / "runs" / "small" / "report.json").read_bytes()
    assert cli.main(["eval", *words]) == 2
    assert "small holds a run of `agentgym fit`: choose another folder" in capsys.readouterr().err
    assert (tmp_path / "runs" / "small" / "report.json").read_bytes() == report
    assert cli.main(["eval", *words, "name=board"]) == 0
    assert cli.main(["fit", *words, "name=board"]) == 2
    assert "board holds a run of `agentgym eval`" in capsys.readouterr().err


def test_expert_episodes_that_are_left_out_are_told(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = [str(tmp_path / "recipe.yaml"), "evol.iterations=0", "environments.maze.max_turns=1"]
    assert cli.main(["fit", *words]) == 0
    assert "6 of 10 expert episodes did not succeed and are left out (maze 6)" in capsys.readouterr().out
    assert cli.main(["fit", *words, "environments.textcraft.max_turns=1", "name=none"]) == 2
    assert "the expert set is empty" in (line := capsys.readouterr().err)
    assert "(maze 6; textcraft 4)" in line


def test_the_cap_is_of_one_iteration_and_keeps_what_was_carried():
    settings = {"maze": EnvironmentSettings(cap=2)}
    first = keep([episode(n) for n in range(4)], settings, Dedup.task)
    second = keep([episode(n) for n in range(4, 8)], settings, Dedup.task, first)
    assert [t.task.index for t in second] == [0, 1, 4, 5]


def test_a_trajectory_file_needs_its_name(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["collect", str(tmp_path / "recipe.yaml"), "model.name=random", "--to", str(tmp_path / "x.journal")]
    assert cli.main(words) == 2
    assert "its name should end in .parquet" in capsys.readouterr().err


def test_the_last_update_may_not_leave_weights_that_are_no_numbers(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    words = ["bc.steps=1", "bc.lr=1e38", "bc.optimizer=adamw", "bc.warmup=0", "evol.iterations=0"]
    assert cli.main(["fit", str(tmp_path / "recipe.yaml"), *words]) == 2
    assert "learning diverged" in capsys.readouterr().err
