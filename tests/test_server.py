from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from known import DIALECTS
from uvicorn.server import ServerState

from envpool import EnvPoolError, EnvSpec, MissingExtra, Step, UnknownTask, get_spec
from envpool.dialects import Complained
from envpool.places.inline import InlineHost
from envpool.places.process import ProcessHost
from envpool.places.thread import ThreadHost
from envpool.server import connections, create_app, serve
from envpool.server.serve import listening

KEY = "Idempotency-Key"
JSON = {"Content-Type": "application/json"}


class Counting:
    """Counts to the index: ``up`` adds one; some actions misbehave."""

    alive = 0

    def __init__(self) -> None:
        type(self).alive += 1
        self.goal = self.at = 0

    def reset(self, index: int) -> str:
        if index > 9:
            raise UnknownTask(f"counting has no task {index}")
        self.goal, self.at = index, 0
        return f"Count to {index}."

    def step(self, action: str):
        self.at += action == "up"
        if action == "raise":
            raise KeyError("lost\nkey")
        if action == "nonsense":
            return "not a step"
        if action == "nan":
            return Step("?", float("nan"), False)
        return Step(f"You are at {self.at}, said {action}.", self.at / 10, self.at == self.goal)

    def available_actions(self) -> Sequence[str]:
        return ["up", "stay"]

    def close(self) -> None:
        type(self).alive -= 1


COUNTING = EnvSpec(
    name="counting", version="7", summary="counts", instructions="Count.", brief="Count.", make=Counting,
    tasks=lambda split: range(1, 10), max_turns=5, success_above=0.5, place="inline",
)  # fmt: skip


@asynccontextmanager
async def served(spec: EnvSpec = COUNTING, host=None, **options):
    app = create_app(spec, host or InlineHost(spec), **options)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        client.sessions = app.state.sessions
        yield client


def run(main, *arguments, **options):
    """Runs ``main(client)`` while an environment is served."""

    async def within():
        async with served(*arguments, **options) as client:
            return await main(client)

    return asyncio.run(within())


async def post(client, path, key=None, **body):
    response = await client.post(path, json=body, headers={KEY: key} if key else {})
    assert response.status_code == 200, response.text
    return response.json()


async def started(client, index=3) -> int:
    number = (await post(client, "/create"))["id"]
    await post(client, "/reset", id=number, data_idx=index)
    return number


# -- dialects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "create", "index", "action"),
    [
        ("textcraft", {"minecraft_dir": "x", "commands": None, "goal": None}, "data_idx", "inventory"),
        ("babyai", None, "data_idx", "turn left"),
        ("maze", None, "game", "move up"),
        ("wordle", None, "seed", "p a n i c"),
    ],
)
def test_an_original_client_plays_unchanged(name, create, index, action):
    async def main(client):
        base = DIALECTS[name].base
        response = await client.post(f"{base}/create", json=create)
        assert response.status_code == 200
        number = response.json()["id"]
        assert 0 <= number < 2**53
        first = await post(client, f"{base}/reset", id=number, **{index: 1})
        assert first["observation"] == get_spec(name).make().reset(1)
        seen = await client.get(f"{base}/observation", params={"id": number})
        seen = seen.json()["observation"] if name == "babyai" else seen.json()
        assert seen == first["observation"]
        step = await post(client, f"{base}/step", id=number, action=action)
        assert isinstance(step["observation"], str)
        assert (step["reward"], step["done"]) == (0, False)
        detail = (await client.get(f"{base}/detail", params={"id": number})).json()
        assert detail["observation"] == step["observation"]
        assert detail["deleted"] is False
        assert isinstance((await client.get(f"{base}/")).json(), str)
        assert await post(client, f"{base}/close", id=number) is True
        assert await post(client, f"{base}/close", id=number) is False

    run(main, get_spec(name))


