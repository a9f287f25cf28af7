"""The generation engine against transformers' own `generate` and full forward passes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from agentgym.errors import ModelError
from agentgym.generation.attention import Window, slot_attention
from agentgym.generation.engine import Engine, Request
from agentgym.generation.graphs import KEYS, ROWS, Capture, Compute, StepGraphs
from agentgym.generation.sampling import Sampling, choose, random_numbers
from agentgym.generation.slots import Slot, SlotCache

STOP = 7
MAX_TOKENS = 24
SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": STOP,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama_without_groups": LlamaConfig(**{**SHAPE, "num_key_value_heads": 4}),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
    "mistral_with_a_sliding_window": MistralConfig(**SHAPE, sliding_window=11),
    "gemma2_with_soft_caps": Gemma2Config(**SHAPE, head_dim=16, sliding_window=13, final_logit_softcapping=2.0),
}


def make_model(kind: str = "llama", seed: int = 0, std: float = 0.3) -> PreTrainedModel:
    torch.manual_seed(seed)
    # in transformers 5.17 the scaled-dot-product attention that Gemma 2 took by default left its soft caps out
    attention = "eager" if kind.startswith("gemma2") else None
    model = AutoModelForCausalLM.from_config(CONFIGS[kind], attn_implementation=attention)
    for parameter in model.parameters():
        # large weights: near-ties between tokens would make greedy comparisons a matter of rounding
        torch.nn.init.normal_(parameter, std=std if parameter.ndim > 1 else 1.0)
    return model.eval()


def make_engine(model: PreTrainedModel, **changes: Any) -> Engine:
    options: dict[str, Any] = {"stop_ids": [STOP], "sampling": Sampling(temperature=0), "batch": 16}
    return Engine(model, **{**options, "max_tokens": MAX_TOKENS, "context": 500, **changes})


def tokens(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randint(8, 95) for _ in range(rng.randint(low, high))]


class Conversations:
    """Some ragged conversations that are played turn by turn, with observations from a script."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self._rngs = [random.Random(f"{seed} {i}") for i in range(count)]
        self.ids = [tokens(rng, 5, 60) for rng in self._rngs]
        self.slots = [Slot() for _ in range(count)]

    def ask(self, engine: Engine, order: Sequence[int] | None = None, seed: int = 0) -> list[Request]:
        """Has the conversations answered, in that order, and goes on to the next turn; returns them by number."""
        order = range(len(self.ids)) if order is None else order
        requests = {
            i: Request(self.slots[i], list(self.ids[i]), random_numbers(seed, i, len(self.ids[i]), count=MAX_TOKENS))
            for i in order
        }
        engine.submit(requests.values())
        run(engine)
        for i, request in requests.items():
            self.ids[i] += request.tokens + tokens(self._rngs[i], 1, 30)
        return [requests[i] for i in sorted(requests)]


def run(engine: Engine) -> list[Request]:
    finished = []
    while engine.busy:
        finished += engine.advance(5)
    return finished


def generate(model: PreTrainedModel, ids: Sequence[int]) -> list[int]:
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        whole = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=MAX_TOKENS
        )
    answer: list[int] = whole[0, len(ids) :].tolist()
    return answer


def full_logprobs(model: PreTrainedModel, request: Request, temperature: float = 1.0) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([[*request.ids, *request.tokens]])).logits[0, len(request.ids) - 1 : -1]
    log_probs = (logits / temperature).log_softmax(-1)
    return log_probs.gather(1, torch.tensor(request.tokens)[:, None])[:, 0]


@pytest.mark.parametrize("kind", CONFIGS)
def test_greedy_tokens_are_those_of_generate_over_ragged_conversations_of_several_turns(kind: str) -> None:
    model = make_model(kind)
    engine, talk = make_engine(model), Conversations(6)
    for _ in range(3):
        requests = talk.ask(engine)
        assert [request.tokens for request in requests] == [generate(model, request.ids) for request in requests]


