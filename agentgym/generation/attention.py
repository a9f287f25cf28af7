"""The attention that reads a `SlotCache`, and how a model of transformers is made to use it.

Tensor names: B rows of a forward pass, T new tokens per row, L keys per row, H query heads, G key-value heads, D head
width, X query heads that share a key-value head times tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from agentgym.errors import ModelError

ATTENTION = "agentgym_slots"
"""The name under which transformers knows the attention of this file."""


class Window:
    """Which part of the cache one forward pass writes and reads.

    Args:
        rows_B: the rows it works on; a number stands for the first so many rows, which are read without a copy.
        start_B: how many tokens each row holds before the pass.
        width: T, new tokens per row. Rows with fewer are padded on the right; what padding writes is overwritten
            by the next real token or lies beyond what anything reads.
        fresh: whether all rows were empty before.
        longest: L, the number of tokens that the longest row holds after the pass.
        read: read the first so many rows without a copy, whichever rows are written.
    """

    def __init__(
        self,
        rows_B: Tensor | int,
        start_B: Tensor,
        width: int,
        *,
        fresh: bool,
        longest: int,
        read: int | None = None,
    ) -> None:
        steps_T = torch.arange(width, device=start_B.device)
        self.positions_BT = start_B[:, None] + steps_T
        self.fresh = fresh
        self.longest = longest
        self._rows_B = torch.arange(rows_B, device=start_B.device) if isinstance(rows_B, int) else rows_B
        first = rows_B if isinstance(rows_B, int) else read
        self._read: slice | Tensor = self._rows_B if first is None else slice(first)
        self._masks: dict[int | None, Tensor] = {}

    def write(self, store_RGCD: Tensor, new_BGTD: Tensor) -> Tensor:
        """Stores new keys (or values) and returns all that the rows hold, shape (B, G, L, D)."""
        store_RGCD[self._rows_B[:, None], :, self.positions_BT] = new_BGTD.transpose(1, 2)
        return new_BGTD if self.fresh else store_RGCD[self._read, :, : self.longest]

    def mask(self, sliding: int | None, group: int, dtype: torch.dtype) -> Tensor:
        """What to add to the attention scores: 0 where a token may look, -inf elsewhere.

        Args:
            sliding: how many of the latest tokens, itself included, a token may look at; None for all.
            group: how many query heads share a key-value head.
            dtype: of the scores.

        Returns:
            Shape (B, 1, group * T, L), or (B, 1, 1, L) if T is 1.
        """
        if sliding not in self._masks:
            keys_L = torch.arange(self.longest, device=self.positions_BT.device)
            hidden_BTL = keys_L > self.positions_BT[:, :, None]
            if sliding is not None:
                hidden_BTL |= keys_L <= self.positions_BT[:, :, None] - sliding
            mask_BTL = torch.zeros(hidden_BTL.shape, dtype=dtype, device=keys_L.device)
            mask_BTL.masked_fill_(hidden_BTL, float("-inf"))
            self._masks[sliding] = (mask_BTL if mask_BTL.shape[1] == 1 else mask_BTL.repeat(1, group, 1))[:, None]
        return self._masks[sliding]


def slot_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    window: Window | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over a `Window`, registered with transformers, which calls it in every attention layer.

    Query heads that share a key-value head are laid side by side as if they were further tokens, so that keys and
    values are read once and never repeated.

    Args:
        module: the attention layer.
        query: shape (B, H, T, D).
        key: shape (B, G, L, D), as `SlotCache.update` returned it.
        value: as `key`.
        attention_mask: ignored; the window knows better.
        scaling: what the scores are multiplied with.
        dropout: ignored; nothing is trained here.
        sliding_window: how many of the latest tokens a token may look at.
        softcap: scores are squashed to +-softcap by a tanh (Gemma 2).
        window: the part of the cache in use.
        kwargs: what else a model hands to its attention.

    Returns:
        The attention output, shape (B, T, H, D), and None for the weights.

    Raises:
        ModelError: the model adds learned sinks or biases to its scores.
    """
    if window is None or kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise ModelError(
            f"{type(module).__name__} needs an attention that the generation engine does not have: choose another model"
        )
    B, H, T, D = query.shape
    G = key.shape[1]
    causal = window.fresh and softcap is None and (sliding_window is None or sliding_window >= T)
    if causal:
        output_BHTD = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=H != G
        )
        return output_BHTD.transpose(1, 2).contiguous(), None
    queries_BGXD = query.reshape(B, G, H // G * T, D)
    mask_B1XL = window.mask(sliding_window, H // G, query.dtype)
    if softcap is None and (T > 1 or query.device.type != "cpu"):
        key = key if key.stride(3) == 1 else key.contiguous()
        output_BGXD = F.scaled_dot_product_attention(queries_BGXD, key, value, mask_B1XL, scale=scaling)
    else:
        # for one token on a CPU two plain products over keys that lie transposed (see `SlotCache`) are the quickest
        scores_BGXL = torch.matmul(queries_BGXD * (D**-0.5 if scaling is None else scaling), key.mT)
        if softcap is not None:
            scores_BGXL = (scores_BGXL / softcap).tanh_() * softcap
        scores_BGXL += mask_B1XL
        output_BGXD = torch.matmul(scores_BGXL.softmax(-1, dtype=torch.float32).to(value.dtype), value)
    # some models (AFMoE) view it, and most others would copy it
    return output_BGXD.reshape(B, H, T, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, slot_attention)


@contextmanager
def attending_to_slots(model: PreTrainedModel) -> Iterator[None]:
    """Lends the model the attention of this file and inference mode; afterwards it is as it was."""
    attention = model.config._attn_implementation
    training = [module for module in model.modules() if module.training]
    model.config._attn_implementation = ATTENTION
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        model.config._attn_implementation = attention
        for module in training:
            module.training = True
