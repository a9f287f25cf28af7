"""A LightningModule of your own: AgentEvol with a focal loss, which looks away from tokens the model is sure of.

Name it in a recipe by its import path; everything else stays as it is. In this folder:
``agentgym fit ../recipes/agentevol.yaml name=focal module=custom_module.FocalEvol``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agentgym.modules import AgentEvol


class FocalEvol(AgentEvol):
    """Weighs each token by ``(1 - p) ** gamma``, where p is its probability (focal loss, arXiv 1708.02002)."""

    gamma = 1.0

    def loss(self, logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, normalizer: float) -> Tensor:
        """The one method to override; see `AgentModule.loss` for the shapes."""
        nll_N = F.cross_entropy(logits_NV.float(), labels_N, reduction="none")
        focus_N = (1 - torch.exp(-nll_N)) ** self.gamma
        return (weights_N * focus_N * nll_N).sum() / normalizer
