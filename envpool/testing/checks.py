"""The checks of the conformance kit: each plays, returns what it saw in one line, or raises `Failed` or `Skipped`."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeGuard

import trio

from envpool.errors import EnvironmentFailed, EnvPoolError
from envpool.session import Session
from envpool.testing.subject import Failed, Skipped, Subject, Walk, step_of, text_of
from envpool.types import Action, Split

NONSENSE = ("", "xyzzy frobnicate", "\N{SNOWMAN} {} %s \\ \"';--", "go " * 2000)
"""No environment knows these actions: nothing, words, signs that mean something elsewhere, very much."""

NO_TASK, DISTANT_TASK = -1, 10**9
"""The first index names no task of any environment, the second one of the very few."""

SAMPLE = 30
"""How many first observations of each split are compared."""


async def protocol(subject: Subject) -> str:
    """Answers have their types, and scores lie in the range of the card."""
    low, high = subject.spec.score_range
    steps = 0
    async with subject.session() as session:
        for index in subject.tasks():
            walk = await subject.walk(session, index)
            steps += len(walk.steps)
            for step in walk.steps:
                if not low <= step.score <= high:
                    raise Failed(f"task {index}: the score {step.score:g} is not between {low:g} and {high:g}")
    return f"{subject.count} tasks, {steps} steps: texts, finite scores within {low:g} to {high:g}"


async def actions(subject: Subject) -> str:
    """Some available action is answered otherwise than nonsense."""
    async with subject.session() as session:
        index = subject.tasks(1)[0]
        text_of(await session.reset(index))
        try:
            found = await session.available_actions()
        except EnvPoolError as error:
            if session.environment is not None:
                raise
            raise Skipped(f"the server does not say which actions there are: {error}") from error
        if not found or not all(isinstance(action, str) for action in found):
            raise Failed(f"expected texts, got {found!r:.80}")
        try:
            nonsense = await _answer(session, index, NONSENSE[1])
        except Exception:
            nonsense = None  # which is the finding of another check
        for action in found[:20]:
            if await _answer(session, index, action) != nonsense:
                return f"{len(found)} at the start of task {index}, {action!r} is understood"
    raise Failed(f"all of them are answered like nonsense: {nonsense!r:.80}")


async def resets(subject: Subject) -> str:
    """The same index gives the same first observation, again and in another session."""
    _must_be_deterministic(subject)
    async with subject.session() as one, subject.session() as other:
        for index in subject.tasks():
            first = Walk(index, text_of(await one.reset(index)), (), ())
            first.must_equal(Walk(index, text_of(await one.reset(index)), (), ()), "after a second reset")
            first.must_equal(Walk(index, text_of(await other.reset(index)), (), ()), "in another session")
    return f"{subject.count} tasks begin alike, again and in another session"


async def repetition(subject: Subject) -> str:
    """The same actions are answered alike, again and in another session."""
    _must_be_deterministic(subject)
    async with subject.session() as one, subject.session() as other:
        for index in subject.tasks():
            walk = await subject.walk(one, index)
            walk.must_equal(await subject.repeat(one, walk), "when played again")
            walk.must_equal(await subject.repeat(other, walk), "in another session")
    return f"{subject.count} walks go alike, again and in another session"


async def isolation(subject: Subject) -> str:
    """Two sessions that are stepped by turns give what each gives alone."""
    _must_be_deterministic(subject)
    drawn = subject.tasks(2)
    walks = []
    for index in (drawn[0], drawn[-1]):
        async with subject.session() as session:
            walks.append(await subject.walk(session, index))
    async with subject.session() as one, subject.session() as other:
        sessions = (one, other)
        first = [text_of(await session.reset(walk.index)) for session, walk in zip(sessions, walks, strict=True)]
        answers: tuple[list[object], list[object]] = ([], [])
        for turn in itertools.zip_longest(*(walk.actions for walk in walks)):
            for session, action, steps in zip(sessions, turn, answers, strict=True):
                if action is not None:
                    steps.append(await session.step(action))
    for walk, start, steps in zip(walks, first, answers, strict=True):
        together = Walk(walk.index, start, walk.actions, tuple(map(step_of, steps)))
        walk.must_equal(together, "while another session is played")
    return f"tasks {walks[0].index} and {walks[1].index} by turns go as they go alone"


async def nonsense(subject: Subject) -> str:
    """An action that means nothing is answered in words and earns nothing."""
    async with subject.session() as session:
        index = subject.tasks(1)[0]
        for action in NONSENSE:
            await session.reset(index)
            try:
                step = step_of(await session.step(action))
            except EnvPoolError as error:
                raise Failed(f"{action!r:.30} is answered with an error: {error}") from error
            if not step.observation.strip():
                raise Failed(f"{action!r:.30} is answered with nothing")
            if subject.spec.success(step.score):
                raise Failed(f"{action!r:.30} is a success: score {step.score:g}")
    return f"{len(NONSENSE)} kinds are answered in words"


async def bad_index(subject: Subject) -> str:
    """An index without a task gives an error of envpool's, and harms no other session nor the next reset."""
    async with subject.session() as bystander, subject.session() as session:
        walk = await subject.walk(bystander, subject.tasks(1)[0])
        first = text_of(await bystander.reset(walk.index))
        answer = await _refusal(session, DISTANT_TASK) or f"there is a task {DISTANT_TASK}"
        refused = await _refusal(session, NO_TASK)
        if subject.spec.deterministic:
            steps = [step_of(await bystander.step(action)) for action in walk.actions]
            walk.must_equal(Walk(walk.index, first, walk.actions, tuple(steps)), "after a bad index elsewhere")
        text_of(await session.reset(walk.index))
        if refused is None and session.environment is None:
            raise Skipped(f"the server takes any index for a task, {NO_TASK} too")
        if refused is None:
            raise Failed(f"reset({NO_TASK}) is taken for a task: raise UnknownTask")
    return answer


