"""What strangers can do to a server: take its memory or its time, guess, and send others' browsers."""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import json
import pkgutil
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers
from test_server import COUNTING, JSON, KEY, behind_connections, post, run, serving, started, until

from envpool import EnvPool, EnvPoolError, Task, collect, get_spec
from envpool.server import connections
from envpool.server.answers import Answer, Answers, Kind, Refused, Shelf
from envpool.server.callers import Callers
from envpool.server.connections import Connections
from envpool.types import Split

# -- connections ------------------------------------------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


class App:
    """Reads requests and answers them with their number, as soon as it is let go."""

    def __init__(self, size: int = 0) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.size = size
        self.begun = self.answered = 0

    async def __call__(self, scope, receive, send):
        self.begun += 1
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        await self.go.wait()
        self.answered += 1
        body = b"%d;" % self.answered + b"x" * self.size
        head = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})


def strangers(test, *, app=App, most=10, max_body=1000):
    """Runs ``test(app, everyone, connect)`` against an application behind our connections."""

    async def main():
        application, everyone = app(), Connections(most, max_body)
        async with behind_connections(application, everyone) as connect, asyncio.timeout(20):
            writers = []

            async def connected():
                reader, writer = await connect()
                writers.append(writer)
                return reader, writer

            try:
                await test(application, everyone, connected)
            finally:
                for writer in writers:
                    writer.close()

    asyncio.run(main())


async def hung_up(reader) -> bytes:
    """All that a server says until it hangs up."""
    said = b""
    with suppress(ConnectionResetError):
        while piece := await reader.read(10_000):
            said += piece
    return said


def test_requests_sent_ahead_wait_unread_and_are_answered_in_their_order():
    async def test(app, everyone, connect):
        app.go.clear()
        reader, writer = await connect()
        writer.write(GET * 50_000)  # more than a socket takes: the server must stop reading
        await until(lambda: everyone.held > 100_000)
        assert app.begun == 1
        most = 2 * 2**18  # what one reading of asyncio brings, and a little
        assert everyone.held < most
        app.go.set()
        for number in range(1, 2001):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
            assert await reader.readuntil(b";") == b"%d;" % number
            assert everyone.held < most
        assert app.begun - app.answered <= 1

    strangers(test)


