"""How often each environment's expert succeeds, over a draw of its tasks.

``python benchmarks/experts.py`` prints a table and writes ``benchmarks/results/experts.json``. Wordle is counted as it
is played, six guesses a game.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agentgym.evaluation.statistics import wilson_interval
from envpool import EnvPool, ExpertPolicy, Split, collect, environments, get_spec

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Plays, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1500, help="about this many per environment")
    most = parser.parse_args().tasks
    results = {name: measure(name, most) for name in environments() if get_spec(name).expert}
    table = Table(title="Experts")
    for column in ("environment", "tasks", "succeeded", "95 % interval", "turns", "episodes/s"):
        table.add_column(column, justify="right")
    for name, row in results.items():
        interval = f"{100 * row['interval'][0]:.1f}-{100 * row['interval'][1]:.1f}"
        rate = 100 * row["succeeded"] / row["tasks"]
        table.add_row(name, str(row["tasks"]), f"{rate:.2f} %", interval, f"{row['turns']:.1f}", f"{row['rate']:.0f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "experts.json").write_text(json.dumps(results, indent=2) + "\n")


def measure(name: str, most: int) -> dict:
    """Plays tasks of one environment, drawn by hash from all its splits in equal parts."""
    spec = get_spec(name)
    counts = {split: min(most // len(Split), len(spec.tasks(split))) for split in Split}
    tasks = [task for split, count in counts.items() for task in spec.select(split, count)]
    started = time.perf_counter()
    played = collect(EnvPool(sessions=16), tasks, ExpertPolicy())
    seconds = time.perf_counter() - started
    succeeded = sum(bool(trajectory.success) for trajectory in played)
    return {
        "tasks": len(played),
        "succeeded": succeeded,
        "interval": wilson_interval(succeeded, len(played)),
        "turns": sum(len(trajectory.turns) for trajectory in played) / len(played),
        "rate": len(played) / seconds,
    }


if __name__ == "__main__":
    main()
