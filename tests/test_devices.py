"""What only a machine with GPUs shows, emulated on a CPU: which device, which group, which memory."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision.amp import MixedPrecision
from test_fit import recipe

from agentgym import evaluate as evaluate_room
from agentgym import fit as fit_room
from agentgym import play as play_room
from agentgym import ranks
from agentgym.data import store
from agentgym.devices import device_names, memory_given_back, own_device
from agentgym.errors import RecipeError
from agentgym.evaluation import unfinished
from agentgym.learn import Learned, LearnJob, learn
from agentgym.models import build_tiny
from agentgym.modules import AgentEvol, base
from agentgym.play import PlayJob, play
from agentgym.preflight import check_fit, check_play
from agentgym.ranks import Ranks, join
from agentgym.settings import Optimizer, Recipe, StrategyName, TinySettings, TrainerSettings
from agentgym.strategies import strategy
from envpool import EnvPool, ExpertPolicy, Split, Task, collect

SLURM = {
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "5",
    "SLURM_NODEID": "0",
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "fit",
    "SLURM_NODELIST": "n1",
    "SLURM_JOB_NODELIST": "n1",
    "SLURM_STEP_NODELIST": "n1",
}
"""What `srun` tells the sixth of eight processes on one node."""

EIGHT = TrainerSettings(accelerator="gpu", devices=8, strategy=StrategyName.fsdp, precision="bf16-mixed")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with eight GPUs, and what is done to them."""
    machine = SimpleNamespace(count=8, chosen=[], groups=[], emptied=0)

    def empty() -> None:
        machine.emptied += 1

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: machine.count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
    monkeypatch.setattr(torch.cuda, "set_device", machine.chosen.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *args, **kwargs: machine.groups.append(args))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", *SLURM, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is restored: `join` sets some
        monkeypatch.delenv(name)
    return machine


