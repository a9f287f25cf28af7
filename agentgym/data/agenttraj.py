"""The records in which AgentGym and its kin keep episodes (arXiv 2406.04151), to trajectories and back.

A conversation stands in ``conversations``, ``messages`` or ``conversation``, or in ``prompt`` and ``completion`` (texts
or messages); `messages.py` reads a message in any spelling. What a record becomes:

- Message 0 of AgentTraj holds the instructions, message 1 an acknowledgement that nobody learns from (``loss: false``),
  and message 2 the first observation. They become `prompt`, `acknowledgement` and `observation`. Elsewhere, a first
  answer is taken for an acknowledgement if it does nothing but agree ("OK. I'll follow your instructions."), and never
  behind a system message, which is the instructions then. System messages (or ``system``) go before the prompt, and the
  functions in ``tools`` behind it. Of several messages before the first answer, the last one is the observation.
- Every further answer is a turn; a mark makes it one that is not learned from, and so does its place in ``prompt``.
- An observation behind the last answer belongs to the last turn; AgentTraj has none. Several in a row are joined.
- ``reward`` is the score, and the environment's own rule makes the success of it, where the environment is known; a
  file's own ``success`` is not believed, for it goes by another rule. A reward beyond the environment's scores is an
  error. Without reward neither is known: `score` and `success` are None, and the score of each turn is NaN. So it is,
  whatever the reward, if the record's ``stop`` says that the episode was cut off by a failure; one that says nothing
  counts as ``DONE``.
- `version` and `policy` are ``agenttraj`` unless the record says otherwise: the index counts in the original
  environment, where the same number may mean another problem than in ours (`EnvSpec.renumbered`).
- An item id that names no index (`EnvSpec.item_ids`) is kept as `item`; the index is then a negative number made of
  the id, the same on every machine, which no environment has. A record without an id is called after its place in its
  file.
- Other fields of a record are not kept; which ones they are is reported.

- Where a record declares ``tools`` and calls one of them, they were offered as data, and the trajectory holds calls as
  data (`offered.py`); otherwise calls are text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from agentgym.data.conversation import LISTS, PAIRS, READ, Conversation, read_conversation, weighs
from agentgym.data.marks import marks_of
from agentgym.data.messages import check_whole, says
from agentgym.data.scores import check_score
from agentgym.itemids import ItemId, read_item_id, without_collection
from envpool import EnvSpec, environments, get_spec
from envpool.errors import MalformedAction, did_you_mean
from envpool.formats import FORMATS, REACT, ActionFormat, format_for
from envpool.native import NAME as NATIVE
from envpool.native import offered
from envpool.syntaxes import split
from envpool.tools import WITH_INPUT
from envpool.types import Call, Completion, Schema, StopReason, Task, Trajectory, Turn

NAME = "agenttraj"
"""Policy and version of what was read from a record that names none."""

ITEM_IDS = ("item_id", "id", "task_id", "example_id", "instance_id", "uid", "index")
"""Keys under which data sets name a task, the first one that is there."""

_OWN = frozenset({"environment", "policy", "version", "stop", "error", "reward", "success", "weight", "mask"})
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_FILE_NAME = re.compile(rf"({_NAME.pattern})[_-](?:train|test|eval|traj)(?![a-z]).*")
REASONING = re.compile(r"<think>\n(.*?)\n</think>\n\n(.*)", re.DOTALL)


def read_record(
    record: object,
    samples: Counter[Task],
    environment: str | None = None,
    *,
    place: str | None = None,
    remarks: set[str] | None = None,
) -> Trajectory:
    """Makes a trajectory of one record.

    Args:
        record: what JSON gave.
        samples: how often each task was read so far; counted on. Records of the same task, however their item ids are
            written, are samples 0, 1, ... of it.
        environment: of records whose item id does not tell it.
        place: what to call the task of a record that has no id, where the environment is known.
        remarks: gets what a user should know: keys that hold something and are not read, and the like.

    Raises:
        ValueError: the record is damaged; says how.
    """
    if not isinstance(record, dict):
        raise ValueError("the record is no object")
    remarks = set() if remarks is None else remarks
    own = _word(record, "environment")
    key = next((key for key in ITEM_IDS if record.get(key) not in (None, "")), ITEM_IDS[0])
    item_id = record.get(key)
    if item_id in (None, "") and place is not None and (own or environment):
        item_id = place
        remarks.add("have no item id: their tasks are called after their places in the files")
    task, item = task_of(item_id, own, environment)
    reward, stop = _reward(record), _stop(record)
    score = reward if stop.by_itself else None
    learned = weighs(record)
    conversation = read_conversation(record, remarks, _schemas(task.environment))
    if score is not None:
        check_score(task.environment, score)
    remarks.update(f"have a key {name[:60]!r} that is not read" for name in _not_read(record, key))
    remarks.update(_other_names(item, task, environment))
    trajectory = Trajectory(
        task=task,
        sample=samples[task],
        policy=_word(record, "policy") or NAME,
        prompt=conversation.prompt,
        observation=conversation.observation,
        turns=_turns(conversation, task.environment, score, learned),
        stop=stop,
        score=score,
        success=None if score is None else _success(task.environment, score),
        error=_word(record, "error"),
        version=NAME if (version := _word(record, "version")) is None else version,
        item=item,
        acknowledgement=conversation.acknowledgement,
        tools=conversation.tools,
    )
    samples[task] += 1
    return trajectory


def _not_read(record: Mapping[str, Any], item_id: str) -> Iterator[str]:
    """The keys of a record that hold something and are not read."""
    known = {item_id, *READ, *_OWN, *marks_of(record)}
    if not any(record.get(name) for name in LISTS):
        known |= set(next((pair for pair in PAIRS if all(record.get(side) for side in pair)), ()))
    if "instructions" in record:
        known |= {"input_ids", "assistant_masks"}  # what an export made of the messages
    if isinstance(record.get("label"), bool):
        known.add("label")
    return (name for name in record if name not in known and says(record[name]))


def task_of(item_id: object, environment: str | None = None, otherwise: str | None = None) -> tuple[Task, str | None]:
    """Reads an item id: ``NAME_50`` is task 50 of an environment, and so is ``COLLECTION_NAME_50``.

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
    check_whole(item_id, "the item_id")
    try:
        read: ItemId | None = read_item_id(item_id)
    except ValueError:
        read = None
    named = read.environment if read else None
    known = named if named in environments() else None
    if known and environment in environments() and environment != known:
        raise ValueError(f"item_id {item_id[:60]!r} is of {known}, but the record's 'environment' is {environment!r}")
    name = environment or known or otherwise or named
    if name is None:
        raise ValueError(
            f"item_id {item_id[:60]!r} does not tell the environment, and neither does the file's name: "
            "name it by --environment"
        )
    check_environment(name)
    if _NUMBER.fullmatch(item_id):
        return Task(name, int(item_id)), None
    if read and read.index is not None and named == name:
        task = Task(name, read.index)
    else:
        task = Task(name, -1 - int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:6], "big"))
    return task, None if item_id == task.item_id else item_id


