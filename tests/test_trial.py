"""A small model of the same kind is tried before a run begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AfmoeConfig,
    AutoConfig,
    AutoModelForCausalLM,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    NemotronConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
    StableLmConfig,
)

from agentgym import trial
from agentgym.errors import ModelError
from agentgym.models import build_tiny
from agentgym.settings import TinySettings
from agentgym.trial import check_playable, check_trainable, small_model, try_playing, try_training

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("config", "learns", "plays"),
    [
        (LlamaConfig(), "", ""),
        (Qwen3MoeConfig(), "", ""),
        (Gemma3TextConfig(), "", ""),
        (DeepseekV3Config(), "", ""),
        (GPT2Config(), "", ""),
        (AfmoeConfig(num_key_value_heads=4), "", ""),
        (StableLmConfig(), "StableLmAttention does not hand the segments", "brings its own attention"),
        (NemotronConfig(num_key_value_heads=8, head_dim=128), "Nemotron", "an attention that the generation engine"),
        (Gemma2Config(), "caps its attention scores", ""),
        (GptOssConfig(), "attention sinks", "an attention that the generation engine does not have"),
        (FalconConfig(), "cannot be trained on packed rows", "brings its own attention"),
        (MambaConfig(), "cannot be trained on packed rows", "layers of type"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PretrainedConfig) else "",
)
def test_a_kind_of_model_learns_and_plays_or_is_one_line(config: PretrainedConfig, learns: str, plays: str) -> None:
    model = small_model(config)
    assert model is not None
    assert sum(p.numel() for p in model.parameters()) < trial._MOST
    for use, message in ((try_playing, plays), (try_training, learns)):
        if not message:
            use(model)
            continue
        with pytest.raises(ModelError, match=message) as caught:
            use(model)
        assert "\n" not in str(caught.value)
        assert "choose" in str(caught.value)


def test_a_model_in_which_conversations_mix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(LlamaConfig())
    assert model is not None
    real = trial.packed_logits
    monkeypatch.setattr(trial, "packed_logits", lambda model, batch: real(model, batch) + 0.01)
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot be trained on packed rows, in which conversations"):
        try_training(model)


def test_a_model_whose_gradient_is_not_finite_is_refused() -> None:
    model = small_model(LlamaConfig())
    assert model is not None
    weight = model.get_input_embeddings().weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(ModelError, match="its gradient is not finite"):
        try_training(model)


def test_a_model_that_the_engine_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(LlamaConfig())
    assert model is not None
    real = trial._alone
    monkeypatch.setattr(trial, "_alone", lambda model, texts: [logits.square() for logits in real(model, texts)])
    with pytest.raises(ModelError, match="the generation engine computes LlamaForCausalLM otherwise"):
        try_playing(model)


def test_an_error_of_the_models_code_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(LlamaConfig())
    assert model is not None

    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("view size is not\ncompatible")

    monkeypatch.setattr(model.model, "forward", broken)
    monkeypatch.setattr(trial, "_alone", lambda model, texts: [torch.zeros(len(ids), 128) for ids in texts])
    for use, what in ((try_playing, "cannot play"), (try_training, "cannot be trained")):
        with pytest.raises(ModelError, match=rf"{what} .*\(view size is not compatible\): choose"):
            use(model)


def test_where_no_small_model_can_be_made_the_kinds_of_layers_decide(tmp_path: Path) -> None:
    assert small_model(Mamba2Config()) is None
    Mamba2Config(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be trained on packed rows"):
        check_trainable(str(tmp_path))
    with pytest.raises(ModelError, match="Mamba2ForCausalLM"):
        check_playable(str(tmp_path))


def test_a_folder_is_tried_by_its_config_alone_and_random_numbers_stay(tmp_path: Path) -> None:
    sizes = TinySettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, vocabulary=270)
    build_tiny(sizes, ["go to the red ball"], context=64, seed=0, folder=tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    check_trainable(str(tmp_path / "base"))
    check_playable(str(tmp_path / "base"))
    assert torch.equal(torch.rand(2), expected)


def test_fit_and_eval_refuse_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentgym.evaluate import collect, evaluate
    from agentgym.fit import fit
    from agentgym.settings import EnvironmentSettings, LearningSettings, ModelSettings, Recipe, TrackingMode
    from envpool import Split

    monkeypatch.chdir(tmp_path)
    sizes = TinySettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, vocabulary=270)
    build_tiny(sizes, ["go to the red ball"], context=64, seed=0, folder=tmp_path / "base")
    tokens = AutoConfig.from_pretrained(tmp_path / "base").vocab_size
    shutil.copytree(tmp_path / "base", tmp_path / "stable")
    AutoModelForCausalLM.from_config(StableLmConfig(**SMALL, vocab_size=tokens)).save_pretrained(tmp_path / "stable")
    recipe = Recipe(
        name="run",
        model=ModelSettings(name=str(tmp_path / "stable"), context=1024),
        environments={"maze": EnvironmentSettings(expert=2, eval=1)},
        bc=LearningSettings(steps=1),
    )
    recipe.evol.iterations = 0
    recipe.tracking.mode = TrackingMode.off
    for command in (lambda: fit(recipe), lambda: evaluate(recipe), lambda: collect(recipe, Split.EVAL)):
        with pytest.raises(ModelError, match="StableLm"):
            command()
        assert not (tmp_path / "runs").exists()
