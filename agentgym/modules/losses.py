"""Losses on labelled tokens. N: labels of a row; V: vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def token_nll(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """The negative log-likelihood of each label in nats, computed in float32.

    Args:
        logits_NV: shape (N, V).
        labels_N: shape (N,).

    Returns:
        Shape (N,).
    """
    return cross_entropy(logits_NV.float(), labels_N, reduction="none")


def weighted_nll(logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, normalizer: float) -> Tensor:
    """A row's part of ``sum(weight * nll) / sum(weight)``; the parts of an optimiser step add up to its loss.

    Args:
        logits_NV: shape (N, V).
        labels_N: shape (N,).
        weights_N: shape (N,).
        normalizer: sum of the weights over the whole optimiser step.
    """
    return torch.dot(token_nll(logits_NV, labels_N), weights_N) / normalizer
