"""Learning phases under Lightning's Trainer: losses, accumulation, resuming, optimisers, export."""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from agentgym.data.datamodule import TrajectoryDataModule
from agentgym.data.transcript import TokenSequence
from agentgym.errors import ModelError
from agentgym.models import build_tiny, load_model, load_tokenizer, saved_dtype
from agentgym.modules import AgentEvol, AgentModule, BehavioralCloning
from agentgym.modules.losses import token_nll
from agentgym.modules.optim import FLOOR, MuonAdamW, build_optimizer, schedule
from agentgym.settings import (
    ExportDtype,
    LearningSettings,
    LoraSettings,
    Optimizer,
    Schedule,
    StrategyName,
    TinySettings,
    TrainerSettings,
)
from agentgym.strategies import FSDP2Strategy, precision, strategy

torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "base"
    sizes = TinySettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, vocabulary=270)
    build_tiny(sizes, ["go to the red ball", "pick up the key"], context=128, seed=0, folder=folder)
    return str(folder)


def make(seed: int) -> TokenSequence:
    """A sequence with something to learn: each token the model wrote follows from the one before."""
    rng = random.Random(seed)
    ids = [rng.randrange(4, 260)]
    mask = [False]
    for _ in range(rng.randint(15, 30)):
        mask.append(rng.random() < 0.6)
        ids.append((ids[-1] * 3 + 1) % 250 + 4 if mask[-1] else rng.randrange(4, 260))
    return TokenSequence(tuple(ids), tuple(mask))


DATA = [make(seed) for seed in range(40)]
WEIGHTS = [1.0 if seed % 3 else 0.5 for seed in range(40)]


def learning(**options: Any) -> LearningSettings:
    defaults: dict[str, Any] = {
        "steps": 8,
        "tokens_per_step": 256,
        "tokens_per_row": 256,
        "optimizer": Optimizer.muon,
        "lr": 4e-3,
        "weight_decay": 0.1,
        "schedule": Schedule.cosine,
    }
    return LearningSettings(**{**defaults, **options})


class Losses(L.Callback):
    """Writes down what is logged, and stops as if killed after some steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.losses: list[float] = []
        self.stop_after = stop_after

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.fit_loop._should_accumulate():
            return
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        if trainer.global_step == self.stop_after:
            raise RuntimeError("killed")


def fit(
    module: AgentModule,
    data: TrajectoryDataModule,
    *,
    strategy: Any = "auto",
    checkpoints: Path | None = None,
    stop_after: int | None = None,
    ckpt_path: Path | None = None,
) -> list[float]:
    losses = Losses(stop_after)
    callbacks: list[L.Callback] = [losses]
    if checkpoints is not None:
        callbacks.insert(0, ModelCheckpoint(checkpoints, "{step}", every_n_train_steps=2, save_top_k=-1))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        max_steps=data.steps,
        accumulate_grad_batches=data.accumulate,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    try:
        trainer.fit(module, data, ckpt_path=ckpt_path)
    except RuntimeError as error:
        if str(error) != "killed":
            raise
    return losses.losses


def run(base: str, *, kind: type[AgentModule] = AgentEvol, options: dict[str, Any] | None = None, **how: Any) -> Any:
    settings = learning(**(options or {}))
    data = TrajectoryDataModule(DATA, WEIGHTS, settings, 0)
    module = kind(base, settings, total_steps=data.steps, lora=how.pop("lora", None))
    return module, fit(module, data, **how)


STORED = {
    Optimizer.muon: [5.6373, 5.6541, 5.5986, 5.5484, 5.3331, 4.2806],
    Optimizer.adamw: [5.6373, 5.6437, 5.5768, 5.5316, 5.2865, 4.1814],
}
"""The losses of the first five steps and of the last of 30; in nats, ln 272 = 5.61 being chance."""


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_a_short_training_run_learns_and_gives_the_stored_losses(base: str, optimizer: Optimizer) -> None:
    _, losses = run(base, options={"steps": 30, "optimizer": optimizer})
    assert losses[:5] + losses[-1:] == pytest.approx(STORED[optimizer], abs=3e-3)


class KeepsGradients(AgentEvol):
    """Keeps the gradients of the last step: Adam makes a large update even of a rounding error."""

    def on_before_optimizer_step(self, optimizer) -> None:
        self.gradients = [parameter.grad.clone() for parameter in self.parameters()]


def test_accumulating_rows_equals_one_big_batch(base: str) -> None:
    sequences, weights = DATA[:12], WEIGHTS[:12]
    results = []
    for rows in (1, 3):
        settings = learning(steps=None, epochs=1, tokens_per_step=600, tokens_per_row=600 // rows)
        data = TrajectoryDataModule(sequences, weights, settings, 0)
        assert (data.accumulate, data.steps) == (rows, 1)
        module = KeepsGradients(base, settings, total_steps=1)
        results.append((fit(module, data), module.gradients))
    (one, big), (several, small) = results
    assert several == pytest.approx(one, abs=1e-5)
    for got, expected in zip(small, big, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("optimizer", [Optimizer.adamw, Optimizer.muon])
def test_a_killed_run_goes_on_with_identical_losses(base: str, tmp_path: Path, optimizer: Optimizer) -> None:
    options = {"optimizer": optimizer, "tokens_per_row": 128}
    whole_module, whole = run(base, options=options)
    _, head = run(base, options=options, checkpoints=tmp_path, stop_after=5)
    module, tail = run(base, options=options, ckpt_path=tmp_path / "step=4.ckpt")
    assert head == whole[:5]
    assert tail == whole[4:]
    for got, expected in zip(module.parameters(), whole_module.parameters(), strict=True):
        assert torch.equal(got, expected)


class Squared(AgentModule):
    """A user's own objective."""

    def loss(self, logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, normalizer: float) -> Tensor:
        return (weights_N * token_nll(logits_NV, labels_N) ** 2).sum() / normalizer


