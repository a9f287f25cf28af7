"""The folder of a run: what lies where, and whether it may be gone on with."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from agentgym import events
from agentgym.data.atomic import write_atomically
from agentgym.errors import RunError
from agentgym.ranks import is_first_rank
from agentgym.recipe import load_recipe, recipe_text, same_run, save_recipe
from agentgym.settings import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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
        if self.recipe_file.exists():
            different = same_run(load_recipe(self.recipe_file), recipe)
            if different:
                raise RunError(
                    f"{self.path} belongs to a run with another {', '.join(different)}: "
                    "choose another folder with name=NAME, or delete that one"
                )
            # what may change (addresses, worker processes, batch sizes) is from now on what it is now
            if self.recipe_file.read_text(encoding="utf-8") != recipe_text(recipe):
                save_recipe(recipe, self.recipe_file)
        elif self.path.exists() and any(not _begun(path) for path in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another folder with name=NAME")
        else:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # where no folder can be made, as in /proc
                raise RunError(f"cannot make {self.path}: {error.strerror}; choose another output=FOLDER") from error
            save_recipe(recipe, self.recipe_file)

        self._pin_template(recipe)
        self._take()

    def _pin_template(self, recipe: Recipe) -> None:
        """Keeps a copy of the chat template that the recipe names: with another one the run would be another run."""
        if recipe.model.template is None:
            return
        given, kept = Path(recipe.model.template).expanduser().read_bytes(), self.path / "template.jinja"
        if not kept.exists():
            write_atomically(kept, given)
        elif kept.read_bytes() != given:
            raise RunError(
                f"{self.path} was begun with another text of {recipe.model.template} (it is in {kept}): put that back, "
                "or choose another folder with name=NAME"
            )

    def _take(self) -> None:
        """Makes sure that no other process works in the folder, until `leave`; of several ranks the first one does."""
        if fcntl is None or not is_first_rank() or self.path in _taken:
            return
        file = (self.path / ".lock").open("w")
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
    """Whether a file is a recipe that was being written when the run was killed."""
    return path.name.startswith("recipe.yaml.") and path.suffix == ".tmp"
