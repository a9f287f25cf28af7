"""Importing the modules, files and folders that a user names because they hold environments."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from envpool.errors import EnvPoolError
from envpool.registry import CARD, register_card_of

VARIABLE = "AGENTGYM_IMPORTS"
"""The environment variable that names modules for every command, separated by commas."""

SPEC_MODULE = "spec"
"""The module of an environment's folder in which its card is."""


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--import MODULE`` to a command, which may be given several times; `import_named` imports them."""
    what = f"a module, file.py or folder of an environment of your own (for all commands: {VARIABLE}=MODULE,...)"
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
    """Imports modules, also those of the current folder, as under ``python -m``, and registers their cards.

    Args:
        modules: dotted names, paths of ``.py`` files, or folders of an environment, with a ``spec.py``. A file's module
            is called what it would be called as a part of its package, or else as the file; the module of a folder is a
            part of a package of the folder's name. What they lie in is appended to `sys.path`, so that processes find
            it too. The card of a module or of the ``spec`` of a package is registered if it is called ``SPEC``.

    Raises:
        EnvPoolError: one is no module, is not there, or raises, or the name of an environment is taken.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for name in modules:
        file = _file_of(name)
        module = name if file is None else _module_of(file)
        if not module or not all(part.isidentifier() for part in module.split(".")):
            raise EnvPoolError(
                f"{name!r} is no name of a module: write it with dots, as in examples.higher_lower, or name a .py file "
                "or a folder with a spec.py"
            )
        try:
            loaded = importlib.import_module(module)
            if not hasattr(loaded, CARD) and hasattr(loaded, "__path__") and _origin(f"{module}.{SPEC_MODULE}"):
                loaded = importlib.import_module(f"{module}.{SPEC_MODULE}")
        except (Exception, SystemExit) as error:  # importing runs the module, which may raise anything
            raise EnvPoolError(_told(name, module, error)) from error
        register_card_of(loaded)


def _file_of(name: str) -> Path | None:
    """The file that a path names; None if the name is one of a module.

    Raises:
        EnvPoolError: it is a folder that is not an environment.
    """
    path = Path(name).expanduser()
    if name.endswith(".py"):
        return path
    if "/" not in name and os.sep not in name:
        return None
    if not path.is_dir():
        raise EnvPoolError(f"there is no file or folder {name!r} to import: check the path")
    if not (path / f"{SPEC_MODULE}.py").is_file():
        raise EnvPoolError(f"the folder {name!r} holds no {SPEC_MODULE}.py: name the folder of an environment")
    return path / f"{SPEC_MODULE}.py"


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
    if file.stem == SPEC_MODULE:
        folder, parts = folder.parent, [folder.name, *parts]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    module = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        return ""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    found = _origin(module)
    if found is None or not Path(found).exists() or not Path(found).samefile(file):
        where, what = found or "a part of Python", "folder" if file.stem == SPEC_MODULE else "file"
        raise EnvPoolError(f"the name {module!r} of {file} is taken by {where}: rename the {what}")
    return module


def _origin(module: str) -> str | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    importlib.invalidate_caches()  # the file may be a new one
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a part of it is not a package
        return None
    return None if found is None else found.origin
