"""The pool against other ways to hold many sessions, in one run and in rotated order.

Run it on an otherwise idle machine with ``wrk`` (Debian's package): ``python benchmarks/pool.py``. Every measurement is
a process of its own against a fresh `loopback.py`, and begins when all sessions are live. What is counted is requests:
create, reset, step and close. CPU is that of the client process, per request; *possible* is what the latency of the
slow server allows. The results go to ``benchmarks/results/pool.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h11
import httpx
import requests
import trio
from rich.console import Console
from rich.table import Table

from envpool import EnvPool, EnvSpec, Step, Task, register, run_sync
from envpool.places.http import HttpTransport

HERE = Path(__file__).parent
LATENCY = (0.5, 1.0)
"""Seconds that the slow server takes, drawn evenly."""

TURNS = 50
"""Steps in an episode."""

LOCAL_SECONDS = 4.0
"""CPU time that is spent in measuring environments in this process."""


class Road:
    """A world that costs nothing: there is no end, and nothing happens."""

    def reset(self, index: int) -> str:
        return "You are at the start of a long road."

    def step(self, action: str) -> Step:
        return Step("The road goes on, and you go on with it.", 0.0, False)

    def available_actions(self) -> list[str]:
        return ["go"]

    def close(self) -> None:
        pass


ROAD = register(
    EnvSpec(
        name="road",
        version="1",
        summary="a road without an end",
        instructions="Go.",
        brief="Go.",
        make=Road,
        tasks=lambda split: range(10**9),
        max_turns=TURNS,
        success_above=0.5,
        place="inline",
    )
)


async def go(conversation: object) -> str:
    """The policy: it costs nothing either."""
    return "Action:\ngo"


def ours(sessions: int, url: str) -> None:
    """Our pool; when it is told to end, it prints how many requests failed."""
    pool = EnvPool(sessions=sessions, transport=HttpTransport({"road": [url]}))

    async def main() -> None:
        async with pool.run((Task("road", index) for index in range(10**9)), go) as trajectories:
            async for _ in trajectories:
                pass

    try:
        run_sync(main)
    finally:
        seen = pool.statistics()
        print(json.dumps({"p99_ms": 1000 * seen.latency[99], "lost": sum(seen.errors.values())}))


def shared_client(sessions: int, url: str) -> None:
    """One httpx client for all sessions, as one would write it at first."""

    async def session(client: httpx.AsyncClient) -> None:
        async def post(route: str, body: dict[str, Any]) -> Any:
            return (await client.post(url + route, json=body)).json()

        while True:
            with suppress(httpx.HTTPError):  # at 256 sessions it loses connections
                identity = (await post("/create", {}))["id"]
                await post("/reset", {"id": identity, "data_idx": 0})
                for _ in range(TURNS):
                    await post("/step", {"id": identity, "action": "go"})
                await post("/close", {"id": identity})

    async def main() -> None:
        limits = httpx.Limits(max_connections=sessions, max_keepalive_connections=sessions, keepalive_expiry=2)
        async with httpx.AsyncClient(limits=limits, timeout=120) as client, trio.open_nursery() as nursery:
            for _ in range(sessions):
                nursery.start_soon(session, client)

    trio.run(main)


def blocking(sessions: int, url: str, web: Callable[[], Any] = lambda: requests) -> None:
    """One thread a session and one connection a request, as AgentGym's clients have them."""

    def work() -> None:
        client = web()

        def post(route: str, body: dict[str, Any]) -> Any:
            return client.post(url + route, json=body).json()

        while True:
            identity = post("/create", {})["id"]
            post("/reset", {"id": identity, "data_idx": 0})
            for _ in range(TURNS):
                post("/step", {"id": identity, "action": "go"})
            post("/close", {"id": identity})

    for _ in range(sessions):
        threading.Thread(target=work).start()


def blocking_kept(sessions: int, url: str) -> None:
    """One thread a session, and a connection that is kept."""
    blocking(sessions, url, requests.Session)


