"""What the benchmarks of generation and training share: a clock, rounds in rotated order, plain tables, the machine.

Nothing of this needs more than torch and transformers: the benchmarks also run on GPU machines that have little else.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results"

PEAKS = {"B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312}
"""TFLOP/s of dense bfloat16 products, from the makers' data sheets, by a part of the card's name."""


MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
"""The settings of glibc that our worker processes have (agentgym/workers.py): big blocks are kept for the next step."""


def with_the_memory_of_workers() -> None:
    """Starts this program again with `MEMORY`, which all arrangements then have, unless it was started so."""
    if not MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **MEMORY})


def seconds_of(work: Callable[[], T], device: str) -> tuple[float, T]:
    """How long it takes, and what it returns: CPU time of this process on a CPU, wall time on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    _wait(device)
    began = clock()
    result = work()
    _wait(device)
    return clock() - began, result


def in_turns(
    arrangements: Mapping[str, Callable[[], T]], rounds: int, device: str
) -> tuple[dict[str, list[float]], dict[str, T]]:
    """Times all arrangements once a round, each round beginning with another one.

    Returns:
        The seconds of each round and the last result, by arrangement.
    """
    names = list(arrangements)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, T] = {}
    for number in range(rounds):
        first = number * len(names) // rounds
        for name in names[first:] + names[:first]:
            spent, results[name] = seconds_of(arrangements[name], device)
            seconds[name].append(spent)
            print(f"round {number + 1}: {name}: {spent:.2f} s", file=sys.stderr)
    return seconds, results


def median_ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """How many times quicker `other` is: the median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(base, other, strict=True))


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in plain text; the first column is flush left."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def written(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])

    return "\n".join([title, "", written(lines[0]), *map(written, lines[1:])])


def machine(device: str) -> dict[str, Any]:
    """The machine and the versions that matter, without any name or path."""
    packages = ("torch", "transformers")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def described(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    where = machine["accelerator"] or f"{machine['threads']} thread of {machine['processor']}"
    return f"{where}; " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())


def peak_flops() -> float | None:
    """Dense bfloat16 operations a second that the card's data sheet promises; None if it is not known here."""
    name = torch.cuda.get_device_name()
    return next((1e12 * peak for part, peak in PEAKS.items() if part in name), None)


def peak_memory(device: str) -> float | None:
    """GB that torch held at most since the last call; None on a CPU."""
    if device == "cpu":
        return None
    held = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return held


def write(name: str, report: Mapping[str, Any]) -> None:
    """Writes a report into the folder of results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(report, indent=2) + "\n")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _processor() -> str:
    """The processor's name, with what makes its products quick or slow."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
