"""A model behind a server as a policy: vLLM, SGLang, or a hosted model, over OpenAI's API.

As messages, the server puts the conversation into its own chat template, anew in every turn. As token ids (`tokens`),
it is sent the very transcript that a model in this process would read: it only ever grows, and what comes back is
recorded as it was sampled. In the format `native`, messages hold tools, calls and results as data.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import trio

from agentgym import progress
from agentgym.data.codec import Codec
from agentgym.data.toolcodec import ToolCodec
from agentgym.data.transcript import Transcript
from agentgym.errors import ModelError
from agentgym.generation.messages import as_openai, spoken, spoken_natively, thoughts
from agentgym.generation.sampling import Sampling
from agentgym.modelserver import NO_TOKEN_IDS, TOKEN_FIELDS, ModelServer, Reply, Usage
from agentgym.settings import EndpointSettings, GenerationSettings, Recipe
from envpool.errors import ContextFull
from envpool.policy import Actor, Episode, Load
from envpool.syntaxes import call_id, split
from envpool.types import Completion, Message, Turn


class RemotePolicy:
    """Plays with a model behind a server. Implements `envpool.policy.Policy`.

    Every request carries a seed that depends only on seed, task, sample and turn. Whether that makes a run the same
    again is up to the server: it rounds differently for other batches.

    Args:
        endpoint: the server.
        model: what it calls the model, unless `endpoint.model` does; also names the policy.
        settings: length of an answer.
        sampling: how tokens are drawn.
        seed: another seed gives other samples.
        context: most tokens of one episode, answers included.
        codec: of the model's tokenizer; needed for `endpoint.tokens` and only there. `Codec.with_tools` where tools
            are offered as data.

    Raises:
        ModelError: the settings are wrong, the key is not set, or token ids are wanted without a codec.
    """

    def __init__(
        self,
        endpoint: EndpointSettings,
        model: str,
        *,
        settings: GenerationSettings,
        sampling: Sampling,
        seed: int,
        context: int,
        codec: Codec | ToolCodec | None = None,
    ) -> None:
        if endpoint.tokens and codec is None:
            raise ModelError("token ids need the codec of the model's tokenizer")
        self.name = "/".join(Path(model).parts[-2:])  # as LocalPolicy is named
        self.server = ModelServer(endpoint, model)
        self.max_tokens = settings.max_tokens
        self._stop = endpoint.stop
        self._sampling = sampling
        self._seed = seed
        self._context = context
        self._codec = codec if endpoint.tokens else None
        self._mistake: ModelError | None = None
        self._mistaken: trio.Event | None = None

    @property
    def usage(self) -> Usage:
        """What the answers cost so far."""
        return self.server.usage

    @asynccontextmanager
    async def running(self, load: Load) -> AsyncIterator[None]:
        """Keeps the connections until it is left.

        Raises:
            RuntimeError: the policy is running already.
            ModelError: the server cannot be used as it is set up; cancels what is inside.
        """
        if self._mistaken is not None:
            raise RuntimeError("a RemotePolicy serves one pool at a time")
        self._mistake, self._mistaken = None, trio.Event()
        try:
            async with self.server.connected(), trio.open_nursery() as nursery:
                nursery.start_soon(self._end_on_mistake, self._mistaken)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._mistaken = None

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens an actor with a conversation of its own.

        Raises:
            RuntimeError: the policy is not running.
        """
        if self._mistaken is None:
            raise RuntimeError("actors live inside `running`")
        if self._codec is not None:
            yield _TokenActor(self, episode, self._codec)
        else:
            yield _ToolActor(self, episode) if episode.tools else _ChatActor(self, episode)

    async def ask(self, route: str, body: Mapping[str, Any], episode: Episode, turn: int) -> Reply:
        """Asks the server with what all requests have in common.

        Args:
            route: see `ModelServer.ask`.
            body: what this one has besides.
            episode: whose turn it is.
            turn: its number, from 0.
        """
        try:
            return await self.server.ask(
                route,
                {
                    "temperature": self._sampling.temperature,
                    "top_p": self._sampling.top_p,
                    "max_tokens": self.max_tokens,
                    "seed": request_seed(self._seed, episode.task.item_id, episode.sample, turn),
                    **body,
                },
            )
        except ModelError as mistake:
            await self.end_run(mistake)

    async def end_run(self, mistake: ModelError) -> NoReturn:
        """Raises an error out of `running`, not into the one episode that met it; does not return."""
        assert self._mistaken is not None
        self._mistake = self._mistake or mistake
        self._mistaken.set()
        await trio.sleep_forever()

    def chat_options(self) -> dict[str, Any]:
        """What is sent with messages: filters only where they are on, for not every server knows them."""
        return {
            "stop": self._stop or None,
            "top_k": self._sampling.top_k or None,
            "min_p": self._sampling.min_p or None,
        }

    def token_options(self) -> dict[str, Any]:
        """What is sent with token ids."""
        return {**TOKEN_FIELDS, "top_k": self._sampling.top_k or -1, "min_p": self._sampling.min_p}

    def check_room(self, tokens: int) -> None:
        """Makes sure that an answer fits behind so many tokens.

        Raises:
            ContextFull: it might not.
        """
        if tokens + self.max_tokens > self._context:
            raise ContextFull(
                f"{tokens} tokens and an answer of up to {self.max_tokens} do not fit in a context of {self._context}"
            )

    async def _end_on_mistake(self, mistaken: trio.Event) -> None:
        await mistaken.wait()
        assert self._mistake is not None
        raise self._mistake