def bare_h11(sessions: int, url: str) -> None:
    """The floor for a client in Python: h11 over trio, and nothing else; it only steps."""
    body = json.dumps({"id": 1, "action": "go"}).encode()
    head = [("Host", "127.0.0.1"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]

    async def session() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rsplit(":", 1)[1]))
        wire = h11.Connection(h11.CLIENT)
        await stream.send_all(b"POST /create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()
        while True:
            request = wire.send(h11.Request(method="POST", target="/step", headers=head))
            await stream.send_all(request + wire.send(h11.Data(data=body)) + wire.send(h11.EndOfMessage()))
            while type(event := wire.next_event()) is not h11.EndOfMessage:
                if event is h11.NEED_DATA:
                    wire.receive_data(await stream.receive_some(65536))
            wire.start_next_cycle()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(sessions):
                nursery.start_soon(session)

    trio.run(main)


def in_process(sessions: int, url: str) -> None:
    """Our pool with the environment in this process; prints turns a CPU second, and the memory of all sessions."""
    pool = EnvPool(sessions=sessions)

    async def main() -> None:
        empty, cpu = _memory_mb(), time.process_time()
        async with pool.run((Task("road", index) for index in range(10**9)), go) as trajectories:
            async for _ in trajectories:
                if (spent := time.process_time() - cpu) > LOCAL_SECONDS:
                    break
        print(json.dumps({"rate": pool.statistics().turns / spent, "memory_mb": _memory_mb() - empty}))

    run_sync(main)


CLIENTS: dict[str, Callable[[int, str], None]] = {
    "envpool": ours,
    "one shared httpx client": shared_client,
    "requests, 1 connection a request": blocking,
    "requests, connections kept": blocking_kept,
    "h11 over trio, nothing else": bare_h11,
    "envpool, in process": in_process,
}

PLAN = [
    *(("instant", "envpool", n) for n in (64, 256, 1024, 2048)),
    *(("instant", "one shared httpx client", n) for n in (64, 256)),
    *(("instant", name, 64) for name in list(CLIENTS)[2:5]),
    ("instant", "wrk", 64),
    *(("slow", "envpool", n) for n in (64, 512, 2048)),
    ("slow", "requests, 1 connection a request", 64),
    *(("none", "envpool, in process", n) for n in (64, 1000)),
]
"""What is measured: the server, the arrangement, and the sessions."""


def main() -> None:
    """Measures everything, or is one of the clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--client", nargs=3, metavar=("ARRANGEMENT", "SESSIONS", "URL"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.client:
        name, sessions, url = words.client
        CLIENTS[name](int(sessions), url)
        return
    measured: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for number in range(words.rounds):
        turn = number * len(PLAN) // words.rounds
        for one in PLAN[turn:] + PLAN[:turn]:
            result = measure(*one, words.seconds)
            measured.setdefault(one, []).append(result)
            print(f"round {number + 1}: {one} {result}", file=sys.stderr)
    rows = []
    for kind, name, sessions in PLAN:
        results = measured[kind, name, sessions]
        medians = {key: round(statistics.median(result[key] for result in results), 4) for key in results[0]}
        rows.append({"server": kind, "arrangement": name, "sessions": sessions, **medians})
    report = {"machine": machine(), "rounds": words.rounds, "seconds": words.seconds, "rows": rows}
    (HERE / "results" / "pool.json").write_text(json.dumps(report, indent=2) + "\n")
    Console(width=140).print(table(report))


def measure(kind: str, name: str, sessions: int, seconds: float) -> dict[str, float]:
    """Starts a server and a client, and measures both from the moment in which everybody is at work."""
    if name == "wrk":
        with serving(kind) as url:
            return wrk(url, sessions, seconds)
    command = [sys.executable, __file__, "--client", name, str(sessions)]
    if kind == "none":
        return dict(json.loads(subprocess.run([*command, ""], check=True, stdout=subprocess.PIPE).stdout))
    with serving(kind) as url, subprocess.Popen([*command, url], stdout=subprocess.PIPE) as client:
        while (seen := counts(url))["created"] < sessions or seen["served"] < 3 * sessions:
            time.sleep(0.1)
        before, cpu, began = counts(url)["served"], cpu_seconds(client.pid), time.perf_counter()
        time.sleep(seconds)
        done, spent = counts(url)["served"] - before, cpu_seconds(client.pid) - cpu
        result = {"rate": done / (time.perf_counter() - began), "cpu_ms": 1000 * spent / done}
        if name == "envpool":
            client.terminate()
            said, _ = client.communicate()
            result.update(json.loads(said))
        else:
            client.kill()
    if kind == "slow":
        result["possible"] = result["rate"] * sum(LATENCY) / 2 / sessions
    return result


def wrk(url: str, sessions: int, seconds: float) -> dict[str, float]:
    """The server's own limit."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            "wrk.method = 'POST'\n"
            'wrk.body = \'{"id": 1, "action": "go"}\'\n'
            "wrk.headers['Content-Type'] = 'application/json'\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{sessions}", f"-d{max(1, round(seconds))}s", "-s", script.name, f"{url}/step"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"rate": float(next(line.split()[1] for line in said.splitlines() if line.startswith("Requests/sec")))}


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """A fresh server while the block lasts."""
    slow = ["--least", str(LATENCY[0]), "--most", str(LATENCY[1])] if kind == "slow" else []
    with subprocess.Popen([sys.executable, str(HERE / "loopback.py"), *slow], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def counts(url: str) -> dict[str, int]:
    """What the server has done so far."""
    with urllib.request.urlopen(f"{url}/counts") as answer:
        return dict(json.load(answer))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, from Linux's books."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(report: dict) -> Table:
    """All medians, with the ratios to the blocking clients."""
    rows = report["rows"]
    base = next(r for r in rows if r["server"] == "instant" and r["arrangement"].startswith("requests, 1"))
    shown = Table(title=f"medians of {report['rounds']} rounds of {report['seconds']:g} s; {report['machine']}")
    for column in (
        "server",
        "arrangement",
        "sessions",
        "per second",
        "of possible",
        "CPU ms",
        "ratio",
        "p99 ms",
        "lost",
    ):
        shown.add_column(column, justify="left" if column in ("server", "arrangement") else "right")
    for row in rows:
        ratio = row["cpu_ms"] / base["cpu_ms"] if "cpu_ms" in row else None
        shown.add_row(
            row["server"],
            row["arrangement"],
            f"{row['sessions']:,}",
            f"{row['rate']:,.0f}",
            f"{100 * row['possible']:.1f} %" if "possible" in row else "",
            f"{row['cpu_ms']:.3f}" if "cpu_ms" in row else "",
            f"{ratio:.2f}" if ratio is not None else "",
            f"{row['p99_ms']:,.0f}" if "p99_ms" in row else "",
            f"{row['lost']:.0f}" if "lost" in row else (f"{row['memory_mb']:.0f} MB" if "memory_mb" in row else ""),
        )
    return shown


def machine() -> str:
    """The machine in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