async def closing(subject: Subject) -> str:
    """A closed session is gone: closing it again does nothing, calls fail, the server holds none more than before."""
    before = await _live(subject)
    for _ in range(3):
        async with subject.session() as session:
            await session.reset(subject.tasks(1)[0])
            await session.aclose()
            await session.aclose()
            if session.environment is None:
                await _must_be_closed(subject, session)
    after = await _live(subject)
    if before is None or after is None:
        return "3 sessions, each closed twice"
    if after > before:
        raise Failed(f"the server holds {after - before} more sessions after 3 were closed")
    return f"3 sessions, each closed twice; the server holds {after} as before"


async def concurrency(subject: Subject) -> str:
    """Many sessions at once give what they give one after the other."""
    _must_be_deterministic(subject)
    drawn = itertools.cycle(subject.tasks(subject.sessions))
    walks = []
    async with subject.session() as session:
        for _ in range(subject.sessions):
            walks.append(await subject.walk(session, next(drawn)))
    together, opened = trio.Event(), 0
    again: dict[int, Walk] = {}

    async def play(number: int) -> None:
        nonlocal opened
        async with subject.session() as session:
            opened += 1
            if opened == subject.sessions:
                together.set()
            await together.wait()
            again[number] = await subject.repeat(session, walks[number])

    async with trio.open_nursery() as nursery:
        for number in range(subject.sessions):
            nursery.start_soon(play, number)
    for number, walk in enumerate(walks):
        walk.must_equal(again[number], f"with {subject.sessions} sessions at once")
    return f"{subject.sessions} sessions at once go as one after the other"


async def splits(subject: Subject) -> str:
    """The splits share no task, and what split eval begins with is not seen in training."""
    tasks = {split: set(subject.spec.tasks(split)) for split in Split}
    for one, other in itertools.combinations(Split, 2):
        if shared := tasks[one] & tasks[other]:
            raise Failed(f"{one} and {other} share {len(shared)} tasks, task {min(shared)} for one")
    counts = ", ".join(f"{len(tasks[split])} {split}" for split in Split)
    async with subject.session() as session:
        if session.environment is None:
            return f"{counts}; none shared (first observations are compared in process only)"
        begin = {
            split: {await session.reset(index): index for index in subject.draw(split, SAMPLE)}
            for split in (Split.TRAIN, Split.EVAL)
        }
    if len(begin[Split.TRAIN].keys() | begin[Split.EVAL].keys()) < 2:
        return f"{counts}; none shared (all tasks begin alike)"
    pairs = [
        (observation, begin[Split.TRAIN][observation], begin[Split.EVAL][observation])
        for observation in sorted(begin[Split.TRAIN].keys() & begin[Split.EVAL].keys())
    ]
    if not pairs:
        return f"{counts}; none shared, up to {SAMPLE} of each begin differently"
    seen, train, held_out = pairs[0]
    if subject.spec.expert is None:
        raise Failed(f"tasks train {train} and eval {held_out} begin alike: {seen!r:.80}")
    same = sum([await _solution(subject, one) == await _solution(subject, other) for _, one, other in pairs])
    if same == len(pairs):  # fewer may be chance: what is hidden differs, and the answer is the same
        raise Failed(f"tasks train {train} and eval {held_out} begin alike and are solved alike: {seen!r:.80}")
    return f"{counts}; none shared; of {len(pairs)} pairs that begin alike, {same} are solved alike"


