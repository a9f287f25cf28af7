"""Trajectories of unequal length side by side in one row, without seeing each other.

A row is one long sequence made of whole trajectories (*segments*). Nothing is padded. Positions restart in every
segment, attention stays inside it (`register_packed_attention`), and its first token has no label.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from agentgym.errors import ModelError

if TYPE_CHECKING:
    from agentgym.data.transcript import TokenSequence

IGNORED = -100
"""The label of a token that is not trained on."""

PACKED = "packed"
"""The name under which transformers finds our attention."""


@dataclass(frozen=True)
class PackedBatch:
    """One packed row and what is needed to weigh it against the rest of its optimiser step.

    Attributes:
        input_ids: token ids, shape (1, L).
        position_ids: positions, starting at 0 in every segment, shape (1, L).
        labels: the token itself where the model wrote it, else -100, shape (1, L). The logits at position ``i - 1``
            predict the label at ``i``; the first token of a segment has none.
        targets: where the labels are, shape (N,); never 0.
        weights: the weight of the trajectory that each label belongs to, shape (N,).
        boundaries: where segments start, and L, shape (S + 1,), int32.
        segments: start and end of each segment.
        normalizer: sum of the weights of all labels in the optimiser step, over all rows and ranks.
        step_labels: number of labels in the optimiser step, over all rows and ranks.
        step_tokens: number of tokens in the optimiser step, over all rows and ranks.
    """

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor
    targets: Tensor
    weights: Tensor
    boundaries: Tensor
    segments: tuple[tuple[int, int], ...]
    normalizer: float
    step_labels: int
    step_tokens: int

    @property
    def longest(self) -> int:
        """The number of tokens of the longest segment."""
        return max(end - start for start, end in self.segments)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        if self.input_ids.device == torch.device(device):
            return self
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
        return replace(self, **moved)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Puts sequences into as few rows as first-fit-decreasing needs, or one more, filled evenly if at all possible.

    Even rows matter as much as few: first-fit alone puts the longest sequences together and leaves one nearly empty
    row, so that an optimiser step would see one environment only, or a handful of tokens.

    Args:
        lengths: number of tokens of each sequence.
        capacity: most tokens of a row. A sequence that is longer gets a row of its own.

    Returns:
        The indices in each row. The same lengths give the same rows.
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    rows: list[list[int]] = []
    room: list[int] = []
    for i in longest_first:
        row = next((row for row, left in enumerate(room) if left >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(i)
        room[row] -= lengths[i]
    for count in (len(rows), len(rows) + 1):
        even = _spread(longest_first, lengths, min(count, len(lengths)))
        if all(len(row) == 1 or sum(lengths[i] for i in row) <= capacity for row in even):
            return even
    return rows


def _spread(longest_first: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """Each sequence into the row that is emptiest when its turn comes."""
    rows: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, row) for row in range(count)]
    for i in longest_first:
        load, row = loads[0]
        rows[row].append(i)
        heapq.heapreplace(loads, (load + lengths[i], row))
    return rows


def lay_out(
    sequences: Sequence[TokenSequence],
    weights: Sequence[float],
    *,
    normalizer: float,
    step_labels: int,
    step_tokens: int,
) -> PackedBatch:
    """Lays sequences end to end in one row.

    Args:
        sequences: what the row holds, none of them empty.
        weights: the weight of each.
        normalizer: see `PackedBatch`.
        step_labels: see `PackedBatch`.
        step_tokens: see `PackedBatch`.
    """
    lengths = [len(sequence) for sequence in sequences]
    bounds = list(accumulate(lengths, initial=0))
    ids = torch.tensor([token for sequence in sequences for token in sequence.ids])
    mask = torch.tensor([written for sequence in sequences for written in sequence.mask], dtype=torch.bool)
    mask[bounds[:-1]] = False
    lengths_S = torch.tensor(lengths)
    weights_L = torch.tensor(weights, dtype=torch.float32).repeat_interleave(lengths_S)
    starts_L = torch.tensor(bounds[:-1]).repeat_interleave(lengths_S)
    return PackedBatch(
        input_ids=ids[None],
        position_ids=(torch.arange(len(ids)) - starts_L)[None],
        labels=ids.masked_fill(~mask, IGNORED)[None],
        targets=mask.nonzero()[:, 0],
        weights=weights_L[mask],
        boundaries=torch.tensor(bounds, dtype=torch.int32),
        segments=tuple(pairwise(bounds)),
        normalizer=normalizer,
        step_labels=step_labels,
        step_tokens=step_tokens,
    )


def register_packed_attention() -> None:
    """Makes ``"packed"`` known to transformers as an attention implementation.

    A model that uses it is called with ``segments``, ``boundaries`` and ``longest`` of a `PackedBatch`,
    ``use_cache=False`` and no attention mask. No mask function is registered with it: transformers then builds no mask
    at all.
    """
    AttentionInterface.register(PACKED, packed_attention)


_PACKABLE = {"full_attention", "sliding_attention"}
"""The kinds of layers in which packed segments cannot see each other."""


def attend_in_segments(model: PreTrainedModel) -> None:
    """Makes a model use packed attention.

    Raises:
        ModelError: it has layers of another kind, or brings its own attention.
    """
    register_packed_attention()
    kinds = set(getattr(model.config, "layer_types", None) or [])
    if kinds <= _PACKABLE:
        model.set_attn_implementation(PACKED)
    if model.config._attn_implementation != PACKED:
        raise ModelError(f"{type(model).__name__} cannot be trained on packed rows: choose a plain attention decoder")


def packed_logits(model: torch.nn.Module, batch: PackedBatch) -> Tensor:
    """What a model with packed attention predicts for the labelled tokens of a row, shape (N, V)."""
    logits_1NV: Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        logits_to_keep=batch.targets - 1,
        segments=batch.segments,
        boundaries=batch.boundaries,
    ).logits
    return logits_1NV[0]


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each segment of a row; transformers calls it for every layer.

    On CUDA in half precision all segments go through one call of torch's variable-length flash attention, elsewhere
    each through its own.

    Args:
        module: the attention layer.
        query: shape (1, H, L, D).
        key: shape (1, K, L, D) with K dividing H.
        value: as `key`.
        attention_mask: must be None.
        scaling: of the scores; ``1 / sqrt(D)`` if None.
        **options: ``segments`` of the `PackedBatch`; on CUDA in half precision ``boundaries``, and ``longest`` may
            stand for the segments (a compiled layer would be compiled again for every other tuple of them);
            ``dropout``, and what else the model passes.

    Returns:
        Shape (1, L, H, D), and None for the attention weights.

    Raises:
        ModelError: the model's attention has something that this one would silently leave out.
    """
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        raise ModelError(
            f"{type(module).__name__} caps its attention scores or has attention sinks, which packed rows "
            "do not support: choose another model"
        )
    segments: tuple[tuple[int, int], ...] | None = options.get("segments")
    longest: int | None = options.get("longest")
    if attention_mask is not None or query.shape[0] != 1:
        raise ValueError("packed attention takes one row, and no attention mask")
    if segments is None and longest is None:
        raise ModelError(
            f"{type(module).__name__} does not hand the segments of packed rows on to its attention: "
            "choose a plain attention decoder"
        )
    device = query.device.type
    if torch.is_autocast_enabled(device):
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    dropout: float = options.get("dropout") or 0.0
    window: int | None = options.get("sliding_window")
    if device == "cuda" and query.element_size() == 2 and not dropout:
        longest = longest or max(end - start for start, end in segments or ())
        return _varlen(query, key, value, options["boundaries"], longest, scaling, window), None
    if segments is None:
        raise ValueError("packed attention takes the segments of its row")
    lengths = [end - start for start, end in segments]
    # one split is one operation in the backward pass; slices would each fill a row of zeros there
    parts = zip(*(torch.split(x, lengths, 2) for x in (query, key, value)), strict=True)
    outs = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_band(q.shape[2], window, q.device),
            is_causal=window is None or q.shape[2] <= window,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=True,
        ).transpose(1, 2)
        for q, k, v in parts
    ]
    return torch.cat(outs, 1), None


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """The mask of causal attention over the last `window` tokens; None where being causal says it all."""
    if window is None or length <= window:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril().triu(1 - window)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    boundaries: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # not every torch that we allow shares key heads in this call, so they are repeated
    shared = query.shape[1] // key.shape[1]
    out = varlen_attn(
        query[0].transpose(0, 1),
        key[0].repeat_interleave(shared, 0).transpose(0, 1),
        value[0].repeat_interleave(shared, 0).transpose(0, 1),
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
    )
    assert isinstance(out, Tensor)
    return out[None]
