"""What can be wrong with the environments of a recipe: their names, options, settings, tasks and panel."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from agentgym.errors import Complaint, DataError
from agentgym.modelserver.complaints import VARIABLE
from agentgym.numbering import card_of, plays_original, spec_of
from agentgym.panel import load_panel
from agentgym.settings import EnvironmentSettings, Place, Recipe
from envpool import EnvPoolError, EnvSpec, Split, UnknownEnvironment, using
from envpool.direct import directly
from envpool.errors import did_you_mean
from envpool.imports import import_modules
from envpool.options import OptionError
from envpool.places.endpoint import Endpoint
from envpool.places.inline import Inline

COUNTS = {Split.TRAIN: "expert", Split.EXPLORE: "explore", Split.EVAL: "eval"}
"""Which setting of an environment says how many tasks of a split are used."""


def endpoint_of(address: str, settings: EnvironmentSettings) -> Endpoint:
    """The endpoint of an address in a recipe."""
    return Endpoint(address, token=settings.token, headers=settings.headers)


def complaints_about_imports(modules: list[str]) -> Iterator[Complaint]:
    """Imports them, for they may register the environments that the recipe names."""
    for module in modules:
        try:
            import_modules([module])
        except EnvPoolError as error:
            yield Complaint("imports", str(error))


def complaints_about_environments(recipe: Recipe) -> Iterator[Complaint]:
    """What is wrong with the environments of a recipe and their settings."""
    if not recipe.environments:
        yield Complaint(
            "environments", "there is none: add one, as in `NAME: {eval: 100}` (`agentgym envs` lists them)"
        )
    for name, settings in recipe.environments.items():
        key = f"environments.{name}"
        try:
            spec = spec_of(recipe, name)
            if spec.served and not settings.endpoints:
                text = f"{name} runs behind a server only: give its address, as in [http://127.0.0.1:36001]"
                yield Complaint(f"{key}.endpoints", text)
            elif spec.extra is not None and (settings.expert or not settings.endpoints):
                with directly(spec):
                    pass  # it can be built: that is all
            if settings.place == Place.inline and not settings.endpoints:
                Inline(spec).close()  # which tells what cannot live there
        except OptionError as error:
            for option, text in error.complaints:
                yield Complaint(f"{key}.options.{option}" if option else f"{key}.options", text)
            continue
        except EnvPoolError as error:
            yield Complaint(key, str(error), ["imports"] if isinstance(error, UnknownEnvironment) else [])
            continue
        yield from _environment(key, spec, settings, card_of(recipe, name))


def _environment(key: str, spec: EnvSpec, settings: EnvironmentSettings, played: EnvSpec) -> Iterator[Complaint]:
    """What is wrong with the settings of an environment: `spec` is its card, `played` that of the tasks played."""
    for address in settings.endpoints:
        try:
            Endpoint(address).check()
        except EnvPoolError as error:
            secret = "@" in address or "?" in address  # perhaps, and then it is not repeated
            text = "an address must hold no secret: write http://host:port, and name a variable in `token`"
            yield Complaint(f"{key}.endpoints", text if secret and address in str(error) else str(error))
    for name, variable in {"token": settings.token, **_headers(settings)}.items():
        if variable is not None and not VARIABLE.fullmatch(variable):
            text = "write the name of the environment variable that holds it, as in ENVIRONMENT_TOKEN"
            yield Complaint(f"{key}.{name}", text)
    if settings.endpoints and settings.processes:
        yield Complaint(f"{key}.processes", "endpoints are given as well: keep one of the two")
    if settings.endpoints and settings.place is not None:
        yield Complaint(f"{key}.place", "endpoints are given as well: keep one of the two")
    if settings.processes and settings.place not in (None, Place.process):
        yield Complaint(f"{key}.processes", f"place is {settings.place}: set it to process, or leave one of them out")
    if settings.keep_sessions and not settings.endpoints:
        yield Complaint(
            f"{key}.keep_sessions", "only sessions of servers can be kept: give `endpoints`, or leave it out"
        )
    if settings.expert and spec.expert is None:
        yield Complaint(f"{key}.expert", f"{spec.name} has no expert: set it to 0, and name trajectory files in `data`")
    if settings.keep_above is not None and settings.keep_above >= spec.score_range[1]:
        text = (
            f"no score of {spec.name} is greater than {settings.keep_above:g} (they go up to {spec.score_range[1]:g})"
        )
        yield Complaint(f"{key}.keep_above", text)
    if settings.original and not settings.endpoints:
        text = "there are no endpoints, and here nothing is played by original numbers: give endpoints, or leave it out"
        yield Complaint(f"{key}.original", text, [f"{key}.endpoints"])
    if settings.where and played.version != spec.version:
        text = f"nothing is known of the original server's tasks ({spec.renumbered}): leave it out"
        yield Complaint(f"{key}.where", f"{text}, or play on `envpool serve {spec.name}`")
        return
    facts = spec.facts(next(index for split in Split for index in spec.tasks(split)))
    for fact in settings.where:
        if fact not in facts:
            known = ", ".join(facts) or "none"
            text = f"{spec.name} tasks have no fact {fact!r}{did_you_mean(fact, facts)} (they have: {known})"
            yield Complaint(f"{key}.where.{fact}", text)
    if settings.where.keys() <= facts.keys():
        for split, count in COUNTS.items():
            drawn = spec if split == Split.TRAIN else played
            yield from _count(f"{key}.{count}", drawn, split, getattr(settings, count), settings.where)


def _headers(settings: EnvironmentSettings) -> dict[str, str]:
    return {f"headers.{header}": variable for header, variable in settings.headers.items()}


def _count(key: str, spec: EnvSpec, split: Split, wanted: int, where: Mapping[str, list[Any]]) -> Iterator[Complaint]:
    """Stops at the first `wanted` tasks that match: to look at the facts of all would take seconds."""
    matching = (index for index in spec.tasks(split) if _matches(spec.facts(index), where))
    found = sum(1 for _ in itertools.islice(matching, min(max(wanted, 0), sys.maxsize)))
    if found < wanted:
        that = " that match `where`" if where else ""
        yield Complaint(key, f"{spec.name} has {found} tasks in split {str(split)!r}{that}, fewer than {wanted}")


def _matches(facts: Mapping[str, int | str], where: Mapping[str, list[Any]]) -> bool:
    return all(facts[fact] in allowed for fact, allowed in where.items())


def complaints_about_panel(recipe: Recipe) -> Iterator[Complaint]:
    """What keeps the tasks of a recipe's panel from being measured."""
    if recipe.panel is None:
        return
    try:
        panel = load_panel(recipe.panel)
    except DataError as error:
        yield Complaint("panel", str(error))
        return
    for name, settings in recipe.environments.items():
        if settings.eval:
            text = f"the panel {recipe.panel} says which tasks are measured: leave it out, or leave out `panel`"
            yield Complaint(f"environments.{name}.eval", text)
        try:
            with using([spec_of(recipe, name)]):
                panel.tasks(name, served=bool(settings.endpoints))
            if plays_original(recipe, name) and panel.environments[name].version is not None:
                text = f"the panel {recipe.panel} pins tasks of ours, not of original servers: leave out one of the two"
                yield Complaint(f"environments.{name}.original", text)
        except DataError as error:
            yield Complaint(f"environments.{name}", str(error))
        except EnvPoolError:
            continue  # an unknown environment, or one with wrong options, has its complaint already
