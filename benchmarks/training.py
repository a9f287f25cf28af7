"""Packed rows against padded batches, in one run and in rotated order.

``python benchmarks/training.py`` takes trajectories of unequal length forward and backward on one thread, and prints
real tokens a second and ratios; ``--size small`` takes a few seconds, ``--device cuda --size 0.5b --sequences 256
--row 8192 --steps 20 --compile`` is for a GPU (``PYTHONPATH=.`` where agentgym is not installed; torch and transformers
are enough). Seconds are CPU time on a CPU and wall time on a GPU. The results go to ``benchmarks/results``.

The arrangements, all over the same sequences, with the same weights and the same loss (the mean over all labels of all
sequences):

- *padded*: four sequences a batch in random order, padded to the longest, logits everywhere, as AgentGym does it.
- *one by one*: one sequence a batch: no padding, logits everywhere.
- *bucketed*: as padded, but sequences of about the same length go together.
- *packed*: our rows: no padding, attention inside each sequence, logits only where there is a label.

``--steps`` then measures whole optimiser steps (fused AdamW) on one packed row each. MFU is the share of the card's
dense bfloat16 peak that is put to use. It counts the products that a row needs: 6 operations a token for each weight
of the layers, 6 a label for each weight of the output layer, and 6 x layers x heads x head width x length^2 for the
causal attention in a sequence. Recomputation (``--checkpointing``) is not counted.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import measuring
import torch
from models import SIZES, build
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from agentgym.data.packing import IGNORED, PACKED, PackedBatch, lay_out, pack, register_packed_attention

BATCH = 4
"""Sequences of a padded batch."""

SUPERVISED = 0.3
"""The share of tokens that have a label."""

GOAL = 2.2
"""How many times quicker than padded batches packed rows have to be."""

GPU_GOAL = 0.45
"""The share of a GPU's peak that optimiser steps have to put to use."""


@dataclass(frozen=True)
class Tokens:
    """Stands for the codec's `TokenSequence`, whose room needs more than torch and transformers."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Data:
    """What is learned from.

    Attributes:
        sequences: the trajectories.
        labels: how many labels they have together.
        tokens: how many tokens they have together.
    """

    sequences: Sequence[Tokens]
    labels: int
    tokens: int


def draw(count: int, vocabulary: int) -> Data:
    """Sequences of 200 to 2000 tokens, log-normally distributed about 500, always the same."""
    rng = random.Random(1)
    lengths: list[int] = []
    while len(lengths) < count:
        length = int(rng.lognormvariate(math.log(500), 0.6))
        if 200 <= length <= 2000:
            lengths.append(length)
    sequences = [
        Tokens(
            tuple(rng.randrange(vocabulary) for _ in range(length)),
            (False, *(rng.random() < SUPERVISED for _ in range(length - 1))),
        )
        for length in lengths
    ]
    return Data(sequences, sum(sum(sequence.mask) for sequence in sequences), sum(lengths))


class Trainee:
    """A model that is taken forward and backward.

    Args:
        model: the model.
        data: what it learns from.
        half: compute in bfloat16 and keep the weights in float32.
    """

    def __init__(self, model: PreTrainedModel, data: Data, *, half: bool) -> None:
        self.model = model
        self.data = data
        self._half = half
        self._own_attention = model.config._attn_implementation
        register_packed_attention()

    def padded(self, groups: Sequence[Sequence[int]]) -> tuple[float, float]:
        """Takes all sequences through in padded batches; returns the loss and the norm of its gradient."""
        self.model.set_attn_implementation(self._own_attention)
        return self._all([lambda group=group: self._padded(group) for group in groups])

    def packed(self, rows: Sequence[PackedBatch]) -> tuple[float, float]:
        """Takes all sequences through in packed rows; returns the loss and the norm of its gradient."""
        self.model.set_attn_implementation(PACKED)
        return self._all([lambda row=row: self.loss_of(row) for row in rows])

    def rows(self, capacity: int) -> list[PackedBatch]:
        """Packs the sequences."""
        return [
            lay_out(
                [self.data.sequences[i] for i in row],
                [1.0] * len(row),
                normalizer=self.data.labels,
                step_labels=self.data.labels,
                step_tokens=self.data.tokens,
            )
            for row in pack([len(sequence) for sequence in self.data.sequences], capacity)
        ]

    def loss_of(self, row: PackedBatch) -> Tensor:
        """A packed row's part of the loss."""
        row = row.to(self.model.device)
        where: dict[str, Any] = {"segments": row.segments}
        if row.boundaries.is_cuda and (self._half or self.model.dtype == torch.bfloat16):
            where = {"boundaries": row.boundaries, "longest": row.longest}
        with self._precision():
            logits_NV = self.model(
                input_ids=row.input_ids,
                position_ids=row.position_ids,
                use_cache=False,
                logits_to_keep=row.targets - 1,
                **where,
            ).logits[0]
        nll_N = cross_entropy(logits_NV.float(), row.labels[0, row.targets], reduction="none")
        return torch.dot(nll_N, row.weights) / row.normalizer

    def _padded(self, group: Sequence[int]) -> Tensor:
        chosen = [self.data.sequences[i] for i in group]
        width = max(map(len, chosen))
        ids = torch.tensor([[*s.ids, *[0] * (width - len(s))] for s in chosen])
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in chosen])
        written = torch.tensor([[*s.mask, *[False] * (width - len(s))] for s in chosen])
        ids, mask, labels = (x.to(self.model.device) for x in (ids, mask, ids.masked_fill(~written, IGNORED)))
        with self._precision():
            options = {} if len(group) == 1 else {"attention_mask": mask}
            logits_BTV = self.model(input_ids=ids, use_cache=False, **options).logits
        targets = labels[:, 1:].flatten()
        # summed here and divided by all labels, so that every arrangement has the same loss
        summed = cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")
        return summed / self.data.labels

    def _all(self, parts: Sequence[Callable[[], Tensor]]) -> tuple[float, float]:
        total = 0.0
        for part in parts:
            loss = part()
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.model.zero_grad(set_to_none=True)
        return total, norm.item()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.model.device.type, torch.bfloat16) if self._half else nullcontext()


