"""The conversation of a record: which list it is, what is instruction, what is observation and what is an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentgym.data.called import parsed
from agentgym.data.marks import marks_of, read_mark
from agentgym.data.messages import Message, check_whole, read_message
from agentgym.data.offered import functions_told, offered
from envpool.types import Schema

LISTS = ("conversations", "messages", "conversation")
"""Keys under which a record keeps its messages."""

PAIRS = (("prompt", "completion"), ("prompt", "response"))
"""Keys of a prompt and of the answer to it: texts, or messages."""

READ = frozenset(
    {*LISTS, "system", "tools", "functions", "instructions", "acknowledgement", "last_observation", "last_results"}
)
"""Keys of a record that are read here, besides those of `PAIRS`."""

_SHAPES = {
    "chosen": "a pair of a chosen and a rejected answer",
    "instruction": "an instruction with its output",
    "query": "a question with its answer",
    "question": "a question with its answer",
    "input_ids": "tokens without their text",
    "prompt": "a prompt without a completion",
    "text": "a plain text",
}

_TASK = ("item_id", "id", "task_id", "environment", *LISTS)

_PROMISE = (
    r"(?:(?:do|try) my best(?: to \w+ (?:the|this|your) task)?|do (?:as|what) you say"
    r"|follow (?:the|these|your) (?:instructions|rules))"
)
_CONSENT = (
    r"(?:ok|okay|sure|certainly|of course|got it|(?:i )?understood|i understand(?: (?:the|these|your) \w+)?"
    rf"|(?:i will|i['\u2019]ll) {_PROMISE}(?:,? and {_PROMISE})?)"
)
_AGREEMENT = re.compile(rf"{_CONSENT}(?:[.,!] ?{_CONSENT})*[.!]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation taken apart.

    Attributes:
        prompt: the instructions before the first observation; may be empty.
        acknowledgement: what the agent said to them, in data where it was asked to.
        observation: the first observation.
        answers: what the agent did, at least once.
        observations: what each answer caused; empty where nothing is recorded.
        results: what each of several calls of an answer caused.
        tools: the tools that were offered as data; empty if calls are text.
    """

    prompt: str
    acknowledgement: str | None
    observation: str
    answers: list[Message]
    observations: list[str]
    results: list[tuple[str, ...]]
    tools: tuple[Schema, ...] = ()


def read_conversation(record: Mapping[str, Any], remarks: set[str], environment: Sequence[Schema] = ()) -> Conversation:
    """Reads the conversation of a record.

    Args:
        record: what JSON gave.
        remarks: gets what a user should know: keys that hold something and are not read.
        environment: the tools of its environment.

    Raises:
        ValueError: there is none, or something about it cannot be read; says what.
    """
    given, told = _given(record)
    messages = [read_message(each, f"message {number}", remarks) for number, each in enumerate(given)]
    for number in range(told):  # answers within a prompt are examples, and are not learned from
        if messages[number].role == "assistant":
            messages[number] = replace(messages[number], learned=False)
    tools = offered(record, messages, environment)
    if not tools:
        _check_one_call(messages)
    before = [message.text for message in messages[: _leading(messages)]]
    asked = [_system(record)] if _system(record) and _system(record) not in before else []
    before = [*asked, *before, *([] if tools else functions_told(record))]
    spoken = messages[_leading(messages) :]
    first = len(messages) - len(spoken)
    said, answers = _alternate(spoken, first)
    if isinstance(record.get("instructions"), str):
        return _as_written(record, before, said, answers, tools)
    opening = [message.text for message in said[0]]
    acknowledges = bool(answers) and _acknowledges(given, messages, first + len(said[0]), bool(before))
    if len(answers) < 1 + acknowledges:
        raise ValueError("the conversation holds no turn")
    *instructions, observation = [message.text for message in said[1]] if acknowledges else opening
    prompt = "\n\n".join([*before, *(opening if acknowledges else []), *instructions])
    acknowledgement = answers[0].text if acknowledges else None
    said, answers = said[1 + acknowledges :], answers[acknowledges:]
    heard = [_heard(answer, messages) for answer, messages in zip(answers, said, strict=True)]
    return Conversation(
        prompt,
        acknowledgement,
        observation,
        answers,
        [observed for observed, _ in heard],
        [results if tools else () for _, results in heard],
        tools,
    )


def _check_one_call(messages: Sequence[Message]) -> None:
    """Makes sure that no answer makes several calls, where they are text."""
    for number, message in enumerate(messages):
        if message.called and len(message.called.calls) > 1:
            cure = "write them as turns of their own, with what each was answered"
            makes = f"message {number} makes {len(message.called.calls)} calls at once"
            raise ValueError(f"{makes}, and a turn is one action: {cure}")


def _heard(answer: Message, messages: Sequence[Message]) -> tuple[str, tuple[str, ...]]:
    """What came back for an answer: all of it, and for each of several calls."""
    given = [result for message in messages for result in message.results]
    texts = [message.text for message in messages if not message.results]
    calls = len(answer.called.calls) if answer.called else len(given)
    if len(given) < 2 or not calls:
        return "\n\n".join(message.text for message in messages), ()
    if answer.called and {name for name, _ in given} <= set(answer.called.ids) - {""}:
        given.sort(key=lambda result: answer.called.ids.index(result[0]) if answer.called else 0)
    results = [text for _, text in given]
    if answer.carried and answer.carried.action is None:
        return results[0], ()  # the correction, once for each call
    kept = min(len(results), calls) - 1
    results = [*results[:kept], "\n\n".join([*results[kept:], *texts])]
    return "\n\n".join(results), tuple(results) if len(results) > 1 else ()


