"""Several processes that learn and play together: how they start, which of them this one is, and how they agree.

All ranks run the same program (`fit`) side by side. They learn together, each plays its share of the tasks, and the
first one writes what belongs to the run as a whole. Where `torchrun` or `srun` started them, they are taken as they
are; otherwise `launch` starts one for each device of this machine.
"""

from __future__ import annotations

import atexit
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from agentgym.devices import on_gpu
from agentgym.errors import RecipeError, RunError
from agentgym.settings import TrainerSettings

CLOSE_SECONDS = 15.0
"""How long the other ranks may take to close their sessions after one of them failed."""

PATIENCE = timedelta(hours=12)
"""How long ranks wait for each other: some get longer episodes than others."""

CUDA_BACKEND = "cpu:gloo,cuda:nccl"
"""How ranks with GPUs communicate: flags, offloaded weights and what a finished Trainer left are on the CPU."""

_LAUNCHED = "AGENTGYM_LAUNCHED"


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of this process among those that work together; alone by default.

    Attributes:
        rank: which one this is, from 0 on.
        size: how many there are.
        local: which one this is on its machine; the number of its device.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this one writes what belongs to the run as a whole."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leaves the block when all ranks have come to its end.

        Raises:
            RunError: another rank failed in the block (its own message says why).
        """
        try:
            yield
        except Exception:
            self._any(True)
            raise
        if self._any(False):
            raise RunError("another process of this run failed: its own message says why")

    def first_does(self, act: Callable[[], object]) -> None:
        """Lets the first rank do something for all, while the others wait."""
        with self.together():
            if self.first:
                act()

    def _any(self, failed: bool) -> bool:
        if self.size == 1:
            return failed
        import torch

        flag = torch.tensor([int(failed)])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())


ALONE = Ranks()
"""A process that works by itself."""


def is_first_rank() -> bool:
    """Whether this is the only process of a run, or the first: whoever started the others numbered them."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


def world_size(settings: TrainerSettings) -> int:
    """How many processes learn together."""
    return settings.devices * settings.num_nodes


def started() -> bool:
    """Whether `torchrun`, `srun` or `launch` started this process as one of several."""
    # A SLURM job of one task says nothing: within it agentgym starts its processes itself.
    return "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("SLURM_NTASKS", "1") != "1"


def _in_a_step() -> bool:
    """Whether `srun` started this process; the script of a job has the variables of the job, but of no step."""
    return any(name.startswith("SLURM_STEP") for name in os.environ)


def join(settings: TrainerSettings) -> Ranks:
    """Joins the other processes of a run.

    Raises:
        RecipeError: there are more or fewer of them than the recipe says, or this one has no device.
    """
    size = world_size(settings)
    if size == 1 and int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1) == 1:
        return Ranks()
    import torch
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    kinds: tuple[Any, ...] = (TorchElasticEnvironment, SLURMEnvironment)
    found = next((kind() for kind in kinds if kind.detect()), None) if started() else None
    if found is None:
        text = f"{size} processes learn together: use the command `agentgym fit`, or start them with torchrun or srun"
        raise RecipeError([f"trainer.devices: {text}"])
    if found.world_size() != size:
        text = f"{found.world_size()} processes were started, but devices times num_nodes is {size}: make them equal"
        raise RecipeError([f"trainer.devices: {text}"])
    if isinstance(found, SLURMEnvironment) and found.global_rank() == 0 and not _in_a_step():
        text = f"this is one process of a SLURM job of {size} tasks: start them all with `srun agentgym fit RECIPE`"
        raise RecipeError([f"trainer.devices: {text}"])
    ranks = Ranks(found.global_rank(), size, found.local_rank())
    if _LAUNCHED in os.environ:
        threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    if not torch.distributed.is_initialized():
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = found.main_address, str(found.main_port)
        backend = "gloo"
        if on_gpu(settings):
            _take_device(ranks.local)
            backend = CUDA_BACKEND
        torch.distributed.init_process_group(backend, rank=ranks.rank, world_size=size, timeout=PATIENCE)
    leave_at_exit()
    return ranks


def _take_device(local: int) -> None:
    import torch

    seen = torch.cuda.device_count()
    if local >= seen:
        cards = f"{seen} GPU" if seen == 1 else f"{seen} GPUs"
        cure = (
            "let every process see all GPUs of its node (srun --gpus-per-node, without --gpus-per-task and --gpu-bind)"
        )
        text = f"process {local} of this node takes GPU {local} and sees {cards}: {cure}"
        raise RecipeError([f"trainer.devices: {text}"])
    torch.cuda.set_device(local)


@cache
def leave_at_exit() -> None:
    """Makes this process leave its group, if it is in one, before it ends: with gloo, one in four aborts otherwise."""
    atexit.register(_leave)


def _leave() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # a finished learner may still hold a group, whose threads have to end before the process does


def _end_with_the_launcher() -> None:
    os.read(0, 1)  # nothing ever comes; it returns when the launcher is gone, however that ended
    os.kill(os.getpid(), signal.SIGKILL)


def launch(argv: Sequence[str], count: int) -> int:
    """Runs `agentgym` with these words once for each device of this machine and returns the exit code.

    Ctrl-C and SIGTERM are passed on. When one process fails, the others get `CLOSE_SECONDS` to end by themselves;
    when this one is gone, they end at once.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
    world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    shared = {"MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "agentgym", _LAUNCHED: 1, "PYTHONPATH": path}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "agentgym", *argv],
            env={**os.environ, **{k: str(v) for k, v in {**world, **shared, "RANK": n, "LOCAL_RANK": n}.items()}},
            stdin=subprocess.PIPE,
            start_new_session=True,  # a signal comes once, from here
        )
        for n in range(count)
    ]

    def pass_on(signum: int, frame: object) -> None:
        for process in processes:
            process.send_signal(signum)

    handlers = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(processes)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Waits for all to end, but not for long once one has failed; returns the first exit code that is not 0."""
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    for process in processes:
        threading.Thread(target=lambda p=process: ended.put(p.wait()), daemon=True).start()
    code = 0
    for _ in processes:
        try:
            later = ended.get(timeout=CLOSE_SECONDS if code else None)
        except queue.Empty:
            break
        code = code or later
    return code if code >= 0 else 128 - code