def test_textcraft_starts_its_first_task_if_none_is_named():
    async def main(client):
        created = await post(client, "/create")
        assert (created["observation"], created["done"], created["reward"]) == ("", False, 0)
        first = await post(client, "/reset", id=created["id"])
        assert first["observation"] == get_spec("textcraft").make().reset(0)

    run(main, get_spec("textcraft"))


def test_wordle_lists_its_words_before_the_game_as_its_client_wants_them():
    async def main(client):
        number = (await post(client, "/wordle/create"))["id"]
        words = (await client.get("/wordle/filtered_vocab", params={"id": number})).json()
        assert "panic" in words

    run(main, get_spec("wordle"))


def test_babyai_tells_the_score_so_far_and_what_the_last_action_added():
    async def main(client):
        number = await started(client)
        await post(client, "/step", id=number, action="up")
        step = await post(client, "/step", id=number, action="up")
        assert (step["score"], step["reward"]) == (0.2, 0.1)
        seen = (await client.get("/observation", params={"id": number})).json()
        assert (seen["score"], seen["done"], seen["deleted"]) == (0.2, False, False)

    run(main, replace(COUNTING, dialect=DIALECTS["babyai"]))


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_dialect_can_be_served_and_is_read_back_alike(name):
    dialect = DIALECTS[name]

    async def main(client):
        number = dialect.read_created(await post(client, f"{dialect.base}/create", **dialect.create or {}))
        who = {dialect.session: number}
        first = await post(client, f"{dialect.base}/reset", **who, **dialect.reset, **{dialect.index: 2})
        assert dialect.read_first(first).startswith("Count to 2.")
        sent = dialect.action.format("up")
        steps = [dialect.read_step(await post(client, f"{dialect.base}/step", **who, action=sent)) for _ in range(2)]
        assert [step.done for step in steps] == [False, True]
        assert steps[1].score == 0.2
        assert steps[1].observation.startswith("You are at 2, said up.")
        with pytest.raises(Complained):
            dialect.read_step(await post(client, f"{dialect.base}/step", **who, action=sent))

    run(main, replace(COUNTING, dialect=DIALECTS[name]))


def test_the_server_says_who_it_is_also_in_front_of_its_base():
    async def main(client):
        await post(client, "/maze/create")
        here, there = [(await client.get(path)).json() for path in ("/info", "/maze/info")]
        assert here == there
        assert here == {
            "server": "envpool", "environment": "maze", "version": "1", "deterministic": True, "idempotent": True,
            "closes": True, "sessions": 1, "max_sessions": 5,
        }  # fmt: skip
        assert (await client.get("/health")).json() == {"status": "ok", "sessions": 1, "abandoned": 0}

    run(main, get_spec("maze"), max_sessions=5)


def test_available_actions_are_a_list_of_texts():
    async def main(client):
        number = await started(client)
        assert (await client.get("/available_actions", params={"id": number})).json() == ["up", "stay"]

    run(main)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_every_error_of_a_session_has_its_kind():
    async def main(client):
        async def kind(path, **body):
            return (await post(client, path, **body))["kind"]

        assert await post(client, "/step", id=5, action="up") == {
            "error": "The id 5 is not valid.",
            "kind": "unknown_session",
        }
        assert await kind("/reset", id=5, data_idx=1) == "unknown_session"
        number = (await post(client, "/create"))["id"]
        assert await kind("/step", id=number, action="up") == "not_started"
        assert (await client.get("/observation", params={"id": number})).json()["kind"] == "not_started"
        assert await kind("/reset", id=number, data_idx=10) == "unknown_task"
        await post(client, "/reset", id=number, data_idx=1)
        await post(client, "/step", id=number, action="up")
        assert await kind("/step", id=number, action="up") == "finished"
        assert (await client.get("/observation", params={"id": number})).json() == "You are at 1, said up."

    run(main)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("raise", "KeyError: 'lost\\nkey'"),
        ("nonsense", "the environment returned str, not a Step"),
        ("nan", "the environment returned the score nan, not a finite number"),
    ],
)
def test_a_failing_environment_is_told_from_a_bad_request_and_needs_a_reset(action, error):
    async def main(client):
        number = await started(client)
        assert await post(client, "/step", id=number, action=action) == {"error": error, "kind": "environment_failed"}
        assert (await post(client, "/step", id=number, action="up"))["kind"] == "not_started"
        await post(client, "/reset", id=number, data_idx=1)
        assert (await post(client, "/step", id=number, action="up"))["done"]

    run(main)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"[" * 50_000, b"\xff", b'{"id": 1' + b"0" * 5000 + b"}", b'{"id": true, "action": "up"}', b"{}"],
)
def test_what_is_no_request_is_refused(content):
    async def main(client):
        response = await client.post("/step", content=content, headers=JSON)
        assert (response.status_code, response.json()["kind"]) == (422, "bad_request")

    run(main)