@pytest.mark.parametrize(
    "unfinished",
    [b"", b"GET / HTT", POST + b"Content-Length: 9\r\n\r\n12", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"],
    ids=["nothing", "head", "body", "chunks"],
)
def test_whoever_keeps_the_server_waiting_for_longest_goes_when_it_is_too_much(unfinished, monkeypatch):
    monkeypatch.setattr(connections, "HELD", 2 * connections.COST + 1000)

    async def test(app, everyone, connect):
        slow = []
        for _ in range(4):
            slow.append(await connect())
            slow[-1][1].write(unfinished)
            await until(lambda: everyone.held)
        for reader, _ in slow[:2]:
            assert await hung_up(reader) == b""
        reader, writer = await connect()
        writer.write(GET)
        assert (await reader.readuntil(b"1;")).startswith(OK)

    strangers(test, max_body=0)


def test_what_is_held_is_nothing_once_all_is_answered_or_gone():
    async def test(app, everyone, connect):
        reader, writer = await connect()
        writer.write(POST + b"Content-Length: 900\r\n\r\n" + b"x" * 900 + GET)
        await reader.readuntil(b"2;")
        _, gone = await connect()
        gone.write(b"POST / HTTP/1.1\r\nContent-Le")
        await until(lambda: everyone.held)
        gone.close()
        await until(lambda: not everyone.held)

    strangers(test)


def test_one_connection_too_many_ends_the_one_that_has_rested_for_longest():
    async def test(app, everyone, connect):
        resting = [await connect() for _ in range(2)]
        for reader, writer in (*resting, resting[0]):
            writer.write(GET)
            await reader.readuntil(b";")
        reader, writer = await connect()
        writer.write(GET)
        await reader.readuntil(b"4;")
        assert await hung_up(resting[1][0]) == b""
        resting[0][1].write(GET)
        await resting[0][0].readuntil(b"5;")

    strangers(test, most=2)


def test_a_connection_too_many_is_hung_up_on_while_all_others_are_busy():
    async def test(app, everyone, connect):
        app.go.clear()
        busy, writer = await connect()
        writer.write(GET)
        await until(lambda: app.begun)
        refused, _ = await connect()
        assert await hung_up(refused) == b""
        app.go.set()
        await busy.readuntil(b"1;")

    strangers(test, most=1)


def test_an_answer_that_nobody_reads_is_not_kept_for_long(monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.05)

    async def test(app, everyone, connect):
        _, writer = await connect()
        writer.write(GET * 20)
        await until(lambda: everyone.held)
        await until(lambda: not everyone.held)
        assert app.begun < 20

    strangers(test, app=lambda: App(2**22), max_body=2**24)


def test_a_request_that_begins_in_the_packet_of_another_is_not_waited_for_either(monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.05)

    async def test(app, everyone, connect):
        reader, writer = await connect()
        writer.write(GET + POST + b"Content-Length: 9\r\n\r\n12")
        assert (await hung_up(reader)).endswith(b"1;")

    strangers(test)


@pytest.mark.parametrize(
    "request_of_many_parts",
    [
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 200 + b"\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:\r\n" * 101,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20_000,
        b"\r\n" * 20_000,
    ],
    ids=["headers", "chunks", "trailers", "extension", "empty lines"],
)
def test_a_request_of_too_many_parts_is_refused(request_of_many_parts):
    async def test(app, everyone, connect):
        reader, writer = await connect()
        writer.write(request_of_many_parts)
        assert (await hung_up(reader)).startswith(b"HTTP/1.1 431 ")
        await until(lambda: not everyone.held)

    strangers(test)


def test_nonsense_is_no_answer_to_the_request_in_front_of_it():
    async def test(app, everyone, connect):
        app.go.clear()
        reader, writer = await connect()
        writer.write(GET + b"nonsense\r\n\r\n")
        assert await hung_up(reader) == b""
        app.go.set()
        reader, writer = await connect()
        writer.write(b"nonsense\r\n\r\n")
        assert (await hung_up(reader)).startswith(b"HTTP/1.1 400 ")

    strangers(test)


def test_what_follows_an_upgrade_is_not_taken_for_a_request():
    async def test(app, everyone, connect):
        reader, writer = await connect()
        upgrade = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(GET)
        writer.write(upgrade + b" " * 300)
        await asyncio.sleep(0)
        writer.write(GET)
        assert (await hung_up(reader)).count(OK) == 1
        assert app.begun == 1

    strangers(test)


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_flood_without_a_token_leaves_memory_and_a_session_as_they_were(monkeypatch):
    monkeypatch.setenv("ENVPOOL_TOKEN", "secret")
    with (
        serving("textcraft", "--port", "0") as process,
        httpx.Client(base_url=process.address, headers={"Authorization": "Bearer secret"}) as client,
    ):
        number = client.post("/create", json={}).json()["id"]
        client.post("/reset", json={"id": number, "data_idx": 424}).raise_for_status()
        before, most, ended = resident(process.pid), 0, threading.Event()

        def flood():
            url = httpx.URL(process.address)
            with socket.create_connection((url.host, url.port)) as stranger, suppress(OSError):
                stranger.settimeout(0.1)
                while not ended.is_set():
                    with suppress(TimeoutError):
                        stranger.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            step = client.post("/step", json={"id": number, "action": "inventory"}).json()
            assert step["observation"] == "Inventory: nothing"
            most = max(most, resident(process.pid))
        ended.set()
        for thread in threads:
            thread.join()
        assert most < 1.5 * before
        process.terminate()
        assert process.wait(10) == 0


# -- whose requests are answered --------------------------------------------------------------------------------------

HOME = "127.0.0.1:36001"


@pytest.mark.parametrize(
    ("address", "allowed", "host", "known"),
    [
        ("127.0.0.1", (), HOME, True),
        ("127.0.0.1", (), "localhost:36001", True),
        ("127.0.0.1", (), "LOCALHOST", True),
        ("127.0.0.1", (), "localhost.:80", True),
        ("127.0.0.1", (), "[::1]:36001", True),
        ("127.0.0.1", (), "127.8.8.8", True),
        ("127.0.0.1", (), "evil.example", False),
        ("127.0.0.1", (), "evil.example:36001", False),
        ("127.0.0.1", (), "localhost.evil.example", False),
        ("127.0.0.1", (), "127.0.0.1.evil.example", False),
        ("127.0.0.1", (), "10.0.0.5:36001", False),
        ("127.0.0.1", (), "evil.example@127.0.0.1", False),
        ("127.0.0.1", (), "127.0.0.1/evil.example", False),
        ("127.0.0.1", (), "", False),
        ("127.0.0.1", ("envs.example",), "ENVS.example:443", True),
        ("127.0.0.1", ("envs.example",), "www.envs.example", False),
        ("10.0.0.5", (), "10.0.0.5:36001", True),
        ("10.0.0.5", (), "10.0.0.6:36001", False),
        ("node17", (), "node17:36001", True),
        ("0.0.0.0", (), "10.0.0.5:36001", True),
        ("::", (), "[fe80::1]:36001", True),
        ("0.0.0.0", (), f"{socket.gethostname()}:36001", True),
        ("0.0.0.0", (), "evil.example:36001", False),
    ],
)
def test_a_request_for_a_host_of_another_name_is_refused(address, allowed, host, known):
    callers = Callers(address, allowed)
    for _ in range(2):  # the second time it may be remembered
        if known:
            callers.check(Headers({"host": host}))
        else:
            with pytest.raises(Refused) as caught:
                callers.check(Headers({"host": host}))
            assert caught.value.kind is Kind.WRONG_HOST


def test_a_request_without_a_host_or_with_two_is_refused():
    for raw in ([], [(b"host", HOME.encode()), (b"host", b"evil.example")]):
        with pytest.raises(Refused, match="send one header Host"):
            Callers("127.0.0.1").check(Headers(raw=raw))


def test_the_cure_for_a_wrong_host_is_in_the_refusal_and_works():
    with pytest.raises(Refused, match=r"start it with --allow-host envs\.example"):
        Callers("127.0.0.1").check(Headers({"host": "envs.example:443"}))
    with (
        serving("maze", "--port", "0", "--allow-host", "envs.example") as process,
        httpx.Client(base_url=process.address) as client,
    ):
        assert client.get("/info", headers={"Host": "envs.example"}).status_code == 200
        refused = client.get("/info", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.json()["kind"]) == (421, "wrong_host")


@pytest.mark.parametrize("name", ["http://envs.example", "envs.example:80", "", "a b"])
def test_what_is_no_name_of_a_host_cannot_be_allowed(name):
    with pytest.raises(EnvPoolError, match="--allow-host"):
        Callers("127.0.0.1", [name])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8888"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Host": "evil.example"}, 421),
        ({}, 200),
    ],
)
def test_a_foreign_page_gets_nothing(head, status):
    async def main(client):
        for method, path in (("GET", "/info"), ("GET", "/health"), ("POST", "/create")):
            response = await client.request(method, path, headers=head)
            assert response.status_code == status
        assert client.sessions.count() == (status == 200)

    run(main)


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("application/json", b"{}", 200),
        ("Application/JSON; charset=utf-8", b"{}", 200),
        ("application/json", b"", 200),
        (None, b"", 200),  # as AgentGym's clients create
        (None, b"{}", 415),
        ("text/plain", b"{}", 415),
        ("text/plain", b"", 415),
        ("application/x-www-form-urlencoded", b"{}", 415),
        ("multipart/form-data; boundary=application/json", b"{}", 415),
        ("text/plain; application/json", b"{}", 415),
    ],
)
def test_a_body_has_to_say_that_it_is_json(kind, content, status):
    async def main(client):
        head = {} if kind is None else {"Content-Type": kind}
        response = await client.post("/create", content=content, headers=head)
        assert response.status_code == status
        assert status == 200 or response.json()["kind"] == "not_json"
        assert client.sessions.count() == (status == 200)

    run(main)


