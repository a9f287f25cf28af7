"""A chat template reduced to what it writes around messages.

Some templates write answers of the past otherwise than the last one: they drop the thoughts. A transcript keeps what
the model wrote, so what stands before an answer is then taken from where the model is about to write, and what the
model writes itself from how the template writes the last answer. Either way the pieces have to rebuild everything that
the template writes for conversations of several lengths.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from agentgym.data.rendering import DAY, Conversation, Rendered, render
from agentgym.errors import ModelError
from envpool.errors import did_you_mean
from envpool.types import Schema

_TIDY = ("You see a café ☕ and 3 doors.", "Thought:\nI look.\n\nAction:\nlook", "None:\n\n- 8,6", "north", "A wall.")
_PADDED = ("\n go \n\n", "  look\n", " \n", "\nwest ", "\t2 doors \n")
_MARKED = ("qzFIRSTzq", "qzANSWERzq", "qzSECONDzq")
_THOUGHTS = "qzTHOUGHTSzq"
_OTHER_DAY = "1999-12-31"

_BEGIN, _END = "<think>", "</think>"
BLOCK = re.compile(rf"\s*{_BEGIN}(.*?)(?:{_END}(.*))?", re.DOTALL)
"""An answer that begins with thoughts; the block is open where the answer was cut within it."""


_OPEN = (("<think>", "</think>"), ("<|channel>thought\n", "<channel|>"))


def opened_thoughts(prompt: str) -> str:
    """How a prompt opens the block of thoughts within which a model begins to write; empty if it does not."""
    places = [prompt.rfind(opens) if prompt.rfind(opens) > prompt.rfind(closes) else -1 for opens, closes in _OPEN]
    return prompt[max(places) :] if max(places) >= 0 else ""


@dataclass(frozen=True, slots=True)
class Glue:
    """What a chat template writes around the messages of user and assistant.

    Attributes:
        opening: before the first user message.
        prompt: from the end of a user message to where the model begins to write.
        lead: what an answer without thoughts begins with beyond `prompt`; the model writes it itself.
        tail: what stands between an answer and its stop token; the model writes it itself.
        stop: the token that ends an answer.
        between: from behind the stop token to the next user message.
        think: what stands before and behind the thoughts that an answer begins with, beyond `prompt`; None where the
            template has no block for them and they are text as any other.
        trims_user: whether white space around user messages is removed.
        trims_answer: whether white space around answers is removed.
        day: the day that the template writes as today; None if it writes none.
    """

    opening: str
    prompt: str
    lead: str
    tail: str
    stop: str
    between: str
    think: tuple[str, str] | None = None
    trims_user: bool = False
    trims_answer: bool = False
    day: str | None = None

    @property
    def thinks_in_prompt(self) -> bool:
        """Whether a model begins to write within a block of thoughts."""
        return self.prompt.rfind(_BEGIN) > self.prompt.rfind(_END)

    @property
    def forbids_thoughts(self) -> bool:
        """Whether the block of thoughts is over before a model begins to write."""
        return self.prompt.rfind(_END) > self.prompt.rfind(_BEGIN)

    def user(self, text: str) -> str:
        """A user message as the template writes it."""
        return text.strip() if self.trims_user else text

    def answer(self, text: str, *, cut: bool = False) -> str:
        """An answer as the template writes it, without its stop token.

        Thoughts that it begins with, as ``<think>...</think>``, go into the template's own block. They are left out
        where `forbids_thoughts`.

        Args:
            text: the answer.
            cut: whether it ended at a length limit: then nothing follows what was written.
        """
        block = BLOCK.fullmatch(text) if self.think or self.forbids_thoughts else None
        thoughts, said, closed = "", text, True
        if block:
            thoughts, said, closed = block[1].strip(), (block[2] or "").lstrip("\n"), block[2] is not None
        if self.think is None:
            thoughts = ""
        if cut and not (thoughts or said.strip()):
            return ""
        if self.trims_answer:
            said = said.lstrip() if cut else said.strip()
        head = self.lead
        if self.think and thoughts:
            head = self.think[0] + thoughts + (self.think[1] if closed else "")
        return head + said + ("" if cut else self.tail)

    def read(self, written: str) -> str:
        """The text of an answer from what a model wrote up to its stop token: without `lead` and `tail`.

        Thoughts that began in the prompt get the tag that opens them, so that the text says what they are.
        """
        if written.startswith(self.lead):
            return written.removeprefix(self.lead).removesuffix(self.tail)
        return opened_thoughts(self.prompt) + written.removesuffix(self.tail)

    def rebuild(self, texts: Sequence[str], past: str) -> str:
        """Writes a conversation (user, assistant, ..., user) up to where the model answers the last message.

        Args:
            texts: the messages.
            past: what stands between a user message and an answer that is not the last.
        """
        text = self.opening + self.user(texts[0])
        for answer, observation in zip(texts[1::2], texts[2::2], strict=True):
            said = answer.strip() if self.trims_answer else answer
            text += past + said + self.tail + self.stop + self.between + self.user(observation)
        return text + self.prompt


def with_options(template: str, options: Mapping[str, Any], name: str) -> str:
    """A chat template that sets variables of its own, as ``{"enable_thinking": False}``, so that nobody else need.

    Args:
        template: its text.
        options: name to value.
        name: what the template belongs to.

    Raises:
        ModelError: the template knows no such variable.
    """
    words = set(re.findall(r"\w+", template))
    for option in options:
        if option not in words:
            near = did_you_mean(option, words)
            raise ModelError(
                f"the chat template of {name!r} knows no option {option!r}{near}: change model.template_options"
            )
    # the line break behind a block is not written
    return "".join(f"{{% set {option} = {_literal(value)} %}}\n" for option, value in options.items()) + template


def _literal(value: Any) -> str:
    """A value as Jinja spells it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


