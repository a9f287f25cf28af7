"""Reduces a chat template with tools to its glue, or says what keeps it from being reduced."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from agentgym.data.rendering import Rendered, render
from agentgym.data.template import Unsound, differing, first_control, named
from agentgym.data.toolglue import Form, Hole, Opening, Pattern, ToolGlue, Writing
from agentgym.data.toolprobes import (
    CALLS,
    FIRST,
    MARKED,
    PROMPTED,
    PROVED,
    SAID,
    SECOND,
    STAND_IN,
    TEXTS,
    THOUGHTS,
    Probe,
    calls,
    conversation,
    probes,
)
from agentgym.errors import ModelError
from envpool.syntaxes import FAMILIES, Family, call_id
from envpool.types import Schema

_CURE = "set another format, as in format=react, or name a file with another template (Jinja) in model.template"


def reduce_tool_template(
    tokenizer: PreTrainedTokenizerBase, offers: Sequence[Sequence[Schema]] = (STAND_IN,)
) -> list[tuple[Opening, ToolGlue]]:
    """Has a template write conversations with calls, cuts them at marks and proves that the pieces rebuild them.

    Args:
        tokenizer: a tokenizer with a chat template.
        offers: sets of tools, each of which is offered in conversations of its own.

    Returns:
        Opening and glue for each set.

    Raises:
        ModelError: the template cannot offer these tools, or a conversation with calls does not only grow in it.
    """
    name = tokenizer.name_or_path
    template, special, controls = named(tokenizer, STAND_IN)
    found = _reduced(template, special, controls, tuple(json.dumps(list(tools)) for tools in offers))
    if isinstance(found, str):
        raise ModelError(f"the chat template of {name!r} {found}: {_CURE}")
    return found


@lru_cache(maxsize=64)
def _reduced(
    template: str, special: tuple[tuple[str, str], ...], controls: tuple[str, ...], offers: tuple[str, ...]
) -> list[tuple[Opening, ToolGlue]] | str:
    """Opening and glue of a template for each set of tools, or what keeps it from being reduced."""
    wanted = list(probes())
    reasons: list[str] = []
    for parts in (False, True):
        asked = [conversation(probe, json.loads(tools), parts=parts) for tools in offers for probe in wanted]
        try:
            answers = iter(render(template, dict(special), asked))
        except ModelError as error:
            return str(error)
        proofs = [dict(zip(wanted, answers, strict=False)) for _ in offers]
        for system in (True, False):
            try:
                return [_Proof(written, controls, system=system).reduced() for written in proofs]
            except Unsound as error:
                reasons.append(str(error))
    return reasons[1]


class _Proof:
    """Cuts what a template wrote into pieces, and shows that they are all there is to it.

    Args:
        written: what it made of all `probes`.
        controls: the tokenizer's control tokens.
        system: whether there is a system message.
    """

    def __init__(self, written: Mapping[Probe, Rendered], controls: Sequence[str], *, system: bool) -> None:
        self._written = written
        self._controls = controls
        self._system = "s" if system else ""
        self._opening = ""

    def reduced(self) -> tuple[Opening, ToolGlue]:
        """Opening and glue.

        Raises:
            Unsound: there are none.
        """
        opening, after_user = self._open()
        cut = self._cut(after_user)
        objection = ""
        for most in (len(TEXTS), len(TEXTS) - 1):  # white space may be treated in some finer way: left as it is
            for writings in itertools.product(list(Writing)[:2], list(Writing)[:2], Writing):
                glue = _with_writings(cut, dict(zip("sur", writings, strict=True)))
                found = next(filter(None, (self._objection(opening, glue, n) for n in range(most))), "")
                if not found:
                    return opening, glue
                objection = objection or found
        raise Unsound(objection)

    def _text(self, letters: str, *, prompt: bool = True, texts: int = 0, call: int = 0, offered: bool = True) -> str:
        rendered = self._written[Probe(self._system + letters, prompt, texts, call, offered)]
        if rendered.error is not None:
            raise Unsound(f"fails on a conversation with calls of tools ({rendered.error})")
        return rendered.text

    def _open(self) -> tuple[Opening, str]:
        """What stands before the first user message, and from there to where the model begins to write."""
        first = self._text("u")
        self._opening, found, after_user = first.partition(MARKED["u"])
        if not found:
            raise Unsound("leaves the text of a user message out where tools are offered")
        begun = self._opening + MARKED["u"]
        if not self._text("ucr").startswith(begun):
            where = differing(self._text("ucr"), begun)
            raise Unsound(f"changes what stands before the first call when the conversation grows{where}")
        if not self._system:
            return Opening("", None, self._opening), after_user
        before, found, between = self._opening.partition(MARKED["s"])
        if not found:
            raise Unsound("leaves the text of a system message out where tools are offered")
        alone = self._written[Probe("u")]
        bare = alone.text.partition(MARKED["u"]) if alone.error is None else ("", "", "")
        return Opening(before, between, bare[0] if bare[2] == after_user else None), after_user

    def _cut(self, after_user: str) -> ToolGlue:
        """The pieces as the shortest conversations show them; how texts are written is open yet."""
        family, several = self._family()
        one = family.write("", calls("c"))
        forms = {behind: self._call_form(base, one) for behind, base in ((False, "u"), (True, "ucr"))}
        between, found, after = self._text("ucr")[len(self._opening) :].partition(one)[2].partition(MARKED["r"])
        if not found:
            raise Unsound("leaves the text of a result out, or writes it otherwise")
        call_stop = first_control(between, self._controls)
        if call_stop is None:
            raise Unsound("ends a call with ordinary text instead of a token of its own")
        word_forms = {behind: self._word_form(base) for behind, base in ((False, "u"), (True, "ucr"))}
        word_stop, later = self._between_words(after_user)
        ended = self._text("uw", prompt=False).partition(MARKED["w"])[2]
        return ToolGlue(
            family=family,
            several=several,
            calls=forms,
            words=word_forms,
            call_stop=call_stop,
            word_stop=word_stop,
            end=first_control(ended, self._controls) or word_stop,
            later=later,
            after_user=after_user,
            first_result=_pattern(between.partition(call_stop)[2], {FIRST: Hole.NAME, call_id(0): Hole.ID}),
            next_result=self._next_result("uprq" if several else "ucrq"),
            after_results=_pattern(after, {FIRST: Hole.LAST_NAME, call_id(0): Hole.LAST_ID}),
            writings={},
            written="".join(text.text for probe, text in self._written.items() if not probe.texts),
        )

    def _family(self) -> tuple[Family, bool]:
        """The family that writes calls as the template does, and whether an answer may hold several."""
        if FIRST not in self._text("ucr"):
            raise Unsound("does not write calls of tools")
        nearest = ""
        for family in FAMILIES:
            shown = [n for n in range(len(CALLS)) if family.write("", calls("c", n)) in self._text("ucr", call=n)]
            if len(shown) == len(CALLS):
                try:
                    return family, family.several and family.write("", calls("p")) in self._text("uprq")
                except Unsound:
                    return family, False
            if shown:
                other = next(n for n in range(len(CALLS)) if n not in shown)
                nearest = f" (nearly as {family.name}, but not the arguments {json.dumps(CALLS[other])[:60]})"
        raise Unsound(f"writes calls of tools in a way that is not known{nearest}")

    def _call_form(self, base: str, one: str) -> Form:
        """How answers with calls are written behind a prompt."""
        lead, found, rest = self._behind(base, "c", "r", MARKED["r"]).partition(one)
        if not found:
            raise Unsound("writes a call otherwise behind a result than behind a user message")
        tail = rest.partition(first_control(rest, self._controls) or "\0")[0]
        around = []
        for letter, mark in (("d", SAID), ("h", THOUGHTS)):
            try:
                before, found, after = self._behind(base, letter, "r", mark).partition(mark)
            except Unsound:
                found = ""
            close, called, _ = after.partition(one) if found else ("", "", "")
            around.append((before, close) if found and called else None)
        said, think = around
        return Form(lead, said, think if think != said else None, tail)

    def _word_form(self, base: str) -> Form:
        """How answers without calls are written behind a prompt."""
        mark = MARKED["w"]
        lead, found, rest = self._behind(base, "w", "U", mark).partition(mark)
        if not found:
            raise Unsound("leaves the text of an answer out, or writes it otherwise")
        tail = rest.partition(first_control(rest, self._controls) or "\0")[0]
        try:
            before, found, after = self._behind(base, "v", "U", THOUGHTS).partition(THOUGHTS)
        except Unsound:
            found = ""
        close, worded, _ = after.partition(mark) if found else ("", "", "")
        return Form(lead, (lead, ""), (before, close) if found and worded else None, tail)

    def _behind(self, base: str, answer: str, follow: str, mark: str) -> str:
        """What stands behind a prompt where it is answered: as an answer of the past, or as the last one."""
        prompt = self._text(base)
        seen = ""
        for letters, prompted in ((base + answer + follow, True), (base + answer, False)):
            try:
                whole = self._text(letters, prompt=prompted)
            except (Unsound, KeyError):
                continue
            if whole.startswith(prompt) and (mark in whole or not prompted):
                return whole[len(prompt) :]
            seen = seen or whole
        raise Unsound(f"begins an answer otherwise than its generation prompt{differing(seen, prompt)}")

    def _between_words(self, after_user: str) -> tuple[str, str]:
        """The token that ends an answer without calls, and what stands from there to a later user message.

        Where a later message makes the template move the tools, it is asked for a conversation without them.
        """
        for offered in (True, False):
            whole = self._text("uwU", offered=offered)
            if offered and not whole.startswith(self._opening + MARKED["u"]):
                continue
            middle, found, after = whole.partition(MARKED["w"])[2].partition(MARKED["U"])
            stop = first_control(middle, self._controls) if found else None
            if stop is not None and after == after_user:
                return stop, middle.partition(stop)[2]
        raise Unsound("writes what follows an answer without calls in another way than by appending")

    def _next_result(self, letters: str) -> Pattern | None:
        try:
            whole = self._text(letters)
        except Unsound:
            return None
        between, found, _ = whole.partition(MARKED["r"])[2].partition(MARKED["q"])
        holes = {FIRST: Hole.LAST_NAME, call_id(0): Hole.LAST_ID, SECOND: Hole.NAME, call_id(1): Hole.ID}
        return _pattern(between, holes) if found else None

    def _objection(self, opening: Opening, glue: ToolGlue, texts: int) -> str:
        """What the template writes otherwise than the pieces do; empty if nothing."""
        for letters in (letters for letters in PROMPTED if not texts or letters in PROVED):
            if ("p" in letters and not glue.several) or ("q" in letters and glue.next_result is None):
                continue
            if ("d" in letters and glue.calls[False].said is None) or "h" in letters or "v" in letters:
                continue
            try:
                written = self._text(letters, texts=texts)
            except Unsound:
                if "U" in letters or "q" in letters:
                    continue  # it has its own rules for who may speak
                raise
            rebuilt = _rebuilt(self._system + letters, opening, glue, texts)
            if "U" in letters and not written.startswith(_rebuilt(self._system, opening, glue, texts)):
                continue  # it moves or drops what was said before; a transcript keeps it
            if written != rebuilt and not ("U" in letters and _same_end(written, rebuilt)):
                where = differing(written, rebuilt)
                return f"writes a conversation with calls of tools in another way than by appending{where}"
        return ""


def _with_writings(glue: ToolGlue, writings: Mapping[str, Writing]) -> ToolGlue:
    """The glue where texts are written so; the quotes around a text in JSON belong to the text."""
    if writings["r"] not in (Writing.JSON, Writing.TRIMMED_JSON):
        return replace(glue, writings=writings)
    return replace(
        glue,
        writings=writings,
        first_result=_unquoted(glue.first_result, -1),
        next_result=None if glue.next_result is None else _unquoted(_unquoted(glue.next_result, -1), 0),
        after_results=_unquoted(glue.after_results, 0),
    )


def _unquoted(pattern: Pattern, place: int) -> Pattern:
    """The pattern without the quote at its end or its beginning."""
    parts = list(pattern)
    part = parts[place] if parts else ""
    if not isinstance(part, Hole):
        parts[place : place + 1 or None] = [part.removesuffix('"') if place else part.removeprefix('"')]
    return tuple(parts)


def _same_end(written: str, rebuilt: str) -> bool:
    """Whether two conversations are the same from the last answer on."""
    return len(written) != len(rebuilt) and written[-40:] == rebuilt[-40:]


def _pattern(text: str, holes: Mapping[str, Hole]) -> Pattern:
    parts = re.split("(" + "|".join(map(re.escape, holes)) + ")", text)
    return tuple(holes.get(part, part) for part in parts if part)


def _rebuilt(letters: str, opening: Opening, glue: ToolGlue, texts: int) -> str:
    """Writes a conversation up to where the model answers, from pieces."""
    said = TEXTS[texts]
    text, behind = "" if opening.between is not None else opening.alone or "", False
    names: dict[Hole, str] = {}
    for n, letter in enumerate(letters):
        if letter == "s":
            text += opening.before + glue.writings["s"](said["s"]) + (opening.between or "")
        elif letter in "uU":
            text += (glue.later if letter == "U" else "") + glue.writings["u"](said[letter]) + glue.after_user
            behind = False
        elif letter in "rq":
            pattern = glue.next_result if letter == "q" else glue.first_result
            tool, number = (SECOND, 1) if letter == "q" else (FIRST, 0)
            names |= {Hole.NAME: tool, Hole.ID: call_id(number)}
            text += _filled(glue, pattern or (), names) + glue.writings["r"](said[letter])
            names |= {Hole.LAST_NAME: tool, Hole.LAST_ID: call_id(number)}
            if letters[n + 1 : n + 2] != "q":
                text += _filled(glue, glue.after_results, names)
            behind = True
        elif called := calls(letter):
            words = SAID if letter == "d" else ""
            text += glue.answer("", words, called, after_results=behind) + glue.call_stop
        else:
            text += glue.answer("", said["w"], (), after_results=behind) + glue.word_stop
    return text


def _filled(glue: ToolGlue, pattern: Pattern, names: Mapping[Hole, str]) -> str:
    return "".join(text for text, _ in glue.fill(pattern, names))
