"""Words that nobody should write, and folders that nobody should have: one line each, and no secret is repeated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fake_openai import FakeOpenAI, error, in_a_thread

from agentgym.cli import main
from agentgym.errors import RecipeError
from agentgym.preflight import check_play
from agentgym.ranks import join, started
from agentgym.recipe import load_recipe
from agentgym.settings import TrainerSettings
from envpool import Split

SECRET = "sk-SECRET123"
RECIPE = """\
name: odd
model: {name: tiny}
environments: {maze: {expert: 2, explore: 3, eval: 4}}
bc: {steps: 5}
learn: {steps: 5}
tracking: {mode: 'off'}
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("r.yaml").write_text(RECIPE)


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said.out + said.err
    assert "Traceback" not in said.err
    assert not Path("runs").exists()
    return said.err


@pytest.mark.parametrize("override", ["seed=0", "model.name=random", "model.name=expert", "eval.players=[expert]"])
def test_a_folder_that_is_named_like_a_player_does_not_hide_it(override: str) -> None:
    for name in ("tiny", "random", "expert"):
        Path(name).mkdir()
    assert main(["validate", "r.yaml", override]) == 0


URL = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    "override",
    [
        f"model.endpoint={{url: '{URL}', key: {SECRET}}}",
        f"model.endpoint={{url: '{URL}', key: [{SECRET}]}}",
        f"model.endpoint={{url: '{URL}', options: {SECRET}}}",
        f"model.endpoint={{url: '{URL}', options: {{messages: {SECRET}}}}}",
        f"model.endpoint=http://me:{SECRET}@host/v1",
        f"model.endpoint={{url: 'http://me:{SECRET}@host/v1'}}",
        f"model.endpoint={{url: 'https://host/v1?api_key={SECRET}'}}",
        f"model.endpoint=[{SECRET}",
        f"model.endpoint.kye={SECRET}",
        f"environments.maze.token={SECRET}",
        f"environments.maze.token=[{SECRET}]",
        f"environments.maze.headers.X-Key={SECRET}",
        f"environments.maze.headers={SECRET}",
        f"environments.maze.endpoints=['ftp://me:{SECRET}@host']",
        f"environments.maze.endpoints=http://host?key={SECRET}",
    ],
)
@pytest.mark.parametrize("command", ["validate", "eval"])
def test_what_may_be_a_secret_is_not_repeated(command: str, override: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = override.partition("=")[0]
    assert main([command, "r.yaml", "model.name=a/b", f"model.endpoint.url={URL}", override]) == 2
    said = capsys.readouterr().err
    assert "SECRET123" not in said
    assert key in said
    assert "Traceback" not in said


def test_the_place_of_a_mistake_is_the_key_of_an_override(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["validate", "r.yaml", f"environments.maze.token={SECRET}"], capsys)
    assert "environments.maze.token: write the name of the environment variable" in said
    assert said.endswith("(override environments.maze.token)\n")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("imports=['']", "imports: '' is no name of a module"),
        ("imports=[.foo]", "imports: '.foo' is no name of a module"),
        ("imports=[odd_syntax]", "imports: cannot import odd_syntax (SyntaxError: "),
        ("imports=[odd_raises]", "imports: cannot import odd_raises (ZeroDivisionError: a b): mend the module"),
        ("imports=[odd_leaves]", "imports: cannot import odd_leaves (SystemExit: 3): mend the module"),
        ("module=odd_bytes.Good", "odd_bytes.py"),
        ("module=odd_zero.Good", "odd_zero.py"),
    ],
)
def test_modules_that_cannot_be_read_or_imported(override: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd_syntax.py").write_text("class Good(\n")
    Path("odd_raises.py").write_text("raise ZeroDivisionError('a\\nb')\n")
    Path("odd_leaves.py").write_text("raise SystemExit(3)\n")
    Path("odd_bytes.py").write_bytes(b"name = '\xff'\n")
    Path("odd_zero.py").write_bytes(b"name = '\0'\n")
    try:
        assert line in refused(["validate", "r.yaml", override], capsys)
    finally:
        sys.modules.pop("odd_raises", None)


def test_a_module_may_name_another_encoding() -> None:
    source = "# coding: latin-1\nfrom agentgym.modules import AgentModule\nclass Good(AgentModule): name = 'é'\n"
    Path("odd_latin.py").write_bytes(source.encode("latin-1"))
    assert main(["validate", "r.yaml", "module=odd_latin.Good"]) == 0


def test_a_precision_that_never_works_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["validate", "r.yaml", "trainer.precision=bf16-true"], capsys)
    assert "'bf16-true' is not one of 32-true, bf16-mixed, 16-mixed" in said


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["trainer.accelerator=gpu"], "trainer.accelerator: this machine has no gpu that torch can use"),
        (["trainer.accelerator=cuda"], "trainer.accelerator: this machine has no cuda that torch can use"),
        (["trainer.accelerator=mps"], "trainer.accelerator: this machine has no mps that torch can use"),
        (["trainer.strategy=fsdp", "trainer.offload=true"], "trainer.offload: models live in the CPU's memory already"),
    ],
)
def test_a_device_that_is_not_there_is_told_before_anything_is_written(
    overrides: list[str], line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert line in refused(["fit", "r.yaml", *overrides], capsys)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (f"environments.maze.explore={10**30}", "it must be at least 0 and at most 1000000000"),
        (f"environments.maze.explore={10**400}", "it must be at least 0 and at most 1000000000"),
        (f"seed={2**64}", f"seed: {2**64} is out of range: it must be at least 0 and at most {2**63 - 1}"),
        (f"seed={2**63}", "seed: "),
        ("environments.maze.keep_above=.nan", "keep_above: nan is out of range: it must be a finite number"),
        (f"model={{name: a/b, endpoint: {{url: '{URL}', options: {{a: .nan}}}}}}", "model.endpoint.options.a: "),
        ("model.tiny={hidden: 12, heads: 4, kv_heads: 2}", "4 heads do not divide the width 12 evenly into heads of"),
    ],
)
def test_numbers_that_nothing_can_take(override: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert line in refused(["validate", "r.yaml", override], capsys)


def test_the_largest_seed_is_one_that_torch_takes() -> None:
    assert main(["validate", "r.yaml", f"seed={2**63 - 1}"]) == 0
    torch.Generator().manual_seed(2**63 - 1)


@pytest.mark.parametrize(
    ("split", "overrides", "sent"),
    [
        (Split.EVAL, ["evol.top_k=9", "seed=5"], {"temperature": 0.0, "top_p": 1.0, "seed": 5}),
        (
            Split.EVAL,
            ["eval.samples=2", "evol.top_k=9", "evol.min_p=0.1", "model.endpoint.stop=[END]"],
            {"temperature": 1.0, "top_p": 1.0, "seed": 0, "top_k": 9, "min_p": 0.1, "stop": ["END"]},
        ),
        (Split.EXPLORE, ["evol.temperature=0.5", f"seed={2**40 + 3}"], {"temperature": 0.5, "top_p": 1.0, "seed": 3}),
    ],
)
def test_a_server_is_asked_before_a_run_as_it_is_asked_in_it(
    split: Split, overrides: list[str], sent: dict[str, object]
) -> None:
    with in_a_thread(FakeOpenAI()) as fake:
        given = ["model.name=fake/model", f"model.endpoint.url={fake.base}", *overrides]
        check_play(load_recipe("r.yaml", given), split)
    (body,) = fake.bodies
    assert {name: body[name] for name in body if name not in ("model", "messages", "max_tokens")} == sent


def test_a_field_that_a_server_refuses_is_told_before_a_run() -> None:
    fake = FakeOpenAI()
    fake.script.append(error(400, "Unsupported parameter: 'seed'", code="unsupported_parameter"))
    with in_a_thread(fake), pytest.raises(RecipeError, match=r"'seed' \(model.endpoint.options adds fields"):
        check_play(load_recipe("r.yaml", ["model.name=fake/model", f"model.endpoint.url={fake.base}"]), Split.EVAL)


@pytest.mark.parametrize("job", ["interactive", "batch"])
def test_a_slurm_job_of_one_task_has_started_no_processes(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": job, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert not started()
    with pytest.raises(RecipeError, match="2 processes learn together: use the command"):
        join(TrainerSettings(devices=2))
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert started()
