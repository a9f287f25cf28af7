"""Several real processes learn and play together over gloo, as they would over NCCL."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import rank_program
from test_fit import outcome, recipe, wait_for

from agentgym import cli
from agentgym.data import store
from agentgym.errors import RecipeError
from agentgym.fit import fit
from agentgym.models import build_tiny, weights_hash
from agentgym.ranks import join
from agentgym.settings import TinySettings, TrainerSettings
from envpool import EnvPool, ExpertPolicy, Task, collect

STEPS = "steps: 4, tokens_per_step: 1024, tokens_per_row: 256, lr: 1e-2"
TWO = ("trainer={devices: 2, strategy: fsdp}", f"bc={{{STEPS}}}", f"learn={{{STEPS}}}", "evol.iterations=1")
"""A recipe for two ranks; every optimiser step has four rows, two a rank."""


def start_ranks(folder: Path, *cases: str) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, rank_program.__file__, str(folder), *cases],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """What two ranks report after learning in every way."""
    folder = tmp_path_factory.mktemp("learned")
    recipe(folder, *TWO)
    text = (folder / "recipe.yaml").read_text().splitlines()
    (folder / "recipe.yaml").write_text(
        "\n".join(f"learn: {{{STEPS}}}" if line.startswith("learn:") else line for line in text)
    )
    tasks = [Task("maze", index) for index in range(12)]
    expert = collect(EnvPool(brief=True), tasks, ExpertPolicy())
    store.write(folder / "expert.parquet", expert, iteration=0, phase="expert")
    texts = [message.content for episode in expert for message in episode.messages]
    tiny = TinySettings(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=32, vocabulary=400)
    build_tiny(tiny, texts, context=400, seed=0, folder=folder / "base")
    for process in start_ranks(folder, *rank_program.CASES):
        assert process.wait(timeout=300) == 0
    return folder, json.loads((folder / "losses.json").read_text())


@pytest.mark.parametrize("case", rank_program.CASES)
def test_two_ranks_learn_as_one_process_does(learned, case):
    folder, found = learned
    alone = rank_program.run(folder, case)
    assert len(alone) == 4
    assert alone[-1] < alone[0]
    rounding = 1e-3 if "muon" in case else 1e-5  # Muon orthogonalises in bfloat16
    assert found["losses"][case] == pytest.approx(alone, abs=rounding)


@pytest.mark.parametrize("case", ["fsdp", "fsdp-lora"])
def test_what_two_ranks_export_is_what_one_process_exports(learned, case):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder, _ = learned
    if not (folder / f"{case}-1").exists():
        rank_program.run(folder, case)
    one, two = (load_file(folder / f"{case}-{size}" / "model" / "model.safetensors") for size in (1, 2))
    assert one.keys() == two.keys()
    ids = torch.arange(5, 45)[None]
    losses = []
    for size in (1, 2):
        model = AutoModelForCausalLM.from_pretrained(folder / f"{case}-{size}" / "model")
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    # single weights differ more: where a gradient is as good as 0, Adam's first steps magnify its rounding
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_adapters_are_exported_too_and_give_the_merged_model(learned):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, _ = learned
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    adapted = PeftModel.from_pretrained(base, folder / "fsdp-lora-2" / "model" / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(folder / "fsdp-lora-2" / "model")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-5)


def test_a_replica_refreshed_in_the_middle_of_learning_answers_as_the_sharded_model(learned):
    _, found = learned
    assert len(found["replica"]) == 8
    assert max(found["replica"]) < 1e-5


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "agentgym", "fit", str(folder / "recipe.yaml"), *overrides]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("lora", "sent", "marker", "code"),
    [
        ("model.lora=null", signal.SIGKILL, "it000/checkpoints/step-*.ckpt", -signal.SIGKILL),
        ("model.lora={rank: 4}", signal.SIGKILL, "it001/checkpoints/step-*.ckpt", -signal.SIGKILL),
        ("model.lora={rank: 4}", signal.SIGTERM, "it001/checkpoints/step-*.ckpt", cli.PREEMPTED),
    ],
    ids=["all weights, SIGKILL", "adapters, SIGKILL", "adapters, SIGTERM"],
)
def test_two_ranks_do_a_whole_iteration_and_go_on_after_a_signal(tmp_path, lora, sent, marker, code):
    folders = [tmp_path / name for name in ("undisturbed", "stopped")]
    words = [*TWO, lora, "trainer.checkpoint_every=2", "evol.control=false"]
    for folder in folders:
        folder.mkdir()
        recipe(folder)
    undisturbed = start(folders[0], *words)
    assert undisturbed.communicate(timeout=300)[1] == ""
    assert undisturbed.returncode == 0
    run = folders[1] / "runs" / "small"
    stopped = start(folders[1], *words)
    wait_for(stopped, run, marker)
    stopped.send_signal(sent)
    said = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == code
    assert sent == signal.SIGKILL or "the same command goes on where it was" in said
    resumed = start(folders[1], *words)
    assert resumed.communicate(timeout=300)[1] == ""
    assert outcome(run) == outcome(folders[0] / "runs" / "small")
    assert weights_hash(str(run / "it001/model")) == weights_hash(str(folders[0] / "runs/small/it001/model"))


def test_what_fails_on_one_rank_is_told_to_the_others(learned):
    folder, _ = learned
    assert (folder / "failed-1").read_text() == "ValueError: mine"
    assert (folder / "failed-0").read_text().startswith("RunError: another process of this run failed")


def test_processes_that_were_not_started_together_cannot_join(monkeypatch):
    with pytest.raises(RecipeError, match="2 processes learn together"):
        join(TrainerSettings(devices=2))
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match="3 processes were started, but devices times num_nodes is 2"):
        join(TrainerSettings(devices=2))


def test_several_nodes_are_started_from_outside(tmp_path, capsys):
    recipe(tmp_path)
    assert cli.main(["fit", str(tmp_path / "recipe.yaml"), "trainer.num_nodes=2"]) == 2
    assert "torchrun or srun" in capsys.readouterr().err


def test_fit_in_python_with_several_devices_says_how_to_start_it(tmp_path):
    with pytest.raises(RecipeError, match="start them with torchrun"):
        fit(recipe(tmp_path, "trainer.devices=2"))
    assert not (tmp_path / "runs").exists()
