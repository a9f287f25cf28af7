"""Behavioural cloning."""

from __future__ import annotations

from torch import Tensor

from agentgym.data.packing import PackedBatch
from agentgym.modules.base import AgentModule


class BehavioralCloning(AgentModule):
    """Imitates every trajectory alike, whatever its weight.

    Maximises ``J_BC(theta) = E_{(e, u, tau) ~ D_s} [log pi_theta(tau | e, u)]`` over the expert set ``D_s`` (AgentGym,
    arXiv 2406.04151, section 4.1), where ``log pi_theta(tau | e, u)`` is the sum of the log-probabilities of the
    thoughts and actions in ``tau``; observations are given, not learned. The expectation is taken per token: the loss
    is the mean negative log-likelihood, in nats, of the tokens that the expert wrote.
    """

    def weigh(self, batch: PackedBatch) -> tuple[Tensor, float]:
        """Every label weighs 1; what weighs 0 only fills up a step."""
        return (batch.weights > 0).to(batch.weights.dtype), float(batch.step_labels)
