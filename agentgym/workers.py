"""Processes that play and learn beside the main one, each with its own pool and its own copy of the model.

A worker is this module run as a program. It takes jobs as lines of JSON on stdin, answers with lines of JSON on
stdout, and leaves its results as files in the run folder: so a job that was finished is never done twice, and a
worker ends as soon as the process that started it does, however that ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from agentgym import progress
from agentgym.data import store
from agentgym.errors import AgentGymError, RunError
from agentgym.learn import LearnJob, learn
from agentgym.numbering import configured
from agentgym.play import OnEpisode, PlayJob, clear_shards, divide, merge_shards, play, played_before
from agentgym.ranks import ALONE, Ranks
from agentgym.runfolder import RunFolder
from agentgym.settings import Recipe
from envpool import EnvPoolError, Trajectory
from envpool.imports import import_named

Answer = Mapping[str, Any]

CLOSE_SECONDS = 15.0
"""How long a worker may take to close its sessions, or to save what it learns, before it is killed."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # a worker is one of several on the same cores
    # glibc gives big blocks back to the system at once and fetches them again for the next step: 5 % of generation
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}


class Workers:
    """The worker processes of a run; started at the first job, ended with the block.

    With `pool.workers: 1` there is none, and jobs are done in this process. Several ranks share the tasks of a job.

    Args:
        recipe: the recipe.
        folder: of the run.
        ranks: the place of this process among those of the run.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, ranks: Ranks = ALONE) -> None:
        self._recipe = recipe
        self._folder = folder
        self._ranks = ranks
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        if self._recipe.pool.workers > 1:
            self._workers = [_Worker(self._folder.recipe_file, number) for number in range(self._recipe.pool.workers)]
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()

    def play(self, job: PlayJob, title: str) -> list[Trajectory]:
        """Does a job, divided among ranks and workers, and shows how far it is (of several ranks, the first one).

        Args:
            job: what to play; what was played before is not played again.
            title: what the terminal calls it.
        """
        with self._ranks.together():
            done = job.out.exists() and played_before(self._recipe, job).keys() >= set(job.tasks)
        if not done:
            shards = _shards(job, self._ranks.size)
            smallest = [part for shard in shards for part in _shards(shard, max(1, len(self._workers)))]
            self._ranks.first_does(lambda: divide(self._recipe, job, smallest))
            with self._ranks.together():
                self._show(shards[self._ranks.rank], title)
            if len(shards) > 1:
                self._ranks.first_does(lambda: merge_shards(self._recipe, job, shards))
        self._ranks.first_does(lambda: clear_shards(job))
        return store.read([job.out])

    def _show(self, job: PlayJob, title: str) -> None:
        with self._folder.timed(str(job.phase)), progress.phase(title, len(job.tasks), unit="episodes") as bar:
            solved = 0

            def count(success: bool | None) -> None:
                nonlocal solved
                solved += bool(success)
                bar.advance()
                bar.note(f"{100 * solved / bar.done:.0f} % solved")

            self._play(job, count)

    def _play(self, job: PlayJob, on_episode: OnEpisode) -> None:
        if not self._workers:
            play(self._recipe, job, on_episode)
            return
        shards = _shards(job, len(self._workers))
        for worker, shard in zip(self._workers, shards, strict=True):
            worker.send({"play": shard.to_json()})
        for answer in self._until_done(self._workers):
            on_episode(answer["success"])
        merge_shards(self._recipe, job, shards)

    def learn_beside(self, job: LearnJob, meanwhile: Callable[[], None]) -> None:
        """Does a learning job in a worker while this process does something else; one after the other without them."""
        if not self._workers or (job.folder / "done.json").exists():
            meanwhile()
            learn(self._recipe, job, ranks=self._ranks)
            return
        worker = self._workers[0]
        worker.send({"learn": job.to_json()})
        meanwhile()
        for _ in self._until_done([worker]):
            pass

    @staticmethod
    def _until_done(workers: Sequence[_Worker]) -> Iterator[Answer]:
        """Yields the answers of several workers as they come, until each has said that it is done.

        Raises:
            RunError: a worker could not do its job, or died.
        """
        answers: queue.SimpleQueue[tuple[_Worker, Answer]] = queue.SimpleQueue()
        for worker in workers:
            worker.forward(answers)
        busy = set(workers)
        while busy:
            worker, answer = answers.get()
            if "error" in answer:
                raise RunError(answer["error"])
            if "done" in answer:
                busy.discard(worker)
            else:
                yield answer


def _shards(job: PlayJob, count: int) -> list[PlayJob]:
    """Divides a job; it stays whole if there is nobody to divide it with."""
    return [job.shard(rank, count) for rank in range(count)] if count > 1 else [job]


class _Worker:
    """One worker process, seen from the process that started it."""

    def __init__(self, recipe_file: Path, number: int) -> None:
        path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agentgym.workers", str(recipe_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path, "LOCAL_RANK": str(number)},
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C goes to the main process, which ends its workers
        )
        self._last_words = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, job: Mapping[str, Any]) -> None:
        try:
            print(json.dumps(job), file=self._stdin, flush=True)
        except BrokenPipeError:
            raise RunError(self._death()) from None

    def forward(self, answers: queue.SimpleQueue[tuple[_Worker, Answer]]) -> None:
        """Puts the answers to the present job into a queue, from a thread of its own."""
        threading.Thread(target=self._read, args=(answers,), daemon=True).start()

    def _read(self, answers: queue.SimpleQueue[tuple[_Worker, Answer]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            answers.put((self, answer))
            if "done" in answer or "error" in answer:
                return
        answers.put((self, {"error": self._death()}))

    def _listen(self) -> None:
        """Passes on what the process says on stderr, and remembers its last line."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            self._last_words = line.strip() or self._last_words

    def end(self) -> None:
        """Ends the process. It closes its sessions first, or saves what it learns; an idle one just ends."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self._process.kill()
        self._process.wait()

    def _death(self) -> str:
        code = self._process.wait()
        self._listener.join(CLOSE_SECONDS)  # a process that the worker started may keep its stderr open
        if code >= 0:
            said = progress.visible(self._last_words)[:300] or "it said nothing"
            return f"a worker process died (exit code {code}): {said}; mend that, then run the same command again"
        how = f"killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += ", as it happens where memory runs out: lower pool.workers, pool.sessions or model.context"
        return f"a worker process died ({how}); the same command goes on where it was"

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin


def main(argv: Sequence[str]) -> None:
    """Runs a worker: does the jobs on stdin, one after the other, until stdin ends."""
    from agentgym.recipe import load_recipe

    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not look like an answer
    progress.quiet()
    import_named()
    recipe = load_recipe(argv[0])
    with configured(recipe):
        _work(recipe, answers)


def _work(recipe: Recipe, answers: IO[str]) -> None:
    jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_take_jobs, args=(jobs, busy), daemon=True).start()

    def answer(**words: object) -> None:
        print(json.dumps(words), file=answers, flush=True)

    while True:
        job = jobs.get()
        busy.set()
        try:
            if "play" in job:
                play(recipe, PlayJob.from_json(job["play"]), lambda success: answer(success=success))
            else:
                learn(recipe, LearnJob.from_json(job["learn"]))
        except (AgentGymError, EnvPoolError) as error:
            answer(error=str(error))
        else:
            answer(done=True)
        finally:
            busy.clear()


def _take_jobs(jobs: queue.SimpleQueue[Mapping[str, Any]], busy: threading.Event) -> None:
    """Takes jobs until whoever started this worker is gone; then it ends at once, in the middle of a job too."""
    rest = b""
    while part := os.read(0, 1 << 16):  # a buffered file would not let the process end while this thread reads
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)  # sessions on servers are closed first, learning is saved
        time.sleep(CLOSE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
