"""A trajectory as a row of plain values, which Parquet, JSON and a checksum all take, and back.

    environment, version, index, item_id, sample    which problem, which try
    iteration, phase, policy, weights, sampling     who played it, how, when and what for
    prompt, acknowledgement, observation, turns     what was said; `turns` is a list of rows
    stop, score, success, error, seconds            how it ended
    tools                                           what was offered as data, as JSON text

A row goes through `json.dumps` and `json.loads` unchanged: it holds no NaN, no half characters and no tuples.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from envpool.types import Call, Completion, Schema, StopReason, Task, Trajectory, Turn

T = TypeVar("T")


class Phase(StrEnum):
    """What a trajectory was made for."""

    EXPERT = "expert"  # the expert set
    EXPLORE = "explore"  # exploration; may be learned from
    KEPT = "kept"  # what was kept of an exploration: these episodes are among the explored ones too
    EVAL = "eval"  # measurement of an iteration; never learned from
    CONTROL = "control"  # measurement of the control; never learned from
    IMPORTED = "imported"  # came from another program's file


MEASURED = (Phase.EVAL, Phase.CONTROL)
"""What is never learned from."""

OPTIONAL = frozenset({"weights", "sampling", "acknowledgement", "score", "success", "error", "tools"})
"""Columns that may be null."""

SAME_EPISODE = ("environment", "version", "index", "item_id", "sample", "policy", "stop", "seconds")
"""Columns that two rows of the same episode share; no other episode took as long to the last digit."""

_IF_ANY = ("calls", "results", "info", "tools")
"""What only some formats and environments have; where it is empty, it does not count for a fingerprint."""

_TIMINGS = ("seconds", "policy_seconds", "environment_seconds")


def to_row(
    trajectory: Trajectory,
    *,
    iteration: int,
    phase: str,
    weights: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes a row of a trajectory. Half characters (lone surrogates), which no file can hold, become U+FFFD.

    Args:
        trajectory: what to write.
        iteration: the iteration that it belongs to.
        phase: what it was made for, a `Phase`.
        weights: a hash of the weights that played it, if it was a model with known ones.
        sampling: how tokens were drawn: temperature, top_p, seed, max_tokens and the like.
    """
    return {
        "environment": _whole(trajectory.task.environment),
        "version": _whole(trajectory.version),
        "index": trajectory.task.index,
        "item_id": _whole(trajectory.item_id),
        "sample": trajectory.sample,
        "iteration": iteration,
        "phase": str(Phase(phase)),
        "policy": _whole(trajectory.policy),
        "weights": weights,
        "sampling": None if sampling is None else json.dumps(sampling, sort_keys=True, default=str),
        "prompt": _whole(trajectory.prompt),
        "acknowledgement": None if trajectory.acknowledgement is None else _whole(trajectory.acknowledgement),
        "observation": _whole(trajectory.observation),
        "turns": [_turn_row(turn) for turn in trajectory.turns],
        "stop": str(trajectory.stop),
        "score": None if trajectory.score is None else float(trajectory.score),
        "success": None if trajectory.success is None else bool(trajectory.success),
        "error": None if trajectory.error is None else _whole(trajectory.error),
        "seconds": trajectory.seconds,
        "tools": _json(list(trajectory.tools)) if trajectory.tools else None,
    }


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The inverse of `to_row`, which may have gone through JSON in between.

    Raises:
        ValueError: something that every trajectory has is missing, or the phase or the stop reason is none.
    """
    empty = [name for name, value in row.items() if value is None and name not in OPTIONAL]
    if empty:
        raise ValueError(f"{row['item_id']} has no {empty[0]}")
    Phase(row["phase"])
    task = Task(row["environment"], row["index"])
    return Trajectory(
        task=task,
        sample=row["sample"],
        policy=row["policy"],
        prompt=row["prompt"],
        observation=row["observation"],
        turns=tuple(_turn(turn) for turn in row["turns"]),
        stop=StopReason(row["stop"]),
        score=row["score"],
        success=row["success"],
        error=row["error"],
        version=row["version"],
        seconds=row["seconds"],
        item=None if row["item_id"] == task.item_id else row["item_id"],
        acknowledgement=row["acknowledgement"],
        tools=tuple(_tools(row["tools"])),
    )


def is_double(row: Mapping[str, Any], seen: set[tuple[Any, ...]]) -> bool:
    """Whether a row is what was kept of an exploration, and that episode is among others.

    Args:
        row: the row.
        seen: `same_episode` of the explored ones; what was kept is added.
    """
    if row["phase"] != Phase.KEPT:
        return False
    known = same_episode(row) in seen
    seen.add(same_episode(row))
    return known


def same_episode(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What rows of the same episode share, whatever they are kept for."""
    return tuple(row[name] for name in SAME_EPISODE)


