"""Packed rows: what goes into which row and step, and that segments of a row do not see each other."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from agentgym.data.datamodule import TrajectoryDataModule
from agentgym.data.packing import PackedBatch, _varlen, lay_out, pack, packed_attention, register_packed_attention
from agentgym.data.transcript import TokenSequence
from agentgym.errors import DataError, ModelError
from agentgym.modules.losses import token_nll, weighted_nll
from agentgym.settings import LearningSettings

torch.set_num_threads(1)


def make(length: int, seed: int, share: float = 0.4) -> TokenSequence:
    rng = random.Random(seed)
    return TokenSequence(
        tuple(rng.randrange(1, 60) for _ in range(length)), tuple(rng.random() < share for _ in range(length))
    )


def row(sequences: list[TokenSequence], weights: list[float] | None = None) -> PackedBatch:
    return lay_out(sequences, weights or [1.0] * len(sequences), normalizer=1.0, step_labels=1, step_tokens=1)


def llama(attention: str = "packed") -> LlamaForCausalLM:
    register_packed_attention()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(attention)
    model.train()
    return model


def losses(model: LlamaForCausalLM, batch: PackedBatch) -> Tensor:
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        logits_to_keep=batch.targets - 1,
        segments=batch.segments,
        boundaries=batch.boundaries,
    ).logits[0]
    return token_nll(logits, batch.labels[0, batch.targets])


def losses_one_by_one(model: LlamaForCausalLM, sequences: list[TokenSequence]) -> Tensor:
    """The textbook way: each sequence alone, all logits, shifted by one."""
    parts = []
    for sequence in sequences:
        ids = torch.tensor(sequence.ids)
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        parts.append(token_nll(logits[:-1], ids[1:])[torch.tensor(sequence.mask[1:])])
    return torch.cat(parts)


SEQUENCES = [make(7, 1), make(13, 2), make(5, 3), make(24, 4)]


def test_packed_losses_and_gradients_equal_those_of_each_sequence_alone() -> None:
    packed, alone = llama(), llama("sdpa")
    packed_losses, alone_losses = losses(packed, row(SEQUENCES)), losses_one_by_one(alone, SEQUENCES)
    torch.testing.assert_close(packed_losses, alone_losses, atol=1e-5, rtol=1e-5)
    torch.autograd.backward([packed_losses.sum(), alone_losses.sum()])
    for got, expected in zip(packed.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, atol=1e-5, rtol=1e-5)


def test_a_segment_does_not_see_another_one() -> None:
    model = llama()
    first, second = make(9, 5), make(11, 6)
    other = TokenSequence(tuple(60 - token for token in first.ids), first.mask)
    labels = sum(second.mask[1:])
    before, after = losses(model, row([first, second])), losses(model, row([other, second]))
    assert torch.equal(before[-labels:], after[-labels:])
    assert not torch.allclose(before[:-labels], after[:-labels])


@pytest.mark.parametrize("cache", [{}, {"use_cache": True}])
def test_segments_are_seen_alone_even_where_the_model_makes_a_cache(cache: dict[str, bool]) -> None:
    """With transformers' own attention this is silently wrong: it looks for packed rows only without a cache."""
    model, batch = llama(), row(SEQUENCES)
    inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "segments": batch.segments}
    expected = model(**inputs, use_cache=False).logits
    torch.testing.assert_close(model(**inputs, **cache).logits, expected)


def test_a_mask_of_ones_does_not_join_the_segments() -> None:
    """With transformers' own attention it does so silently, and most collators make such a mask."""
    model, batch = llama(), row(SEQUENCES)
    inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "segments": batch.segments}
    expected = model(**inputs, use_cache=False).logits
    masked = model(**inputs, use_cache=False, attention_mask=torch.ones_like(batch.input_ids)).logits
    torch.testing.assert_close(masked, expected)


