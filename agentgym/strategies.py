"""How training is spread over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from agentgym.devices import on_gpu
from agentgym.ranks import CUDA_BACKEND
from agentgym.settings import StrategyName, TrainerSettings

Build = Callable[[bool], PreTrainedModel]
"""Makes the model to train: with its weights, or (True) without any, on torch's meta device."""


class FSDP2Strategy(ModelParallelStrategy):
    """Shards weights, gradients and optimiser state over all ranks, on GPUs and (with gloo) on CPUs.

    Lightning's own defaults shard within a node only and do not know mixed precision that keeps the sharded weights
    in float32.

    Args:
        half: compute in bfloat16; weights, gradients and optimiser state stay in float32.
        offload: keep weights, gradients and optimiser state in the memory of the CPU.
        **options: of `ModelParallelStrategy`.
    """

    def __init__(self, *, half: bool = False, offload: bool = False, **options: Any) -> None:
        super().__init__(data_parallel_size="auto", tensor_parallel_size=1, **options)
        self._half = half
        self._offload = offload

    def setup_environment(self) -> None:
        """Makes the mesh span the whole world."""
        if self._data_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load(self, build: Build) -> PreTrainedModel:
        """Makes a sharded model of which no device ever holds all weights.

        Only the first rank reads them, into the memory of its CPU, and hands out the shards.
        """
        if self.world_size == 1:
            model = build(False)
            self.shard(model)
            return model
        whole = build(False) if self.is_global_zero else None
        model = build(True)
        self.shard(model)
        place = torch.device("cpu") if self._offload else self.root_device
        nn.Module.to_empty(model, device=place)
        _plain(model).tie_weights()
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=self._offload)
        set_model_state_dict(model, whole.state_dict() if whole is not None else {}, options=options)
        # what is in no state dict: the frequencies of a rotary embedding, as a rule
        read = {} if whole is None else dict(whole.named_buffers())
        for name, buffer in model.named_buffers():
            value = read[name].to(buffer) if read else torch.empty_like(buffer)
            torch.distributed.broadcast(value, src=0)
            buffer.copy_(value)
        return model

    def shard(self, model: nn.Module) -> None:
        """Shards a model in place, each of its decoder layers by itself.

        Args:
            model: a transformers model, with adapters or without.
        """
        options: dict[str, Any] = {
            "mesh": self.device_mesh["data_parallel"],
            "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32) if self._half else MixedPrecisionPolicy(),
            "offload_policy": CPUOffloadPolicy() if self._offload else OffloadPolicy(),
        }
        layers = {name for m in model.modules() for name in (getattr(m, "_no_split_modules", None) or ())}
        for module in list(model.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, **options)
        fully_shard(model, **options)

    def model_to_device(self) -> None:
        """Moves what is not sharded; offloaded weights stay where they are."""
        if not self._offload:
            super().model_to_device()
        elif self.model is not None:
            for buffer in self.model.buffers():
                buffer.data = buffer.data.to(self.root_device)


@torch.no_grad()
def refresh(replica: nn.Module, sharded: nn.Module) -> None:
    """Copies the weights of a sharded model into a plain copy that acts, one group of layers after the other.

    A replica on each rank answers without any communication, so ranks may play episodes of different length; at the
    peak a rank holds the replica and one layer. All ranks call this together. Adapters are not merged.

    Args:
        replica: a model of the same shape, in any number format and on any device.
        sharded: the model that learns.
    """
    targets = dict(replica.named_parameters())
    groups = [(name, module) for name, module in sharded.named_modules() if isinstance(module, FSDPModule)]
    for name, group in groups:
        group.unshard()
        for key, parameter in sharded.get_submodule(name).named_parameters(prefix=name):
            if not isinstance(parameter, DTensor) and key in targets:
                targets.pop(key).copy_(parameter)
        group.reshard()
    if targets:
        raise ValueError(f"the sharded model has no {next(iter(targets))}: the two are of different shape")


def strategy(settings: TrainerSettings) -> Strategy | str:
    """What to give Lightning's Trainer as `strategy`."""
    several = settings.devices * settings.num_nodes > 1
    # several ranks have made their group by then; Lightning's own group of one would have no backend for the CPU
    backend = CUDA_BACKEND if on_gpu(settings) else None
    match settings.strategy:
        case StrategyName.auto:
            return DDPStrategy(process_group_backend=backend) if several else "auto"
        case StrategyName.ddp:
            return DDPStrategy(process_group_backend=backend)
        case StrategyName.fsdp:
            half = settings.precision.startswith("bf16")
            return FSDP2Strategy(half=half, offload=settings.offload, process_group_backend=backend)


def precision(settings: TrainerSettings) -> str:
    """What to give Lightning's Trainer as `precision`.

    Under FSDP the strategy does it: Lightning would convert the whole module, and with it the frequencies of the
    rotary embedding, which are off by 0.7 rad at position 4000 in bfloat16.
    """
    return "32-true" if settings.strategy == StrategyName.fsdp else settings.precision


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    inner = getattr(model, "get_base_model", None)
    return inner() if inner is not None else model