@pytest.mark.parametrize("kind", CONFIGS)
def test_steps_of_fixed_shapes_give_the_same_answers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU they are recorded as graphs; here they are computed, with the same padding and spare row."""
    shapes, record = [], StepGraphs._record
    monkeypatch.setattr(StepGraphs, "_record", lambda *args: shapes.append(args[1:]) or record(*args))
    model, orders = make_model(kind), [range(8), [5, 2, 7], range(8)]
    expected = play(make_engine(model, batch=5, slots=7), orders)
    assert play(make_engine(model, batch=5, slots=7, graphs=True), orders) == expected
    assert {rows for rows, _ in shapes} == {8}  # all seven and the spare row
    assert all(keys % KEYS == 0 or keys < KEYS for _, keys in shapes)


def test_steps_of_fixed_shapes_are_recorded_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, record = [], StepGraphs._record
    monkeypatch.setattr(StepGraphs, "_record", lambda *args: recorded.append(args[1:]) or record(*args))
    engine = make_engine(make_model(), batch=20, graphs=True, stop_ids=[])
    counts = []
    for _ in range(3):
        engine.reset()
        talk = Conversations(20)
        for _ in range(4):
            talk.ask(engine)
            talk.ask(engine, [3, 4])
        counts.append(len(recorded))
    assert {rows for rows, _ in recorded} == {ROWS, 21}
    assert (
        counts[0] == counts[1] == counts[2]
    )  # the cache does not grow: a graph works on the memory it was recorded with


def test_where_no_graph_can_be_recorded_the_engine_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    model = make_model()
    expected = [request.tokens for request in Conversations(4).ask(make_engine(model))]
    monkeypatch.setattr(StepGraphs, "_record", fail)
    engine = make_engine(model, graphs=True)
    with pytest.warns(UserWarning, match="no CUDA graph of LlamaForCausalLM, going on without: operation not"):
        assert [request.tokens for request in Conversations(4).ask(engine)] == expected


class Recorder:
    """Records as CUDA does: a replay works on the memory there was then, and writes its logits over the last ones."""

    def __init__(self, engine: Engine, *, works: bool = True) -> None:
        self._cache, self._works = engine._cache, works
        self.recorded = self.replayed = 0

    def __call__(self, compute: Compute) -> Compute:
        self.recorded += 1
        memory, logits_BV = self._memory(), compute().clone()

        def replay() -> torch.Tensor:
            self.replayed += 1
            assert self._memory() == memory
            return logits_BV.copy_(compute()) if self._works else logits_BV

        return replay

    def _memory(self) -> list[int]:
        return [store.data_ptr() for stores in self._cache._stores.values() for store in stores]


def recording_engine(model: PreTrainedModel, *, works: bool = True, **changes: Any) -> tuple[Engine, Recorder]:
    engine = make_engine(model, graphs=True, **changes)
    assert engine._graphs is not None
    recorder = engine._graphs._capture = Recorder(engine, works=works)
    return engine, recorder


@pytest.mark.parametrize("kind", CONFIGS)
def test_recorded_steps_are_replayed_and_give_the_same_answers(kind: str) -> None:
    told: list[str] = []
    model, orders = make_model(kind), [range(8), [5, 2, 7], range(8)]
    engine, recorder = recording_engine(model, batch=5, slots=7, tell=told.append)
    assert play(engine, orders) == play(make_engine(model, batch=5, slots=7), orders)
    assert recorder.replayed > 5 * recorder.recorded > 0
    assert told == []


def test_recorded_steps_compute_with_weights_that_are_loaded_later() -> None:
    model, other = make_model(seed=0), make_model(seed=1)
    engine, recorder = recording_engine(model)
    Conversations(4).ask(engine)
    recorded = recorder.recorded
    engine.update_weights(other.state_dict())
    expected = [request.tokens for request in Conversations(4).ask(make_engine(other))]
    assert [request.tokens for request in Conversations(4).ask(engine)] == expected
    assert recorder.recorded == recorded


def test_a_graph_that_gives_old_logits_is_found_at_its_first_replay_and_the_answers_are_right() -> None:
    told: list[str] = []
    model = make_model()
    engine, recorder = recording_engine(model, works=False, tell=told.append)
    expected = [request.tokens for request in Conversations(4).ask(make_engine(model))]
    assert [request.tokens for request in Conversations(4).ask(engine)] == expected
    assert told == [
        "no CUDA graph of LlamaForCausalLM, going on without: its first replay gives other logits than the step that "
        "was recorded"
    ]
    assert recorder.recorded == recorder.replayed == 1


def test_where_all_keys_and_values_do_not_fit_at_once_memory_grows_as_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    model = make_model()
    monkeypatch.setattr("agentgym.generation.engine.free_bytes", lambda device: 1000.0)
    engine, recorder = recording_engine(model, tell=told.append)
    expected = [request.tokens for request in Conversations(4).ask(make_engine(model))]
    assert [request.tokens for request in Conversations(4).ask(engine)] == expected
    assert [line.partition(":")[0] for line in told] == ["no CUDA graph of LlamaForCausalLM, going on without"]
    assert "lower pool.sessions or model.context" in told[0]
    assert recorder.recorded == 0
    assert not engine._cache.whole


def test_what_the_cache_will_take_is_known_before_it_is_taken() -> None:
    engine, _ = recording_engine(make_model(), batch=5, slots=7)
    Conversations(2).ask(engine)
    stores = [store for stores in engine._cache._stores.values() for store in stores]
    assert engine._cache.bytes_at_most == sum(store.numel() * store.element_size() for store in stores) > 0


class Cards:
    """The parts of torch.cuda that recording takes; a graph notes which device was the current one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.recorded, self.streams = 0, list[tuple[int, Any]](), list[torch.device]()
        for name in ("device", "graph", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(torch.cuda, "Stream", self._make_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self._make_stream(device))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))

    def _make_stream(self, device: torch.device) -> Any:
        self.streams.append(device)
        return SimpleNamespace(device=device, wait_stream=lambda other: None)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any) -> Iterator[None]:
        self.recorded.append((self.current, stream.device))
        yield


