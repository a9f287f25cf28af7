"""A call of a tool as one line of action text, and back.

The template of a `Tool` is an action with its arguments left open:

    go to {object}                       a text
    get {number:int} {item}              a whole number, then a text
    find with Input: {{query, top:int?}} a JSON object of these arguments; one with a ``?`` may be left out

The types are ``text`` (where none is given), ``int``, ``number`` and, within a JSON object, ``list`` and ``any``.
Braces around nothing are text.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envpool.errors import EnvPoolError, MalformedAction, did_you_mean
from envpool.spec import ACT, Tool
from envpool.types import Call

LARGEST = 10**18
"""Whole numbers beyond it are refused: Python takes very long to write some, and refuses to write others."""

DEEPEST = 3
"""How many lists may lie within each other."""

_PLACE = re.compile(r"\{\{([^{}]*)\}\}|\{([^{}]+)\}")
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::(text|int|number|list|any))?(\?)?")
_INT = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


_BREAKS = re.compile("[\x85\u2028\u2029]")
"""The line breaks that `json.dumps` leaves as they are."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a template leaves open.

    Attributes:
        name: how the argument is called.
        type: one of the types above.
        optional: whether it may be left out.
    """

    name: str
    type: str
    optional: bool

    def __str__(self) -> str:
        return f"{self.name}: {_TYPES[self.type].shown}{' = ...' if self.optional else ''}"


@dataclass(frozen=True, slots=True)
class _Type:
    shown: str
    wanted: str
    sample: Callable[[str], Any]
    read: Callable[[Any], Any]
    """Turns an argument into what is written; raises ValueError, with words if the type is not the reason."""


def _writable(text: str) -> str:
    """What UTF-8 cannot write becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read_text(value: Any) -> str:
    return _writable(value) if isinstance(value, str) else str(_read_scalar(value))


def _read_int(value: Any) -> int:
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        return int(value)
    number = _read_scalar(value)
    if isinstance(number, float) and number.is_integer() and abs(number) < LARGEST:
        return int(number)
    if not isinstance(number, int):
        raise ValueError
    return number


def _read_number(value: Any) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value) if "." in value else int(value)
    number = _read_scalar(value)
    if isinstance(number, str):
        raise ValueError
    return number


def _read_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return _read_items(value, 1)


def _read_any(value: Any) -> Any:
    return _read_list(value) if isinstance(value, list) else _read_scalar(value)


def _read_items(values: list[Any], level: int) -> list[Any]:
    if level > DEEPEST:
        raise ValueError(f"holds lists within lists, more than {DEEPEST} deep")
    return [_read_items(value, level + 1) if isinstance(value, list) else _read_item(value) for value in values]


def _read_item(value: Any) -> str | int | float:
    try:
        return _read_scalar(value)
    except ValueError:
        raise ValueError(f"holds {_shown(value)}: give texts, numbers or lists of these") from None


