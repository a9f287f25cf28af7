"""What each of several ranks does in `test_ranks.py`; run as a program with the names of cases and a folder."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch

from agentgym.errors import RunError
from agentgym.learn import LearnJob, learn
from agentgym.modules import AgentEvol
from agentgym.ranks import ALONE, Ranks, join
from agentgym.recipe import load_recipe
from agentgym.settings import LoraSettings, Optimizer, Recipe, StrategyName

CASES = {
    "auto": (StrategyName.auto, False, Optimizer.adamw),
    "ddp": (StrategyName.ddp, False, Optimizer.adamw),
    "fsdp": (StrategyName.fsdp, False, Optimizer.adamw),
    "fsdp-lora": (StrategyName.fsdp, True, Optimizer.adamw),
    "ddp-lora": (StrategyName.ddp, True, Optimizer.adamw),
    "fsdp-muon": (StrategyName.fsdp, False, Optimizer.muon),
}


class Recording(AgentEvol):
    """Remembers the loss of every optimiser step, summed over all ranks."""

    losses: ClassVar[list[float]] = []

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.losses.append(float(self.last_loss))


class Refreshing(Recording):
    """Refreshes a replica in the middle of learning, and checks that the two answer alike."""

    differences: ClassVar[list[float]] = []

    def on_train_batch_end(self, outputs, batch, batch_idx):
        from agentgym.models import load_model
        from agentgym.strategies import refresh

        replica = load_model(self.model_name)
        refresh(replica, self.model)
        ids = torch.arange(5, 25)[None]
        with torch.no_grad():
            own = self.model(input_ids=ids, use_cache=False, segments=((0, 20),), boundaries=None).logits
            self.differences.append(float((own - replica(input_ids=ids, use_cache=False).logits).abs().max()))


def settings(recipe: Recipe, case: str, size: int) -> Recipe:
    strategy, lora, optimizer = CASES[case]
    return replace(
        recipe,
        learn=replace(recipe.learn, optimizer=optimizer),
        model=replace(recipe.model, lora=LoraSettings(rank=4) if lora else None),
        trainer=replace(recipe.trainer, devices=size, strategy=strategy),
    )


def run(folder: Path, case: str, ranks: Ranks = ALONE, module: str = "rank_program.Recording") -> list[float]:
    """Learns for a few steps; returns the loss of each."""
    recipe = settings(load_recipe(folder / "recipe.yaml"), case, ranks.size)
    job = LearnJob(
        start=str(folder / "base"),
        data=(folder / "expert.parquet",),
        bc=False,
        module=module,
        seed=3,
        folder=folder / f"{case}-{ranks.size}",
    )
    Recording.losses.clear()
    learn(recipe, job, ranks=ranks)
    return list(Recording.losses)


def main(folder: Path, cases: list[str]) -> None:
    sys.modules["rank_program"] = sys.modules["__main__"]
    recipe = load_recipe(folder / "recipe.yaml", ["trainer.devices=2"])
    ranks = join(recipe.trainer)
    losses = {case: run(folder, case, ranks) for case in cases}
    replica = LearnJob(
        start=str(folder / "base"),
        data=(folder / "expert.parquet",),
        bc=False,
        module="rank_program.Refreshing",
        seed=3,
        folder=folder / "replica",
    )
    learn(settings(recipe, "fsdp", ranks.size), replica, ranks=ranks)
    try:
        with ranks.together():
            if ranks.rank == 1:
                raise ValueError("mine")
    except (RunError, ValueError) as error:
        (folder / f"failed-{ranks.rank}").write_text(f"{type(error).__name__}: {error}")
    ranks.first_does(
        lambda: (folder / "losses.json").write_text(json.dumps({"losses": losses, "replica": Refreshing.differences}))
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
