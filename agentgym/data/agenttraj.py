"""The records in which AgentGym and its kin keep episodes (arXiv 2406.04151), to trajectories and back.

Two spellings of one conversation are read:

- AgentTraj and the evaluation of local models: ``{"conversations": [{"from": "human" | "gpt", "loss": ..., "value":
  ...}, ...], "item_id": "textcraft_50"}``, where `loss` (null for "human") says whether a message is learned from.
- rollouts of models behind an API: ``{"role": "system" | "user" | "assistant", "content": ...}`` with an optional
  ``reasoning_content``, in ``"conversations"`` or ``"messages"``.

What a record becomes:

- Message 0 holds the instructions, message 1 an acknowledgement that nobody learns from, and message 2 the first
  observation. They become `prompt`, `acknowledgement` and `observation`. Without `loss`, a first answer is taken for an
  acknowledgement if it does nothing but agree ("OK. I'll follow your instructions."), and never behind a system
  message, which is the instructions then. A record without one starts with its first observation and has an empty
  prompt. A system message goes before the prompt.
- Every further answer is a turn; a later ``loss: false`` makes it one that is not learned from. `reasoning_content`
  goes before the answer, between ``<think>`` and ``</think>``.
- An observation behind the last answer belongs to the last turn; AgentTraj has none.
- ``reward`` is the score, and the environment's own rule makes the success of it, where the environment is known; a
  file's own ``success`` is not believed, for it goes by another rule. Without reward neither is known: `score` and
  `success` are None, and the score of each turn is NaN. So it is, whatever the reward, if the record's ``stop`` says
  that the episode was cut off by a failure; one that says nothing counts as ``DONE``.
- `version` and `policy` are ``agenttraj`` unless the record says otherwise: the index counts in the original
  environment, where the same number may mean another problem than in ours (TextCraft).
- An item id that names no index, as those of ALFWorld's training set, is kept as `item`; the index is then a negative
  number made of the id, the same on every machine, which no environment has.
- Other fields of a record are not kept.

`write_record` gives AgentTraj's spelling back, for whatever was read from it message by message.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentgym.itemids import ItemId, read_item_id
from envpool.errors import MalformedAction
from envpool.formats import REACT
from envpool.spec import environments, get_spec
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

NAME = "agenttraj"
"""Policy and version of what was read from a record that names none."""

ACKNOWLEDGEMENT = "OK, I will do as you say."
"""What an agent that was never asked to acknowledge its instructions says in a file of a format that wants it."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*")
_COLLECTION = r"(?:lmrlgym_|tool_)?"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_FILE_NAME = re.compile(rf"{_COLLECTION}({_NAME.pattern})[_-](?:train|test|eval|traj)(?![a-z]).*")
_PROMISE = (
    r"(?:(?:do|try) my best(?: to \w+ (?:the|this|your) task)?|do (?:as|what) you say"
    r"|follow (?:the|these|your) (?:instructions|rules))"
)
_CONSENT = (
    r"(?:ok|okay|sure|certainly|of course|got it|(?:i )?understood|i understand(?: (?:the|these|your) \w+)?"
    rf"|(?:i will|i['\u2019]ll) {_PROMISE}(?:,? and {_PROMISE})?)"
)
_AGREEMENT = re.compile(rf"{_CONSENT}(?:[.,!] ?{_CONSENT})*[.!]?", re.IGNORECASE)
_REASONING = re.compile(r"<think>\n(.*?)\n</think>\n\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message: who speaks (``system``, ``user`` or ``assistant``), what, and whether it is learned from."""

    role: str
    text: str
    loss: bool | None = None


def read_record(record: object, samples: Counter[Task], environment: str | None = None) -> Trajectory:
    """Makes a trajectory of one record.

    Args:
        record: what JSON gave.
        samples: how often each task was read so far; counted on. Records of the same task, however their item ids are
            written, are samples 0, 1, ... of it.
        environment: of records whose item id does not tell it.

    Raises:
        ValueError: the record is damaged; says how.
    """
    if not isinstance(record, dict):
        raise ValueError("the record is no object")
    task, item = task_of(record.get("item_id"), _word(record, "environment"), environment)
    reward, stop = _reward(record), _stop(record)
    score = reward if stop.by_itself else None
    messages = _messages(record)
    prompt, acknowledgement, rest = _opening(messages)
    if len(rest) < 2:
        raise ValueError("the conversation holds no turn")
    trajectory = Trajectory(
        task=task,
        sample=samples[task],
        policy=_word(record, "policy") or NAME,
        prompt=prompt,
        observation=rest[0].text,
        turns=_turns(rest, score),
        stop=stop,
        score=score,
        success=None if score is None else _success(task.environment, score),
        error=_word(record, "error"),
        version=NAME if (version := _word(record, "version")) is None else version,
        item=item,
        acknowledgement=acknowledgement,
    )
    samples[task] += 1
    return trajectory


def write_record(trajectory: Trajectory) -> dict[str, Any]:
    """Makes a record of AgentTraj, which its trainers read. The last observation, which nobody answered, is left out.

    What this project played itself begins as they expect it: the prompt, an acknowledgement, the first observation.
    """
    conversation = [
        {
            "from": "gpt" if message.role == "assistant" else "human",
            "loss": message.loss,
            "value": message.text,
        }
        for message in _conversation(trajectory)
    ]
    return {"conversations": conversation, "item_id": trajectory.item_id}


def write_rollout(trajectory: Trajectory) -> dict[str, Any]:
    """Makes a record with roles, as those of models behind an API: with reward, last observation and where it is from.

    ``loss`` stands in the first answer, for without it that might be taken for an acknowledgement, and in answers that
    are not learned from. Reasoning without a word stays in the answer: others write an empty ``reasoning_content`` for
    none at all.
    """
    conversation: list[dict[str, Any]] = []
    for number, message in enumerate(_conversation(trajectory)):
        reasoning = _REASONING.fullmatch(message.text) if message.role == "assistant" else None
        thought = {"reasoning_content": reasoning[1]} if reasoning and reasoning[1] else {}
        said = {"role": message.role, "content": reasoning[2] if reasoning and thought else message.text}
        told = message.loss is False or number == 1
        conversation.append({**said, **thought, **({"loss": message.loss} if told else {})})
    if trajectory.turns and trajectory.turns[-1].observation:
        conversation.append({"role": "user", "content": trajectory.turns[-1].observation})
    return {
        "conversations": conversation,
        "item_id": trajectory.item_id,
        "reward": trajectory.score,
        "success": None if trajectory.success is None else int(trajectory.success),
        "environment": trajectory.task.environment,
        "version": trajectory.version,
        "policy": trajectory.policy,
        "stop": str(trajectory.stop),
        "error": trajectory.error,
    }


def task_of(item_id: object, environment: str | None = None, otherwise: str | None = None) -> tuple[Task, str | None]:
    """Reads an item id: ``textcraft_50`` is task 50 of `textcraft`, ``lmrlgym_maze_19`` task 19 of `maze`.

    Args:
        item_id: a text or a number.
        environment: the environment, where it is known for sure.
        otherwise: the environment if the item id names none that there is.

    Returns:
        The task, and the item id if the task itself is called otherwise.

    Raises:
        ValueError: the item id is missing, or nothing tells the environment.
    """
    if isinstance(item_id, int) and not isinstance(item_id, bool):
        item_id = str(item_id)
    if not isinstance(item_id, str) or not item_id:
        what = "has no 'item_id'" if item_id is None or item_id == "" else "has an 'item_id' that is no text"
        raise ValueError(f"the record {what}")
    _check_whole(item_id, "the item_id")
    try:
        read: ItemId | None = read_item_id(item_id)
    except ValueError:
        read = None
    named = read.environment if read else None
    name = environment or (named if named in environments() else None) or otherwise or named
    if name is None:
        raise ValueError(f"item_id {item_id[:60]!r} does not tell the environment, and neither does the file's name")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is no name of an environment")
    if _NUMBER.fullmatch(item_id):
        return Task(name, int(item_id)), None
    if read and read.index is not None and named == name:
        task = Task(name, read.index)
    else:
        task = Task(name, -1 - int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:6], "big"))
    return task, None if item_id == task.item_id else item_id


