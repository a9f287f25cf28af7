"""Answers that come twice, too early, too late or for another request: none of them is believed."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import partial

import h11
import pytest
import trio
import trio.testing
from test_http import QUICK, play, played_here, served

from agentgym.modelserver import ModelServer
from agentgym.settings import EndpointSettings
from envpool import EnvPoolError, Task, get_spec, run_sync
from envpool.dialects import REQUEST, SESSION
from envpool.errors import ServerUnreachable
from envpool.places.connection import INTERIM_ANSWERS, PIECE, Connection, ConnectionFailed, Socket
from envpool.places.endpoint import Endpoint
from envpool.places.http import HttpTransport, Wire
from envpool.testing import Fault, LiveServer


def answer(text: str = "true", status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Well", f"Content-Length: {len(text)}", *headers, "", text]
    return "\r\n".join(lines).encode()


async def read_request(stream) -> bytes:
    """Reads one request with its body; empty once the client has hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := await stream.receive_some()):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += await stream.receive_some()
    return head


class Raw:
    """Answers the first requests with given bytes, further ones with their number; counts connections."""

    def __init__(self, *first: bytes, context: ssl.SSLContext | None = None) -> None:
        self.first = list(first)
        self.requests: list[bytes] = []
        self.streams: list[trio.SocketStream] = []
        self.context = context

    async def serve(self, stream) -> None:
        self.streams.append(stream)
        if self.context is not None:
            stream = self.streams[-1] = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):  # the client hangs up on what it does not believe
            while head := await read_request(stream):
                self.requests.append(head)
                number = len(self.requests) - 1
                await stream.send_all(self.first[number] if number < len(self.first) else answer(str(number)))

    async def start(self, nursery: trio.Nursery) -> str:
        listeners = await nursery.start(partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1"))
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


def ask(
    raw: Raw, *contents: bytes, context: ssl.SSLContext | None = None, settings=QUICK, between=None
) -> list[object]:
    """Sends requests one after the other; returns the answers, or the errors in their place."""

    async def main():
        found: list[object] = []
        async with trio.open_nursery() as nursery:
            wire = Wire(Endpoint(await raw.start(nursery)), QUICK, context)
            for content in contents:
                try:
                    found.append((await wire.exchange("POST", "/step", content, {})).content)
                except ServerUnreachable as failure:
                    found.append(failure)
                if between is not None:
                    await between()
            await wire.aclose()
            nursery.cancel_scope.cancel()
        return found

    return run_sync(main)


UNBELIEVABLE = {
    "twice": answer() + answer(),
    "one-byte-more": answer() + b"\n",
    "half-an-answer-more": answer() + b"HTTP/1.1 20",
    "204-with-a-body": b"HTTP/1.1 204 None\r\n\r\n" + b"true",
    "304-with-a-body": answer("true", 304),
    "two-lengths": answer("true", 200, "Content-Length: 2"),
    "length-and-chunks": answer("4\r\ntrue\r\n0\r\n\r\n", 200, "Transfer-Encoding: chunked"),
    "more-after-chunks": b"HTTP/1.1 200 Well\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\n\r\n0\r\n\r\n",
    "many-interim-answers": b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_ANSWERS + 1) + answer(),
    "switches-protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + answer(),
    "no-http": b"true\r\n\r\n",
    "twice-and-closed": answer("true", 200, "Connection: close") + answer(),
}


@pytest.mark.parametrize("name", UNBELIEVABLE)
def test_an_answer_with_anything_left_over_counts_as_none_and_its_connection_is_dropped(name):
    raw = Raw(UNBELIEVABLE[name])
    first, *others = ask(raw, b"{}", b"{}", b"{}")
    assert isinstance(first, ServerUnreachable)
    assert first.acted
    assert others == [b"1", b"2"]
    assert len(raw.streams) == 2


