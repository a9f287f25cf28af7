r"""How the action is found in an answer that writes it as text below the label ``Action:``.

One rule, in five steps; what is not clear by then is answered with a correction, never with a part of an action:

1. Private thoughts are taken off (`envpool.thoughts`), so that drafts in them do not count.
2. The label may be decorated (``**Action:**``, ``### Action:``, ``- action:``) and, where no line begins with one,
   stand within a line. There must be one. Where there is none, an environment's official answer form is read (`Alone`).
3. What is in a block of code is the action. Otherwise the line is, with the lines of its JSON object or a following
   ``Action Input:``; and all lines up to an empty one where actions may have several (`Writing.lines`).
4. What stands further below may be an invented ``Observation:`` or sentences; anything else could be a part of the
   action or a second one.
5. Decoration is taken off: in environments that say which signs their actions hold (`Writing.signs`) everything else,
   in others only what is around an action of one of the tools, and bold and back quotes around all of it.

A block in four or more back quotes right below the label is taken word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from envpool.calls import Toolbox
from envpool.errors import MalformedAction
from envpool.labels import MARKDOWN, block_below, labels_of, text_below
from envpool.objects import end_of_object, on_one_line, whole_object
from envpool.spec import Alone, Writing
from envpool.thoughts import ENDS, MOST_ENDS, OPENS, Found, NothingFound, may_hold_tags, past_thoughts, without_tags
from envpool.tools import ACT, WITH_INPUT
from envpool.types import Call

LAYERS = 6
"""How many marks around an action are taken off."""

MOST_LINES = 64
"""How many lines or blocks of an answer are searched for an action, so that a giant one takes no longer."""

NOTHING = "No action found: end your answer with a line 'Action:' and the action below it."

_THOUGHT = re.compile(r"[\W_]{0,16}thought(?:[ \t]*\d{1,3})?[*_`]{0,3}[ \t]*[:\uff1a][*_`]{0,3}", re.IGNORECASE)
_FENCE = re.compile(r"```(?:[\w+-]*[ \t\r]*\n|(?i:sqlite|sql|json|python)[ \t]+)?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"```[\w+-]*\s*(?=\Z|[\W_]*thought)", re.IGNORECASE)
_INVENTED = re.compile(r"^[\W_]{0,16}(?:observation|thought)(?:[ \t]*\d{1,3})?[*_`]{0,3}[ \t]*[:\uff1a]", re.I | re.M)
_INPUT = re.compile(r"[\W_]{0,16}action input[*_`]{0,3}[ \t]*[:\uff1a][*_`]{0,3}\s*", re.IGNORECASE)
_CALLED = re.compile(r"[*_`]{0,3}([A-Za-z]\w*)[*_`]{0,3}[,;.]?[ \t]+(?=[*_`]{0,3}action input)", re.IGNORECASE)
_LINE = re.compile(r"[^\n]+")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_LIST_MARK = re.compile(r"(?:[-+*•>]|\d{1,3}[.)])\s+(?=\S)")
_PAIRS = (
    *((mark, mark) for mark in (*MARKDOWN, "__", "_", '"', "'")),
    *(("\u201c", "\u201d"), ("\u2018", "\u2019"), ("«", "»"), ("[", "]"), ("(", ")"), ("<", ">"), ("{", "}")),
)
_GAP = re.compile(r"[\s,;.]{0,3}(?:(?:and|then|or)\s{1,3}){0,2}")
_BRACKETS = (("[", "]"), ("{", "}"), ("(", ")"))
_SENTENCE_ENDS = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")


class Reader:
    """Finds thought and action in answers for one environment.

    Args:
        tools: the environment's tools.
        writing: what its actions may hold.
    """

    def __init__(self, tools: Toolbox, writing: Writing) -> None:
        self._toolbox = tools
        self._tools = tools.telling
        self._written = {tool.name for tool in tools.tools if tool is not ACT and WITH_INPUT not in tool.text}
        self._writing = writing
        signs = None if writing.signs is None else rf"(?:[^\w{re.escape(writing.signs)} ]|_)"
        changes = rf"\d{signs}+[^\W_]|[^\W_]{signs}+\d|(?<!\w)(?={signs})[-+\u2212\u2013.]\d"
        self._other = None if signs is None else re.compile(signs)
        # where taking signs off makes another number, in actions that may have numbers
        self._changes = re.compile(changes) if writing.signs else None
        self._begins = re.compile(writing.begins) if writing.begins else None
        self._takes_objects = any(template.ends[1] == "}" for template in self._tools)
        self._takes_input = not self._tools or any(WITH_INPUT in template.tool.text for template in self._tools)

    def read(self, text: str) -> tuple[str, str]:
        """Reads an answer: thought and action.

        Raises:
            MalformedAction: there is no readable action; the error's text is the correction to answer with.
        """
        before, action = past_thoughts(text, self._find)
        if before.count("```") % 2:
            before = _OPENING.sub("", before)
        label = _THOUGHT.match(before)
        return without_tags(before[label.end() :] if label else before), action

    def _find(self, text: str) -> Found[str]:
        labels = labels_of(text)
        if len(labels) == 1 and (block := block_below(text, labels[0])):
            return block
        if self._writing.alone == Alone.TAGS and (found := self._alone(text)):
            labelled = labels and not any(map(str.isalnum, text[labels[-1].end() : found.start]))
            return Found(found.what, labels[-1].start() if labelled else found.start, found.end)
        if len(labels) > 1:
            raise MalformedAction(
                f"Give one action at a time: {len(labels)} lines of your answer start with 'Action:'."
            )
        if not labels:
            if found := self._alone(text):
                return found
            raise NothingFound(NOTHING)
        label = labels[0]
        rest = text_below(text, label)
        if text.count("```", 0, label.start()) % 2:  # the whole answer is in a block of code
            rest = rest.partition("```")[0].rstrip()
        action = self._action(rest)
        return Found(action, label.start(), len(text) if self._holds_tags(rest, action) else label.end())

    def _holds_tags(self, rest: str, action: str) -> bool:
        """Whether every tag of private thoughts in what follows the label is a part of the action's text."""
        if not may_hold_tags(rest):
            return True
        tags = [tag for pattern in (OPENS, ENDS) for tag in pattern.finditer(rest)]
        if not tags:
            return True
        if self._is_closed(action):
            return len(tags) == sum(len(pattern.findall(action)) for pattern in (OPENS, ENDS))
        return len(tags) <= MOST_ENDS and all(_is_quoted(rest, tag.start(), tag.end()) for tag in tags)

    def _action(self, rest: str) -> str:
        if rest.startswith("```"):
            block = _FENCE.match(rest)
            if block is None:
                raise MalformedAction("Your block of code does not end: close it with ```.")
            if "```" in rest[block.end() :]:
                raise MalformedAction("Give one action at a time: several blocks of code follow your 'Action:'.")
            self._check_other(rest[block.end() :])
            action, further = block[1].strip(), ""
            if not self._writing.lines:
                action, further = self._first(action)
            self._check(action, further)
        else:
            invented = _INVENTED.search(rest)
            action, further = self._first(rest[: invented.start()] if invented else rest)
            self._check(action, further)
        number = self._changes.search(action) if self._changes else None
        action = self.undressed(action)
        if number and self._is_action(action):
            raise MalformedAction(f"Numbers in an action are whole and without signs: {_shown(number[0])} is neither.")
        if not action:
            raise NothingFound(NOTHING)
        return self._single(action)

    def _single(self, action: str) -> str:
        closed = [template for template in self._tools if template.closed]
        begun = sum(action.count(template.ends[0]) for template in closed)
        fits = any(template.fits(action) for template in closed)
        if begun > 1 and not (fits and self._fits(action) and not _beside(action, [one.ends for one in closed])):
            raise MalformedAction(f"Give one action at a time: you wrote {_shown(action)}.")
        for begin, end in (template.ends for template in closed if not fits):
            if action.startswith(begin) and not begin[-1:].isalnum() and begin.strip():
                raise MalformedAction(f"Write your action as {begin}...{end}: {_shown(action)} does not end so.")
        return action

    def _first(self, text: str) -> tuple[str, str]:
        """Divides a text into the action, decoration included, and what stands below it."""
        text = text.strip()
        line, _, below = text.partition("\n")
        below = below.lstrip()
        called = _CALLED.match(line)
        if called and not (self._takes_input or called[1] in self._written):
            called = None
        if called and (given := _INPUT.match(text, called.end())):
            return self._with_input(called[1], text[given.end() :])
        given = _INPUT.match(below)
        if given and "{" not in line:
            return self._with_input(self.undressed(line), below[given.end() :])
        if self._writing.lines and WITH_INPUT not in line and not self._is_closed(self.undressed(line)):
            gap = _EMPTY_LINE.search(text)
            return (text[: gap.start()].strip(), text[gap.end() :].strip()) if gap else (text, "")
        brace = line.find("{")
        if brace >= 0 and (WITH_INPUT in line or self._takes_objects):
            end = end_of_object(text, brace)
            if end > len(line):
                tail, _, below = text[end:].partition("\n")
                line = text[:brace] + on_one_line(text[brace:end]) + tail
        return line.strip(), below.strip()

    def _with_input(self, name: str, given: str) -> tuple[str, str]:
        """Reads a tool and the JSON object below it; a tool whose actions are written otherwise is called."""
        if not self._takes_input and name not in self._written:
            raise MalformedAction("An action here takes no 'Action Input:': write all of it on the line of 'Action:'.")
        block = _FENCE.match(given)
        given = block[1].strip() + given[block.end() :] if block else given
        if not given.startswith("{"):
            raise MalformedAction("Give the Action Input as a JSON object that holds the arguments by name.")
        end = end_of_object(given, 0)
        tail, _, below = given[end:].partition("\n")
        if name in self._written:
            return f"{self._toolbox.text(Call(name, whole_object(given[:end])))}{tail}".strip(), below.strip()
        return f"{name} {WITH_INPUT} {on_one_line(given[:end])}{tail}".strip(), below.strip()

    def _check(self, action: str, further: str) -> None:
        """Makes sure that what stands below an action is neither a part of it nor another one.

        Raises:
            MalformedAction: it may be.
        """
        if not further:
            return
        if _is_open(action):
            raise MalformedAction(f"Your action goes on below its line, with {_shown(further)}: write it on one line.")
        self._check_other(further)
        plain = self.undressed(action)
        if plain.endswith(";") or self._is_closed(plain):
            return
        if not _is_prose(_EMPTY_LINE.split(further, 1)[0] if self._writing.lines else further.partition("\n")[0]):
            raise MalformedAction(
                f"Your action must end where it ends: below it you wrote {_shown(further)}. "
                + ("Put all of it into a block of code." if self._writing.lines else "Give one action, on one line.")
            )

    def _check_other(self, further: str) -> None:
        if any(_INPUT.match(line) or self._is_action(line) for line in further.split("\n", MOST_LINES)[:MOST_LINES]):
            raise MalformedAction(f"Give one action at a time: below your action you wrote {_shown(further.strip())}.")

    def _is_action(self, line: str) -> bool:
        """Whether a line is surely an action."""
        plain = self.undressed(line) if line.strip() else ""
        return any(template.fits(text) for template in self._tools for text in (plain, plain.lower()))

    def _is_closed(self, action: str) -> bool:
        return any(template.closed and template.fits(action) for template in self._tools)

    def undressed(self, text: str) -> str:
        """Takes decoration off an action, as far as it cannot be a part of it."""
        text = text.strip()
        if self._other is not None:
            listed = _LIST_MARK.match(text)
            return " ".join(self._other.sub("", " ".join(text[listed.end() if listed else 0 :].split())).split())
        plain = text
        for _ in range(LAYERS):
            if self._fits(plain):
                return plain
            plain = _one_layer_less(plain)
        if self._fits(plain):
            return plain
        for mark in MARKDOWN:
            text = _without_pair(text, mark)
        return text

    def _fits(self, text: str) -> bool:
        if self._begins is not None:
            return self._begins.match(text) is not None
        return any(template.fits(text) for template in self._tools)

    def _alone(self, text: str) -> Found[str] | None:
        """Finds an action that has no label, in the official form of the environment."""
        match self._writing.alone:
            case Alone.LINE:
                ends = [template.ends for template in self._tools]
                lines = [line for line in _LINE.finditer(text) if any(a in line[0] and b in line[0] for a, b in ends)]
                found = [Found(self.undressed(line[0]), *line.span()) for line in lines[:MOST_LINES]]
                found = [one for one in found if self._is_closed(one.what)]
            case Alone.FENCE:
                blocks = [Found(block[1].strip(), *block.span()) for block in _FENCE.finditer(text)]
                found = [Found(self.undressed(one.what), one.start, one.end) for one in blocks[:MOST_LINES] if one.what]
                found = [one for one in found if self._fits(one.what)] or found
            case Alone.TAGS:
                found = [one for template in self._tools for one in _between(text, *template.ends)]
            case None:
                found = []
        if len(found) > 1:
            raise MalformedAction(f"Give one action at a time: your answer holds {len(found)}.")
        return Found(self._single(found[0].what), found[0].start, found[0].end) if found else None


