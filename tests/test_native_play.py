"""Models in this process, and models behind a server that deals in token ids, play with calls of tools of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trio
from fake_openai import MODEL, FakeOpenAI
from test_fit import recipe
from transformers import PreTrainedModel

from agentgym.codecs import tools_of, with_tools
from agentgym.data import store
from agentgym.data.codec import Codec
from agentgym.data.toolcodec import ToolCodec
from agentgym.errors import ModelError
from agentgym.fit import fit
from agentgym.generation.local import LocalPolicy
from agentgym.generation.remote import RemotePolicy
from agentgym.generation.sampling import Sampling
from agentgym.manner import read_manner
from agentgym.models import TOOL_TOKENS, build_tiny, load_model, load_tokenizer
from agentgym.settings import EndpointSettings, FormatName, GenerationSettings, TinySettings
from envpool import EnvPool, ExpertPolicy, StopReason, Task, Trajectory, collect
from envpool.syntaxes import HERMES
from envpool.types import Call

TASKS = [Task("maze", index) for index in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    settings = TinySettings(hidden=16, layers=1, heads=1, kv_heads=1, intermediate=16, vocabulary=400)
    texts = [message.text for trajectory in experts() for message in trajectory.messages]
    build_tiny(settings, texts, context=512, seed=0, folder=folder, tools=True)
    return folder


@pytest.fixture(scope="module")
def codec(folder: Path) -> ToolCodec:
    return Codec(load_tokenizer(str(folder))).with_tools


def experts() -> list[Trajectory]:
    return collect(EnvPool(format="native", brief=True), TASKS, ExpertPolicy())


def learned(codec: ToolCodec, trajectory: Trajectory) -> list[int]:
    sequence = codec.encode(trajectory)
    return [token for token, written in zip(sequence.ids, sequence.mask, strict=True) if written]


def local_policy(model: PreTrainedModel, codec: Codec | ToolCodec) -> LocalPolicy:
    return LocalPolicy(
        model,
        codec,
        settings=GenerationSettings(max_tokens=12),
        sampling=Sampling(temperature=1.0),
        seed=0,
        context=512,
        name="tiny",
    )


def test_the_tiny_model_offers_tools_and_calls_them(codec: ToolCodec) -> None:
    assert codec.encoder.glue("".join(TOOL_TOKENS)) == [4, 5, 6, 7]
    trajectory = experts()[0]
    spelt = codec.encoder.decode(codec.encode(trajectory).ids, "")
    assert spelt.startswith(f"<|system|>{trajectory.prompt}\nmove(direction)\nact(action)\n<|end|><|user|>")
    assert f"<|tool|>{trajectory.turns[0].observation}<|end|><|assistant|>" in spelt
    assert spelt.endswith(f"{trajectory.turns[-1].completion.text}<|end|>")


def test_a_model_in_this_process_is_trained_on_the_very_tokens_it_played_with(folder: Path, codec: ToolCodec) -> None:
    model = load_model(str(folder))
    pool = EnvPool(format="native", brief=True, max_turns={"maze": 4})
    for trajectory in collect(pool, TASKS, local_policy(model, codec)):
        assert trajectory.stop is StopReason.MAX_TURNS
        assert [tool["function"]["name"] for tool in trajectory.tools] == ["move", "act"]
        sequence = codec.encode(trajectory)
        ids = [token for turn in trajectory.turns for token in turn.completion.token_ids or ()]
        assert learned(codec, trajectory) == ids
        with torch.inference_mode():
            log_probs_TV = model(torch.tensor([sequence.ids])).logits[0, :-1, : codec.vocabulary].log_softmax(-1)
        places = [place for place, written in enumerate(sequence.mask) if written]
        expected = [log_probs_TV[place - 1, sequence.ids[place]].item() for place in places]
        told = [value for turn in trajectory.turns for value in turn.completion.logprobs or ()]
        assert told == pytest.approx(expected, abs=1e-5)


def test_a_policy_with_the_codec_of_text_says_which_one_it_needs(folder: Path) -> None:
    policy = local_policy(load_model(str(folder)), Codec(load_tokenizer(str(folder))))
    (failed,) = collect(EnvPool(format="native", brief=True), TASKS[:1], policy)
    assert "play the format native with Codec.with_tools" in str(failed.error)


def test_with_token_ids_calls_and_results_are_sent_as_a_prompt_that_only_grows(codec: ToolCodec) -> None:
    calls = [[Call("move", {"direction": "up"})], [], [Call("move", {"direction": way}) for way in ("left", "down")]]

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        turn = sum(token == codec.one("<|assistant|>") for token in body["prompt"]) - 1
        text = HERMES.write(f"Turn {turn}.", calls[turn % 3])
        spelt = codec.answer(text, calls[turn % 3], (), after_results=False, cut=False)
        return {
            "text": "",
            "finish_reason": "stop",
            "token_ids": [*spelt, codec.stop_id],
            "prompt_token_ids": body["prompt"],
        }

    fake = FakeOpenAI(answer)
    (played,) = trio.run(play, fake, codec)
    assert [len(turn.calls) for turn in played.turns] == [1, 0, 2, 1]
    assert [turn.action is None for turn in played.turns] == [False, True, False, False]
    for before, after, turn in zip(fake.bodies, fake.bodies[1:], played.turns, strict=False):
        grown = [*before["prompt"], *(turn.completion.token_ids or ())]
        assert after["prompt"][: len(grown)] == grown
    assert list(codec.encode(played).ids) == [
        *fake.bodies[-1]["prompt"],
        *(played.turns[-1].completion.token_ids or ()),
    ]
    results = codec.encoder.decode(fake.bodies[3]["prompt"], "").partition("Turn 2.")[2]
    assert results.count("<|tool|>") == 2
    assert fake.bodies[0]["stop_token_ids"] == sorted(codec.stop_ids)


async def play(fake: FakeOpenAI, codec: ToolCodec) -> Sequence[Trajectory]:
    async with fake:
        policy = RemotePolicy(
            EndpointSettings(url=f"{fake.url}/v1", tokens=True),
            MODEL,
            settings=GenerationSettings(max_tokens=64),
            sampling=Sampling(temperature=0.7),
            seed=0,
            context=2048,
            codec=codec,
        )
        pool = EnvPool(format="native", brief=True, max_turns={"maze": 5})
        async with pool.run(TASKS[:1], policy) as trajectories:
            return [trajectory async for trajectory in trajectories]


def test_a_recipe_with_native_calls_learns_explores_and_measures(tmp_path: Path) -> None:
    made = recipe(
        tmp_path,
        "format=native",
        "evol.iterations=1",
        "evol.samples=1",
        "evol.control=false",
        "model.tiny.vocabulary=420",
    )
    report = fit(made)
    folder = tmp_path / "runs" / "small"
    assert [row.iteration for row in report.iterations] == [0, 1]
    manner = read_manner(str(folder / "it001" / "model"))
    assert manner is not None
    assert manner.format == FormatName.native
    codec = with_tools(Codec(load_tokenizer(str(folder / "it001" / "model"))), tools_of(made))
    assert isinstance(codec, ToolCodec)
    for file in folder.glob("trajectories/*.parquet"):
        for trajectory in store.read([file]):
            sampled = [token for turn in trajectory.turns for token in turn.completion.token_ids or ()]
            assert trajectory.tools
            assert not sampled or learned(codec, trajectory) == sampled


def test_a_model_without_calls_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    base = tmp_path / "base"
    build_tiny(TinySettings(hidden=8, layers=1, heads=1, kv_heads=1), ["a"], context=64, seed=0, folder=base)
    with pytest.raises(ModelError, match=r"does not write calls of tools: set another format, as in format=react"):
        fit(recipe(tmp_path, "format=native", f"model.name={base}"))
    assert not (tmp_path / "runs").exists()
