"""Allowed ranges of numeric settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentgym.settings import (
    EndpointSettings,
    EnvironmentSettings,
    EvalSettings,
    EvolSettings,
    GenerationSettings,
    LearningSettings,
    LoraSettings,
    ModelSettings,
    PoolSettings,
    Recipe,
    TinySettings,
    TrainerSettings,
)
from agentgym.values import shown


@dataclass(frozen=True)
class _Range:
    low: float
    high: float = math.inf
    above: bool = False  # the low end itself is not allowed

    def holds(self, value: float) -> bool:
        finite = isinstance(value, int) or math.isfinite(value)
        return finite and (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "a finite number"
        low = f"greater than {self.low:g}" if self.above else f"at least {self.low:g}"
        return low if math.isinf(self.high) else f"{low} and at most {self.high}"


_MANY = 10**9  # more than anything here can be, and no more than any library takes
_ONE = _Range(1, _MANY)
_ZERO = _Range(0, _MANY)
_FINITE = _Range(-math.inf)
_POSITIVE = _Range(0, above=True)
_SHARE = _Range(0, 1)

_RANGES: Mapping[type, Mapping[str, _Range]] = {
    Recipe: {"seed": _Range(0, 2**63 - 1)},
    ModelSettings: {"context": _ONE},
    EndpointSettings: {"concurrency": _ONE, "seconds": _POSITIVE, "retries": _ZERO},
    TinySettings: {
        "hidden": _ONE,
        "layers": _ONE,
        "heads": _ONE,
        "kv_heads": _ONE,
        "intermediate": _ONE,
        "vocabulary": _Range(300, _MANY),  # 256 bytes, the control tokens and some merges
    },
    LoraSettings: {"rank": _ONE, "alpha": _ONE, "dropout": _SHARE},
    EnvironmentSettings: {
        "expert": _ZERO,
        "explore": _ZERO,
        "eval": _ZERO,
        "max_turns": _ONE,
        "keep_above": _FINITE,
        "cap": _ONE,
        "processes": _ZERO,
    },
    LearningSettings: {
        "steps": _ONE,
        "epochs": _ONE,
        "tokens_per_step": _ONE,
        "tokens_per_row": _ONE,
        "lr": _POSITIVE,
        "weight_decay": _ZERO,
        "warmup": _SHARE,
        "clip": _POSITIVE,
    },
    EvolSettings: {
        "iterations": _ZERO,
        "samples": _ONE,
        "temperature": _ZERO,
        "top_p": _Range(0, 1, above=True),
        "top_k": _ZERO,
        "min_p": _SHARE,
    },
    EvalSettings: {"samples": _ONE, "limit": _ONE},
    GenerationSettings: {"max_tokens": _ONE, "batch": _ONE},
    PoolSettings: {
        "sessions": _ONE,
        "workers": _ONE,
        "step_seconds": _POSITIVE,
        "policy_seconds": _POSITIVE,
        "episode_seconds": _POSITIVE,
    },
    TrainerSettings: {"devices": _ONE, "num_nodes": _ONE, "checkpoint_every": _ONE, "threads": _ONE},
}


def out_of_range(section: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Walks all sections of a recipe; yields the dotted key of each number that may not be, and what is wrong."""
    ranges = _RANGES.get(type(section), {})
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        path = f"{key}{field.name}"
        if field.name in ranges and value is not None and not ranges[field.name].holds(value):
            yield path, f"{shown(path, value)} is out of range: it must be {ranges[field.name]}"
        elif dataclasses.is_dataclass(value):
            yield from out_of_range(value, f"{path}.")
        elif isinstance(value, dict):
            for name, item in value.items():
                if dataclasses.is_dataclass(item):
                    yield from out_of_range(item, f"{path}.{name}.")
