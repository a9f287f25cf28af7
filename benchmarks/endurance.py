"""Ten thousand episodes in one pool: does memory grow, is a session left on the server?

Run it: ``python benchmarks/endurance.py``. It serves Maze with ``envpool serve``, plays 10,000 episodes in 256 sessions
over HTTP, and writes ``benchmarks/results/endurance.json``. Memory is the resident set of each process, from Linux's
books. Trajectories are looked at and thrown away, as a consumer does that writes them to disk.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pool import machine

from envpool import EnvPool, Message, Split, Task, get_spec, run_sync
from envpool.places.http import HttpTransport

EPISODES, SESSIONS, TURNS = 10_000, 256, 5


async def wander(conversation: Sequence[Message]) -> str:
    """Walks at random."""
    last = f"{conversation[0].content} {len(conversation)}"
    return f"Action:\nmove {random.Random(last).choice(['up', 'down', 'left', 'right'])}"


def memory_mb(process: int | str) -> float:
    """The resident set of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    """Plays, measures, writes."""
    command = [sys.executable, "-m", "envpool", "serve", "maze", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        report = {"machine": machine(), "episodes": EPISODES, "sessions": SESSIONS, **run_sync(play, url, server.pid)}
        with urllib.request.urlopen(f"{url}/health") as answer:
            report["sessions_left"] = json.load(answer)["sessions"]
        server.terminate()
    text = json.dumps(report, indent=2)
    (Path(__file__).parent / "results" / "endurance.json").write_text(text + "\n")
    print(text)


async def play(url: str, server: int) -> dict[str, object]:
    """Plays all episodes; returns what was seen after 1,000, 5,000 and 10,000 of them."""
    pool = EnvPool(sessions=SESSIONS, transport=HttpTransport({"maze": [url]}), max_turns={"maze": TURNS})
    tasks = get_spec("maze").tasks(Split.EXPLORE)
    seen: dict[str, dict[str, float]] = {}
    stops: Counter[str] = Counter()
    began = time.perf_counter()
    async with pool.run((Task("maze", tasks[n % len(tasks)]) for n in range(EPISODES)), wander) as trajectories:
        async for trajectory in trajectories:
            stops[str(trajectory.stop)] += 1
            if stops.total() in (1000, 5000, 10_000):
                seen[str(stops.total())] = {"client_mb": memory_mb("self"), "server_mb": memory_mb(server)}
    growth = seen[str(EPISODES)]["client_mb"] / seen["1000"]["client_mb"] - 1
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "stops": dict(stops),
        "errors": dict(pool.statistics().errors),
        "memory": seen,
        "client_growth": round(growth, 4),
    }


if __name__ == "__main__":
    main()
