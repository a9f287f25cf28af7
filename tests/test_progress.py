from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from agentgym.hooks import LearningBar
from agentgym.progress import header, phase, show


def plain() -> Console:
    return Console(file=io.StringIO(), width=100)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\d+\.\d s", "N s", console.file.getvalue())


def test_without_a_terminal_a_phase_is_one_line_at_its_start_and_one_at_its_end() -> None:
    console = plain()
    with phase("exploring 1 of 3", 600, unit="episodes", console=console) as bar:
        assert written(console) == "exploring 1 of 3: 600 episodes to go\n"
        for _ in range(6):
            bar.advance(100)
            bar.note("61 % solved")
    assert written(console).splitlines()[1:] == ["exploring 1 of 3: 600 episodes in N s, 61 % solved"]


def test_a_phase_that_goes_on_counts_from_where_it_was() -> None:
    console = plain()
    with phase("learning", 1200, done=200, unit="steps", console=console) as bar:
        bar.advance(1000)
    assert bar.done == 1200
    assert written(console) == "learning: 1,000 steps to go\nlearning: 1,200 steps in N s\n"


def test_a_phase_of_unknown_length_says_how_much_was_done() -> None:
    console = plain()
    with phase("reading", console=console) as bar:
        bar.advance(3)
    assert written(console) == "reading\nreading: 3 in N s\n"


def test_a_phase_that_fails_says_how_far_it_came_and_lets_the_error_through() -> None:
    console = plain()

    def explore() -> None:
        with phase("exploring", 9, unit="episodes", console=console) as bar:
            bar.advance(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore()
    assert written(console).splitlines()[1] == "exploring: stopped at 4 of 9 episodes in N s"


def test_on_a_terminal_a_phase_is_a_bar_with_the_time_left_and_leaves_one_line() -> None:
    console = terminal()
    with phase("exploring", 9, unit="episodes", console=console) as bar:
        bar.advance(4)
        bar.note("half")
    shown = written(console)
    assert "to go" not in shown
    assert "4/9" in shown
    assert "left" in shown
    assert shown.endswith("exploring: 4 episodes in N s, half\n")


def test_only_the_first_rank_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    console = terminal()
    header(Path("runs/x"), 3, console=console)
    with phase("exploring", 9, console=console) as bar:
        bar.advance(9)
    assert written(console) == ""


def test_the_header_names_run_folder_and_seed_and_tables_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    console = plain()
    header(Path("runs/[x]"), 3, console=console)
    table = Table("a", "b")
    table.add_row("1", "2")
    show(table, console=console)
    assert written(console).startswith("run folder runs/[x], seed 3\n")
    assert "│ 1 │ 2 │" in written(console)


def test_long_phases_are_told_in_minutes_and_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    console = plain()
    for seconds in (185, 7384):
        clock = iter([0.0, float(seconds)])
        with monkeypatch.context() as patched:
            patched.setattr("agentgym.progress._clock", lambda clock=clock: next(clock))
            with phase("learning", 1, console=console) as bar:
                bar.advance()
    assert [line for line in written(console).splitlines() if " in " in line] == [
        "learning: 1 in 3 min 05 s",
        "learning: 1 in 2 h 03 min",
    ]


class Module(L.LightningModule):
    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)
        self.fail_at = fail_at

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("broken")
        self.log("train/loss", 0.25)
        loss: torch.Tensor = self.weight(batch).square().mean()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def learn(console: Console, module: Module, total: int | None) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LearningBar("learning 1 of 3", total, console=console)],
    )
    trainer.fit(module, DataLoader([torch.ones(1)] * 6))  # type: ignore[arg-type]


@pytest.mark.parametrize("total", [3, None])
def test_learning_shows_steps_and_loss(total: int | None) -> None:
    console = plain()
    learn(console, Module(), total)
    assert written(console) == "learning 1 of 3: 3 steps to go\nlearning 1 of 3: 3 steps in N s, loss 0.250\n"


def test_learning_that_fails_says_how_far_it_came_and_lets_the_error_through() -> None:
    console = plain()
    with pytest.raises(RuntimeError, match="broken"):
        learn(console, Module(fail_at=2), 3)
    assert written(console).splitlines()[1] == "learning 1 of 3: stopped at 2 of 3 steps in N s, loss 0.250"
