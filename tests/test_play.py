"""What is written down while tasks are played, and what of it is played again after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym import play as room
from agentgym.data import store
from agentgym.data.journal import Journal
from agentgym.models import build_tiny
from agentgym.play import PlayJob, play, tasks_of
from agentgym.recipe import load_recipe
from agentgym.settings import Recipe, TinySettings
from envpool import EnvPool, ExpertPolicy, Split, Task, Trajectory, collect

RECIPE = """\
name: played
output: {output}
prompt: brief
model: {{name: tiny, context: 300}}
environments:
  maze: {{explore: 40, max_turns: 2, where: {{size: [4], distance: [2, 3, 4]}}}}
generation: {{max_tokens: 6}}
pool: {{sessions: 2}}
trainer: {{accelerator: cpu}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    return load_recipe(tmp_path / "recipe.yaml")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    sizes = TinySettings(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, vocabulary=400)
    build_tiny(sizes, ["move up and down"] * 3, context=300, seed=0, folder=folder)
    return str(folder)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Task]]:
    """The tasks of every call of the pool."""
    calls: list[list[Task]] = []

    def recording(pool: EnvPool, tasks: list[Task], policy: object, **options: object) -> list[Trajectory]:
        calls.append(list(tasks))
        return collect(pool, tasks, policy, **options)

    monkeypatch.setattr(room, "collect", recording)
    return calls


def job_of(recipe: Recipe, model: str, out: Path) -> PlayJob:
    return PlayJob(
        model=model,
        tasks=tuple(tasks_of(recipe, Split.EXPLORE)),
        sample=1,
        temperature=1.0,
        top_p=1.0,
        seed=5,
        iteration=2,
        phase="explore",
        out=out,
    )


def interrupted(recipe: Recipe, job: PlayJob, after: int) -> None:
    """Plays until so many episodes have ended."""
    ended = []

    def stop(success: bool | None) -> None:
        ended.append(success)
        if len(ended) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(recipe, job, stop)


def counted(recipe: Recipe, job: PlayJob) -> int:
    ended: list[bool | None] = []
    play(recipe, job, ended.append)
    return len(ended)


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_job_that_was_interrupted_ends_with_the_same_episodes(recipe, model, tmp_path, lockstep, asked):
    recipe = replace(recipe, generation=replace(recipe.generation, lockstep=lockstep))
    whole, cut = (job_of(recipe, model, tmp_path / f"{name}.parquet") for name in ("whole", "cut"))
    assert counted(recipe, whole) == 40
    assert [len(tasks) for tasks in asked] == ([32, 8] if lockstep else [40])
    asked.clear()
    interrupted(recipe, cut, 35)
    done = Journal(cut.out).read()
    assert len(done) == 32 if lockstep else len(done) >= 34
    asked.clear()
    assert counted(recipe, cut) == 40  # those that were done already are counted too
    again = [task for tasks in asked for task in tasks]
    assert again == [task for task in cut.tasks if task not in done]
    first, second = (store.read([job.out]) for job in (whole, cut))
    assert [t.task for t in first] == [t.task for t in second]
    assert {t.sample for t in second} == {1}
    if lockstep:
        assert store.fingerprint(first) == store.fingerprint(second)
    assert not list(tmp_path.glob("*.journal"))


def test_in_lockstep_a_piece_that_was_under_way_is_played_again_as_a_whole(recipe, model, tmp_path, asked):
    job = job_of(recipe, model, tmp_path / "it.parquet")
    interrupted(recipe, job, 20)
    assert Journal(job.out).read() == {}
    asked.clear()
    assert counted(recipe, job) == 40
    assert [len(tasks) for tasks in asked] == [32, 8]


def test_players_that_need_no_batch_are_written_down_one_by_one(recipe, tmp_path):
    job = job_of(recipe, "random", tmp_path / "it.parquet")
    interrupted(recipe, job, 7)
    assert len(Journal(job.out).read()) >= 7


def test_a_line_that_was_cut_short_is_no_episode(tmp_path):
    journal = Journal(tmp_path / "it.parquet")
    episodes = collect(EnvPool(), [Task("maze", 3), Task("maze", 4)], ExpertPolicy())
    journal.add(episodes)
    path = tmp_path / "it.journal"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(journal.read()) == [Task("maze", 3)]
    journal.add(episodes[1:])  # behind a whole line
    assert store.fingerprint(journal.read().values()) == store.fingerprint(episodes)
    path.write_bytes(b'{"environ')
    assert journal.read() == {}
    assert path.read_bytes() == b""


def test_the_record_says_which_weights_played_and_how(recipe, model, tmp_path):
    import polars as pl

    job = job_of(recipe, model, tmp_path / "it.parquet")
    play(recipe, job, lambda success: None)
    row = pl.read_parquet(job.out).row(0, named=True)
    assert len(row["weights"]) == 32
    assert json.loads(row["sampling"]) == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 5,
        "max_tokens": 6,
    }
    assert (row["iteration"], row["sample"], row["phase"]) == (2, 1, "explore")