def test_a_request_with_a_missing_or_odd_field_is_refused():
    async def main(client):
        number = await started(client)
        for path, body in (
            ("/step", {"id": number}),
            ("/step", {"id": number, "action": 3}),
            ("/step", {"id": str(number), "action": "up"}),
            ("/reset", {"id": number}),
            ("/reset", {"id": number, "data_idx": 1.5}),
        ):
            assert (await client.post(path, json=body)).status_code == 422
        for number in ("", "x", "9" * 5000):
            assert (await client.get("/observation", params={"id": number})).status_code == 422

    run(main)


def test_a_body_beyond_the_limit_is_refused_whether_or_not_it_says_its_length():
    async def chunks():
        for _ in range(100):
            yield b"x" * 100

    async def main(client):
        for content in (b"x" * 5000, chunks()):
            response = await client.post("/step", content=content, headers=JSON)
            assert (response.status_code, response.json()["kind"]) == (413, "too_large")

    run(main, replace(COUNTING, longest_action=100))


def test_any_text_that_json_can_bring_can_be_sent_back():
    async def main(client):
        number = await started(client)
        response = await client.post("/step", content=f'{{"id": {number}, "action": "\\ud800 \\u00e9"}}', headers=JSON)
        assert response.json()["observation"] == "You are at 0, said \ud800 é."
        assert (await client.get("/observation", params={"id": number})).json() == "You are at 0, said \ud800 é."

    run(main)


def test_a_token_opens_everything_and_nothing_but_health_is_open_without():
    async def main(client):
        assert (await client.get("/health")).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            for path in ("/create", "/step", "/reset", "/close"):
                assert (await client.post(path, headers=headers)).status_code == 401
            for path in ("/info", "/observation", "/available_actions", "/"):
                assert (await client.get(path, headers=headers)).status_code == 401
        assert (await client.post("/create", headers={"Authorization": "Bearer secret"})).status_code == 200

    run(main, token="secret")


# -- once only --------------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_given_its_first_answer():
    async def main(client):
        number = (await post(client, "/create", "a"))["id"]
        assert (await post(client, "/create", "a"))["id"] == number
        assert (await post(client, "/create", "b"))["id"] != number
        first = await post(client, "/reset", "r", id=number, data_idx=3)
        step = await post(client, "/step", "s", id=number, action="up")
        assert await post(client, "/step", "s", id=number, action="up") == step
        assert (await post(client, "/step", "t", id=number, action="up"))["observation"] == "You are at 2, said up."
        assert await post(client, "/reset", "r", id=number, data_idx=3) == first
        assert (await post(client, "/step", id=number, action="up"))["observation"] == "You are at 3, said up."
        assert await post(client, "/close", "c", id=number) is True
        assert await post(client, "/close", "c", id=number) is True
        assert await post(client, "/close", "d", id=number) is False

    run(main)


