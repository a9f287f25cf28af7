"""What an answer of a server says: a reply, or an error, and what that means."""

from __future__ import annotations

import email.utils
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentgym.errors import ModelError
from agentgym.settings import EndpointSettings
from envpool.errors import ContextFull, PolicyFailed
from envpool.places.endpoint import Answer

LONGEST_WAIT = 120.0
"""A server that asks for a longer pause than this has used up its quota; seconds."""

AT_THE_LIMIT = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS")
"""What servers say of an answer that ended at a length limit; models behind a gateway may have words of their own."""

OVERLOADED = 5
"""So many times longer than with one that fails do we keep asking a server that says that it is busy."""

_TRANSIENT = (408, 409, 425, 429)
_BUSY = (429, 503)

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|available context size|model's context length"
    r"|maximum (context|model|prompt) length|maximum context limit|maximum number of tokens allowed"
    r"|longer than the maximum model|prompt is too long|reduce the length of the|range of input length"
    r"|tokens exceed the configured limit|exceed(s|ed)? (the )?(model|context)\b.{0,30}(length|limit|window)",
    re.IGNORECASE,
)
"""How OpenAI, vLLM, SGLang, llama.cpp and the gateways of others say that a conversation is too long."""


_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}\b((does not|doesn't|not) exist|not found|not available)"
    r"|\b(unknown|invalid|unrecognized|unsupported|no such|not a valid) model\b(?! (parameter|argument|input))",
    re.IGNORECASE,
)
"""How servers say that they have no such model, where the status does not."""

_NO_TOOLS = re.compile(r"\btools?\b|tool[ _-](choice|call)|function call", re.IGNORECASE)
"""How servers say that they take no tools."""

_BAD_KEY = re.compile(r"api[ _-]?key|(access|bearer|auth) token|authenticat|unauthori[sz]ed|credentials", re.IGNORECASE)
"""How servers say that they do not take the key, where the status does not."""


class ModelUnreachable(PolicyFailed):
    """The server gave no readable answer: refused, cut off, too late, garbage, or an error of its own.

    Attributes:
        answered: whether something answered at all.
    """

    answered = False


class ModelRefused(PolicyFailed):
    """The server will not answer this request."""


@dataclass
class Again(Exception):
    """A request that may be worth repeating.

    Attributes:
        failure: what to raise otherwise.
        limit: how often to repeat it.
        pause: seconds that the server asks to wait.
    """

    failure: ModelUnreachable
    limit: int
    pause: float = 0.0


class NotFound(Exception):
    """There is no such route or model.

    Attributes:
        model: whether the server says that it is the model.
    """

    def __init__(self, text: str, *, model: bool = False) -> None:
        super().__init__(text)
        self.model = model


@dataclass
class Usage:
    """What the answers of a server cost.

    Attributes:
        requests: answers.
        retries: requests that were repeated.
        cut: answers that ended at the length limit.
        prompt_tokens: tokens read, those from a cache included.
        cached_tokens: tokens read from a cache, where the server tells.
        completion_tokens: tokens written, thinking included.
    """

    requests: int = 0
    retries: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} answers, {self.prompt_tokens:,} prompt tokens ({self.cached_tokens:,} of them cached), "
            f"{self.completion_tokens:,} completion tokens, {self.cut:,} cut at the limit, {self.retries:,} retries"
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the server.

    Attributes:
        choice: the first of its ``choices``.
        prompt_tokens: how many tokens it read; 0 if it does not tell.
        completion_tokens: how many it wrote; 0 if it does not tell.
        cut: whether the answer ended at the length limit.
    """

    choice: Mapping[str, Any]
    prompt_tokens: int
    completion_tokens: int
    cut: bool = False


class Reader:
    """Reads the answers of one server.

    Args:
        url: how errors name it.
        settings: the name of the key, and how patient we are.

    Attributes:
        usage: what the answers cost so far.
    """

    def __init__(self, url: str, settings: EndpointSettings) -> None:
        self.usage = Usage()
        self._url = url
        self._settings = settings

    def unreachable(self, what: str, *, times: int = 1, pause: float = 0.0, answered: bool = True) -> Again:
        """A failure that may pass, in one line that does not hold the key: servers repeat it."""
        failure = ModelUnreachable("act", self._without_key(what))
        failure.answered = answered
        return Again(failure, times * self._settings.retries, pause)

    def _line(self, said: str | bytes, longest: int = 300) -> str:
        """What a server said in one line that is not too long; the key goes first, for half of one is too much."""
        text = said if isinstance(said, str) else said[:100_000].decode(errors="replace")
        line = " ".join(self._without_key(text).split())
        return line if len(line) <= longest else f"{line[: longest - 3]}..."

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self._settings.key, "") if self._settings.key else ""
        return text.replace(key, "***") if key else text

    def read(self, answer: Answer) -> Mapping[str, Any]:
        """Returns the JSON object that a server answered.

        Raises:
            Again: the answer is no JSON object, or an error that may pass.
            NotFound: there is no such route or model.
            ContextFull: the conversation is too long for the model.
            ModelError: asking on would be no use.
            ModelRefused: the server will not answer this request.
        """
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            found = None
        status, error = answer.status, _error(found)
        if status == 200 and error is None:
            if isinstance(found, dict):
                return found
            raise self.unreachable(f"{self._url} answered with no JSON object: {self._line(answer.content)}")
        code = error.get("code") if error else None
        if status == 200:  # gateways wrap the errors of the servers behind them so
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
        message = self._line(error["message"] if error else answer.content)
        said = self.unreachable(f"{self._url} answered {status}: {message}").failure.cause
        raise self._meaning(status, str(code or ""), said, _seconds(answer.retry_after))

    def _meaning(self, status: int, code: str, text: str, pause: float) -> Exception:
        """What an error of the server means."""
        if status in (400, 413, 422) and _TOO_LONG.search(f"{code} {text}"):
            return ContextFull(text)
        if status == 402 or "insufficient_quota" in code:
            return ModelError(f"{text} (the account behind the key has no credit left)")
        if status in _TRANSIENT or status >= 500:
            asks = f" (it asks to wait {pause:,.0f} s)" if pause > LONGEST_WAIT else ""
            return self.unreachable(text + asks, times=OVERLOADED if status in _BUSY else 1, pause=pause)
        told = f"{code} {text}".replace(self._url, "")
        first = not self.usage.requests  # afterwards it is about the one request
        if status == 401 or (first and (status == 403 or (400 <= status < 500 and _BAD_KEY.search(told)))):
            return ModelError(f"{text} ({self._key_cure()})")
        no_model = "model_not" in code or (400 <= status < 500 and first and _NO_MODEL.search(told) is not None)
        if status in (404, 405) or no_model:
            return NotFound(text, model=no_model)
        if status < 400:
            return ModelError(f"{text} (set model.endpoint.url to the address that it points to)")
        if first:  # nothing that we send is to its liking
            return ModelError(f"{text} ({self._fields_cure(told)})")
        return ModelRefused("act", text)

    def _key_cure(self) -> str:
        if self._settings.key is None:
            return "name the environment variable that holds the key in model.endpoint.key"
        name = self._settings.key
        return (
            f"the environment variable {name} holds no key that it takes: set it, or name another in model.endpoint.key"
        )

    def _fields_cure(self, told: str) -> str:
        if _NO_TOOLS.search(told):
            return (
                "format=native needs a server that takes tools, as vLLM does with --enable-auto-tool-choice and "
                "--tool-call-parser; or set format=function_calling"
            )
        if self._settings.tokens:
            return "if it takes no token ids set model.endpoint.tokens=false"
        return "model.endpoint.options adds fields to requests and leaves some out"

    def reply(self, found: Mapping[str, Any]) -> Reply:
        """Takes the reply out of an answer, and counts what it cost.

        Raises:
            Again: there is none, or the server gave it up.
            ModelRefused: a content filter took it away.
        """
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            raise self.unreachable(f"{self._url} answered without choices: {self._line(str(found))}")
        ended = choice.get("finish_reason")
        if ended in ("abort", "error"):
            raise self.unreachable(f"{self._url} gave the answer up")
        read, written = self._count(_mapping(found.get("usage")))
        cut = ended in AT_THE_LIMIT
        self.usage.cut += cut
        if ended == "content_filter":
            raise ModelRefused("act", f"{self._url}: a content filter took the answer away")
        return Reply(choice, read, written, cut=cut)

    def _count(self, told: Mapping[str, Any]) -> tuple[int, int]:
        read, written = _number(told.get("prompt_tokens")), _number(told.get("completion_tokens"))
        cached = _mapping(told.get("prompt_tokens_details")).get("cached_tokens", told.get("prompt_cache_hit_tokens"))
        self.usage.requests += 1
        self.usage.prompt_tokens += read
        self.usage.completion_tokens += written
        self.usage.cached_tokens += _number(cached)
        return read, written


def _error(found: Any) -> dict[str, Any] | None:
    """The error that an answer holds, with a ``message``; None if it holds none."""
    if not isinstance(found, dict):
        return None
    error = found.get("error")
    if error is None and found.get("object") == "error":
        error = found
    if error is None and "choices" not in found and "data" not in found:
        error = found.get("detail") or found.get("message")
    if not error:
        return None
    if not isinstance(error, dict):
        return {"message": str(error)}
    return {**error, "message": str(error.get("message") or error)}


def _seconds(retry_after: str | None) -> float:
    """Reads ``Retry-After``: seconds, or a date."""
    if not retry_after:
        return 0.0
    try:
        wanted = float(retry_after)
    except ValueError:
        try:
            wanted = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return wanted if 0 < wanted < float("inf") else 0.0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