async def _solution(subject: Subject, index: int) -> Sequence[tuple[Action, str]]:
    """What the expert does in a task and is answered, for a world may hide more than it shows at first."""
    assert subject.spec.expert is not None
    played = []
    async with subject.session() as session:
        await session.reset(index)
        for _, action in itertools.islice(subject.spec.expert(session.environment), subject.spec.max_turns):
            step = step_of(await session.step(action))
            played.append((action, step.observation))
            if step.done:
                break
    return played


async def expert(subject: Subject) -> str:
    """The expert succeeds in tasks that demonstrations come from."""
    spec = subject.spec
    if spec.expert is None:
        raise Skipped("it has none")
    async with subject.session() as session:
        if session.environment is None:
            raise Skipped("it needs the environment in this process")
        drawn = subject.draw(Split.TRAIN, subject.count)
        for index in drawn:
            await session.reset(index)
            score = spec.initial_score
            for _, action in itertools.islice(spec.expert(session.environment), spec.max_turns):
                step = step_of(await session.step(action))
                score = step.score
                if step.done:
                    break
            if not spec.success(score):
                raise Failed(f"task {index} ends with score {score:g}: no success")
    return f"succeeds in {len(drawn)} of {len(drawn)} tasks"


async def success_rule(subject: Subject) -> str:
    """The best score is a success, and doing nothing is none."""
    await trio.lowlevel.checkpoint()
    spec, (low, high) = subject.spec, subject.spec.score_range
    if not low <= spec.initial_score <= high:
        raise Failed(f"the first score {spec.initial_score:g} is not between {low:g} and {high:g}")
    if not spec.success(high):
        raise Failed(f"the best score {high:g} is no success: it must be above {spec.success_above:g}")
    if spec.success(spec.initial_score) or spec.success(low):
        raise Failed(f"an episode succeeds without an action: the score {spec.initial_score:g} is a success")
    if spec.max_turns < 1:
        raise Failed(f"{spec.max_turns} turns are too few")
    return f"above {spec.success_above:g}, scores go from {low:g} to {high:g}"


CHECKS: Mapping[str, Callable[[Subject], Awaitable[str]]] = {
    "protocol": protocol,
    "actions": actions,
    "same resets": resets,
    "same steps": repetition,
    "isolation": isolation,
    "nonsense": nonsense,
    "bad index": bad_index,
    "close": closing,
    "concurrency": concurrency,
    "splits": splits,
    "expert": expert,
    "success rule": success_rule,
}
"""What is checked, in this order."""


def _must_be_deterministic(subject: Subject) -> None:
    if not subject.spec.deterministic:
        raise Skipped("its card says that it is not deterministic")


async def _refusal(session: Session, index: int) -> str | None:
    """Returns in which words a session refuses an index, if it does."""
    try:
        text_of(await session.reset(index))
    except EnvPoolError as error:
        if raised_itself(error):
            raise Failed(f"reset({index}) raises {error.cause}, not UnknownTask") from error
        return str(error)
    return None


def raised_itself(error: BaseException) -> TypeGuard[EnvironmentFailed]:
    """Whether an environment of this machine raised, hung or returned nonsense; servers have errors of their own."""
    return type(error) is EnvironmentFailed


async def _answer(session: Session, index: int, action: str) -> tuple[str, float, bool]:
    """Takes one action in a fresh episode; the action itself is taken out of the answer."""
    await session.reset(index)
    step = step_of(await session.step(action))
    return step.observation.replace(action, "..."), step.score, step.done


async def _must_be_closed(subject: Subject, session: Session) -> None:
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: session.step("xyzzy"),
        lambda: session.reset(subject.tasks(1)[0]),
    )
    for call in calls:
        try:
            await call()
        except EnvPoolError:
            continue
        raise Failed("a session that was closed still answers")


async def _live(subject: Subject) -> int | None:
    return None if subject.count_live is None else await subject.count_live()