def test_the_number_of_a_session_cannot_be_worked_out_from_others():
    async def main(client):
        numbers = [(await post(client, "/create"))["id"] for _ in range(64)]
        assert len(set(numbers)) == 64
        assert all(0 <= number < 2**53 for number in numbers)
        steps = [(b - a) % 2**53 for a, b in itertools.pairwise(numbers)]
        assert len(set(steps)) == len(steps)

    run(main)


# -- keys and what is kept for them -----------------------------------------------------------------------------------


def test_a_key_with_another_request_is_refused_and_that_request_not_carried_out():
    async def main(client):
        async def refused(path, key, **body):
            response = await client.post(path, json=body, headers={KEY: key})
            assert (response.status_code, response.json()["kind"]) == (422, "key_reused")

        number = (await post(client, "/create", "c"))["id"]
        await refused("/create", "c", more=1)
        await post(client, "/reset", "r", id=number, data_idx=3)
        await refused("/reset", "r", id=number, data_idx=4)
        await refused("/step", "r", id=number, action="up")
        step = await post(client, "/step", "s", id=number, action="up")
        await refused("/step", "s", id=number, action="stay")
        await refused("/reset", "s", id=number, data_idx=3)
        await refused("/step", "c", id=number, action="up")
        await refused("/close", "s", id=number)
        await refused("/close", "c", id=number)
        assert await post(client, "/step", "s", id=number, action="up") == step
        reordered = json.dumps({"action": "up", "id": number}, indent=1)
        assert (await client.post("/step", content=reordered, headers={KEY: "s", **JSON})).json() == step
        assert (await post(client, "/step", "t", id=number, action="up"))["observation"] == "You are at 2, said up."

    run(main)


