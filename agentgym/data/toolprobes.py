"""Conversations with calls of tools that a chat template is made to write, so that it shows how it writes them.

A conversation is spelt with a letter a message:

    s  system message           c  a call                 r  the result of the first call
    u  first message of a user  d  words, then a call     q  the result of the second call
    U  a later one              h  thoughts, then a call
    w  words alone              p  two calls
    v  thoughts, then words
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from agentgym.data.rendering import Conversation
from envpool.syntaxes import call_id
from envpool.types import Call, Schema

FIRST, SECOND = "qz_first_zq", "qz_second_zq"
"""Tools that are called in probes."""

SAID, THOUGHTS = "qzSAIDzq", "qzTHOUGHTSzq"

MARKED: Mapping[str, str] = {
    "s": "qzSYSTEMzq",
    "u": "qzUSERzq",
    "U": "qzLATERzq",
    "w": "qzWORDSzq",
    "r": "qzRESULTzq",
    "q": "qzOTHERzq",
}
"""The text of each message."""

TIDY: Mapping[str, str] = {
    "s": "You play.\n\nBe quick.",
    "u": "You see a café ☕ and 3 doors.",
    "U": 'None:\n\n- "8,6"',
    "w": "I look.\n\nOr not.",
    "r": 'A "wall".\n\tAnd a café ☕.',
    "q": "None:\n\n- 8,6",
}
PADDED: Mapping[str, str] = {letter: f"\n {text} \n\n" for letter, text in TIDY.items()}

TEXTS = (MARKED, TIDY, PADDED)

CALLS: Sequence[Mapping[str, Any]] = (
    {"key": "qzVALUEzq"},
    {},
    {
        "zeta": 2,
        "alpha": 'café ☕ "quoted", it\'s\nnext <b>&',
        "yes": True,
        "nothing": None,
        "ratio": -0.5,
        "items": [1, "two", {"deep": [False]}],
        "Inner": {"k": "v", "empty": []},
    },
)
"""Arguments with which a tool is called; the first ones are those of all other conversations."""

STAND_IN: Sequence[Schema] = (
    {
        "type": "function",
        "function": {
            "name": "qz_tool_zq",
            "description": "does something",
            "parameters": {
                "type": "object",
                "properties": {"key": {"type": "string", "description": "a text"}},
                "required": ["key"],
            },
        },
    },
)
"""What is offered as long as nobody knows what will be."""

PROMPTED = (
    "u",
    "ucr",
    "udr",
    "uhr",
    "uprq",
    "ucrq",
    "uwU",
    "uvU",
    "ucrcr",
    "ucrdr",
    "ucrhr",
    "ucrwU",
    "ucrvU",
    "uwUcr",
)
"""Conversations that the model is to go on with."""

ENDED = ("uc", "ud", "uh", "uw", "uv", "ucrc", "ucrd", "ucrh", "ucrw", "ucrv")
"""Conversations that end with its answer."""

PROVED = ("u", "ucr", "ucrq", "uprq", "ucrcr", "uwU", "ucrwU", "uwUcr")
"""Conversations that are also written with other texts."""


class Probe(NamedTuple):
    """A conversation that a template is to write.

    Attributes:
        letters: its messages.
        prompt: whether the model is to answer.
        texts: which of `TEXTS`.
        call: which of `CALLS`.
        offered: whether tools are offered.
    """

    letters: str
    prompt: bool = True
    texts: int = 0
    call: int = 0
    offered: bool = True


def probes() -> Iterator[Probe]:
    """All conversations that a reduction looks at."""
    for system in ("s", ""):
        yield from (Probe(system + letters) for letters in PROMPTED)
        yield from (Probe(system + letters, prompt=False) for letters in ENDED)
        yield from (Probe(system + letters, texts=n) for letters in PROVED for n in range(1, len(TEXTS)))
        yield from (Probe(system + "ucr", call=n) for n in range(1, len(CALLS)))
        yield Probe(system + "uwU", offered=False)


def conversation(probe: Probe, tools: Sequence[Schema], *, parts: bool) -> Conversation:
    """What a template is given.

    Args:
        probe: the conversation.
        tools: what is offered.
        parts: whether messages are lists of parts.
    """
    messages = [message(letter, TEXTS[probe.texts], probe.call) for letter in probe.letters]
    if parts:
        for one in messages:
            one["content"] = [{"type": "text", "text": one["content"]}]
    return Conversation(messages, probe.prompt, tools=list(tools) if probe.offered else None)


def calls(letter: str, call: int = 0) -> list[Call]:
    """The calls in a message."""
    names = {"p": (FIRST, SECOND)}.get(letter, (FIRST,) if letter in "cdh" else ())
    return [Call(name, CALLS[call]) for name in names]


def message(letter: str, texts: Mapping[str, str], call: int) -> dict[str, Any]:
    """One message."""
    role = {"s": "system", "u": "user", "U": "user", "r": "tool", "q": "tool"}.get(letter, "assistant")
    content = texts["w"] if letter == "v" else SAID if letter == "d" else texts.get(letter, "")
    made: dict[str, Any] = {"role": role, "content": content}
    if letter in "vh":  # the names that templates know
        made |= {"reasoning_content": THOUGHTS, "reasoning": THOUGHTS, "thinking": THOUGHTS}
    if called := calls(letter, call):
        made["tool_calls"] = [
            {"type": "function", "id": call_id(n), "function": {"name": one.tool, "arguments": dict(one.arguments)}}
            for n, one in enumerate(called)
        ]
    if role == "tool":
        made |= {"name": FIRST if letter == "r" else SECOND, "tool_call_id": call_id(int(letter == "q"))}
    return made