def _given(record: Mapping[str, Any]) -> tuple[list[Any], int]:
    """The messages of a record, and how many of them stand in its prompt."""
    found = {key: record[key] for key in LISTS if record.get(key)}
    if found:
        key, given = next(iter(found.items()))
        if any(other != given for other in found.values()):
            raise ValueError(f"the record has both {' and '.join(map(repr, found))}: keep one")
        given = parsed(given) if isinstance(given, str) else given
        if not isinstance(given, list):
            raise ValueError(f"{key!r} of the record is of a wrong type")
        return given, 0
    for asked, answered in PAIRS:
        if record.get(asked) and record.get(answered):
            before, after = _side(record, asked, "user"), _side(record, answered, "assistant")
            return [*before, *after], len(before)
    raise ValueError(no_conversation(record))


def no_conversation(record: Mapping[str, Any]) -> str:
    """What is there instead of a conversation, and what to do about it.

    Args:
        record: what JSON gave, or the columns of a file with anything in them that is not empty.
    """
    cure = 'write it as {"messages": [{"role", "content"}, ...]}'
    if shape := next((words for key, words in _SHAPES.items() if record.get(key)), None):
        return f"the record has no 'conversations' or 'messages', it holds {shape}: {cure}"
    if speaks := next((key for key, value in record.items() if _speaks(value)), None):
        return f"the record keeps its messages under {speaks[:60]!r}: rename it to 'messages'"
    if texts := [key for key, value in record.items() if key not in _TASK and isinstance(value, str | list) and value]:
        keys = ", ".join(repr(key[:40]) for key in texts[:6])
        return f"the record has no 'conversations' or 'messages' (it has {keys}): {cure}"
    return "the record has no 'conversations': it names a task, as AgentEval does, and no episode"


def _speaks(value: Any) -> bool:
    """Whether a value looks like a list of messages."""
    return isinstance(value, list) and any(isinstance(each, dict) and {"role", "from"} & each.keys() for each in value)


def _side(record: Mapping[str, Any], key: str, role: str) -> list[Any]:
    side = record[key]
    if isinstance(side, str):
        return [{"role": role, "content": side}]
    if not isinstance(side, list):
        raise ValueError(f"{key!r} of the record is of a wrong type")
    return side


def _leading(messages: Sequence[Message]) -> int:
    """How many system messages stand at the beginning."""
    return next((number for number, message in enumerate(messages) if message.role != "system"), len(messages))


def _system(record: Mapping[str, Any]) -> str:
    system = record.get("system")
    if not isinstance(system, str | None):
        raise ValueError("'system' of the record is of a wrong type")
    return system or ""


def _alternate(messages: Sequence[Message], first: int) -> tuple[list[list[Message]], list[Message]]:
    """What is said before each answer and behind the last one, and the answers."""
    said: list[list[Message]] = [[]]
    answers: list[Message] = []
    for number, message in enumerate(messages, start=first):
        if message.role == "user":
            said[-1].append(message)
            continue
        if message.role == "system":
            raise ValueError(f"message {number} is from 'system', which speaks first or never")
        if not said[-1]:
            due = "human" if message.spelling == "from" else "user"
            after = ", but an answer behind an answer" if answers else ""
            raise ValueError(f"message {number} is not from {due!r}{after}")
        answers.append(message)
        said.append([])
    return said, answers


def _acknowledges(given: Sequence[Any], messages: Sequence[Message], number: int, instructed: bool) -> bool:
    """Whether the first answer does nothing but agree to the instructions."""
    raw, answer = given[number], messages[number]
    if "from" in raw and raw.get("loss") is False:  # so AgentTraj says it
        return True
    untold = answer.learned is None and not instructed and len(messages) > number + 2
    return (answer.learned is False or untold) and bool(_AGREEMENT.fullmatch(answer.text.strip()))


def _as_written(
    record: Mapping[str, Any],
    before: Sequence[str],
    said: Sequence[Sequence[Message]],
    answers: list[Message],
    tools: tuple[Schema, ...],
) -> Conversation:
    """What `exports` wrote: instructions and first observation are one message, or two if tools are offered as data."""
    prompt, opening = record["instructions"], "\n\n".join(message.text for message in said[0])
    start = f"{prompt}\n\n" if prompt and not tools else ""
    acknowledgement, last = record.get("acknowledgement"), record.get("last_observation")
    if not answers:
        raise ValueError("the conversation holds no turn")
    if list(before) != ([prompt] if prompt and tools else []) or not opening.startswith(start):
        raise ValueError("the first message does not begin with the record's 'instructions'")
    if not isinstance(acknowledgement, str | None) or not isinstance(last, str | None):
        raise ValueError("'acknowledgement' or 'last_observation' of the record is of a wrong type")
    for text in (prompt, acknowledgement or "", last or ""):
        check_whole(text, "the record")
    heard = [_heard(answer, messages) for answer, messages in zip(answers, said[1:], strict=True)]
    observations, results = [observed for observed, _ in heard], [each if tools else () for _, each in heard]
    observations[-1] = observations[-1] or last or ""
    listed = record.get("last_results")
    if isinstance(listed, list) and all(isinstance(each, str) for each in listed):
        results[-1] = tuple(listed)
    return Conversation(prompt, acknowledgement, opening.removeprefix(start), answers, observations, results, tools)


def weighs(record: Mapping[str, Any]) -> bool:
    """Whether a record is learned from at all, by the marks of whole records.

    Raises:
        ValueError: a mark says something else than yes or no.
    """
    learned = read_mark({"weight": record.get("weight"), **marks_of(record)}, "the record")
    mask = record.get("mask")
    if mask is not None and str(mask).lower() not in ("user", "human", "system", "", "none"):
        raise ValueError(f"'mask' of the record is {str(mask)[:40]!r}: only what the agent says is learned from")
    return learned is not False and record.get("label") is not False
