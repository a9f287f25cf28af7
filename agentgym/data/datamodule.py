"""The data of one learning phase: the order in which trajectories are learned from, and which row goes to which rank.

An optimiser step takes `ranks x accumulate` rows. All ranks work out the same steps from the seed and take their own
rows, so nothing is communicated, and every rank knows the weight of the whole step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count, islice

import lightning as L

from agentgym.data.packing import PackedBatch, lay_out, pack
from agentgym.data.transcript import TokenSequence
from agentgym.errors import DataError
from agentgym.settings import LearningSettings

WINDOW = 64
"""Rows that are packed together: enough to fill them well, few enough to stay shuffled."""


class PackedLoader:
    """Goes once through the batches of one rank; Lightning saves and restores where it is.

    Args:
        batches: gives the batches from a position on.
        length: number of batches.
    """

    def __init__(self, batches: Callable[[int], Iterator[PackedBatch]], length: int) -> None:
        self._batches = batches
        self._length = length
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[PackedBatch]:
        for batch in self._batches(self._position):
            self._position += 1
            yield batch
        self._position = 0

    def state_dict(self) -> dict[str, int]:
        """The number of batches handed out."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there at the next `iter`."""
        self._position = state["position"]


class TrajectoryDataModule(L.LightningDataModule):
    """Packed rows of trajectories for one learning phase, the same for the same seed.

    Every epoch is shuffled anew and packed in windows; a phase of `steps` goes through as many epochs as it needs.
    Use it in a Trainer with ``max_steps=data.steps``, ``accumulate_grad_batches=data.accumulate`` and
    ``use_distributed_sampler=False``.

    Args:
        sequences: the trajectories as tokens.
        weights: the weight of each in the loss, not negative. What weighs 0 or holds no token of the model is left out.
        settings: steps or epochs, and the token budgets.
        seed: decides the order.
        world_size: number of ranks.

    Attributes:
        steps: optimiser steps of the phase.
        accumulate: rows that each rank puts into one optimiser step.
        capacity: most tokens of a row.

    Raises:
        DataError: nothing is left to learn from, or a weight is negative.
    """

    def __init__(
        self,
        sequences: Sequence[TokenSequence],
        weights: Sequence[float],
        settings: LearningSettings,
        seed: int,
        *,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        pairs = list(zip(sequences, weights, strict=True))
        if any(weight < 0 for weight in weights):
            raise DataError("a trajectory has a negative weight in the loss: weights are 0 or more")
        pairs = [(sequence, weight) for sequence, weight in pairs if weight > 0 and any(sequence.mask[1:])]
        if not pairs:
            raise DataError("there is no trajectory to learn from: add expert trajectories or explore more tasks")
        self._sequences = [sequence for sequence, _ in pairs]
        self._weights = [weight for _, weight in pairs]
        self._lengths = [len(sequence) for sequence in self._sequences]
        self._labels = [sum(sequence.mask[1:]) for sequence in self._sequences]
        self._epochs = settings.epochs
        self._seed = seed
        self._world_size = world_size
        self.accumulate = math.ceil(settings.tokens_per_step / (world_size * settings.tokens_per_row))
        self.capacity = max(1, settings.tokens_per_step // (world_size * self.accumulate))
        self.steps = settings.steps if settings.steps is not None else sum(1 for _ in self._plan())

    @cached_property
    def tokens(self) -> int:
        """Tokens of the phase, over all ranks."""
        return sum(self._lengths[i] for rows in islice(self._plan(), self.steps) for row in rows for i in row)

    def train_dataloader(self) -> PackedLoader:
        """The rows of this rank."""
        rank = self.trainer.global_rank if self.trainer is not None else 0
        if self.trainer is not None and self.trainer.world_size != self._world_size:
            raise ValueError(f"made for {self._world_size} ranks, used with {self.trainer.world_size}")
        return self.loader(rank)

    def loader(self, rank: int = 0) -> PackedLoader:
        """The rows of one rank, without a Trainer."""
        return PackedLoader(lambda position: self._batches(rank, position), self.steps * self.accumulate)

    def _epoch(self, epoch: int) -> list[list[int]]:
        """The rows of one pass over the data."""
        rng = random.Random(f"{self._seed}/{epoch}")
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        windows = max(1, round(sum(self._lengths) / (WINDOW * self.capacity)))
        size = math.ceil(len(order) / windows)
        rows: list[list[int]] = []
        for start in range(0, len(order), size):
            window = order[start : start + size]
            packed = [[window[i] for i in row] for row in pack([self._lengths[i] for i in window], self.capacity)]
            rng.shuffle(packed)
            rows += packed
        return rows

    def _plan(self) -> Iterator[list[list[int]]]:
        """The rows of each optimiser step; without end where the phase is counted in steps."""
        per_step = self._world_size * self.accumulate
        waiting: list[list[int]] = []
        for epoch in count() if self._epochs is None else range(self._epochs):
            waiting += self._epoch(epoch)
            whole = len(waiting) - len(waiting) % per_step
            for start in range(0, whole, per_step):
                yield waiting[start : start + per_step]
            waiting = waiting[whole:]
        if waiting:
            yield waiting

    def _batches(self, rank: int, position: int) -> Iterator[PackedBatch]:
        """The batches of one rank from a position on."""
        micro = position % self.accumulate
        for rows in islice(self._plan(), position // self.accumulate, self.steps):
            indices = [i for row in rows for i in row]
            normalizer = math.fsum(self._weights[i] * self._labels[i] for i in indices)
            for slot in range(micro * self._world_size + rank, self.accumulate * self._world_size, self._world_size):
                # the last step of the last epoch may lack rows, but every rank must take part: with a row that weighs 0
                row, share = (rows[slot], 1.0) if slot < len(rows) else (rows[0], 0.0)
                yield lay_out(
                    [self._sequences[i] for i in row],
                    [self._weights[i] * share for i in row],
                    normalizer=normalizer,
                    step_labels=sum(self._labels[i] for i in indices),
                    step_tokens=sum(self._lengths[i] for i in indices),
                )
            micro = 0