def environment_in(file_name: str) -> str | None:
    """The environment that a file is named after, as in ``alfworld_train.json``; None if it is after none."""
    stem = re.sub(f"^{_COLLECTION}", "", file_name.split(".")[0].lower())
    known = [name for name in environments() if re.match(rf"{re.escape(name)}(?![a-z0-9])", stem)]
    if known:
        return max(known, key=len)
    match = _FILE_NAME.fullmatch(stem)
    return match[1] if match else None


def _word(record: Mapping[str, Any], key: str) -> str | None:
    """A field that may be missing."""
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{key!r} of the record is of a wrong type")
    _check_whole(value, repr(key))
    return value


def _check_whole(text: str, name: str) -> None:
    if text != text.encode(errors="replace").decode():
        raise ValueError(f"{name} holds half a character")


def _reward(record: Mapping[str, Any]) -> float | None:
    reward = record.get("reward")
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not abs(reward) < 1e300:
        raise ValueError(f"the reward {str(reward)[:40]!r} is no number")
    return float(reward)


def _stop(record: Mapping[str, Any]) -> StopReason:
    word = _word(record, "stop")
    return StopReason.DONE if word is None else StopReason(word)


def _success(environment: str, score: float) -> bool | None:
    return get_spec(environment).success(score) if environment in environments() else None


