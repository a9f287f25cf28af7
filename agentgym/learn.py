"""One learning phase: trajectories and a model in, a better model out. One `Trainer.fit`, resumable."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.data import store
from agentgym.devices import memory_given_back
from agentgym.errors import RecipeError
from agentgym.manner import write_manner
from agentgym.ranks import ALONE, Ranks, leave_at_exit
from agentgym.settings import ExportDtype, Recipe, Reward, Start
from agentgym.values import member
from envpool import Trajectory, environments, get_spec

if TYPE_CHECKING:
    import lightning as L
    from lightning.pytorch.loggers import Logger

    from agentgym.data.datamodule import TrajectoryDataModule
    from agentgym.modules import AgentModule


@dataclass(frozen=True, slots=True)
class LearnJob:
    """What to learn from, where to start and where the result goes.

    Attributes:
        start: the model that learning starts from: a folder in the Hugging Face layout or a hub id.
        data: trajectory files.
        bc: whether this is behavioural cloning by the recipe's `bc` settings; `learn` settings otherwise.
        steps: optimiser steps, if other than the settings say.
        module: import path of the LightningModule that learns.
        seed: decides the order of the data.
        folder: gets `curve.jsonl`, `checkpoints/` while it lasts, and `model/` and `done.json` at the end.
    """

    start: str
    data: tuple[Path, ...]
    bc: bool
    module: str
    seed: int
    folder: Path
    steps: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "data": [str(path) for path in self.data], "folder": str(self.folder)}

    @classmethod
    def from_json(cls, job: Mapping[str, Any]) -> LearnJob:
        """The inverse of `to_json`."""
        return cls(**{**job, "data": tuple(Path(path) for path in job["data"]), "folder": Path(job["folder"])})


@dataclass(frozen=True, slots=True)
class Learned:
    """What a learning phase did.

    Attributes:
        model: the folder of the resulting model.
        steps: optimiser steps.
        tokens: tokens that went through the model.
        trajectories: trajectories it learned from.
        seconds: wall time of the attempt that finished it.
        loss: of the last optimiser step, in nats a token.
        cut: turns that were not learned from because their trajectories did not fit in the context.
    """

    model: str
    steps: int
    tokens: int
    trajectories: int
    seconds: float
    loss: float
    cut: int


def learn(
    recipe: Recipe,
    job: LearnJob,
    *,
    logger: Logger | None = None,
    callbacks: Sequence[L.Callback] = (),
    ranks: Ranks = ALONE,
) -> Learned:
    """Runs a learning phase, or goes on with it, or returns what it did if it is done. All ranks call it together.

    Raises:
        DataError: a trajectory file cannot be read.
        ModelError: the starting model cannot be loaded.
        RecipeError: the module cannot be imported.
        RunError: the result cannot be written.
        SystemExit: SIGTERM came; the phase is saved.
    """
    done = job.folder / "done.json"
    if not done.exists():
        with memory_given_back():  # the frame that holds module and trainer is left before the end of the block
            _learn(recipe, job, logger, callbacks, ranks)
    ranks.first_does(lambda: shutil.rmtree(job.folder / "checkpoints", ignore_errors=True))
    return _read(done)


def _learn(recipe: Recipe, job: LearnJob, logger: Logger | None, callbacks: Sequence[L.Callback], ranks: Ranks) -> None:
    """Learns and leaves `model/` and `done.json`."""
    import lightning as L
    import torch

    from agentgym import progress
    from agentgym.data.codec import Codec
    from agentgym.data.datamodule import TrajectoryDataModule
    from agentgym.hooks import Checkpoints, Curve, RandomNumbers
    from agentgym.models import saved_dtype, tokenizer_of

    progress.quiet()
    torch.set_num_threads(recipe.trainer.threads)
    settings = recipe.bc if job.bc else recipe.learn
    if job.steps is not None:
        settings = replace(settings, steps=job.steps, epochs=None)
    trajectories = store.read(job.data)
    tokenizer = tokenizer_of(recipe.model, job.start)
    codec = Codec(tokenizer)
    sequences = [codec.encode(trajectory, recipe.model.context) for trajectory in trajectories]
    shortened = [sequence for sequence in sequences if sequence.cut]
    if shortened:
        progress.show(
            f"{len(shortened)} of {len(sequences)} trajectories do not fit in model.context={recipe.model.context}: "
            f"their last turns, {sum(sequence.cut for sequence in shortened)} in all, are not learned from"
        )
    data = TrajectoryDataModule(
        sequences,
        [weight(trajectory, recipe.evol.reward) for trajectory in trajectories],
        settings,
        job.seed,
        world_size=ranks.size,
    )
    start = exact_weights(job.start)
    module = module_class(job.module)(
        start,
        settings,
        total_steps=data.steps,
        lora=recipe.model.lora,
        gradient_checkpointing=recipe.model.gradient_checkpointing,
    )
    started = time.monotonic()
    leave_at_exit()  # ddp and fsdp make a group of one, too
    checkpoints = Checkpoints(job.folder / "checkpoints", recipe.trainer.checkpoint_every)
    trainer = _trainer(recipe, data, logger, [*callbacks, RandomNumbers(job.seed), Curve(job.folder), checkpoints])
    checkpoints.guard(trainer)
    with L.pytorch.utilities.seed.isolate_rng(), _interruptible(trainer):
        torch.manual_seed(job.seed)  # not Lightning's seed_everything: it would seed later fits of this process too
        trainer.fit(module, datamodule=data, ckpt_path=checkpoints.last)
        module.check_weights()
    dtype = recipe.trainer.export_dtype
    if dtype == ExportDtype.base:
        dtype = ExportDtype(str(saved_dtype(job.start)).removeprefix("torch."))
    if dtype != ExportDtype.float32 and _is_learned_from(recipe):
        module.export(job.folder / EXACT, tokenizer=tokenizer, dtype=ExportDtype.float32)
    module.export(job.folder / "model", tokenizer=tokenizer, dtype=dtype)
    ranks.first_does(lambda: write_manner(recipe, job.folder / "model"))
    learned = Learned(
        str(job.folder / "model"),
        data.steps,
        data.tokens,
        len(trajectories),
        time.monotonic() - started,
        float(module.last_loss),
        sum(sequence.cut for sequence in shortened),
    )
    done = json.dumps(asdict(learned)).encode()
    ranks.first_does(lambda: store.write_atomically(job.folder / "done.json", done))


EXACT = "float32"
"""The folder beside a model of a narrower number format that holds its weights as learning left them."""


def exact_weights(model: str) -> str:
    """The folder that learning goes on from: small updates would be lost in a model that was rounded to be saved."""
    exact = Path(model).parent / EXACT
    return str(exact) if (exact / "config.json").is_file() and (exact.parent / "done.json").is_file() else model


def _is_learned_from(recipe: Recipe) -> bool:
    """Whether later phases start from what a phase left."""
    return recipe.evol.iterations > 0 and (recipe.evol.start != Start.base or recipe.evol.control)


def _read(done: Path) -> Learned:
    """What a phase did; its model lies beside the note, also if the run was moved since."""
    return replace(Learned(**json.loads(done.read_text())), model=str(done.parent / "model"))


@contextmanager
def _interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Turns what Lightning makes of Ctrl-C (exit with code 1, and no second Ctrl-C) back into what it was."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if end.code != 1 or not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from end


def weight(trajectory: Trajectory, reward: Reward | str) -> float:
    """How much a trajectory weighs in the loss, from 0 to 1.

    Args:
        trajectory: one that succeeded, or an expert's.
        reward: ``binary`` gives 1; ``score`` gives the score scaled to 0..1 by the environment's score range, and
            the nearer end of it where the score is beyond (1 where there is no score, as in imported data, or where
            the environment is not known and so no range is).

    Raises:
        RecipeError: there is no such reward.
    """
    environment = trajectory.task.environment
    binary = member(Reward, reward, "evol.reward") == Reward.binary
    if binary or trajectory.score is None or environment not in environments():
        return 1.0
    low, high = get_spec(environment).score_range
    return min(1.0, max(0.0, (trajectory.score - low) / (high - low)))


def module_class(path: str) -> type[AgentModule]:
    """Imports the LightningModule that a recipe names.

    Raises:
        RecipeError: it cannot be imported, or is no `AgentModule`.
    """
    from agentgym.modules import AgentModule

    package, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError([f"module: cannot import {path!r} ({error}); is its folder on PYTHONPATH?"]) from error
    if not (isinstance(found, type) and issubclass(found, AgentModule)):
        raise RecipeError([f"module: {path!r} is no subclass of agentgym.AgentModule"])
    return found


def _trainer(
    recipe: Recipe, data: TrajectoryDataModule, logger: Logger | None, callbacks: list[L.Callback]
) -> L.Trainer:
    import lightning as L

    from agentgym.strategies import precision, strategy

    trainer = recipe.trainer
    return L.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=strategy(trainer),
        precision=precision(trainer),  # type: ignore[arg-type]  # Lightning checks it
        max_steps=data.steps,
        max_epochs=-1,
        accumulate_grad_batches=data.accumulate,
        logger=logger or False,
        callbacks=callbacks,
        enable_checkpointing=False,  # `Checkpoints` does it
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the loader knows its rank; Lightning's sampler would shuffle
        inference_mode=False,  # a forward pass in inference mode breaks FSDP2's first training step
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
