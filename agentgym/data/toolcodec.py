"""Conversations with calls of tools to token ids and a loss mask, for models that call tools in a syntax of their own.

The promise of `codec.py` holds here, too: a transcript only grows, and the tokens that a model acts on are those that
it is trained on. Tools are offered through the chat template, the prompt is a message of the system, and each call is
answered by a message of its own, where the template has such messages.

What the model sampled itself stays as it is. An answer that somebody else wrote is read, by whatever family of syntaxes
it is written in, and written again in the model's own syntax. One that cannot be read is encoded as the text that it
is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from agentgym.data.encoding import Encoder
from agentgym.data.guard import Guard, guarding
from agentgym.data.template import BLOCK, opened_thoughts
from agentgym.data.toolglue import Hole, Opening
from agentgym.data.tooltemplate import reduce_tool_template
from agentgym.data.transcript import TokenSequence, Transcript
from agentgym.errors import ModelError
from envpool.syntaxes import call_id, split
from envpool.types import Call, Message, Schema, Trajectory, Turn, first_message

if TYPE_CHECKING:
    from envpool.policy import Episode

_IDS = re.compile(r'"id": ?"(\w{9})"|\[CALL_ID\](\w+)')
"""The ids that a model gives to its calls, where its template makes results repeat them."""


class ToolCodec:
    """Turns conversations with calls of tools into tokens, and answers back into text.

    Args:
        tokenizer: a tokenizer whose chat template offers tools.

    Attributes:
        glue: what the template writes around messages, calls and results.
        stop_id: the token that ends an answer with calls.
        stop_ids: the tokens at which an answer ends.
        vocabulary: every token id is smaller.

    Raises:
        ModelError: there is no chat template, it cannot offer tools, a conversation with calls does not only grow in
            it, or it writes calls in a syntax that is not known.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._openings: dict[str, Opening] = {}
        ((_, self.glue),) = reduce_tool_template(tokenizer)
        self.encoder = Encoder(tokenizer, self.glue.written)
        self.stop_id = self.one(self.glue.call_stop)
        self.stop_ids = frozenset({self.stop_id, self.one(self.glue.end), tokenizer.eos_token_id} - {None})
        self.vocabulary = self.encoder.vocabulary
        after_results = [part for part in self.glue.after_results if not isinstance(part, Hole)]
        prompts = {False: self.glue.after_user, True: "".join(after_results[-1:])}
        self._contexts = {behind: self.encoder.cut_after_last(prompt)[1] for behind, prompt in prompts.items()}
        self._opened = {behind: opened_thoughts(prompt) for behind, prompt in prompts.items()}
        forms = [*self.glue.calls.values(), *self.glue.words.values()]
        shown = [part for form in forms for part in (form.lead, *(form.said or ()), *(form.think or ()))]
        calls = self.glue.family.write("", [Call("name", {"key": "value"})])
        ends = {self.glue.call_stop, self.glue.end}
        syntax = {mark[0] for text in (*shown, calls) for mark in self.encoder.find(text)}
        self._guard_calls = guarding(self.encoder.marks)
        self._guard_words = guarding((self.encoder.marks - syntax) | ends)  # its own marks count there

    def transcript(self, tools: Sequence[Schema]) -> ToolTranscript:
        """Starts an empty conversation in which tools are offered.

        Raises:
            ModelError: the template cannot offer these tools.
        """
        return ToolTranscript(self, tools)

    def encode(self, trajectory: Trajectory, limit: int | None = None) -> TokenSequence:
        """Makes the tokens of a recorded episode; see `Codec.encode`.

        Raises:
            ModelError: the template cannot offer the tools of this episode.
        """
        transcript = self.transcript(trajectory.tools)
        transcript.begin(trajectory.prompt, trajectory.observation)
        kept = length = 0
        for turn in trajectory.turns:
            read_next = transcript.record(turn)
            if limit is not None and len(transcript.ids) > limit:
                break
            kept, length = kept + 1, len(transcript.ids)
            transcript.observe(read_next)
        return TokenSequence(
            tuple(transcript.ids[:length]), tuple(transcript.mask[:length]), cut=len(trajectory.turns) - kept
        )

    def opening(self, tools: Sequence[Schema]) -> Opening:
        """What the template writes before the first user message where these tools are offered.

        Raises:
            ModelError: it cannot offer them, or they change more than that.
        """
        self.offer([tools])
        return self._openings[json.dumps(list(tools))]

    def offer(self, offers: Sequence[Sequence[Schema]]) -> None:
        """Makes sure that sets of tools can be offered, all at once: a template is rendered in a process of its own.

        Raises:
            ModelError: see `opening`.
        """
        name = self._tokenizer.name_or_path
        fresh = {key: tools for tools in offers if (key := json.dumps(list(tools))) not in self._openings}
        for tools in fresh.values():
            text = json.dumps(list(tools), ensure_ascii=False)
            if spelt := [mark for mark in self.encoder.marks if mark in text]:
                raise ModelError(
                    f"a tool that is offered spells the control token {min(spelt)!r} of {name!r}: describe it in other "
                    "words, or set another format, as in format=react"
                )
        reduced = reduce_tool_template(self._tokenizer, list(fresh.values())) if fresh else []
        for key, (opening, glue) in zip(fresh, reduced, strict=True):
            if glue != self.glue:
                raise ModelError(
                    f"the chat template of {name!r} writes other conversations where other tools are offered: set "
                    "another format, as in format=react"
                )
            self._openings[key] = opening

    def first(self, opening: Opening, prompt: str, observation: str) -> list[int]:
        """The tokens of what stands before the first answer; the prompt goes to the user where no system message can.

        Args:
            opening: what stands before the first user message.
            prompt: the instructions; may be empty.
            observation: the first observation.
        """
        glue = self.glue
        if opening.between is not None and (prompt or opening.alone is None):
            head = [(opening.before, True), (glue.writings["s"](prompt), False), (opening.between, True)]
            said = observation
        else:
            head, said = [(opening.alone or "", True)], first_message(prompt, observation)
        return self.encoder.pieces([*head, (glue.writings["u"](said), False), (glue.after_user, True)])

    def later(self, replies: Sequence[Message], names: Sequence[tuple[str, str]]) -> list[int]:
        """The tokens from behind an answer's stop token to where the model answers again.

        Args:
            replies: what was said, by tools or by a user.
            names: tool and id of each call that was answered.
        """
        glue = self.glue
        if replies[0].role != "tool":
            said = "\n\n".join(reply.content for reply in replies)
            pieces = [(glue.later, True), (glue.writings["u"](said), False), (glue.after_user, True)]
            return self.encoder.pieces(pieces, behind=glue.word_stop)
        results = [reply.content for reply in replies]
        if glue.next_result is None:
            results = ["\n\n".join(results)]
        holes: dict[Hole, str] = {}
        pieces = []
        for number, result in enumerate(results):
            name, identity = names[number] if number < len(names) else ("", call_id(number))
            holes |= {Hole.NAME: name, Hole.ID: identity}
            pieces += glue.fill((number and glue.next_result) or glue.first_result, holes)
            pieces.append((glue.writings["r"](result), False))
            holes |= {Hole.LAST_NAME: name, Hole.LAST_ID: identity}
        return self.encoder.pieces([*pieces, *glue.fill(glue.after_results, holes)], behind=glue.call_stop)

    def decode(self, ids: Sequence[int], *, after_results: bool) -> str:
        """The text of an answer without its stop token; thoughts that began in the prompt get the tag that opens them.

        Args:
            ids: what the model wrote.
            after_results: whether its prompt stood behind results.
        """
        if ids and ids[-1] in self.stop_ids:
            ids = ids[:-1]
        return self._opened[after_results] + self.encoder.decode(ids, self._contexts[after_results])

    def spells(self, ids: Sequence[int]) -> bool:
        """Whether all ids are tokens of this vocabulary."""
        return all(token < self.vocabulary for token in ids)

    def answer(
        self, text: str, calls: Sequence[Call], tools: Sequence[Schema], *, after_results: bool, cut: bool
    ) -> list[int]:
        """The tokens of an answer that somebody else wrote, in the model's syntax, without a stop token.

        Args:
            text: the answer.
            calls: those of its calls to write; none for an answer in words.
            tools: what is offered.
            after_results: whether its prompt stands behind results.
            cut: whether it ended at a length limit: then nothing follows what was written.
        """
        context, opened = self._contexts[after_results], self._opened[after_results]
        thoughts, rest = _private(text)
        said = split(rest, tools).said.strip() if calls else ""
        for words in dict.fromkeys([said, ""] if calls else []):
            written = self.glue.answer(thoughts, words, calls, after_results=after_results)
            if _same(split(opened + written, tools).calls, calls):
                guard = Guard(self._guard_calls)
                guarded = [Call(guard(call.tool), guard.inside(call.arguments)) for call in calls]
                written = self.glue.answer(guard(thoughts), guard(words), guarded, after_results=after_results)
                return self.encoder.answer(list(guard.pieces(written)), context)
        guard = Guard(self._guard_words)
        unread = self._in_words(guard(text), after_results=after_results, cut=cut)
        return self.encoder.answer(list(guard.pieces(unread)), context)

    def _in_words(self, text: str, *, after_results: bool, cut: bool) -> str:
        """An answer without calls as the model writes it."""
        form, opened = self.glue.words[after_results], self._opened[after_results]
        block = BLOCK.fullmatch(text)
        if cut and not text.removeprefix(opened).strip():
            return ""
        if block and block[2] is None and form.think is not None:  # its thoughts do not end
            return form.think[0] + block[1].strip()
        if opened and block and block[2] is None:
            return text.removeprefix(opened)
        if self._is_own(text, after_results):
            return text
        thoughts, said = _private(text)
        if cut and not (thoughts and not said.strip()):
            return self.glue.answer(thoughts, said.lstrip(), (), after_results=after_results).removesuffix(form.tail)
        return self.glue.answer(thoughts, said.strip(), (), after_results=after_results)

    def one(self, token: str) -> int:
        """The id of a control token."""
        (found,) = self.encoder.glue(token)
        return found

    def _is_own(self, text: str, after_results: bool) -> bool:
        """Whether an answer that cannot be read begins as those of this model do."""
        forms = (self.glue.calls[after_results], self.glue.words[after_results])
        starts = {part for form in forms for part in (form.lead, *(form.think or ())[:1], *(form.said or ())[:1])}
        return any(text.startswith(start) for start in starts if start)


