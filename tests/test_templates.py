"""Settings of chat templates, and what a run keeps of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from agentgym.checks import complaints_about
from agentgym.data.rendering import TEMPLATE
from agentgym.errors import RunError
from agentgym.hooks import Checkpoints
from agentgym.runfolder import RunFolder
from agentgym.settings import EndpointSettings, EnvironmentSettings, ModelSettings, Recipe


def recipe(**model: Any) -> Recipe:
    return Recipe(
        name="run", model=ModelSettings(**{"name": "acme/model", **model}), environments={"maze": EnvironmentSettings()}
    )


@pytest.mark.parametrize(
    ("model", "key", "text"),
    [
        ({"template": "none.jinja"}, "model.template", "there is no file 'none.jinja'"),
        ({"template": "empty.jinja"}, "model.template", "is empty: name a file"),
        ({"template": "."}, "model.template", "cannot read"),
        ({"template": "bytes.jinja"}, "model.template", "name a UTF-8 text file"),
        ({"template": "good.jinja", "name": "tiny"}, "model.template", "has no chat template to change"),
        ({"template_options": {"a": 1}, "name": "expert"}, "model.template_options", "has no chat template"),
        ({"template_options": {"a-b": 1}}, "model.template_options.a-b", "no such variable"),
        ({"template_options": {"messages": 1}}, "model.template_options.messages", "no such variable"),
        (
            {"template": "good.jinja", "endpoint": EndpointSettings(url="http://127.0.0.1:1/v1")},
            "model.template",
            "chat_template_kwargs",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_a_complaint(
    model: dict[str, Any], key: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.jinja").write_text(TEMPLATE)
    Path("empty.jinja").write_text(" ")
    Path("bytes.jinja").write_bytes(b"\xff\xfe")
    found = [complaint.text for complaint in complaints_about(recipe(**model)) if complaint.key == key]
    assert any(text in line for line in found), found


def test_a_run_goes_on_with_the_text_of_the_template_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.jinja").write_text(TEMPLATE)
    RunFolder(recipe(template="own.jinja")).leave()
    assert Path("runs/run/template.jinja").read_text() == TEMPLATE
    RunFolder(recipe(template="own.jinja")).leave()
    Path("own.jinja").write_text(TEMPLATE + " ")
    with pytest.raises(RunError, match=r"begun with another text of own\.jinja .*put that back"):
        RunFolder(recipe(template="own.jinja"))
    assert Path("runs/run/template.jinja").read_text() == TEMPLATE


@pytest.mark.parametrize("how", ["empty", "half", "no zip", "one bit", "another file"])
def test_a_damaged_checkpoint_is_one_line_and_stays_where_it_is(how: str, tmp_path: Path) -> None:
    path = tmp_path / "step-00000002.ckpt"
    checkpoint = {"state_dict": {"w": torch.arange(4096.0)}, "optimizer_states": [], "loops": {}, "last_loss": 1.0}
    torch.save(checkpoint if how != "another file" else {"w": torch.ones(3)}, path)
    whole = path.read_bytes()
    if how == "one bit":
        with zipfile.ZipFile(path) as parts:
            part = max(parts.infolist(), key=lambda info: info.file_size)
        at = part.header_offset + 2000
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    else:
        damaged = {"empty": b"", "half": whole[: len(whole) // 2], "no zip": b"x" * 999}.get(how, whole)
    path.write_bytes(damaged)
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.guard(trainer)
    with pytest.raises(
        RunError, match=r"step-00000002\.ckpt is damaged .*delete it and run the same command"
    ) as caught:
        trainer.strategy.load_checkpoint(checkpoints.last)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged


def test_a_sound_checkpoint_is_read(tmp_path: Path) -> None:
    path = tmp_path / "step-00000002.ckpt"
    torch.save({"state_dict": {}, "optimizer_states": [], "loops": {}, "last_loss": 1.0}, path)
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.guard(trainer)
    assert trainer.strategy.load_checkpoint(checkpoints.last)["last_loss"] == 1.0
