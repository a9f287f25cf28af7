"""How a thought and an action are written in one answer, and read back.

`ReAct` writes the action as text. `FunctionCalling` and `CodeAsAction` write it as a call of one of the environment's
tools (see `calls.py`), so they are made for one environment; `format_for` makes any of them. Whatever a model answers,
reading it returns an action or raises `MalformedAction` with a correction for the model; nothing of it is ever run.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from envpool.calls import Toolbox
from envpool.errors import EnvPoolError, MalformedAction, did_you_mean
from envpool.native import Native
from envpool.objects import objects
from envpool.parsed import Parsed
from envpool.reading import Reader, tamed, word_for_word
from envpool.spec import EnvSpec, Tool, Writing
from envpool.thoughts import ENDS, OPENS, Found, NothingFound, past_thoughts, without_tags

LONGEST_CODE = 20_000
"""Characters of a call that are given to Python's parser, whose memory and stack a longer one might exhaust."""

_ANY = Writing()
_ONE_CALL = 'Give exactly one call of one function, as in act(action="..."), and no other code.'


class ActionFormat(Protocol):
    """A way to write a thought and an action."""

    @property
    def name(self) -> str:
        """How recipes call the format."""

    @property
    def instructions(self) -> str:
        """What a model is told about the format."""

    def render(self, thought: str, action: str) -> str:
        """Writes an answer."""

    def parse(self, text: str) -> Parsed:
        """Reads an answer.

        Raises:
            MalformedAction: there is no readable action; the error's text is the correction to answer with.
        """


class ReAct:
    r"""``Thought:\n...\n\nAction:\n...``, the format of AgentTraj; `envpool.reading` says what is read.

    Args:
        tools: the environment's tools.
        writing: what its actions may hold.
    """

    name = "react"
    instructions = "Answer in this form, with exactly one action:\n\nThought:\n<why you act>\n\nAction:\n<the action>"

    def __init__(self, tools: Sequence[Tool] = (), writing: Writing = _ANY) -> None:
        self._reader = Reader(Toolbox(tools), writing)

    def render(self, thought: str, action: str) -> str:
        """Writes an answer; an action that would be misread stands in a block that is taken word for word."""
        answer = f"Thought:\n{thought}\n\nAction:\n{action}"
        try:
            if self.parse(answer).action == action:
                return answer
        except MalformedAction:
            pass  # which says that it would be misread
        return f"Thought:\n{tamed(thought)}\n\nAction:\n{word_for_word(action)}"

    def parse(self, text: str) -> Parsed:
        """Reads the one action of the answer."""
        return Parsed(*self._reader.read(text))


REACT = ReAct()
"""For an environment of which nothing is known; `format_for` makes one that knows its actions."""


class FunctionCalling:
    """One JSON object: ``{"thought": ..., "name": ..., "arguments": {...}}``.

    Args:
        tools: the environment's tools.
        writing: what its actions may hold.
    """

    name = "function_calling"
    _NAMES = ("name", "function_name", "function")
    _ARGUMENTS = ("arguments", "parameters", "input", "args", "kwargs")
    _WRAPPING = re.compile(r"(```(json)?|<tool_call>)\s*\Z")

    def __init__(self, tools: Sequence[Tool], writing: Writing = _ANY) -> None:
        self._tools = Toolbox(tools, lines=writing.lines)

    @property
    def instructions(self) -> str:
        """The shape of an answer, the functions, and an example."""
        example = self._tools.example
        return (
            'Act by calling a function. Answer with one JSON object: "thought" says why you act, "name" is the '
            f'function and "arguments" holds its arguments by name.\n\nThe functions are:\n{self._tools.signatures}\n\n'
            f'For example, the action "{self._tools.action(example.tool, example.arguments)}" is taken by:\n\n'
            f"{_json('<why you act>', example.tool, example.arguments)}"
        )

    def render(self, thought: str, action: str) -> str:
        """Writes an answer: a call of the most exact tool that takes the action."""
        call = self._tools.call(action)
        return _json(thought, call.tool, call.arguments)

    def parse(self, text: str) -> Parsed:
        """Reads the one call of the answer; also in the shapes of OpenAI, Llama, Qwen and AgentGym, and amid text."""
        before, call = past_thoughts(text, self._find)
        thought = call.get("thought") if isinstance(call, dict) else None
        if not isinstance(thought, str):
            thought = self._WRAPPING.sub("", before)
        return Parsed(without_tags(thought), self._tools.action(*self._read(call)))

    def _find(self, text: str) -> Found[Any]:
        calls: list[Found[Any]] = []
        found, broken = objects(text)
        for one in found:
            if isinstance(one.value.get("tool_calls"), list) and one.value["tool_calls"]:
                calls += [Found(call, one.start, one.end) for call in one.value["tool_calls"]]
            elif any(key in one.value for key in self._NAMES):
                calls.append(Found(one.value, one.start, one.end))
        if len(calls) > 1:
            raise MalformedAction(f"Give one function call at a time: your answer holds {len(calls)}.")
        if not calls:
            raise broken or NothingFound(
                'No function call found: answer with one JSON object that has a "name" and "arguments".'
            )
        return calls[0]

    def _read(self, call: Any) -> tuple[str, Mapping[str, Any]]:
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            call = call["function"]
        call = call if isinstance(call, dict) else {}
        name = next((call[key] for key in self._NAMES if isinstance(call.get(key), str)), None)
        if name is None:
            raise MalformedAction('Your function call has no name: give the function as text under "name".')
        given = [call[key] for key in self._ARGUMENTS if call.get(key) is not None]
        if any(other != given[0] for other in given[1:]):
            raise MalformedAction(f'Give the arguments of {name[:40]} once, under "arguments".')
        arguments = given[0] if given else None
        if isinstance(arguments, str):
            arguments = _object_in(arguments)
        if not isinstance(arguments, dict | None):
            raise MalformedAction(f'The "arguments" of {name[:40]} must be a JSON object that holds them by name.')
        return name.strip(), arguments or {}


