"""What a Python module offers, read from its source without importing it."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import ModuleSpec, PathFinder


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