def test_a_graph_is_recorded_on_the_device_of_its_model_whichever_one_the_thread_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards, third = Cards(monkeypatch), torch.device("cuda:3")
    replay = Capture(third)(lambda: torch.tensor([float(cards.current)]))
    assert cards.recorded == [(3, third)]
    assert replay().tolist() == [3.0]
    assert cards.current == 0
    assert set(cards.streams) == {third}


def test_an_engine_works_on_the_device_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[torch.device] = []
    monkeypatch.setattr("agentgym.generation.engine.current", lambda device: devices.append(device) or nullcontext())
    model = make_model()
    Conversations(1).ask(make_engine(model))
    assert set(devices) == {model.device}


@settings(max_examples=60, deadline=None)
@given(context=st.integers(1, 700), asked=st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_the_cache_holds_what_is_asked_for_and_never_more_than_the_context(context: int, asked: list[int]) -> None:
    cache = SlotCache(4, context)
    for capacity in asked:
        cache.reserve(min(capacity, context))
        assert min(capacity, context) <= cache.capacity <= context


def test_rows_that_are_padded_beyond_the_context_are_computed_apart() -> None:
    model = make_model()
    engine = make_engine(model, max_tokens=2, context=88)
    slots, rng = [Slot(), Slot()], random.Random(0)
    ids = [tokens(rng, 10, 10), tokens(rng, 60, 60)]
    for more in ((30, 20), (1, 1)):
        requests = [Request(slot, list(words)) for slot, words in zip(slots, ids, strict=True)]
        engine.submit(requests)
        run(engine)
        for request in requests:
            assert request.tokens == generate(model, request.ids)[: len(request.tokens)]
        ids = [[*r.ids, *r.tokens, *tokens(rng, count, count)] for r, count in zip(requests, more, strict=True)]
    assert engine._cache.capacity <= 88


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_full_forward_pass(kind: str, temperature: float) -> None:
    model = make_model(kind, std=0.1)
    engine, talk = make_engine(model, sampling=Sampling(temperature=temperature)), Conversations(5)
    for _ in range(3):
        for request in talk.ask(engine):
            torch.testing.assert_close(
                torch.tensor(request.logprobs), full_logprobs(model, request, temperature), atol=1e-5, rtol=0
            )


def test_greedy_logprobs_are_those_of_temperature_one() -> None:
    model = make_model(std=0.1)
    for request in Conversations(3).ask(make_engine(model)):
        torch.testing.assert_close(torch.tensor(request.logprobs), full_logprobs(model, request), atol=1e-5, rtol=0)


def play(engine: Engine, orders: Sequence[Sequence[int]]) -> list[list[int]]:
    talk = Conversations(8)
    for order in orders:
        talk.ask(engine, order)
    return talk.ids


def test_samples_do_not_depend_on_the_order_or_the_size_of_the_batch() -> None:
    model, rng = make_model(), random.Random(0)
    shuffled = [rng.sample(range(8), 8) for _ in range(3)]
    sampled = Sampling(temperature=1.0)
    expected = play(make_engine(model, sampling=sampled), [range(8)] * 3)
    assert play(make_engine(model, sampling=sampled), shuffled) == expected
    assert play(make_engine(model, sampling=sampled, batch=1), shuffled) == expected
    assert play(make_engine(model, sampling=sampled, batch=3, slots=8), [range(8)] * 3) == expected
    assert play(make_engine(model, sampling=sampled, prefill_tokens=16), shuffled) == expected


def test_the_same_calls_give_the_same_floats() -> None:
    model = make_model()
    runs = [Conversations(8).ask(make_engine(model, sampling=Sampling())) for _ in range(2)]
    assert [request.logprobs for request in runs[0]] == [request.logprobs for request in runs[1]]


def test_evicted_conversations_are_computed_again_and_go_on_alike() -> None:
    model = make_model()
    kept, evicted = make_engine(model, slots=8), make_engine(model, batch=2, slots=3)
    expected, talk = play(kept, [range(8)] * 4), Conversations(8)
    for _ in range(4):
        talk.ask(evicted)
        assert sum(slot.row is not None for slot in talk.slots) == 3
    assert talk.ids == expected


def test_the_conversation_that_was_idle_for_longest_is_evicted() -> None:
    engine, talk = make_engine(make_model(), batch=1, slots=2), Conversations(3)
    for i in (0, 1, 0, 2):
        talk.ask(engine, [i])
    assert [slot.row is not None for slot in talk.slots] == [True, False, True]


def test_a_turn_computes_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make_model(), []
    engine, talk = make_engine(model), Conversations(1)
    talk.ask(engine)
    cached, total = talk.slots[0].cached, len(talk.ids[0])
    forward = model.base_model.forward
    monkeypatch.setattr(
        model.base_model, "forward", lambda **inputs: seen.append(inputs["input_ids"].shape[1]) or forward(**inputs)
    )
    talk.ask(engine)
    assert seen[0] == total - 1 - cached
    assert set(seen[1:]) == {1}


def test_a_reset_drops_the_keys_and_values_of_weights_that_were_changed_from_outside() -> None:
    model, other = make_model(seed=0), make_model(seed=1)
    engine, talk = make_engine(model), Conversations(4)
    talk.ask(engine)
    model.load_state_dict(other.state_dict())
    engine.reset()
    assert all(slot.row is None and slot.cached == 0 for slot in talk.slots)
    requests = talk.ask(engine)
    assert [request.tokens for request in requests] == [generate(other, request.ids) for request in requests]


def test_other_weights_drop_all_keys_and_values() -> None:
    model, other = make_model(seed=0), make_model(seed=1)
    engine, talk = make_engine(model), Conversations(4)
    talk.ask(engine)
    engine.update_weights(other.state_dict())
    requests = talk.ask(engine)
    assert [request.tokens for request in requests] == [generate(other, request.ids) for request in requests]


def test_weights_cannot_change_while_answers_are_under_way() -> None:
    engine, talk = make_engine(make_model()), Conversations(1)
    engine.submit([Request(talk.slots[0], talk.ids[0])])
    with pytest.raises(RuntimeError, match="under way"):
        engine.update_weights({})


def test_an_answer_ends_with_the_stop_token_or_is_cut_at_its_longest() -> None:
    model = make_model()
    requests = [request for seed in range(3) for request in Conversations(8, seed).ask(make_engine(model))]
    stopped = [request for request in requests if request.tokens[-1] == STOP]
    cut = [request for request in requests if request.tokens[-1] != STOP]
    assert all(STOP not in request.tokens[:-1] for request in requests)
    assert all(len(request.tokens) == MAX_TOKENS for request in cut)
    assert stopped
    assert cut


def test_an_answer_can_have_a_limit_of_its_own() -> None:
    model, limits = make_model(), [1, 5, MAX_TOKENS + 9]
    whole = Conversations(3).ask(make_engine(model, stop_ids=[]))
    engine, talk = make_engine(model, stop_ids=[]), Conversations(3)
    requests = [Request(s, i, limit=most) for s, i, most in zip(talk.slots, talk.ids, limits, strict=True)]
    engine.submit(requests)
    run(engine)
    assert [len(request.tokens) for request in requests] == [1, 5, MAX_TOKENS]
    assert [r.tokens for r in requests] == [w.tokens[: len(r.tokens)] for r, w in zip(requests, whole, strict=True)]


def test_freed_conversations_leave_the_batch_and_the_others_go_on_alike() -> None:
    model = make_model()
    expected = [request.tokens for request in Conversations(6).ask(make_engine(model, stop_ids=[]))]
    engine, talk = make_engine(model, stop_ids=[], batch=4), Conversations(6)
    requests = [Request(slot, ids) for slot, ids in zip(talk.slots, talk.ids, strict=True)]
    engine.submit(requests)
    assert engine.advance(3) == []
    engine.free([talk.slots[1], talk.slots[5]])  # one is being answered, the other still queued
    finished = run(engine)
    assert {id(request) for request in finished} == {id(requests[i]) for i in (0, 2, 3, 4)}
    assert [requests[i].tokens for i in (0, 2, 3, 4)] == [expected[i] for i in (0, 2, 3, 4)]
    assert talk.slots[1].row is None


def test_a_model_is_left_as_it_was() -> None:
    model = make_model().train()
    before = model.config._attn_implementation
    Conversations(2).ask(make_engine(model))
    assert model.training
    assert model.config._attn_implementation == before


def test_tokens_beyond_the_vocabulary_are_never_drawn() -> None:
    engine = make_engine(make_model(), sampling=Sampling(temperature=50.0), vocabulary=20, stop_ids=[])
    assert max(max(request.tokens) for request in Conversations(8).ask(engine)) < 20


def test_a_conversation_that_cannot_be_answered_is_refused() -> None:
    engine = make_engine(make_model(), context=40)
    with pytest.raises(ValueError, match="do not fit in 40"):
        engine.submit([Request(Slot(), [8] * 17)])
    with pytest.raises(ValueError, match="no new token"):
        engine.submit([Request(Slot(row=0, cached=3), [8, 9, 10])])
    with pytest.raises(ValueError, match="at most 0 tokens"):
        engine.submit([Request(Slot(), [8], limit=0)])
    assert not engine.busy


def test_a_model_without_attention_is_refused_in_one_line() -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    model = AutoModelForCausalLM.from_config(FalconMambaConfig(**shape))
    with pytest.raises(ModelError, match="choose a model whose layers are all softmax attention"):
        make_engine(model)


def test_random_numbers_depend_on_their_key_alone() -> None:
    first = random_numbers(0, "maze_1", 0, 17, count=8)
    torch.rand(5)
    assert random_numbers(0, "maze_1", 0, 17, count=8) == first
    assert random_numbers(0, "maze_1", 0, 17, count=3) == first[:3]
    others = [
        random_numbers(*key, count=8) for key in ((1, "maze_1", 0, 17), (0, "maze_2", 0, 17), (0, "maze_1", 1, 17))
    ]
    assert all(other != first for other in others)
    assert all(0 <= number < 1 for number in first)


def draw(logits: Sequence[float], sampling: Sampling, count: int = 4000) -> tuple[list[int], torch.Tensor]:
    rows = torch.tensor(logits).expand(count, -1)
    uniform = torch.tensor(random_numbers("draw", count=count), dtype=torch.float64)
    drawn, logprobs = choose(rows, uniform, sampling)
    return drawn.tolist(), logprobs


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0.5), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(min_p=0.45), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=3, min_p=0.6), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=1), [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_draws_follow_the_filtered_distribution_and_carry_its_logprobs(
    sampling: Sampling, expected: Sequence[float]
) -> None:
    drawn, logprobs = draw(torch.tensor([0.1, 0.4, 0.2, 0.3]).log().tolist(), sampling)
    for token, probability in enumerate(expected):
        assert drawn.count(token) / len(drawn) == pytest.approx(probability, abs=0.03)
        assert probability or token not in drawn
    torch.testing.assert_close(logprobs.exp(), torch.tensor(expected)[drawn])


def test_the_extremes_of_the_random_numbers_draw_possible_tokens() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, 1.0, float("-inf")]] * 2)
    drawn, logprobs = choose(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), Sampling())
    assert drawn.tolist() == [1, 2]
    assert logprobs.isfinite().all()


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_k": -1}, {"min_p": 2.0}]
)
def test_settings_of_sampling_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_model_with_more_than_plain_attention_scores_is_refused_when_it_is_used() -> None:
    query = torch.zeros(1, 2, 1, 8)
    window = Window(1, torch.tensor([0]), 1, fresh=False, longest=1)
    with pytest.raises(ModelError, match="Linear needs an attention"):
        slot_attention(torch.nn.Linear(1, 1), query, query, query, None, window=window, s_aux=torch.zeros(2))
