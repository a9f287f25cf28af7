"""The words of the pool as data: tasks, steps, turns, trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from envpool.call import Action, Call, Schema
from envpool.syntaxes import HERMES, split

__all__ = [
    "Action",
    "Call",
    "Completion",
    "Info",
    "Message",
    "Schema",
    "Split",
    "Step",
    "StopReason",
    "Task",
    "Trajectory",
    "Turn",
    "conversation",
    "exchange",
    "first_message",
    "opening",
]

Info = Mapping[str, int | float | str]
"""What an environment says besides, by name: numbers and texts, such as partial scores."""


class Split(StrEnum):
    """What a task may be used for. The splits of an environment share no task."""

    TRAIN = "train"  # expert demonstrations come from here
    EXPLORE = "explore"  # a policy may try these and learn from what succeeded
    EVAL = "eval"  # only ever measured


class StopReason(StrEnum):
    """Why an episode ended."""

    DONE = "done"  # the environment said so
    MAX_TURNS = "max_turns"  # the turn limit of the environment
    CONTEXT_FULL = "context_full"  # the policy had no room left
    TIMEOUT = "timeout"  # the time limit of the episode
    ERROR = "error"  # the environment or the policy failed
    CANCELLED = "cancelled"  # the pool was told to stop

    @property
    def by_itself(self) -> bool:
        """Whether the episode came to an end, and so has a score, rather than being cut off by a failure."""
        return self not in (StopReason.ERROR, StopReason.TIMEOUT, StopReason.CANCELLED)


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """One problem of one environment; the same index is the same problem on every machine."""

    environment: str
    index: int

    @property
    def item_id(self) -> str:
        """The name AgentTraj and AgentEval use, as in ``textcraft_31``."""
        return f"{self.environment}_{self.index}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: who speaks; ``system`` and ``tool`` only where a model calls tools in its own syntax.
        content: the text.
        calls: the calls of tools that an assistant's message holds as data.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[Call, ...] = ()

    @property
    def text(self) -> str:
        """The content, with the calls behind it in the neutral spelling."""
        return HERMES.write(self.content, self.calls)


@dataclass(frozen=True, slots=True)
class Step:
    """What one action caused.

    Attributes:
        observation: what the environment answers.
        score: the score of the episode so far, on the environment's own scale (never a delta).
        done: whether the episode is over.
        info: what else there is to know, such as partial scores; no policy sees it.
    """

    observation: str
    score: float
    done: bool
    info: Info = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy answers in one turn.

    Attributes:
        text: the whole answer, thought and action.
        token_ids: the sampled tokens, stop token included, where the policy has tokens. The pool only
            carries them: what was sampled is what is trained on.
        logprobs: the log-probability of each of `token_ids` under the policy that sampled them.
        reasoning: private thoughts that came beside `text`, as servers of thinking models give them; they are
            recorded, never read for an action. Thoughts inside `text` stay there.
        cut: whether the answer ended at a length limit and not by the policy's own decision to stop.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    reasoning: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One completion and what it caused.

    Attributes:
        completion: what the policy answered.
        action: what was sent to the environment; None where the completion held no readable action and
            `observation` is the correction.
        observation: what the policy was answered.
        score: the score of the episode after this turn, on the environment's own scale.
        learned: whether a model is trained on the completion; False where the data it comes from says so.
        policy_seconds: wall time from asking the policy to its answer.
        environment_seconds: wall time from sending the action to the observation; 0 where none was sent.
        calls: the calls of tools in the completion, in order, where the format reads calls. If there was an action, the
            first of them were carried out, as many as the episode had room for; `action` is their text, one below the
            other.
        results: what each of several calls that were carried out caused; empty if there is at most one, whose result
            is `observation`.
        info: what the environment said besides; of several actions, the last one that said a name has its value.

    Two turns are equal if the same happened in them, however long it took.
    """

    completion: Completion
    action: str | None
    observation: str
    score: float
    learned: bool = True
    policy_seconds: float = field(default=0.0, compare=False)
    environment_seconds: float = field(default=0.0, compare=False)
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()
    info: Info = field(default_factory=dict, hash=False)

    @property
    def replies(self) -> tuple[Message, ...]:
        """What the policy reads next where tools are offered as data: a message for each call, or one for none.

        A correction is said to every call that it is about, for each call of a conversation has to be answered.
        """
        if not self.calls:
            return (Message("user", self.observation),)
        if self.action is None:
            return tuple(Message("tool", self.observation) for _ in self.calls)
        return tuple(Message("tool", result) for result in self.results or (self.observation,))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one episode.

    Attributes:
        task: the problem.
        sample: which of the tries at this task (0 to K-1).
        policy: the name of the policy that played.
        prompt: the instructions given before the first observation.
        observation: the first observation; empty if the episode failed before it.
        turns: in order.
        stop: why it ended.
        score: the last score on the environment's own scale; None if the episode did not end by itself
            (``ERROR``, ``TIMEOUT``, ``CANCELLED``): a failed episode is never a number.
        success: the environment's success rule applied to `score`; None where `score` is None.
        error: where and why it failed, in one line, if `stop` is ``ERROR`` or ``TIMEOUT``; also set, with the
            score kept, if all that failed was closing the session.
        version: the version of the environment.
        seconds: wall time from opening the session to its end.
        item: what the data that it was read from calls the task, where that is another name than `Task.item_id`.
        acknowledgement: what the agent said to the prompt before it saw the first observation, in data where it was
            asked to; None in the pool, where it is not, and such an answer is no turn.
        tools: the tools that were offered to the policy as data, in the format ``native``; empty in all others.
    """

    task: Task
    sample: int
    policy: str
    prompt: str
    observation: str
    turns: tuple[Turn, ...]
    stop: StopReason
    score: float | None
    success: bool | None
    error: str | None = None
    version: str = ""
    seconds: float = 0.0
    item: str | None = None
    acknowledgement: str | None = None
    tools: Sequence[Schema] = field(default=(), hash=False)

    @property
    def item_id(self) -> str:
        """What the task is called: as in the data that the trajectory was read from, or as AgentGym calls it."""
        return self.task.item_id if self.item is None else self.item

    @property
    def messages(self) -> list[Message]:
        """The conversation; see `conversation`. The last observation, which nobody answered, is left out."""
        messages = conversation(self.prompt, self.observation, self.turns, self.tools)
        return messages[: -len(self.turns[-1].replies) if self.tools else -1] if self.turns else messages


def conversation(prompt: str, observation: str, turns: Sequence[Turn], tools: Sequence[Schema]) -> list[Message]:
    """Writes an episode as the messages of a conversation, up to what was said last.

    Where tools are offered as data, the prompt is a message of the system, answers hold their calls as data, and each
    call is answered by a message of its own. Otherwise, user and assistant take turns.

    Args:
        prompt: the instructions.
        observation: the first observation.
        turns: the turns so far.
        tools: the tools that are offered as data.
    """
    messages = opening(prompt, observation, tools)
    for turn in turns:
        messages += exchange(turn, tools)
    return messages


def opening(prompt: str, observation: str, tools: Sequence[Schema]) -> list[Message]:
    """The messages before the first answer of a `conversation`."""
    if not tools:
        return [Message("user", first_message(prompt, observation))]
    return [*([Message("system", prompt)] if prompt else []), Message("user", observation)]


def exchange(turn: Turn, tools: Sequence[Schema]) -> list[Message]:
    """The messages that a turn adds to a `conversation`: the answer, and what it was answered."""
    text = turn.completion.text
    if not tools:
        return [Message("assistant", text), Message("user", turn.observation)]
    said = split(text, tools).said if turn.calls else text
    return [Message("assistant", said, turn.calls), *turn.replies]


def first_message(prompt: str, observation: str) -> str:
    """Joins instructions and first observation into the message that opens a conversation."""
    return f"{prompt}\n\n{observation}" if prompt else observation
