"""The folder of a run: what lies where, and whether a run may continue there."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from agentgym import events
from agentgym.data.atomic import write_atomically
from agentgym.errors import RunError
from agentgym.evaluation.reading import read_json
from agentgym.numbering import versions_of
from agentgym.ranks import is_first_rank
from agentgym.recipe import LONGEST, read_recipe, recipe_text, same_run, save_recipe, text_of
from agentgym.settings import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSIONS = "environments.json"
"""The versions of the environments that a run was begun with: with other data it would be another run."""

TEMPLATE = "template.jinja"
"""The copy of the chat template that a run was begun with, where its recipe names one."""

_taken: dict[Path, TextIO] = {}
"""The folders that this process works in, each with its lock."""


class RunFolder:
    """A run folder, new or to be gone on with.

    Args:
        recipe: the recipe of the run.

    Raises:
        RunError: the folder belongs to another recipe, is no run folder, or another process works in it.
        OSError: it cannot be written.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.path = Path(recipe.output).expanduser() / recipe.name
        self.recipe_file = self.path / "recipe.yaml"
        self._agree(recipe)  # before anything is written
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # where no folder can be made, as in /proc
            raise RunError(f"cannot make {self.path}: {error.strerror}; choose another output=FOLDER") from error
        self._take()
        try:
            written = self._agree(recipe)  # another process may have begun a run meanwhile
            # what may change (addresses, worker processes, batch sizes) is from now on what it is now
            if written != recipe_text(recipe):
                save_recipe(recipe, self.recipe_file)
            self._keep_versions(recipe)
            self._keep_template(recipe)
        except BaseException:
            self.leave()
            raise

    def _agree(self, recipe: Recipe) -> str | None:
        """Returns the text of the recipe of the run that is here; None if there is none.

        Raises:
            RunError: the run has another recipe, or the folder holds something else.
        """
        if self.recipe_file.exists():
            different = same_run(read_recipe(self.recipe_file), recipe)
            if different:
                raise RunError(
                    f"{self.path} belongs to a run with another {', '.join(different)}: "
                    "choose another folder with name=NAME, or delete that one"
                )
            self._check_versions(recipe)
            self._check_template(recipe)
            return text_of(self.recipe_file)
        if self.path.exists() and any(not _begun(path) for path in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another folder with name=NAME")
        return None

    def _check_versions(self, recipe: Recipe) -> None:
        """Makes sure that the environments are still those of the run, with the same data."""
        kept = self.path / VERSIONS
        if not kept.exists():
            return  # it was stopped before it played
        begun = read_json(kept, LONGEST, "choose another folder with name=NAME")
        for name, version in versions_of(recipe).items() if isinstance(begun, dict) else ():
            if begun.get(name, version) != version:
                raise RunError(
                    f"{self.path} was begun with version {begun[name]} of {name}, and here is version {version}: give "
                    f"environments.{name}.options and the data of then, or choose another folder with name=NAME"
                )

    def _keep_versions(self, recipe: Recipe) -> None:
        if not (self.path / VERSIONS).exists():
            write_atomically(self.path / VERSIONS, json.dumps(versions_of(recipe), indent=1).encode())

    def _check_template(self, recipe: Recipe) -> None:
        """Makes sure that the chat template is still the one of the run: with another one it would be another run."""
        kept = self.path / TEMPLATE
        if recipe.model.template is not None and kept.exists() and kept.read_bytes() != _template(recipe):
            raise RunError(
                f"{self.path} was begun with another text of {recipe.model.template} (it is in {kept}): put that back, "
                "or choose another folder with name=NAME"
            )

    def _keep_template(self, recipe: Recipe) -> None:
        """Keeps a copy of the chat template that the recipe names."""
        if recipe.model.template is not None and not (self.path / TEMPLATE).exists():
            write_atomically(self.path / TEMPLATE, _template(recipe))

    def _take(self) -> None:
        """Makes sure that no other process works in the folder, until `leave`; of several ranks the first one does."""
        if fcntl is None or not is_first_rank() or self.path in _taken:
            return
        lock = self.path / ".lock"
        try:  # what a link in a folder of somebody else's leads to is left alone
            file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+")
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RunError(f"{lock} is a link: delete it, or choose another folder with name=NAME") from None
            raise
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise RunError(
                    f"another process is at work in {self.path}: wait for it, or choose another folder with name=NAME"
                ) from None
            return  # a file system without locks
        _taken[self.path] = file

    def leave(self) -> None:
        """Lets other processes work in the folder."""
        if self.path in _taken:
            _taken.pop(self.path).close()

    def refuse(self, trajectories: str, kind: str) -> None:
        """Makes sure that no run of another kind is here, whose report would be overwritten.

        Args:
            trajectories: what its trajectory files are called.
            kind: the command that writes them.

        Raises:
            RunError: there is one.
        """
        if any((self.path / "trajectories").glob(trajectories)):
            raise RunError(f"{self.path} holds a run of {kind}: choose another folder with name=NAME")

    def iteration(self, number: int) -> Path:
        """The folder of an iteration's learning phase."""
        return self.path / f"it{number:03d}"

    def control(self, number: int) -> Path:
        """The folder of the control's learning phase beside that iteration."""
        return self.path / "control" / f"it{number:03d}"

    def trajectories(self, name: str) -> Path:
        """A trajectory file."""
        return self.path / "trajectories" / f"{name}.parquet"

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Writes down how long the block took, unless it fails; of several ranks the first one does."""
        started = time.monotonic()
        yield
        if not is_first_rank():
            return
        events.note(self.path, what, time.monotonic() - started)

    def seconds(self) -> dict[str, float]:
        """Wall time by part of the run, over all attempts that finished it."""
        return events.seconds_by_part(self.path)


def _begun(path: Path) -> bool:
    """Whether a file is what a run leaves that was killed before its recipe was written."""
    return path.name == ".lock" or (path.name.startswith("recipe.yaml.") and path.suffix == ".tmp")


def _template(recipe: Recipe) -> bytes:
    assert recipe.model.template is not None
    return Path(recipe.model.template).expanduser().read_bytes()
