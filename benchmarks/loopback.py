"""A loopback server for `benchmarks/pool.py`: it speaks like one of AgentGym's, and costs as little as Python can.

Run it: ``python benchmarks/loopback.py``. It prints its port. The times of its answers are drawn from a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random

ANSWERS = {
    b"/create": b'{"id": %d, "observation": "", "reward": 0, "done": false}',
    b"/reset": b'{"id": 1, "observation": "You are at the start of a long road.", "reward": 0, "done": false}',
    b"/step": b'{"observation": "The road goes on, and you go on with it.", "reward": 0, "done": false}',
    b"/close": b"true",
}
"""What every route answers; the world is a road without an end."""


class Loopback(asyncio.Protocol):
    """One connection. Requests come one at a time, as HTTP/1.1 clients send them that do not pipeline."""

    created = 0
    served = 0
    live = 0

    def __init__(self, rng: random.Random, least: float, most: float) -> None:
        self._rng, self._least, self._most = rng, least, most
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else end]) if at >= 0 else 0
        if len(received) < end + 4 + length:
            return
        self._received = b""
        path = received.split(b" ", 2)[1]
        if self._most and path in ANSWERS:
            asyncio.get_running_loop().call_later(self._rng.uniform(self._least, self._most), self._answer, path)
        else:
            self._answer(path)

    def _answer(self, path: bytes) -> None:
        kind, status = type(self), b"200 OK"
        if path == b"/counts":
            body = json.dumps({"served": kind.served, "created": kind.created, "live": kind.live}).encode()
        elif path in ANSWERS:
            body = ANSWERS[path]
            kind.served += 1
            if path == b"/create":
                kind.created += 1
                kind.live += 1
                body %= kind.created
            kind.live -= path == b"/close"
        else:
            status, body = b"404 Not Found", b'{"detail": "Not Found"}'
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(body), body)
            )


async def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=float, default=0.0, help="seconds before an answer, at least")
    parser.add_argument("--most", type=float, default=0.0, help="seconds before an answer, at most")
    words = parser.parse_args()
    rng = random.Random(0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Loopback(rng, words.least, words.most), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