def _messages(record: Mapping[str, Any]) -> list[_Message]:
    """Checks the conversation: the speakers take turns, a system message may stand before them."""
    conversation = record.get("conversations") or record.get("messages")
    if conversation is None or conversation == []:
        raise ValueError("the record has no 'conversations': it names a task, as AgentEval does, and no episode")
    if not isinstance(conversation, list):
        raise ValueError("'conversations' of the record is of a wrong type")
    messages: list[_Message] = []
    for number, given in enumerate(conversation):
        message = _message(given, f"message {number}")
        if message.role == "system" and number == 0:
            messages.append(message)
            continue
        spoken = number - (bool(messages) and messages[0].role == "system")
        due = "assistant" if spoken % 2 else "user"
        if message.role != due:
            due = {"assistant": "gpt", "user": "human"}[due] if "from" in given else due
            raise ValueError(f"message {number} is not from {due!r}")
        messages.append(message)
    return messages


_ROLES = {"human": "user", "gpt": "assistant"}


def _message(given: object, name: str) -> _Message:
    if not isinstance(given, dict):
        raise ValueError(f"{name} is no object")
    if "from" not in given and "role" in given:
        role, text = _text(given, "role", name), _text(given, "content", name)
        loss = _loss(given, name) if role == "assistant" and given.get("loss") is not None else None
        if given.get("reasoning_content") and role == "assistant":
            text = f"<think>\n{_text(given, 'reasoning_content', name)}\n</think>\n\n{text}"
    else:
        speaker = _text(given, "from", name)
        role, text = _ROLES.get(speaker, "nobody"), _text(given, "value", name)
        loss = _loss(given, name) if role == "assistant" else None
    _check_whole(text, name)
    return _Message(role, text, loss)


def _text(given: Mapping[str, Any], key: str, name: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{name} has no {key!r}" if value is None else f"{key!r} of {name} is of a wrong type")
    return value


def _loss(given: Mapping[str, Any], name: str) -> bool:
    loss = given.get("loss")
    if not isinstance(loss, bool):
        raise ValueError(f"{name} has no 'loss'" if loss is None else f"'loss' of {name} is of a wrong type")
    return loss


def _opening(messages: list[_Message]) -> tuple[str, str | None, list[_Message]]:
    """Takes prompt and acknowledgement off the beginning; the rest starts with the first observation."""
    before = [message.text for message in messages[:1] if message.role == "system"]
    spoken = messages[len(before) :]
    untold = not before and len(spoken) > 3 and spoken[1].loss is None
    agreed = untold and _AGREEMENT.fullmatch(spoken[1].text.strip())
    if len(spoken) > 1 and (spoken[1].loss is False or agreed):
        return "\n\n".join([*before, spoken[0].text]), spoken[1].text, spoken[2:]
    return "".join(before), None, spoken


def _turns(rest: list[_Message], score: float | None) -> tuple[Turn, ...]:
    answers, observations = rest[1::2], [message.text for message in rest[2::2]]
    observations += [""] * (len(answers) - len(observations))
    scores = [math.nan] * len(answers)
    if score is not None:
        scores[-1] = score
    return tuple(
        Turn(Completion(answer.text), _action(answer.text), observation, reached, answer.loss is not False)
        for answer, observation, reached in zip(answers, observations, scores, strict=True)
    )


def _action(text: str) -> str | None:
    reasoning = _REASONING.fullmatch(text)
    try:
        return REACT.parse(reasoning[2] if reasoning else text).action
    except MalformedAction:
        return None


def _conversation(trajectory: Trajectory) -> Iterator[_Message]:
    """What was said, from the prompt to the last answer."""
    said, turns = trajectory.acknowledgement, trajectory.turns
    # Without an acknowledgement, a first answer that is not learned from would be read as one.
    if said is not None or trajectory.prompt or (turns and not turns[0].learned):
        yield _Message("user", trajectory.prompt)
        yield _Message("assistant", ACKNOWLEDGEMENT if said is None else said, False)
    observation = trajectory.observation
    for turn in turns:
        yield _Message("user", observation)
        yield _Message("assistant", turn.completion.text, turn.learned)
        observation = turn.observation