def answer(size: int) -> Answer:
    return Answer(200, b"x" * size)


async def asked(answers: Answers, key: str, size: int, done: list[str]) -> Answer:
    async def work() -> Answer:
        done.append(key)
        return answer(size)

    return await answers.once(key, "the same", work)


def test_answers_are_kept_by_bytes_and_one_that_was_dropped_is_not_worked_out_again():
    async def main():
        shelf, done = Shelf(most=100), []
        one, other = Answers(shelf, 4, 60), Answers(shelf, 4, 200)
        await asked(one, "a", 40, done)
        await asked(one, "b", 40, done)  # the session may keep 60
        assert shelf.held == 40
        with pytest.raises(Refused, match="not kept any more"):
            await asked(one, "a", 40, done)
        await asked(other, "c", 50, done)
        assert shelf.held == 90
        await asked(other, "d", 10, done)
        await asked(other, "e", 1, done)  # of all, b came first
        assert shelf.held == 61
        with pytest.raises(Refused, match="not kept any more"):
            await asked(one, "b", 40, done)
        assert await asked(other, "c", 50, done) == answer(50)
        await asked(other, "f", 1000, done)
        with pytest.raises(Refused, match="not kept any more"):
            await asked(other, "f", 1000, done)
        assert done == list("abcdef")
        one.clear()
        other.clear()
        assert shelf.held == 0

    asyncio.run(main())


def test_only_the_latest_keys_of_a_session_are_remembered_and_none_once_it_has_ended():
    async def main(client):
        numbers = [await started(client, 9) for _ in range(3)]
        for n in range(8):
            for number in numbers:
                await post(client, "/step", f"{number} {n}", id=number, action="stay " + "x" * 100)
        shelf = client.sessions.shelf
        size = len(
            json.dumps(await post(client, "/step", f"{numbers[0]} 7", id=numbers[0], action="stay " + "x" * 100))
        )
        assert shelf.held == 3 * 4 * size
        for number in numbers:
            await post(client, "/close", id=number)
        assert shelf.held == 0

    run(main)


# -- long actions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["x" * 101, "é" * 51, "\ud800" * 34, "up" + " " * 99], ids=ascii)
def test_an_action_that_is_too_long_does_not_reach_the_environment(action):
    spec = replace(COUNTING, longest_action=100)

    async def main(client):
        number = await started(client)
        content = json.dumps({"id": number, "action": action})
        response = await client.post("/step", content=content, headers=JSON)
        assert (response.status_code, response.json()["kind"]) == (413, "too_large")
        assert "at most 100" in response.json()["error"]
        assert (await client.get("/observation", params={"id": number})).json() == "Count to 3."
        longest = "é" * 50
        assert (await post(client, "/step", id=number, action=longest))["observation"].endswith(f"{longest}.")

    run(main, spec)


def test_in_process_an_action_that_is_too_long_is_answered_with_a_correction():
    async def answers(conversation):
        return "Thought:\nMore.\n\nAction:\n" + ("inventory" if len(conversation) > 1 else "craft " + "1 a, " * 100_000)

    (trajectory,) = collect(EnvPool(max_turns={"textcraft": 2}), [Task("textcraft", 0)], answers)
    first, second = trajectory.turns
    assert first.action is None
    assert first.observation == ("The action is too long: it has 500,005 bytes, and textcraft takes at most 10,000.")
    assert second.observation == "Inventory: nothing"


def caches(environment):
    """All memories of functions of an environment."""
    folder = importlib.import_module(f"envpool.envs.{environment}")
    for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            for place in (value, *vars(value).values()) if isinstance(value, type) else (value,):
                if isinstance(place, functools._lru_cache_wrapper):
                    yield f"{module.name}.{name}", place


@pytest.mark.parametrize("name", ["textcraft", "maze", "wordle", "babyai"])
def test_no_environment_remembers_what_players_write(name):
    if name == "babyai":
        pytest.importorskip("minigrid")
    spec = get_spec(name)
    world = spec.make()
    world.reset(spec.tasks(Split.EVAL)[0])
    possible = world.available_actions()[:3]

    def play(n: int) -> None:
        for action in (*possible, "craft 1 a{} using 1 b{}", "get 1 a{}", "move {}", "q w e r {}", "go to red ball {}"):
            world.step(action.replace("{}", str(n)))
        world.step(f"craft {'z' * 5000}{n} using 1 b")

    play(0)
    before = {place: cache.cache_info().currsize for place, cache in caches(name)}
    assert before
    for n in range(1, 30):
        play(n)
    assert {place: cache.cache_info().currsize for place, cache in caches(name)} == before
