"""Answers many conversations in one batch and keeps their keys and values from turn to turn."""

from __future__ import annotations

import inspect
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from agentgym.errors import ModelError
from agentgym.generation.attention import Window, attending_to_slots
from agentgym.generation.graphs import StepGraphs, current, free_bytes
from agentgym.generation.sampling import Sampling, choose
from agentgym.generation.slots import Slot, SlotCache


@dataclass(eq=False, slots=True)
class Request:
    """A conversation that waits for an answer, and the answer as far as it goes.

    Attributes:
        slot: the conversation's slot, the same in all its turns.
        ids: the whole conversation so far; what came before must not have changed since the last turn.
        uniform: one random number from 0 to 1 (exclusive) per token of the answer; empty if greedy.
        limit: most tokens of the answer, where that is less than the engine allows.
        tokens: the answer, stop token included.
        logprobs: the log-probability of each of `tokens` (see `choose`).
    """

    slot: Slot
    ids: Sequence[int]
    uniform: Sequence[float] = ()
    limit: int | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Engine:
    """Answers many conversations in one batch.

    A conversation's row of the cache stays when its turn is over; its next turn computes only what is new. The rows
    that are being answered are always the first ones of the cache, so that a step reads keys and values in place.
    Everything depends only on the order of the calls: the same calls give the same floats.

    Not thread-safe; all calls but the constructor may come from a worker thread, one at a time.

    Args:
        model: any decoder of transformers whose attention layers are all (sliding or full) softmax attention. It
            may be used otherwise between the calls. On a CPU it is made float32, which is fastest there.
        stop_ids: tokens that end an answer.
        sampling: how tokens are drawn.
        max_tokens: most tokens of one answer.
        context: most tokens of one conversation, answer included.
        batch: most conversations that are answered at once.
        slots: most conversations whose keys and values are kept; `batch` if None. The one that was idle for longest
            goes first, and is computed again from its tokens if it comes back.
        vocabulary: only token ids below this are drawn (output layers are often padded); all if None.
        prefill_tokens: about how many tokens go through the model at once before an answer begins.
        graphs: make steps by replaying CUDA graphs (see `StepGraphs`). The memory of all keys and values is then taken
            at once. Where it is not free, a graph cannot be recorded, or does not compute what was recorded, a line
            says so, and steps are made one by one as without.
        tell: gets that line.

    Raises:
        ModelError: the model's layers are of another kind.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_ids: Iterable[int],
        sampling: Sampling,
        max_tokens: int,
        context: int,
        batch: int = 64,
        slots: int | None = None,
        vocabulary: int | None = None,
        prefill_tokens: int = 4096,
        graphs: bool = False,
        tell: Callable[[str], object] = warnings.warn,
    ) -> None:
        check_layers(model)
        if model.device.type == "cpu":
            nn.Module.float(model)
        self._model = model
        self._stop_ids = frozenset(stop_ids)
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._context = context
        self._batch = batch
        self._vocabulary = vocabulary
        self._prefill_tokens = prefill_tokens
        # padding costs time on a CPU; a GPU computes short rows in the time that it takes to start a forward pass
        self._slack = 8 if model.device.type == "cpu" else 256
        self._cache = SlotCache(max(batch, slots or 0), context, spare=graphs)
        # transformers renamed it after 5.17
        self._cache_name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        self._graphs = StepGraphs(self._cache, self._whole, model.device) if graphs else None
        self._tell = tell
        self._pending: deque[Request] = deque()
        self._active: list[Request] = []  # by row: the active rows are the first ones

    @property
    def busy(self) -> bool:
        """Whether anything is left to answer."""
        return bool(self._pending or self._active)

    def submit(self, requests: Iterable[Request]) -> None:
        """Queues conversations; they are answered in this order as the batch has room.

        Raises:
            ValueError: a conversation leaves no room for an answer in the context, has nothing new, or its limit is
                no positive number.
        """
        for request in requests:
            most = self._most(request)
            if most < 1:
                raise ValueError(f"an answer of at most {most} tokens is none")
            if len(request.ids) + most > self._context:
                raise ValueError(
                    f"{len(request.ids)} tokens and an answer of up to {most} do not fit in {self._context}"
                )
            if len(request.ids) <= request.slot.cached:
                raise ValueError("the conversation has no new token")
            self._pending.append(request)

    def advance(self, steps: int) -> list[Request]:
        """Takes queued conversations in and makes at most `steps` tokens for each; returns those now answered."""
        finished: list[Request] = []
        with current(self._model.device), attending_to_slots(self._model):
            self._admit()
            for _ in range(steps):
                if not self._active:
                    break
                finished += self._step()
        return finished

    def free(self, slots: Iterable[Slot]) -> None:
        """Forgets conversations, answered or not."""
        for slot in slots:
            self._pending = deque(request for request in self._pending if request.slot is not slot)
            for request in [request for request in self._active if request.slot is slot]:
                self._retire(request)
            self._cache.evict(slot)

    def reset(self) -> None:
        """Drops everything: queued and half-made answers, and all keys and values.

        Has to be called whenever the model's weights were changed behind the engine's back.
        """
        self._pending.clear()
        self._active.clear()
        self._cache.clear()

    def update_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Loads other weights into the model and drops all keys and values.

        Args:
            weights: by the names of the model's state dict; what is left out stays.

        Raises:
            RuntimeError: answers are under way (two models would have made them), or the weights do not fit.
        """
        if self.busy:
            raise RuntimeError("the weights cannot change while answers are under way")
        self.reset()
        self._model.load_state_dict({**self._model.state_dict(), **weights})

    def _admit(self) -> None:
        """Moves queued conversations into the batch and computes all their new tokens but the last."""
        joining = [self._pending.popleft() for _ in range(min(len(self._pending), self._batch - len(self._active)))]
        if not joining:
            return
        self._cache.seat([request.slot for request in joining], len(self._active))
        self._active += sorted(joining, key=lambda request: request.slot.row or 0)
        self._prefill(joining)

    def _prefill(self, joining: Sequence[Request]) -> None:
        def key(request: Request) -> tuple[bool, int]:
            return request.slot.cached > 0, len(request.ids) - 1 - request.slot.cached

        group: list[Request] = []
        shortest = 0
        for request in sorted(joining, key=key):
            continued, count = key(request)
            if count == 0:
                continue
            # this one is the widest: the others are padded to it, and the padding has to fit in the context too
            end = max(one.slot.cached for one in (*group, request)) + count
            even = count <= 1.25 * shortest + self._slack and end <= self._context
            fits = even and count * (len(group) + 1) <= self._prefill_tokens
            if group and not (fits and continued == (group[0].slot.cached > 0)):
                self._extend(group)
                group = []
            shortest = shortest if group else count
            group.append(request)
        if group:
            self._extend(group)

    def _extend(self, group: Sequence[Request]) -> None:
        """Computes the new tokens, but the last, of conversations with about as many new tokens."""
        new = [request.ids[request.slot.cached : -1] for request in group]
        width = max(map(len, new))
        device = self._model.device
        ids_BT = torch.tensor([[*ids, *([0] * (width - len(ids)))] for ids in new], device=device)
        starts = [request.slot.cached for request in group]
        rows_B = torch.tensor([request.slot.row for request in group], device=device)
        self._cache.reserve(max(starts) + width)
        starts_B, longest = torch.tensor(starts, device=device), max(starts) + width
        window = Window(rows_B, starts_B, width, fresh=not any(starts), longest=longest)
        self._forward(self._model.base_model, ids_BT, window)
        for request in group:
            request.slot.cached = len(request.ids) - 1

    def _step(self) -> list[Request]:
        """Makes one token for every active conversation; returns those that are answered by it."""
        active, device = self._active, self._model.device
        starts = [request.slot.cached for request in active]
        if self._graphs is not None and not self._cache.whole:
            self._take_memory()
        self._cache.reserve(max(starts) + 1)
        latest = [request.tokens[-1] if request.tokens else request.ids[-1] for request in active]
        logits_BV = self._logits(latest, starts)[:, : self._vocabulary].float()
        uniform_B = None
        if not self._sampling.greedy:
            drawn = [request.uniform[len(request.tokens)] for request in active]
            uniform_B = torch.tensor(drawn, dtype=torch.float64, device=device)
        tokens_B, logprobs_B = choose(logits_BV, uniform_B, self._sampling)
        finished = []
        for request, token, logprob in zip(active, tokens_B.tolist(), logprobs_B.tolist(), strict=True):
            request.slot.cached += 1
            request.tokens.append(token)
            request.logprobs.append(logprob)
            if token in self._stop_ids or len(request.tokens) == self._most(request):
                finished.append(request)
        for request in reversed(finished):  # from the last row on: rows behind it need not be moved
            self._retire(request)
        return finished

    def _logits(self, tokens: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Computes the latest token of each active conversation; returns logits, shape (B, V)."""
        if self._graphs is not None and self._cache.whole:
            try:
                return self._graphs.logits(tokens, starts)
            except RuntimeError as error:
                self._leave_graphs(str(error))
        device = self._model.device
        ids_B1 = torch.tensor(tokens, device=device)[:, None]
        window = Window(len(tokens), torch.tensor(starts, device=device), 1, fresh=False, longest=max(starts) + 1)
        logits_BV: Tensor = self._whole(ids_B1, window).logits[:, -1]
        return logits_BV

    def _take_memory(self) -> None:
        """Takes the memory of all keys and values at once: graphs work on the memory they were recorded with."""
        needed, free = self._cache.bytes_at_most, free_bytes(self._model.device)
        if needed <= free:
            if needed:
                self._cache.complete()
            return
        wanted, left = f"{needed / 2**30:.1f} GiB", f"{free / 2**30:.1f}"
        cure = "lower pool.sessions or model.context"
        self._leave_graphs(f"keys and values of all sessions take {wanted} at their longest, {left} are free; {cure}")

    def _leave_graphs(self, reason: str) -> None:
        self._tell(f"no CUDA graph of {type(self._model).__name__}, going on without: {' '.join(reason.split())}")
        self._graphs = None

    def _whole(self, ids_BT: Tensor, window: Window) -> Any:
        return self._forward(self._model, ids_BT, window)

    def _most(self, request: Request) -> int:
        """Most tokens of an answer."""
        return self._max_tokens if request.limit is None else min(request.limit, self._max_tokens)

    def _retire(self, request: Request) -> None:
        """Takes a conversation out of the batch; the last active row fills its place."""
        row, last = request.slot.row, len(self._active) - 1
        assert row is not None
        if row != last:
            self._cache.swap(row, last)
            self._active[row] = self._active[last]
        self._active.pop()

    def _forward(self, module: nn.Module, ids_BT: Tensor, window: Window) -> Any:
        self._cache.window = window
        return module(
            input_ids=ids_BT,
            position_ids=window.positions_BT,
            attention_mask=None,
            use_cache=True,
            window=window,
            **{self._cache_name: self._cache},
        )


def check_layers(model: PreTrainedModel) -> None:
    """Makes sure that a model's layers are of a kind that the engine knows.

    Raises:
        ModelError: they are not.
    """
    config = model.config.get_text_config()
    strange = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if strange or not model._supports_attention_backend:
        what = f"has layers of type {', '.join(sorted(strange))}" if strange else "brings its own attention"
        raise ModelError(f"{type(model).__name__} {what}: choose a model whose layers are all softmax attention")