def steps(trainee: Trainee, rows: Sequence[PackedBatch], count: int) -> float:
    """Takes optimiser steps on one row each, after a few that are not counted; returns the seconds of the former."""
    model = trainee.model
    model.set_attn_implementation(PACKED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def take(number: int) -> None:
        for i in range(number):
            trainee.loss_of(rows[i % len(rows)]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    take(min(5, len(rows)))
    measuring.peak_memory(model.device.type)
    seconds, _ = measuring.seconds_of(lambda: take(count), model.device.type)
    return seconds


def operations(model: PreTrainedModel, row: PackedBatch) -> float:
    """Floating-point operations of the products that a row needs, forward and backward (see the top of this file)."""
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    outside = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    layers = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in outside)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    squares = sum((end - start) ** 2 for start, end in row.segments)
    attention = 6 * config.num_hidden_layers * width * squares
    return 6.0 * layers * row.input_ids.numel() + 6.0 * head * row.targets.numel() + attention


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "mixed"], help="float32 on a CPU, else bfloat16")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--row", type=int, default=2048, help="tokens of a packed row")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="optimiser steps to measure")
    parser.add_argument("--compile", action="store_true", help="compile the layers of the packed model")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice to keep fewer")
    words = parser.parse_args()
    torch.set_num_threads(1)
    dtype = words.dtype or ("float32" if words.device == "cpu" else "bfloat16")
    model = build(words.size, words.device, torch.bfloat16 if dtype == "bfloat16" else torch.float32).train()
    if words.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trainee = Trainee(model, draw(words.sequences, model.config.vocab_size), half=dtype == "mixed")
    rows = trainee.rows(words.row)
    report = {"size": words.size, "dtype": dtype, "row": words.row, **compare(trainee, rows, words.rounds)}
    if words.steps:
        if words.compile:
            for layer in model.base_model.layers:
                layer.compile(dynamic=True)
        options = {"compiled": words.compile, "checkpointing": words.checkpointing}
        report["steps"] = {**options, **measure_steps(trainee, rows, words.steps)}
    print(shown(report))
    name = "training.json" if words.device == "cpu" and words.size == "7m" else f"training-{words.size}.json"
    measuring.write(name, report)


