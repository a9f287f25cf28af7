"""The generation engine against two ways to do without one, in one run and in rotated order.

``python benchmarks/generation.py`` plays conversations of several turns whose observations come from a script, on one
thread, and prints tokens a second and ratios. ``--size small`` takes a minute; ``--device cuda --size 0.5b --graphs``
is for a GPU (with ``PYTHONPATH=.`` where agentgym is not installed; torch and transformers are enough). Seconds are CPU
time on a CPU and wall time on a GPU. The results go to ``benchmarks/results``.

The arrangements:

- *one by one*: `generate` on the whole conversation of one session at a time, and its keys and values dropped, as
  AgentGym does it. Only some of the sessions are played, and the time is scaled up.
- *padded batch*: `generate` on all conversations at once, padded on the left; nothing is kept between turns.
- *engine, lockstep*: our engine, which keeps keys and values; all sessions wait for the slowest answer of a turn.
- *engine*: the same, but a session goes on at once.
- *engine, graphs*: with ``--graphs``, the same by CUDA graphs, which were recorded before.

The models are built from their configuration with random weights. Answers are greedy, so that all arrangements should
say the same; in bfloat16 they need not, because they round differently. All arrangements have the settings of memory
that our worker processes have (see `measuring.MEMORY`).
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import measuring
import torch
from models import SIZES, build
from transformers import PreTrainedModel

from agentgym.generation.engine import Engine, Request
from agentgym.generation.sampling import Sampling
from agentgym.generation.slots import Slot

STEPS = 8
"""Tokens between two looks at who has an answer, as in `LocalPolicy`."""

GOAL = 6.0
"""How many times quicker than one by one the engine has to be."""

GPU_GOAL = 2000
"""Tokens a second that the engine has to make on a GPU."""


@dataclass(frozen=True)
class Session:
    """A conversation's script.

    Attributes:
        prompt: what it begins with.
        lengths: tokens of the answer in each turn.
        observations: what follows each answer.
    """

    prompt: list[int]
    lengths: list[int]
    observations: list[list[int]]


@dataclass(frozen=True)
class Sizes:
    """How much is played.

    Attributes:
        sessions: conversations.
        turns: answers in each.
        sample: how many of the conversations are played one by one.
        rounds: how often everything is measured.
        graphs: whether the engine is measured with CUDA graphs too.
    """

    sessions: int
    turns: int
    sample: int
    rounds: int
    graphs: bool


def script(number: int, turns: int, vocabulary: int) -> Session:
    """The script of one session, always the same."""
    rng = random.Random(number)

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]

    return Session(
        tokens(240, 360),
        [rng.randint(20, 40) for _ in range(turns)],
        [tokens(20, 60) for _ in range(turns)],
    )


def one_by_one(model: PreTrainedModel, sessions: Sequence[Session]) -> list[list[int]]:
    """Each session alone, each turn from the beginning; returns the whole conversations."""
    said = []
    for session in sessions:
        ids = list(session.prompt)
        for length, observation in zip(session.lengths, session.observations, strict=True):
            prompt = torch.tensor([ids], device=model.device)
            ids = _generate(model, prompt, torch.ones_like(prompt), length)[0].tolist() + observation
        said.append(ids)
    return said


def padded_batch(model: PreTrainedModel, sessions: Sequence[Session]) -> list[list[int]]:
    """All sessions in one batch, each turn from the beginning; returns the whole conversations."""
    said = [list(session.prompt) for session in sessions]
    for turn in range(len(sessions[0].lengths)):
        width = max(map(len, said))
        prompts = torch.tensor([[0] * (width - len(ids)) + ids for ids in said], device=model.device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in said], device=model.device)
        longest = max(session.lengths[turn] for session in sessions)
        answers = _generate(model, prompts, mask, longest)[:, width:].tolist()
        for ids, answer, session in zip(said, answers, sessions, strict=True):
            ids += answer[: session.lengths[turn]] + session.observations[turn]
    return said


@torch.inference_mode()
def _generate(model: PreTrainedModel, prompts: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
    answer: Any = model.generate(prompts, attention_mask=mask, do_sample=False, max_new_tokens=length)
    assert isinstance(answer, torch.Tensor)
    return answer


def make_engine(model: PreTrainedModel, sessions: Sequence[Session], *, graphs: bool = False) -> Engine:
    """An engine with room for all sessions."""
    return Engine(
        model,
        stop_ids=(),
        sampling=Sampling(temperature=0),
        max_tokens=max(max(session.lengths) for session in sessions),
        context=max(len(s.prompt) + sum(s.lengths) + sum(map(len, s.observations)) for s in sessions),
        batch=len(sessions),
        graphs=graphs,
    )


def with_engine(engine: Engine, sessions: Sequence[Session], *, lockstep: bool) -> list[list[int]]:
    """Our engine; returns the whole conversations."""
    engine.reset()
    said = [list(session.prompt) for session in sessions]
    slots = [Slot() for _ in sessions]
    turns = [0] * len(sessions)
    asking = list(range(len(sessions)))
    asked: dict[Request, int] = {}
    while asking or engine.busy:
        if not (lockstep and engine.busy):
            requests = {Request(slots[i], said[i], limit=sessions[i].lengths[turns[i]]): i for i in asking}
            asked |= requests
            engine.submit(requests)
            asking.clear()
        for request in engine.advance(STEPS):
            i = asked.pop(request)
            said[i] = said[i] + request.tokens + sessions[i].observations[turns[i]]
            turns[i] += 1
            if turns[i] < len(sessions[i].lengths):
                asking.append(i)
    return said


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--sample", type=int, default=4, help="how many sessions are played one by one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--graphs", action="store_true", help="measure the engine with CUDA graphs too")
    words = parser.parse_args()
    measuring.with_the_memory_of_workers()
    torch.set_num_threads(1)
    dtype = words.dtype or ("float32" if words.device == "cpu" else "bfloat16")
    model = build(words.size, words.device, getattr(torch, dtype)).eval()
    sizes = Sizes(words.sessions, words.turns, min(words.sample, words.sessions), words.rounds, words.graphs)
    report = {"size": words.size, "dtype": dtype, **measure(model, sizes, words.device)}
    print(shown(report))
    name = "generation.json" if words.device == "cpu" and words.size == "7m" else f"generation-{words.size}.json"
    measuring.write(name, report)


def measure(model: PreTrainedModel, sizes: Sizes, device: str) -> dict[str, Any]:
    """Plays everything in every arrangement."""
    sessions = [script(number, sizes.turns, model.config.vocab_size) for number in range(sizes.sessions)]
    few = sessions[: sizes.sample]
    arrangements: dict[str, Callable[[], list[list[int]]]] = {
        "one by one": lambda: one_by_one(model, few),
        "padded batch": lambda: padded_batch(model, sessions),
        "engine, lockstep": lambda: with_engine(make_engine(model, sessions), sessions, lockstep=True),
        "engine": lambda: with_engine(make_engine(model, sessions), sessions, lockstep=False),
    }
    short = [script(0, 1, model.config.vocab_size)]  # what happens once only: kernels are loaded and chosen
    one_by_one(model, short)
    with_engine(make_engine(model, short), short, lockstep=True)
    if sizes.graphs:
        recorded = make_engine(model, sessions, graphs=True)
        arrangements["engine, graphs"] = lambda: with_engine(recorded, sessions, lockstep=False)
        with_engine(recorded, sessions, lockstep=False)  # records them
    measuring.peak_memory(device)
    seconds, said = measuring.in_turns(arrangements, sizes.rounds, device)
    memory = measuring.peak_memory(device)
    seconds["one by one"] = [spent * len(sessions) / len(few) for spent in seconds["one by one"]]
    made = sum(sum(session.lengths) for session in sessions)
    rows = [
        {
            "arrangement": name,
            "seconds": round(statistics.median(spent), 3),
            "tokens_per_second": round(made / statistics.median(spent), 1),
            "ratio": round(measuring.median_ratio(seconds["one by one"], spent), 2),
            "equal": sum(a == b for a, b in zip(said["one by one"], said[name], strict=False)),
        }
        for name, spent in seconds.items()
    ]
    return {
        "machine": measuring.machine(device),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sessions": sizes.sessions,
        "turns": sizes.turns,
        "sample": sizes.sample,
        "rounds": sizes.rounds,
        "tokens": made,
        "peak_memory_gb": memory,
        "rows": rows,
    }


def shown(report: dict[str, Any]) -> str:
    """The table, and whether the goals hold."""
    rows = [
        [
            row["arrangement"],
            f"{row['seconds']:,.2f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['equal']} of {report['sample']}",
        ]
        for row in report["rows"]
    ]
    title = (
        f"{report['parameters'] / 1e6:,.1f} M parameters, {report['dtype']}; {report['sessions']} sessions of "
        f"{report['turns']} turns, {report['tokens']:,} tokens made; medians of {report['rounds']} rounds\n"
        f"{measuring.described(report['machine'])}"
    )
    text = measuring.table(title, ["arrangement", "seconds", "tokens/s", "ratio", "equal tokens"], rows)
    lines = [text, "", f"one by one: {report['sample']} of {report['sessions']} sessions, scaled up"]
    if report["peak_memory_gb"]:
        lines.append(f"most memory held: {report['peak_memory_gb']:.1f} GB")
    engines = [row for row in report["rows"] if row["arrangement"].startswith("engine")]
    slowest = min(row["ratio"] for row in engines if "graphs" not in row["arrangement"])
    reached = {
        f"the engine {GOAL:g} times as quick as one by one": slowest >= GOAL,
        "the same tokens": all(row["equal"] == report["sample"] for row in engines),
    }
    if report["machine"]["accelerator"]:
        reached[f"{GPU_GOAL:,} tokens a second"] = max(row["tokens_per_second"] for row in engines) >= GPU_GOAL
    lines += [f"goal: {goal}: {'met' if met else 'MISSED'}" for goal, met in reached.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
