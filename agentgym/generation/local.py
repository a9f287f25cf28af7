"""A model in this process as a policy: many episodes wait, one engine answers them together.

The engine runs in a worker thread, a few steps at a time; everything else here runs in trio's thread. In between
two runs of the engine answers are handed out and, without lockstep, new questions join.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from transformers import PreTrainedModel

from agentgym import progress
from agentgym.data.codec import Codec
from agentgym.data.toolcodec import ToolCodec
from agentgym.data.transcript import Transcript
from agentgym.errors import ModelError
from agentgym.generation.engine import Engine, Request
from agentgym.generation.sampling import Sampling, random_numbers
from agentgym.generation.slots import Slot
from agentgym.settings import GenerationSettings
from envpool.errors import ContextFull
from envpool.policy import Actor, Episode, Load
from envpool.types import Completion, Task

_STEPS = 8
"""Tokens per answer between two looks at the world: a hop into the thread costs as much as a twentieth of a step."""


class LocalPolicy:
    """Plays with a model in this process. Implements `envpool.policy.Policy`.

    With `settings.lockstep`, a batch starts when every live episode waits for an answer, in the order of task and
    sample, and nobody joins before all have theirs. The batches, hence the rounding of the floats, hence the samples
    are then the same in every run. Without it, whoever waits joins at once. Either way an answer's random
    numbers depend only on seed, task, sample and position.

    Args:
        model: what answers; see `Engine` for what it may be.
        codec: of the model's tokenizer; `Codec.with_tools` where tools are offered as data.
        settings: batch size, length of an answer, lockstep, graphs.
        sampling: how tokens are drawn.
        seed: another seed gives other samples.
        context: most tokens of one episode, answers included.
        name: how trajectories name this policy.
        slots: most episodes whose keys and values are kept between their turns; `settings.batch` if None. With more
            sessions in the pool than this, whole conversations are computed again in every turn.

    Raises:
        ModelError: an answer cannot fit in the context, or the model cannot be used.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        codec: Codec | ToolCodec,
        *,
        settings: GenerationSettings,
        sampling: Sampling,
        seed: int,
        context: int,
        name: str,
        slots: int | None = None,
    ) -> None:
        if settings.max_tokens >= context:
            raise ModelError(
                f"an answer of up to {settings.max_tokens} tokens does not fit in a context of {context}: "
                "lower generation.max_tokens or raise model.context"
            )
        self.name = name
        self.engine = Engine(
            model,
            stop_ids=codec.stop_ids,
            sampling=sampling,
            max_tokens=settings.max_tokens,
            context=context,
            batch=settings.batch,
            slots=slots,
            vocabulary=codec.vocabulary,
            graphs=model.device.type == "cuda" if settings.graphs is None else settings.graphs,
            tell=progress.show,
        )
        self._codec = codec
        self._settings = settings
        self._sampling = sampling
        self._seed = seed
        self._context = context
        self._service: _Service | None = None

    @asynccontextmanager
    async def running(self, load: Load) -> AsyncIterator[None]:
        """Serves actors until it is left. An error of the engine comes out of here and cancels what is inside.

        Raises:
            RuntimeError: the policy is running already.
        """
        if self._service is not None:
            raise RuntimeError("a LocalPolicy serves one pool at a time")
        self._service = _Service(self.engine, load, lockstep=self._settings.lockstep)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._service.serve)
                nursery.start_soon(self._service.watch_load)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._service = None
            self.engine.reset()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens an actor with a conversation of its own.

        Raises:
            RuntimeError: the policy is not running.
        """
        if self._service is None:
            raise RuntimeError("actors live inside `running`")
        service, place, slot = self._service, (episode.task, episode.sample), Slot()
        try:
            yield _LocalActor(self, service, episode, slot, self._codec.transcript(episode.tools))
        finally:
            service.release(place, slot)

    def question(self, transcript: Transcript, place: _Place, slot: Slot) -> _Question:
        """Builds what is asked of the engine.

        Raises:
            ContextFull: the answer might not fit.
        """
        position, longest = len(transcript.ids), self._settings.max_tokens
        if position + longest > self._context:
            raise ContextFull(
                f"{position} tokens and an answer of up to {longest} do not fit in a context of {self._context}"
            )
        task, sample = place
        key = (self._seed, task.item_id, sample, position)
        uniform = () if self._sampling.greedy else random_numbers(*key, count=longest)
        return _Question(place, Request(slot, list(transcript.ids), uniform))

    def completion(self, text: str, tokens: Sequence[int], logprobs: Sequence[float]) -> Completion:
        """Makes an answer of its text and tokens."""
        cut = not tokens or tokens[-1] not in self._codec.stop_ids
        return Completion(text, tuple(tokens), tuple(logprobs), cut=cut)


_Place = tuple[Task, int]  # task and sample: the order of a batch


@dataclass(eq=False, slots=True)
class _Question:
    place: _Place
    request: Request
    answered: trio.Event = field(default_factory=trio.Event)


class _LocalActor:
    def __init__(
        self, policy: LocalPolicy, service: _Service, episode: Episode, slot: Slot, transcript: Transcript
    ) -> None:
        self._policy = policy
        self._service = service
        self._episode = episode
        self._place = episode.task, episode.sample
        self._slot = slot
        self._transcript = transcript

    async def act(self, observation: str) -> Completion:
        self._transcript.hear(observation, self._episode)
        question = self._policy.question(self._transcript, self._place, self._slot)
        await self._service.ask(question)
        tokens, logprobs = question.request.tokens, question.request.logprobs
        text = self._transcript.decode(tokens)
        self._transcript.act(tokens, logprobs)
        return self._policy.completion(text, tokens, logprobs)


class _Service:
    """Collects questions and has them answered, while a policy is running."""

    def __init__(self, engine: Engine, load: Load, *, lockstep: bool) -> None:
        self._engine = engine
        self._load = load
        self._lockstep = lockstep
        self._waiting: list[_Question] = []
        self._asked: dict[Request, _Question] = {}  # what the engine works on
        self._released: list[tuple[_Place, Slot]] = []
        self._changed = trio.Event()
        self._thread = trio.CapacityLimiter(1)

    async def ask(self, question: _Question) -> None:
        """Returns when the question is answered."""
        self._waiting.append(question)
        self._changed.set()
        try:
            await question.answered.wait()
        finally:
            if question in self._waiting:
                self._waiting.remove(question)
            elif not question.answered.is_set():
                self.release(question.place, question.request.slot)  # it holds part of an answer nobody knows of

    def release(self, place: _Place, slot: Slot) -> None:
        """Frees a slot as soon as the engine is not at work."""
        self._released.append((place, slot))

    async def watch_load(self) -> None:
        """Wakes the service whenever the number of live episodes changes."""
        while True:
            await self._load.wait_change()
            self._changed.set()

    async def serve(self) -> None:
        """Answers until cancelled."""
        while True:
            while not self._ready():
                self._changed = trio.Event()
                await self._changed.wait()
            self._submit()
            while self._engine.busy:
                for request in await trio.to_thread.run_sync(self._engine.advance, _STEPS, limiter=self._thread):
                    self._asked.pop(request).answered.set()
                self._free(abandoned_only=self._lockstep)
                if not self._lockstep:
                    self._submit()

    def _ready(self) -> bool:
        if self._lockstep:
            return 0 < len(self._waiting) >= self._load.live
        return bool(self._waiting)

    def _submit(self) -> None:
        self._free()
        questions = sorted(self._waiting, key=lambda question: question.place)
        self._waiting.clear()
        self._asked.update((question.request, question) for question in questions)
        self._engine.submit(question.request for question in questions)

    def _free(self, *, abandoned_only: bool = False) -> None:
        """Frees released slots, in an order that is the same in every run.

        In lockstep it does so only between batches, because how far the episodes have come during one is a matter of
        chance; all but those whose answer nobody waits for any more.
        """
        asked = {request.slot: request for request in self._asked}
        now = [entry for entry in self._released if not abandoned_only or entry[1] in asked]
        self._released = [entry for entry in self._released if entry not in now]
        now.sort(key=lambda entry: entry[0])
        for _, slot in now:
            if slot in asked:
                self._asked.pop(asked[slot], None)
        self._engine.free(slot for _, slot in now)
