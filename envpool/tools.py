'''Tools: what an environment can be told to do, as typed functions.

    @tool("get {number} {item}")
    def get(number: int, item: str) -> None:
        """takes raw items from the world"""

The text says how an action is written, with parameters in braces; ``{**}`` stands for a JSON object of all of them.
Without a text an action is ``NAME with Action Input: {...}``, as AgentGym's tool servers read it. The function need not
do anything: where the rules live elsewhere its signature is all there is, and a default of ``...`` says that a
parameter may be left out. `Toolbox` (in `envpool.calls`) writes and reads the calls.

Types are those that JSON has (``str``, ``int``, ``float``, ``bool``, ``None``, ``list``, ``dict``, ``Any``), made more
exact by ``Literal``, ``Enum``, ``list[int]``, ``TypedDict``, dataclasses, unions and what else pydantic knows.
``Annotated[int, "counted from 1"]`` describes a parameter.
'''

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, overload

from envpool.errors import EnvPoolError, did_you_mean
from envpool.schemas import JsonSchema, choices, is_open_text, options
from envpool.signatures import parameters_of
from envpool.types import Schema

ALL = "**"
"""Stands in a text for a JSON object of all arguments."""

PLACE = re.compile(r"\{([^{}]+)\}")
"""A parameter in a text."""

WITH_INPUT = "with Action Input:"

_ADJACENT = re.compile(r"\{([^{}]+)\}(?=\{([^{}]+)\})")
_IN_TEXT = ("string", "integer", "number", "boolean")


class Tool:
    """A typed function that an environment can be told to call; made by `tool`.

    Attributes:
        name: what the function is called.
        summary: the first paragraph of its docstring.
        text: how an action is written, parameters in braces.
        function: the function.
        parameters: its parameters, in their order, without ``self``.

    Args:
        function: the function.
        text: how an action is written; None for a name and a JSON object.

    Raises:
        EnvPoolError: the signature or the text cannot be used.
    """

    def __init__(self, function: Callable[..., Any], text: str | None = None) -> None:
        self.function = function
        self.name = function.__name__
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise EnvPoolError(f"tool {self.name!r}: a tool needs a name like that of a Python function")
        self.text = f"{self.name} {WITH_INPUT} {{{ALL}}}" if text is None else text
        words = inspect.getdoc(function) or ""
        self.summary = " ".join(words.partition("\n\n")[0].split())
        self.parameters = tuple(parameters_of(self.name, function))
        self._check()

    def __repr__(self) -> str:
        return f"Tool({self.name}({', '.join(map(str, self.parameters))}), {self.text!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __get__(self, owner: object, kind: type | None = None) -> Any:
        """Makes a tool of a class work as a method of its objects."""
        return self if owner is None else MethodType(self.function, owner)

    @property
    def schema(self) -> Schema:
        """The tool as OpenAI's API describes it."""
        parameters = {
            "type": "object",
            "properties": {parameter.name: parameter.schema for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if not parameter.optional],
        }
        function = {"name": self.name, "description": self.summary, "parameters": parameters}
        return {"type": "function", "function": function}

    def run(self, arguments: Mapping[str, Any], owner: object = None) -> Any:
        """Calls the function, or the method of its name that `owner` has.

        Args:
            arguments: by name, as `Toolbox.checked` returns them.
            owner: the object whose method is called; None for the function itself.
        """
        function = self.function if owner is None else getattr(owner, self.name)
        made = {parameter.name: parameter.made for parameter in self.parameters}
        return function(**{name: made[name](value) for name, value in arguments.items()})

    def _check(self) -> None:
        """Looks whether the text and the parameters fit each other.

        Raises:
            EnvPoolError: they do not.
        """
        trouble = f"tool {self.name!r}: its text {self.text!r}"
        known = {parameter.name: parameter for parameter in self.parameters}
        named = PLACE.findall(self.text)
        for name in named:
            if name != ALL and name not in known:
                raise EnvPoolError(
                    f"{trouble} names {name!r}, which is not a parameter{did_you_mean(name, known)} "
                    f"(it has: {', '.join(known) or 'none'})"
                )
        if len(named) > len(set(named)) or (ALL in named and len(named) > 1):
            raise EnvPoolError(f"{trouble} names an argument twice")
        if ALL in named:
            return
        for first, second in _ADJACENT.findall(self.text):
            if is_open_text(known[first].schema) and is_open_text(known[second].schema):
                raise EnvPoolError(f"{trouble} has nothing between {first!r} and {second!r}: write something there")
        for parameter in self.parameters:
            if parameter.name not in named:
                raise EnvPoolError(f"{trouble} leaves {parameter.name!r} out: name it, or give no text")
            if parameter.optional and parameter.default is ...:
                raise EnvPoolError(f"{trouble} needs {parameter.name!r}, whose default is not known: give no text")
            if not _fits_text(parameter.schema):
                raise EnvPoolError(
                    f"{trouble} cannot hold '{parameter}': only a text, a number or a truth value can stand "
                    "in a text; use {**}, or give no text"
                )


def _fits_text(schema: JsonSchema) -> bool:
    """Whether the values of a schema can be told from what is around them in a text."""
    several = options(schema)
    if len(several) > 1:
        return False
    allowed = choices(several[0])
    if allowed is not None:
        return all(isinstance(choice, str | int) for choice in allowed)
    return several[0].get("type") in _IN_TEXT


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(text: str, /) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(given: Any, /) -> Any:
    """Makes a tool of a typed function: ``@tool``, or ``@tool("go to {place}")`` with the text of an action.

    Raises:
        EnvPoolError: the signature or the text cannot be used.
    """
    if isinstance(given, str):
        return lambda function: Tool(function, given)
    return Tool(given)


def tools_of(kind: type) -> Sequence[Tool]:
    """The tools that are methods of a class, in the order in which they are written."""
    found = {name: each for base in reversed(kind.__mro__) for name, each in vars(base).items()}
    return tuple(each for each in found.values() if isinstance(each, Tool))


@tool("{action}")
def act(action: str) -> None:
    """takes one action, written as the instructions say"""


ACT = act
"""The one tool of an environment that names none; every toolbox of texts has it besides."""
