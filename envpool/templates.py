"""The text of a tool's calls: filled with arguments, and matched to find them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from envpool.objects import json_text, whole_object
from envpool.schemas import JsonSchema, Wrong, choices, is_open_text, options
from envpool.signatures import Parameter
from envpool.tools import ALL, PLACE, Tool

_PATTERNS = {"integer": r"-?[0-9]+", "number": r"-?[0-9.]+(?:[eE][+-]?[0-9]+)?", "boolean": "true|false"}
_LINE_BREAK = re.compile(r"[\r\n]")


class _All:
    """The place of a JSON object of all arguments."""


class Template:
    """The text of one tool's calls, ready to be filled and matched.

    Attributes:
        tool: the tool.
        fixed: the characters of an action that are always the same: the more, the more exact the template.

    Args:
        tool: the tool.
        lines: whether an action may have several lines.
    """

    def __init__(self, tool: Tool, *, lines: bool = True) -> None:
        self.tool = tool
        self._lines = lines
        self._known = {parameter.name: parameter for parameter in tool.parameters}
        self._pieces: list[str | Parameter | _All] = []
        end = 0
        for place in PLACE.finditer(tool.text):
            self._pieces.append(tool.text[end : place.start()])
            self._pieces.append(_All() if place[1] == ALL else self._known[place[1]])
            end = place.end()
        self._pieces.append(tool.text[end:])
        self._pattern = re.compile("".join(map(_pattern, self._pieces)), re.DOTALL)
        self._shape = re.compile(_shape(self._pieces), re.DOTALL)
        self.fixed = "".join(piece for piece in self._pieces if isinstance(piece, str))

    @property
    def tells(self) -> bool:
        """Whether an action shows by its text that it is one of this tool."""
        return bool(self.fixed.strip()) or not any(is_open_text(parameter.schema) for parameter in self._known.values())

    @property
    def ends(self) -> tuple[str, str]:
        """The fixed texts that an action begins and ends with; the second is empty where an argument comes last."""
        first, last = self._pieces[0], self._pieces[-1]
        assert isinstance(first, str)  # for they begin and end with what stands outside braces
        assert isinstance(last, str)
        return first, "}" if not last and isinstance(self._pieces[-2:][0], _All) else last

    @property
    def closed(self) -> bool:
        """Whether a mark at its end shows that the action is complete, as in ``click[{label}]``."""
        return len(self._pieces) > 1 and bool(self.ends[1]) and not self.ends[1][-1].isalnum()

    def names(self, parameter: Parameter) -> bool:
        """Whether an argument stands in the text by itself."""
        return parameter in self._pieces

    def fits(self, text: str) -> bool:
        """Whether a text is written like an action of this tool; never takes longer than to read it a few times."""
        return self._shape.fullmatch(text) is not None

    def checked(self, parameter: Parameter, value: Any) -> Any:
        """Reads an argument as it can stand in the text: blanks around a text do not count.

        Raises:
            Wrong: it is something else, or cannot stand there.
        """
        value = parameter.read(value)
        if not self.names(parameter) or not isinstance(value, str):
            return value
        value = value.strip()
        if not self._lines and _LINE_BREAK.search(value):
            raise Wrong("holds a line break, but an action here is one line: write it without")
        return value

    def fill(self, arguments: Mapping[str, Any]) -> str:
        """Writes the action of arguments that are checked."""
        return "".join(self._written(piece, arguments) for piece in self._pieces).strip()

    def match(self, action: str) -> Mapping[str, Any] | None:
        """Finds the arguments with which the template is written like `action`; None if there are none.

        They are not checked yet, and those that stand in the text by themselves are texts.

        Raises:
            MalformedAction: the object in it cannot be read.
        """
        match = self._pattern.fullmatch(action)
        if match is None:
            return None
        holes = [piece for piece in self._pieces if not isinstance(piece, str)]
        if any(isinstance(hole, _All) for hole in holes):
            return whole_object(match[1])
        return {
            hole.name: text for hole, text in zip(holes, match.groups(), strict=True) if isinstance(hole, Parameter)
        }

    def _written(self, piece: str | Parameter | _All, arguments: Mapping[str, Any]) -> str:
        if isinstance(piece, str):
            return piece
        if isinstance(piece, _All):
            return json_text({name: arguments[name] for name in self._known if name in arguments})
        value = arguments[piece.name]
        return value if isinstance(value, str) else json.dumps(value)


def _pattern(piece: str | Parameter | _All) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    return r"(\{.*\})" if isinstance(piece, _All) else f"({_values(piece.schema) or '.*?'})"


def _values(schema: JsonSchema) -> str:
    """A pattern of the values of a schema; empty if they may be any text."""
    (schema,) = options(schema)
    allowed = choices(schema)
    if allowed is None:
        return _PATTERNS.get(schema["type"], "")
    return "|".join(re.escape(choice if isinstance(choice, str) else json.dumps(choice)) for choice in allowed)


def _shape(pieces: Sequence[str | Parameter | _All]) -> str:
    """Writes a pattern that never tries a second way: the text of an argument ends where the next fixed text begins."""
    pattern, open_argument, filled = "", False, [piece for piece in pieces if piece != ""]
    for place, piece in enumerate(filled):
        if isinstance(piece, Parameter) and is_open_text(piece.schema):
            open_argument = True
            continue
        part = re.escape(piece) if isinstance(piece, str) else _pattern(piece)
        if open_argument:
            part = f".*{part}" if place == len(filled) - 1 else f"(?>.*?{part})"
        pattern, open_argument = pattern + part, False
    return pattern + (".+" if open_argument else "")
