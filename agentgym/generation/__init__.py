"""Text generation.

local.py      LocalPolicy: a model in this process as an envpool policy
engine.py     Engine: many conversations in one batch, keys and values kept between turns
slots.py      SlotCache: a row of keys and values per conversation
attention.py  the attention that reads them
sampling.py   Sampling: how a token is drawn
"""

from agentgym.generation.engine import Engine, Request
from agentgym.generation.local import LocalPolicy
from agentgym.generation.sampling import Sampling
from agentgym.generation.slots import Slot

__all__ = ["Engine", "LocalPolicy", "Request", "Sampling", "Slot"]
