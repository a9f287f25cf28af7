"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from agentgym.settings import LearningSettings, Schedule
from agentgym.settings import Optimizer as OptimizerName

FLOOR = 0.05
"""Where the learning rate ends, as a share of its peak."""


class MuonAdamW(Optimizer):
    """Muon for hidden matrices and AdamW for everything else, as one optimiser.

    Lightning's automatic optimisation steps, schedules and checkpoints exactly one optimiser. Both parts work on the
    parameter groups and the state of this one, so that nothing is kept twice.

    Muon: https://kellerjordan.github.io/posts/muon/; its step is scaled to the size of AdamW's
    (https://arxiv.org/abs/2502.16982, section 2.2), so that both share one learning rate.

    Args:
        hidden: the matrices.
        other_groups: parameter groups for AdamW.
        lr: learning rate of all.
        weight_decay: decoupled weight decay of the matrices.
        betas: of AdamW.
        fused: whether AdamW uses torch's fused kernel.
    """

    def __init__(
        self,
        hidden: Iterable[nn.Parameter],
        other_groups: list[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.98),
        fused: bool = False,
    ) -> None:
        self._muon = _muon(hidden, lr, weight_decay)
        self._adamw = AdamW(other_groups, lr=lr, betas=betas, fused=fused)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {"lr": lr})
        self._share()

    def _share(self) -> None:
        self._muon.param_groups = self.param_groups[:1]
        self._adamw.param_groups = self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a loaded state; torch calls it at the end of `load_state_dict`."""
        super().__setstate__(state)
        self._share()

    @overload
    def step(self, closure: None = ...) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates all parameters that have a gradient.

        Args:
            closure: computes the loss and the gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        return loss


def build_optimizer(model: nn.Module, settings: LearningSettings) -> Optimizer:
    """The optimiser that the settings name, for all parameters of a model that are trained.

    Vectors (norms, biases) are not decayed. Muon takes every matrix but the embedding and the output layer.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    outer = _embeddings(model)
    muon = settings.optimizer == OptimizerName.muon
    hidden = [p for p in trained if muon and p.ndim == 2 and id(p) not in outer]
    taken = {id(p) for p in hidden}
    rest = [p for p in trained if id(p) not in taken]
    decayed = {"params": [p for p in rest if p.ndim > 1], "weight_decay": settings.weight_decay}
    vectors = {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0}
    groups = [group for group in (decayed, vectors) if group["params"]]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in trained)
    if not hidden:
        return AdamW(groups, lr=settings.lr, fused=fused)
    if not groups:
        return _muon(hidden, settings.lr, settings.weight_decay)
    return MuonAdamW(hidden, groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)


def _muon(hidden: Iterable[nn.Parameter], lr: float, weight_decay: float) -> Muon:
    return Muon(hidden, lr=lr, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")


def _embeddings(model: nn.Module) -> set[int]:
    """The parameters of the embedding and the output layer, by identity."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    layers = [m for m in model.modules() if isinstance(m, nn.Embedding) or m is head]
    return {id(p) for layer in layers for p in layer.parameters()}


def schedule(settings: LearningSettings, total_steps: int) -> Callable[[int], float]:
    """The learning rate as a share of its peak, by the number of steps done.

    It rises evenly over the first ``warmup * total_steps`` steps, then falls to `FLOOR` at the end, or stays.
    """
    rise = round(settings.warmup * total_steps)

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / max(1, total_steps - rise))
        match settings.schedule:
            case Schedule.cosine:
                left = (1 + math.cos(math.pi * done)) / 2
            case Schedule.linear:
                left = 1 - done
            case Schedule.constant:
                left = 1.0
        return FLOOR + (1 - FLOOR) * left

    return share


def clip(parameters: Iterable[nn.Parameter], greatest: float) -> Tensor:
    """Scales gradients down to a greatest total norm, over all shards; returns the norm before, a scalar."""
    norm: Tensor = nn.utils.clip_grad_norm_(parameters, greatest)
    return norm.full_tensor() if isinstance(norm, torch.distributed.tensor.DTensor) else norm