class Unsound(Exception):
    """A template cannot be reduced; says what it does."""


def reduce_template(tokenizer: PreTrainedTokenizerBase) -> Glue:
    """Renders marked messages, cuts the result at the marks and proves that the pieces rebuild what is rendered.

    Args:
        tokenizer: a tokenizer with a chat template.

    Raises:
        ModelError: there is no template, it cannot be rendered with user and assistant messages alone, does not end,
            ends an answer with no token of its own, or writes a conversation in another way than by appending to it.
    """
    found = _reduced(*named(tokenizer))
    if isinstance(found, str):
        raise _unusable(tokenizer.name_or_path, found)
    return found


def named(
    tokenizer: PreTrainedTokenizerBase, tools: Sequence[Schema] = ()
) -> tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What a reduction depends on: the template, its names of special tokens, and the control tokens.

    Args:
        tokenizer: a tokenizer with a chat template.
        tools: what is offered; some models have a template of its own for tools.

    Raises:
        ModelError: there is no template, or none by the name of default.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {name!r} has no chat template: choose a chat (instruct) model, or name a file with one "
            "(Jinja) in model.template"
        )
    try:
        template = tokenizer.get_chat_template(tools=[dict(tool) for tool in tools] or None)
    except ValueError as error:  # several by name, none of them the default
        why = "has none by the name of default"
        raise _unusable(name, why) from error
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if not isinstance(value, list)}
    controls = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})
    return template, tuple(special.items()), tuple(controls)


@lru_cache(maxsize=64)
def _reduced(template: str, special: tuple[tuple[str, str], ...], controls: tuple[str, ...]) -> Glue | str:
    """The glue of a template, or what keeps it from being reduced."""
    wanted = [(parts, key) for parts in (False, True) for key in _wanted()]
    try:
        answers = render(template, dict(special), [_conversation(*key, parts=parts) for parts, key in wanted])
    except ModelError as error:
        return str(error)
    reasons = []
    for parts in (False, True):
        written = {key: text for (in_parts, key), text in zip(wanted, answers, strict=True) if in_parts == parts}
        try:
            return _Proof(written, controls).glue()
        except Unsound as error:
            reasons.append(str(error))
    return reasons[0]


_Key = tuple[tuple[str, ...], bool, str, str]  # messages, whether a model is to answer, thoughts of the last, day


def _wanted() -> Iterator[_Key]:
    """All conversations that a reduction looks at."""
    first, answer, _ = _MARKED
    for texts in (_MARKED, _TIDY, _PADDED):
        for count in range(1, len(texts) + 1):
            yield texts[:count], count % 2 == 1, "", DAY
    yield (first, answer), False, _THOUGHTS, DAY
    yield (first,), True, "", _OTHER_DAY


def _conversation(texts: Sequence[str], prompt: bool, thoughts: str, day: str, *, parts: bool) -> Conversation:
    roles = itertools.cycle(("user", "assistant"))
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
        for role, text in zip(roles, texts, strict=False)
    ]
    if thoughts:  # the names that templates know
        messages[-1] |= {"reasoning_content": thoughts, "reasoning": thoughts, "thinking": thoughts}
    return Conversation(messages, prompt, day)


