from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from known import DIALECTS, EMBEDDED

import envpool
from envpool import EnvPool, EnvPoolError, EnvSpec, Split, Step, Task, UnknownTask, collect
from envpool.dialects import REQUEST, SESSION, Complained
from envpool.testing import (
    Client,
    Fault,
    FaultProxy,
    LiveServer,
    Lost,
    Response,
    ScriptedPolicy,
    ScriptedServer,
    Verdict,
    add_check_command,
    check,
    check_env,
    format_report,
)

SAMPLES = Path(__file__).parents[1].parent / "shared" / "data" / "agentgym_wire_samples.json"


class Counting:
    """Counts to a number: the action ``up`` adds one, ``down`` takes one away; the index is the number."""

    def __init__(self) -> None:
        self.goal = self.at = 0

    def reset(self, index: int) -> str:
        if not 1 <= index <= 90:
            raise UnknownTask(f"there is no task {index}")
        self.goal, self.at = index, 0
        return f"Count to {index}.\nYou are at 0."

    def step(self, action: str) -> Step:
        if action not in self.available_actions():
            return Step("Say up or down.", 0.0, False)
        self.at += 1 if action == "up" else -1
        return Step(f"You are at {self.at}.", float(self.at == self.goal), self.at == self.goal)

    def available_actions(self) -> Sequence[str]:
        return ["up", "down"]

    def close(self) -> None:
        pass


def count_up(world: Counting):
    while True:
        yield f"At {world.at}.", "up"


TASKS = {Split.TRAIN: range(1, 31), Split.EXPLORE: range(31, 61), Split.EVAL: range(61, 91)}

COUNTING = EnvSpec(
    name="counting-over-http", version="1", summary="counts", instructions="Count.", brief="Count.", make=Counting,
    tasks=TASKS.__getitem__, max_turns=40, success_above=0.5, expert=count_up, place="inline",
)  # fmt: skip