class ToolTranscript(Transcript):
    """One conversation with calls of tools as it grows; tokens are only ever appended.

    Args:
        codec: of the model's tokenizer.
        tools: what is offered.

    Raises:
        ModelError: the template cannot offer these tools.
    """

    def __init__(self, codec: ToolCodec, tools: Sequence[Schema]) -> None:
        super().__init__()
        self._codec = codec
        self._tools = tools
        self._opening = codec.opening(tools)
        self._after_results = False
        self._names: list[tuple[str, str]] = []

    def hear(self, message: str, episode: Episode) -> list[int]:
        """Appends what the environment said last, up to where the model answers; see `Transcript.hear`."""
        return self.observe(episode.turns[-1]) if self.ids else self.begin(episode.prompt, episode.observation)

    def begin(self, prompt: str, observation: str) -> list[int]:
        """Appends instructions and first observation, up to where the model answers.

        Returns:
            All ids, which the model has yet to read.
        """
        return self.read_next(self._codec.first(self._opening, prompt, observation))

    def observe(self, turn: Turn) -> list[int]:
        """Appends what a turn brought, up to where the model answers again.

        Returns:
            All ids behind those that the model sampled last: what it has yet to read.
        """
        replies = turn.replies
        called = replies[0].role == "tool"
        codec = self._codec
        glue = codec.glue
        ends = set(map(codec.one, (glue.call_stop,) if called else (glue.word_stop, glue.end)))
        if self.ids[-1] not in ends:  # it was cut, or ended by a token that no template writes
            self.close(codec.one(glue.call_stop if called else glue.word_stop))
        self._after_results = called
        return self.read_next(codec.later(replies, self._names))

    def act(self, ids: Sequence[int], logprobs: Sequence[float] | None = None, *, learned: bool = True) -> None:
        """Appends what the model answered; see `Transcript.act`."""
        text = self.decode(ids)
        calls = split(text, self._tools).calls
        given = [first or second for first, second in _IDS.findall(text)]
        ids_of = given if len(given) == len(calls) else [call_id(number) for number in range(len(calls))]
        self._names = [(call.tool, identity) for call, identity in zip(calls, ids_of, strict=True)]
        self.append_answer(ids, logprobs, learned)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer to what was said last."""
        return self._codec.decode(ids, after_results=self._after_results)

    def record(self, turn: Turn) -> Turn:
        """Appends the answer of a recorded turn.

        Sampled ids are taken as they are if the recorded text is read out of them. For a model that gives one
        call in an answer, an answer with several becomes several answers, each with its result.

        Returns:
            The turn whose result is to be observed next.
        """
        completion = turn.completion
        ids = completion.token_ids
        if ids is not None and self._codec.spells(ids) and self.decode(ids) == completion.text:
            self.act(ids, learned=turn.learned)
            return turn
        calls = turn.calls or split(completion.text, self._tools).calls
        if len(calls) > 1 and not self._codec.glue.several:
            return self._record_each(turn, calls)
        self._record(turn, completion.text, calls)
        return turn

    def _record_each(self, turn: Turn, calls: Sequence[Call]) -> Turn:
        """Appends calls that were carried out, or the first one that was not; returns what is to be observed next."""
        results = (turn.results or (turn.observation,)) if turn.action is not None else (turn.observation,)
        last = len(results) - 1
        for number, (call, result) in enumerate(zip(calls, results, strict=False)):
            self._record(turn, turn.completion.text if number == 0 else "", [call])
            one = replace(turn, calls=(call,), observation=result, results=())
            if number < last:
                self.observe(one)
        return one

    def _record(self, turn: Turn, text: str, calls: Sequence[Call]) -> None:
        codec, cut = self._codec, turn.completion.cut
        spelt = codec.answer(text, calls, self._tools, after_results=self._after_results, cut=cut)
        stop = codec.glue.call_stop if calls else codec.glue.end
        self.act(spelt if cut else [*spelt, codec.one(stop)], learned=turn.learned)


def _private(text: str) -> tuple[str, str]:
    """Private thoughts that an answer begins with, and the rest."""
    block = BLOCK.fullmatch(text)
    return (block[1].strip(), block[2].lstrip("\n")) if block and block[2] is not None else ("", text)


def _same(found: Sequence[Call], calls: Sequence[Call]) -> bool:
    """Whether calls are the same, and their arguments of the same types."""
    return [_as_json(call) for call in found] == [_as_json(call) for call in calls]


def _as_json(call: Call) -> str:
    return json.dumps([call.tool, dict(call.arguments)], sort_keys=True)
