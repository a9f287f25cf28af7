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

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from agentgym.data.template import Glue, reduce_template
from agentgym.errors import ModelError
from envpool import Completion, Trajectory


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One conversation as tokens.

    Attributes:
        ids: token ids, shape (T,).
        mask: True where the model wrote the token and is trained on it, shape (T,).
        cut: how many turns at the end were left out because they did not fit.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)


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
        self._glue = glue = reduce_template(tokenizer)
        self.day = glue.day
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no tokenizer.json: choose a model that has one"
            )
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        marks = [token for token in spec["added_tokens"] if _is_control(token, glue)]
        # Copies of our own: the tokenizer's may be told to truncate, and share a switch between threads.
        self._plain = _copy(spec)
        self._text = _text_only(spec, marks)
        for mark in marks:
            if mark["id"] != tokenizer.unk_token_id and mark["id"] in self._encode_text(mark["content"]):
                raise ModelError(
                    f"the tokenizer of {tokenizer.name_or_path!r} cannot tell its control token {mark['content']!r} "
                    "from text: choose another model"
                )
        (self.stop_id,) = self._encode_glue(glue.stop)
        self.stop_ids = frozenset({self.stop_id, tokenizer.eos_token_id} - {None})
        self.vocabulary = max(self._plain.get_vocab(with_added_tokens=True).values()) + 1
        # What stands between two control tokens is encoded as a whole: text merges with the glue around it.
        opening, self._before_first = _cut_after_last(glue.opening, marks)
        between, self._before_next = _cut_after_last(glue.stop + glue.between, marks)
        self._after, prompt = _cut_before_first(glue.prompt, marks)
        self._opening = self._encode_glue(opening)
        self._between = self._encode_glue(between)[1:]
        self._prompt = self._encode_glue(prompt)
        self._context = _cut_after_last(glue.prompt, marks)[1]
        self._context_ids = self._encode_text(self._context)
        self._anchor = self._find_anchor()
        self._anchor_text = self._decode(self._anchor)

    def transcript(self) -> Transcript:
        """Starts an empty conversation."""
        return Transcript(self)

    def encode(self, trajectory: Trajectory, limit: int | None = None) -> TokenSequence:
        """Makes the tokens of a recorded episode, as they arose or would have arisen when this model played it.

        The last observation, which nobody answered, is left out; an episode without turns gives no tokens. Of a turn
        that is not learned from, the mask is False.

        Args:
            trajectory: the episode.
            limit: most tokens. What is longer loses whole turns, from its end; none is left where the first one does
                not fit. None for no limit.
        """
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
        head, before = (self._opening, self._before_first) if first else (self._between, self._before_next)
        return [*head, *self._encode_text(before + self._glue.user(text) + self._after), *self._prompt]

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
        whole, seam = self._encode_text(self._context + text), len(self._context_ids)
        # A prompt is fixed before its answer is known: where the two would merge, the answer stands alone.
        spelt = whole[seam:] if whole[:seam] == self._context_ids else self._encode_text(text)
        return spelt if completion.cut else [*spelt, self.stop_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without its stop token and what else the template puts around answers."""
        if ids and ids[-1] in self.stop_ids:
            ids = ids[:-1]
        return self._glue.read(self._decode([*self._anchor, *ids]).removeprefix(self._anchor_text))

    def _find_anchor(self) -> list[int]:
        """What to decode an answer behind: at the beginning of a text, decoders may take a space off."""
        if self._context:
            return self._context_ids
        letter = self._encode_text("x")
        marked = self._decode([*letter, *letter]) != 2 * self._decode(letter)  # then that space was added before
        return [] if marked else letter

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._plain.decode(ids, skip_special_tokens=False)
        return text

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = self._text.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_glue(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids


class Transcript:
    """One conversation as it grows; tokens are only ever appended.

    Attributes:
        ids: token ids so far, shape (T,).
        mask: True where the model wrote the token and is trained on it, shape (T,).
        logprobs: log-probability under the policy that sampled the token; 0 where `mask` is False, shape (T,).
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._read = 0
        self.ids: list[int] = []
        self.mask: list[bool] = []
        self.logprobs: list[float] = []

    def observe(self, text: str) -> list[int]:
        """Appends what the environment says, up to where the model answers.

        Args:
            text: instructions and first observation, or a later observation.

        Returns:
            All ids behind those that the model sampled last: what it has yet to read.
        """
        new = self._codec.encode_observation(text, first=not self.ids)
        self._append(new, False, [0.0] * len(new))
        return self.ids[self._read :]

    def act(self, ids: Sequence[int], logprobs: Sequence[float] | None = None, *, learned: bool = True) -> None:
        """Appends what the model answered.

        An answer without the template's stop token at its end (it was cut at the length limit) is closed with one
        that is not trained on.

        Args:
            ids: the sampled tokens, stop token included, shape (N,).
            logprobs: their log-probabilities, shape (N,); zeros if not given.
            learned: whether they are trained on.
        """
        self._append(ids, learned, [0.0] * len(ids) if logprobs is None else logprobs)
        self._read = len(self.ids)
        if not ids or ids[-1] != self._codec.stop_id:
            self._append([self._codec.stop_id], False, [0.0])

    def _append(self, ids: Sequence[int], learned: bool, logprobs: Sequence[float]) -> None:
        if len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} tokens came with {len(logprobs)} log-probabilities")
        self.ids.extend(ids)
        self.mask.extend([learned] * len(ids))
        self.logprobs.extend(logprobs)


