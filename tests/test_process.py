from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import trio
from known import EMBEDDED
from test_http import play, played_here, wander

from envpool import EnvPool, EnvPoolError, Limits, RandomPolicy, StopReason, Task, get_spec, run_sync
from envpool.imports import import_modules
from envpool.places.local import LocalTransport
from envpool.testing import check_env


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" if Path("/proc").exists() else True


@pytest.mark.parametrize("name", EMBEDDED)
def test_trajectories_are_the_same_in_worker_processes_and_no_worker_is_left(name):
    tasks = get_spec(name).select("explore", 8)
    here = played_here(tasks, RandomPolicy(2, available=True))
    transport = LocalTransport("process", replays=10)
    pids = []

    async def main():
        pool = EnvPool(transport=transport)
        async with pool.run(tasks, RandomPolicy(2, available=True)) as trajectories:
            async for _ in trajectories:
                pids.extend(transport.pids)
        return await play(pool, tasks, RandomPolicy(2, available=True))

    assert run_sync(main) == here
    assert pids
    assert not any(map(alive, pids))


def test_a_worker_that_dies_is_replaced_and_its_episodes_are_played_again():
    tasks = [Task("maze", index) for index in range(25)]
    here = played_here(tasks)
    transport = LocalTransport("process", processes=1, replays=10)
    turns, pids = 0, set()

    async def kill_one_now_and_then(conversation):
        nonlocal turns
        turns += 1
        pids.update(transport.pids)
        if turns in (40, 150):  # its answer was heard, so that there is a worker, in the middle of episodes
            os.kill(transport.pids[0], signal.SIGKILL)
        return await wander(conversation)

    pool = EnvPool(transport=transport, sessions=8)
    played = run_sync(play, pool, tasks, kill_one_now_and_then)
    assert [t.turns for t in played] == [t.turns for t in here]
    assert all(t.stop is not StopReason.ERROR for t in played)
    assert pool.statistics().replays > 0
    assert len(pids) == 3
    assert not any(map(alive, pids))


def test_an_environment_of_ones_own_lives_in_workers_too(tmp_path, monkeypatch):
    source = Path(__file__).parents[1] / "examples" / "higher_lower.py"
    (tmp_path / "own_game.py").write_text(source.read_text().replace('name="higher_lower"', 'name="own_game"'))
    monkeypatch.syspath_prepend(str(tmp_path))
    import_modules(["own_game"])
    (played,) = run_sync(
        play, EnvPool(transport=LocalTransport("process", processes=1)), [Task("own_game", 50)], RandomPolicy(0)
    )
    assert played.stop is not StopReason.ERROR, played.error


def test_workers_that_cannot_start_say_why():
    transport = LocalTransport("process", imports=["no_such_module_anywhere"])

    async def main():
        async with transport.running():
            await transport.open(get_spec("maze"))

    with pytest.raises(EnvPoolError, match="could not start: there is no module 'no_such_module_anywhere'"):
        run_sync(main)
    with pytest.raises(EnvPoolError, match="at least one worker"):
        LocalTransport("process", processes=0)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_conformance_kit_passes_in_workers(name):
    report = check_env(get_spec(name), transport=LocalTransport("process", replays=10))
    assert report.passed, report


PLAYER = """
import sys
import trio
from envpool import EnvPool, Task, run_sync
from envpool.places.http import HttpTransport
from envpool.places.local import LocalTransport

transport = LocalTransport("process") if sys.argv[1] == "workers" else HttpTransport({"maze": [sys.argv[1]]})
live = 0

async def think(conversation):
    global live
    live += len(conversation) == 1
    if live == 100:
        print("playing", *getattr(transport, "pids", []), flush=True)
    await trio.sleep(0.05)
    return "Action:\\nmove up"

async def main():
    pool = EnvPool(sessions=100, transport=transport, max_turns={"maze": 1000})
    async with pool.run((Task("maze", 0) for _ in range(10**9)), think) as trajectories:
        async for _ in trajectories:
            pass

run_sync(main)
"""


