"""Through which codec a model speaks: the one of its tokenizer, with tools where a recipe's format offers them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgym.data.codec import Codec
from agentgym.data.toolcodec import ToolCodec
from agentgym.models import tokenizer_of
from agentgym.numbering import spec_of
from agentgym.settings import FormatName, ModelSettings, Recipe
from envpool.formats import format_for
from envpool.native import offered
from envpool.types import Schema


def codec_of(settings: ModelSettings, name: str) -> Codec:
    """The codec of `tokenizer_of`; made once, as long as the tokenizer and the template stay as they are.

    Raises:
        ModelError: see `tokenizer_of` and `Codec`.
    """
    files = [Path(name) / "tokenizer.json", Path(name) / "tokenizer_config.json", Path(name) / "chat_template.jinja"]
    files += [Path(settings.template).expanduser()] if settings.template else []
    age = tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)
    key = (name, settings.name, settings.template, repr(settings.template_options), age)
    if key not in _codecs:
        _codecs.clear()
        _codecs[key] = Codec(tokenizer_of(settings, name))
    return _codecs[key]


_codecs: dict[tuple[object, ...], Codec] = {}
"""The codec that was asked for last."""


def speaking(recipe: Recipe, name: str) -> Codec | ToolCodec:
    """The codec of the conversations in which a recipe has a model play.

    Args:
        recipe: the recipe.
        name: the model: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: see `codec_of`, or the chat template cannot offer the tools of the recipe's environments.
    """
    return with_tools(codec_of(recipe.model, name), tools_of(recipe))


def with_tools(codec: Codec, offers: Sequence[Sequence[Schema]]) -> Codec | ToolCodec:
    """The codec with tools, once it was made sure that they can be offered; the codec itself where there are none.

    Args:
        codec: of the model's tokenizer.
        offers: the tools of each environment.

    Raises:
        ModelError: they cannot.
    """
    if not offers:
        return codec
    codec.with_tools.offer(offers)
    return codec.with_tools


def tools_of(recipe: Recipe) -> list[Sequence[Schema]]:
    """The tools that each environment of a recipe offers as data; none where calls are text."""
    if recipe.format != FormatName.native:
        return []
    return [offered(format_for(str(recipe.format), spec_of(recipe, name))) for name in recipe.environments]