def compare(trainee: Trainee, rows: Sequence[PackedBatch], rounds: int) -> dict[str, Any]:
    """Takes all sequences through in every arrangement."""
    data, device = trainee.data, trainee.model.device.type
    order = list(range(len(data.sequences)))
    random.Random(0).shuffle(order)
    by_length = sorted(order, key=lambda i: len(data.sequences[i]))
    groups = {
        "padded": _groups(order, BATCH),
        "one by one": _groups(order, 1),
        "bucketed": _groups(by_length, BATCH),
    }
    arrangements: dict[str, Callable[[], tuple[float, float]]] = {
        **{name: lambda groups=batches: trainee.padded(groups) for name, batches in groups.items()},
        "packed": lambda: trainee.packed(rows),
    }
    computed = {
        **{n: sum(len(g) * max(len(data.sequences[i]) for i in g) for g in batches) for n, batches in groups.items()},
        "packed": data.tokens,
    }
    for groups_ in groups.values():
        trainee.padded(groups_[:1])  # what happens once only: kernels are loaded and chosen
    trainee.packed(rows[:1])
    seconds, ends = measuring.in_turns(arrangements, rounds, device)
    return {
        "machine": measuring.machine(device),
        "parameters": sum(p.numel() for p in trainee.model.parameters()),
        "sequences": len(data.sequences),
        "tokens": data.tokens,
        "labels": data.labels,
        "rounds": rounds,
        "rows": [
            {
                "arrangement": name,
                "seconds": round(statistics.median(spent), 3),
                "tokens_per_second": round(data.tokens / statistics.median(spent), 1),
                "ratio": round(measuring.median_ratio(seconds["padded"], spent), 2),
                "fill": round(data.tokens / computed[name], 3),
                "loss": ends[name][0],
                "gradient_norm": ends[name][1],
            }
            for name, spent in seconds.items()
        ],
    }


def measure_steps(trainee: Trainee, rows: Sequence[PackedBatch], count: int) -> dict[str, Any]:
    """Measures optimiser steps on full rows."""
    seconds = steps(trainee, rows, count)
    taken = [rows[i % len(rows)] for i in range(count)]
    tokens = sum(row.input_ids.numel() for row in taken)
    needed = sum(operations(trainee.model, row) for row in taken)
    plain = 6.0 * sum(p.numel() for p in trainee.model.parameters()) * tokens
    device = trainee.model.device.type
    peak = measuring.peak_flops() if device == "cuda" else None
    return {
        "count": count,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1),
        "tflops": round(needed / seconds / 1e12, 3),
        "peak_tflops": None if peak is None else peak / 1e12,
        "mfu": None if peak is None else round(needed / seconds / peak, 4),
        "mfu_6n": None if peak is None else round(plain / seconds / peak, 4),
        "peak_memory_gb": measuring.peak_memory(device),
    }


def shown(report: dict[str, Any]) -> str:
    """The tables, and whether the goals hold."""
    base = report["rows"][0]
    rows = [
        [
            row["arrangement"],
            f"{row['seconds']:,.2f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['fill']:.2f}",
            f"{row['loss']:.7f}",
            f"{row['gradient_norm']:.6f}",
        ]
        for row in report["rows"]
    ]
    title = (
        f"{report['parameters'] / 1e6:,.1f} M parameters, {report['dtype']}; {report['sequences']} sequences, "
        f"{report['tokens']:,} tokens, {report['labels']:,} labels, rows of {report['row']:,}; medians of "
        f"{report['rounds']} rounds\n{measuring.described(report['machine'])}"
    )
    header = ["arrangement", "seconds", "real tokens/s", "ratio", "fill", "loss", "gradient"]
    packed = report["rows"][-1]
    apart = abs(packed["loss"] - base["loss"])
    lines = [
        measuring.table(title, header, rows),
        "",
        f"goal: packed rows {GOAL:g} times as quick as padded batches: {_met(packed['ratio'] >= GOAL)}",
        f"goal: equal losses to 1e-5: {_met(apart <= 1e-5)} (they differ by {apart:.1e})",
    ]
    if step := report.get("steps"):
        manner = ", ".join(word for word in ("compiled", "checkpointing") if step[word]) or "plain"
        lines.append(
            f"{step['count']} optimiser steps of one row ({manner}): {step['tokens_per_second']:,.0f} tokens/s, "
            f"{step['tflops']:,.3f} TFLOP/s"
            + (f", {memory:.1f} GB at most" if (memory := step["peak_memory_gb"]) else "")
        )
        if step["mfu"] is not None:
            lines += [
                f"MFU {100 * step['mfu']:.1f} % of {step['peak_tflops']:,.0f} TFLOP/s with attention counted "
                f"({100 * step['mfu_6n']:.1f} % by 6 x parameters x tokens)",
                f"goal: MFU of {100 * GPU_GOAL:.0f} %: {_met(step['mfu'] >= GPU_GOAL)}",
            ]
    return "\n".join(lines)


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"


def _groups(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


if __name__ == "__main__":
    main()