class _ChatActor:
    """Remembers the messages. How many tokens they are is known from the last answer, so far as the server tells."""

    def __init__(self, policy: RemotePolicy, episode: Episode) -> None:
        self._policy = policy
        self._episode = episode
        self._messages: list[dict[str, str]] = []
        self._tokens = 0

    async def act(self, observation: str) -> Completion:
        self._policy.check_room(self._tokens)
        turn = len(self._messages) // 2
        self._messages.append({"role": "user", "content": observation})
        body = {"messages": self._messages, **self._policy.chat_options()}
        reply = await self._policy.ask("/chat/completions", body, self._episode, turn)
        said = reply.choice.get("message")
        message = said if isinstance(said, dict) else {}
        text, reasoning = spoken(message, self._episode), thoughts(message)
        self._messages.append({"role": "assistant", "content": text})
        self._tokens = reply.prompt_tokens
        if not reasoning:  # thoughts are not read again
            self._tokens += reply.completion_tokens
        return Completion(text, *_sampled(reply.choice), reasoning=reasoning, cut=reply.cut)


class _ToolActor:
    """Offers tools as data and gives results back message by message, under the ids that the server gave the calls."""

    def __init__(self, policy: RemotePolicy, episode: Episode) -> None:
        self._policy = policy
        self._episode = episode
        self._messages: list[dict[str, Any]] = [as_openai(message) for message in episode.messages]
        self._ids: list[str] = []
        self._tokens = 0
        self._count = 0

    async def act(self, observation: str) -> Completion:
        self._policy.check_room(self._tokens)
        turn = len(self._episode.turns)
        if turn:
            self._hear(self._episode.turns[-1])
        body = {"messages": self._messages, "tools": list(self._episode.tools), **self._policy.chat_options()}
        reply = await self._policy.ask("/chat/completions", body, self._episode, turn)
        said = reply.choice.get("message")
        message = said if isinstance(said, dict) else {}
        text, self._ids = spoken_natively(message)
        reasoning = thoughts(message)
        self._tokens = reply.prompt_tokens
        if not reasoning:  # thoughts are not read again
            self._tokens += reply.completion_tokens
        return Completion(text, *_sampled(reply.choice), reasoning=reasoning, cut=reply.cut)

    def _hear(self, turn: Turn) -> None:
        """Writes down the last answer and what came back. One whose calls cannot be read goes back as text."""
        text = turn.completion.text
        said = split(text, self._episode.tools).said if turn.calls else text
        ids = self._ids
        if len(ids) != len(turn.calls) or len(set(ids)) < len(ids) or "" in ids:
            ids = [call_id(self._count + number) for number in range(len(turn.calls))]
        self._count += len(turn.calls)
        self._messages.append(as_openai(Message("assistant", said, turn.calls), ids))
        self._messages += [as_openai(reply, ids[number:]) for number, reply in enumerate(turn.replies)]


