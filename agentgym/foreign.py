"""Run folders and panels that somebody else may have made: what they name is imported only if the user says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentgym.errors import RunError
from agentgym.numbering import spec_of
from agentgym.settings import Recipe
from envpool import EnvSpec, UnknownEnvironment, get_spec
from envpool.imports import import_modules
from envpool.options import OptionError


def cards_of_run(names: Iterable[str], recipe: Recipe, where: object, *, trust: bool) -> dict[str, EnvSpec]:
    """Finds the cards of environments that a run played, with the options of its recipe.

    Args:
        names: of the environments.
        recipe: of the run.
        where: what messages call it.
        trust: whether the modules that the recipe names are imported.

    Raises:
        RunError: an environment is not known here, or files that its options name are not here any more.
        EnvPoolError: a module cannot be imported.
    """
    found = cards(names, recipe.imports, where, trust=trust)
    try:
        return {name: spec_of(recipe, name) for name in found}
    except OptionError as error:
        raise RunError(f"{where} was played with options that cannot be had here: {error}") from error


def cards(names: Iterable[str], imports: Sequence[str], where: object, *, trust: bool) -> dict[str, EnvSpec]:
    """Finds the cards of environments that a run or a panel names.

    Args:
        names: of the environments.
        imports: the modules that the run or panel says register them.
        where: what messages call it.
        trust: whether these modules are imported.

    Raises:
        RunError: an environment is not known here.
        EnvPoolError: a module cannot be imported.
    """
    if trust:
        import_modules(imports)
    found = {}
    for name in names:
        try:
            found[name] = get_spec(name)
        except UnknownEnvironment as error:
            cure = "name the module that registers it with --import MODULE"
            if imports and not trust:
                cure = f"{where} names the modules {', '.join(imports)}: --trust imports them, --import MODULE your own"
            raise RunError(f"{where} has tasks of {name!r}, which is not known here; {cure}") from error
    return found
