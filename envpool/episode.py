"""One episode, from reset to stop: the one place where a failure becomes data."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import trio

from envpool.errors import ContextFull, EnvironmentFailed, EpisodeFailed, MalformedAction, PolicyFailed, the_one_error
from envpool.formats import ActionFormat
from envpool.guard import in_one_line, read_step, read_text
from envpool.native import offered, refused
from envpool.parsed import Parsed
from envpool.policy import Actor, Episode, Policy
from envpool.session import Call, Session, Transport, current_call
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.types import Completion, Step, StopReason, Task, Trajectory, Turn, first_message

T = TypeVar("T")

CUT = "Your answer was cut at the length limit, perhaps within its action: answer in fewer words."
"""The correction of an answer that ended at a length limit where its action may not have been complete."""

LONGEST_ANSWER = 1_000_000
"""Characters of an answer that are read; a longer one would keep all other episodes waiting."""

CLOSE_SECONDS = 10.0
"""How long closing a session may take, also while everything around it is being cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Time limits in seconds. A call that takes longer costs its own episode."""

    step_seconds: float = 60.0
    """One call to an environment: open, reset, step or close, with all that a transport repeats for it, and without
    its waiting for room on a server or for a turn there."""
    policy_seconds: float = 600.0
    """One answer of the policy."""
    episode_seconds: float = 3600.0
    """The whole episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the episodes of one environment are played.

    Attributes:
        spec: the card of the environment.
        format: how thought and action are written.
        prompt: the instructions given before the first observation.
        max_turns: the turn limit.
        limits: the time limits.
        recorder: where turns and failures are counted.
    """

    spec: EnvSpec
    format: ActionFormat
    prompt: str
    max_turns: int
    limits: Limits
    recorder: Recorder


async def run_episode(
    task: Task, sample: int, policy: Policy, transport: Transport, rules: Rules, scope: trio.CancelScope
) -> Trajectory:
    """Plays one episode and returns its record, whatever happens to it.

    Args:
        task: the problem.
        sample: which of the tries at this task.
        policy: who plays.
        transport: where sessions come from.
        rules: how it is played.
        scope: a fresh scope; whoever cancels it stops this episode, which is then recorded as ``CANCELLED``.

    Returns:
        The trajectory. Only cancellation from outside `scope` and bugs of envpool itself raise.
    """
    started = trio.current_time()
    scope.deadline = started + rules.limits.episode_seconds
    record = _Record(score=rules.spec.initial_score)
    with scope:
        try:
            async with _session(transport, rules, record) as session:
                await _play(record, session, task, sample, policy, rules)
        except EpisodeFailed as failure:
            rules.recorder.failed(failure)
            record.stop, record.error = StopReason.ERROR, in_one_line(failure)
    if scope.cancelled_caught:
        if trio.current_time() >= scope.deadline:
            record.stop, record.error = StopReason.TIMEOUT, f"took more than {rules.limits.episode_seconds:g} s"
        else:
            record.stop = StopReason.CANCELLED
    ended_by_itself = record.stop.by_itself
    return Trajectory(
        task=task,
        sample=sample,
        policy=policy.name,
        prompt=rules.prompt,
        observation=record.observation,
        turns=tuple(record.turns),
        stop=record.stop,
        score=record.score if ended_by_itself else None,
        success=rules.spec.success(record.score) if ended_by_itself else None,
        error=record.error,
        version=rules.spec.version,
        seconds=trio.current_time() - started,
        tools=offered(rules.format),
    )


@dataclass(slots=True)
class _Record:
    """What is known of an episode so far; a turn without an action counts as one."""

    score: float
    observation: str = ""
    turns: list[Turn] = field(default_factory=list)
    actions: int = 0
    stop: StopReason = StopReason.MAX_TURNS
    error: str | None = None


async def _play(record: _Record, session: Session, task: Task, sample: int, policy: Policy, rules: Rules) -> None:
    begins = _checked(await _ask_environment("reset", rules, session.reset, task.index), "reset", read_text)
    record.observation = begins
    tools = offered(rules.format)
    episode = Episode(
        task, sample, rules.spec, rules.format, session, rules.prompt, begins, turns=record.turns, tools=tools
    )
    async with _actor(policy, episode) as actor:
        message = first_message(rules.prompt, record.observation)
        while record.actions < rules.max_turns:
            place = f"turn {len(record.turns) + 1}"
            asked = trio.current_time()
            try:
                completion = await _ask_policy(place, rules, actor, message)
            except ContextFull:
                record.stop = StopReason.CONTEXT_FULL
                return
            done = await _take_turn(place, record, completion, asked, session, rules)
            if done:
                record.stop = StopReason.DONE
                return
            message = record.turns[-1].observation


async def _take_turn(
    place: str, record: _Record, completion: Completion, asked: float, session: Session, rules: Rules
) -> bool:
    """Sends the actions of a completion, or answers with the correction if it holds none; tells whether it is over."""
    policy_seconds = trio.current_time() - asked
    try:
        parsed = _read_answer(completion, rules)
    except MalformedAction as malformed:
        rules.recorder.corrections += 1
        record.actions += 1
        correction = Turn(completion, None, str(malformed), record.score, True, policy_seconds, calls=malformed.calls)
        record.turns.append(correction)
        return False
    texts = parsed.texts or (parsed.action,)
    steps: list[Step] = []
    started = trio.current_time()
    ended = started
    try:
        for action in (rules.spec.takes_calls and parsed.calls) or texts:
            where = place if len(texts) == 1 else f"{place}, call {len(steps) + 1}"
            step = _checked(await _ask_environment(where, rules, session.step, action), where, read_step)
            before, ended = ended, trio.current_time()
            rules.recorder.turn(ended - before)
            steps.append(step)
            record.score = step.score
            record.actions += 1
            if step.done or record.actions == rules.max_turns:
                break
    finally:
        if steps:  # also if one of several calls failed: those before it happened
            record.turns.append(_turn(completion, parsed, steps, policy_seconds, ended - started))
    return steps[-1].done


def _turn(completion: Completion, parsed: Parsed, steps: Sequence[Step], waited: float, seconds: float) -> Turn:
    """The record of an answer whose actions, or the first of them, were carried out."""
    last, action, results = steps[-1], parsed.action, tuple[str, ...]()
    observation, info = last.observation, last.info
    if len(parsed.texts) > 1:
        action = "\n".join(parsed.texts[: len(steps)])
    if len(steps) > 1:
        results = tuple(step.observation for step in steps)
        observation = "\n\n".join(results)
        info = {name: value for step in steps for name, value in step.info.items()}
    return Turn(completion, action, observation, last.score, True, waited, seconds, parsed.calls, results, info)


def _read_answer(completion: Completion, rules: Rules) -> Parsed:
    """Reads the actions of a completion.

    Raises:
        MalformedAction: it holds none, one that is too long, or one that may be half of what was meant.
    """
    if len(completion.text) > LONGEST_ANSWER:
        raise MalformedAction(f"Your answer is too long: only {LONGEST_ANSWER:,} characters can be read.")
    parsed = rules.format.parse(completion.text)
    try:
        if completion.cut and not _ends_itself(parsed, completion.text, rules.format):
            raise MalformedAction(CUT)
        if not parsed.texts:
            rules.spec.check_length(parsed.action)
        for text in parsed.texts:
            rules.spec.check_length(text)
    except MalformedAction as malformed:
        raise refused(malformed, parsed.calls) from None
    return parsed


def _ends_itself(parsed: Parsed, text: str, format: ActionFormat) -> bool:
    """Whether an answer that is written on would still hold the same actions."""
    try:
        longer = format.parse(f"{text}x")
    except MalformedAction:
        return False
    return (longer.action, longer.calls) == (parsed.action, parsed.calls)


@asynccontextmanager
async def _session(transport: Transport, rules: Rules, record: _Record) -> AsyncIterator[Session]:
    """Opens a session and closes it again, also while everything around is being cancelled.

    A session that does not close leaks, but what happened in it is true: the record keeps its score.
    """
    session = await _ask_environment("open", rules, transport.open, rules.spec)
    try:
        yield session
    finally:
        with trio.move_on_after(CLOSE_SECONDS, shield=True) as closing:
            try:
                await _ask_environment("close", rules, session.aclose)
            except EnvironmentFailed as failure:
                rules.recorder.failed(failure)
                record.error = in_one_line(failure)
        if closing.cancelled_caught:
            record.error = f"close: the environment took more than {CLOSE_SECONDS:g} s"


@asynccontextmanager
async def _actor(policy: Policy, episode: Episode) -> AsyncIterator[Actor]:
    """Opens an actor; what goes wrong in opening or closing it, or besides it, is the policy's failure.

    A failure of the episode itself goes on as it was, whatever the actor made of it: one that owns a nursery wraps it
    in a group, and one whose cleanup fails as well puts its own error in its place.
    """
    played: BaseException | None = None
    try:
        async with policy.actor(episode) as actor:
            try:
                yield actor
            except BaseException as error:
                played = error
                raise
    except BaseException as error:
        if played is not None:
            _let_pass(played)
        _let_pass(error)
        if isinstance(played, EpisodeFailed):
            raise played from played.__cause__
        if isinstance(played, Exception):
            raise  # a bug of envpool
        one = the_one_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(one, EpisodeFailed):
            raise one from one.__cause__
        raise PolicyFailed("actor", in_one_line(error)) from error
    if isinstance(played, Exception):
        raise played
    if played is not None:
        raise PolicyFailed("actor", "the policy broke the episode off")


async def _ask_environment(place: str, rules: Rules, call: Callable[..., Awaitable[T]], *args: object) -> T:
    try:
        with trio.move_on_after(rules.limits.step_seconds) as limit:  # `fail_after` costs twice as much
            this = Call(limit)
            current_call.set(this)
            return await call(*args)
    except EpisodeFailed as failure:
        failure.place = place
        raise
    except BaseException as error:
        _let_pass(error)
        raise EnvironmentFailed(place, in_one_line(error)) from error
    if this.failure is not None:  # what was repeated until the time was up
        raise type(this.failure)(place, this.failure.cause)
    raise EnvironmentFailed(place, f"the environment took more than {rules.limits.step_seconds:g} s")


async def _ask_policy(place: str, rules: Rules, actor: Actor, message: str) -> Completion:
    rules.recorder.waiting += 1
    try:
        with trio.move_on_after(rules.limits.policy_seconds) as scope:
            completion = await actor.act(message)
    except (EpisodeFailed, ContextFull):
        raise
    except BaseException as error:
        _let_pass(error)
        raise PolicyFailed(place, in_one_line(error)) from error
    finally:
        rules.recorder.waiting -= 1
    if scope.cancelled_caught:
        raise PolicyFailed(place, f"the policy took more than {rules.limits.policy_seconds:g} s")
    if not isinstance(completion, Completion) or not isinstance(completion.text, str):
        raise PolicyFailed(place, f"the policy answered with {type(completion).__name__}, not with a Completion")
    if type(completion.text) is not str:
        completion = replace(completion, text=str.__str__(completion.text))
    return completion


def _checked(returned: object, place: str, read: Callable[[object, str], T]) -> T:
    """Reads what an environment returned, which may still raise anything where a class of its own is looked at."""
    try:
        return read(returned, place)
    except EnvironmentFailed:
        raise
    except BaseException as error:
        _let_pass(error)
        raise EnvironmentFailed(place, in_one_line(error)) from error


def _let_pass(error: BaseException) -> None:
    """Raises what must reach whoever runs us, and that only: Ctrl-C, and cancellation where something is cancelled.

    All else is a failure of this episode, also `SystemExit`: neither an environment nor a policy ends the process.
    """
    passing: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
    if trio.current_effective_deadline() == -math.inf:
        passing = (KeyboardInterrupt, trio.Cancelled)
    if isinstance(error, passing):
        raise error
    if isinstance(error, BaseExceptionGroup) and (found := error.subgroup(passing)) is not None:
        raise found
