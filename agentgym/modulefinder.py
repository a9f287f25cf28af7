"""What a Python module offers, read from its source without importing it."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from envpool.errors import did_you_mean


def find_module(module: str) -> ModuleSpec | None:
    """Finds a module without importing it or its parents, which `importlib.util.find_spec` would."""
    first, *rest = module.split(".")
    try:
        found = importlib.util.find_spec(first)
    except ValueError:  # a name that is being run as a program has no spec
        return None
    path = first
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        path = f"{path}.{part}"
        found = PathFinder.find_spec(path, list(found.submodule_search_locations))
    return found


def names_of(tree: ast.Module) -> dict[str, bool]:
    """Returns the names a module offers; False for what cannot be a module that learns.

    A module with `__getattr__` offers what its strings say.
    """
    names: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name: True for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = bool(node.bases)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = False
        elif isinstance(node, ast.Assign):
            names |= {target.id: True for target in node.targets if isinstance(target, ast.Name)}
    if "__getattr__" in names:
        strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        names |= {value: True for value in strings if isinstance(value, str) and value.isidentifier()}
    return names


def wrong_with_class(path: str) -> str:
    """Looks whether a class that learns is there, by reading its module's source.

    Args:
        path: its import path.

    Returns:
        What is wrong, with a cure, in one line; empty if nothing is.
    """
    module, _, name = path.rpartition(".")
    if not module:
        return f"{path!r} is no import path: write `package.module.Class`"
    found = find_module(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return f"there is no Python module {module!r}: install it, or start agentgym in the folder that holds it"
    try:
        names = names_of(ast.parse(Path(found.origin).read_bytes()))  # bytes, for a source may name its encoding
    except SyntaxError as error:
        return f"{found.origin}, line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot read {found.origin} ({error}): mend the module"
    if name not in names:
        return f"the module {module!r} has no {name!r}{did_you_mean(name, names)}"
    return "" if names[name] else f"{path!r} is no subclass of agentgym.AgentModule"
