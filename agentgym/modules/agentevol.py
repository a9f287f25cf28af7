"""The learning step of AgentEvol."""

from __future__ import annotations

from agentgym.modules.base import AgentModule


class AgentEvol(AgentModule):
    """Learns from explored trajectories and the expert set, each weighted by its reward.

    Maximises ``J_Evol(theta) = E_{(e, u, tau) ~ D_m} [r(e, u, tau) log pi_theta(tau | e, u)]`` (AgentGym, arXiv
    2406.04151, section 4.2): the M-step of reinforcement learning as inference, where ``D_m`` holds what the policy
    of iteration ``m`` sampled together with the expert set, and ``r`` is 0 or 1, or a score between them. As in
    `BehavioralCloning`, the expectation is taken per token: with ``w_t`` the reward of the trajectory that token ``t``
    belongs to, the loss is ``sum(w_t * nll_t) / sum(w_t)`` over the optimiser step.
    """