def _other_names(item: str | None, task: Task, environment: str | None) -> Iterator[str]:
    """Says what contradicts the environment of a record: the name of its file, or its item id."""
    if environment in environments() and environment != task.environment:
        said = f"though their file or --environment says {environment}"
        yield f"are of {task.environment} by their item ids, {said}"
    try:
        named = read_item_id(item or "").environment
    except ValueError:
        return
    if named != task.environment:
        yield f"have item ids of {named[:60]!r} and are taken for tasks of {task.environment}"


def check_environment(name: str) -> str:
    """Makes sure that an environment can be called so.

    Returns:
        What to tell the user about it; empty if there is such an environment.

    Raises:
        ValueError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is no name of an environment")
    if name in environments():
        return ""
    near = did_you_mean(name, environments())
    return f"there is no environment {name!r} here{near}: its rewards cannot be judged, and its successes are not known"


def environment_in(file_name: str) -> str | None:
    """The environment that a file is named after, as in ``alfworld_train.json``; None if it is after none."""
    stem = without_collection(file_name.split(".")[0].lower())
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
    check_whole(value, repr(key))
    return value


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


def _turns(conversation: Conversation, environment: str, score: float | None, learned: bool) -> tuple[Turn, ...]:
    scores = [math.nan] * len(conversation.answers)
    if score is not None:
        scores[-1] = score
    return tuple(
        _turn(conversation, number, environment, reached, learned and conversation.answers[number].learned is not False)
        for number, reached in enumerate(scores)
    )


def _turn(conversation: Conversation, number: int, environment: str, score: float, learned: bool) -> Turn:
    answer, results = conversation.answers[number], conversation.results[number]
    text, calls = answer.text, tuple[Call, ...]()
    if conversation.tools:
        text = answer.called.text if answer.called else answer.text
        calls = answer.called.calls if answer.called else split(text, conversation.tools).calls
    if conversation.tools and answer.carried:
        action = answer.carried.action
    elif conversation.tools:
        action = _carried_out(text, calls, len(results), environment)
    else:
        action = _action(text, environment)
    return Turn(
        Completion(text, answer.token_ids, answer.logprobs, answer.beside, answer.cut),
        action,
        conversation.observations[number],
        score,
        learned,
        calls=calls,
        results=results,
        info=answer.carried.info if answer.carried else {},
    )


def _carried_out(text: str, calls: Sequence[Call], known: int, environment: str) -> str | None:
    """The text of the calls that were carried out; None if they cannot have been."""
    if environment not in environments():
        texts = [f"{call.tool} {WITH_INPUT} {json.dumps(dict(call.arguments), ensure_ascii=False)}" for call in calls]
        return "\n".join(texts[: known or len(texts)]) or None
    try:
        parsed = format_for(NATIVE, get_spec(environment)).parse(text)
    except MalformedAction:
        return None
    return "\n".join(parsed.texts[: known or len(parsed.texts)])


def _schemas(environment: str) -> Sequence[Schema]:
    """The tools of an environment; none where it is not known."""
    return _offered(get_spec(environment)) if environment in environments() else ()


@lru_cache(maxsize=64)
def _offered(spec: EnvSpec) -> Sequence[Schema]:
    return offered(format_for(NATIVE, spec))


def _action(text: str, environment: str) -> str | None:
    reasoning = REASONING.fullmatch(text)
    for form in _formats(environment):
        try:
            return form.parse(reasoning[2] if reasoning else text).action
        except MalformedAction:
            continue
    return None


def _formats(environment: str) -> tuple[ActionFormat, ...]:
    """The formats in which an answer may be written; without the tools of an environment only one can be read."""
    return _formats_of(get_spec(environment)) if environment in environments() else (REACT,)


@lru_cache(maxsize=64)
def _formats_of(spec: EnvSpec) -> tuple[ActionFormat, ...]:
    return tuple(format_for(name, spec) for name in FORMATS if name != NATIVE)
