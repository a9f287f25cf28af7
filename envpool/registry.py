"""Which environments there are: those of `envpool.envs`, of installed packages, and those that a module registers.

Every folder of `envpool/envs` is an environment, whose card is `SPEC` in its module ``spec``. An installed package
brings one by an entry point of the group ``agentgym.environments`` that names a card, as in
``my_env = "my_package.spec:SPEC"``.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from envpool.errors import EnvPoolError, UnknownEnvironment, did_you_mean, hint_of
from envpool.guard import in_one_line
from envpool.spec import EnvSpec

GROUP = "agentgym.environments"
"""The group of entry points by which installed packages bring environments."""

_registered: dict[str, EnvSpec] = {}


def register(spec: EnvSpec) -> EnvSpec:
    """Makes an environment known under its name in this process, and returns its card.

    Raises:
        EnvPoolError: the name is taken by another environment.
    """
    if is_installed(spec.name) or _registered.get(spec.name, spec) is not spec:
        raise EnvPoolError(f"the environment name {spec.name!r} is taken: give yours another name")
    _registered[spec.name] = spec
    return spec


def environments() -> list[str]:
    """The names of all known environments, sorted."""
    return sorted({*shipped(), *_installed(), *_registered})


def get_spec(name: str) -> EnvSpec:
    """Finds an environment by its name.

    Raises:
        UnknownEnvironment: there is none.
        EnvPoolError: the package that brings it cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    if name in shipped():
        found = importlib.import_module(f"envpool.envs.{name}.spec").SPEC
        assert isinstance(found, EnvSpec)
        return found
    if name in _installed():
        return _brought(name)
    file = name if name.endswith(".py") else f"{name}.py"
    if Path(file).is_file():
        raise UnknownEnvironment(f"unknown environment {name!r}: import what registers it, {hint_of(name)}")
    raise UnknownEnvironment(
        f"unknown environment {name!r}{did_you_mean(name, environments())} (known: {', '.join(environments())})"
    )


def is_installed(name: str) -> bool:
    """Whether every process of this installation knows the environment, without importing anything first."""
    return name in shipped() or name in _installed()


@cache
def shipped() -> frozenset[str]:
    """The names of the environments that ship with envpool: the folders of `envpool.envs`."""
    folders = resources.files("envpool.envs").iterdir()
    return frozenset(folder.name for folder in folders if folder.is_dir() and (folder / "spec.py").is_file())


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
        raise EnvPoolError(f"{point.value} of {package} is not the card of {name}: name its SPEC in the entry point")
    return spec
