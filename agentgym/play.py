"""Plays tasks with a model: exploration and evaluation are the same thing with other tasks and another temperature."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentgym.checks import PLAYERS
from agentgym.data import store
from agentgym.data.journal import SUFFIX, Journal
from agentgym.data.prompts import data_prompts
from agentgym.data.rows import to_row
from agentgym.devices import memory_given_back, on_gpu, own_device
from agentgym.environmentchecks import COUNTS, endpoint_of
from agentgym.errors import RunError
from agentgym.manner import in_manner_of
from agentgym.numbering import card_of, configured, spec_of
from agentgym.panel import load_panel
from agentgym.settings import Prompt, Recipe
from envpool import (
    EnvPool,
    EnvSpec,
    ExpertPolicy,
    Limits,
    Policy,
    RandomPolicy,
    Split,
    Task,
    Trajectory,
    Transport,
    collect,
    get_spec,
)
from envpool.places.endpoint import HttpSettings
from envpool.places.http import HttpTransport
from envpool.places.local import PROCESSES, LocalTransport
from envpool.places.routing import RoutingTransport
from envpool.spec import Place


@dataclass(frozen=True, slots=True)
class PlayJob:
    """Which tasks to play, with whom, and where the record goes.

    Attributes:
        model: a folder in the Hugging Face layout, a hub id, or one of `checks.PLAYERS`.
        tasks: the problems.
        sample: which of the tries at each of them this is.
        temperature: of sampling; 0 is greedy.
        top_p: nucleus sampling; 1 is off.
        seed: decides every sample.
        iteration: the iteration that the record belongs to.
        phase: what the record is for, a `store.Phase`.
        out: the trajectory file.
        again: whether episodes that failed are tried again where the file is there already.
        top_k: only so many of the most likely tokens; 0 is off.
        min_p: only tokens at least this times as likely as the most likely one; 0 is off.
    """

    model: str
    tasks: tuple[Task, ...]
    sample: int
    temperature: float
    top_p: float
    seed: int
    iteration: int
    phase: str
    out: Path
    again: bool = False
    top_k: int = 0
    min_p: float = 0.0

    @property
    def sampling(self) -> dict[str, Any]:
        """How tokens are drawn: the fields of `generation.Sampling`."""
        return {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p}

    def shard(self, rank: int, count: int) -> PlayJob:
        """The part of this job that worker `rank` of `count` does."""
        out = self.out.with_name(f"{self.out.stem}.{rank}-of-{count}.parquet")
        return replace(self, tasks=self.tasks[rank::count], out=out)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "out": str(self.out)}

    @classmethod
    def from_json(cls, job: Mapping[str, Any]) -> PlayJob:
        """The inverse of `to_json`."""
        return cls(**{**job, "tasks": tuple(Task(**task) for task in job["tasks"]), "out": Path(job["out"])})


OnEpisode = Callable[[bool | None], None]
"""Called as each episode ends, with its success; None if it failed."""


PIECE = {store.Phase.EVAL: 4, store.Phase.CONTROL: 4, store.Phase.EXPLORE: 16}
"""How many times `pool.sessions` episodes are played, and written down, as one piece in lockstep. At the end of each
the batch runs empty: what is played often is played in large pieces."""


def play(recipe: Recipe, job: PlayJob, on_episode: OnEpisode) -> None:
    """Plays every task of the job once and writes the trajectories, in the order of the tasks.

    What was played before (see `played_before`) is not played again. An interruption costs the episodes that were not
    finished; of a model in lockstep, which must get the same batches again, also the others of their piece (`PIECE`).

    Raises:
        ModelError: the model cannot be loaded.
        RunError: a file cannot be written, or holds episodes of something else.
    """
    with configured(recipe), memory_given_back():  # the frame that holds the model is left before the end of the block
        _play(recipe, job, on_episode)


def _play(recipe: Recipe, job: PlayJob, on_episode: OnEpisode) -> None:
    recipe = in_manner_of(recipe, job.model)
    done = played_before(recipe, job)
    if job.out.exists() and done.keys() >= set(job.tasks):
        return
    origin, journal = _origin(recipe, job), Journal(job.out)
    pool, policy = environment_pool(recipe, here=job.model == "expert"), _policy(recipe, job)
    lockstep = recipe.generation.lockstep and job.model not in PLAYERS and not _remote(recipe, job)

    def write_down(episodes: Iterable[Trajectory]) -> None:
        journal.add(to_row(_finished(recipe, job, episode), **origin) for episode in episodes)

    def finish(episode: Trajectory) -> None:
        if not lockstep:
            write_down([episode])
        on_episode(episode.success)

    size = PIECE[store.Phase(job.phase)] * recipe.pool.sessions if lockstep else len(job.tasks)
    for start in range(0, len(job.tasks), size or 1):
        piece = job.tasks[start : start + size]
        missing = {task for task in piece if task not in done}
        if missing and lockstep:
            missing = set(piece)
        for task in piece:
            if task not in missing:
                on_episode(done[task].success)
        played = collect(pool, [task for task in piece if task in missing], policy, on_trajectory=finish)
        done |= {episode.task: _finished(recipe, job, episode) for episode in played}
        if lockstep and missing and start + size < len(job.tasks):
            write_down(done[task] for task in piece)
    store.write(job.out, [done[task] for task in job.tasks], **origin)
    journal.remove()


def played_before(recipe: Recipe, job: PlayJob) -> dict[Task, Trajectory]:
    """What an earlier start of the job left in its file and in its journal, by task.

    Episodes that failed are only among them if the job was finished and does not say `again`.

    Raises:
        RunError: the episodes are of another player, of other weights or settings, or of other tasks.
        DataError: the file is damaged.
    """
    recipe = in_manner_of(recipe, job.model)
    finished = list(store.episodes(job.out)) if job.out.exists() else []
    begun = Journal(job.out).read()
    if not finished and not begun:
        return {}
    written = to_row((finished or begun)[0][1], **_origin(recipe, job))
    wanted = {name: (name, written[name]) for name in ("weights", "sampling", "phase")}
    wanted["policy"] = ("player", _player(job))
    tasks = set(job.tasks)
    for row, episode in [*finished, *begun]:
        different = [what for column, (what, value) in wanted.items() if row[column] != value]
        different += ["tasks"] if episode.task not in tasks else []
        if episode.task in tasks and episode.version != _card(recipe, episode.task.environment).version:
            different.append(f"version of {episode.task.environment}")
        if different:
            raise RunError(
                f"{job.out} was begun with another {', '.join(different)} (by {episode.policy}): choose another name, "
                "or delete that file and the .journal beside it"
            )
    whole = {episode.task: episode for _, episode in finished if episode.score is not None or not job.again}
    return whole | {episode.task: episode for _, episode in begun if episode.score is not None}


def _origin(recipe: Recipe, job: PlayJob) -> dict[str, Any]:
    """What is written down with every episode of a job: arguments of `store.write`."""
    return {
        "iteration": job.iteration,
        "phase": job.phase,
        "weights": _weights(recipe, job),
        "sampling": _sampling(recipe, job),
    }


def tasks_of(recipe: Recipe, split: Split) -> list[Task]:
    """The tasks that a recipe draws from a split, environment by environment.

    The evaluation tasks are the same for every seed, so that runs can be compared; a panel names them one by one.

    Raises:
        DataError: the recipe's panel cannot be read, or has tasks that cannot be played here.
    """
    if split == Split.EVAL and recipe.panel is not None:
        pinned = load_panel(recipe.panel)
        settings = recipe.environments.items()
        with configured(recipe):
            return [task for name, s in settings for task in pinned.tasks(name, served=bool(s.endpoints))]
    seed = 0 if split == Split.EVAL else recipe.seed
    return [
        task
        for name, settings in recipe.environments.items()
        for task in (spec_of(recipe, name) if split == Split.TRAIN else card_of(recipe, name)).select(
            split, getattr(settings, COUNTS[split]), seed=seed, where=settings.where
        )
    ]


def _card(recipe: Recipe, name: str) -> EnvSpec:
    return card_of(recipe, name) if name in recipe.environments else get_spec(name)


def _finished(recipe: Recipe, job: PlayJob, episode: Trajectory) -> Trajectory:
    """An episode with what is known of it here: which try it was, and whose numbers its task has."""
    version = _card(recipe, episode.task.environment).version
    return replace(episode, sample=job.sample, version=version)


def environment_pool(recipe: Recipe, *, here: bool = False) -> EnvPool:
    """The pool that a recipe describes.

    Args:
        recipe: the recipe.
        here: play all environments in this process, as their experts need it.
    """
    settings = recipe.pool
    return EnvPool(
        specs=[spec_of(recipe, name) for name in recipe.environments],
        sessions=settings.sessions,
        format=recipe.format,
        transport=_transport(recipe, here),
        brief=recipe.prompt == Prompt.brief,
        prompts=data_prompts(recipe).texts,
        max_turns={name: e.max_turns for name, e in recipe.environments.items() if e.max_turns is not None},
        limits=Limits(
            step_seconds=settings.step_seconds,
            policy_seconds=settings.policy_seconds,
            episode_seconds=settings.episode_seconds,
        ),
    )


def _transport(recipe: Recipe, here: bool) -> Transport:
    """Where the environments of a recipe live."""
    pool = recipe.pool
    http = HttpSettings(call_seconds=pool.step_seconds, connections=max(pool.sessions, 1))
    routes: dict[str, Transport] = {}
    for name, settings in recipe.environments.items():
        if settings.endpoints and not here:
            endpoints = [endpoint_of(address, settings) for address in settings.endpoints]
            kept = replace(http, keep_sessions=settings.keep_sessions)
            routes[name] = HttpTransport({name: endpoints}, settings=kept)
        else:
            routes[name] = _local(recipe, name, here)
    return RoutingTransport(routes, LocalTransport())


def place_of(recipe: Recipe, name: str) -> Place:
    """Where the sessions of an environment live on this machine: where the recipe says, or else its card."""
    settings = recipe.environments[name]
    if settings.place is not None:
        return Place(settings.place)
    return Place.PROCESS if settings.processes else spec_of(recipe, name).place


def _local(recipe: Recipe, name: str, here: bool) -> LocalTransport:
    place = place_of(recipe, name)
    if here and place == Place.PROCESS:
        place = Place.THREAD
    processes = recipe.environments[name].processes or PROCESSES
    return LocalTransport(place, processes=processes, imports=recipe.imports)


def sampling_seed(*parts: object) -> int:
    """A seed from the parts that name a phase, as in ``sampling_seed(recipe.seed, "explore", 2)``."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def divide(recipe: Recipe, job: PlayJob, shards: Sequence[PlayJob]) -> None:
    """Hands on to the shards of a job what earlier starts of it, perhaps divided otherwise, have played.

    Args:
        recipe: the recipe.
        job: the job.
        shards: what plays it now; the job alone if nothing is divided.
    """
    recipe = in_manner_of(recipe, job.model)
    journals = {Journal(shard.out): set(shard.tasks) for shard in shards}
    mine = {path for shard in shards for path in (shard.out, shard.out.with_suffix(SUFFIX))}
    for file in (*_shard_files(job), job.out.with_suffix(SUFFIX)):
        if file in mine or not file.exists():
            continue
        episodes = Journal(file).read() if file.suffix == SUFFIX else list(store.episodes(file))
        for journal, tasks in journals.items():
            journal.add(row for row, episode in episodes if episode.task in tasks)
        file.unlink()
    if job.out.exists() and job not in shards:  # it is finished, but for episodes that failed
        done = [to_row(episode, **_origin(recipe, job)) for episode in played_before(recipe, job).values()]
        for journal, tasks in journals.items():
            journal.add(row for row in done if Task(row["environment"], row["index"]) in tasks)


