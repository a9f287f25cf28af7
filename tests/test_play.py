"""What is written down while tasks are played, and what of it is played again after an interruption."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from agentgym import play as room
from agentgym.data import store
from agentgym.data.journal import Journal
from agentgym.data.rows import to_row
from agentgym.errors import RunError
from agentgym.manner import in_manner_of, write_manner
from agentgym.models import build_tiny
from agentgym.play import PlayJob, clear_shards, divide, merge_shards, play, tasks_of
from agentgym.recipe import load_recipe
from agentgym.settings import Recipe, TinySettings
from envpool import EnvPool, ExpertPolicy, Split, StopReason, Task, Trajectory, collect, get_spec

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
    done = {episode.task for _, episode in Journal(cut.out).read()}
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
    assert Journal(job.out).read() == []
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
    rows = [to_row(episode, iteration=0, phase="eval") for episode in episodes]
    journal.add(rows)
    path = tmp_path / "it.journal"
    path.write_bytes(path.read_bytes()[:-20])
    assert [episode.task for _, episode in journal.read()] == [Task("maze", 3)]
    journal.add(rows[1:])  # behind a whole line
    assert store.fingerprint(episode for _, episode in journal.read()) == store.fingerprint(episodes)
    path.write_bytes(b'{"environ')
    assert journal.read() == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize("line", [b"xx", b"{}", b"[]", b"null", b"\x00\x00\x00", b"\xff\xfe", b'{"environment": 3}'])
def test_a_line_that_says_nothing_is_no_episode_and_costs_no_other(line, tmp_path):
    journal = Journal(tmp_path / "it.parquet")
    rows = [to_row(e, iteration=0, phase="eval") for e in collect(EnvPool(), [Task("maze", 3)], ExpertPolicy())]
    journal.add(rows)
    with (tmp_path / "it.journal").open("ab") as file:
        file.write(line + b"\n")
    journal.add(rows)
    assert [row for row, _ in journal.read()] == rows * 2


def changed(recipe: Recipe, job: PlayJob, model: str) -> dict[str, tuple[Recipe, PlayJob]]:
    """Jobs that write the same file, but other episodes."""
    longer = replace(recipe, generation=replace(recipe.generation, max_tokens=7))
    return {
        "player": (recipe, replace(job, model="expert")),
        "sampling": (longer, job),
        "phase": (recipe, replace(job, phase="eval")),
        "tasks": (recipe, replace(job, tasks=job.tasks[:5])),
        "weights": (recipe, replace(job, model=model)),
    }


@pytest.mark.parametrize("what", ["player", "sampling", "phase", "tasks", "weights"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_file_of_other_episodes_is_refused_in_one_line(recipe, model, tmp_path, what, finished):
    other = tmp_path / "other" / Path(model).parent.name / "tiny"
    shutil.copytree(model, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    job = job_of(recipe, model, tmp_path / "it.parquet")
    if finished:
        play(recipe, job, lambda success: None)
    else:
        interrupted(recipe, job, 35)
    with pytest.raises(RunError, match=rf"it\.parquet was begun with another .*{what}.*: choose another name"):
        play(*changed(recipe, job, str(other))[what], lambda success: None)
    assert counted(recipe, job) == (0 if finished else 40)  # nothing was lost


def test_episodes_of_another_version_of_an_environment_are_not_gone_on_with(recipe, tmp_path, monkeypatch):
    job = job_of(recipe, "random", tmp_path / "it.parquet")
    interrupted(recipe, job, 7)
    spec = replace(get_spec("maze"), version="2")
    monkeypatch.setattr(room, "card_of", lambda recipe, name: spec)
    with pytest.raises(RunError, match="another version of maze"):
        play(recipe, job, lambda success: None)


def failing(recipe: Recipe, job: PlayJob, every: int) -> None:
    """Finishes a job some of whose episodes failed."""
    play(recipe, job, lambda success: None)
    played = [
        replace(t, score=None, success=None, stop=StopReason.ERROR, error="the server is gone") if i % every == 0 else t
        for i, t in enumerate(store.read([job.out]))
    ]
    store.write(job.out, played, **room._origin(recipe, job))


def test_episodes_that_failed_are_tried_again_where_a_job_says_so(recipe, tmp_path, asked):
    job = job_of(recipe, "random", tmp_path / "it.parquet")
    play(recipe, job, lambda success: None)
    sound = store.fingerprint(store.read([job.out]))
    failing(recipe, job, every=10)
    asked.clear()
    play(recipe, job, lambda success: None)
    assert asked == []
    play(recipe, replace(job, again=True), lambda success: None)
    assert [list(tasks) for tasks in asked] == [list(job.tasks[::10])]
    assert store.fingerprint(store.read([job.out])) == sound


def test_episodes_that_failed_before_an_interruption_are_tried_again(recipe, tmp_path, asked):
    job = job_of(recipe, "random", tmp_path / "it.parquet")
    failing(recipe, job, every=2)
    rows = [row for row, _ in store.episodes(job.out)]
    job.out.unlink()
    Journal(job.out).add(rows)
    asked.clear()
    play(recipe, job, lambda success: None)
    assert [list(tasks) for tasks in asked] == [list(job.tasks[::2])]
    assert all(t.score is not None for t in store.read([job.out]))


@pytest.mark.parametrize("now", [1, 2, 3])
def test_what_was_played_is_kept_when_the_tasks_are_divided_otherwise(recipe, tmp_path, asked, now):
    def shards(count):
        return [job.shard(n, count) for n in range(count)] if count > 1 else [job]

    job = job_of(recipe, "random", tmp_path / "it.parquet")
    first, second = shards(2)
    play(recipe, first, lambda success: None)  # finished
    interrupted(recipe, second, 7)
    done = [*first.tasks, *(episode.task for _, episode in Journal(second.out).read())]
    divide(recipe, job, shards(now))
    asked.clear()
    for shard in shards(now):
        play(recipe, shard, lambda success: None)
    assert {task for tasks in asked for task in tasks} == set(job.tasks) - set(done)
    if now > 1:
        merge_shards(recipe, job, shards(now))
    assert [t.task for t in store.read([job.out])] == list(job.tasks)
    assert [path.name for path in tmp_path.glob("it*")] == ["it.parquet"]


def test_other_files_that_look_like_shards_stay_where_they_are(recipe, tmp_path):
    job = job_of(recipe, "random", tmp_path / "it.parquet")
    others = ["it-00000-of-00002.parquet", "it.0-of-2.csv", "it.x.0-of-2.parquet", "item.0-of-2.parquet"]
    for name in others:
        (tmp_path / name).write_text("mine")
    clear_shards(job)
    assert all((tmp_path / name).exists() for name in others)


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


def test_failed_episodes_of_a_model_with_a_manner_of_its_own_are_tried_again_by_shards(recipe, model, tmp_path):
    taught = tmp_path / "taught" / "tiny"
    shutil.copytree(model, taught)
    write_manner(replace(recipe, generation=replace(recipe.generation, max_tokens=3)), taught)
    job = replace(job_of(recipe, str(taught), tmp_path / "it.parquet"), again=True)
    failing(in_manner_of(recipe, str(taught)), job, every=10)
    shards = [job.shard(n, 2) for n in range(2)]
    divide(recipe, job, shards)
    for shard in shards:
        play(recipe, shard, lambda success: None)
    merge_shards(recipe, job, shards)
    assert all(t.score is not None for t in store.read([job.out]))
