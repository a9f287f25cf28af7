"""Decoding steps of a few fixed shapes, each recorded once as a CUDA graph and then replayed.

A step of a small model takes a GPU far less time than Python takes to start its kernels one by one. A graph starts
them all at once, but only for the very shapes and memory that it was recorded with: batches are filled up to a
multiple of `ROWS` rows, keys to a multiple of `KEYS`. What the rows that only fill up write goes into a row of the
cache that belongs to nobody.

On a CPU the same steps are computed without a graph, which is of use to tests only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agentgym.generation.attention import Window
from agentgym.generation.slots import SlotCache

ROWS = 16
"""The number of rows of a recorded step is a multiple of this, or all rows of the cache."""

KEYS = 256
"""The number of keys of a recorded step is a multiple of this, or the capacity of the cache."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A recorded step: fill in the inputs, replay, read the logits.

    Attributes:
        inputs: tokens, positions and rows, shape (3, B).
        replay: computes the step; returns logits, shape (B, V).
    """

    inputs: Tensor
    replay: Callable[[], Tensor]


class StepGraphs:
    """The recorded steps of one model and one cache.

    Args:
        cache: where keys and values lie; it has a spare row.
        forward: computes the model on tokens of shape (B, 1) and a window; returns the model's output.
        device: the model's device.
    """

    def __init__(self, cache: SlotCache, forward: Callable[[Tensor, Window], Any], device: torch.device) -> None:
        self._cache = cache
        self._forward = forward
        self._device = device
        self._steps: dict[tuple[int, int], _Step] = {}
        self._version = -1
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def logits(self, tokens: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Makes a step of the conversations in the first rows of the cache.

        Args:
            tokens: the latest token of each.
            starts: how many tokens each row holds before the step; there is room for one more.

        Returns:
            Shape (B, V). They are overwritten by the next call.
        """
        if self._version != self._cache.version:  # the recorded ones work on memory that was given back
            self._steps.clear()
            self._version = self._cache.version
        spare = self._cache.rows
        rows = min(_up(len(tokens), ROWS), spare + 1)
        keys = min(_up(max(starts) + 1, KEYS), self._cache.capacity)
        if (rows, keys) not in self._steps:
            self._steps[rows, keys] = self._record(rows, keys)
        step = self._steps[rows, keys]
        filling = rows - len(tokens)
        filled = [[*tokens, *[0] * filling], [*starts, *[0] * filling], [*range(len(tokens)), *[spare] * filling]]
        step.inputs.copy_(torch.tensor(filled))
        return step.replay()[: len(tokens)]

    def _record(self, rows: int, keys: int) -> _Step:
        inputs = torch.tensor([[0] * rows, [0] * rows, [self._cache.rows] * rows], device=self._device)

        def forward() -> Tensor:
            window = Window(inputs[2], inputs[1], 1, fresh=False, longest=keys, read=rows)
            logits_BV: Tensor = self._forward(inputs[0][:, None], window).logits[:, -1]
            return logits_BV

        return _Step(inputs, forward if self._pool is None else self._captured(forward))

    def _captured(self, forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):  # what happens once only must not be recorded
            for _ in range(2):
                forward()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits_BV = forward()

        def replay() -> Tensor:
            graph.replay()
            return logits_BV

        return replay


def _up(number: int, grain: int) -> int:
    return -(-number // grain) * grain
