"""The figures of learning phases on disk."""

from __future__ import annotations

import json
import math
import os

import pytest

from agentgym import curve
from agentgym.curve import MOST, Point, add, go_on_from, read, wanted
from agentgym.evaluation import phases
from agentgym.events import FILE as EVENTS
from agentgym.events import seconds_by_part


@pytest.mark.parametrize("total", [1, 2, 4, 199, 200, 201, 900, 10_000, 1_000_003])
def test_a_phase_has_at_most_so_many_points_and_its_first_and_last_step(total: int) -> None:
    every = max(1, math.ceil(total / (MOST - 2)))
    steps = {1, total, *range(every, total + 1, every)}
    assert all(wanted(step, total) for step in steps)
    assert len(steps) <= MOST
    assert not any(wanted(step, total) for step in range(2, min(total, 5_000)) if step not in steps)


def test_what_was_written_is_read_back_and_a_number_that_is_none_is_null(tmp_path) -> None:
    for step, loss, norm in ((1, 2.123456789, 1.0), (2, math.nan, math.inf), (3, -0.5, 0.0)):
        add(tmp_path / "it000", Point.of(step, loss, norm))
    assert read(tmp_path / "it000") == [Point(1, 2.12346, 1.0), Point(2, None, None), Point(3, -0.5, 0.0)]
    lines = (tmp_path / "it000" / curve.FILE).read_text().splitlines()
    assert json.loads(lines[1]) == {"step": 2, "loss": None, "grad_norm": None}
    assert read(tmp_path / "nowhere") == []


def test_a_phase_that_goes_on_forgets_the_steps_that_it_takes_again(tmp_path) -> None:
    for step in range(1, 8):
        add(tmp_path, Point.of(step, 1 / step, 1.0))
    whole = (tmp_path / curve.FILE).read_bytes()
    with (tmp_path / curve.FILE).open("a") as file:
        file.write('{"step": 8, "lo')  # killed here
    go_on_from(tmp_path, 5)
    for step in (6, 7):
        add(tmp_path, Point.of(step, 1 / step, 1.0))
    assert (tmp_path / curve.FILE).read_bytes() == whole
    go_on_from(tmp_path, 0)
    assert read(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [curve.FILE]


DAMAGED = [
    b"\xff\xfe", b"[]", b"{}", b"3", b"[" * 100_000,
    b'{"step": "1", "loss": 1, "grad_norm": 1}',
    b'{"step": 1, "loss": "x", "grad_norm": 1}',
    b'{"step": 1, "loss": [], "grad_norm": 1}',
    b'{"step": -1, "loss": 1, "grad_norm": 1}',
    b'{"step": 1, "loss": ' + b"9" * 400 + b', "grad_norm": 1}',
    b'{"step": 1, "loss": ' + b"9" * 5000 + b', "grad_norm": 1}',
    b'{"step": 1' + b"0" * 30 + b', "loss": 1, "grad_norm": 1}',
]  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_costs_only_itself(line: bytes, tmp_path) -> None:
    (tmp_path / curve.FILE).write_bytes(line + b'\n{"step": 2, "loss": 1.5, "grad_norm": 1e999}\n')
    assert read(tmp_path) == [Point(2, 1.5, None)]


def test_a_page_has_the_phases_in_order_with_a_bounded_number_of_points(tmp_path) -> None:
    for folder, steps in (("it000", 400), ("it001", 900), ("it002", 900), ("control/it001", 900), ("it002-old", 3)):
        for step in range(1, steps + 1):
            if wanted(step, steps):
                add(tmp_path / folder, Point.of(step, 1.0, 1.0))
    found = phases.phases(tmp_path)
    assert [(p["iteration"], p["control"], p["before"]) for p in found] == [
        (0, False, 0), (1, False, 400), (2, False, 1300), (1, True, 400),
    ]  # fmt: skip
    assert [p["points"][-1][0] for p in found] == [400, 900, 900, 900]
    assert sum(len(p["points"]) for p in found) <= phases.MOST + len(found)
    assert phases.phases(tmp_path / "nowhere") == []


def test_times_that_cannot_be_cost_only_themselves(tmp_path) -> None:
    odd = ["NaN", "Infinity", "-1", "1e999", "9" * 400, "9" * 5000, "[]", "null", '"x"', "1e300"]
    lines = [f'{{"event": "bc", "seconds": {value}}}' for value in odd]
    (tmp_path / EVENTS).write_text(
        "\n".join([*lines, '{"event": "bc", "seconds": 2.5}', '{"event": [], "seconds": 1}'])
    )
    assert seconds_by_part(tmp_path)["bc"] == 2.5


def test_a_pipe_in_the_place_of_a_curve_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / curve.FILE)
    assert curve.read(tmp_path) == []