def started(where: str) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen([sys.executable, "-c", PLAYER, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()[1:]]


def live_sessions(url: str) -> int:
    import httpx

    return httpx.get(f"{url}/health").json()["sessions"]


@pytest.fixture
def server():
    command = [sys.executable, "-m", "envpool", "serve", "maze", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1].decode()
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_closes_every_session_on_the_server(server, number, code):
    process, _ = started(server)
    assert live_sessions(server) == 100
    process.send_signal(number)
    assert process.wait(20) in (code, -number)
    assert live_sessions(server) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_signal_leaves_a_worker_behind(number):
    process, pids = started("workers")
    assert len(pids) == 2
    process.send_signal(number)
    process.wait(20)
    deadline = time.monotonic() + 10
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "a worker outlived its pool"
        time.sleep(0.01)


def test_the_command_serves_and_checks(server, capsys):
    from envpool.__main__ import main

    assert main(["check", f"{server}/maze".removesuffix("/maze"), "--dialect", "maze"]) == 0
    assert "passed" in capsys.readouterr().out
    assert main(["check", "textcraft"]) == 0
    assert main(["check", server]) == 2
    assert textwrap.shorten(capsys.readouterr().err, 200).startswith("envpool: say with --dialect")


OWN = """
import os, time
from envpool import EnvSpec, register
from envpool.envs.maze.world import Maze

if os.environ.get("GATE"):
    open(os.environ["GATE"]).read()  # returns when somebody has written there

class Talkative(Maze):
    def step(self, action):
        print("x" * 8_000)
        return super().step("move up")

register(EnvSpec(name="talkative", version="1", summary="", instructions="i", brief="b", make=Talkative,
                 tasks=lambda split: range(26), max_turns=20, success_above=0.5, place="inline"))
"""


@pytest.fixture
def talkative(tmp_path, monkeypatch):
    (tmp_path / "talkative_world.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("talkative_world")


def test_an_environment_that_prints_does_not_stop(talkative):
    tasks = [Task("talkative", 0), Task("talkative", 5)]  # 320 kB, of which a pipe holds 64
    played = run_sync(play, EnvPool(transport=LocalTransport("process", processes=1)), tasks, RandomPolicy(0))
    assert [t.stop for t in played] == [StopReason.MAX_TURNS] * 2


@pytest.fixture
def gate(talkative, tmp_path, monkeypatch) -> Path:
    """A pipe; workers go on loading until somebody writes there."""
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    return tmp_path / "gate"


async def started_workers(transport: LocalTransport) -> list[int]:
    while len(transport.pids) < 2:
        await trio.lowlevel.checkpoint()
    return transport.pids


async def leave_early(pool, transport, tasks):
    async with pool.run(tasks, RandomPolicy(0)):
        return await started_workers(transport)


async def cancel(pool, transport, tasks):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, pool, tasks, RandomPolicy(0))
        pids = await started_workers(transport)
        nursery.cancel_scope.cancel()
    return pids


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("stop", [leave_early, cancel])
def test_a_run_that_ends_while_workers_load_does_not_wait_for_them(stop):
    transport = LocalTransport("process")
    pool = EnvPool(transport=transport)
    pids = run_sync(stop, pool, transport, [Task("talkative", index) for index in range(4)])
    assert not any(map(alive, pids))  # none was waited for: the gate never opens


def test_an_episode_whose_time_is_up_while_workers_load_costs_no_other(gate):
    ends = []

    async def main():
        transport = LocalTransport("process", processes=1)
        pool = EnvPool(sessions=1, transport=transport, limits=Limits(episode_seconds=1))
        async with pool.run([Task("talkative", index) for index in range(26)], RandomPolicy(0)) as trajectories:
            async for trajectory in trajectories:
                if not ends:
                    gate.write_text("go on")
                ends.append(trajectory.stop)

    run_sync(main)
    assert ends[0] is StopReason.TIMEOUT
    assert ends[-1] is StopReason.MAX_TURNS