@pytest.fixture
def from_srun(cards: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return cards


def test_under_srun_every_rank_plays_on_the_device_on_which_it_learns(from_srun: SimpleNamespace) -> None:
    assert join(EIGHT) == Ranks(5, 8, 5)
    assert from_srun.chosen == [5]
    assert from_srun.groups == [("cpu:gloo,cuda:nccl",)]
    assert own_device() == "cuda:5"


@pytest.mark.parametrize(
    ("said", "device"),
    [
        ({}, "cuda:0"),
        ({"LOCAL_RANK": "3"}, "cuda:3"),
        ({"SLURM_LOCALID": "6"}, "cuda:6"),
        ({"LOCAL_RANK": "2", "SLURM_LOCALID": "0"}, "cuda:2"),  # a worker, or a rank that we started, in a SLURM job
        ({"LOCAL_RANK": "9"}, "cuda:1"),
    ],
)
def test_each_process_has_the_device_of_its_number(
    said: dict[str, str], device: str, cards: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert own_device() == device


@pytest.mark.parametrize("seen", [1, 5])
def test_a_rank_that_does_not_see_its_device_is_one_line(from_srun: SimpleNamespace, seen: int) -> None:
    from_srun.count = seen
    with pytest.raises(
        RecipeError, match=f"process 5 of this node takes GPU 5 and sees {seen} GPU.*without --gpus-per-task"
    ) as error:
        join(EIGHT)
    assert "\n" not in str(error.value)
    assert not from_srun.groups


def test_the_script_of_a_slurm_job_does_not_wait_for_tasks_that_nobody_started(
    from_srun: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(RecipeError, match="one process of a SLURM job of 8 tasks: start them all with `srun"):
        join(EIGHT)
    assert not from_srun.groups


@pytest.mark.parametrize("name", [StrategyName.ddp, StrategyName.fsdp])
@pytest.mark.parametrize("offload", [False, True])
def test_a_group_of_one_gpu_can_reduce_what_is_on_the_cpu(
    name: StrategyName, offload: bool, cards: SimpleNamespace
) -> None:
    one = TrainerSettings(accelerator="gpu", strategy=name, offload=offload and name is StrategyName.fsdp)
    made: Any = strategy(one)
    assert made._process_group_backend == "cpu:gloo,cuda:nccl"


def test_a_group_of_cpus_has_the_backend_that_lightning_chooses() -> None:
    made: Any = strategy(TrainerSettings(accelerator="cpu", strategy=StrategyName.ddp))
    assert made._process_group_backend is None


def test_weights_are_checked_on_the_device_of_the_strategy_wherever_the_module_is_now() -> None:
    reduced: list[torch.device] = []

    def reduce(tensor: torch.Tensor, reduce_op: str) -> torch.Tensor:
        reduced.append(tensor.device)
        return torch.zeros(())

    module: Any = AgentEvol("none", recipe_settings(), total_steps=1)
    module.model = torch.nn.Linear(1, 1)
    module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta"), reduce=reduce))
    module.check_weights()
    assert reduced == [torch.device("meta")]


def recipe_settings() -> Any:
    return Recipe().learn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and expert trajectories."""
    folder = tmp_path_factory.mktemp("learner")
    expert = collect(EnvPool(brief=True), [Task("maze", index) for index in range(8)], ExpertPolicy())
    store.write(folder / "expert.parquet", expert, iteration=0, phase=store.Phase.EXPERT)
    tiny = TinySettings(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, vocabulary=400)
    texts = [message.content for episode in expert for message in episode.messages]
    build_tiny(tiny, texts, context=400, seed=0, folder=folder / "base")
    return folder


def learned(folder: Path, out: Path, *overrides: str) -> Learned:
    job = LearnJob(
        start=str(folder / "base"),
        data=(folder / "expert.parquet",),
        bc=True,
        module="agentgym.modules.AgentEvol",
        seed=3,
        folder=out / "it000",
    )
    return learn(recipe(out, *overrides), job)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """The models that learners load, while nothing is collected by chance."""
    models: list[weakref.ref[Any]] = []
    load = base.load_model

    def recording(name: str, **options: Any) -> Any:
        model = load(name, **options)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(base, "load_model", recording)
    gc.disable()
    yield models
    gc.enable()


@pytest.mark.parametrize("name", ["auto", "ddp", "fsdp"])
def test_a_finished_learner_is_gone_when_learning_has_returned(
    name: str, folder: Path, tmp_path: Path, loaded: list[weakref.ref[Any]]
) -> None:
    learned(folder, tmp_path, f"trainer.strategy={name}")
    assert [model() is None for model in loaded] == [True]


class Cycle:
    """What only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def test_what_earlier_phases_left_is_gone_before_a_model_is_loaded_to_play_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: SimpleNamespace
) -> None:
    def look(*args: object) -> ExpertPolicy:
        assert left() is None
        looked.append(True)
        return ExpertPolicy()

    looked: list[bool] = []
    monkeypatch.setattr(play_room, "_policy", look)
    job = PlayJob("expert", (Task("maze", 1),), 0, 0.0, 1.0, 0, 0, store.Phase.EVAL, tmp_path / "out.parquet")
    gc.disable()
    left = weakref.ref(Cycle())
    play(recipe(tmp_path), job, lambda success: None)
    gc.enable()
    assert looked == [True]


def test_a_process_that_ends_keeps_no_group_whose_threads_would_outlive_it(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append(True))
    gc.disable()
    group = weakref.ref(Cycle())
    ranks._leave()
    gc.enable()
    assert (left, group()) == ([True], None)


def test_blocks_that_nothing_uses_are_given_back_before_and_after_also_when_it_fails(cards: SimpleNamespace) -> None:
    def fail() -> None:
        with memory_given_back():
            assert cards.emptied == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert cards.emptied == 2


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_gradients_are_clipped_and_logged_as_they_are_and_not_as_they_were_scaled(
    optimizer: Optimizer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU `16-mixed` scales the loss by 65,536; on a CPU Lightning turns it into bfloat16, without a scale."""
    norms: dict[bool, list[float]] = {False: [], True: []}
    clip, init = base.clip, MixedPrecision.__init__

    def recording(parameters: Any, greatest: float) -> torch.Tensor:
        norm = clip(parameters, greatest)
        norms[scaled].append(float(norm))
        return norm

    def with_a_scaler(self: MixedPrecision, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        if scaled:
            self.scaler = torch.amp.GradScaler("cpu")

    monkeypatch.setattr(base, "clip", recording)
    monkeypatch.setattr(MixedPrecision, "__init__", with_a_scaler)
    losses = []
    for scaled in (False, True):
        (tmp_path / str(scaled)).mkdir()
        words = ("trainer.precision=bf16-mixed", f"bc.optimizer={optimizer}")
        losses.append(learned(folder, tmp_path / str(scaled), *words).loss)
    assert norms[True] == pytest.approx(norms[False], rel=0.02)
    assert losses[1] == pytest.approx(losses[0], abs=0.01)
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (1, ["pool.workers=3"], "pool.workers: each of 3 workers would hold a model of its own, and there is 1 GPU: "),
        (2, ["pool.workers=3"], "pool.workers: each of 3 workers would hold .* there is 2 GPUs: set pool.workers=2"),
        (3, ["pool.workers=3"], None),
        (1, ["pool.workers=3", "trainer.accelerator=cpu"], None),
        (1, ["generation.graphs=true"], None),
        (1, ["generation.graphs=true", "trainer.accelerator=cpu"], "generation.graphs: only GPUs .* leave it out"),
        (1, ["generation.graphs=false", "trainer.accelerator=cpu"], None),
    ],
)
@pytest.mark.parametrize("command", ["fit", "collect", "eval"])
def test_workers_have_a_gpu_each_and_only_gpus_record_graphs(
    count: int, words: list[str], said: str | None, command: str, cards: SimpleNamespace, tmp_path: Path
) -> None:
    cards.count = count
    wanted = recipe(tmp_path, "trainer.accelerator=gpu", *words)
    check = {
        "fit": check_fit,
        "collect": partial(check_play, split=Split.EXPLORE),
        "eval": partial(check_play, split=Split.EVAL),
    }[command]
    if said is None:
        check(wanted)
        return
    with pytest.raises(RecipeError, match=said):
        check(wanted)


def test_players_that_need_no_model_may_have_more_workers_than_there_are_gpus(
    cards: SimpleNamespace, tmp_path: Path
) -> None:
    cards.count = 1
    check_play(recipe(tmp_path, "pool.workers=3", "eval.players=[expert, random]"), Split.EVAL)


def test_reports_name_the_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fit_room, evaluate_room, unfinished):
        monkeypatch.setattr(module, "device_names", lambda settings, workers: ["Card"])
    fitted = recipe(tmp_path, "evol.iterations=0", "bc.steps=1", "environments.textcraft=null")
    report = fit_room.fit(fitted)
    assert report.machine["accelerators"] == ["Card"]
    run = tmp_path / "runs" / "small"
    assert json.loads((run / "report.json").read_text())["machine"]["accelerators"] == ["Card"]
    assert unfinished.unfinished_report(run).machine["accelerators"] == ["Card"]
    for player, names in ((str(run / "it000/model"), ["Card"]), ("random", [])):
        measured = recipe(tmp_path, f"eval.players=[{player}]", f"name={len(names)}")
        assert evaluate_room.evaluate(measured).machine["accelerators"] == names


@pytest.mark.parametrize(
    ("settings", "workers", "names"),
    [
        (TrainerSettings(accelerator="cpu"), 4, []),
        (TrainerSettings(accelerator="gpu"), 1, ["Card 0"]),
        (TrainerSettings(), 3, ["Card 0", "Card 1", "Card 2"]),
        (EIGHT, 1, [f"Card {number}" for number in range(8)]),
        (TrainerSettings(accelerator="cuda"), 20, [f"Card {number}" for number in range(8)]),
    ],
)
def test_the_accelerators_that_a_run_uses_are_named(
    settings: TrainerSettings, workers: int, names: list[str], cards: SimpleNamespace
) -> None:
    assert device_names(settings, workers) == names
