"""An environment of a user's, with options and data: the folder `environments/anagram`, known while a test runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import envpool.registry
from envpool import EnvSpec, get_spec
from envpool.imports import import_modules

FOLDER = Path(__file__).parent / "environments" / "anagram"

BIG = "stream master silent garden danger planet ladder raddle market sister"
"""The words of the original's list that the card declares."""


def write_original(folder: Path) -> Path:
    """Writes the list that the card declares into a folder of data; returns the folder."""
    file = folder / "lists" / "big.txt"
    file.parent.mkdir(parents=True)
    file.write_text(BIG.replace(" ", "\n") + "\n")
    return folder


@contextmanager
def known(folder: Path = FOLDER) -> Iterator[EnvSpec]:
    """Imports a folder of an environment, and forgets it in the end."""
    path = [*sys.path]
    import_modules([f"{folder}/"])
    try:
        yield get_spec(folder.name)
    finally:
        sys.path[:] = path
        envpool.registry._registered.pop(folder.name)
        envpool.registry._modules.pop(folder.name)
        for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
            del sys.modules[name]