def _beside(action: str, ends: Sequence[tuple[str, str]]) -> bool:
    """Whether one action stands right behind another."""
    begins = tuple(begin for begin, _ in ends)
    for mark in {end for _, end in ends}:
        for place in action.split(mark)[1:MOST_LINES]:
            if _GAP.sub("", place, count=1).startswith(begins):
                return True
    return False


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether a part of a text stands in quotes or brackets."""
    before, after = _APOSTROPHE.sub("", text[:start]), text[end:]
    return any(before.count(mark) % 2 and mark in after for mark in "\"'`") or any(
        before.count(begin) > before.count(close) and close in after for begin, close in _BRACKETS
    )


def _is_open(text: str) -> bool:
    """Whether a bracket or a quote of a text is not closed."""
    return text.count('"') % 2 > 0 or any(text.count(begin) > text.count(end) for begin, end in _BRACKETS)


def _is_prose(text: str) -> bool:
    """Whether a text is sentences, or holds no words at all."""
    text = text.strip()
    words = any(map(str.isalnum, text))
    return not words or (not text[0].islower() and text.rstrip("*_\"')\u201d").endswith(_SENTENCE_ENDS))


def _one_layer_less(text: str) -> str:
    """Takes the outermost decoration off."""
    for begin, end in _PAIRS:
        if len(text) > len(begin) + len(end) and text.startswith(begin) and text.endswith(end):
            return text[len(begin) : -len(end)].strip()
    mark = _LIST_MARK.match(text)
    return text[mark.end() :] if mark else text.rstrip(".,;:!").rstrip()


def _without_pair(text: str, mark: str) -> str:
    inner = text[len(mark) : -len(mark)]
    wrapped = text.startswith(mark) and text.endswith(mark) and inner.strip() and mark not in inner
    return inner.strip() if wrapped else text


def _between(text: str, begin: str, end: str) -> list[Found[str]]:
    """Finds what stands from a fixed text to another one, both included.

    Raises:
        MalformedAction: it does not end.
    """
    found: list[Found[str]] = []
    start = text.find(begin)
    while start >= 0:
        stop = text.find(end, start + len(begin))
        if stop < 0:
            raise MalformedAction(f"Your action does not end: write {begin}...{end}.")
        stop += len(end)
        found.append(Found(text[start:stop], start, stop))
        start = text.find(begin, stop)
    return found


def _shown(text: str) -> str:
    line = text.partition("\n")[0]
    return repr(line if len(line) <= 40 else f"{line[:37]}...")