def play(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a test in trio; the limit is only there so that a hang is a failure."""

    async def limited() -> Any:
        with trio.fail_after(20):
            return await main()

    return trio.run(limited)


def breaking(**methods) -> EnvSpec:
    return replace(COUNTING, make=type("Breaking", (Counting,), methods))


async def opened(client: Client, index: int = 3) -> int:
    session = (await client.request("POST", "/create", {})).json()["id"]
    await client.request("POST", "/reset", {"id": session, "data_idx": index})
    return session


def up(session: int) -> tuple[str, str, dict[str, Any]]:
    return "POST", "/step", {"id": session, "action": "up"}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


# ---- the live server


def test_a_live_server_is_envpools_own_and_counts_sessions_and_requests():
    async def main():
        async with LiveServer(COUNTING, max_sessions=2) as server, Client(server.url) as client:
            opened_before = server.created
            session = await opened(client, index=1)
            step = await client.request(*up(session))
            assert step.json() == {"observation": "You are at 1.", "reward": 1.0, "score": 1.0, "done": True}
            assert server.live == 1
            known = (await client.request("GET", "/info")).json()
            assert (known["server"], known["max_sessions"], known["sessions"]) == ("envpool", 2, 1)
            server.restart()
            assert (await client.request(*up(session))).json()["kind"] == "unknown_session"
            assert (server.live, server.created - opened_before) == (0, 1)
            assert server.requests == {"/create": 1, "/reset": 1, "/step": 2, "/info": 1}

    play(main)


@pytest.mark.parametrize("original", [False, True], ids=["ours", "original"])
@pytest.mark.parametrize("name", DIALECTS)
def test_an_episode_reads_alike_in_every_dialect(name, original):
    dialect = DIALECTS[name]

    async def main():
        spec = replace(COUNTING, dialect=dialect)
        async with LiveServer(spec, original=original) as server, Client(server.url + dialect.base) as client:
            created = dialect.read_created((await client.request("POST", "/create", dialect.create)).json())
            first = await client.request(
                "POST", "/reset", {dialect.session: created, dialect.index: 2, **dialect.reset}
            )
            assert dialect.read_first(first.json()).startswith("Count to 2.\nYou are at 0.")
            seen = []
            for _ in range(2):
                body = {dialect.session: created, "action": dialect.write_action("up")}
                seen.append(dialect.read_step((await client.request("POST", "/step", body)).json()))
            assert server.live == 1
            assert [step.observation.splitlines()[0] for step in seen] == ["You are at 1.", "You are at 2."]
            assert [(step.score, step.done) for step in seen] == [(0.0, False), (1.0, True)]

    play(main)


# ---- as an original


def test_an_original_knows_nothing_of_ours_and_counts_from_one():
    async def main():
        async with LiveServer("maze", original=True) as server, Client(server.url) as client:
            assert (await client.request("GET", "/info")).status == 404
            ids = [(await client.request("POST", "/maze/create")).json()["id"] for _ in range(3)]
            assert ids == [1, 2, 3]
            assert (await client.request("POST", "/maze/close", {"id": 1})).status == 404
            server.restart()
            assert (await client.request("POST", "/maze/create")).json()["id"] == 1
            early = await client.request("POST", "/maze/step", {"id": 1, "action": "move up"})
            assert (early.status, list(early.json())) == (200, ["error"])

    play(main)


def test_an_original_that_gives_ids_out_again_shares_the_session():
    async def main():
        spec = replace(COUNTING, dialect=DIALECTS["sqlgym"])
        async with LiveServer(spec, original=True) as server, Client(server.url) as client:
            ids = [(await client.request("POST", "/create")).json() for _ in range(9)]
            assert ids == [1, 2, 3, 4, 5, 6, 7, 8, 1]
            assert server.live == 8

    play(main)


def test_originals_tell_of_errors_in_their_own_ways():
    async def told(name: str) -> Response:
        dialect = DIALECTS[name]
        spec = replace(COUNTING, dialect=dialect)
        async with LiveServer(spec, original=True) as server, Client(server.url + dialect.base) as client:
            return await client.request("POST", "/step", {dialect.session: 5, "action": "up"})

    plain = play(lambda: told("textcraft"))
    assert (plain.status, plain.json()) == (200, {"error": "The id 5 is not valid."})
    assert play(lambda: told("sqlgym")) .status == 500  # fmt: skip
    with pytest.raises(Complained, match="The id 5 is not valid"):
        DIALECTS["webarena"].read_step(play(lambda: told("webarena")).json())


def test_an_original_without_keys_does_a_repeated_request_again():
    async def main():
        spec = replace(COUNTING, dialect=DIALECTS["textcraft"])
        async with LiveServer(spec, original=True) as server, Client(server.url) as client:
            session = await opened(client)
            return [(await client.request(*up(session), {"Idempotency-Key": "a"})).json() for _ in range(2)]

    assert [answer["observation"] for answer in play(main)] == ["You are at 1.", "You are at 2."]


# ---- odd answers, recorded answers, and the server itself


def test_a_scripted_server_answers_what_it_is_told():
    def handler(method, path, body):
        return (200, b"<html>") if path == "/odd" else (418, [method, path, body])

    async def main():
        async with ScriptedServer(handler) as server, Client(server.url) as client:
            assert (await client.request("GET", "/odd?x=1")).body == b"<html>"
            answer = await client.request("POST", "/pot", {"tea": True})
            assert (answer.status, answer.json()) == (418, ["POST", "/pot", {"tea": True}])
            assert server.counts == {"/odd": 1, "/pot": 1}

    play(main)


def test_a_recorded_server_answers_in_the_order_of_each_route():
    exchanges = [
        {"method": "POST", "path": "/create", "json": None, "params": None, "status": 200, "response": {"id": 1}},
        {"method": "POST", "path": "/step", "json": {}, "params": None, "status": 500, "response": "Internal Error"},
        {"method": "POST", "path": "/create", "json": None, "params": None, "status": 200, "response": {"id": 2}},
    ]

    async def main():
        async with ScriptedServer.recorded(exchanges, base="/maze") as server, Client(server.url) as client:
            assert [(await client.request("POST", "/maze/create")).json()["id"] for _ in "12"] == [1, 2]
            failed = await client.request("POST", "/maze/step", {})
            assert (failed.status, failed.body) == (500, b"Internal Error")
            assert (await client.request("POST", "/maze/create")).status == 500

    play(main)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the recorded exchanges are not here")
def test_every_recorded_exchange_can_be_answered_again():
    async def main(exchanges):
        async with ScriptedServer.recorded(exchanges) as server, Client(server.url) as client:
            for exchange in exchanges:
                answer = await client.request(exchange["method"], exchange["path"], exchange["json"])
                assert answer.status == exchange["status"]
                said = answer.body.decode() if answer.status >= 500 else answer.json()
                assert said == exchange["response"]

    for exchanges in json.loads(SAMPLES.read_text("utf-8")).values():
        play(lambda exchanges=exchanges: main(exchanges))


def test_a_client_that_speaks_no_http_is_hung_up_on_and_harms_nobody():
    async def main():
        async with LiveServer(COUNTING) as server:
            port = int(server.url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"hello?\r\n\r\n")
                assert await stream.receive_some() == b""
            async with Client(server.url) as client:
                assert (await client.request("GET", "/health")).status == 200

    play(main)


def test_an_error_of_the_block_leaves_it_as_it_is_and_one_of_the_server_ends_the_block():
    async def block():
        async with LiveServer(COUNTING):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        play(block)

    async def server():
        async with ScriptedServer(lambda *request: 1 / 0) as server, Client(server.url) as client:
            await client.request("GET", "/")

    with pytest.raises(ZeroDivisionError):
        play(server)


def test_a_killed_server_refuses_connections_until_it_is_revived():
    async def main():
        async with LiveServer(COUNTING) as server, Client(server.url) as client, Client(server.url) as idle:
            session = await opened(client)
            await idle.request("GET", "/health")
            for _ in range(3):
                await server.kill()
                await server.kill()
                for one in (client, idle):
                    with pytest.raises(Lost):
                        await one.request("GET", "/health")
                server.revive()
                server.revive()
                assert (await client.request("GET", "/health")).json()["sessions"] == 1
            assert (await client.request(*up(session))).status == 200

    play(main)


def test_a_server_that_dies_cuts_off_what_it_was_doing():
    async def main():
        async with LiveServer(COUNTING, latency=lambda: 1000.0) as server, Client(server.url) as client:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def kill_it():
                    await until(lambda: server.requests["/create"] == 1)
                    await server.kill()

                with pytest.raises(Lost):
                    await client.request("POST", "/create", {})
            assert server.live == 0

    play(main)


# ---- the proxy


def test_a_proxy_without_faults_passes_everything_on():
    def mirror(method, path, body):
        return 201, {"method": method, "path": path, "body": body}

    async def main():
        async with ScriptedServer(mirror) as server, FaultProxy(f"{server.url}/base") as proxy:
            async with Client(proxy.url) as client:
                for body in (None, {"text": "\N{SNOWMAN}" * 9000}):
                    answer = await client.request("POST", "/step?x=1", body)
                    assert answer.status == 201
                    assert answer.json() == {"method": "POST", "path": "/base/step", "body": body}
            assert not proxy.faults

    play(main)


def test_a_proxy_names_the_target_as_the_host_and_keeps_other_headers():
    def answer(*request):
        return 200, "fine"

    async def main():
        async with ScriptedServer(answer) as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
            await client.request("GET", "/health?a=b", headers={"Idempotency-Key": "k"})
            (seen,) = server.requests
            assert (seen.header("host"), seen.header("idempotency-key"), seen.query) == (
                server.url.removeprefix("http://"), "k", {"a": "b"},
            )  # fmt: skip

    play(main)


FAULTS = {
    Fault.DROP: ("lost", True),
    Fault.TRUNCATE: ("lost", True),
    Fault.RESET: ("lost", True),
    Fault.GARBAGE: (200, True),
    Fault.DELAY: (200, True),
    Fault.INTERNAL: (500, False),
    Fault.UNAVAILABLE: (503, False),
    Fault.KILL: ("lost", False),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_what_it_says(fault):
    seen, carried_out = FAULTS[fault]

    async def main():
        options = {"chances": {fault: 1.0}, "routes": ["/create"], "delay": 0.01, "down": 0.0}
        async with LiveServer(COUNTING, **options) as server, Client(server.url) as client:
            try:
                answer = await client.request("POST", "/create", {})
            except Lost:
                assert seen == "lost"
            else:
                assert answer.status == seen
                if fault is Fault.GARBAGE:
                    with pytest.raises(ValueError, match="decode"):
                        answer.json()
            assert server.live == carried_out
            assert server.faults == {fault: 1}

    play(main)


def test_truncated_answers_end_and_reset_ones_break():
    async def rest_of(fault: Fault) -> str:
        scripted = ScriptedServer(lambda *request: (200, b"0123456789"))
        async with scripted as server, FaultProxy(server.url, {fault: 1.0}) as proxy:
            stream = await trio.open_tcp_stream("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            async with stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                got = b""
                try:
                    while data := await stream.receive_some():
                        got += data
                except trio.BrokenResourceError:
                    return "broken"
                head, _, body = got.partition(b"\r\n\r\n")
                assert b"content-length: 10" in head
                return body.decode()

    assert play(lambda: rest_of(Fault.TRUNCATE)) == "01234"
    assert play(lambda: rest_of(Fault.RESET)) == "broken"


def test_a_hanging_request_is_carried_out_and_ends_with_its_client():
    async def main():
        async with LiveServer(COUNTING) as server, Client(server.url) as client:
            server.upcoming.append(Fault.HANG)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.request, "POST", "/create", {})
                await until(lambda: server.live == 1)
                nursery.cancel_scope.cancel()
            assert (await client.request("POST", "/create", {})).status == 200
            assert server.live == 2

    play(main)


async def outcomes(seed: int, count: int = 60) -> list[str]:
    def answer(*request):
        return 200, "fine"

    async with ScriptedServer(answer) as server:
        proxy = FaultProxy(server.url, {Fault.UNAVAILABLE: 0.2, Fault.DROP: 0.2}, seed=seed)
        async with proxy, Client(proxy.url) as client:
            seen = []
            for _ in range(count):
                try:
                    seen.append(str((await client.request("GET", "/")).status))
                except Lost:
                    seen.append("lost")
            assert proxy.faults == {Fault.UNAVAILABLE: seen.count("503"), Fault.DROP: seen.count("lost")}
            return seen


def test_the_same_seed_spoils_the_same_requests():
    first = play(lambda: outcomes(1))
    assert first == play(lambda: outcomes(1))
    assert first != play(lambda: outcomes(2))
    assert {"200", "503", "lost"} == set(first)


def test_chances_that_are_none_are_refused():
    for chances in ({Fault.DROP: 1.5}, {Fault.DROP: -0.1}, {Fault.DROP: 0.6, Fault.HANG: 0.6}):
        with pytest.raises(EnvPoolError, match="at most 1"):
            FaultProxy("http://127.0.0.1:1", chances)


def test_what_is_upcoming_is_done_before_chance_decides():
    async def main():
        async with LiveServer(COUNTING) as server, Client(server.url) as client:
            server.upcoming.extend([None, Fault.INTERNAL])
            return [(await client.request("GET", "/health")).status for _ in range(3)]

    assert play(main) == [200, 500, 200]


def test_a_killed_proxy_cuts_every_connection_and_comes_back_when_told():
    async def main():
        async with (
            LiveServer(COUNTING, down=None) as server,
            Client(server.url) as client,
            Client(server.url) as other,
        ):
            session = await opened(other)
            server.upcoming.append(Fault.KILL)
            with pytest.raises(Lost):
                await client.request("GET", "/health")
            with pytest.raises(Lost):
                await other.request(*up(session))
            server.revive()
            assert (await other.request(*up(session))).status == 200

    play(main)


# ---- the scripted policy


def test_a_scripted_policy_plays_its_actions_and_then_fails():
    envpool.register(COUNTING)
    done, short = collect(EnvPool(), [Task(COUNTING.name, 2), Task(COUNTING.name, 3)], ScriptedPolicy(["up", "up"]))
    assert (done.policy, done.score, [turn.action for turn in done.turns]) == ("scripted", 1.0, ["up", "up"])
    assert (short.score, len(short.turns)) == (None, 2)
    assert short.error.endswith("the script holds no further action")


def test_a_script_can_be_written_for_each_task():
    envpool.register(COUNTING)
    policy = ScriptedPolicy({f"{COUNTING.name}_1": ["down", "up", "up"]}, name="mine")
    known, unknown = collect(EnvPool(), [Task(COUNTING.name, 1), Task(COUNTING.name, 2)], policy)
    assert (known.policy, known.success, len(known.turns)) == ("mine", True, 3)
    assert unknown.error == f"actor: there is no script for {COUNTING.name}_2"
    with pytest.raises(TypeError, match="a sequence of actions"):
        ScriptedPolicy("up")


# ---- the conformance kit


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_environment_conforms(name):
    if name == "babyai":
        pytest.importorskip("minigrid")
    report = check_env(name, tasks=2)
    assert report.passed, format_report(report)
    assert all(found.verdict is Verdict.PASSED for found in report.checks)


class SharedState(Counting):
    """Two sessions move one counter."""

    place = 0

    @property
    def at(self) -> int:
        return type(self).place

    @at.setter
    def at(self, place: int) -> None:
        type(self).place = place


class GlobalDice(Counting):
    """Begins differently every time."""

    def reset(self, index: int) -> str:
        return f"{super().reset(index)} The sky is {random.random()}."


class ForgetfulSteps(Counting):
    """Remembers across resets how often it was asked."""

    asked = 0

    def step(self, action: str) -> Step:
        self.asked += 1
        step = super().step(action)
        return Step(f"{step.observation} That was action {self.asked}.", step.score, step.done)


def raising(error: Exception):
    def method(self, *args):
        raise error

    return method


def strict_step(self, action):
    if action not in ("up", "down"):
        raise ValueError(f"what is {action}?")
    return Counting.step(self, action)


def any_index(self, index):
    self.goal, self.at = index, 0
    return f"Count to {index}."


def list_index(self, index):
    return f"Count to {list(range(1, 91))[index]}."


def lazy(world):
    yield "I rest.", "down"


BAD = {
    "shared state": (replace(COUNTING, make=SharedState), {"isolation", "concurrency"}),
    "global dice": (replace(COUNTING, make=GlobalDice), {"same resets"}),
    "state that outlives a reset": (replace(COUNTING, make=ForgetfulSteps), {"same steps"}),
    "raises on nonsense": (breaking(step=strict_step), {"nonsense"}),
    "raises in step": (breaking(step=raising(KeyError("lost"))), {"protocol", "nonsense"}),
    "nan": (breaking(step=lambda self, action: Step("", float("nan"), False)), {"protocol"}),
    "score beyond the range": (breaking(step=lambda self, action: Step("", 2.0, False)), {"protocol", "nonsense"}),
    "not a step": (breaking(step=lambda self, action: None), {"protocol"}),
    "silent reset": (breaking(reset=lambda self, index: ""), {"protocol", "same resets"}),
    "no actions": (breaking(available_actions=lambda self: []), {"protocol", "actions"}),
    "deaf": (breaking(step=lambda self, action: Step("Pardon?", 0.0, False)), {"actions", "expert"}),
    "takes any index": (breaking(reset=any_index), {"bad index"}),
    "another error for an index": (breaking(reset=list_index), {"bad index"}),
    "does not close": (breaking(close=raising(OSError("stuck"))), {"open"}),
    "cannot be made": (replace(COUNTING, make=lambda: 1 / 0), {"open"}),
    "shared tasks": (replace(COUNTING, tasks=lambda split: range(1, 91)), {"splits"}),
    "no tasks": (replace(COUNTING, tasks=lambda split: ()), {"protocol"}),
    "lazy expert": (replace(COUNTING, expert=lazy), {"expert"}),
    "born successful": (replace(COUNTING, success_above=-1.0), {"success rule", "nonsense"}),
    "never successful": (replace(COUNTING, success_above=1.0), {"success rule", "expert"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_environment_fails_the_check_that_is_meant_for_it(name):
    spec, expected = BAD[name]
    report = check_env(spec)
    assert expected <= set(report.failed), format_report(report)
    assert not report.passed
    assert all("\n" not in found.why for found in report.checks)


def test_the_environment_that_the_bad_ones_are_made_of_conforms():
    assert check_env(COUNTING).failed == []


@pytest.mark.parametrize(
    "name", ["shared state", "global dice", "raises on nonsense", "takes any index", "lazy expert"]
)
def test_a_bad_environment_fails_no_check_that_has_nothing_to_do_with_it(name):
    spec, expected = BAD[name]
    allowed = {"global dice": {"same steps", "isolation", "concurrency", "bad index"}}.get(name, set())
    assert set(check_env(spec).failed) <= expected | allowed


def hidden(self, index):
    begins = Counting.reset(self, index)
    return f"Count to some {begins[9:10]}" if index > 9 else begins


def wrapped(self, index):
    return Counting.reset(self, index if not 1 <= index <= 90 else (index - 1) % 5 + 1)


def test_tasks_that_begin_alike_are_the_same_only_if_their_expert_does_the_same():
    assert "splits" not in check_env(breaking(reset=hidden)).failed
    report = check_env(breaking(reset=wrapped))
    assert "splits" in report.failed
    assert "begin alike and are solved alike" in format_report(report)


def test_an_environment_that_hangs_fails_in_time():
    async def main():
        async def never(*args):
            await trio.sleep_forever()

        class Hanging(envpool.places.local.LocalTransport):
            async def open(self, spec):
                session = await super().open(spec)
                session.step = never
                return session

        return await check(COUNTING, transport=Hanging(), seconds=0.05)

    report = play(main)
    assert {"protocol", "same steps", "nonsense"} <= set(report.failed)
    assert "took more than 0.05 s" in format_report(report)


def test_an_environment_that_is_not_deterministic_is_not_asked_to_be():
    report = check_env(replace(COUNTING, make=GlobalDice, deterministic=False))
    skipped = {found.name for found in report.checks if found.verdict is Verdict.SKIPPED}
    assert report.passed, format_report(report)
    assert skipped == {"same resets", "same steps", "isolation", "concurrency"}


@pytest.mark.parametrize("original", [False, True], ids=["ours", "original"])
@pytest.mark.parametrize("name", EMBEDDED)
def test_servers_conform_and_are_left_without_a_session(name, original):
    async def main():
        async with LiveServer(name, original=original) as server:
            report = await check(server.url, dialect=name, tasks=2)
            return report, server.live, DIALECTS[name].closes or not original

    report, live, closes = play(main)
    assert report.passed, format_report(report)
    assert (live == 0) is closes


def test_a_server_that_frees_nothing_fails_the_check_of_closing():
    class Leaking(LiveServer):
        async def pass_on(self, request, target):
            if request.path.endswith("/close"):
                named = {REQUEST: request.header(REQUEST.lower()), SESSION: str(request.json()["id"])}
                return Response.of(True, headers=tuple((key.encode(), text.encode()) for key, text in named.items()))
            return await super().pass_on(request, target)

    async def main():
        async with Leaking("maze") as server:
            return await check(server.url, dialect="maze", tasks=2)

    report = play(main)
    assert report.failed == ["close"]
    assert "the server holds 3 more sessions after 3 were closed" in format_report(report)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_check_command(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["check", *words])
    return parsed.run(parsed)


def test_the_command_prints_a_line_per_check_and_says_by_its_exit_code_whether_all_passed(capsys):
    assert command("wordle", "--tasks", "1") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "wordle (inline):"
    assert printed[-1] == "12 checks: 12 passed, 0 failed, 0 skipped"
    assert printed[1].startswith("passed  protocol")

    broken = replace(COUNTING, name="counting-without-expert", expert=lazy)
    envpool.register(broken)
    assert command(broken.name) == 1
    assert "FAILED  expert" in capsys.readouterr().out


def test_what_cannot_be_checked_is_the_callers_mistake():
    with pytest.raises(envpool.UnknownEnvironment, match="did you mean 'maze'"):
        command("mase")
    with pytest.raises(EnvPoolError, match="--dialect"):
        command("http://127.0.0.1:1")
    for tasks in (0, -1):
        with pytest.raises(EnvPoolError, match=f"--tasks {tasks} checks nothing"):
            command("wordle", "--tasks", str(tasks))
    with pytest.raises(EnvPoolError, match="no module 'nowhere_at_all'"):
        command("wordle", "--import", "nowhere_at_all")


def test_a_server_that_says_nothing_is_not_waited_for_long():
    async def main():
        async with LiveServer("maze", latency=lambda: math.inf) as server:
            with pytest.raises(EnvPoolError, match=r"no session could be opened within 0\.1 s") as caught:
                await check(server.url, dialect="maze", seconds=0.1)
        return str(caught.value)

    assert "\n" not in play(main)


OF_ONES_OWN = """
from dataclasses import replace
import envpool
envpool.register(replace(envpool.get_spec("maze"), name="maze-of-ones-own"))
"""


def test_a_server_of_an_environment_of_ones_own_is_checked_with_its_token(tmp_path, monkeypatch, capsys):
    (tmp_path / "maze_of_ones_own.py").write_text(OF_ONES_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TOKEN_OF_THE_SERVER", "secret")

    async def main():
        own = replace(envpool.get_spec("maze"), name="maze-of-ones-own")
        async with LiveServer(own, token="secret") as server:
            words = ("--dialect", own.name, "--import", "maze_of_ones_own", "--tasks", "1")
            with pytest.raises(EnvPoolError, match="401"):
                await trio.to_thread.run_sync(command, server.url, *words)
            return await trio.to_thread.run_sync(command, server.url, *words, "--token", "TOKEN_OF_THE_SERVER")

    assert play(main) == 0
    shown = capsys.readouterr().out
    assert "the server holds 0 as before" in shown
    assert "secret" not in shown


def test_a_server_that_is_down_is_what_the_check_tells(capsys):
    with pytest.raises(EnvPoolError, match=r"within 0\.5 s: http://127\.0\.0\.1:9: Connection refused"):
        command("http://127.0.0.1:9", "--dialect", "maze", "--seconds", "0.5")
    with pytest.raises(EnvPoolError, match="--seconds 0 is no time limit"):
        command("maze", "--seconds", "0")