class Slow(Counting):
    """Waits in ``step`` until it is let go; notices if two calls overlap."""

    inside = 0
    most = 0
    go = threading.Event()

    def step(self, action: str):
        type(self).inside += 1
        type(self).most = max(self.most, self.inside)
        assert self.go.wait(10)
        type(self).inside -= 1
        return super().step(action)


@pytest.fixture
def slow():
    Slow.go.clear()
    Slow.inside = Slow.most = 0
    yield replace(COUNTING, make=Slow, place="thread")
    Slow.go.set()


async def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_a_request_repeated_while_the_first_is_carried_out_waits_for_its_answer(slow):
    async def main(client):
        number = await started(client)
        twice = [asyncio.create_task(post(client, "/step", "s", id=number, action="up")) for _ in range(5)]
        await until(lambda: Slow.inside)
        Slow.go.set()
        assert {json.dumps(answer) for answer in await asyncio.gather(*twice)} == {json.dumps(await twice[0])}
        assert (await post(client, "/step", id=number, action="up"))["observation"] == "You are at 2, said up."

    run(main, slow, ThreadHost(slow))


def test_calls_of_one_session_are_made_one_after_the_other_and_of_several_at_once(slow):
    async def main(client):
        number = await started(client)
        steps = [asyncio.create_task(post(client, "/step", id=number, action="up")) for _ in range(3)]
        await until(lambda: Slow.inside)
        other = await started(client)
        steps.append(asyncio.create_task(post(client, "/step", id=other, action="up")))
        await until(lambda: Slow.inside == 2)
        Slow.go.set()
        said = [(await step)["observation"] for step in steps]
        assert said == [f"You are at {n}, said up." for n in (1, 2, 3, 1)]
        assert Slow.most == 2

    run(main, slow, ThreadHost(slow))


def test_a_session_closed_in_the_middle_of_a_step_ends_after_it(slow):
    async def main(client):
        number = await started(client)
        step = asyncio.create_task(post(client, "/step", id=number, action="up"))
        await until(lambda: Slow.inside)
        closing = asyncio.create_task(post(client, "/close", id=number))
        await until(lambda: client.sessions.count() == 0)
        alive = Slow.alive
        Slow.go.set()
        assert (await step)["observation"] == "You are at 1, said up."
        assert await closing is True
        assert Slow.alive == alive - 1

    run(main, slow, ThreadHost(slow))


def test_a_call_that_hangs_in_a_thread_costs_only_its_own_session(slow):
    async def main(client):
        number, other = await started(client), await started(client)
        step = await post(client, "/step", id=number, action="up")
        assert step == {"error": "the environment took more than 0.2 s", "kind": "environment_failed"}
        assert (await post(client, "/reset", id=number, data_idx=1))["kind"] == "unknown_session"
        assert (await post(client, "/reset", id=other, data_idx=1))["observation"] == "Count to 1."
        assert (await client.get("/health")).json() == {"status": "ok", "sessions": 1, "abandoned": 0}
        await until(lambda: client.sessions.abandoned == 1)  # once closing has waited for a moment

    run(main, slow, ThreadHost(slow), step_seconds=0.2)


# -- limits and lifetime ----------------------------------------------------------------------------------------------


def test_a_full_server_says_when_to_ask_again_and_does_not_remember_having_said_so():
    async def main(client):
        number, _ = [await started(client) for _ in range(2)]
        full = await client.post("/create", headers={KEY: "k"})
        assert (full.status_code, full.headers["retry-after"], full.json()["kind"]) == (503, "1", "full")
        await post(client, "/close", id=number)
        await post(client, "/create", "k")

    run(main, max_sessions=2)


