"""The instruction of a task: the goal as the model sees it, found in the first observation.

AgentGym's servers and ours put the same goal into other words around it; what is found is comparable across both.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from agentgym.data.store import write_atomically
from agentgym.errors import RunError
from agentgym.panel import packages_of
from envpool import EnvSpec, environments, get_spec
from envpool.datafiles import cache_folder
from envpool.direct import directly
from envpool.registry import is_installed
from envpool.spec import whole

KEPT_SECONDS = 5.0
"""Instructions that took longer than this to find are kept in the user's cache folder."""


def instruction_of(environment: str, observation: str) -> str:
    """Finds the instruction in a first observation; on one line, without a full stop."""
    return get_spec(environment).goal(observation) if environment in environments() else whole(observation)


def same_words(instruction: str) -> str:
    """What two instructions are compared by: capital letters do not matter."""
    return instruction.casefold()


def instructions(
    spec: EnvSpec, indices: Sequence[int], on_done: Callable[[int], None] = lambda count: None
) -> dict[int, str]:
    """Finds the instructions of tasks by resetting each one.

    Args:
        spec: the card of an environment that can be made here.
        indices: the tasks.
        on_done: told how many more are done.

    Raises:
        MissingExtra: the environment needs a package that is not installed.
    """
    file = _cache_file(spec) if is_installed(spec.name) else None
    known = _kept(file) if file else {}
    missing = [index for index in dict.fromkeys(indices) if index not in known]
    on_done(len(indices) - len(missing))
    if missing:
        started = time.monotonic()
        known.update(_looked_up(spec, missing, on_done))
        if file and time.monotonic() - started > KEPT_SECONDS:
            _keep(file, known)
    wanted: Collection[int] = set(indices)
    return {index: text for index, text in known.items() if index in wanted}


def _looked_up(spec: EnvSpec, indices: Sequence[int], on_done: Callable[[int], None]) -> dict[int, str]:
    found = {}
    with directly(spec) as environment:
        for index in indices:
            found[index] = spec.goal(environment.call("reset", index))
            on_done(1)
    return found


def _cache_file(spec: EnvSpec) -> Path:
    """Where instructions of this version of an environment are kept, with these packages."""
    decides = f"{spec.version} {sorted(packages_of(spec.name).items())}"
    return cache_folder() / f"instructions-{spec.name}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}.json"


def _kept(file: Path) -> dict[int, str]:
    try:
        kept = json.loads(file.read_bytes())
        return {int(index): str(text) for index, text in kept.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # not there, or damaged: it is found anew, and written anew


def _keep(file: Path, known: Mapping[int, str]) -> None:
    with contextlib.suppress(RunError):  # a home that cannot be written costs the time again, and nothing else
        write_atomically(file, json.dumps(known, ensure_ascii=False).encode())