def fingerprint(trajectories: Iterable[Trajectory]) -> str:
    """Returns a SHA-256 over everything in the trajectories but how long it took.

    Equal fingerprints mean equal data for learning, in the same order: texts, tokens, log-probabilities, scores and
    errors. Iteration, phase and the like are not part of a trajectory and do not count.
    """
    digest = hashlib.sha256()
    for trajectory in trajectories:
        row = to_row(trajectory, iteration=0, phase=Phase.EXPERT)
        for part in (row, *row["turns"]):
            for timing in _TIMINGS:
                part.pop(timing, None)
            for name in _IF_ANY:
                if name in part and not part[name]:
                    del part[name]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _turn_row(turn: Turn) -> dict[str, Any]:
    completion = turn.completion
    return {
        "text": _whole(completion.text),
        "action": None if turn.action is None else _whole(turn.action),
        "observation": _whole(turn.observation),
        "score": None if math.isnan(turn.score) else float(turn.score),
        "learned": turn.learned,
        "token_ids": None if completion.token_ids is None else list(completion.token_ids),
        "logprobs": None if completion.logprobs is None else list(completion.logprobs),
        "reasoning": _whole(completion.reasoning),
        "cut": completion.cut,
        "policy_seconds": turn.policy_seconds,
        "environment_seconds": turn.environment_seconds,
        "calls": [{"tool": _whole(call.tool), "arguments": _json(dict(call.arguments))} for call in turn.calls],
        "results": [_whole(result) for result in turn.results],
        "info": _json(dict(turn.info)) if turn.info else None,
    }


def _turn(row: Mapping[str, Any] | None) -> Turn:
    if row is None or row["text"] is None or row["observation"] is None:
        raise ValueError("a turn has no text or no observation")
    if row["learned"] is None or row["policy_seconds"] is None or row["environment_seconds"] is None:
        raise ValueError("a turn does not say whether it is learned from, or how long it took")
    if row["reasoning"] is None or row["cut"] is None:
        raise ValueError("a turn does not say whether its answer was cut, or what was thought beside it")
    if row["calls"] is None or row["results"] is None or None in row["results"]:
        raise ValueError("a turn does not say which tools were called, or what the calls caused")
    token_ids, logprobs = row["token_ids"], row["logprobs"]
    completion = Completion(
        row["text"],
        None if token_ids is None else tuple(token_ids),
        None if logprobs is None else tuple(logprobs),
        row["reasoning"],
        row["cut"],
    )
    return Turn(
        completion,
        row["action"],
        row["observation"],
        math.nan if row["score"] is None else row["score"],
        row["learned"],
        row["policy_seconds"],
        row["environment_seconds"],
        tuple(map(_call, row["calls"])),
        tuple(row["results"]),
        _read(row["info"] or "{}", dict),
    )


def _tools(text: str | None) -> list[Schema]:
    found = _read(text or "[]", list)
    if not all(isinstance(tool, dict) for tool in found):
        raise ValueError("a tool in it is not a JSON object")
    return found


def _call(call: Mapping[str, Any] | None) -> Call:
    if call is None or call["tool"] is None:
        raise ValueError("a call names no tool")
    return Call(call["tool"], _read(call["arguments"], dict))


def _read(text: str | None, kind: type[T]) -> T:
    """Reads JSON of a kind, which another program may have written."""
    try:
        found = json.loads(text or "")
    except RecursionError:
        raise ValueError("JSON in it is nested too deeply") from None
    if not isinstance(found, kind):
        raise ValueError(f"JSON in it is of type {type(found).__name__}, not {kind.__name__}")
    return found


def _json(value: Any) -> str:
    return _whole(json.dumps(value, ensure_ascii=False))


def _whole(text: str) -> str:
    """Replaces half characters, which an environment may well answer with and which must not end a run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
