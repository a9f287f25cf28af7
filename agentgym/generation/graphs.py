"""Decoding steps of a few fixed shapes, each recorded once as a CUDA graph and then replayed.

A step of a small model takes a GPU far less time than Python takes to start its kernels one by one. A graph starts
them all at once, but only for the very shapes and memory that it was recorded with: batches are filled up to a
multiple of `ROWS` rows, keys to a multiple of `KEYS`. What the rows that only fill up write goes into a row of the
cache that belongs to nobody.

A graph that recorded nothing gives old logits for ever, without an error. So the first replay of each is compared with
the same step computed without it.

On a CPU the same steps are computed without a graph, which is of use to tests only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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

TOLERANCE = 0.02
"""How far the first replay may be off, as a share of the largest logit. The kernels and numbers are the same, so that
a graph that works should be off by nothing or by rounding; one that recorded nothing is off by far."""

SHARE = 0.9
"""How much of the free memory keys and values may take; the rest is for activations."""

Compute = Callable[[], Tensor]
"""Computes a step from its inputs; returns logits, shape (B, V)."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A recorded step: fill in the inputs, replay, read the logits.

    Attributes:
        inputs: tokens, positions and rows, shape (3, B).
        compute: the step without a graph.
        replay: the step by its graph.
    """

    inputs: Tensor
    compute: Compute
    replay: Compute


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
        self._capture: Callable[[Compute], Compute] | None = Capture(device) if device.type == "cuda" else None

    def logits(self, tokens: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Makes a step of the conversations in the first rows of the cache.

        Args:
            tokens: the latest token of each.
            starts: how many tokens each row holds before the step; there is room for one more.

        Returns:
            Shape (B, V). They are overwritten by the next call.

        Raises:
            RuntimeError: the step cannot be recorded, or its graph does not compute it.
        """
        if self._version != self._cache.version:  # the recorded ones work on memory that was given back
            self._steps.clear()
            self._version = self._cache.version
        spare = self._cache.rows
        rows = min(_up(len(tokens), ROWS), spare + 1)
        keys = min(_up(max(starts) + 1, KEYS), self._cache.capacity)
        step = self._steps.get((rows, keys))
        fresh = step is None
        if step is None:
            step = self._steps[rows, keys] = self._record(rows, keys)
        filling = rows - len(tokens)
        filled = [[*tokens, *[0] * filling], [*starts, *[0] * filling], [*range(len(tokens)), *[spare] * filling]]
        step.inputs.copy_(torch.tensor(filled))
        if fresh and self._capture is not None:
            _compare(step, len(tokens))
        return step.replay()[: len(tokens)]

    def _record(self, rows: int, keys: int) -> _Step:
        inputs = torch.tensor([[0] * rows, [0] * rows, [self._cache.rows] * rows], device=self._device)

        def compute() -> Tensor:
            window = Window(inputs[2], inputs[1], 1, fresh=False, longest=keys, read=rows)
            logits_BV: Tensor = self._forward(inputs[0][:, None], window).logits[:, -1]
            return logits_BV

        return _Step(inputs, compute, compute if self._capture is None else self._capture(compute))


def _compare(step: _Step, rows: int) -> None:
    """Makes sure that a graph computes its step from inputs that it was not recorded with.

    Raises:
        RuntimeError: it does not.
    """
    expected_BV = step.compute()[:rows]
    replayed_BV = step.replay()[:rows]
    if not torch.allclose(replayed_BV, expected_BV, rtol=0.0, atol=TOLERANCE * float(expected_BV.abs().max())):
        raise RuntimeError("its first replay gives other logits than the step that was recorded")


class Capture:
    """Records what a function computes on a CUDA device as a graph, and returns a function that replays it.

    Args:
        device: where the function computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # graphs share the pool by it

    def __call__(self, compute: Compute) -> Compute:
        """Records a function; what it reads and writes has to stay where it is."""
        side, present = self._stream, torch.cuda.current_stream(self._device)
        with current(self._device):  # a thread begins on device 0, and kernels of another one would not be recorded
            side.wait_stream(present)
            with torch.cuda.stream(side):  # what happens once only must not be recorded
                for _ in range(2):
                    compute()
            present.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=side):
                logits_BV = compute()

        def replay() -> Tensor:
            graph.replay()
            return logits_BV

        return replay


def current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one of this thread while the block runs; does nothing for others."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def free_bytes(device: torch.device) -> float:
    """How much memory of a CUDA device keys and values may take; without end on others."""
    if device.type != "cuda":
        return math.inf
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes
    return SHARE * (torch.cuda.mem_get_info(device)[0] + kept)


def _up(number: int, grain: int) -> int:
    return -(-number // grain) * grain