def merge_shards(recipe: Recipe, job: PlayJob, shards: Sequence[PlayJob]) -> None:
    """Joins the files of a job's shards into the job's own file, in the order of its tasks."""
    rank = {task: n for n, task in enumerate(job.tasks)}
    episodes = sorted(store.read(shard.out for shard in shards), key=lambda t: rank[t.task])
    store.write(job.out, episodes, **_origin(in_manner_of(recipe, job.model), job))
    clear_shards(job)


def clear_shards(job: PlayJob) -> None:
    """Removes what the shards of a finished job left."""
    for file in _shard_files(job):
        file.unlink()


def _shard_files(job: PlayJob) -> list[Path]:
    name = re.compile(rf"{re.escape(job.out.stem)}(\.[0-9]+-of-[0-9]+)+({SUFFIX}|\.parquet)")
    return sorted(file for file in job.out.parent.glob("*-of-*") if name.fullmatch(file.name))


def _weights(recipe: Recipe, job: PlayJob) -> str | None:
    if job.model in PLAYERS or _remote(recipe, job):
        return None
    from agentgym.models import weights_hash

    return weights_hash(job.model)


def _player(job: PlayJob) -> str:
    """How trajectories name who plays: a hub id, or as it001/model: the same wherever the run lies."""
    return job.model if job.model in PLAYERS else "/".join(Path(job.model).parts[-2:])


