"""Runs in which no episode comes to an end by itself: causes with counts, an exit code, and a second try."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_openai import MODEL, FakeOpenAI, error, in_a_thread, says

from agentgym import cli
from agentgym.data import store
from agentgym.fit import fit
from agentgym.recipe import load_recipe
from envpool import EnvSpec, Split, Step, register

NAME = "may_be_down"
DOWN: set[Split] = set()
"""The splits whose episodes fail now."""


def tasks(split: Split) -> Sequence[int]:
    return range(100 * list(Split).index(split), 100 * list(Split).index(split) + 12)


class MayBeDown:
    """Over after one action; fails where its split is down."""

    def reset(self, index: int) -> str:
        if list(Split)[index // 100] in DOWN:
            raise ConnectionError(f"database {index} is gone")
        return "Say yes."

    def step(self, action: str) -> Step:
        return Step("Thanks.", 1.0, True)

    def available_actions(self) -> Sequence[str]:
        return ["yes"]

    def close(self) -> None:
        pass


def expert(world: MayBeDown) -> Iterator[tuple[str, str]]:
    yield "It is asked for.", "yes"


register(
    EnvSpec(
        name=NAME,
        version="1",
        summary="a world that may be down",
        instructions="Say yes.",
        brief="Say yes.",
        make=MayBeDown,
        tasks=tasks,
        max_turns=2,
        success_above=0.5,
        expert=expert,
        place="inline",
    )
)

RECIPE = f"""\
name: small
output: {{output}}
prompt: brief
model:
  name: {{model}}
  context: 400
  tiny: {{{{hidden: 32, layers: 1, heads: 2, kv_heads: 1, intermediate: 32, vocabulary: 400}}}}
environments:
  {NAME}: {{{{expert: 6, explore: 4, eval: 3}}}}