def _read_scalar(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return str(value)  # AgentGym's tool servers read JSON as Python does, which does not know `true`
    if isinstance(value, str):
        return _writable(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and abs(value) < LARGEST:
        return value
    raise ValueError


_TYPES: Mapping[str, _Type] = {
    "text": _Type("str", "a text", lambda name: f"<{name}>", _read_text),
    "int": _Type("int", "a whole number", lambda name: 1, _read_int),
    "number": _Type("float", "a number", lambda name: 1.5, _read_number),
    "list": _Type("list", "a list", lambda name: [f"<{name}>"], _read_list),
    "any": _Type("str | float | list", "a text, a number or a list of these", lambda name: f"<{name}>", _read_any),
}


class Template:
    """The template of one tool, ready to be filled and matched.

    Attributes:
        fixed: the characters of an action that are always the same: the more, the more exact the template.

    Args:
        tool: the tool.
        lines: whether line breaks in its arguments survive; they are spaces otherwise.

    Raises:
        EnvPoolError: the tool has no usable name, or its template cannot be read.
    """

    def __init__(self, tool: Tool, *, lines: bool = True) -> None:
        self.tool = tool
        self._lines = lines
        self._pieces: list[str | Parameter | tuple[Parameter, ...]] = []
        end = 0
        for place in _PLACE.finditer(tool.template):
            self._pieces.append(tool.template[end : place.start()])
            fields = (place[1] or "").split(",") if place[2] is None else []
            self._pieces.append(
                self._parameter(place[2]) if place[2] else tuple(self._parameter(f) for f in fields if f.strip())
            )
            end = place.end()
        self._pieces.append(tool.template[end:])
        self._pattern = re.compile("".join(map(_pattern, self._pieces)), re.DOTALL)
        self._shape = re.compile(_shape(self._pieces), re.DOTALL)
        self.fixed = "".join(piece for piece in self._pieces if isinstance(piece, str))
        self._check()

    def _parameter(self, field: str) -> Parameter:
        match = _FIELD.fullmatch(field.strip())
        if match is None or keyword.iskeyword(match[1]):
            raise EnvPoolError(
                f"tool {self.tool.name!r}: {field!r} cannot be read as an argument: write a name, then perhaps a type "
                f"({', '.join(_TYPES)}), as in 'count:int'"
            )
        return Parameter(match[1], match[2] or "text", bool(match[3]))

    def _check(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if not self.tool.name.isidentifier() or keyword.iskeyword(self.tool.name):
            raise EnvPoolError(f"tool {self.tool.name!r}: a tool needs a name like that of a Python function")
        if len(names) > len(set(names)):
            raise EnvPoolError(f"tool {self.tool.name!r}: its template names an argument twice: {self.tool.template}")
        for piece in self._pieces:
            if isinstance(piece, Parameter) and (piece.optional or piece.type in ("list", "any")):
                raise EnvPoolError(f"tool {self.tool.name!r}: '{piece}' works only within a JSON object: {{{{...}}}}")

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What the template leaves open, in its order."""
        found: list[Parameter] = []
        for piece in self._pieces:
            found += [piece] if isinstance(piece, Parameter) else piece if isinstance(piece, tuple) else []
        return found

    @property
    def tells(self) -> bool:
        """Whether an action shows by its text that it is one of this tool."""
        return bool(self.fixed.strip()) or all(parameter.type != "text" for parameter in self.parameters)

    @property
    def ends(self) -> tuple[str, str]:
        """The fixed texts that an action begins and ends with; the second is empty where an argument comes last."""
        first, last = self._pieces[0], self._pieces[-1]
        assert isinstance(first, str)  # for they begin and end with what stands outside braces
        assert isinstance(last, str)
        return first, "}" if not last and isinstance(self._pieces[-2:][0], tuple) else last

    @property
    def closed(self) -> bool:
        """Whether a mark at its end shows that the action is complete, as in ``click[{label}]``."""
        return len(self._pieces) > 1 and bool(self.ends[1]) and not self.ends[1][-1].isalnum()

    def fits(self, text: str) -> bool:
        """Whether a text is written like an action of this tool; never takes longer than to read it a few times."""
        return self._shape.fullmatch(text) is not None

    def fill(self, arguments: Mapping[str, Any]) -> str:
        """Writes the action."""
        action = "".join(_written(piece, arguments) for piece in self._pieces)
        return (action if self._lines else " ".join(action.splitlines())).strip()

    def match(self, action: str) -> Mapping[str, Any] | None:
        """Finds the arguments with which the template is written like `action`; None if there are none."""
        match = self._pattern.fullmatch(action)
        if match is None:
            return None
        found: dict[str, Any] = {}
        holes = [piece for piece in self._pieces if not isinstance(piece, str)]
        for hole, text in zip(holes, match.groups(), strict=True):
            if isinstance(hole, Parameter):
                found[hole.name] = text
                continue
            try:
                found |= json.loads(text)
            except (ValueError, RecursionError):
                return None
        return found


def _pattern(piece: str | Parameter | tuple[Parameter, ...]) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    if isinstance(piece, tuple):
        return r"(\{.*\})"
    return {"int": f"({_INT.pattern})", "number": r"(-?[0-9.]+)"}.get(piece.type, "(.*?)")


def _shape(pieces: Sequence[str | Parameter | tuple[Parameter, ...]]) -> str:
    """Writes a pattern that never tries a second way: the text of an argument ends where the next fixed text begins."""
    pattern, open_argument, filled = "", False, [piece for piece in pieces if piece != ""]
    for place, piece in enumerate(filled):
        if isinstance(piece, Parameter) and piece.type not in ("int", "number"):
            open_argument = True
            continue
        part = re.escape(piece) if isinstance(piece, str) else _pattern(piece)
        if open_argument:
            part = f".*{part}" if place == len(filled) - 1 else f"(?>.*?{part})"
        pattern, open_argument = pattern + part, False
    return pattern + (".+" if open_argument else "")


def _written(piece: str | Parameter | tuple[Parameter, ...], arguments: Mapping[str, Any]) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Parameter):
        return str(arguments[piece.name]).strip()
    given = {parameter.name: arguments[parameter.name] for parameter in piece if parameter.name in arguments}
    return _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(given, ensure_ascii=False))


class Toolbox:
    """The tools of an environment, and `ACT`, which every environment has besides.

    Args:
        tools: the tools that the environment names; the first one serves as the example.
        lines: whether line breaks in arguments survive (`Writing.lines`); those in the argument of ``act`` always do.

    Raises:
        EnvPoolError: two tools have the same name, or one cannot be used.
    """

    def __init__(self, tools: Sequence[Tool], *, lines: bool = True) -> None:
        tools = [*(tool for tool in tools if tool != ACT), ACT]
        self._templates = {tool.name: Template(tool, lines=lines or tool == ACT) for tool in tools}
        if len(self._templates) < len(tools):
            names = [tool.name for tool in tools]
            raise EnvPoolError(f"two tools have the same name: {', '.join(sorted(names))} (every toolbox has 'act')")
        self._by_exactness = sorted(self._templates.values(), key=lambda template: -len(template.fixed))
        self.telling = [template for template in self._by_exactness if template.tells]

    @property
    def names(self) -> Sequence[str]:
        """The names of the tools; ``act`` comes last."""
        return list(self._templates)

    @property
    def signatures(self) -> str:
        """One line a tool, as in ``- go_to(object: str): walks to an object``."""
        return "\n".join(
            f"- {self.signature(name)}" + (f": {template.tool.summary}" if template.tool.summary else "")
            for name, template in self._templates.items()
        )

    @property
    def example(self) -> Call:
        """A call of the first tool, with stand-ins for its arguments."""
        template = next(iter(self._templates.values()))
        needed = [parameter for parameter in template.parameters if not parameter.optional]
        return Call(template.tool.name, {p.name: _TYPES[p.type].sample(p.name) for p in needed})

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
        if name in self._templates:
            return self._templates[name].parameters
        raise MalformedAction(
            f"There is no function {name[:40]!r}{did_you_mean(name[:40], self._templates) or '.'} "
            f"The functions are: {', '.join(self._templates)}."
        )

    def action(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call as action text.

        Raises:
            MalformedAction: the tool is unknown, or an argument is missing, unknown or of another type.
        """
        parameters = {parameter.name: parameter for parameter in self.parameters(name)}
        troubles = [
            f"{name} has no argument {given[:40]!r}{did_you_mean(given[:40], parameters) or '.'}"
            for given in list(arguments)[:3]
            if given not in parameters
        ]
        troubles += [
            f"{name} needs the argument {parameter.name!r}."
            for parameter in parameters.values()
            if not parameter.optional and parameter.name not in arguments
        ]
        read: dict[str, Any] = {}
        for parameter in parameters.values():
            if parameter.name in arguments:
                try:
                    read[parameter.name] = _TYPES[parameter.type].read(arguments[parameter.name])
                except ValueError as error:
                    wrong = f"is {_shown(arguments[parameter.name])}, not {_TYPES[parameter.type].wanted}"
                    troubles.append(f"The argument {parameter.name!r} of {name} {str(error) or wrong}.")
        if troubles:
            raise MalformedAction(f"{' '.join(troubles)} Call it as {self.signature(name)}.")
        action = self._templates[name].fill(read)
        if not action:
            raise MalformedAction(f"This call of {name} makes no action: its arguments are empty.")
        return action

    def call(self, action: str) -> Call:
        """Finds the call that makes an action: of the most exact tool that makes just this text, else of ``act``."""
        for template in self._by_exactness:
            found = template.match(action)
            if found is None:
                continue
            try:
                if self.action(template.tool.name, found) == action:
                    read = {p.name: _TYPES[p.type].read(found[p.name]) for p in template.parameters if p.name in found}
                    return Call(template.tool.name, read)
            except MalformedAction:
                continue
        return Call(ACT.name, {"action": _writable(action).strip()})


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    if isinstance(value, int) and abs(value) >= LARGEST:
        return "too large a number"
    known = {list: "a list", dict: "an object", type(None): "nothing"}
    return known.get(type(value)) or repr(value)
