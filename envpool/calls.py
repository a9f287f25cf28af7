"""Calls of an environment's tools: checked, written as action text, read from it, and carried out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from envpool.errors import EnvPoolError, MalformedAction, did_you_mean
from envpool.schemas import Wrong, sample
from envpool.signatures import Parameter
from envpool.spec import EnvSpec
from envpool.templates import Template
from envpool.tools import ACT, ALL, WITH_INPUT, Tool
from envpool.types import Call, Schema

MOST_TROUBLES = 3
"""How many unknown arguments a correction names."""

_NAMED = re.compile(rf"(\w{{1,40}}) {WITH_INPUT}")


class Toolbox:
    """The tools of an environment and, where it takes texts, `ACT` besides: one action as text.

    Args:
        tools: the tools that the environment names; the first one serves as the example.
        lines: whether an action may have several lines (`Writing.lines`); the argument of ``act`` always may.
        calls: whether the environment takes calls: then there is no ``act``, and a text is read for what it means,
            while otherwise a call is found only if it is written with just this text.

    Raises:
        EnvPoolError: two tools have the same name, or there is none.
    """

    def __init__(self, tools: Sequence[Tool], *, lines: bool = True, calls: bool = False) -> None:
        named = [tool for tool in tools if tool is not ACT]
        if calls and not named:
            raise EnvPoolError("an environment that takes calls names its tools: give it tools=(...)")
        named = named if calls else [*named, ACT]
        self._calls = calls
        self._templates = {tool.name: Template(tool, lines=lines or tool is ACT) for tool in named}
        if len(self._templates) < len(named):
            names = ", ".join(sorted(tool.name for tool in named))
            raise EnvPoolError(f"two tools have the same name: {names} (a toolbox of texts has 'act' by itself)")
        self._by_exactness = sorted(self._templates.values(), key=lambda template: -len(template.fixed))
        self.telling = [template for template in self._by_exactness if template.tells]

    @classmethod
    def of(cls, spec: EnvSpec) -> Toolbox:
        """Makes the toolbox of an environment."""
        return cls(spec.tools, lines=spec.writing.lines, calls=spec.takes_calls)

    @property
    def takes_calls(self) -> bool:
        """Whether the environment takes calls, not texts."""
        return self._calls

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools; ``act`` comes last."""
        return [template.tool for template in self._templates.values()]

    @property
    def names(self) -> Sequence[str]:
        """The names of the tools; ``act`` comes last."""
        return list(self._templates)

    @property
    def schemas(self) -> Sequence[Schema]:
        """The tools as OpenAI's API describes them; ``act`` comes last."""
        return [tool.schema for tool in self.tools]

    @property
    def signatures(self) -> str:
        """One line a tool, as in ``- go_to(object: str): walks to an object``; one a parameter that is described."""
        lines: list[str] = []
        for tool in self.tools:
            lines.append(f"- {self.signature(tool.name)}" + (f": {tool.summary}" if tool.summary else ""))
            lines += [f"  - {one.name}: {one.description}" for one in tool.parameters if one.description]
        return "\n".join(lines)

    @property
    def forms(self) -> str:
        """Two lines a tool: how its action is written as text; how it is called, and what it does."""
        return "\n".join(
            f"{tool.text.replace(f'{{{ALL}}}', '{...}')}\n  {self.signature(tool.name)}: {tool.summary}"
            for tool in self.tools
        )

    @property
    def example(self) -> Call:
        """A call of the first tool, with stand-ins for its arguments."""
        tool = self.tools[0]
        needed = [parameter for parameter in tool.parameters if not parameter.optional]
        return Call(tool.name, {parameter.name: sample(parameter.schema, parameter.name) for parameter in needed})

    @property
    def example_text(self) -> str:
        """The text of the example; a stand-in need not be what its parameter takes."""
        example = self.example
        return self._templates[example.tool].fill(example.arguments)

    def signature(self, name: str) -> str:
        """How a tool is called, as in ``go_to(object: str)``.

        Raises:
            MalformedAction: there is no such tool.
        """
        return f"{name}({', '.join(map(str, self.parameters(name)))})"

    def parameters(self, name: str) -> Sequence[Parameter]:
        """The parameters of a tool, in their order.

        Raises:
            MalformedAction: there is no such tool.
        """
        return self._template(name).tool.parameters

    def checked(self, call: Call) -> Call:
        """Reads the arguments of a call by their types, ``"7"`` as 7 where a whole number is wanted.

        Raises:
            MalformedAction: the tool is unknown, or an argument is missing, unknown or of another type.
        """
        name, template = call.tool, self._template(call.tool)
        parameters = {parameter.name: parameter for parameter in template.tool.parameters}
        troubles = [
            f"{name} has no argument {given[:40]!r}{did_you_mean(given[:40], parameters) or '.'}"
            for given in [given for given in call.arguments if given not in parameters][:MOST_TROUBLES]
        ]
        troubles += [
            f"{name} needs the argument {parameter.name!r}."
            for parameter in parameters.values()
            if not parameter.optional and parameter.name not in call.arguments
        ]
        arguments: dict[str, Any] = {}
        for parameter in parameters.values():
            if parameter.name not in call.arguments:
                if parameter.optional and template.names(parameter):
                    arguments[parameter.name] = parameter.default
                continue
            try:
                arguments[parameter.name] = template.checked(parameter, call.arguments[parameter.name])
            except Wrong as wrong:
                troubles.append(f"The argument {parameter.name + wrong.place!r} of {name} {wrong}.")
        if troubles:
            raise MalformedAction(f"{' '.join(troubles)} Call it as {self.signature(name)}.")
        return Call(name, arguments)

    def text(self, call: Call) -> str:
        """Writes a call as action text.

        Raises:
            MalformedAction: the tool is unknown, or an argument is missing, unknown or of another type.
        """
        return self.written(call)[1]

    def written(self, call: Call) -> tuple[Call, str]:
        """Reads the arguments of a call by their types, and writes it as action text.

        Raises:
            MalformedAction: the tool is unknown, or an argument is missing, unknown or of another type.
        """
        call = self.checked(call)
        action = self._templates[call.tool].fill(call.arguments)
        if not action:
            raise MalformedAction(f"This call of {call.tool} makes no action: its arguments are empty.")
        return call, action

    def call(self, action: str) -> Call:
        """Finds the call that an action's text makes.

        That is a call of the most exact tool. Where the environment takes texts, it makes just this text, and what no
        tool makes is a call of ``act``.

        Raises:
            MalformedAction: there is none; never where the environment takes texts that UTF-8 can write.
        """
        trouble: MalformedAction | None = None
        for template in self._by_exactness:
            try:
                found = template.match(action)
                if found is not None:
                    call, text = self.written(Call(template.tool.name, found))
                    if self._calls or text == action:
                        return call
            except MalformedAction as malformed:
                trouble = trouble or malformed
        if not self._calls:
            return self.checked(Call(ACT.name, {"action": action}))
        named = _NAMED.match(action)
        if trouble is None and named and named[1] not in self._templates:
            self._template(named[1])
        raise trouble or MalformedAction(
            f"Your action is not a call of a function: write it as {self.example_text}. "
            f"The functions are: {', '.join(self.names)}."
        )

    def run(self, call: Call, owner: object = None) -> Any:
        """Carries a call out: calls its function with the defaults filled in, enums and dataclasses made.

        Args:
            call: a call.
            owner: the object whose method of the tool's name is called; None for the tool's own function.

        Raises:
            MalformedAction: the tool is unknown, or an argument is missing, unknown or of another type.
        """
        call = self.checked(call)
        return self._template(call.tool).tool.run(call.arguments, owner)

    def _template(self, name: str) -> Template:
        if name in self._templates:
            return self._templates[name]
        raise MalformedAction(
            f"There is no function {name[:40]!r}{did_you_mean(name[:40], self._templates) or '.'} "
            f"The functions are: {', '.join(self._templates)}."
        )
