"""What learns. Subclass `AgentModule` and override `loss` for a method of your own.

base.py       AgentModule: a language model, its optimiser, one training step, export
bc.py         BehavioralCloning: every trajectory counts the same
agentevol.py  AgentEvol: a trajectory counts by its reward
losses.py     the loss on labelled tokens
optim.py      AdamW, Muon with AdamW, the learning-rate schedule
"""

from agentgym.modules.agentevol import AgentEvol
from agentgym.modules.base import AgentModule
from agentgym.modules.bc import BehavioralCloning

__all__ = ["AgentEvol", "AgentModule", "BehavioralCloning"]