def test_sessions_that_nobody_uses_are_closed():
    now = 0.0

    async def main(client):
        nonlocal now
        idle, used, looked_at = [await started(client) for _ in range(3)]
        alive = Counting.alive
        now = 60.0
        await post(client, "/step", id=used, action="up")
        await client.get("/observation", params={"id": looked_at})
        now = 110.0
        await client.sessions.reap()
        assert Counting.alive == alive - 1
        assert (await post(client, "/step", id=idle, action="up"))["kind"] == "unknown_session"
        assert (await post(client, "/step", id=used, action="up"))["observation"] == "You are at 2, said up."
        assert (await post(client, "/step", id=looked_at, action="up"))["observation"] == "You are at 1, said up."

    run(main, idle_seconds=100, clock=lambda: now)


def test_a_session_in_the_middle_of_a_step_is_not_idle(slow):
    now = 0.0

    async def main(client):
        nonlocal now
        number = await started(client)
        step = asyncio.create_task(post(client, "/step", id=number, action="up"))
        await until(lambda: Slow.inside)
        now = 1000.0
        await client.sessions.reap()
        Slow.go.set()
        assert (await step)["observation"] == "You are at 1, said up."

    run(main, slow, ThreadHost(slow), idle_seconds=1e2, clock=lambda: now)


def test_the_end_of_the_server_closes_every_environment():
    before = Counting.alive

    async def main(client):
        for _ in range(5):
            await started(client)

    run(main)
    assert Counting.alive == before


# -- worker processes -------------------------------------------------------------------------------------------------

ODD = """
import fcntl, os, time
from pathlib import Path
from envpool import EnvSpec, Step, UnknownTask, register

class Odd:
    def __init__(self):
        self.lock = open(os.path.join(os.environ["LOCKS"], str(os.getpid())), "w")
        fcntl.flock(self.lock, fcntl.LOCK_SH)

    def reset(self, index):
        if index > 9:
            raise UnknownTask(f"odd has no task {index}")
        self.at = 0
        return f"Count to {index}."

    def step(self, action):
        print("noise on the standard output")
        if action == "hang":
            Path(os.environ["LOCKS"], "..", "hangs").touch()
            time.sleep(1000)
        if action == "die":
            os._exit(1)
        if action == "raise":
            raise KeyError("lost key")
        self.at += action == "up"
        return Step(str(os.getpid()) if action == "pid" else f"You are at {self.at}.", self.at / 10, False)

    def available_actions(self):
        return "up", "stay"

    def close(self):
        self.lock.close()

register(EnvSpec(
    name="odd", version="1", summary="odd", instructions="Count.", brief="Count.", make=Odd,
    tasks=lambda split: range(1, 10), max_turns=5, success_above=0.5,
))
"""


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """A folder with the environment `odd`; each of its processes locks a file there as long as it lives."""
    (tmp_path / "odd_environment.py").write_text(ODD)
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "locks"


