"""The default run with three seeds: what AgentEvol gains over behavioural cloning and over the matched control.

Run it on an otherwise idle machine: ``python benchmarks/agentevol.py``. It runs ``recipes/agentevol.yaml`` once per
seed (or goes on where it was), copies the reports into ``benchmarks/results`` and prints the table that is quoted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def main() -> None:
    """Runs the seeds that have no report yet, then prints all reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for seed in parser.parse_args().seeds:
        started = time.monotonic()
        run(seed)
        print(f"seed {seed}: the command took {time.monotonic() - started:.0f} s")
    reports = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("agentevol-seed*.json"))]
    Console(width=110).print(summary(reports))


def run(seed: int) -> None:
    """Runs one seed as a user would, and keeps its report."""
    name = f"agentevol-seed{seed}"
    command = [sys.executable, "-m", "agentgym", "fit", str(HERE.parent / "recipes" / "agentevol.yaml")]
    subprocess.run([*command, f"name={name}", f"seed={seed}"], check=True)
    RESULTS.mkdir(exist_ok=True)
    shutil.copy(Path("runs") / name / "report.json", RESULTS / f"{name}.json")


def summary(reports: list[dict]) -> Table:
    """One row a seed: macro success of BC, AgentEvol and control; the differences with their p-values; wall time."""
    table = Table(title="AgentEvol, the embedded default: macro success on held-out tasks")
    for column in ("seed", "tasks", "BC", "AgentEvol", "control", "over BC", "p", "over control", "p", "minutes"):
        table.add_column(column, justify="right")
    for report in reports:
        over_bc, over_control = report["comparisons"]
        rows = [report["iterations"][0], report["iterations"][-1], report["control"]]
        table.add_row(
            str(report["seed"]),
            str(over_bc["tasks"]),
            *(f"{100 * row['macro']['success']:.1f}" for row in rows),
            f"{100 * over_bc['difference']:+.1f}",
            f"{over_bc['p_value']:.1e}",
            f"{100 * over_control['difference']:+.1f}",
            f"{over_control['p_value']:.1e}",
            f"{sum(report['seconds'].values()) / 60:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