def test_a_subclass_with_its_own_loss_trains(base: str) -> None:
    _, losses = run(base, kind=Squared, options={"steps": 30})
    assert losses[0] == pytest.approx(STORED[Optimizer.muon][0] ** 2, rel=0.05)
    assert losses[-1] < 0.9 * losses[0]


def test_behavioral_cloning_ignores_weights_and_agentevol_does_not(base: str) -> None:
    even = TrajectoryDataModule(DATA, [1.0] * len(DATA), learning(), 0)
    weighted = TrajectoryDataModule(DATA, WEIGHTS, learning(), 0)
    first: dict[tuple[str, str], float] = {}
    for kind in (BehavioralCloning, AgentEvol):
        for name, data in (("even", even), ("weighted", weighted)):
            module = kind(base, learning(), total_steps=8)
            module.configure_model()
            module.on_fit_start()
            batch = next(iter(data.loader()))
            weights, normalizer = module.weigh(batch)
            loss = module.loss(module(batch), batch.labels[0, batch.targets], weights, normalizer)
            first[kind.__name__, name] = float(loss)
    assert first["BehavioralCloning", "weighted"] == first["BehavioralCloning", "even"]
    assert first["BehavioralCloning", "even"] == pytest.approx(first["AgentEvol", "even"], abs=1e-6)
    assert abs(first["AgentEvol", "weighted"] - first["AgentEvol", "even"]) > 1e-4


def test_the_model_is_loaded_once_and_gets_its_own_attention_back(base: str) -> None:
    module, _ = run(base)
    loaded = module.model
    module.configure_model()
    assert module.model is loaded
    assert loaded.config._attn_implementation == "sdpa"
    assert loaded.training


def test_what_is_logged_is_of_the_whole_step(base: str) -> None:
    settings = learning(steps=2, tokens_per_row=128, warmup=0.0, schedule=Schedule.constant)
    data = TrajectoryDataModule(DATA, WEIGHTS, settings, 0)
    module = AgentEvol(base, settings, total_steps=2)
    fit(module, data)
    metrics = module.trainer.callback_metrics
    assert set(metrics) == {"train/loss", "train/grad_norm", "train/lr", "train/tokens"}
    assert metrics["train/tokens"] == list(data.loader())[-1].step_tokens
    assert metrics["train/lr"] == pytest.approx(settings.lr)
    assert metrics["train/grad_norm"] > 0


def test_a_module_without_its_model_says_so(base: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="configure_model"):
        AgentEvol(base, learning(), total_steps=1).export(tmp_path / "model")


def test_a_model_whose_layers_are_no_plain_attention_is_refused(base: str) -> None:
    module = AgentEvol(base, learning(), total_steps=1)
    module.model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ModelError, match="plain attention"):
        module.on_fit_start()


def test_an_exported_model_computes_the_same(base: str, tmp_path: Path) -> None:
    module, _ = run(base)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    module.export(tmp_path / "model")
    ids = torch.tensor([DATA[0].ids])
    with torch.no_grad():
        assert torch.equal(load_model(str(tmp_path / "model"))(ids).logits, module.model.eval()(ids).logits)
    assert load_tokenizer(str(tmp_path / "model"))("go to").input_ids == load_tokenizer(base)("go to").input_ids
    assert "packed" not in (tmp_path / "model" / "config.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old").exists()