bc: {{{{steps: 3, tokens_per_step: 256, tokens_per_row: 256, lr: 1e-2}}}}
learn: {{{{steps: 2, tokens_per_step: 256, tokens_per_row: 256, lr: 1e-2}}}}
evol: {{{{iterations: 1, samples: 2}}}}
generation: {{{{max_tokens: 8}}}}
trainer: {{{{accelerator: cpu}}}}
tracking: {{{{mode: 'off'}}}}
"""


@pytest.fixture(autouse=True)
def all_is_up() -> Iterator[None]:
    DOWN.clear()
    yield
    DOWN.clear()


def recipe(folder: Path, model: str = "tiny") -> str:
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(output=folder / "runs", model=model))
    return str(file)


PHASES = {
    Split.TRAIN: ("collecting expert trajectories: none of 6 ", "6x reset: ConnectionError: database "),
    Split.EVAL: ("measuring iteration 0: none of 3 ", "3x reset: ConnectionError: database "),
    Split.EXPLORE: ("exploring 1 of 1, try 1 of 2: none of 4 ", "4x reset: ConnectionError: database "),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    return fit(load_recipe(recipe(tmp_path_factory.mktemp("undisturbed"))))


@pytest.mark.parametrize("down", PHASES)
def test_a_fit_stops_at_the_phase_in_which_nothing_finished_and_goes_on_when_it_can(
    down, tmp_path, capsys, undisturbed
):
    DOWN.add(down)
    for _ in range(2):  # the second start tries again, and says the same
        assert cli.main(["fit", recipe(tmp_path)]) == cli.NOTHING_FINISHED == 3
        (line,) = capsys.readouterr().err.splitlines()
        for part in PHASES[down]:
            assert part in line
        assert line.endswith("mend the cause and repeat the command, which tries them again")
        assert not (tmp_path / "runs" / "small" / "report.json").exists()
        learned = [path.parent.name for path in sorted((tmp_path / "runs" / "small").glob("it*/done.json"))]
        assert learned == ([] if down is Split.TRAIN else ["it000"])
    DOWN.clear()
    again = fit(load_recipe(recipe(tmp_path)))
    assert again.lines() == undisturbed.lines()
    assert [row.learned for row in again.iterations] == [row.learned for row in undisturbed.iterations]


def test_a_phase_in_which_something_finished_is_not_played_again(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs", model="tiny"))
    fit(load_recipe(tmp_path / "recipe.yaml"))
    files = sorted((tmp_path / "runs" / "small" / "trajectories").iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    DOWN.update(Split)
    fit(load_recipe(tmp_path / "recipe.yaml"))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_an_evaluation_in_which_nothing_finished_is_reported_and_has_its_own_exit_code(tmp_path, capsys):
    DOWN.add(Split.EVAL)
    words = ["eval", recipe(tmp_path), "--player", "expert", "--player", "random"]
    assert cli.main(words) == cli.NOTHING_FINISHED
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert first.startswith("agentgym: expert: none of 3 episodes finished (3x reset: ConnectionError: database ")
    assert second.startswith("agentgym: random: none of 3 episodes finished (")
    assert "Failures in expert: 3x reset: ConnectionError: database " in " ".join(said.out.split())
    report = json.loads((tmp_path / "runs" / "small" / "report.json").read_text())
    assert report["players"][0]["ends"]["errored"] == {"error": 3}
    assert (tmp_path / "runs" / "small" / "report.html").exists()
    DOWN.clear()
    assert cli.main(words) == 0
    report = json.loads((tmp_path / "runs" / "small" / "report.json").read_text())
    assert report["players"][0]["macro"]["success"] == 1


def test_a_collection_in_which_nothing_finished_has_its_own_exit_code_and_keeps_its_record(tmp_path, capsys):
    DOWN.add(Split.EXPLORE)
    words = ["collect", recipe(tmp_path, "expert"), "--split", "explore", "--to", str(tmp_path / "x.parquet")]
    assert cli.main(words) == cli.NOTHING_FINISHED
    (line,) = capsys.readouterr().err.splitlines()
    assert "collecting with expert: none of 4 episodes finished (4x reset: ConnectionError: database " in line
    assert [t.error is None for t in store.read([tmp_path / "x.parquet"])] == [False] * 4
    DOWN.clear()
    assert cli.main(words) == 0
    assert {t.success for t in store.read([tmp_path / "x.parquet"])} == {True}


def test_a_collection_says_what_failed_and_what_the_answers_held(tmp_path, capsys):
    file = recipe(tmp_path, MODEL)
    answers = iter(range(1_000))

    def answer(route, body):
        return says("" if next(answers) % 4 else "Action:\nyes", message={"reasoning_content": "hm"})(route, body)

    with in_a_thread(FakeOpenAI(answer)) as fake:
        words = [f"model.endpoint.url={fake.base}", "pool.sessions=1", "model.endpoint.retries=0"]
        fake.script.extend([error(500, "out of luck")] * 3)  # the first are of the look before the run
        assert cli.main(["collect", file, *words]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^(\d) of them failed: \1x .* answered 500: out of luck$", said, re.MULTILINE)
    (line,) = [line for line in said.splitlines() if "held no action" in line]
    assert "only thoughts" in line
    assert "chat_template_kwargs" in line


def test_a_model_that_only_thinks_is_told_with_the_cure_though_every_episode_finished(tmp_path, capsys):
    file = recipe(tmp_path, MODEL)
    thinking = says(None, message={"reasoning_content": "hm"}, finish_reason="length")
    with in_a_thread(FakeOpenAI(thinking)) as fake:
        assert cli.main(["eval", file, f"model.endpoint.url={fake.base}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{MODEL}: 3 held-out tasks, coverage 3/3." in said
    assert f"100 % of the answers of {MODEL} held no action (100 % only thoughts): raise generation.max_tokens" in said
    (player,) = json.loads((tmp_path / "runs" / "small" / "report.json").read_text())["players"]
    assert player["answers"]["why"] == {"thoughts": 6}
    assert (player["answers"]["cut"], player["macro"]["success"]) == (6, 0)
