"""The accelerators of this machine: whether they are used, which one is ours, what they are called."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agentgym.settings import TrainerSettings


def on_gpu(settings: TrainerSettings) -> bool:
    """Whether models live on CUDA devices."""
    import torch

    return settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def device_count() -> int:
    """How many CUDA devices this process sees."""
    import torch

    return torch.cuda.device_count()


def own_device() -> str:
    """The CUDA device of this process, as in ``cuda:3``.

    Ranks and workers are numbered on their machine: each takes the device of its number, as long as there are enough.
    `torchrun`, `launch` and our workers give the number as LOCAL_RANK, `srun` as SLURM_LOCALID.
    """
    import torch

    number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return f"cuda:{int(number) % torch.cuda.device_count()}"


def device_names(settings: TrainerSettings, workers: int = 1) -> list[str]:
    """The names of the accelerators of this machine that a run uses.

    Args:
        settings: of the run.
        workers: processes that play, each on a device of its own as long as there are enough.
    """
    if settings.accelerator == "cpu":
        return []  # without torch
    import torch

    if on_gpu(settings):
        count = min(max(settings.devices, workers), torch.cuda.device_count())
        return [torch.cuda.get_device_name(number) for number in range(count)]
    if settings.accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return ["Apple GPU (MPS)"]
    return []


@contextmanager
def memory_given_back(*, cycles: bool = False) -> Iterator[None]:
    """Frees what earlier models left on GPUs before the block, and what the block left after it.

    Blocks that torch keeps on a GPU are of no use to other processes on it. On a CPU an allocator takes care of that,
    and a collection costs a third of a second.

    Args:
        cycles: whether the block leaves objects that refer to each other, as a module, its trainer and its optimiser
            do: only a collection frees them, on a CPU too, and none need happen before the next model is loaded.
    """
    _give_back(_uses_cuda())
    try:
        yield
    finally:
        _give_back(cycles or _uses_cuda())


def _uses_cuda() -> bool:
    torch = sys.modules.get("torch")  # where it was never imported, no model was loaded
    return torch is not None and bool(torch.cuda.is_initialized())


def _give_back(collect: bool) -> None:
    if collect:
        gc.collect()
    if _uses_cuda():
        sys.modules["torch"].cuda.empty_cache()
