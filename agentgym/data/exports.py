"""Trajectories as records of other programs: AgentTraj, rollouts with roles and rewards, and lessons for TRL.

Where tools were offered as data, messages hold calls as data, with ids, and each is answered by a message of role
``tool``; AgentTraj holds them as text, in the neutral spelling. `read_record` reads all of them back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from agentgym.data.agenttraj import REASONING
from agentgym.data.messages import Message
from envpool.syntaxes import HERMES, call_id, split
from envpool.types import Call, Trajectory, Turn, conversation

ACKNOWLEDGEMENT = "OK, I will do as you say."
"""What an agent that was never asked to acknowledge its instructions says in a file of a format that wants it."""


def write_record(trajectory: Trajectory) -> dict[str, Any]:
    """Makes a record of AgentTraj, which its trainers read. The last observation, which nobody answered, is left out.

    What this project played itself begins as they expect it: the prompt, an acknowledgement, the first observation.
    """
    conversation = [
        {
            "from": "gpt" if message.role == "assistant" else "human",
            "loss": message.learned,
            "value": message.text,
            **({"tool_results": [result for _, result in message.results]} if message.results else {}),
        }
        for message in _conversation(trajectory)
    ]
    return {"conversations": conversation, "item_id": trajectory.item_id, **_tools(trajectory)}


def write_rollout(trajectory: Trajectory) -> dict[str, Any]:
    """Makes a record with roles, as those of models behind an API: with reward, last observation and where it is from.

    The first message is instructions and first observation, as it was played; ``instructions`` says where the former
    end. Reasoning without a word stays in the answer: others write an empty ``reasoning_content`` for none at all.
    """
    conversation: list[dict[str, Any]] = []
    for message, turn in _said(trajectory, last=True):
        if turn is None:
            conversation.append(message)
            continue
        reasoning = REASONING.fullmatch(message["content"])
        if reasoning and reasoning[1]:
            message |= {"content": reasoning[2], "reasoning_content": reasoning[1]}
        conversation.append({**message, **({} if turn.learned else {"loss": False}), **_beside(turn)})
    return {"conversations": conversation, **_facts(trajectory)}


def write_messages(trajectory: Trajectory) -> dict[str, Any]:
    """Makes a record with ``messages``, as TRL and others learn from; it says all that `read_record` can read.

    The messages are those that a model reads and writes here, up to the last answer: thoughts are in its text. Of
    every answer ``loss`` says whether it is learned from, and ``token_ids`` and ``logprobs`` what was sampled.
    """
    messages: list[dict[str, Any]] = []
    for message, turn in _said(trajectory, last=False):
        if turn is not None:
            ids, logprobs = turn.completion.token_ids, turn.completion.logprobs
            message["loss"] = turn.learned
            message |= {} if ids is None else {"token_ids": list(ids)}
            message |= {} if logprobs is None else {"logprobs": list(logprobs)}
            message |= _beside(turn)
        messages.append(message)
    last = trajectory.turns[-1] if trajectory.turns else None
    return {
        "messages": messages,
        **({"last_observation": last.observation} if last and last.observation else {}),
        **({"last_results": list(last.results)} if last and last.results else {}),
        **_facts(trajectory),
    }


def _said(trajectory: Trajectory, *, last: bool) -> Iterator[tuple[dict[str, Any], Turn | None]]:
    """The messages as they are played, and the turns of those that are answers.

    Args:
        trajectory: the episode.
        last: whether the last observation is among them, if there is one.
    """
    messages, turns = trajectory.messages, iter(trajectory.turns)
    if last and trajectory.turns and trajectory.turns[-1].observation:
        messages = conversation(trajectory.prompt, trajectory.observation, trajectory.turns, trajectory.tools)
    count = 0
    waiting: deque[dict[str, Any]] = deque()
    for message in messages:
        written: dict[str, Any] = {"role": message.role, "content": message.content}
        turn = next(turns) if message.role == "assistant" else None
        if turn is not None and trajectory.tools:
            calls = [_call(call, call_id(number)) for number, call in enumerate(message.calls, start=count)]
            count += len(calls)
            waiting = deque(calls)
            written |= {"tool_calls": calls} if calls else {}
            written |= _carried(turn, message.content)
        elif message.role == "tool":
            call = waiting.popleft()
            written |= {"tool_call_id": call["id"], "name": call["function"]["name"]}
        yield written, turn


def _call(call: Call, identity: str) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": call.tool, "arguments": dict(call.arguments)}}


def _carried(turn: Turn, said: str) -> dict[str, Any]:
    """What cannot be told from the calls of an answer; see `called.CARRIED`."""
    text = turn.completion.text
    spelt = not turn.calls or text == HERMES.write(said, turn.calls)
    return {
        **({} if spelt else {"text": text}),
        "carried_out": turn.action,
        **({"info": dict(turn.info)} if turn.info else {}),
    }


def _tools(trajectory: Trajectory) -> dict[str, Any]:
    return {"tools": list(trajectory.tools)} if trajectory.tools else {}


def _beside(turn: Turn) -> dict[str, Any]:
    reasoning, cut = turn.completion.reasoning, turn.completion.cut
    return {**({"reasoning_beside": reasoning} if reasoning else {}), **({"cut": True} if cut else {})}


def _facts(trajectory: Trajectory) -> dict[str, Any]:
    acknowledgement = trajectory.acknowledgement
    return {
        "instructions": trajectory.prompt,
        **({} if acknowledgement is None else {"acknowledgement": acknowledgement}),
        "item_id": trajectory.item_id,
        "reward": trajectory.score,
        "success": None if trajectory.success is None else int(trajectory.success),
        "environment": trajectory.task.environment,
        "version": trajectory.version,
        "policy": trajectory.policy,
        "stop": str(trajectory.stop),
        "error": trajectory.error,
        **_tools(trajectory),
    }


def _conversation(trajectory: Trajectory) -> Iterator[Message]:
    """What was said, from the prompt to the last answer."""
    said, turns = trajectory.acknowledgement, trajectory.turns
    # Without an acknowledgement, a first answer that is not learned from would be read as one.
    if said is not None or trajectory.prompt or (turns and not turns[0].learned):
        yield Message("user", trajectory.prompt)
        yield Message("assistant", ACKNOWLEDGEMENT if said is None else said, False)
    heard = Message("user", trajectory.observation)
    for turn in turns:
        yield heard
        text = turn.completion.text
        if trajectory.tools and turn.calls:
            text = HERMES.write(split(text, trajectory.tools).said, turn.calls)
        yield Message("assistant", text, turn.learned)
        heard = Message("user", turn.observation, results=tuple(("", result) for result in turn.results))
