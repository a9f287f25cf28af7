"""Teaches a language model to act in many text environments, on PyTorch Lightning.

    cli            the commands; catalogue: what `agentgym envs` shows; traj: trajectory files
    recipe         YAML and overrides to a checked Recipe; settings: its schema; checks: what can be wrong;
                   modulefinder: what a module offers, without importing it
    fit            the method on one page; evaluate: playing without learning; compare: runs against each other
    workers        processes that play and learn beside the main one
    learn, play    the two kinds of work; selection: what exploration is learned from; runfolder: what lies where
    models         a model and its tokenizer; codecs: through which codec it speaks; LoRA;
                   strategies: training on several devices; manner: how it was taught
    data/          codec (turns to tokens and back), packing, datamodule, store (Parquet)
    modules/       the LightningModules that learn: AgentModule and what is made of it
    generation/    a policy that is a model in this process: engine, sampling
    evaluation/    the benchmark, its statistics, its report
    tracking       Weights & Biases; progress: what the terminal shows
    curve          loss and gradient norm of a learning phase; events: how long the parts of a run took
    errors         everything raised on purpose

envpool plays the environments; the two meet at `envpool.Policy`. Names below are imported when they are first
used, so that `import agentgym` costs nothing and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentgym.data.codec import Codec
    from agentgym.data.transcript import TokenSequence
    from agentgym.errors import AgentGymError, DataError, ModelError, NothingFinished, RecipeError, RunError
    from agentgym.fit import fit
    from agentgym.generation import LocalPolicy, Sampling
    from agentgym.models import load_model, load_tokenizer
    from agentgym.modules import AgentEvol, AgentModule, BehavioralCloning
    from agentgym.recipe import load_recipe, save_recipe
    from agentgym.settings import Recipe

__all__ = [
    "AgentEvol",
    "AgentGymError",
    "AgentModule",
    "BehavioralCloning",
    "Codec",
    "DataError",
    "LocalPolicy",
    "ModelError",
    "NothingFinished",
    "Recipe",
    "RecipeError",
    "RunError",
    "Sampling",
    "TokenSequence",
    "fit",
    "load_model",
    "load_recipe",
    "load_tokenizer",
    "save_recipe",
]

_ROOMS = {
    "agentgym.data.codec": ("Codec",),
    "agentgym.data.transcript": ("TokenSequence",),
    "agentgym.errors": ("AgentGymError", "DataError", "ModelError", "NothingFinished", "RecipeError", "RunError"),
    "agentgym.generation": ("LocalPolicy", "Sampling"),
    "agentgym.models": ("load_model", "load_tokenizer"),
    "agentgym.modules": ("AgentEvol", "AgentModule", "BehavioralCloning"),
    "agentgym.recipe": ("load_recipe", "save_recipe"),
    "agentgym.settings": ("Recipe",),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:  # a module that can be called: agentgym.fit(recipe)
        return importlib.import_module(f"agentgym.{name}")
    raise AttributeError(f"module 'agentgym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
