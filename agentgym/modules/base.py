"""A language model that learns from packed trajectories: the LightningModule that all methods share."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agentgym.data.codec import Codec
from agentgym.data.packing import PACKED, PackedBatch, attend_in_segments, packed_logits
from agentgym.errors import RunError
from agentgym.models import add_lora, empty_model, load_model, load_tokenizer, merge_lora, saved_dtype
from agentgym.modules.losses import weighted_nll
from agentgym.modules.optim import build_optimizer, clip, schedule
from agentgym.settings import ExportDtype, LearningSettings, LoraSettings
from agentgym.strategies import FSDP2Strategy


class AgentModule(L.LightningModule):
    """Trains a causal language model on the tokens that an agent wrote.

    Override `loss` for another objective. Clipping is done here: leave the Trainer's `gradient_clip_val` alone.
    Logged every `log_every_n_steps` optimiser steps: ``train/loss``, ``train/tokens`` (of the step),
    ``train/grad_norm`` (before clipping) and ``train/lr``.

    Args:
        model_name: the model to start from, a folder or a hub id.
        settings: of this learning phase.
        total_steps: optimiser steps of this learning phase; the learning rate reaches its floor there.
        lora: train adapters instead of all weights.
        gradient_checkpointing: compute activations twice to keep fewer.

    Attributes:
        model: the model; None until Lightning has called `configure_model`.
        last_loss: the loss of the latest optimiser step, over all rows and ranks; NaN before the first.
        last_norm: the norm of its gradient before clipping; likewise.
    """

    def __init__(
        self,
        model_name: str,
        settings: LearningSettings,
        *,
        total_steps: int,
        lora: LoraSettings | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model_name = model_name
        self.settings = settings
        self.total_steps = total_steps
        self.lora = lora
        self.gradient_checkpointing = gradient_checkpointing
        self.model: PreTrainedModel | None = None
        self.last_loss: float | Tensor = math.nan
        self.last_norm: float | Tensor = math.nan
        self._attention = ""
        self._step_loss: Tensor | None = None
        self._step_tokens = 0

    def loss(self, logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor, normalizer: float) -> Tensor:
        """What one row adds to the loss of its optimiser step. Override this.

        The parts of all rows, on all ranks, are summed: divide by `normalizer`, not by the number of labels.

        Args:
            logits_NV: the model's prediction of each labelled token, shape (N, V).
            labels_N: the tokens themselves, shape (N,).
            weights_N: the weight of the trajectory that each belongs to, shape (N,).
            normalizer: the sum of the weights over the whole optimiser step.

        Returns:
            A scalar, here the row's part of ``sum(weight * nll) / sum(weight)`` in nats.
        """
        return weighted_nll(logits_NV, labels_N, weights_N, normalizer)

    def weigh(self, batch: PackedBatch) -> tuple[Tensor, float]:
        """The weight of each label of a row, and their sum over the whole optimiser step."""
        return batch.weights, batch.normalizer

    def configure_model(self) -> None:
        """Loads the model, adds adapters, shards it; Lightning calls this at every fit, only the first one counts."""
        if self.model is not None:
            return
        strategy = None if self._trainer is None else self._trainer.strategy
        model = strategy.load(self._build) if isinstance(strategy, FSDP2Strategy) else self._build(False)
        self.model = model.train()

    def _build(self, empty: bool) -> PreTrainedModel:
        """Loads the model and adds adapters; an empty one has no weights yet."""
        model = empty_model(self.model_name) if empty else load_model(self.model_name)
        if self.gradient_checkpointing:
            with warnings.catch_warnings():
                # renamed within transformers 5, all of which knows this name
                warnings.simplefilter("ignore", FutureWarning)
                options = {"use_reentrant": False}
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)  # type: ignore[no-untyped-call]
        return model if self.lora is None else add_lora(model, self.lora)

    def on_fit_start(self) -> None:
        """Lets the model attend within segments while it trains."""
        model = _plain(self._loaded)
        if model.config._attn_implementation != PACKED:  # it still is after a fit that failed
            self._attention = model.config._attn_implementation or "sdpa"
        attend_in_segments(model)

    def on_fit_end(self) -> None:
        """Gives the model its own attention back."""
        _plain(self._loaded).set_attn_implementation(self._attention)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Predicts the labelled tokens of a row.

        Returns:
            Logits, shape (N, V).
        """
        return packed_logits(self._loaded, batch)

    def training_step(self, batch: PackedBatch, batch_idx: int = 0) -> Tensor:
        """One row. Lightning averages over rows and ranks, where ours are parts of a sum: hence the factor."""
        weights_N, normalizer = self.weigh(batch)
        loss = self.loss(self(batch), batch.labels[0, batch.targets], weights_N, normalizer)
        part = loss.detach()
        self._step_loss = part if self._step_loss is None else self._step_loss + part
        self._step_tokens = batch.step_tokens
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by `settings.clip` and logs; Lightning calls this once an optimiser step, after its last row.

        Raises:
            RunError: the loss is no number any more.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of 16-mixed
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # a fused kernel would do it later, in its step; of others Lightning has done it
        norm = clip((p for group in optimizer.param_groups for p in group["params"]), self.settings.clip)
        if self._step_loss is not None:
            self.last_loss = self.trainer.strategy.reduce(self._step_loss, reduce_op="sum")
        self._step_loss, self.last_norm = None, norm
        step = self.trainer.global_step + 1
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        at_intervals = bool(every) and step % every == 0
        if (at_intervals or step == self.total_steps) and not math.isfinite(self.last_loss):
            raise RunError(
                f"learning diverged: the loss is {float(self.last_loss)} at step {step} of {self.total_steps}; choose "
                f"a lower learning rate (lr, now {self.settings.lr:g}), and another name=NAME"
            )
        if not at_intervals:
            return
        metrics = {
            "train/loss": self.last_loss,
            "train/grad_norm": norm,
            "train/lr": optimizer.param_groups[0]["lr"],
            "train/tokens": float(self._step_tokens),
        }
        self.log_dict(metrics, batch_size=1)

    def check_weights(self) -> None:
        """Makes sure that the last update left numbers.

        Raises:
            RunError: it did not.
        """
        trained = (_local(p) for p in self._loaded.parameters() if p.requires_grad)
        place = self.trainer.strategy.root_device  # the module may be on the CPU again
        lost = torch.tensor(float(not all(bool(torch.isfinite(p).all()) for p in trained)), device=place)
        if float(self.trainer.strategy.reduce(lost, reduce_op="sum")):  # on any rank
            raise RunError(
                f"learning diverged: some weights are no numbers any more; choose a lower learning rate (lr, now "
                f"{self.settings.lr:g}), and another name=NAME"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the loss of the last step: a phase that goes on from there may be at its end."""
        checkpoint["last_loss"] = float(self.last_loss)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse."""
        self.last_loss = checkpoint["last_loss"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and the learning-rate schedule that the settings name."""
        optimizer = build_optimizer(self._loaded, self.settings)
        scheduler = LambdaLR(optimizer, schedule(self.settings, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def export(
        self,
        folder: Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        dtype: ExportDtype = ExportDtype.base,
    ) -> None:
        """Saves model and tokenizer in the Hugging Face layout; adapters are merged into the weights.

        The adapters by themselves are in its folder `adapter`, as peft saves them. The folder is there in full or not
        at all; an older one is replaced. Under a distributed strategy every rank calls this, and the first one writes.
        The token that ends an answer is among those at which transformers and vLLM stop.

        Args:
            folder: where to.
            tokenizer: the one that the model was taught with; its own if None.
            dtype: number format of the weights.
        """
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=self.lora is not None)
        state = get_model_state_dict(self._loaded, options=options)
        names: dict[int, str] = {}
        for name, parameter in self._loaded.named_parameters(remove_duplicate=False):
            if names.setdefault(id(parameter), name) != name:
                state.pop(name, None)  # tied to another one: shards were gathered for each name
        if self._trainer is None or self._trainer.is_global_zero:
            part = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            try:
                kept = saved_dtype(self.model_name) if dtype == ExportDtype.base else getattr(torch, str(dtype))
                taught = tokenizer or load_tokenizer(self.model_name)
                self._write(part, state, kept)
                taught.save_pretrained(part)
                _name_in_config(part, Codec(taught).stop_id, kept)
            except SafetensorError as error:  # it wraps what the disk said
                raise RunError(
                    f"cannot write {folder}: {error}; free some space and run the same command again"
                ) from error
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)
        if self._trainer is not None:
            self._trainer.strategy.barrier("export")

    @property
    def _loaded(self) -> PreTrainedModel:
        if self.model is None:
            raise RuntimeError("the model is loaded by configure_model")
        return self.model

    def _write(self, folder: Path, state: dict[str, Any], dtype: torch.dtype) -> None:
        if self.lora is None:
            _round(state, self._loaded, dtype)
            self._loaded.save_pretrained(folder, state_dict=state)
            return
        fresh = add_lora(load_model(self.model_name), self.lora)
        fresh.load_state_dict(state, strict=False)
        fresh.save_pretrained(folder / "adapter")
        merged = merge_lora(fresh)
        weights = {name: parameter.detach() for name, parameter in merged.named_parameters()}  # tied ones once
        weights |= {name: value for name, value in merged.state_dict().items() if name in dict(merged.named_buffers())}
        _round(weights, merged, dtype)
        merged.save_pretrained(folder, state_dict=weights)


def _round(state: dict[str, Any], model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Brings weights into another number format, but for those that transformers keeps in float32."""
    if dtype == torch.float32:
        return
    kept = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept |= set(model._keep_in_fp32_modules or ())
    for name in list(state):
        if torch.is_floating_point(state[name]) and not kept & set(name.split(".")):
            state[name] = state[name].to(dtype)


def _name_in_config(folder: Path, stop: int, dtype: torch.dtype) -> None:
    """Writes down what the files of a saved model do not say yet: its stop token, and its number format.

    transformers stops at the tokens of ``generation_config.json``, vLLM at those and the tokenizer's; others read
    ``config.json``. Peft users and vLLM with adapters read the base's, unless they are given the adapters' folder.
    """
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        changed = copy.deepcopy(said)
        there = said.get("eos_token_id")
        stops = there if isinstance(there, list) else [] if there is None else [there]
        if stop not in stops:
            changed["eos_token_id"] = [stop, *stops] if stops else stop
        if name == "config.json":
            for part in (changed, *(value for value in changed.values() if isinstance(value, dict))):
                if "dtype" in part:
                    part["dtype"] = str(dtype).removeprefix("torch.")
        if changed != said:
            file.write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if (folder / "adapter").is_dir():
        shutil.copy(folder / "generation_config.json", folder / "adapter")


def _local(parameter: Tensor) -> Tensor:
    """The part of a parameter that this rank holds."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model inside its adapters, or itself."""
    inner = getattr(model, "get_base_model", None)
    return inner() if inner is not None else model
