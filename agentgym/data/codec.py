"""Conversations to token ids and a loss mask, exactly one way, for training and acting alike.

A chat template is reduced to its glue once (`template.py`) and never rendered again. From then on a `Transcript`
only appends: the glue and the observation when the environment speaks, the sampled tokens as they are when the
model does. Rendering the whole conversation anew each turn would spell what the model wrote differently from how it
wrote it, and would break the prefix that cached keys and values stand for.

The tokens of a prompt are those which the tokenizer gives for the template's text, but for one thing: a control token
spelt out in an observation stays ordinary text. (A family whose turn marks are ordinary text themselves, as Llama 2's
``[INST]``, offers no such protection.) Where a template drops the thinking of earlier answers, a transcript keeps it:
the model goes on from the very tokens that it wrote. The beginning-of-text token stands where the template writes it.
A template that writes today's date gets the same date every day.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from agentgym.data.encoding import Encoder
from agentgym.data.template import reduce_template
from agentgym.data.toolcodec import ToolCodec
from agentgym.data.transcript import TokenSequence, Transcript
from agentgym.errors import ModelError
from envpool import Completion, Trajectory
from envpool.types import Schema

if TYPE_CHECKING:
    from envpool.policy import Episode


class Codec:
    """Turns conversations into tokens, and answers back into text.

    Args:
        tokenizer: a tokenizer with a chat template for user and assistant messages.

    Attributes:
        stop_id: the token with which the template ends an answer.
        stop_ids: the tokens at which an answer ends: `stop_id` and the tokenizer's own end of text.
        vocabulary: every token id is smaller; a model's output layer may be wider than that.
        day: the day that the chat template writes as today's, the same every day; None if it writes none.

    Raises:
        ModelError: there is no chat template, it cannot be continued by appending, or the tokenizer cannot tell its
            control tokens from text.
    """

    stop_id: int
    stop_ids: frozenset[int]
    vocabulary: int
    day: str | None

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._glue = glue = reduce_template(tokenizer)
        self.day = glue.day
        self._encoder = encoder = Encoder(tokenizer, glue.opening + glue.prompt + glue.stop + glue.between)
        (self.stop_id,) = encoder.glue(glue.stop)
        self.stop_ids = frozenset({self.stop_id, tokenizer.eos_token_id} - {None})
        self.vocabulary = encoder.vocabulary
        self._context = encoder.cut_after_last(glue.prompt)[1]

    @cached_property
    def with_tools(self) -> ToolCodec:
        """The codec of conversations in which the model calls tools in its own syntax (format ``native``).

        Raises:
            ModelError: the chat template has none; see `ToolCodec`.
        """
        return ToolCodec(self._tokenizer)

    def _tools_for(self, trajectory: Trajectory) -> ToolCodec:
        try:
            return self.with_tools
        except ModelError as error:
            raise ModelError(
                f"{trajectory.item_id} holds calls of tools as data, which this model cannot write: leave such data "
                f"out, or choose a model that can ({error})"
            ) from error

    def transcript(self, tools: Sequence[Schema] = ()) -> TextTranscript:
        """Starts an empty conversation.

        Args:
            tools: those that are offered as data; `with_tools` has such conversations.

        Raises:
            ModelError: there are any.
        """
        if tools:
            raise ModelError("tools are offered to a codec that has none: play the format native with Codec.with_tools")
        return TextTranscript(self)

    def encode(self, trajectory: Trajectory, limit: int | None = None) -> TokenSequence:
        """Makes the tokens of a recorded episode, as they arose or would have arisen when this model played it.

        The last observation, which nobody answered, is left out; an episode without turns gives no tokens. Of a turn
        that is not learned from, the mask is False.

        Args:
            trajectory: the episode.
            limit: most tokens. What is longer loses whole turns, from its end; none is left where the first one does
                not fit. None for no limit.

        Raises:
            ModelError: tools are offered as data in it, and the chat template cannot offer them.
        """
        if trajectory.tools:
            return self._tools_for(trajectory).encode(trajectory, limit)
        transcript = self.transcript()
        kept = length = 0
        for message, turn in zip(trajectory.messages[::2], trajectory.turns, strict=False):
            transcript.observe(message.content)
            transcript.act(self.encode_answer(turn.completion), learned=turn.learned)
            if limit is not None and len(transcript.ids) > limit:
                break
            kept, length = kept + 1, len(transcript.ids)
        return TokenSequence(
            tuple(transcript.ids[:length]), tuple(transcript.mask[:length]), cut=len(trajectory.turns) - kept
        )

    def encode_observation(self, text: str, *, first: bool) -> list[int]:
        """The tokens from behind the last answer's stop token, or from the beginning, to where the model answers."""
        before = (self._glue.opening, "") if first else (self._glue.between, self._glue.stop)
        pieces = [(before[0], True), (self._glue.user(text), False), (self._glue.prompt, True)]
        return self._encoder.pieces(pieces, behind=before[1])

    def encode_answer(self, completion: Completion) -> Sequence[int]:
        """The tokens of one answer.

        Sampled ids are taken as they are if this codec reads the recorded text out of them: then they spell the
        answer in this vocabulary, whoever sampled them. Otherwise (an expert wrote it, or a model with another
        tokenizer) the text is encoded and a stop token ends it, unless the answer was cut.
        """
        ids = completion.token_ids
        if ids is not None and all(token < self.vocabulary for token in ids) and self.decode(ids) == completion.text:
            return ids
        text = self._glue.answer(completion.text, cut=completion.cut)
        spelt = self._encoder.answer([(text, False)], self._context)
        return spelt if completion.cut else [*spelt, self.stop_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without its stop token and what else the template puts around answers."""
        if ids and ids[-1] in self.stop_ids:
            ids = ids[:-1]
        return self._glue.read(self._encoder.decode(ids, self._context))


class TextTranscript(Transcript):
    """A conversation of user and assistant."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec

    def hear(self, message: str, episode: Episode) -> list[int]:
        """Appends what the environment said last, up to where the model answers; see `Transcript.hear`."""
        return self.observe(message)

    def observe(self, text: str) -> list[int]:
        """Appends what the environment says, up to where the model answers.

        Args:
            text: instructions and first observation, or a later observation.

        Returns:
            All ids behind those that the model sampled last: what it has yet to read.
        """
        return self.read_next(self._codec.encode_observation(text, first=not self.ids))

    def act(self, ids: Sequence[int], logprobs: Sequence[float] | None = None, *, learned: bool = True) -> None:
        """Appends what the model answered; see `Transcript.act`.

        An answer without the template's stop token at its end (it was cut at the length limit) is closed with one
        that is not trained on.
        """
        self.append_answer(ids, logprobs, learned)
        if not ids or ids[-1] != self._codec.stop_id:
            self.close(self._codec.stop_id)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without its stop token."""
        return self._codec.decode(ids)
