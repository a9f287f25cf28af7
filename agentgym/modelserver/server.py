"""Asks a server, again where that may help, over connections that are kept.

They are those that environment servers are spoken to with (`envpool.places.http.Wire`): a request costs the same
however many sessions there are, idle connections are given up before a server hangs up, and no more requests are under
way at once than `EndpointSettings.concurrency`. To ask a model twice does no harm, so every request may be repeated.
"""

from __future__ import annotations

import itertools
import json
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from agentgym.errors import ModelError
from agentgym.modelserver.answers import (
    LONGEST_WAIT,
    Again,
    ModelRefused,
    ModelUnreachable,
    NotFound,
    Reader,
    Reply,
    Usage,
)
from agentgym.modelserver.complaints import complaints_about, complaints_about_key, is_loopback, no_such_model
from agentgym.settings import EndpointSettings
from envpool.errors import ContextFull, EpisodeFailed, ServerUnreachable
from envpool.places.endpoint import Endpoint, HttpSettings
from envpool.places.http import Wire

BACKOFF_SECONDS, BACKOFF_LIMIT = 0.5, 20.0
"""The longest pause before the first repetition, which doubles with each, and before any; drawn at random below."""

TOKEN_FIELDS: Mapping[str, Any] = {
    "logprobs": 1,
    "return_token_ids": True,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""What is sent with token ids. vLLM and SGLang would else sample as the model's own ``generation_config.json`` says."""

NO_TOKEN_IDS = "gives no token ids (vLLM does from 0.10.2 on): set model.endpoint.tokens=false"
"""What a server does that is asked for them in vain."""

DOWN = 30
"""Unanswered requests in a row that end the run, however often each was repeated."""

MODELS_SECONDS = 15.0
"""How long a server may take to list its models."""


class ModelServer:
    """Asks a server.

    Args:
        settings: where it is and how patient we are.
        model: what it calls the model, where the settings do not say.
        backoff: the longest pause before the first repetition, in seconds.

    Raises:
        ModelError: the settings are wrong, or the key is not there.
    """

    def __init__(self, settings: EndpointSettings, model: str, *, backoff: float = BACKOFF_SECONDS) -> None:
        wrong = [*complaints_about(settings), *complaints_about_key(settings)]
        if wrong:
            raise ModelError("\n".join(f"model.endpoint.{name}: {text}" for name, text in wrong))
        self.url = settings.url.rstrip("/")
        self.model = settings.model or model
        self._settings = settings
        self._backoff = backoff
        self._reader = Reader(self.url, settings)
        self._wire: Wire | None = None
        self._until = 0.0  # the server asked not to be asked before
        self._random = random.Random()  # of pauses only
        self._unanswered = 0  # requests in a row
        self._cause = ""  # why the last of them was not answered

    @property
    def usage(self) -> Usage:
        """What the answers cost so far."""
        return self._reader.usage

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keeps the connections, and closes them at the end."""
        settings = self._settings
        http = HttpSettings(
            call_seconds=settings.seconds,
            connections=settings.concurrency,
            trust_env=settings.trust_env and not is_loopback(self.url),
        )
        context = ssl.create_default_context() if self.url.startswith("https:") else None
        self._wire, self._until = Wire(Endpoint(self.url, token=settings.key), http, context), 0.0
        self._unanswered, self._cause = 0, ""
        try:
            yield
        finally:
            wire, self._wire = self._wire, None
            with trio.CancelScope(shield=True):
                await wire.aclose()

    async def ask(self, route: str, body: Mapping[str, Any]) -> Reply:
        """Sends a request until it is answered.

        Args:
            route: ``/chat/completions`` or ``/completions``.
            body: without the model's name and the options of the settings; what is None is left out.

        Raises:
            ModelError: asking on would be no use: the settings are wrong, or `DOWN` requests in a row had no answer.
            ContextFull: the conversation is too long for the model.
            ModelUnreachable: there was no readable answer.
            ModelRefused: the server will not answer this request.
        """
        self._refuse_if_down()
        answered = False
        try:
            reply = await self._ask(route, body)
            answered = True
        except ContextFull:
            answered = True
            raise
        except (ModelUnreachable, ModelRefused) as failure:
            self._cause = failure.cause
            raise
        finally:  # also where the pool waited long enough
            self._unanswered = 0 if answered else self._unanswered + 1
        return reply

    def _refuse_if_down(self) -> None:
        """Raises what ends the run once nothing was answered for long."""
        if self._unanswered >= DOWN:
            cause = self._cause or f"{self.url} did not answer before pool.policy_seconds was over"
            cure = "see to the server, then run the same command again, which plays what is missing"
            raise ModelError(f"{cause} (no answer to {DOWN} requests in a row: {cure})")

    async def _ask(self, route: str, body: Mapping[str, Any]) -> Reply:
        sent = {"model": self.model, **body, **self._settings.options}
        content = json.dumps({name: value for name, value in sent.items() if value is not None}).encode()
        for attempt in itertools.count():
            try:
                return self._reader.reply(await self._exchange("POST", route, content))
            except NotFound as missing:
                raise ModelError(await self._missing(missing)) from None
            except Again as again:
                if again.pause > LONGEST_WAIT:
                    raise again.failure from None
                # for all requests: they would be turned away as well
                self._until = max(self._until, trio.current_time() + again.pause)
                if attempt >= again.limit:
                    raise again.failure from None
            self.usage.retries += 1
            longest = min(self._backoff * 2**attempt, BACKOFF_LIMIT)
            await trio.sleep(longest * self._random.uniform(0.5, 1.0))
        raise AssertionError("the loop ends by return or raise")

    async def models(self) -> list[Mapping[str, Any]]:
        """What the server says of its models; empty if it has no list.

        Raises:
            ModelError: it does not take the key.
            ModelUnreachable: it does not answer.
        """
        found: Mapping[str, Any] = {}
        with trio.move_on_after(MODELS_SECONDS) as patience:
            try:
                found = await self._exchange("GET", "/models", None)
            except Again as again:
                raise again.failure from None
            except (NotFound, ModelRefused):
                return []
        if patience.cancelled_caught:
            raise ModelUnreachable("act", f"{self.url} did not answer in {MODELS_SECONDS:g} s")
        listed = found.get("data")
        return [one for one in listed if isinstance(one, dict) and "id" in one] if isinstance(listed, list) else []

    async def _exchange(self, method: str, route: str, content: bytes | None) -> Mapping[str, Any]:
        """Sends a request once and returns the JSON object that answers it."""
        if self._wire is None:
            raise RuntimeError("a server is asked while `connected`")
        if self._until > trio.current_time():
            await trio.sleep_until(self._until + self._backoff * self._random.random())
        try:
            answer = await self._wire.exchange(method, route, content, {})
        except ServerUnreachable as failure:
            raise self._reader.unreachable(failure.cause, answered=False) from None
        return self._reader.read(answer)

    async def _missing(self, missing: NotFound) -> str:
        """Says what is not there: the model or the whole route."""
        text = str(missing)
        try:
            names = [str(one["id"]) for one in await self.models()]
        except (EpisodeFailed, ModelError):
            names = []
        if not names and missing.model:
            ours = "model.endpoint.model, or else model.name, is what the server calls it"
            return f"{text} ({ours}; or is model.endpoint.url right? it mostly ends in /v1)"
        if not names:
            return f"{text} (is model.endpoint.url right? it mostly ends in /v1)"
        if self.model in names and self._settings.tokens:
            return f"{text} (token ids need /completions: without it set model.endpoint.tokens=false)"
        if self.model in names:
            return f"{text} (it lists {self.model}, but not for conversations: choose another model)"
        return f"{text} ({no_such_model(self.model, names)}: set model.endpoint.model)"