def test_adapters_are_trained_alone_and_merged_on_export(base: str, tmp_path: Path) -> None:
    module, losses = run(base, lora=LoraSettings(rank=4, alpha=8), options={"optimizer": Optimizer.adamw, "lr": 2e-2})
    assert losses[-1] < losses[0]
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    module.export(tmp_path / "model")
    ids = torch.tensor([DATA[0].ids])
    with torch.no_grad():
        before = module.model.eval()(ids).logits
        after = load_model(str(tmp_path / "model"))(ids).logits
        assert not torch.allclose(load_model(base)(ids).logits, after, atol=1e-3)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


CHATML = (
    "{% for m in messages %}{{ '<|user|>' + m.role + '\\n' + m.content + '<|assistant|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\\n' }}{% endif %}"
)
"""Ends turns with the token 3; the tokenizer's end of text is 1."""


def other_base(base: str, folder: Path, dtype: torch.dtype, eos: int | list[int] | None) -> str:
    """A model whose template ends turns with another token than the tokenizer's end of text."""
    model, tokenizer = load_model(base).to(dtype), load_tokenizer(base)
    tokenizer.chat_template = CHATML
    model.generation_config.eos_token_id = eos
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
@pytest.mark.parametrize(("eos", "stops"), [(1, [3, 1]), ([0, 1], [3, 0, 1]), ([1, 3], [1, 3]), (None, 3)])
def test_an_export_names_the_token_that_ends_an_answer(
    base: str, tmp_path: Path, lora: LoraSettings | None, eos: int | list[int] | None, stops: int | list[int]
) -> None:
    name = other_base(base, tmp_path / "base", torch.float32, eos)
    module = AgentEvol(name, learning(), total_steps=1, lora=lora)
    module.configure_model()
    module.export(tmp_path / "model")
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == stops
    config = json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"]
    assert 3 in (config if isinstance(config, list) else [config])
    if lora is not None:
        assert GenerationConfig.from_pretrained(tmp_path / "model" / "adapter").eos_token_id == stops
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():  # whatever it reads, 3 comes next
        loaded.lm_head.weight = torch.nn.Parameter(torch.zeros_like(loaded.lm_head.weight))
        bias = torch.zeros(loaded.config.vocab_size)
        bias[3] = 1.0
        loaded.lm_head.bias = torch.nn.Parameter(bias)
    answered = loaded.generate(torch.tensor([[5, 6]]), max_new_tokens=20, do_sample=False)
    assert answered.tolist() == [[5, 6, 3]]


def test_an_export_whose_stop_token_is_named_already_has_the_files_of_its_base(base: str, tmp_path: Path) -> None:
    module = AgentEvol(base, learning(), total_steps=1)
    module.configure_model()
    module.export(tmp_path / "model")
    for file in ("generation_config.json", "config.json", "model.safetensors", "chat_template.jinja"):
        assert (tmp_path / "model" / file).read_bytes() == (Path(base) / file).read_bytes()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
@pytest.mark.parametrize(
    ("saved", "wanted", "expected"),
    [
        (torch.bfloat16, ExportDtype.base, torch.bfloat16),
        (torch.float16, ExportDtype.base, torch.float16),
        (torch.float32, ExportDtype.base, torch.float32),
        (torch.bfloat16, ExportDtype.float32, torch.float32),
        (torch.float32, ExportDtype.bfloat16, torch.bfloat16),
    ],
)
def test_an_export_keeps_the_number_format_of_its_base_or_has_the_one_that_is_set(
    base: str,
    tmp_path: Path,
    lora: LoraSettings | None,
    saved: torch.dtype,
    wanted: ExportDtype,
    expected: torch.dtype,
) -> None:
    name = other_base(base, tmp_path / "base", saved, 1)
    module = AgentEvol(name, learning(), total_steps=1, lora=lora)
    module.configure_model()
    before = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    module.export(tmp_path / "model", dtype=wanted)
    assert saved_dtype(str(tmp_path / "model")) == expected
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {expected}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == expected
    assert "lm_head.weight" not in weights  # tied: once
    for name, p in module.model.named_parameters():  # learning goes on in float32, with what it had
        assert p.dtype == torch.float32
        assert torch.equal(p, before[name])


