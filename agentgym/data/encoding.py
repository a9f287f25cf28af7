"""Text to token ids and back, with a line between what a template writes and what is only text.

A control token counts where a template writes it. Spelt out in a text, it stays text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from agentgym.errors import ModelError

Piece = tuple[str, bool]
"""A part of a conversation, and whether the template wrote it."""


class Encoder:
    """The two ways in which a tokenizer reads: with control tokens, and spelling them out.

    Args:
        tokenizer: the tokenizer.
        written: what the template writes; the added tokens in it are control tokens, as special ones are.

    Attributes:
        vocabulary: every token id is smaller.
        marks: the control tokens.

    Raises:
        ModelError: the tokenizer has no ``tokenizer.json``, or cannot tell its control tokens from text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no tokenizer.json: choose a model that has one"
            )
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        self._added = [token for token in spec["added_tokens"] if _is_control(token, written)]
        self.marks = frozenset(token["content"] for token in self._added)
        self._pattern = re.compile("|".join(map(re.escape, sorted(self.marks, key=len, reverse=True))))
        # Copies of our own: the tokenizer's may be told to truncate, and share a switch between threads.
        self._plain = _copy(spec)
        self._text = _text_only(spec, self._added)
        self._known: dict[str, list[int]] = {}
        for mark in self._added:
            if mark["id"] != tokenizer.unk_token_id and mark["id"] in self.text(mark["content"]):
                raise ModelError(
                    f"the tokenizer of {tokenizer.name_or_path!r} cannot tell its control token {mark['content']!r} "
                    "from text: choose another model"
                )
        self.vocabulary = max(self._plain.get_vocab(with_added_tokens=True).values()) + 1

    def text(self, text: str) -> list[int]:
        """The tokens of a text, in which control tokens are spelt out."""
        ids: list[int] = self._text.encode(text, add_special_tokens=False).ids
        return ids

    def glue(self, text: str) -> list[int]:
        """The tokens of what a template writes."""
        if text not in self._known:
            self._known[text] = self._plain.encode(text, add_special_tokens=False).ids
        return list(self._known[text])

    def pieces(self, pieces: Iterable[Piece], behind: str | None = "") -> list[int]:
        """The tokens of pieces that follow each other.

        What stands between two control tokens is encoded as a whole: text merges with the glue around it.

        Args:
            pieces: the pieces.
            behind: the control token that the first piece follows, whose tokens are not returned; empty where a
                document begins, None where they follow other text.
        """
        ids: list[int] = []
        run, begins = "", behind is not None
        for text, written in _merged([(behind or "", True), *pieces]):
            found = self.find(text) if written else []
            if not found:
                run += text
            else:
                start = 0 if begins else found[0].start()
                ids += [] if begins else self.text(run + text[:start])
                core, run = self.cut_after_last(text[start:])
                ids += self.glue(core)
            begins = False
        ids += self.text(run)
        return ids[len(self.glue(behind)) :] if behind else ids

    def answer(self, pieces: Sequence[Piece], context: str) -> list[int]:
        """The tokens of an answer. Its prompt is fixed before it is known, so the two do not merge.

        Args:
            pieces: of the answer.
            context: what the prompt ends with, behind its last control token.
        """
        whole, seam = self.pieces([(context, False), *pieces], None), self.text(context)
        return whole[len(seam) :] if whole[: len(seam)] == seam else self.pieces(pieces, None)

    def decode(self, ids: Sequence[int], context: str) -> str:
        """The text of an answer behind a prompt that ends with `context`; control tokens are spelt out."""
        anchor = self._anchor(context)
        before: str = self._plain.decode(anchor, skip_special_tokens=False)
        whole: str = self._plain.decode([*anchor, *ids], skip_special_tokens=False)
        return whole.removeprefix(before)

    def _anchor(self, context: str) -> list[int]:
        """What to decode an answer behind: at the beginning of a text, decoders may take a space off."""
        if context:
            return self.text(context)
        letter = self.text("x")
        marked = self._plain.decode([*letter, *letter]) != 2 * self._plain.decode(letter)  # that space was added
        return [] if marked else letter

    def cut_after_last(self, glue: str) -> tuple[str, str]:
        """Cuts behind the last control token; one that swallows the white space behind it does so."""
        found = self.find(glue)
        if not found:
            return "", glue
        end, mark = found[-1].end(), found[-1].group()
        swallows = any(token["rstrip"] for token in self._added if token["content"] == mark)
        return glue[:end], glue[end:].lstrip() if swallows else glue[end:]

    def cut_before_first(self, glue: str) -> tuple[str, str]:
        """Cuts before the first control token."""
        found = self.find(glue)
        start = found[0].start() if found else len(glue)
        return glue[:start], glue[start:]

    def find(self, glue: str) -> list[re.Match[str]]:
        """The control tokens in what a template writes; the longest where several begin."""
        return list(self._pattern.finditer(glue)) if self.marks else []


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces, none of which follows another one of its kind; empty ones are left out."""
    for written, group in itertools.groupby((piece for piece in pieces if piece[0]), key=itemgetter(1)):
        yield "".join(text for text, _ in group), written


def _is_control(token: dict[str, Any], written: str) -> bool:
    """Whether an added token is never to come out of text: a special one, or one that the template writes."""
    content: str = token["content"]
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
