"""Tries a small model of the same kind before a run begins: can it learn from packed rows, and can the engine play it?

Which models can is proved, not listed. A model with few, narrow layers and random weights computes two conversations
alone, as transformers does; the packed row and the engine have to agree with that. Where no small model of its kind
can be made, or even that does not compute, only the kinds of its layers are looked at, and the real model's first
forward pass decides.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from agentgym.data.packing import attend_in_segments, lay_out, packed_logits
from agentgym.data.transcript import TokenSequence
from agentgym.errors import ModelError
from agentgym.generation.engine import Engine, Request, check_layers
from agentgym.generation.sampling import Sampling
from agentgym.generation.slots import Slot
from agentgym.hub import locate
from agentgym.models import empty_model

_SIZES = {
    "vocab_size": 128,
    "vocab_size_per_layer_input": 128,
    "hidden_size": 64,
    "hidden_size_per_layer_input": 16,
    "n_embd": 64,
    "d_model": 64,
    "intermediate_size": 48,
    "ffn_hidden_size": 48,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "rotary_dim": 16,
    "max_position_embeddings": 128,
    "n_positions": 128,
}
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers")
_MOST = 30_000_000
"""Parameters of the largest model that is tried."""

_TEXTS = ([5, 9, 17, 3, 22, 40, 8, 11, 60], [7, 31, 2, 54, 19, 77])
_CLOSE = 2e-3
"""How far two ways to compute the same logits, which are about 1, may be apart."""


def check_trainable(name: str) -> None:
    """Makes sure that a model's kind can learn from packed rows.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: it cannot.
    """
    model = small_model(AutoConfig.from_pretrained(locate(name), trust_remote_code=False))
    if model is None:
        attend_in_segments(empty_model(name))
    else:
        try_training(model)


def check_playable(name: str) -> None:
    """Makes sure that the generation engine can play a model's kind.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: it cannot.
    """
    model = small_model(AutoConfig.from_pretrained(locate(name), trust_remote_code=False))
    if model is None:
        check_layers(empty_model(name))
    else:
        try_playing(model)


def small_model(config: PretrainedConfig) -> PreTrainedModel | None:
    """A model of a kind with random weights that takes moments; None if there is no such model that computes."""
    with _quiet():
        for narrow in (True, False):
            try:
                small = _shrunk(config, narrow)
                with torch.device("meta"):
                    size = sum(p.numel() for p in _build(small).parameters())
                if size > _MOST:
                    continue
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(0)
                    model = _build(small)
                torch.nn.Module.eval(model)
                _alone(model, _TEXTS)
            except Exception:  # sizes that do not fit together fail in the code of any model, in any way
                continue
            return model
    return None


def try_training(model: PreTrainedModel) -> None:
    """Compares a packed row of two conversations with the two alone.

    Raises:
        ModelError: they differ, or there is no finite gradient.
    """
    kind = type(model).__name__
    cure = "choose a plain attention decoder"
    expected = torch.cat([logits[:-1] for logits in _alone(model, _TEXTS)])
    sequences = [TokenSequence(tuple(ids), (True,) * len(ids)) for ids in _TEXTS]
    with _quiet(), _explained(f"{kind} cannot be trained on packed rows", cure):
        batch = lay_out(sequences, [1.0] * len(sequences), normalizer=1.0, step_labels=1, step_tokens=1)
        attend_in_segments(model)
        logits_NV = packed_logits(model, batch)
        labels_N = batch.labels[0, batch.targets]
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits_NV, labels_N))
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if logits_NV.shape != expected.shape or not torch.allclose(logits_NV, expected, atol=_CLOSE, rtol=_CLOSE):
            raise ModelError(f"{kind} cannot be trained on packed rows, in which conversations would mix: {cure}")
        if not gradients or not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise ModelError(f"{kind} cannot be trained on packed rows: its gradient is not finite; {cure}")


def try_playing(model: PreTrainedModel) -> None:
    """Lets the engine answer two conversations over two turns, and compares it with the model alone.

    Raises:
        ModelError: it cannot, or computes something else.
    """
    kind = type(model).__name__
    cure = "choose another model, or play it behind a server (model.endpoint)"
    with _quiet(), _explained(f"the generation engine cannot play {kind}", cure):
        engine = Engine(model, stop_ids=(), sampling=Sampling(temperature=0.0), max_tokens=3, context=64, batch=2)
        conversations, slots = [list(ids) for ids in _TEXTS], [Slot() for _ in _TEXTS]
        for _ in range(2):
            asked = [Request(slot, list(ids)) for slot, ids in zip(slots, conversations, strict=True)]
            engine.submit(asked)
            while engine.busy:
                engine.advance(8)
            for ids, request in zip(conversations, asked, strict=True):
                logprobs = _alone(model, [[*ids, *request.tokens]])[0].log_softmax(-1)
                there = logprobs[len(ids) - 1 : -1].gather(1, torch.tensor(request.tokens)[:, None])[:, 0]
                if not torch.allclose(there, torch.tensor(request.logprobs), atol=_CLOSE, rtol=_CLOSE):
                    raise ModelError(f"the generation engine computes {kind} otherwise than transformers: {cure}")
                ids += [*request.tokens, 13, 21]


def _alone(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The logits of each conversation by itself, as transformers computes them, shape (T, V)."""
    with torch.no_grad():
        return [model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float() for ids in texts]


def _build(config: PretrainedConfig) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)  # type: ignore[no-untyped-call]
    assert isinstance(model, PreTrainedModel)
    return model


def _shrunk(config: PretrainedConfig, narrow: bool) -> PretrainedConfig:
    """The same kind with few layers, one of each type at least, and (`narrow`) narrow ones."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    for depth in (name for name in _DEPTHS if isinstance(getattr(text, name, None), int)):
        layers: int = getattr(text, depth)
        types = getattr(text, "layer_types", None) or []
        count = min(layers, max(2, *(types.index(one) + 1 for one in set(types))) if types else 2)
        for name, value in list(vars(text).items()):
            if isinstance(value, list) and len(value) == layers:
                setattr(text, name, value[:count])
        setattr(text, depth, count)
    sizes: dict[str, Any] = dict(_SIZES) if narrow else {"vocab_size": 128}
    there = dict(vars(text))  # not getattr: it raises for what differs from layer to layer
    if there.get("num_attention_heads") == there.get("num_key_value_heads") is not None:
        sizes["num_key_value_heads"] = sizes.get("num_attention_heads", there["num_attention_heads"])
    if "qk_rope_head_dim" in there:  # there it is what else the attention has of that width
        sizes.pop("head_dim", None)
    for name, value in sizes.items():
        if type(there.get(name)) is int and there[name] > value:
            setattr(text, name, value)
    for name, value in list(vars(text).items()):
        if "dropout" in name or name.endswith("_pdrop"):
            setattr(text, name, 0.0 if isinstance(value, float) else value)
        elif name.endswith("_token_id") and isinstance(value, int) and value >= text.vocab_size:
            setattr(text, name, 0)
    return small


@contextlib.contextmanager
def _explained(what: str, cure: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the code of any model may fail in any way where it is used otherwise
        why = " ".join(str(error).split())[:150] or type(error).__name__
        raise ModelError(f"{what} ({why}): {cure}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what libraries say about odd sizes to themselves."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(40)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
