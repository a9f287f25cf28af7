"""Keys and values of many conversations side by side, one row each.

Tensor names: B rows of a forward pass, T new tokens per row, L keys per row, G key-value heads, D head width, R rows
of the cache, C its capacity in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from agentgym.generation.attention import Window

_GRAIN = 64  # the capacity is a multiple of this: growing copies everything, so it is not done for every token


@dataclass(eq=False, slots=True)
class Slot:
    """What is kept of one conversation.

    Attributes:
        row: its row of the cache; None if it has none (yet, or not any more).
        cached: how many tokens of the conversation the row holds.
        used: when it was last answered; the smallest is the first to be evicted.
    """

    row: int | None = None
    cached: int = 0
    used: int = 0


class SlotCache(Cache):
    """Keys and values of many conversations, one row each.

    Layers are allocated when the model first writes to them, with the shapes that the model writes: nothing needs to
    be known of the architecture. On a CPU the keys of a row lie transposed, (D, C), because the product with a single
    query is quicker that way. `window` has to be set before every forward pass.

    Args:
        slots: most conversations it keeps.
        context: most tokens of one conversation.
        spare: keep one more row, behind those of the conversations, that belongs to nobody.

    Attributes:
        version: changes whenever keys and values get other memory.
    """

    window: Window
    version: int

    def __init__(self, slots: int, context: int, *, spare: bool = False) -> None:
        super().__init__(layers=[])
        self._context = context
        self.version = 0
        self._spare = spare
        self._slots = slots
        self._owners: list[Slot | None] = []  # by row
        self._capacity = 0
        self._clock = 0
        self._stores: dict[int, list[Tensor]] = {}  # keys and values by layer, each (R, G, C, D)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by every attention layer: stores what is new and returns what the rows of the window hold.

        Args:
            key_states: shape (B, G, T, D).
            value_states: shape (B, G, T, D).
            layer_idx: the layer.
            args: what else transformers may hand over.
            kwargs: likewise.

        Returns:
            Keys and values, shape (B, G, L, D) each.
        """
        if layer_idx not in self._stores:
            transposed = key_states.device.type == "cpu"
            self._stores[layer_idx] = [self._allocate(key_states, transposed), self._allocate(value_states, False)]
        keys_RGCD, values_RGCD = self._stores[layer_idx]
        return self.window.write(keys_RGCD, key_states), self.window.write(values_RGCD, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Part of the protocol of transformers; positions are always given explicitly."""
        return 0

    @property
    def rows(self) -> int:
        """How many rows there are for conversations."""
        return len(self._owners)

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self._capacity

    def seat(self, slots: Sequence[Slot], first: int) -> None:
        """Gives conversations the rows from `first` on; the rows before it are in use and stay.

        If there are no more rows, the conversations that were idle for longest lose theirs.
        """
        self._clock += 1
        for slot in slots:
            slot.used = self._clock
        self._house([slot for slot in slots if slot.row is None], {*self._owners[:first], *slots})
        wanted = range(first, first + len(slots))
        seated = set(slots)
        strangers = [row for row in wanted if self._owners[row] not in seated]
        for slot in slots:
            assert slot.row is not None
            if slot.row not in wanted:
                self.swap(slot.row, strangers.pop())

    def _house(self, homeless: Sequence[Slot], busy: set[Slot | None]) -> None:
        """Gives each of the `homeless` some row."""
        missing = len(homeless) - self._owners.count(None)
        if missing > 0:
            more = min(max(missing, len(self._owners) // 2), self._slots - len(self._owners))
            self._owners += [None] * more
            self._resize()
            idle = sorted((slot for slot in self._owners if slot and slot not in busy), key=lambda slot: slot.used)
            for slot in idle[: max(0, missing - more)]:
                self.evict(slot)
        empty = (row for row, owner in enumerate(self._owners) if owner is None)
        for slot, row in zip(homeless, list(empty), strict=False):
            slot.row, self._owners[row] = row, slot

    def evict(self, slot: Slot) -> None:
        """Forgets a conversation."""
        if slot.row is not None:
            self._owners[slot.row] = None
        slot.row, slot.cached = None, 0

    def clear(self) -> None:
        """Forgets all conversations."""
        for slot in list(filter(None, self._owners)):
            self.evict(slot)

    @torch.inference_mode()
    def swap(self, first: int, second: int) -> None:
        """Exchanges two rows."""
        owners = self._owners
        length = max(slot.cached if slot else 0 for slot in (owners[first], owners[second]))
        for store_RGCD in (store for stores in self._stores.values() for store in stores):
            one_GLD, other_GLD = store_RGCD[first, :, :length], store_RGCD[second, :, :length]
            kept_GLD = one_GLD.clone()
            one_GLD.copy_(other_GLD)
            other_GLD.copy_(kept_GLD)
        owners[first], owners[second] = owners[second], owners[first]
        for row in (first, second):
            owner = owners[row]
            if owner:
                owner.row = row

    def reserve(self, capacity: int) -> None:
        """Makes room for conversations of `capacity` tokens, which fit in the context; what is stored stays."""
        if capacity > self._capacity:
            grown = -(-max(capacity, self._capacity * 3 // 2) // _GRAIN) * _GRAIN
            self._capacity = max(capacity, min(grown, self._context))
            self._resize()

    @property
    def whole(self) -> bool:
        """Whether there is room for all conversations at their longest, so that nothing gets other memory any more."""
        return bool(self._stores) and len(self._owners) == self._slots and self._capacity >= self._context

    @property
    def bytes_at_most(self) -> int:
        """How much memory keys and values take once the cache is `whole`; 0 before the model first wrote to it."""
        stores = [store for stores in self._stores.values() for store in stores]
        rows = self._slots + self._spare
        return sum(rows * store.shape[1] * self._context * store.shape[3] * store.element_size() for store in stores)

    def complete(self) -> None:
        """Makes room for all conversations at their longest."""
        self._owners += [None] * (self._slots - len(self._owners))
        self._capacity = self._context
        self._resize()

    def _resize(self) -> None:
        self.version += 1
        for stores in self._stores.values():
            for i, old_RGCD in enumerate(stores):
                stores[i] = self._allocate(old_RGCD, old_RGCD.stride(2) == 1)
                stores[i][: old_RGCD.shape[0], :, : old_RGCD.shape[2]] = old_RGCD

    def _allocate(self, like: Tensor, transposed: bool) -> Tensor:
        # zeros and not empty: a masked key has weight 0, but 0 times an accidental NaN is NaN
        rows, G, D = len(self._owners) + self._spare, like.shape[1], like.shape[3]
        if transposed:
            return like.new_zeros(rows, G, D, self._capacity).mT
        return like.new_zeros(rows, G, self._capacity, D)