def test_logits_are_computed_only_where_there_are_labels() -> None:
    model, batch, seen = llama(), row(SEQUENCES), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    losses(model, batch)
    assert seen == [(1, sum(sum(sequence.mask[1:]) for sequence in SEQUENCES), 64)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_segments_are_seen_alone_under_gradient_checkpointing_too() -> None:
    plain, checkpointed = llama(), llama()
    checkpointed.gradient_checkpointing_enable()  # type: ignore[no-untyped-call]
    torch.autograd.backward([losses(model, row(SEQUENCES)).sum() for model in (plain, checkpointed)])
    for got, expected in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


def test_a_sliding_window_is_kept_inside_a_segment() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 12, 8), torch.randn(1, 2, 12, 8), torch.randn(1, 2, 12, 8)
    segments = ((0, 9), (9, 12))
    out, _ = packed_attention(torch.nn.Identity(), query, key, value, None, segments=segments, sliding_window=4)
    distance = torch.arange(12)[:, None] - torch.arange(12)
    segment = torch.arange(12) >= 9
    seen = (distance >= 0) & (distance < 4) & (segment[:, None] == segment)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(out, expected.transpose(1, 2))


@pytest.mark.parametrize("window", [None, 4])
def test_the_call_for_gpus_computes_the_same(monkeypatch: pytest.MonkeyPatch, window: int | None) -> None:
    def varlen_attn(
        q: Tensor, k: Tensor, v: Tensor, starts: Tensor, _: Tensor, longest: int, __: int, **options: Any
    ) -> Tensor:
        """What torch documents of its kernel, which runs on GPUs only: shapes (T, H, D), one head of keys each."""
        assert q.shape == k.shape == v.shape
        assert longest == max(starts.diff())
        left, right = options["window_size"]
        place = torch.arange(len(q))
        distance = place[:, None] - place
        segment = torch.bucketize(place, starts[1:].long(), right=True)
        seen = (distance >= -right) & ((distance <= left) | (left < 0)) & (segment[:, None] == segment)
        scores = torch.einsum("qhd,khd->hqk", q, k) * options["scale"]
        return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 12, 8), torch.randn(1, 2, 12, 8), torch.randn(1, 2, 12, 8)
    segments, boundaries = ((0, 7), (7, 12)), torch.tensor([0, 7, 12], dtype=torch.int32)
    expected, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, 0.3, segments=segments, sliding_window=window
    )
    torch.testing.assert_close(_varlen(query, key, value, boundaries, 7, 0.3, window), expected)


def test_packed_attention_follows_autocast() -> None:
    query, key = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = packed_attention(torch.nn.Identity(), query, key, key.bfloat16(), None, segments=((0, 6),))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("option", ["softcap", "s_aux"])
def test_packed_attention_refuses_what_it_would_leave_out(option: str) -> None:
    x = torch.randn(1, 2, 6, 8)
    with pytest.raises(ModelError, match="choose another model"):
        packed_attention(torch.nn.Identity(), x, x, x, None, segments=((0, 6),), **{option: 1.0})


def test_packed_attention_refuses_to_work_without_segments_or_with_a_mask() -> None:
    x = torch.randn(1, 2, 6, 8)
    with pytest.raises(ModelError, match="Identity does not hand the segments of packed rows on to its attention"):
        packed_attention(torch.nn.Identity(), x, x, x, None)
    with pytest.raises(ValueError, match="segments"):  # enough for a GPU only
        packed_attention(torch.nn.Identity(), x, x, x, None, longest=6)
    with pytest.raises(ValueError, match="mask"):
        packed_attention(torch.nn.Identity(), x, x, x, torch.ones(6, 6), segments=((0, 6),))


def test_only_tokens_the_model_wrote_are_labels_and_never_the_first_of_a_segment() -> None:
    first = TokenSequence((5, 6, 7), (True, False, True))
    second = TokenSequence((8, 9), (True, True))
    batch = row([first, second], [1.0, 0.5])
    assert batch.labels.tolist() == [[-100, -100, 7, -100, 9]]
    assert batch.targets.tolist() == [2, 4]
    assert batch.weights.tolist() == [1.0, 0.5]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.segments == ((0, 3), (3, 5))
    assert batch.longest == 3
    assert batch.boundaries.tolist() == [0, 3, 5]