def test_a_format_that_only_the_weights_tell_is_kept(base: str, tmp_path: Path) -> None:
    name = other_base(base, tmp_path / "base", torch.bfloat16, 1)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    del config["dtype"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    assert saved_dtype(name) == torch.bfloat16


def test_activations_computed_twice_give_the_same_losses(base: str) -> None:
    settings = learning(steps=3)
    data = TrajectoryDataModule(DATA, WEIGHTS, settings, 0)
    plain, twice = (
        fit(AgentEvol(base, settings, total_steps=3, gradient_checkpointing=again), data) for again in (False, True)
    )
    assert twice == pytest.approx(plain, abs=1e-5)


# optimisers


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def give_gradients(model: LlamaForCausalLM, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_muon_with_adamw_equals_the_two_side_by_side() -> None:
    joined, apart = tiny_llama(), tiny_llama()
    one = build_optimizer(joined, learning(lr=1e-2))
    assert isinstance(one, MuonAdamW)
    inner = [p for name, p in apart.named_parameters() if "proj" in name]
    outer = [p for name, p in apart.named_parameters() if "embed" in name or "head" in name]
    norms = [p for name, p in apart.named_parameters() if "norm" in name]
    muon = torch.optim.Muon(inner, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": outer, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), fused=True)
    for seed in range(3):
        give_gradients(joined, seed)
        give_gradients(apart, seed)
        one.step()
        muon.step()  # type: ignore[no-untyped-call]
        adamw.step()
    for got, expected in zip(joined.parameters(), apart.parameters(), strict=True):
        assert torch.equal(got, expected)


def test_muon_with_adamw_goes_on_exactly_from_its_saved_state() -> None:
    model = tiny_llama()
    optimizer = build_optimizer(model, learning())
    give_gradients(model, 0)
    optimizer.step()
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    resumed = tiny_llama()
    resumed.load_state_dict(saved[0])
    again = build_optimizer(resumed, learning())
    again.load_state_dict(saved[1])
    for group in (*optimizer.param_groups, *again.param_groups):
        group["lr"] = 1e-3
    for m, o in ((model, optimizer), (resumed, again)):
        give_gradients(m, 1)
        o.step()
    for got, expected in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(got, expected)


def test_a_closure_is_evaluated_with_gradients() -> None:
    model = tiny_llama()
    optimizer = build_optimizer(model, learning())

    def closure() -> float:
        loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
        loss.backward()
        return float(loss)

    before = [p.clone() for p in model.parameters()]
    assert optimizer.step(closure) == pytest.approx(closure(), rel=0.2)
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_muon_alone_trains_what_has_only_matrices() -> None:
    model = tiny_llama()
    for name, p in model.named_parameters():
        p.requires_grad_("q_proj" in name)
    assert type(build_optimizer(model, learning())) is torch.optim.Muon


def test_adamw_takes_everything_and_decays_no_vectors() -> None:
    optimizer = build_optimizer(tiny_llama(), learning(optimizer=Optimizer.adamw))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])


@pytest.mark.parametrize(
    ("name", "middle", "last"), [("cosine", 0.525, FLOOR), ("linear", 0.525, FLOOR), ("constant", 1, 1)]
)
def test_the_learning_rate_rises_then_falls_to_its_floor(name: str, middle: float, last: float) -> None:
    share = schedule(learning(schedule=Schedule(name), warmup=0.1), 100)
    assert share(0) == pytest.approx(0.1)
    assert share(9) == share(10) == 1.0
    assert share(55) == pytest.approx(middle)
    assert share(100) == share(120) == pytest.approx(last)


# strategies


@pytest.fixture
def process_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One rank, started from outside, so that Lightning launches nothing."""
    for name, value in {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
@pytest.mark.usefixtures("process_group")
def test_a_sharded_run_equals_a_plain_one_resumes_and_exports(
    base: str, tmp_path: Path, lora: LoraSettings | None
) -> None:
    torch.manual_seed(0)
    _, plain = run(base, lora=lora)
    sharded = strategy(TrainerSettings(strategy=StrategyName.fsdp))
    torch.manual_seed(0)
    _, head = run(base, lora=lora, strategy=sharded, checkpoints=tmp_path, stop_after=5)
    module, tail = run(base, lora=lora, strategy=FSDP2Strategy(), ckpt_path=tmp_path / "step=4.ckpt")
    assert head == pytest.approx(plain[:5], abs=1e-5)
    assert tail == pytest.approx(plain[4:], abs=1e-5)
    module.export(tmp_path / "model")
    ids = torch.tensor([DATA[0].ids])
    with torch.no_grad():
        exported, here = load_model(str(tmp_path / "model"))(ids).logits, module.model.eval()(ids).logits
    torch.testing.assert_close(exported, here, atol=1e-5, rtol=1e-5)


def test_the_settings_choose_strategy_and_precision() -> None:
    assert strategy(TrainerSettings()) == "auto"
    assert isinstance(strategy(TrainerSettings(strategy=StrategyName.ddp)), DDPStrategy)
    fsdp = TrainerSettings(strategy=StrategyName.fsdp, precision="bf16-mixed")
    assert isinstance(strategy(fsdp), FSDP2Strategy)
    assert precision(fsdp) == "32-true"
    assert precision(TrainerSettings(precision="bf16-mixed")) == "bf16-mixed"