class _TokenActor:
    """Keeps the transcript that a model in this process would keep."""

    def __init__(self, policy: RemotePolicy, episode: Episode, codec: Codec | ToolCodec) -> None:
        self._policy = policy
        self._episode = episode
        self._codec = codec
        self._transcript: Transcript = codec.transcript(episode.tools)
        self._turn = 0

    async def act(self, observation: str) -> Completion:
        self._transcript.hear(observation, self._episode)
        prompt = self._transcript.ids
        self._policy.check_room(len(prompt))
        body = {"prompt": prompt, "stop_token_ids": sorted(self._codec.stop_ids), **self._policy.token_options()}
        reply = await self._policy.ask("/completions", body, self._episode, self._turn)
        ids, logprobs = _sampled(reply.choice)
        wrong = self._mistake(reply.choice.get("prompt_token_ids"), ids)
        if ids is None or wrong:
            await self._policy.end_run(ModelError(f"{self._policy.server.url} {wrong}"))
        text = self._transcript.decode(ids)
        self._transcript.act(ids, logprobs)
        self._turn += 1
        return Completion(text, ids, logprobs, cut=reply.cut)

    def _mistake(self, read: object, written: Sequence[int] | None) -> str:
        """Why these are not the tokens of this model; empty if they are."""
        if written is None:
            return NO_TOKEN_IDS
        if isinstance(read, list) and read != self._transcript.ids:
            return "read another prompt than it was sent: set model.endpoint.tokens=false"
        if not all(0 <= token < self._codec.vocabulary for token in written):
            return "has another vocabulary: name the tokenizer of its model in model.name"
        return ""


def remote_policy(recipe: Recipe, sampling: Sampling, seed: int) -> RemotePolicy:
    """The policy of a recipe whose model is behind a server; tells at the end of a run what it cost.

    Raises:
        ModelError: the settings are wrong, the key is not set, or there is no such tokenizer.
    """
    endpoint = recipe.model.endpoint
    assert endpoint is not None
    codec = None
    if endpoint.tokens:
        from agentgym.codecs import speaking

        codec = speaking(recipe, recipe.model.name)
    return _TellingPolicy(
        endpoint,
        recipe.model.name,
        settings=recipe.generation,
        sampling=sampling,
        seed=seed,
        context=recipe.model.context,
        codec=codec,
    )


class _TellingPolicy(RemotePolicy):
    @asynccontextmanager
    async def running(self, load: Load) -> AsyncIterator[None]:
        async with super().running(load):
            yield
        progress.show(f"{self.name}: {self.usage}")


def request_seed(*key: int | str) -> int:
    """A seed from what names a request, as in ``request_seed(seed, "textcraft_3", 0, 2)``; fits in 31 bits."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, key)).encode()).digest()[:4], "big") >> 1


def _sampled(choice: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """The token ids of an answer and their log-probabilities, where the server gave them for every token."""
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        return None, None
    told = choice.get("logprobs")
    given = told if isinstance(told, dict) else {}
    parts = given.get("content") or []
    logprobs = given.get("token_logprobs") or [part.get("logprob") for part in parts if isinstance(part, dict)]
    if len(logprobs) != len(ids) or not all(isinstance(one, int | float) for one in logprobs):
        return tuple(ids), None
    return tuple(ids), tuple(map(float, logprobs))
