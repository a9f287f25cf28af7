"""Importing the modules that a user names because they register environments."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from envpool.errors import EnvPoolError

VARIABLE = "AGENTGYM_IMPORTS"
"""The environment variable that names modules for every command, separated by commas."""


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--import MODULE`` to a command, which may be given several times; `import_named` imports them."""
    what = f"a module or file.py that registers environments (for all commands: {VARIABLE}=MODULE,...)"
    parser.add_argument("--import", dest="imports", metavar="MODULE", action="append", default=[], help=what)


def import_named(modules: Sequence[str] = ()) -> list[str]:
    """Imports the modules of `VARIABLE`, and then those given; returns their names.

    Raises:
        EnvPoolError: as `import_modules`.
    """
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    every = list(dict.fromkeys([*named, *modules]))
    import_modules(every)
    return every


def import_modules(modules: Sequence[str]) -> None:
    """Imports modules, also those of the current folder, as under ``python -m``.

    Args:
        modules: dotted names, or paths of ``.py`` files. A file's module is called what it would be called as a part
            of its package, or else as the file; its folder is appended to `sys.path`, so that processes find it too.

    Raises:
        EnvPoolError: one is no module, is not there, or raises.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for name in modules:
        module = _module_of(Path(name).expanduser()) if name.endswith(".py") else name
        if not module or not all(part.isidentifier() for part in module.split(".")):
            raise EnvPoolError(
                f"{name!r} is no name of a module: write it with dots, as in examples.higher_lower, or name a .py file"
            )
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # importing runs the module, which may raise anything
            raise EnvPoolError(_told(name, module, error)) from error


def _told(name: str, module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {name!r} here: start in the folder that holds it, or install it"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    cure = "install what it needs" if isinstance(error, ModuleNotFoundError) else "mend the module"
    return f"cannot import {name} ({reason}): {cure}"


def _module_of(file: Path) -> str:
    """The name under which a file is imported; empty if it can have none.

    Raises:
        EnvPoolError: it is not there, or another module has that name.
    """
    if not file.is_file():
        raise EnvPoolError(f"there is no file {str(file)!r} to import: check the path")
    file = file.resolve()
    folder, parts = file.parent, [file.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    module = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        return ""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    found = _origin(module)
    if found is None or not Path(found).exists() or not Path(found).samefile(file):
        where = found or "a part of Python"
        raise EnvPoolError(f"the name {module!r} of {file} is taken by {where}: rename the file")
    return module


def _origin(module: str) -> str | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    importlib.invalidate_caches()  # the file may be a new one
    found = importlib.util.find_spec(module)
    return None if found is None else found.origin
