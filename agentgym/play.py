"""Plays tasks with a model: exploration and evaluation are the same thing with other tasks and another temperature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentgym.checks import COUNTS, endpoint_of
from agentgym.data import store
from agentgym.settings import Prompt, Recipe
from envpool import EnvPool, ExpertPolicy, Limits, Policy, RandomPolicy, Split, Task, Transport, collect, get_spec
from envpool.transports.endpoint import HttpSettings
from envpool.transports.http import HttpTransport
from envpool.transports.local import LocalTransport
from envpool.transports.process import ProcessTransport
from envpool.transports.routing import RoutingTransport


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


def play(recipe: Recipe, job: PlayJob, on_episode: OnEpisode) -> None:
    """Plays every task of the job once and writes the trajectories, in the order of the tasks.

    A job whose file is there already is not played again.

    Raises:
        ModelError: the model cannot be loaded.
        RunError: the file cannot be written.
    """
    if job.out.exists():
        return
    pool, policy = environment_pool(recipe), _policy(recipe, job)
    played = collect(pool, job.tasks, policy, on_trajectory=lambda trajectory: on_episode(trajectory.success))
    played = [replace(trajectory, sample=job.sample) for trajectory in played]
    store.write(job.out, played, iteration=job.iteration, phase=job.phase)


def tasks_of(recipe: Recipe, split: Split) -> list[Task]:
    """The tasks that a recipe draws from a split, environment by environment.

    The evaluation tasks are the same for every seed, so that runs can be compared.
    """
    seed = 0 if split is Split.EVAL else recipe.seed
    return [
        task
        for name, settings in recipe.environments.items()
        for task in get_spec(name).select(split, getattr(settings, COUNTS[split]), seed=seed, where=settings.where)
    ]


def environment_pool(recipe: Recipe, *, here: bool = False) -> EnvPool:
    """The pool that a recipe describes.

    Args:
        recipe: the recipe.
        here: play all environments in this process, as their experts need it.
    """
    settings = recipe.pool
    return EnvPool(
        sessions=settings.sessions,
        format=recipe.format,
        transport=None if here else _transport(recipe),
        brief=recipe.prompt is Prompt.brief,
        max_turns={name: e.max_turns for name, e in recipe.environments.items() if e.max_turns is not None},
        limits=Limits(
            step_seconds=settings.step_seconds,
            policy_seconds=settings.policy_seconds,
            episode_seconds=settings.episode_seconds,
        ),
    )


def _transport(recipe: Recipe) -> Transport:
    """Where the environments of a recipe live."""
    pool = recipe.pool
    http = HttpSettings(call_seconds=pool.step_seconds, connections=max(pool.sessions, 1))
    routes: dict[str, Transport] = {}
    for name, settings in recipe.environments.items():
        if settings.endpoints:
            endpoints = [endpoint_of(address, settings) for address in settings.endpoints]
            routes[name] = HttpTransport({name: endpoints}, settings=http)
        elif settings.processes:
            routes[name] = ProcessTransport(settings.processes, imports=recipe.imports, settings=http)
    return RoutingTransport(routes, LocalTransport(pool.sessions))


def sampling_seed(*parts: object) -> int:
    """A seed from the parts that name a phase, as in ``sampling_seed(recipe.seed, "explore", 2)``."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def merge_shards(job: PlayJob, shards: Sequence[PlayJob]) -> None:
    """Joins the files of a job's shards into the job's own file, in the order of its tasks."""
    rank = {task: n for n, task in enumerate(job.tasks)}
    played = store.read(shard.out for shard in shards)
    store.write(job.out, sorted(played, key=lambda t: rank[t.task]), iteration=job.iteration, phase=job.phase)
    for shard in shards:
        shard.out.unlink()


def _policy(recipe: Recipe, job: PlayJob) -> Policy:
    if job.model == "expert":
        return ExpertPolicy()
    if job.model == "random":
        return RandomPolicy(job.seed)
    import torch

    from agentgym.data.codec import Codec
    from agentgym.generation.local import LocalPolicy
    from agentgym.generation.sampling import Sampling
    from agentgym.models import load_model, load_tokenizer

    on_gpu = recipe.trainer.accelerator != "cpu" and torch.cuda.is_available()
    model = load_model(job.model, dtype=torch.bfloat16 if on_gpu else torch.float32)
    torch.nn.Module.to(model, "cuda" if on_gpu else "cpu")
    return LocalPolicy(
        model,
        Codec(load_tokenizer(job.model)),
        settings=recipe.generation,
        sampling=Sampling(temperature=job.temperature, top_p=job.top_p),
        seed=job.seed,
        context=recipe.model.context,
        slots=recipe.pool.sessions,
        name="/".join(Path(job.model).parts[-2:]),  # a hub id, or as it001/model: the same wherever the run lies
    )
