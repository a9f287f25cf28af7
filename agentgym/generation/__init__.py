"""Text generation.

local.py      LocalPolicy: a model in this process as an envpool policy
engine.py     Engine: many conversations in one batch, keys and values kept between turns
slots.py      SlotCache and the attention that reads it
sampling.py   Sampling: how a token is drawn
"""

from agentgym.generation.engine import Engine, Request, Slot
from agentgym.generation.local import LocalPolicy
from agentgym.generation.sampling import Sampling

__all__ = ["Engine", "LocalPolicy", "Request", "Sampling", "Slot"]
