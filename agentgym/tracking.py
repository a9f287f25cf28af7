"""Weights & Biases: the only place that imports wandb, and only when a run is tracked.

One W&B run holds all iterations of a run folder: its id lies in the folder, and a run that goes on later goes on
under the same id. (Offline, wandb writes a folder of its own for each start; all of them carry the id.)
"""

from __future__ import annotations

import netrc
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentgym.errors import RecipeError
from agentgym.ranks import is_first_rank
from agentgym.settings import TrackingMode, TrackingSettings
from envpool import Trajectory

if TYPE_CHECKING:
    from wandb import Run

SAMPLE = 200
"""Most trajectories of one table."""

_COLUMNS = ["task", "sample", "policy", "score", "success", "stop", "turns", "error", "conversation"]


class Tracker:
    """Sends what happens in a run to W&B; does nothing where tracking is off or wandb is not installed.

    wandb is started by the first thing there is to log, on the first rank only. It prints nothing and never asks.

    Args:
        settings: whether and where to track.
        folder: the run folder; the id of the W&B run is kept in its file `wandb_id`.
        name: how W&B shows the run.
        config: what W&B shows as the run's configuration, usually the recipe; its `output`, a path, stays here.

    Raises:
        RecipeError: tracking is online, but wandb is not installed or has no key.
    """

    def __init__(self, settings: TrackingSettings, folder: Path, *, name: str, config: Mapping[str, Any]) -> None:
        self._settings = settings
        self._folder = folder
        self._name = name
        self._config = {key: value for key, value in config.items() if key != "output"}
        self._run: Run | None = None
        self._step = 0
        self._wandb = None if settings.mode == TrackingMode.off else _import()
        if settings.mode == TrackingMode.online:
            if self._wandb is None:
                raise RecipeError(
                    ["tracking.mode: online needs wandb: pip install wandb, or set tracking.mode=offline"]
                )
            if not _has_key():
                raise RecipeError(
                    ["tracking.mode: online needs a W&B key: set WANDB_API_KEY, or set tracking.mode=offline"]
                )

    @property
    def on(self) -> bool:
        """Whether anything is tracked."""
        return self._wandb is not None

    def log(self, metrics: Mapping[str, Any], iteration: int, step: int | None = None) -> None:
        """Logs numbers.

        Args:
            metrics: numbers by name.
            iteration: which one they belong to.
            step: optimiser steps so far, over all phases; that of the last call if None.
        """
        self._step = self._step if step is None else step
        self._log({**metrics, "iteration": iteration, "step": self._step})

    def log_trajectories(self, trajectories: Sequence[Trajectory], iteration: int, name: str = "trajectories") -> None:
        """Logs a table of at most `SAMPLE` trajectories, evenly spread over those given."""
        chosen = trajectories[:: -(-len(trajectories) // SAMPLE) or 1]
        self.log_table(name, _COLUMNS, [_row(trajectory) for trajectory in chosen], iteration)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], iteration: int) -> None:
        """Logs a table, as the summary of a report."""
        if self._wandb and is_first_rank():
            table = self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            self.log({name: table}, iteration)

    def finish(self) -> None:
        """Ends the W&B run of this process; must be the last call."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _log(self, values: Mapping[str, Any]) -> None:
        if self._wandb and is_first_rank():
            self._run = self._run or self._start(self._wandb)
            self._run.log(dict(values))

    def _start(self, wandb: ModuleType) -> Run:
        self._folder.mkdir(parents=True, exist_ok=True)
        online = self._settings.mode == TrackingMode.online
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=not online,
            x_disable_meta=True,  # the host's name, paths and the command line
            host="agentgym",
        )
        try:
            run: Run = wandb.init(
                project=self._settings.project,
                name=self._name,
                id=_run_id(self._folder),
                resume="allow" if online else None,  # wandb warns about `resume` when offline, and ignores it
                mode=self._settings.mode.value,
                dir=self._folder,
                config=self._config,
                settings=settings,
            )
        except wandb.errors.Error as error:
            line = str(error).splitlines()[0]
            raise RecipeError(
                [f"tracking.mode: W&B answers {line!r}; set tracking.mode=offline to go on without it"]
            ) from error
        run.define_metric("*", step_metric="step")
        return run


def _import() -> ModuleType | None:
    os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is imported, before any setting of ours
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError:
        return None
    return wandb


def _has_key() -> bool:
    """Whether W&B finds its key without asking: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: Path) -> str:
    """Returns the id of the folder's W&B run; makes one up the first time."""
    path = folder / "wandb_id"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(uuid.uuid4().hex[:8])
        temporary.replace(path)
    return path.read_text().strip()


def _row(trajectory: Trajectory) -> list[Any]:
    conversation = "\n\n".join(f"[{message.role}]\n{message.text}" for message in trajectory.messages)
    return [
        trajectory.task.item_id,
        trajectory.sample,
        trajectory.policy,
        trajectory.score,
        trajectory.success,
        str(trajectory.stop),
        len(trajectory.turns),
        trajectory.error,
        conversation,
    ]
