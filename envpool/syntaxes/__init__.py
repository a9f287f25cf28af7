"""How families of models write calls of tools, as plain text: to text and back.

    family    an answer taken apart; what a family is
    find      finds calls behind private thoughts, by the marks that open them
    as_json   Hermes and Qwen, Llama 3.1 and later, Mistral
    tagged    Qwen3-Coder, Qwen3.5 and later, Nemotron 3, GLM-4.5
    gemma     FunctionGemma, Gemma 4
    harmony   GPT-OSS

`read` knows all of them, so that whatever a model answers is read the same way; `HERMES` is the neutral spelling, in
which experts and imported data write. A chat template belongs to the first of `FAMILIES` that writes calls as it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from envpool.call import Schema
from envpool.errors import MalformedAction
from envpool.syntaxes.as_json import Hermes, Llama, Mistral, MistralNamed, call_id
from envpool.syntaxes.family import Answer, Family, Scan
from envpool.syntaxes.find import INVENTED, NO_CALL, RESULTS, read_marked
from envpool.syntaxes.gemma import Gemma
from envpool.syntaxes.harmony import Harmony, is_harmony, read_harmony
from envpool.syntaxes.tagged import Glm, Tagged
from envpool.thoughts import without_tags

__all__ = ["FAMILIES", "HERMES", "INVENTED", "NO_CALL", "Answer", "Family", "call_id", "read", "split", "tamed"]

HERMES = Hermes()
"""The neutral spelling."""

_FUNCTION_GEMMA = Gemma(
    name="functiongemma",
    said_as="content",
    opens="<start_function_call>",
    closes="<end_function_call>",
    quote="<escape>",
    thinks=("", ""),
)

FAMILIES: Sequence[Family] = (
    HERMES,
    Tagged(),
    Tagged(python=True),
    Tagged(gap="\n", python=True),
    Glm(),
    Llama(),
    Mistral(),
    Mistral(gap=" "),
    Mistral(ids=False),
    MistralNamed(),
    MistralNamed(ids=True),
    Gemma(),
    Gemma(null="None"),
    _FUNCTION_GEMMA,
    Harmony(),
    Harmony(first=False),
)
"""All families, each with the variants of its chat templates."""

_SCANS: Mapping[str, Scan] = {**Llama.scans, **Tagged.scans, **Mistral.scans, **Gemma.scans}

_MARKS = re.compile("|".join([*map(re.escape, _SCANS), r"<\|channel\|>", RESULTS.pattern]))


def read(text: str, tools: Sequence[Schema] = ()) -> Answer:
    """Reads an answer, whichever family wrote it.

    Args:
        text: the answer.
        tools: what was offered; tells the types of arguments that are written without quotes.

    Raises:
        MalformedAction: there is no call, or one cannot be read; the error's text is the correction to answer with.
    """
    found = read_harmony(text) if is_harmony(text) else None
    return found or read_marked(text, _SCANS, tools)


def split(text: str, tools: Sequence[Schema] = ()) -> Answer:
    """Reads an answer as `read` does; one that cannot be read has no calls."""
    try:
        return read(text, tools)
    except MalformedAction:
        return Answer(text, ())


def tamed(thought: str) -> str:
    """Writes a thought so that nothing in it is taken for a call, a result or the end of private thoughts."""
    return _MARKS.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", without_tags(thought)).strip()
