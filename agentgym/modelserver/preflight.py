"""Looks whether a server is there, takes the key and has the model, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import trio

from agentgym.errors import ModelError
from agentgym.modelserver.answers import ModelUnreachable
from agentgym.modelserver.complaints import complaints_about_key
from agentgym.modelserver.server import NO_TOKEN_IDS, TOKEN_FIELDS, ModelServer
from agentgym.settings import EndpointSettings
from envpool import EnvPoolError

Complaints = list[tuple[str, str]]


def complaints_before_playing(
    settings: EndpointSettings, model: str, context: int, request: Mapping[str, Any]
) -> Complaints:
    """Asks a server for its models, and the model one short question, just as it will be asked later on.

    Args:
        settings: valid settings (`complaints_about` has none).
        model: `model.name`.
        context: `model.context`.
        request: what every request has besides the conversation, as its ``temperature``; ``top_k`` and ``min_p`` are
            0 where they are off.

    Returns:
        The keys of what is wrong, and what is wrong, with a cure.
    """
    wrong = [(f"model.endpoint.{name}", text) for name, text in complaints_about_key(settings)]
    return wrong or trio.run(_look, ModelServer(replace(settings, retries=1), model), settings, context, request)


async def _look(
    server: ModelServer, settings: EndpointSettings, context: int, request: Mapping[str, Any]
) -> Complaints:
    async with server.connected():
        try:
            listed = {str(one["id"]): one for one in await server.models()}
        except ModelUnreachable as failure:
            if failure.cause.startswith(f"{server.url} answered"):
                return [("model.endpoint.url", f"{failure.cause}: it runs, but is not well; its log may tell why")]
            start = "start it, as in `vllm serve NAME --port 8000`"
            return [("model.endpoint.url", f"no server answers ({failure.cause}): {start}")]
        except ModelError as error:
            return [("model.endpoint.key", str(error))]
        return _room(listed.get(server.model, {}), context) or await _probe(
            server, settings.tokens, settings.stop, request
        )


def _room(told: Mapping[str, Any], context: int) -> Complaints:
    """Whether conversations of `context` tokens fit; vLLM and SGLang tell."""
    longest = told.get("max_model_len")
    if not isinstance(longest, int) or longest >= context:
        return []
    return [("model.context", f"the server takes no more than {longest} tokens, not {context}: lower it to {longest}")]


async def _probe(server: ModelServer, tokens: bool, stop: list[str], request: Mapping[str, Any]) -> Complaints:
    """Asks: a list tells neither all models nor what they can do, and a model may refuse a temperature."""
    try:
        if tokens:
            filters = {"top_k": request.get("top_k") or -1, "min_p": request.get("min_p") or 0.0}
            body = {**request, **TOKEN_FIELDS, **filters, "prompt": [1], "max_tokens": 1}
            reply = await server.ask("/completions", body)
            if not isinstance(reply.choice.get("token_ids"), list):
                return [("model.endpoint.tokens", f"{server.url} {NO_TOKEN_IDS}")]
        else:
            filters = {name: request.get(name) or None for name in ("top_k", "min_p")}  # sent only where they are on
            body = {**request, **filters, "stop": stop or None, "messages": [{"role": "user", "content": "Say yes."}]}
            await server.ask("/chat/completions", body)
    except ModelError as error:
        return [("model.endpoint", str(error))]
    except EnvPoolError:
        pass  # it knows the model: what else it says is not about the settings
    return []
