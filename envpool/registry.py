"""Which environments there are: those of `envpool.envs`, of installed packages, and those that a module registers.

Every folder of `envpool/envs` is an environment, whose card is `SPEC` in its module ``spec``. An installed package
brings one by an entry point of the group ``agentgym.environments`` that names a card, as in
``my_env = "my_package.spec:SPEC"``.

A task names its environment, and a name means the card with the default options. For other options there are cards of
their own (`EnvSpec.with_options`): within `using` their names mean these, and a pool may be given them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata, resources
from types import ModuleType
from typing import Any

from envpool.errors import EnvPoolError, UnknownEnvironment, did_you_mean, hint_of
from envpool.guard import in_one_line
from envpool.options import parse_words, read_options
from envpool.spec import EnvSpec

GROUP = "agentgym.environments"
"""The group of entry points by which installed packages bring environments."""

CARD = "SPEC"
"""What a module of an environment calls its card."""

_registered: dict[str, EnvSpec] = {}
_modules: dict[str, str] = {}
"""The module that a process imports so that a registered environment is known, by its name."""

_in_use: ContextVar[Mapping[str, EnvSpec]] = ContextVar("_in_use", default={})  # noqa: B039 - it is never changed


def register(spec: EnvSpec, *, module: str | None = None) -> EnvSpec:
    """Makes an environment known under its name in this process, and returns its card.

    A module that is named by `imports` need not call it if its card is called ``SPEC``.

    Args:
        spec: the card.
        module: what another process imports to know it; if None, the module that calls this.

    Raises:
        EnvPoolError: the name is taken by another environment.
    """
    if is_installed(spec.name) or _registered.get(spec.name, spec) is not spec:
        raise EnvPoolError(f"the environment name {spec.name!r} is taken: give yours another name")
    if spec.name not in _registered:
        _registered[spec.name] = spec
        _modules[spec.name] = module or str(sys._getframe(1).f_globals.get("__name__", "__main__"))
    return spec


def register_card_of(module: ModuleType) -> None:
    """Registers the card ``SPEC`` of a module, if it has one that is not known otherwise.

    Raises:
        EnvPoolError: its name is taken by another environment.
    """
    spec = getattr(module, CARD, None)
    if isinstance(spec, EnvSpec) and not (is_installed(spec.name) and get_installed(spec.name) is spec):
        register(spec, module=module.__name__)


@contextmanager
def using(specs: Iterable[EnvSpec]) -> Iterator[None]:
    """Within the block, the names of these cards mean these cards; also in the tasks and threads that trio starts."""
    token = _in_use.set({**_in_use.get(), **{spec.name: spec for spec in specs}})
    try:
        yield
    finally:
        _in_use.reset(token)


def environments() -> list[str]:
    """The names of all known environments, sorted."""
    return sorted({*shipped(), *_installed(), *_registered, *_in_use.get()})


def get_spec(name: str, options: Any = None) -> EnvSpec:
    """Finds the card of an environment by its name.

    Args:
        name: of the environment.
        options: what it is configured with, as for `EnvSpec.with_options`; None for the card that the name means here:
            that of `using`, or else the one with the default options.

    Raises:
        UnknownEnvironment: there is none.
        OptionError: the environment cannot have these options.
        EnvPoolError: the package that brings it cannot be imported.
    """
    spec = _in_use.get().get(name) or _registered.get(name) or get_installed(name)
    if spec is not None:
        kind = None if spec.options is None else type(spec.options)
        if options is None or read_options(name, kind, options) == spec.options:
            return spec  # also where the files behind it have changed since: a run goes on with what it began with
        return spec.with_options(options)
    raise UnknownEnvironment(
        f"unknown environment {name!r}: import what registers it, {hint}"
        if (hint := hint_of(name))
        else f"unknown environment {name!r}{did_you_mean(name, environments())} (known: {', '.join(environments())})"
    )


def spec_by_words(name: str, words: Sequence[str]) -> EnvSpec:
    """Finds the card of an environment whose options are given as ``name=value``, as on a command line.

    Raises:
        as `get_spec`.
    """
    spec = get_spec(name)
    return (
        get_spec(name, parse_words(name, None if spec.options is None else type(spec.options), words))
        if words
        else spec
    )


def is_installed(name: str) -> bool:
    """Whether every process of this installation knows the environment, without importing anything first."""
    return name in shipped() or name in _installed()


def modules_of(spec: EnvSpec) -> list[str]:
    """The modules that another process has to import before it knows an environment by its name.

    Raises:
        EnvPoolError: no other process can import it.
    """
    if is_installed(spec.name):
        return []
    make = getattr(spec.make, "func", spec.make)  # of a partial
    module = str(_modules.get(spec.name) or getattr(make, "__module__", "__main__"))
    if module == "__main__":
        raise EnvPoolError(f"worker processes cannot import {spec.name}: put it into a module of its own")
    return [module]


@cache
def shipped() -> frozenset[str]:
    """The names of the environments that ship with envpool: the folders of `envpool.envs`."""
    folders = resources.files("envpool.envs").iterdir()
    return frozenset(folder.name for folder in folders if folder.is_dir() and (folder / "spec.py").is_file())


def get_installed(name: str) -> EnvSpec | None:
    """The card of an environment of this installation with its default options; None if there is none.

    Raises:
        EnvPoolError: it cannot be imported.
    """
    if name in shipped():
        found = getattr(importlib.import_module(f"envpool.envs.{name}.spec"), CARD, None)
        if not isinstance(found, EnvSpec) or found.name != name:
            raise EnvPoolError(f"envpool/envs/{name}/spec.py has no card of {name}: call it {CARD}, and name it so")
        return found
    return _brought(name) if name in _installed() else None


@cache
def _installed() -> dict[str, metadata.EntryPoint]:
    """The environments of installed packages, by name."""
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        if point.name in shipped() or found.get(point.name, point).value != point.value:
            package = point.dist.name if point.dist else "a package"
            raise EnvPoolError(
                f"{package} brings an environment {point.name!r}, and there is another one of that name: "
                f"uninstall one of them"
            )
        found[point.name] = point
    return found


@cache
def _brought(name: str) -> EnvSpec:
    point = _installed()[name]
    package = point.dist.name if point.dist else point.module
    try:
        spec = point.load()
    except Exception as error:  # importing runs the module, which may raise anything
        raise EnvPoolError(f"cannot import {name} of {package} ({in_one_line(error)}): mend or uninstall it") from error
    if not isinstance(spec, EnvSpec) or spec.name != name:
        raise EnvPoolError(f"{point.value} of {package} is not the card of {name}: name its {CARD} in the entry point")
    return spec
