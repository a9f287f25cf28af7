"""The format ``code_as_action``: an answer is a call of a Python function. It is taken apart, never run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

from envpool.calls import Toolbox
from envpool.errors import MalformedAction
from envpool.parsed import Parsed
from envpool.schemas import types_in
from envpool.thoughts import Found, NothingFound, past_thoughts, with_escaped_tags, without_tags
from envpool.types import Action, Call

LONGEST_CODE = 20_000
"""Characters of a call that are given to Python's parser, whose memory and stack a longer one might exhaust."""

_USUAL = {"string", "integer", "number", "array"}
_ONE_CALL = 'Give exactly one call of one function, as in act(action="..."), and no other code.'
_NOTHING_COMPUTED = (
    "Write every argument out, as a text, a number, True, False, None, a list or a dict: nothing is computed."
)


class CodeAsAction:
    """One call of a Python function, its arguments written out, with a comment that says why.

    Args:
        tools: the environment's tools.
    """

    name = "code_as_action"
    _FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self._starts = re.compile(rf"\s*(?:{'|'.join(self._tools.names)})\s*\(")

    @property
    def instructions(self) -> str:
        """The shape of an answer, the functions, and an example."""
        example = self._tools.example
        return (
            "Act by calling a Python function. Answer with one call, below a comment that says why you act. Write "
            f"every argument out, {self._literals}; no other code can be read.\n\n"
            f"The functions are:\n{self._tools.signatures}\n\n"
            f'For example, the action "{self._tools.example_text}" is taken by:\n\n'
            f"{_python('<why you act>', example.tool, example.arguments)}"
        )

    @property
    def _literals(self) -> str:
        types = {each for tool in self._tools.tools for one in tool.parameters for each in types_in(one.schema)}
        return "as text, as a number or as a list" if types <= _USUAL else "as a literal of Python"

    def render(self, thought: str, action: Action) -> str:
        """Writes an answer: a call, that of a text being of the most exact tool that makes it."""
        call = self._tools.checked(action) if isinstance(action, Call) else self._tools.call(action)
        return _python(thought, call.tool, call.arguments)

    def parse(self, text: str) -> Parsed:
        """Reads the one call of the answer, in a fence or bare; it is taken apart, never run."""
        before, (comment, call) = past_thoughts(text, self._find)
        thought = "\n".join(part for part in (before, comment) if part)
        made, action = self._tools.written(self._bind(call))
        return Parsed(without_tags(thought), action, (made,))

    def _find(self, text: str) -> Found[tuple[str, ast.Call]]:
        fences = list(self._FENCE.finditer(text))
        if len(fences) > 1:
            raise MalformedAction(f"Give one call at a time: your answer holds {len(fences)} blocks of code.")
        if fences:
            comment, code = _split_comment(fences[0][1])
            return Found((comment, _only_call(code)), *fences[0].span())
        return self._bare_call(text)

    def _bare_call(self, text: str) -> Found[tuple[str, ast.Call]]:
        """Reads an answer without a fence: all of it is the call, or else its last line."""
        text = text.rstrip()
        comment, code = _split_comment(text.strip("` \n\t"))
        try:
            return Found((comment, _only_call(code)), 0, len(text))
        except MalformedAction as malformed:
            before, _, last = text.rpartition("\n")
            others = sum(self._starts.match(line) is not None for line in before.split("\n"))
            if not before.strip() or not (others or isinstance(malformed, NothingFound)):
                raise
        call = _only_call(last.strip("` "))
        if others:
            raise MalformedAction(f"Give one call at a time: your answer holds {others + 1}.")
        if last.startswith((" ", "\t")):
            raise MalformedAction(_ONE_CALL)
        return Found(("", call), len(before), len(text))

    def _bind(self, call: ast.Call) -> Call:
        if not isinstance(call.func, ast.Name):
            raise MalformedAction("Call a function by its name alone, without anything before it.")
        name = call.func.id
        parameters = self._tools.parameters(name)
        if len(call.args) > len(parameters):
            raise MalformedAction(f"Too many arguments: call it as {self._tools.signature(name)}.")
        arguments = {parameter.name: _literal(node) for parameter, node in zip(parameters, call.args, strict=False)}
        for item in call.keywords:
            if item.arg is None or item.arg in arguments:
                raise MalformedAction(f"Give every argument of {name} once, by its name or in its place.")
            arguments[item.arg] = _literal(item.value)
        return Call(name, arguments)


def _python(thought: str, name: str, arguments: Mapping[str, Any]) -> str:
    comment = "".join(f"# {line}\n" for line in without_tags(thought).splitlines())
    written = with_escaped_tags(", ".join(f"{argument}={value!r}" for argument, value in arguments.items()))
    return f"```python\n{comment}{name}({written})\n```"


def _split_comment(code: str) -> tuple[str, str]:
    """Separates the comment lines above the code from the code."""
    lines = code.strip().split("\n")
    count = next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    comment = "\n".join(line.strip().lstrip("#").strip() for line in lines[:count])
    return comment, "\n".join(lines[count:])


def _only_call(code: str) -> ast.Call:
    if len(code) > LONGEST_CODE:
        raise NothingFound(f"No function call found: give one call in at most {LONGEST_CODE} characters.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of odd escapes; they are the model's affair
            body = ast.parse(code.strip().rstrip("`")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        cause = getattr(error, "msg", None) or "it is too nested"
        raise NothingFound(f"No function call found: your code cannot be read ({cause}).") from None
    if len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Call):
        return body[0].value
    if len(body) == 1 or any(not isinstance(line, ast.Expr) or _calls(line) for line in body[:-1]):
        raise MalformedAction(_ONE_CALL)
    raise NothingFound(_ONE_CALL)  # words that happen to be Python


def _calls(code: ast.AST) -> bool:
    return any(isinstance(node, ast.Call) for node in ast.walk(code))


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=names, values=values):
            return {_name(name): _literal(value) for name, value in zip(names, values, strict=True)}
        case ast.Name(id="true" | "false" | "null" as word):
            return {"true": True, "false": False, "null": None}[word]
    raise MalformedAction(_NOTHING_COMPUTED)


def _name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise MalformedAction("Write the names in a dict out, as texts: nothing is computed.")