def wait_for_all_to_end(locks: Path, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    assert list(locks.iterdir())
    for path in locks.iterdir():
        with path.open() as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    assert time.monotonic() < deadline, f"process {path.name} is left"
                    time.sleep(0.01)


def odd_host(**options) -> ProcessHost:
    importlib.import_module("odd_environment")
    return ProcessHost(get_spec("odd"), 2, imports=["odd_environment"], **options)


def test_environments_in_workers_answer_as_everywhere_else(odd):
    async def main(client):
        numbers = await asyncio.gather(*(started(client) for _ in range(4)))
        pids = [(await post(client, "/step", id=number, action="pid"))["observation"] for number in numbers]
        assert sorted(map(pids.count, set(pids))) == [2, 2]
        step = await post(client, "/step", id=numbers[0], action="up")
        assert (step["observation"], step["score"]) == ("You are at 1.", 0.1)
        assert (await client.get("/available_actions", params={"id": numbers[0]})).json() == ["up", "stay"]
        assert (await post(client, "/reset", id=numbers[0], data_idx=10))["kind"] == "unknown_task"
        failed = await post(client, "/step", id=numbers[1], action="raise")
        assert failed == {"error": "KeyError: 'lost key'", "kind": "environment_failed"}
        assert await post(client, "/close", id=numbers[1]) is True

    run(main, COUNTING, odd_host())
    wait_for_all_to_end(odd)


@pytest.mark.parametrize("end", ["die", "kill"])
def test_a_worker_that_ended_loses_its_sessions_and_is_replaced(odd, end):
    host = odd_host()

    async def main(client):
        lost, kept = [await started(client) for _ in range(2)]
        if end == "die":
            assert (await post(client, "/step", id=lost, action="die"))["kind"] == "unknown_session"
        else:
            os.kill(int((await post(client, "/step", id=lost, action="pid"))["observation"]), signal.SIGKILL)
            await until(lambda: len(host.pids) == 1)
        assert client.sessions.count() == 1
        assert (await post(client, "/step", id=lost, action="up"))["kind"] == "unknown_session"
        assert await post(client, "/close", id=lost) is False
        assert (await post(client, "/step", id=kept, action="up"))["observation"] == "You are at 1."
        await started(client)
        assert len(host.pids) == 2

    run(main, COUNTING, host)
    wait_for_all_to_end(odd)


def test_a_worker_that_hangs_is_ended_and_the_sessions_beside_are_lost_not_blamed(odd):
    async def main(client):
        hanging, _, beside = [await started(client) for _ in range(3)]
        first = asyncio.create_task(post(client, "/step", id=hanging, action="hang"))
        await until((odd.parent / "hangs").exists)
        second = await post(client, "/step", id=beside, action="up")
        assert await first == {"error": "the environment took more than 0.5 s", "kind": "environment_failed"}
        assert second["kind"] == "unknown_session"
        assert (await post(client, "/step", id=hanging, action="up"))["kind"] == "unknown_session"

    run(main, COUNTING, odd_host(), step_seconds=0.5)
    wait_for_all_to_end(odd)


def test_workers_that_cannot_start_say_why_in_one_line(odd):
    async def main(environment, imports):
        spec = replace(get_spec("maze"), name=environment, make=type("Made", (), {"__module__": imports[0]}))
        async with served(spec, ProcessHost(spec, 2, imports=imports)) as client:
            await client.sessions.try_out()

    with pytest.raises(EnvPoolError, match=r"a worker could not start: unknown environment 'od'.* did you mean 'odd'"):
        asyncio.run(main("od", ["odd_environment"]))
    with pytest.raises(EnvPoolError, match="a worker could not start: there is no module 'nowhere' here"):
        asyncio.run(main("odd", ["nowhere"]))


# -- the command ------------------------------------------------------------------------------------------------------

COMMAND = """
import argparse
from envpool.server import add_serve_command
parser = argparse.ArgumentParser()
add_serve_command(parser.add_subparsers())
words = parser.parse_args()
words.run(words)
"""


@contextmanager
def serving(*words: str):
    """Starts ``envpool serve`` as a process of its own and waits for its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "serve", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            line = process.stdout.readline()
            address = re.fullmatch(rf"envpool: serving {words[0]} at (\S+)\n", line)
            assert address, line + process.stderr.read()
            process.address = address[1]
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_at_once_with_a_connection_open(number, code):
    with serving("maze", "--port", "0") as process, httpx.Client(base_url=process.address) as client:
        client.post("/maze/create").raise_for_status()
        process.send_signal(number)
        assert process.wait(5) == code
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_the_server_ends_with_its_standard_input_if_asked_to():
    with serving("maze", "--port", "0", "--until-stdin-closes") as process:
        assert httpx.get(f"{process.address}/health").json()["status"] == "ok"
        process.stdin.close()
        assert process.wait(5) == 0


def test_a_unix_socket_is_for_its_user_and_is_gone_with_the_server(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_by_a_killed_server:
        left_by_a_killed_server.bind(str(path))
    with serving("maze", "--uds", str(path)) as process:
        assert process.address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://server") as client:
            assert client.get("/info").json()["environment"] == "maze"
        with pytest.raises(EnvPoolError, match="in use"):
            serve("maze", uds=str(path))
        process.terminate()
        assert process.wait(5) == 0
    assert not path.exists()


def hang(client: httpx.Client, number: int) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/step", json={"id": number, "action": "hang"}, timeout=0.3)


def test_no_worker_is_left_when_the_server_is_killed_even_one_that_hangs(odd):
    with serving("odd", "--port", "0", "--workers", "2", "--import", "odd_environment") as process:
        with httpx.Client(base_url=process.address) as client:
            numbers = [client.post("/create").json()["id"] for _ in range(2)]
            for number in numbers:
                client.post("/reset", json={"id": number, "data_idx": 1}).raise_for_status()
            hang(client, numbers[0])
        process.kill()
        process.wait(5)
        wait_for_all_to_end(odd)


def test_sigterm_ends_a_server_with_a_worker_that_hangs(odd):
    with serving("odd", "--port", "0", "--workers", "2", "--import", "odd_environment") as process:
        with httpx.Client(base_url=process.address) as client:
            number = client.post("/create").json()["id"]
            client.post("/reset", json={"id": number, "data_idx": 1}).raise_for_status()
            hang(client, number)
        process.terminate()
        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()
        wait_for_all_to_end(odd)


def test_sigterm_in_the_middle_of_a_request_is_no_error():
    with serving("maze", "--port", "0") as process, connected(process) as half_sent:
        half_sent.sendall(
            b"POST /maze/create HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        assert half_sent.recv(100).startswith(b"HTTP/1.1 100")
        process.terminate()
        assert b"503 Service Unavailable" in half_sent.recv(1000)
        assert process.wait(5) == 0
        assert "Traceback" not in process.stderr.read()


def test_workers_start_and_end_without_a_word():
    with serving("maze", "--port", "0", "--workers", "2") as process:
        process.terminate()
        assert process.wait(5) == 0
        assert process.stderr.read() == ""


def test_a_port_that_another_server_has_just_taken_is_refused_before_anything_is_started(tmp_path):
    for place in (("127.0.0.1", 0, None), ("", 0, str(tmp_path / "s"))):
        with listening(*place) as (taken, _):
            name = taken.getsockname()
            same = place if isinstance(name, str) else (*name, None)
            with pytest.raises(EnvPoolError, match="in use"), listening(*same):
                pass


def connected(process) -> socket.socket:
    url = httpx.URL(process.address)
    return socket.create_connection((url.host, url.port), timeout=10)


def everything(connection: socket.socket) -> bytes:
    """All that a server says until it hangs up."""
    said = b""
    with suppress(ConnectionResetError):  # it did not read all that was sent
        while piece := connection.recv(1000):
            said += piece
    return said


LONG = b"a" * (connections.LONGEST_HEAD + 1)


BEGUN = b"POST /maze/create HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "rest"),
    [(b"", b"GET /health HTTP/1.1\r\nX: " + LONG), (b"", b"GET /" + LONG), (BEGUN, b"0\r\nX: " + LONG)],
    ids=["header", "url", "trailer"],
)
def test_a_head_that_does_not_end_is_refused(first, rest):
    with serving("maze", "--port", "0") as process, connected(process) as connection:
        connection.sendall(first)
        assert not first or connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(rest)
        assert everything(connection).startswith(b"HTTP/1.1 431 ")
        assert httpx.get(f"{process.address}/health").status_code == 200


@asynccontextmanager
async def behind_connections(app, everyone: connections.Connections):
    """Runs an application behind our connections; yields how to connect."""
    config, state = uvicorn.Config(app), ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: connections.Connection(config, state, {}, everyone=everyone), "127.0.0.1", 0
    )
    async with server:
        yield lambda: asyncio.open_connection(*server.sockets[0].getsockname())


@asynccontextmanager
async def accepting():
    """A server that waits for requests and answers none; yields how to connect."""

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    async with behind_connections(app, connections.Connections(10, 1000)) as connect:
        yield connect


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HTT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"])
def test_a_request_that_does_not_come_is_not_waited_for_long(sent, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.05)

    async def main():
        async with accepting() as connect, asyncio.timeout(5):
            reader, writer = await connect()
            writer.write(sent)
            await reader.read()
            writer.close()

    asyncio.run(main())


def test_connections_leave_files_for_all_else(monkeypatch):
    for files, most in ((resource.RLIM_INFINITY, 2048), (2**20, 2048), (1024, 960), (100, 50)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, files=files: (files, files))
        assert connections.most_connections(1024) == most


def test_the_token_is_what_stands_in_the_variable_without_white_space_around_it(monkeypatch):
    monkeypatch.setenv("ENVPOOL_TOKEN", " secret\n")
    with serving("maze", "--port", "0") as process:
        for shown, status in (("Bearer secret", 200), ("Bearer other", 401)):
            answer = httpx.get(f"{process.address}/info", headers={"Authorization": shown})
            assert answer.status_code == status


@pytest.fixture
def never_run(monkeypatch):
    """Makes a server that should have been refused a failure, where it would run for good."""

    def run(*arguments):
        pytest.fail("the server would run")

    monkeypatch.setattr(sys.modules["envpool.server.serve"], "_run", run)


@pytest.mark.usefixtures("never_run")
@pytest.mark.parametrize("token", ["sec\nret", "sec\x7fret", "sec\udcffret"])
def test_a_token_that_no_client_can_send_is_refused_and_not_shown(token, monkeypatch):
    monkeypatch.setattr(os, "environ", {"ENVPOOL_TOKEN": token})
    with pytest.raises(EnvPoolError, match="ENVPOOL_TOKEN") as caught:
        serve("maze", port=0)
    assert "sec" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_addresses_than_loopback_need_a_token(monkeypatch):
    monkeypatch.delenv("ENVPOOL_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "example.org", ""):
        with pytest.raises(EnvPoolError, match="ENVPOOL_TOKEN"):
            serve("maze", host=host, port=0)


@pytest.mark.usefixtures("never_run")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"workers": 2, "place": "thread"}, "--workers 2 is for --place process"),
        ({"place": "thred"}, "did you mean 'thread'"),
        ({"idle_seconds": math.nan}, "--idle-seconds nan"),
        ({"step_seconds": -1.0, "workers": 2}, "--step-seconds -1"),
        ({"port": 70_000}, "cannot listen on 127.0.0.1, port 70000"),
        ({"imports": ["nowhere_at_all"]}, "no module 'nowhere_at_all'"),
        ({"imports": ["./examples/nowhere.py"]}, "there is no file 'examples/nowhere.py' to import"),
        ({"imports": [".relative"]}, "no name of a module"),
        ({"imports": [""]}, "no name of a module"),
        ({"imports": ["raises_on_import"]}, r"cannot import raises_on_import \(ValueError: too bad\): mend the module"),
        ({"environment": "maz"}, "did you mean 'maze'"),
    ],
)
def test_a_server_that_cannot_be_says_why_in_one_line(options, complaint, monkeypatch, tmp_path):
    (tmp_path / "raises_on_import.py").write_text("raise ValueError('too\\nbad')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(EnvPoolError, match=complaint) as caught:
        serve(**{"environment": "maze", **options})
    assert "\n" not in str(caught.value)


def test_without_fastapi_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "envpool.server.application", raising=False)
    with pytest.raises(MissingExtra, match=r"agentgym-lightning\[serve\]"):
        serve("maze", port=0)


def test_envpool_and_its_server_are_imported_without_fastapi():
    code = "import envpool.server, sys; assert not {'fastapi', 'uvicorn', 'starlette'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
