"""What is hung into Lightning's Trainer for a learning phase: a logger, a progress bar, its curve, checkpoints."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import threading
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch.distributed.checkpoint.api import CheckpointException

from agentgym import curve
from agentgym.errors import RunError
from agentgym.progress import Bar, phase
from agentgym.tracking import Tracker


class PhaseLogger(Logger):
    """Hands the metrics of one learning phase to a tracker; adds the iteration and counts steps over all phases."""

    def __init__(self, tracker: Tracker, iteration: int, offset: int) -> None:
        super().__init__()
        self._tracker = tracker
        self._iteration = iteration
        self._offset = offset

    @property
    def name(self) -> str:
        """Lightning asks for it to name folders, of which it makes none here."""
        return "agentgym"

    @property
    def version(self) -> int:
        """The iteration."""
        return self._iteration

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs numbers of one optimiser step."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}  # it starts anew in every phase
        self._tracker.log(values, self._iteration, None if step is None else self._offset + step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the recipe is the run's configuration already."""


class LearningBar(Callback):
    """Shows a learning phase: optimiser steps, time left and the loss.

    Args:
        title: what is happening, as in ``learning 1 of 3``.
        total: optimiser steps of the phase; what the Trainer expects if None.
        loss: the name under which the module logs its loss.
        console: where to print; stdout if None.
    """

    def __init__(
        self, title: str, total: int | None = None, *, loss: str = "train/loss", console: Console | None = None
    ) -> None:
        self._title = title
        self._total = total
        self._loss = loss
        self._console = console
        self._open = ExitStack()
        self._bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar; a phase that was interrupted starts where it was."""
        total = int(trainer.estimated_stepping_batches) if self._total is None else self._total
        shown = phase(self._title, total, done=trainer.global_step, unit="steps", console=self._console)
        self._bar = self._open.enter_context(shown)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Moves the bar after an optimiser step."""
        if self._bar is not None and trainer.global_step > self._bar.done:
            self._bar.advance(trainer.global_step - self._bar.done)
            if self._loss in trainer.callback_metrics:
                self._bar.note(f"loss {float(trainer.callback_metrics[self._loss]):.3f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._open.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar when learning stops half-way."""
        self._open.__exit__(type(exception), exception, exception.__traceback__)


class Curve(Callback):
    """Writes loss and gradient norm down in the folder of the phase (see `agentgym.curve`), on the first rank.

    Comes before `Checkpoints`: a phase that goes on from a checkpoint has the steps before it.

    Args:
        folder: of the phase.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the steps that an interrupted phase takes again."""
        self._seen = trainer.global_step
        if trainer.is_global_zero:
            curve.go_on_from(self._folder, self._seen)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Writes after an optimiser step."""
        step = trainer.global_step
        if step == self._seen:  # in the middle of an optimiser step
            return
        self._seen = step
        if trainer.is_global_zero and curve.wanted(step, pl_module.total_steps):
            curve.add(self._folder, curve.Point.of(step, float(pl_module.last_loss), float(pl_module.last_norm)))


class RandomNumbers(Callback):
    """Seeds torch anew for every optimiser step, as dropout needs it to be the same in a phase that was interrupted.

    Args:
        seed: of the phase; each step and each rank has numbers of its own.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._step = -1

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Before the first row of a step."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            key = f"{self._seed} {self._step} {trainer.global_rank}"
            torch.manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))


TERMINATED = 128 + signal.SIGTERM
"""The exit code with which SIGTERM ends a phase; the pool has the same."""

_STEP = re.compile(r"step-(\d+)\.ckpt")


class Checkpoints(Callback):
    """Saves a learning phase every so many optimiser steps, and at SIGTERM, which then ends it.

    A checkpoint is there whole or not at all, whatever the strategy makes of it (a file, or a folder with the shards of
    each rank); the older one goes when the newer one is there. Lightning's own handling of SIGTERM is put aside: on
    several ranks it communicates within the signal handler, in the middle of whatever they are doing.

    Args:
        folder: of this phase alone.
        every: optimiser steps between checkpoints.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._seen = 0
        self._terminated = False
        self._handler: Any = None

    @property
    def last(self) -> Path | None:
        """The checkpoint to go on from."""
        found = {int(match[1]): path for path in self._folder.glob("*.ckpt") if (match := _STEP.fullmatch(path.name))}
        return found[max(found)] if found else None

    def guard(self, trainer: Trainer) -> None:
        """Lets a checkpoint that is damaged be reported as that when learning goes on from it.

        Its files are read once more for their checksums, which torch does not look at.
        """
        load = trainer.strategy.load_checkpoint

        def checked(path: Any, *args: Any, **options: Any) -> dict[str, Any]:
            try:
                if Path(path).is_file() and (broken := zipfile.ZipFile(path).testzip()):
                    raise ValueError(f"its part {broken} is garbled")
                checkpoint: dict[str, Any] = load(path, *args, **options)
                missing = {"state_dict", "optimizer_states", "loops", "last_loss"} - checkpoint.keys()
                if missing and Path(path).is_file():  # of several ranks each reads its shards into the model
                    raise ValueError(f"it has no {', '.join(sorted(missing))}")
            except Exception as error:  # what is left of a file makes the libraries that read it raise anything
                why = " ".join(str(error).split())[:200] or type(error).__name__
                raise RunError(
                    f"{path} is damaged ({why}): delete it and run the same command again; this learning phase then "
                    "begins again, and nothing else is lost"
                ) from error
            return checkpoint

        trainer.strategy.load_checkpoint = checked  # type: ignore[method-assign, assignment]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens for SIGTERM; a phase that goes on was saved at its present step."""
        self._seen = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, self._notice)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Saves after an optimiser step.

        Raises:
            SystemExit: SIGTERM came, to this rank or to another; the step is saved.
        """
        step = trainer.global_step
        if step == self._seen:  # in the middle of an optimiser step
            return
        self._seen = step
        terminated = self._any_terminated(trainer)
        if terminated or step % self._every == 0:
            self._save(trainer, step)
        if terminated:
            raise SystemExit(TERMINATED)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves SIGTERM to whoever had it before."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self._restore()

    def _notice(self, signum: int, frame: object) -> None:
        self._terminated = True

    def _restore(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None

    def _any_terminated(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return self._terminated
        flag = torch.tensor([int(self._terminated)])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    def _save(self, trainer: Trainer, step: int) -> None:
        part = self._folder / "part"
        if trainer.is_global_zero:
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
            part.unlink(missing_ok=True)
            self._folder.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier("before saving")
        try:
            trainer.save_checkpoint(part)
        except OSError as error:  # it may name a temporary file that nobody knows
            raise self._failure(error.strerror or str(error)) from error
        except CheckpointException as error:  # several ranks save together: what went wrong on one, all are told
            raise self._failure("; ".join(sorted({str(cause) for cause, _ in error.failures.values()}))) from None
        if trainer.is_global_zero:
            older = [path for path in self._folder.glob("*.ckpt") if _STEP.fullmatch(path.name)]
            part.replace(self._folder / f"step-{step:08d}.ckpt")
            for path in older:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        trainer.strategy.barrier("after saving")

    def _failure(self, reason: str) -> RunError:
        return RunError(
            f"cannot save {self._folder} (is the disk full?): {reason}; free some space and run the same command again"
        )