class _Proof:
    """Cuts what a template wrote into pieces, and shows that they are all there is to it.

    Args:
        written: what it made of all of `_wanted`.
        controls: the tokenizer's control tokens.
    """

    def __init__(self, written: Mapping[_Key, Rendered], controls: Sequence[str]) -> None:
        self._written = written
        self._controls = controls

    def glue(self) -> Glue:
        """The pieces.

        Raises:
            Unsound: there are none.
        """
        cut, past = self._cut()
        for trims_user, trims_answer in itertools.product((False, True), repeat=2):
            glue = replace(cut, trims_user=trims_user, trims_answer=trims_answer)
            if not (self._objection(glue, past, _TIDY) or self._objection(glue, past, _PADDED)):
                return glue
        if objection := self._objection(cut, past, _TIDY):
            raise Unsound(objection)
        return cut  # white space is treated in some finer way: left as it is

    def _text(self, texts: Sequence[str], *, prompt: bool = True, thoughts: str = "", day: str = DAY) -> str:
        rendered = self._written[tuple(texts), prompt, thoughts, day]
        if rendered.error is not None:
            raise Unsound(f"fails on user and assistant messages ({rendered.error})")
        return rendered.text

    def _cut(self) -> tuple[Glue, str]:
        """The pieces as the shortest conversations show them, and what stands before an answer of the past."""
        first, answer, second = _MARKED
        alone, whole = self._text([first]), self._text(_MARKED)
        opening, found, prompt = alone.partition(first)
        if not found:
            raise Unsound("leaves the text of a user message out, or writes it otherwise")
        history, found, rest = whole.partition(answer)
        middle, followed, _ = rest.partition(second)
        if not (found and followed):
            what = "a user message" if found else "an answer of the past"
            raise Unsound(f"leaves the text of {what} out, or writes it otherwise")
        if not history.startswith(opening + first):
            raise Unsound(
                f"changes what stands before the first answer when the conversation grows{differing(whole, alone)}"
            )
        past = history[len(opening + first) :]
        stop = first_control(middle, self._controls)
        if stop is None:
            raise Unsound("ends an answer with ordinary text instead of a token of its own")
        tail, _, between = middle.partition(stop)
        day = DAY if self._text([first], day=_OTHER_DAY) != alone else None
        glue = Glue(opening, prompt, "", tail, stop, between, day=day)
        lead = past.removeprefix(prompt) if past.startswith(prompt) else self._lead_of_last(glue)
        think = self._think(replace(glue, lead=lead or ""), past)
        if lead is None and (think is None or not glue.thinks_in_prompt):
            raise Unsound(
                f"begins its last answer otherwise than its generation prompt, {prompt[-60:]!r}, which opens no "
                "block of thoughts that the answer could close"
            )
        if think and glue.thinks_in_prompt:
            lead = lead or think[1]
        return replace(glue, lead=lead or "", think=think), past

    def _lead_of_last(self, glue: Glue) -> str | None:
        """What the last answer begins with beyond the prompt; None where the prompt does not come before it."""
        found = self._last(glue, "")
        return None if found is None else found.partition(_MARKED[1])[0]

    def _last(self, glue: Glue, thoughts: str) -> str | None:
        """What the last answer is behind the prompt; None if another prompt or end stands around it."""
        first, answer, _ = _MARKED
        before = glue.opening + first + glue.prompt
        try:
            written = self._text([first, answer], prompt=False, thoughts=thoughts)
        except Unsound:
            return None
        rest = written.removeprefix(before)
        said, found, end = rest.partition(answer)
        whole = rest != written and found and end.startswith(glue.tail + glue.stop)
        return said + answer if whole and thoughts in said else None

    def _think(self, glue: Glue, past: str) -> tuple[str, str] | None:
        """What stands around the thoughts of an answer, where the template has a block for them."""
        if not glue.thinks_in_prompt and _BEGIN not in glue.lead:
            return None
        shown = self._last(glue, _THOUGHTS)
        if shown is not None:
            opens, _, closes = shown.removesuffix(_MARKED[1]).partition(_THOUGHTS)
            if opens.count(_BEGIN) == (not glue.thinks_in_prompt) and _END in closes and _BEGIN not in closes:
                return opens, closes
        if glue.thinks_in_prompt and _END in glue.lead:
            return "", glue.lead
        if (
            glue.thinks_in_prompt
        ):  # it never shows how a block is closed: as answers of the past end it, or as DeepSeek's
            return "", past[past.rfind(_END) :] if _END in past else f"\n{_END}\n\n"
        opens, begin, rest = glue.lead.partition(_BEGIN)
        return opens + begin, rest[rest.find(_END) :]

    def _objection(self, glue: Glue, past: str, texts: Sequence[str]) -> str:
        """What the template writes otherwise than the pieces do; empty if nothing."""
        for count in range(1, len(texts) + 1, 2):
            written, rebuilt = self._text(texts[:count]), glue.rebuild(texts[:count], past)
            if written != rebuilt:
                where = differing(written, rebuilt)
                return f"writes a conversation of {count} messages in another way than by appending{where}"
            if past.startswith(glue.prompt) or count == len(texts):
                continue
            answered = rebuilt + glue.answer(texts[count]) + glue.stop
            last = self._text(texts[: count + 1], prompt=False)
            if self._lead_of_last(glue) is not None and not last.startswith(answered):
                where = differing(last, answered)
                return f"writes its last answer of {count + 1} messages otherwise than after a prompt{where}"
        return ""


def first_control(text: str, controls: Sequence[str]) -> str | None:
    """The control token that begins first in a text, the longest if several do; white space is none."""
    found = [(text.index(name), -len(name), name) for name in controls if name.strip() and name in text]
    return min(found)[2] if found else None


def differing(written: str, expected: str) -> str:
    """Where two texts differ first."""
    same = next((i for i, (a, b) in enumerate(zip(written, expected, strict=False)) if a != b), None)
    at = max(0, (min(len(written), len(expected)) if same is None else same) - 12)
    return f" (it writes {written[at : at + 36]!r}, not {expected[at : at + 36]!r})"


def _unusable(name: str, why: str) -> ModelError:
    return ModelError(
        f"the chat template of {name!r} {why}: name a file with a simpler one (Jinja) in model.template, or choose "
        "another model"
    )
