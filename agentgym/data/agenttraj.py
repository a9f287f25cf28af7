"""AgentTraj JSON, the expert trajectories of AgentGym (arXiv 2406.04151), read as trajectories.

A file is a list of records ``{"item_id": "textcraft_50", "conversations": [...]}``; a message is ``{"from": "human"
| "gpt", "value": ..., "loss": ...}``, where `loss` (null for "human") says whether the message is learned from.

What a record becomes:

- Message 0 holds the instructions, message 1 is an acknowledgement that nobody learns from (``loss: false``) and
  message 2 the first observation. They become `prompt` and `observation`; the acknowledgement is dropped, for in the
  pool nobody is asked for one. A record without it starts with its first observation and has an empty prompt.
- Every further "gpt" message is a turn. A trajectory is learned from as a whole, so a record with a later
  ``loss: false`` has no place here and is set aside.
- The file says neither how an episode went nor what the last action caused: the last observation is empty, `score`
  and `success` are None, the score of each turn is NaN, and the episode counts as ``DONE``.
- `version` and `policy` are ``agenttraj``: the index counts in the original environment, where the same number may
  mean another problem than in ours (TextCraft).
- Records with the same item id are samples 0, 1, ... of that task.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from envpool.errors import MalformedAction
from envpool.formats import REACT
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

NAME = "agenttraj"
"""Policy and version of what was read from such a file."""

# "lmrlgym_maze_19" and "tool_sheet_3" carry the name of a collection before that of the environment. ALFWorld's
# training ids ("pick_..._trial_T2019...") name files, not indices, and match nothing here.
_ITEM_ID = re.compile(r"(?:lmrlgym_|tool_)?([a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*)_(0|[1-9][0-9]{0,17})")


def load_agenttraj(path: Path) -> tuple[list[Trajectory], list[str]]:
    """Reads one AgentTraj file.

    Returns:
        The trajectories of the good records in their order, and one line about each bad one: file, record (counted
        from 1) and reason.

    Raises:
        DataError: the file is missing, no JSON, or holds no trajectory at all.
    """
    trajectories: list[Trajectory] = []
    complaints: list[str] = []
    samples: Counter[Task] = Counter()
    for number, record in enumerate(_records(path), start=1):
        try:
            task = task_of(_field(record, "item_id", str, "the record"))
            trajectories.append(_trajectory(task, samples[task], _messages(record)))
            samples[task] += 1
        except ValueError as error:
            complaints.append(f"{path.name}: record {number}: {error}")
    if not trajectories:
        reason = complaints[0] if complaints else "the list is empty"
        raise DataError(f"{path} holds no trajectory ({reason}): {_CURE}")
    return trajectories, complaints


_CURE = 'name a JSON list of {"item_id": ..., "conversations": [{"from", "loss", "value"}, ...]}, as AgentTraj has it'


def task_of(item_id: str) -> Task:
    """Reads an item id: ``textcraft_50`` is task 50 of `textcraft`, ``lmrlgym_maze_19`` task 19 of `maze`.

    Raises:
        ValueError: it does not name an environment and an index.
    """
    match = _ITEM_ID.fullmatch(item_id)
    if match is None:
        raise ValueError(f"item_id {item_id[:60]!r} is not <environment>_<index>")
    return Task(match[1], int(match[2]))


def _records(path: Path) -> list[Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    try:
        records = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}): {_CURE}") from error
    if not isinstance(records, list):
        raise DataError(f"{path} is no list of records: {_CURE}")
    return records


def _field(holder: object, key: str, kind: type[Any], name: str) -> Any:
    if not isinstance(holder, dict):
        raise ValueError(f"{name} is no object")
    value = holder.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{name} has no {key!r}" if value is None else f"{key!r} of {name} is of a wrong type")
    return value


def _messages(record: object) -> list[tuple[str, bool]]:
    """Checks the conversation; returns each message with its `loss` (False for "human")."""
    conversation = _field(record, "conversations", list, "the record")
    messages: list[tuple[str, bool]] = []
    for number, message in enumerate(conversation):
        name = f"message {number}"
        speaker = "gpt" if number % 2 else "human"
        if _field(message, "from", str, name) != speaker:
            raise ValueError(f"{name} is not from {speaker!r}")
        text = _field(message, "value", str, name)
        if text != text.encode(errors="replace").decode():
            raise ValueError(f"{name} holds half a character")
        messages.append((text, _field(message, "loss", bool, name) if number % 2 else False))
    return messages


def _trajectory(task: Task, sample: int, messages: Sequence[tuple[str, bool]]) -> Trajectory:
    acknowledged = len(messages) > 1 and not messages[1][1]
    prompt, rest = (messages[0][0], messages[2:]) if acknowledged else ("", messages)
    if len(rest) < 2 or len(rest) % 2:
        raise ValueError("the conversation does not end with an answer" if rest else "the conversation holds no turn")
    answers, observations = rest[1::2], rest[2::2]
    ignored = [i for i, (_, learned) in enumerate(answers) if not learned]
    if ignored:
        position = len(messages) - len(rest) + 2 * ignored[0] + 1
        raise ValueError(f"message {position} has loss false: a trajectory is learned from as a whole")
    return Trajectory(
        task=task,
        sample=sample,
        policy=NAME,
        prompt=prompt,
        observation=rest[0][0],
        turns=tuple(
            Turn(Completion(text), _action(text), observation, math.nan)
            for (text, _), (observation, _) in zip(answers, [*observations, ("", False)], strict=True)
        ),
        stop=StopReason.DONE,
        score=None,
        success=None,
        version=NAME,
    )


def _action(text: str) -> str | None:
    try:
        return REACT.parse(text).action
    except MalformedAction:
        return None
