"""Text generation.

local.py      LocalPolicy: a model in this process as an envpool policy
remote.py     RemotePolicy: a model behind a server as one
messages.py   what a server's message says: text, thoughts, calls of tools
engine.py     Engine: many conversations in one batch, keys and values kept between turns
slots.py      SlotCache: a row of keys and values per conversation
attention.py  the attention that reads them
graphs.py     StepGraphs: steps recorded as CUDA graphs
sampling.py   Sampling: how a token is drawn

The policies are imported when they are first used: they need trio and more, where an engine needs only torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agentgym.generation.engine import Engine, Request
from agentgym.generation.sampling import Sampling
from agentgym.generation.slots import Slot

if TYPE_CHECKING:
    from agentgym.generation.local import LocalPolicy
    from agentgym.generation.remote import RemotePolicy

__all__ = ["Engine", "LocalPolicy", "RemotePolicy", "Request", "Sampling", "Slot"]

_ROOMS = {"LocalPolicy": "agentgym.generation.local", "RemotePolicy": "agentgym.generation.remote"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(_ROOMS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
