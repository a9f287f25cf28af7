"""The models that the benchmarks build: shapes that are in use, with random weights."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

CONTEXT = 32768


def _llama(vocabulary: int, hidden: int, layers: int, intermediate: int) -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


def _qwen(hidden: int, layers: int, intermediate: int, heads: int) -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


SIZES = {
    "small": _llama(1024, 64, 3, 192),
    "7m": _llama(8192, 256, 6, 768),
    "0.5b": _qwen(896, 24, 4864, 14),  # Qwen2.5-0.5B
    "1.5b": _qwen(1536, 28, 8960, 12),  # Qwen2.5-1.5B
}
"""Configurations by name; the two larger ones are those of Qwen2.5."""


def build(size: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Builds a model with random weights, the same for the same size."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SIZES[size], dtype=dtype)
    assert isinstance(model, PreTrainedModel)
    return model
