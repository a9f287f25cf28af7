"""SIGKILL at seeded random moments: nothing finished is done twice, and the end is as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest
from test_fit import outcome, recipe

from agentgym.models import weights_hash
from agentgym.recipe import load_recipe

KILLS = 10
SETTINGS = ("pool.sessions=4", "evol.samples=1", "bc.steps=12", "learn.steps=8")

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["agentgym.fit", "agentgym.modules", "agentgym.generation", "agentgym.hooks", "polars"])


def go_on(folder: Path) -> None:
    """What `agentgym fit` does, in a process of its own."""
    import torch

    from agentgym.fit import fit

    torch.set_num_threads(1)
    fit(load_recipe(folder / "recipe.yaml", SETTINGS))


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    process = context.Process(target=go_on, args=(folder,))
    process.start()
    return process


def result(folder: Path) -> dict[str, object]:
    run = folder / "runs" / "small"
    loss = json.loads((run / "it002/done.json").read_text())["loss"]
    return {**outcome(run), "weights": weights_hash(str(run / "it002/model")), "last loss": loss}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe(folder)
    warm = context.Process(target=int)  # the server that the others are forked from imports all there is
    warm.start()
    warm.join()
    started = time.monotonic()
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    return result(folder), time.monotonic() - started


def test_runs_killed_at_ten_random_moments_end_as_the_undisturbed_one(undisturbed, tmp_path):
    expected, seconds = undisturbed
    moments = random.Random(20261125)
    kills = 0
    folders = []
    while kills < KILLS:
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        folders.append(folder)
        recipe(folder)
        process = start(folder)
        while process.is_alive():
            process.join(moments.uniform(0.1, 0.6) * seconds)
            if process.is_alive():
                process.kill()
                process.join()
                kills += 1
                process = start(folder)
            if kills == KILLS:
                process.join()
        assert process.exitcode == 0
    for folder in folders:
        assert result(folder) == expected
