"""A chat template reduced to what it writes around messages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from agentgym.errors import ModelError

_TIDY = ("You see a café ☕ and 3 doors.", "Thought:\nI look.\n\nAction:\nlook", "None:\n\n- 8,6", "north", "A wall.")
_PADDED = ("\n go \n\n", "  look\n", " \n", "\nwest ", "\t2 doors \n")
_DATE = "26 Jul 2024"  # the day Llama 3.1's template falls back to; others would write today's, another each day


@dataclass(frozen=True, slots=True)
class Glue:
    """What a chat template writes around the messages of user and assistant.

    Attributes:
        opening: before the first user message.
        prompt: from the end of a user message to where the model begins to write.
        lead: what an answer in the history begins with beyond `prompt`; the model writes it itself.
        tail: what stands between an answer and its stop token; the model writes it itself.
        stop: the token that ends an answer.
        between: from behind the stop token to the next user message.
        trims_user: whether white space around user messages is removed.
        trims_answer: whether white space around answers is removed.
    """

    opening: str
    prompt: str
    lead: str
    tail: str
    stop: str
    between: str
    trims_user: bool = False
    trims_answer: bool = False

    def user(self, text: str) -> str:
        """A user message as the template writes it."""
        return text.strip() if self.trims_user else text

    def answer(self, text: str) -> str:
        """An answer as the template writes it, without its stop token."""
        return self.lead + (text.strip() if self.trims_answer else text) + self.tail

    def rebuild(self, texts: Sequence[str]) -> str:
        """Writes a conversation (user, assistant, ..., user) up to where the model answers the last message."""
        text = self.opening + self.user(texts[0]) + self.prompt
        for answer, observation in zip(texts[1::2], texts[2::2], strict=True):
            text += self.answer(answer) + self.stop + self.between + self.user(observation) + self.prompt
        return text


def reduce_template(tokenizer: PreTrainedTokenizerBase) -> Glue:
    """Renders marked messages, cuts the result at the marks and proves that the pieces rebuild what is rendered.

    Args:
        tokenizer: a tokenizer with a chat template.

    Raises:
        ModelError: the template cannot be rendered with user and assistant messages alone, ends an answer with no
            token of its own, or writes a conversation in another way than by appending to it.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template: choose a chat (instruct) model "
            "or add a chat_template to its tokenizer_config.json"
        )
    try:
        glue = _cut(tokenizer)
        for trims_user, trims_answer in itertools.product((False, True), repeat=2):
            trimmed = replace(glue, trims_user=trims_user, trims_answer=trims_answer)
            if _rebuilds(trimmed, tokenizer, _TIDY) and _rebuilds(trimmed, tokenizer, _PADDED):
                return trimmed
        if _rebuilds(glue, tokenizer, _TIDY):  # white space is treated in some finer way: left as it is
            return glue
    except ModelError:
        raise
    except Exception as error:  # a template is a program that came with a model, and may raise anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise _unusable(tokenizer, f"fails on user and assistant messages ({why})") from error
    raise _unusable(tokenizer, "writes a conversation in another way than by appending to it")


def _cut(tokenizer: PreTrainedTokenizerBase) -> Glue:
    first, answer, second = "qzFIRSTzq", "qzANSWERzq", "qzSECONDzq"
    opening, found, prompt = _render(tokenizer, [first]).partition(first)
    history, answered, rest = _render(tokenizer, [first, answer, second]).partition(answer)
    middle, followed, _ = rest.partition(second)
    start = opening + first + prompt
    if not (found and answered and followed and history.startswith(start)):
        raise _unusable(tokenizer, "writes a conversation in another way than by appending to it")
    stop = _first_token(tokenizer, middle)
    if stop is None:
        raise _unusable(tokenizer, "ends an answer with ordinary text instead of a token of its own")
    tail, _, between = middle.partition(stop)
    return Glue(opening, prompt, history[len(start) :], tail, stop, between)


def _first_token(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """The added token that begins first in `text`, the longest if several do; white space is none."""
    names = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    found = [(text.index(name), -len(name), name) for name in names if name.strip() and name in text]
    return min(found)[2] if found else None


def _rebuilds(glue: Glue, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> bool:
    return all(glue.rebuild(texts[:n]) == _render(tokenizer, texts[:n]) for n in range(1, len(texts) + 1, 2))


def _render(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> str:
    roles = itertools.cycle(("user", "assistant"))
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=_DATE)
    assert isinstance(rendered, str)
    return rendered


def _unusable(tokenizer: PreTrainedTokenizerBase, why: str) -> ModelError:
    return ModelError(
        f"the chat template of {tokenizer.name_or_path!r} {why}: "
        "set a simpler chat_template in its tokenizer_config.json or choose another model"
    )