def _object_in(text: str) -> Any:
    """Reads arguments that are given as text."""
    text = text.strip()
    if not text.startswith("{"):
        return {} if text in ("", "null", "None") else text
    found, broken = objects(text)
    if broken:
        raise broken
    whole = len(found) == 1 and (found[0].start, found[0].end) == (0, len(text))
    return found[0].value if whole else {} if not text[1:-1].strip() else text


def _json(thought: str, name: str, arguments: Mapping[str, Any]) -> str:
    return _escaped(json.dumps({"thought": thought, "name": name, "arguments": dict(arguments)}, ensure_ascii=False))


def _escaped(literals: str) -> str:
    """Writes the tags of private thoughts in JSON or Python so that nobody else takes them for tags."""
    for tags in (OPENS, ENDS):
        literals = tags.sub(lambda tag: f"\\u{ord(tag[0][0]):04x}{tag[0][1:]}", literals)
    return literals


class CodeAsAction:
    """One call of a Python function, its arguments written out, with a comment that says why.

    Args:
        tools: the environment's tools.
        writing: what its actions may hold.
    """

    name = "code_as_action"
    _FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)

    def __init__(self, tools: Sequence[Tool], writing: Writing = _ANY) -> None:
        self._tools = Toolbox(tools, lines=writing.lines)
        self._starts = re.compile(rf"\s*(?:{'|'.join(self._tools.names)})\s*\(")

    @property
    def instructions(self) -> str:
        """The shape of an answer, the functions, and an example."""
        example = self._tools.example
        return (
            "Act by calling a Python function. Answer with one call, below a comment that says why you act. Write "
            "every argument out, as text, as a number or as a list; no other code can be read.\n\n"
            f"The functions are:\n{self._tools.signatures}\n\n"
            f'For example, the action "{self._tools.action(example.tool, example.arguments)}" is taken by:\n\n'
            f"{_python('<why you act>', example.tool, example.arguments)}"
        )

    def render(self, thought: str, action: str) -> str:
        """Writes an answer: a call of the most exact tool that takes the action."""
        call = self._tools.call(action)
        return _python(thought, call.tool, call.arguments)

    def parse(self, text: str) -> Parsed:
        """Reads the one call of the answer, in a fence or bare; it is taken apart, never run."""
        before, (comment, call) = past_thoughts(text, self._find)
        thought = "\n".join(part for part in (before, comment) if part)
        return Parsed(without_tags(thought), self._tools.action(*self._bind(call)))

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

    def _bind(self, call: ast.Call) -> tuple[str, Mapping[str, Any]]:
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
        return name, arguments


def _python(thought: str, name: str, arguments: Mapping[str, Any]) -> str:
    comment = "".join(f"# {line}\n" for line in without_tags(thought).splitlines())
    written = _escaped(", ".join(f"{argument}={value!r}" for argument, value in arguments.items()))
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
        case ast.Constant(value=str() | int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
    raise MalformedAction("Write every argument out, as text, as a number or as a list: nothing is computed.")


FORMATS: Mapping[str, Callable[[EnvSpec], ActionFormat]] = {
    "react": lambda spec: ReAct(spec.tools, spec.writing),
    "function_calling": lambda spec: FunctionCalling(spec.tools, spec.writing),
    "code_as_action": lambda spec: CodeAsAction(spec.tools, spec.writing),
    "native": lambda spec: Native(Toolbox.of(spec)),
}
"""What makes a format for an environment, by the name that recipes call it."""


def format_for(name: str, spec: EnvSpec) -> ActionFormat:
    """Makes a format for an environment.

    Raises:
        EnvPoolError: there is no format of that name.
    """
    check_format(name)
    return FORMATS[name](spec)


def check_format(name: str) -> None:
    """Makes sure that there is a format of that name.

    Raises:
        EnvPoolError: there is none.
    """
    if name not in FORMATS:
        raise EnvPoolError(f"unknown format {name!r}{did_you_mean(name, FORMATS)} (known: {', '.join(FORMATS)})")