def test_a_batch_moves_to_another_device_as_a_whole() -> None:
    batch = row(SEQUENCES)
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert all(value.is_meta for value in vars(moved).values() if isinstance(value, Tensor))
    assert moved.segments == batch.segments


def test_the_loss_weighs_tokens_by_the_weight_of_their_trajectory() -> None:
    logits, labels = torch.randn(3, 8), torch.tensor([1, 2, 3])
    nll = -logits.log_softmax(-1)[torch.arange(3), labels]
    got = weighted_nll(logits, labels, torch.tensor([1.0, 1.0, 0.25]), 2.25)
    torch.testing.assert_close(got, (nll[0] + nll[1] + 0.25 * nll[2]) / 2.25)


@given(st.lists(st.integers(1, 120), min_size=1, max_size=60), st.integers(20, 100))
@settings(max_examples=60, deadline=None)
def test_packing_uses_every_sequence_once_and_keeps_to_the_capacity(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(i for r in rows for i in r) == list(range(len(lengths)))
    assert all(len(r) == 1 or sum(lengths[i] for i in r) <= capacity for r in rows)


def test_packed_rows_are_full_and_even() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(60, 220) for _ in range(200)]
    loads = [sum(lengths[i] for i in r) for r in pack(lengths, 1024)]
    assert sum(loads) / len(loads) > 0.93 * 1024
    assert min(loads) > 0.9 * sum(loads) / len(loads)


def test_a_sequence_longer_than_a_row_gets_a_row_of_its_own() -> None:
    assert sorted(map(sorted, pack([30, 200, 40], 100))) == [[0, 2], [1]]


DATA = [make(random.Random(i).randint(10, 40), i) for i in range(50)]


def learning(**options: Any) -> LearningSettings:
    return LearningSettings(**{"steps": 12, "tokens_per_step": 128, "tokens_per_row": 128, **options})


def module(seed: int = 0, world_size: int = 1, **options: Any) -> TrajectoryDataModule:
    return TrajectoryDataModule(DATA, [1.0] * len(DATA), learning(**options), seed, world_size=world_size)


def ids(batches: Any) -> list[list[int]]:
    return [batch.input_ids[0].tolist() for batch in batches]


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert ids(module(0).loader()) == ids(module(0).loader())
    assert ids(module(0).loader()) != ids(module(1).loader())


def test_an_epoch_visits_every_trajectory_once_and_the_next_in_another_order() -> None:
    data = module(steps=None, epochs=2)
    batches = list(data.loader())
    assert len(batches) == data.steps
    assert data.tokens == 2 * sum(map(len, DATA))
    parts = [batch.input_ids[0, s:e].tolist() for batch in batches for s, e in batch.segments]
    expected = sorted(list(sequence.ids) for sequence in DATA)
    assert sorted(parts) == sorted(expected * 2)
    assert sorted(parts[: len(DATA)]) == expected
    assert parts[: len(DATA)] != parts[len(DATA) :]


def test_a_phase_counted_in_steps_goes_on_over_the_data() -> None:
    data = module(steps=30)
    assert data.steps == len(data.loader()) == len(list(data.loader())) == 30
    assert sum(batch.step_tokens for batch in data.loader()) == data.tokens > 2 * sum(map(len, DATA))


def test_the_normalizer_is_the_weight_of_the_whole_step() -> None:
    weights = [1.0 if i % 2 else 0.5 for i in range(len(DATA))]
    data = TrajectoryDataModule(DATA, weights, learning(tokens_per_row=64), 0)
    batches = list(data.loader())
    assert data.accumulate == 2
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        expected = float(first.weights.sum() + second.weights.sum())
        assert first.normalizer == second.normalizer == pytest.approx(expected)
        assert first.step_labels == len(first.targets) + len(second.targets)
        assert first.step_tokens == first.input_ids.numel() + second.input_ids.numel()