BELIEVABLE = {
    "as-it-should-be": answer("0"),
    "interim-answers-before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + answer("0"),
    "in-chunks": b"HTTP/1.1 200 Well\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BELIEVABLE)
def test_an_answer_that_is_alone_is_believed_and_its_connection_used_again(name):
    raw = Raw(BELIEVABLE[name])
    assert ask(raw, b"{}", b"{}") == [b"0", b"1"]
    assert len(raw.streams) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
def test_bytes_that_come_while_a_connection_is_idle_are_no_answer(secure, request):
    contexts = request.getfixturevalue("certificate") if secure else (None, None)
    raw = Raw(context=contexts[0])

    async def say_more():
        await trio.testing.wait_all_tasks_blocked(0.01)
        await raw.streams[-1].send_all(answer("stale"))
        await trio.testing.wait_all_tasks_blocked(0.01)

    assert ask(raw, b"{}", b"{}", b"{}", context=contexts[1], between=say_more) == [b"0", b"1", b"2"]
    assert len(raw.streams) == 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1: the contexts of its server and of a client that trusts it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=127.0.0.1", "-days", "2"]
    subprocess.run([*words, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("first", [answer() + answer(), answer() + b"!"])
def test_what_is_left_over_behind_tls_is_noticed(certificate, first):
    server, client = certificate
    raw = Raw(first, context=server)
    failed, *others = ask(raw, b"{}", b"{}", b"{}", context=client)
    assert isinstance(failed, ServerUnreachable)
    assert others == [b"1", b"2"]
    assert len(raw.streams) == 2  # tickets of TLS are nothing that is left over


def test_an_answer_before_the_question_is_none():
    async def main():
        async def speak(stream):
            await stream.send_all(answer("early"))
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, speak, 0, host="127.0.0.1"))
            stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
            await trio.lowlevel.wait_readable(stream.socket)
            with pytest.raises(ConnectionFailed, match="spoke before it was asked") as failure:
                await Connection(Socket(stream)).ask(h11.Request(method="GET", target="/", headers=[("Host", "there")]))
            assert not failure.value.sent
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize(("status", "believed"), [(200, False), (413, True)])
def test_an_answer_in_the_middle_of_the_request_is_believed_only_if_it_refuses(status, believed):
    async def main():
        async def interrupt(stream):
            await stream.receive_some()
            await stream.send_all(answer("early", status))
            while await stream.receive_some():
                pass

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, interrupt, 0, host="127.0.0.1"))
            wire = Wire(Endpoint(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"), QUICK, None)
            try:
                found: object = (await wire.exchange("POST", "/step", b"x" * 400 * PIECE, {})).status
            except ServerUnreachable as failure:
                found = failure.acted
            assert not wire._idle
            nursery.cancel_scope.cancel()
        return found

    assert trio.run(main) == (413 if believed else False)


class Proxy(Raw):
    """An HTTP proxy: answers itself where it is told the whole address, and connects where it is asked to."""

    def __init__(self, *first: bytes, extra: bytes = b"") -> None:
        super().__init__(*first)
        self.extra = extra

    async def serve(self, stream) -> None:
        head = await read_request(stream)
        self.requests.append(head)
        if not head.startswith(b"CONNECT"):
            await stream.send_all(self.first[0])
            return
        host, _, port = head.split()[1].partition(b":")
        there = await trio.open_tcp_stream(host.decode(), int(port))
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n" + self.extra)
        async with trio.open_nursery() as nursery:
            for one, other in ((stream, there), (there, stream)):
                nursery.start_soon(self.pump, one, other)

    async def pump(self, one, other) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await one.receive_some():
                await other.send_all(data)
        await other.aclose()


def over_proxy(monkeypatch, proxy: Proxy, raw: Raw, context=None) -> list[object]:
    async def main():
        found: list[object] = []
        async with trio.open_nursery() as nursery:
            address = await proxy.start(nursery)
            for variable in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(variable, address.replace("//", "//me:s3cret@"))
            monkeypatch.setenv("no_proxy", "")
            settings = replace(QUICK, trust_env=True)
            wire = Wire(Endpoint(await raw.start(nursery)), settings, context)
            for _ in range(2):
                try:
                    found.append((await wire.exchange("POST", "/step", b"{}", {})).content)
                except ServerUnreachable as failure:
                    found.append(str(failure))
            await wire.aclose()
            nursery.cancel_scope.cancel()
        return found

    return run_sync(main)


def test_a_proxy_is_told_the_whole_address_and_what_it_leaves_over_is_noticed(monkeypatch):
    proxy = Proxy(answer() + answer())
    found = over_proxy(monkeypatch, proxy, Raw())
    assert all("it sent more than one answer" in text for text in found)
    assert all(head.startswith(b"POST http://127.0.0.1:") for head in proxy.requests)
    assert all(b"Proxy-Authorization: Basic bWU6czNjcmV0" in head for head in proxy.requests)


def test_a_proxy_connects_to_a_server_with_tls(monkeypatch, certificate):
    server, client = certificate
    proxy, raw = Proxy(), Raw(context=server)
    assert over_proxy(monkeypatch, proxy, raw, client) == [b"0", b"1"]
    assert len(proxy.requests) == 1
    assert b"Proxy-Authorization" not in b"".join(raw.requests)


def test_a_proxy_that_says_more_than_that_it_connects_is_not_believed(monkeypatch, certificate):
    server, client = certificate
    found = over_proxy(monkeypatch, Proxy(extra=b"!"), Raw(context=server), client)
    assert all("it sent more than its answer" in text for text in found)


def test_what_is_no_proxy_is_said_at_once(monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    settings = replace(QUICK, trust_env=True)
    with pytest.raises(EnvPoolError, match="HTTP_PROXY names no HTTP proxy"):
        Wire(Endpoint("http://127.0.0.1:2"), settings, None)


def test_a_model_server_that_answers_twice_is_asked_again():
    reply = '{"choices": [{"message": {"content": "%s"}}]}'
    raw = Raw(answer(reply % "doubled") * 2, answer(reply % "first"), answer(reply % "second"))

    async def main():
        async with trio.open_nursery() as nursery:
            server = ModelServer(EndpointSettings(url=await raw.start(nursery)), "model", backoff=0.01)
            async with server.connected():
                said = [(await server.ask("/chat/completions", {})).choice["message"]["content"] for _ in range(2)]
            nursery.cancel_scope.cancel()
        return said

    assert run_sync(main) == ["first", "second"]


MIXED = [(fault, rate) for fault in (Fault.DUP, Fault.SWAP, Fault.STALE) for rate in (0.02, 0.2)]


@pytest.mark.parametrize(("fault", "rate"), MIXED)
def test_answers_that_are_mixed_up_change_no_trajectory_and_leave_no_session(fault, rate):
    tasks = get_spec("maze").select("explore", 40, where={"size": [4, 5]})
    here = played_here(tasks)

    async def main():
        async with LiveServer("maze", chances={fault: rate}, seed=3) as server:
            assert await play(served(server.url, sessions=16), tasks) == here
            assert server.faults[fault] >= 3
            assert not server.live

    run_sync(main)


@pytest.mark.parametrize("route", ["/create", "/reset", "/step", "/close"])
@pytest.mark.parametrize("fault", [Fault.SWAP, Fault.STALE, Fault.DUP])
def test_every_call_of_a_session_is_protected(fault, route):
    """Two episodes get each other's answers to every call of one kind at first, or the ones before."""
    tasks = [Task("maze", index) for index in range(6)]
    here = played_here(tasks)

    async def main():
        async with LiveServer("maze", routes=[route]) as server:
            server.upcoming.extend([None, *[fault] * 8])
            assert await play(served(server.url, sessions=2), tasks) == here
            assert server.faults[fault] >= 2
            assert not server.live

    run_sync(main)


def test_an_original_server_that_answers_twice_changes_no_trajectory():
    tasks = [Task("maze", index) for index in range(20)]
    here = played_here(tasks)

    async def main():
        async with LiveServer("maze", original=True, chances={Fault.DUP: 0.05}) as server:
            pool = served(server.url, sessions=8, settings=replace(QUICK, replays=20))
            assert await play(pool, tasks) == here
            assert pool.statistics().replays > 0

    run_sync(main)


ECHOES = [
    ({}, "does not say to which request"),
    ({REQUEST: "another"}, "to another request"),
    ({REQUEST: None}, "does not say for which session"),
    ({REQUEST: None, SESSION: "7"}, "for another session"),
]


@pytest.mark.parametrize(("told", "why"), ECHOES)
def test_once_a_server_has_repeated_a_name_every_answer_has_to(told, why):
    class Forgetful(LiveServer):
        told = None

        async def pass_on(self, request, target):
            answer = await super().pass_on(request, target)
            if self.told is None:
                return answer
            named = {name: request.header(name.lower()) if text is None else text for name, text in self.told.items()}
            echo = tuple((name.encode(), text.encode()) for name, text in named.items())
            return replace(answer, headers=echo)

    async def main():
        async with Forgetful("maze") as server:
            transport = HttpTransport({"maze": [server.url]}, settings=replace(QUICK, retries=1, replays=0))
            async with transport.running():
                session = await transport.open(get_spec("maze"))
                server.told = told
                with pytest.raises(ServerUnreachable, match=why):
                    await session.reset(0)
                server.told = None
                await session.aclose()

    run_sync(main)
