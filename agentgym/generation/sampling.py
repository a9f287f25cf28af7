"""How the next token is drawn, reproducibly whatever else is in the batch."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn from the model's distribution.

    The filters are applied in the order top-k, top-p, min-p, each to what the one before left, as transformers does.

    Attributes:
        temperature: logits are divided by this; 0 takes the most likely token (the filters then do nothing).
        top_p: only the fewest most likely tokens that together have this probability; 1 is off.
        top_k: only so many of the most likely tokens; 0 is off.
        min_p: only tokens at least this times as likely as the most likely one; 0 is off.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges; raises ValueError if a number is out of its range."""
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be a number from 0 on, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or positive, not {self.top_k}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, not {self.min_p}")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0


def random_numbers(*key: int | str, count: int) -> list[float]:
    """Random numbers from 0 to 1 (exclusive) that depend on nothing but `key`.

    One stream per answer, keyed by seed, task, sample and position, makes samples independent of the batch.

    Args:
        key: what names the stream, as in ``(seed, "textcraft_3", 0, 120)``.
        count: how many.
    """
    rng = random.Random("\0".join(map(str, key)))  # seeded with a hash of the whole text
    return [rng.random() for _ in range(count)]


def choose(logits_BV: Tensor, uniform_B: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draws one token per row, by looking up one random number in the cumulative distribution.

    Args:
        logits_BV: float32.
        uniform_B: one random number per row, from 0 to 1 (exclusive), float64; not needed if greedy.
        sampling: how.

    Returns:
        The tokens, shape (B,), and their log-probabilities, shape (B,), under the distribution they were drawn from:
        tempered, filtered and normalised again. That is the behaviour policy that importance ratios (as in PPO)
        need. Greedy choice is no draw; there it is the log-probability at temperature 1, unfiltered.
    """
    if sampling.greedy:
        log_probs_BV = logits_BV.log_softmax(-1)
        best = log_probs_BV.max(-1)
        return best.indices, best.values
    assert uniform_B is not None
    probs_BV = (logits_BV / sampling.temperature).softmax(-1)
    order_BV: Tensor | None = None
    if sampling.top_k or sampling.top_p < 1:
        probs_BV, order_BV = _most_likely(probs_BV, sampling)
    if sampling.min_p:
        probs_BV = probs_BV.masked_fill(probs_BV < sampling.min_p * probs_BV.amax(-1, keepdim=True), 0)
    cumulative_BV = probs_BV.cumsum(-1, dtype=torch.float64)  # float32 sums over 100k tokens drift by 1e-4
    total_B1 = cumulative_BV[:, -1:]
    found_B1 = torch.searchsorted(cumulative_BV, uniform_B[:, None] * total_B1, right=True)
    found_B1 = found_B1.clamp_(max=probs_BV.shape[1] - 1)
    log_probs_B = (probs_BV.gather(1, found_B1) / total_B1).log().squeeze(1)
    tokens_B1 = found_B1 if order_BV is None else order_BV.gather(1, found_B1)
    return tokens_B1.squeeze(1), log_probs_B.float()


def _most_likely(probs_BV: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Applies top-k, then top-p; returns the probabilities that stay, largest first, and whose they are."""
    if sampling.top_k:
        sorted_BK, order_BK = probs_BV.topk(min(sampling.top_k, probs_BV.shape[1]))
    else:
        sorted_BK, order_BK = probs_BV.sort(dim=-1, descending=True, stable=True)
    if sampling.top_p < 1:
        cumulative_BK = sorted_BK.cumsum(-1, dtype=torch.float64)
        before_BK = cumulative_BK - sorted_BK
        sorted_BK = sorted_BK.masked_fill(before_BK >= sampling.top_p * cumulative_BK[:, -1:], 0)
    return sorted_BK, order_BK