@pytest.mark.parametrize("options", [{}, {"steps": None, "epochs": 3}])
def test_two_ranks_share_out_the_rows_of_one_process(options: dict[str, Any]) -> None:
    one = list(module(tokens_per_row=64, **options).loader())
    two = module(world_size=2, tokens_per_row=64, **options)
    ranks = [list(two.loader(rank)) for rank in (0, 1)]
    assert ids(one) == ids(batch for pair in zip(*ranks, strict=True) for batch in pair)
    assert [b.normalizer for b in one[::2]] == [b.normalizer for b in ranks[0]] == [b.normalizer for b in ranks[1]]


def test_rows_that_only_fill_up_the_last_step_weigh_nothing() -> None:
    data = TrajectoryDataModule(DATA[:3], [1.0] * 3, learning(steps=None, epochs=1, tokens_per_row=64), 0, world_size=4)
    assert data.steps == 1
    batches = [next(iter(data.loader(rank))) for rank in range(4)]
    assert sum(float(batch.weights.sum()) for batch in batches) == pytest.approx(batches[0].normalizer)
    assert any(not batch.weights.any() for batch in batches)


def test_the_parts_of_uneven_ranks_add_up_to_the_loss_over_all_of_them() -> None:
    """The mean of what each rank averages over its own labels would be another loss."""
    sequences = [make(50, 1, share=0.9), make(40, 4, share=0.2), make(12, 3, share=0.5)]
    weights = [1.0, 0.5, 0.25]
    options = learning(steps=None, epochs=1, tokens_per_row=64)
    data = TrajectoryDataModule(sequences, weights, options, 0, world_size=2)
    batches = [batch for rank in (0, 1) for batch in data.loader(rank)]
    assert len(batches) == 2
    assert len(batches[0].targets) > 2 * len(batches[1].targets)
    model = llama()
    nll = [losses(model, batch) for batch in batches]
    parts = [torch.dot(n, batch.weights) / batch.normalizer for n, batch in zip(nll, batches, strict=True)]
    weight = torch.cat([torch.full((sum(s.mask[1:]),), w) for s, w in zip(sequences, weights, strict=True)])
    alone = losses_one_by_one(llama("sdpa"), sequences)
    torch.testing.assert_close(parts[0] + parts[1], torch.dot(alone, weight) / weight.sum())
    means = torch.stack([torch.dot(n, b.weights) / b.weights.sum() for n, b in zip(nll, batches, strict=True)])
    assert abs(means.mean() - (parts[0] + parts[1])) > 0.01


@pytest.mark.parametrize("done", [1, 5, 17])
def test_a_loader_goes_on_where_it_was(done: int) -> None:
    data = module(tokens_per_row=64)
    whole = ids(data.loader())
    first = data.loader()
    batches = iter(first)
    head = [next(batches) for _ in range(done)]
    resumed = module(tokens_per_row=64).loader()
    resumed.load_state_dict(first.state_dict())
    assert ids(head) + ids(resumed) == whole


def test_trajectories_that_teach_nothing_are_left_out() -> None:
    silent = TokenSequence((1, 2, 3), (True, False, False))
    data = TrajectoryDataModule([*DATA[:4], silent, DATA[4]], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0], learning(), 0)
    parts = {tuple(b.input_ids[0, s:e].tolist()) for b in data.loader() for s, e in pairwise(b.boundaries.tolist())}
    assert parts == {DATA[i].ids for i in (0, 1, 2, 4)}


def test_nothing_to_learn_from_and_negative_weights_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="add expert trajectories"):
        TrajectoryDataModule([], [], learning(), 0)
    with pytest.raises(DataError, match="negative weight"):
        TrajectoryDataModule(DATA[:1], [-1.0], learning(), 0)
