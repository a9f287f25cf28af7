"""Whether the tasks of a panel are on this machine what they were where the panel was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agentgym.itemids import read_item_id
from agentgym.panel import Golden, Panel, Part, hash_of, packages_of
from envpool import EnvSpec, get_spec
from envpool.direct import directly
from envpool.errors import EnvironmentFailed
from envpool.places.live import Live

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the panel says.

    Attributes:
        environment: its name.
        item_id: the task; empty if it is about the environment as a whole.
        where: ``version``, ``first observation``, ``turn 3`` or ``score``.
        expected: what the panel says.
        found: what is here.
    """

    environment: str
    item_id: str
    where: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Package:
    """A package that decides what an environment's tasks are, and has another version here than in the panel."""

    environment: str
    name: str
    expected: str
    found: str


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        tasks: how many first observations were compared.
        goldens: how many episodes were replayed, and in `turns` how many turns these had.
        turns: see there.
        differences: what is not as the panel says.
        packages: which packages have another version.
        unverified: environment -> how many of its tasks could not be looked at, for they live behind a server or the
            panel holds no hash of them.
    """

    tasks: int
    goldens: int
    turns: int
    differences: Sequence[Difference]
    packages: Sequence[Package]
    unverified: dict[str, int]


def verify(panel: Panel, on_task: Callable[[], None] = lambda: None) -> Verdict:
    """Looks at every first observation of a panel and replays its goldens.

    Args:
        panel: what to expect.
        on_task: called after each task and each golden.

    Raises:
        MissingExtra: an environment needs a package that is not installed.
    """
    differences: list[Difference] = []
    packages: list[Package] = []
    unverified: dict[str, int] = {}
    tasks = goldens = turns = 0
    for name, part in panel.environments.items():
        spec = get_spec(name)
        hashed, replayed = _known(spec, part)
        if len(hashed) < len(part.tasks):
            unverified[name] = len(part.tasks) - len(hashed)
        if part.version not in (None, spec.version):
            differences.append(Difference(name, "", "version", str(part.version), spec.version))
        here = packages_of(name)
        packages += [Package(name, p, version, here.get(p, "none")) for p, version in part.packages.items()]
        differences += _differences(spec, hashed, replayed, on_task)
        tasks, goldens = tasks + len(hashed), goldens + len(replayed)
        turns += sum(len(golden.actions) for golden in replayed)
    changed = [package for package in packages if package.found != package.expected]
    return Verdict(tasks, goldens, turns, differences, changed, unverified)


def steps_of(panel: Panel) -> int:
    """How often `verify` calls its `on_task`."""
    return sum(len(known) for name, part in panel.environments.items() for known in _known(get_spec(name), part))


def _known(spec: EnvSpec, part: Part) -> tuple[dict[str, str], Sequence[Golden]]:
    """What can be compared here: the hashes of first observations, and the goldens."""
    if spec.served:
        return {}, ()
    return {item_id: begins for item_id, begins in part.tasks.items() if begins is not None}, part.goldens


def _differences(
    spec: EnvSpec, hashed: dict[str, str], goldens: Sequence[Golden], on_task: Callable[[], None]
) -> Iterator[Difference]:
    if not hashed and not goldens:
        return
    with directly(spec) as live:
        for item_id, expected in hashed.items():
            begins, cause = _answer(partial(live.call, "reset", _index(item_id)))
            found = cause if begins is None else hash_of(begins)
            if found != expected:
                yield Difference(spec.name, item_id, "first observation", expected, found)
            on_task()
        for golden in goldens:
            yield from _replayed(spec, live, golden)
            on_task()


def _replayed(spec: EnvSpec, live: Live, golden: Golden) -> Iterator[Difference]:
    """Plays a golden again, up to the first answer that is another."""
    begins, cause = _answer(partial(live.call, "reset", _index(golden.item_id)))
    if begins is None:
        yield Difference(spec.name, golden.item_id, "first observation", "some", cause)
        return
    score = spec.initial_score
    for turn, (action, expected) in enumerate(zip(golden.actions, golden.observations, strict=True), start=1):
        step, cause = _answer(partial(live.call, "step", action))
        found = cause if step is None else hash_of(step.observation)
        if step is None or found != expected:
            yield Difference(spec.name, golden.item_id, f"turn {turn}", expected, found)
            return
        score = step.score
    if score != golden.score:
        yield Difference(spec.name, golden.item_id, "score", f"{golden.score:g}", f"{score:g}")


def _index(item_id: str) -> int:
    index = read_item_id(item_id).index
    assert index is not None, item_id
    return index


def _answer(call: Callable[[], T]) -> tuple[T | None, str]:
    """Returns what the environment answers, or None and in one line why it does not."""
    try:
        return call(), ""
    except EnvironmentFailed as failed:
        return None, failed.cause[:80]
    except Exception as error:  # whatever an environment raises with another version of a package is a finding
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:80]
