"""How training is spread over devices."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from agentgym.settings import StrategyName, TrainerSettings


class FSDP2Strategy(ModelParallelStrategy):
    """Shards weights, gradients and optimiser state over all ranks, on GPUs and (with gloo) on CPUs.

    Lightning's own defaults shard within a node only and do not know mixed precision that keeps the sharded weights
    in float32.

    Args:
        half: compute in bfloat16; weights, gradients and optimiser state stay in float32.
        **options: of `ModelParallelStrategy`.
    """

    def __init__(self, *, half: bool = False, **options: Any) -> None:
        super().__init__(data_parallel_size="auto", tensor_parallel_size=1, **options)
        self._half = half

    def setup_environment(self) -> None:
        """Makes the mesh span the whole world."""
        if self._data_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, model: nn.Module) -> None:
        """Shards a model in place, each of its decoder layers by itself.

        Args:
            model: a transformers model, with adapters or without.
        """
        mesh = self.device_mesh["data_parallel"]
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if self._half else MixedPrecisionPolicy()
        layers = {name for m in model.modules() for name in (getattr(m, "_no_split_modules", None) or ())}
        for module in list(model.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)


def strategy(settings: TrainerSettings) -> Strategy | str:
    """What to give Lightning's Trainer as `strategy`."""
    match settings.strategy:
        case StrategyName.auto:
            return "auto"
        case StrategyName.ddp:
            return DDPStrategy()
        case StrategyName.fsdp:
            return FSDP2Strategy(half=settings.precision.startswith("bf16"))


def precision(settings: TrainerSettings) -> str:
    """What to give Lightning's Trainer as `precision`.

    Under FSDP the strategy does it: Lightning would convert the whole module, and with it the frequencies of the
    rotary embedding, which are off by 0.7 rad at position 4000 in bfloat16.
    """
    return "32-true" if settings.strategy is StrategyName.fsdp else settings.precision
