"""What can be wrong with the settings of a model's server."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from agentgym.settings import EndpointSettings
from envpool import EnvPoolError
from envpool.errors import did_you_mean
from envpool.places.endpoint import Endpoint

LISTED = 10
"""How many of a server's models an error names."""

_OURS = ("messages", "model", "n", "prompt", "stream")
"""Fields of a request that `options` may not change."""

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Names of environment variables as they are written; a key that was put in their place mostly looks otherwise."""


def complaints_about(settings: EndpointSettings) -> Iterator[tuple[str, str]]:
    """Yields the name of each setting that is wrong, and what is wrong with it, with a cure.

    What may be a secret written in the wrong place is not repeated.
    """
    try:
        Endpoint(settings.url).check()
    except EnvPoolError:
        yield "url", "this is no address: write it as http://127.0.0.1:8000/v1; a key goes into an environment variable"
        return
    parts = urlsplit(settings.url)
    if parts.query or parts.fragment:
        yield "url", "leave out what begins with '?' or '#'; a key goes into an environment variable"
    if settings.key is not None:
        if not VARIABLE.fullmatch(settings.key):
            yield "key", "write the name of the environment variable that holds the key, as in OPENAI_API_KEY"
        if parts.scheme == "http" and not is_loopback(settings.url):
            yield "url", "the key would travel in the clear: use https, or a tunnel to this machine"
    if settings.tokens and settings.stop:
        yield "stop", "answers in token ids end with the model's own stop token: leave out stop, or tokens"
    for name in sorted(settings.options.keys() & set(_OURS)):
        yield f"options.{name}", "this is not for the settings to say: leave it out"
    for name, value in settings.options.items():
        if not _is_json(value):
            yield f"options.{name}", "this cannot be sent as JSON: use texts, finite numbers, lists and sections"


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def complaints_about_key(settings: EndpointSettings) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with the environment variable that should hold the key."""
    if settings.key is None or not VARIABLE.fullmatch(settings.key):
        return
    value = os.environ.get(settings.key)
    if not value:
        yield "key", f"the environment variable {settings.key} is not set"
    elif not value.isascii() or any(not letter.isprintable() or letter.isspace() for letter in value):
        yield "key", f"the environment variable {settings.key} holds more than a key: white space or odd letters"


def no_such_model(model: str, names: Sequence[str]) -> str:
    """Says which models a server has instead."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"it has {', '.join(names[:LISTED])}{more}, and no {model!r}{did_you_mean(model, names)}"


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
