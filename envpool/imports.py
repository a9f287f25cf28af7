"""Importing the modules that a user names because they register environments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from envpool.errors import EnvPoolError


def import_modules(modules: Sequence[str]) -> None:
    """Imports modules, also those of the current folder, as under ``python -m``.

    Raises:
        EnvPoolError: one is no module, is not there, or raises.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for module in modules:
        if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
            raise EnvPoolError(f"{module!r} is no name of a module: write it with dots, as in examples.higher_lower")
        try:
            importlib.import_module(module)
        except Exception as error:  # importing runs the module, which may raise anything
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                text = f"there is no module {module!r} here: run it from the folder that holds it"
            else:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                text = f"cannot import {module} ({reason}): mend the module"
            raise EnvPoolError(text) from error