def _is_control(token: dict[str, Any], glue: Glue) -> bool:
    """Whether an added token is never to come out of text: a special one, or one that the template writes."""
    content: str = token["content"]
    written = glue.opening + glue.prompt + glue.stop + glue.between
    return bool(token["special"] or (content.strip() and content in written))


def _copy(spec: dict[str, Any]) -> Tokenizer:
    backend = Tokenizer.from_str(json.dumps(spec))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _text_only(spec: dict[str, Any], marks: list[dict[str, Any]]) -> Tokenizer:
    """A copy of the tokenizer that spells control tokens out and takes no text for the beginning of a document."""
    added = [{**token, "special": token["special"] or token in marks} for token in spec["added_tokens"]]
    backend = _copy({**spec, "added_tokens": added, "pre_tokenizer": _mid_document(spec["pre_tokenizer"])})
    backend.encode_special_tokens = True
    return backend


def _mid_document(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same pre-tokenizer without the word mark that it would put at the beginning of a document."""
    if step is None:
        return None
    changed = {**step, "prepend_scheme": "never"} if step.get("prepend_scheme") == "first" else {**step}
    if "pretokenizers" in step:
        changed["pretokenizers"] = [_mid_document(inner) for inner in step["pretokenizers"]]
    return changed


def _cut_after_last(glue: str, marks: list[dict[str, Any]]) -> tuple[str, str]:
    """Cuts behind the last control token; one that swallows the white space behind it does so."""
    found = _find(glue, marks)
    if not found:
        return "", glue
    end, mark = found[-1].end(), found[-1].group()
    swallows = any(token["rstrip"] for token in marks if token["content"] == mark)
    return glue[:end], glue[end:].lstrip() if swallows else glue[end:]


def _cut_before_first(glue: str, marks: list[dict[str, Any]]) -> tuple[str, str]:
    """Cuts before the first control token."""
    found = _find(glue, marks)
    start = found[0].start() if found else len(glue)
    return glue[:start], glue[start:]


def _find(glue: str, marks: list[dict[str, Any]]) -> list[re.Match[str]]:
    longest_first = sorted((token["content"] for token in marks), key=len, reverse=True)
    return list(re.finditer("|".join(map(re.escape, longest_first)), glue))
