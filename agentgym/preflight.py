"""What a command needs of a recipe and of this machine before it begins, besides a recipe without mistakes.

Servers are tried; torch is imported only to look for a device that the recipe names.
"""

from __future__ import annotations

import dataclasses
import itertools
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from agentgym.checks import PLAYERS, is_local, learns, refuse
from agentgym.devices import device_count, on_gpu
from agentgym.environmentchecks import COUNTS, endpoint_of
from agentgym.errors import Complaint
from agentgym.modelserver import complaints_before_playing
from agentgym.numbering import plays_original, spec_of
from agentgym.settings import EnvironmentSettings, Place, Recipe, TrainerSettings
from envpool import EnvPoolError, Split
from envpool.native import NAME as NATIVE

CONNECT_SECONDS = 5.0
"""How long a server may take to answer when a run begins."""


def check_fit(recipe: Recipe) -> None:
    """Checks what only `fit` needs of a recipe.

    Raises:
        RecipeError: with all complaints.
    """
    complaints = [*_reachable(recipe), *_device(recipe.trainer), *_workers(recipe)]
    if recipe.trainer.devices * recipe.trainer.num_nodes > 1 and recipe.pool.workers > 1:
        text = "with several devices every process of the run plays its share by itself: set pool.workers=1"
        complaints.append(Complaint("pool.workers", text))
    if recipe.model.name in PLAYERS:
        complaints.append(
            Complaint("model.name", f"{recipe.model.name!r} cannot learn: name a model, or use `agentgym eval`")
        )
    if recipe.model.endpoint is not None:
        text = "a model behind a server cannot learn: leave it out to train a model here, or use `agentgym eval`"
        complaints.append(Complaint("model.endpoint", text))
    if not learns(recipe):
        complaints.append(Complaint("", "nothing to learn from: set environments.NAME.expert or data"))
    if recipe.evol.iterations and not any(e.explore for e in recipe.environments.values()):
        complaints.append(Complaint("", "nothing to explore: set environments.NAME.explore, or evol.iterations=0"))
    refuse(complaints)


def check_play(recipe: Recipe, split: Split) -> None:
    """Checks what playing the tasks of a split needs of a recipe (`eval`, `collect`).

    Raises:
        RecipeError: with all complaints.
    """
    players = players_of(recipe) if split == Split.EVAL else [recipe.model.name]
    local = any(is_local(recipe, player) for player in players)
    complaints = [*_reachable(recipe), *(_workers(recipe) if local else ())]
    count = COUNTS[split]
    pinned = split == Split.EVAL and recipe.panel is not None
    if not pinned and not any(getattr(e, count) for e in recipe.environments.values()):
        complaints.append(Complaint("", f"no task to play: set environments.NAME.{count}"))
    model = recipe.model
    if model.endpoint is not None and model.name not in PLAYERS and not complaints:
        evol = recipe.evol
        greedy = split == Split.EVAL and recipe.eval.samples == 1
        request: dict[str, Any] = {
            "temperature": 0.0 if greedy else evol.temperature,
            "top_p": 1.0 if greedy else evol.top_p,
            "top_k": 0 if greedy else evol.top_k,
            "min_p": 0.0 if greedy else evol.min_p,
            "max_tokens": recipe.generation.max_tokens,
            "seed": recipe.seed % 2**31,
        }
        if recipe.format == NATIVE and not model.endpoint.tokens:
            request["tools"] = [{"type": "function", "function": {"name": "answer", "parameters": {"type": "object"}}}]
        found = complaints_before_playing(model.endpoint, model.name, model.context, request)
        complaints.extend(itertools.starmap(Complaint, found))
    refuse(complaints)


def players_of(recipe: Recipe) -> list[str]:
    """Whom `agentgym eval` measures."""
    return recipe.eval.players or [recipe.model.name]


def check_eval(recipe: Recipe) -> None:
    """Checks what `agentgym eval` needs of a recipe.

    Raises:
        RecipeError: with all complaints.
    """
    players = players_of(recipe)
    if recipe.model.name not in players:  # then nobody plays behind the model's endpoint
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, endpoint=None))
    check_play(recipe, Split.EVAL)
    complaints = [text for player in players for text in _player(player, recipe)]
    refuse([Complaint("eval.players" if recipe.eval.players else "model.name", text) for text in complaints])


