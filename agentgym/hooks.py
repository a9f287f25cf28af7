"""What is hung into Lightning's Trainer for a learning phase: a logger and a progress bar."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console

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