def _sampling(recipe: Recipe, job: PlayJob) -> dict[str, Any] | None:
    if job.model in PLAYERS:
        return None
    said = {**job.sampling, "seed": job.seed, "max_tokens": recipe.generation.max_tokens}
    if _remote(recipe, job) and not (recipe.model.endpoint and recipe.model.endpoint.tokens):
        return said  # the server renders its template itself
    from agentgym.codecs import codec_of

    day = codec_of(recipe.model, job.model).day
    return said if day is None else {**said, "day": day}


def _remote(recipe: Recipe, job: PlayJob) -> bool:
    return recipe.model.endpoint is not None and job.model == recipe.model.name  # others are who their names say


def _policy(recipe: Recipe, job: PlayJob) -> Policy:
    if job.model == "expert":
        return ExpertPolicy()
    if job.model == "random":
        return RandomPolicy(job.seed)
    if _remote(recipe, job):
        from agentgym.generation.remote import remote_policy
        from agentgym.generation.sampling import Sampling

        return remote_policy(recipe, Sampling(**job.sampling), job.seed)
    import torch

    from agentgym.codecs import speaking
    from agentgym.generation.local import LocalPolicy
    from agentgym.generation.sampling import Sampling
    from agentgym.models import load_model

    gpu = on_gpu(recipe.trainer)
    model = load_model(job.model, dtype=torch.bfloat16 if gpu else torch.float32)
    if gpu:
        torch.nn.Module.to(model, own_device())
    return LocalPolicy(
        model,
        speaking(recipe, job.model),
        settings=recipe.generation,
        sampling=Sampling(**job.sampling),
        seed=job.seed,
        context=recipe.model.context,
        slots=recipe.pool.sessions,
        name=_player(job),
    )