def _player(player: str, recipe: Recipe) -> Iterator[str]:
    """What keeps a player from being measured."""
    if player == "tiny":
        yield "`tiny` is built by `agentgym fit`: name the folder of its model, as in runs/agentevol/it004/model"
    if player != "expert":
        return
    for name, settings in recipe.environments.items():
        if recipe.panel is None and not settings.eval:
            continue
        if spec_of(recipe, name).expert is None:
            yield f"{name} has no expert: leave the player or the environment out"
        elif settings.endpoints or settings.processes or settings.place == Place.process:
            yield f"the expert of {name} plays in this process only: set endpoints=[] and place=thread for it"


def _device(trainer: TrainerSettings) -> Iterator[Complaint]:
    """Whether this machine has what should learn; torch is imported only where that is asked for by name."""
    if trainer.accelerator in ("gpu", "cuda", "mps"):
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(trainer.accelerator, any(there.values())):
            text = f"this machine has no {trainer.accelerator} that torch can use: set trainer.accelerator=auto, or cpu"
            yield Complaint("trainer.accelerator", text)
            return
    if trainer.offload and not on_gpu(trainer):
        yield Complaint("trainer.offload", "models live in the CPU's memory already: set trainer.offload=false")


def _workers(recipe: Recipe) -> Iterator[Complaint]:
    """Whether each process that plays has a GPU of its own, and whether graphs can be recorded."""
    workers, graphs = recipe.pool.workers, recipe.generation.graphs
    if workers == 1 and not graphs:
        return  # without torch
    if not on_gpu(recipe.trainer):
        if graphs:
            yield Complaint("generation.graphs", "only GPUs (CUDA) record graphs: leave it out")
        return
    cards = device_count()
    if workers > cards and recipe.trainer.devices == 1:
        here = "1 GPU" if cards == 1 else f"{cards} GPUs"
        text = f"each of {workers} workers would hold a model of its own, and there is {here}: set pool.workers={cards}"
        yield Complaint("pool.workers", text)


def _reachable(recipe: Recipe) -> Iterator[Complaint]:
    """What playing needs of this machine beyond a valid recipe."""
    for name, settings in recipe.environments.items():
        try:
            for address in settings.endpoints:
                endpoint_of(address, settings).secrets()
        except EnvPoolError as error:
            yield Complaint(f"environments.{name}", str(error))
        silent = [why for address in settings.endpoints if (why := _silence(address))]
        if silent and len(silent) == len(settings.endpoints):
            text = f"no server answers ({'; '.join(silent)}): start it, as in `envpool serve {name} --port 36001`"
            yield Complaint(f"environments.{name}.endpoints", text)
        elif not silent:
            yield from _whose(recipe, name)


def _whose(recipe: Recipe, name: str) -> Iterator[Complaint]:
    """Whether servers whose numbers may be others than ours are those that the recipe says."""
    settings, spec = recipe.environments[name], spec_of(recipe, name)
    original, key = plays_original(recipe, name), f"environments.{name}.original"
    for address in settings.endpoints if spec.renumbered or spec.options is not None else ():
        known = _info(address, settings)
        ours = None if known is None else known.get("server") == "envpool"
        if ours and known and known.get("version", spec.version) != spec.version and not original:
            text = f"{address} serves version {known['version']} of {name}, and the recipe plays version {spec.version}"
            yield Complaint(f"environments.{name}.endpoints", f"{text}: give both the same options and data")
        elif spec.renumbered is None:
            continue
        elif ours and original:
            text = f"{address} is a server of envpool's, whose tasks have our numbers: leave it out"
            yield Complaint(key, f"{text}, and use a panel of ours" if not settings.original else text)
        elif ours is False and not original:
            text = f"{address} is no server of envpool's: its tasks have other numbers ({spec.renumbered})"
            yield Complaint(key, f"{text}; set {key}=true")


def _info(address: str, settings: EnvironmentSettings) -> Mapping[str, Any] | None:
    """Asks a server what it is; nothing is known of one that is not envpool's, and None is one that does not say."""
    try:
        headers = endpoint_of(address, settings).secrets()
        answer = httpx.get(f"{address.rstrip('/')}/info", headers=headers, timeout=CONNECT_SECONDS, trust_env=False)
        if answer.status_code == 404:
            return {}
        known = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, EnvPoolError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _silence(address: str) -> str | None:
    """Why nothing answers at an address; None if something does."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return None
