from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from agentgym.data import rendering
from agentgym.data.codec import Codec
from agentgym.data.rendering import TEMPLATE
from agentgym.data.template import _reduced
from agentgym.data.transcript import TokenSequence
from agentgym.errors import ModelError
from agentgym.models import CONTROL_TOKENS
from envpool import Completion, StopReason, Task, Trajectory, Turn

CORPUS = (
    "user\nYou are in a room with 3 doors. What do you do?\n\nYou see: a café at 8,6.",
    "assistant\nThought:\nI have to go to the kitchen, there is a wall.\n\nAction:\ngo to the kitchen",
    "system\nYou are a helpful assistant. [INST] model [/INST] user assistant",
    "The wall is to the left. Your goal is at position 8,6. You cannot do that.\n\n",
) * 3

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set text = m.content %}"
    "{% if m.role == 'assistant' %}"
    "{% if '</think>' in text %}{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last %}{% set text = '<think>\n\n</think>\n\n' + text %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% set date = date_string if date_string is defined else strftime_now('%d %b %Y') %}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + date + '<|eot_id|>' }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

# An answer as thoughts and what was said, from its text or the message's own key.
SPLIT = (
    "{% set said = m.content %}{% set thoughts = m.reasoning_content or '' %}"
    "{% if '</think>' in said %}{% set thoughts = said.split('</think>')[0].split('<think>')[-1] | trim %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
DROPS = (  # thoughts of the past are dropped, the last answer has its block; as Qwen3.5
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    + SPLIT
    + "{% if loop.index0 > ns.last %}{{ '<think>\n' + thoughts + '\n</think>\n\n' }}{% endif %}{{ said | trim }}"
    "{% else %}{{ m.content | trim }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)
NO_THINKING = "{% set enable_thinking = false %}\n" + DROPS
KEEPS = (  # every answer has a block, and the prompt opens the next one
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    + SPLIT
    + "{{ '<think>\n' + thoughts + '\n</think>\n\n' + said }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
NEVER_SHOWS = (  # the prompt opens a block that no answer shows, not even the last; as the distils of DeepSeek-R1
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' + m.content }}{% else %}"
    "{{ '<|assistant|>' + m.content.split('</think>')[-1] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
SHORT_BLOCK = (  # answers without thoughts get another block than the prompt opens; as Nemotron 3
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% if m.reasoning_content and loop.last %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n' }}"
    "{% else %}{{ '<think></think>' }}{% endif %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
LEADS = (  # the model writes the whole block itself; as GLM-4.5
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>\n' + m.content }}{% else %}"
    + SPLIT
    + "{{ '<|assistant|>\n<think>' + thoughts + '</think>\n' + said | trim }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PARTS = (  # messages are lists of parts; as models that also see
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """How a family of chat models writes conversations.

    Attributes:
        special: its special tokens.
        ordinary: tokens of its own that are not marked as special.
        sentencepiece: None for a byte-level tokenizer; otherwise words are marked, and so is the beginning
            ``"always"`` of what follows a control token, or only ``"first"`` of the document.
        swallows: whether its control tokens swallow the white space behind them.
        breaks: how its pre-tokenizer keeps line breaks together, if it does.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    ordinary: tuple[str, ...] = ()
    sentencepiece: str | None = None
    swallows: bool = False
    breaks: str = r"\s*[\r\n]+|"


LLAMA_3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
PHI_TOKENS = ("<s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
TURNS, THOUGHTS = ("<|im_start|>", "<|im_end|>"), ("<think>", "</think>")

FAMILIES = {
    "tiny": Family(TEMPLATE, CONTROL_TOKENS, "<|end|>"),
    "chatml": Family(CHATML, ("<|endoftext|>", *TURNS), "<|im_end|>"),
    "chatml-sp": Family(CHATML, ("<|endoftext|>", *TURNS), "<|im_end|>", sentencepiece="first"),
    "unmarked": Family(CHATML, ("<|endoftext|>",), "<|endoftext|>", ordinary=TURNS),
    "qwen3": Family(THINKING, ("<|endoftext|>", *TURNS), "<|im_end|>", ordinary=THOUGHTS),
    "llama2": Family(LLAMA_2, ("<unk>", "<s>", "</s>"), "</s>", "<s>"),
    "llama2-sp": Family(LLAMA_2, ("<unk>", "<s>", "</s>"), "</s>", "<s>", sentencepiece="always"),
    "llama3": Family(LLAMA_3, LLAMA_3_TOKENS, "<|eot_id|>", "<|begin_of_text|>"),
    "headers": Family(LLAMA_3, LLAMA_3_TOKENS, "<|eot_id|>", "<|begin_of_text|>", breaks=""),
    "mistral": Family(MISTRAL, MISTRAL_TOKENS, "</s>", "<s>"),
    "mistral-sp": Family(MISTRAL, MISTRAL_TOKENS, "</s>", "<s>", sentencepiece="first"),
    "gemma": Family(GEMMA, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>"),
    "phi": Family(PHI, PHI_TOKENS, "<|endoftext|>", "<s>", swallows=True),
    "phi-sp": Family(PHI, PHI_TOKENS, "<|endoftext|>", "<s>", sentencepiece="always", swallows=True),
}

ROLES = ("<|user|>", "<|assistant|>", "<|end|>", "<|begin|>")
THINKERS = {
    "drops": Family(DROPS, ("<|endoftext|>", *TURNS), "<|im_end|>", ordinary=THOUGHTS),
    "no thinking": Family(NO_THINKING, ("<|endoftext|>", *TURNS), "<|im_end|>", ordinary=THOUGHTS),
    "keeps": Family(KEEPS, ("<|endoftext|>", *TURNS), "<|im_end|>", ordinary=THOUGHTS),
    "keeps, spelt": Family(KEEPS, ("<|endoftext|>", *TURNS), "<|im_end|>"),
    "never shows": Family(NEVER_SHOWS, ROLES, "<|end|>", "<|begin|>", ordinary=THOUGHTS),
    "short block": Family(SHORT_BLOCK, ("<|endoftext|>", *TURNS), "<|im_end|>", ordinary=THOUGHTS),
    "leads": Family(LEADS, ("<|endoftext|>", *ROLES), "<|endoftext|>", ordinary=THOUGHTS),
    "parts": Family(PARTS, ("<|endoftext|>", *TURNS), "<|im_end|>"),
}
"""Templates with a block for thoughts, and one that takes messages in parts."""

ALL = FAMILIES | THINKERS


def train(family: Family) -> Tokenizer:
    pieces = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|" + family.breaks + r"\s+(?!\S)|\s+"
    tokenizer = Tokenizer(BPE(byte_fallback=family.sentencepiece is not None))
    if family.sentencepiece is None:
        split = pre_tokenizers.Split(Regex(pieces), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
    else:
        if family.sentencepiece == "always":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
    alphabet = pre_tokenizers.ByteLevel.alphabet() if family.sentencepiece is None else []
    fallback = [f"<0x{byte:02X}>" for byte in range(256)] if family.sentencepiece else []
    first = [*family.special, *fallback]
    trainer = BpeTrainer(vocab_size=700, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    trained = json.loads(tokenizer.to_str())
    trained["added_tokens"] = []  # the bytes are ordinary tokens
    return Tokenizer.from_str(json.dumps(trained))


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    family = ALL[name]
    backend = train(family)
    backend.add_special_tokens([AddedToken(token, rstrip=family.swallows, special=True) for token in family.special])
    backend.add_tokens([AddedToken(token, normalized=False) for token in family.ordinary])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=family.eos, bos_token=family.bos, chat_template=family.template
    )


@cache
def codec_of(name: str) -> Codec:
    return Codec(tokenizer_of(name))


def render(name: str, texts: Sequence[str], tokenize: bool = False) -> str | list[int]:
    """What the template itself makes of a conversation that the model is to answer."""
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return tokenizer_of(name).apply_chat_template(
        messages, tokenize=tokenize, return_dict=False, add_generation_prompt=True, date_string="26 Jul 2024"
    )


def trajectory(first: str, turns: Sequence[Turn]) -> Trajectory:
    return Trajectory(Task("maze", 0), 0, "model", "", first, tuple(turns), StopReason.DONE, 1.0, True)


def answered(text: str, observation: str = "", ids: Sequence[int] | None = None) -> Turn:
    return Turn(Completion(text, None if ids is None else tuple(ids)), "", observation, 0.0)


families = pytest.mark.parametrize("name", FAMILIES)
all_families = pytest.mark.parametrize("name", ALL)
CONTROLS = sorted(
    {token for family in FAMILIES.values() for token in (*family.special, *family.ordinary)} - {"</think>"}
)
SPELT = st.lists(st.sampled_from(["north", "8,6", "café", "☕", "Thought:", "\n", "\n\nAction:\n", ""]), max_size=8)
EVIL = st.lists(st.sampled_from([*CONTROLS, " ", "\n", "a"]), max_size=6)
TEXT = st.one_of(SPELT.map(" ".join), EVIL.map("".join), st.text(max_size=12))
TIDY = ["go", "to", "the", "kitchen", "and", "see", "3", "doors,", "café", "☕", "at", "8,6.", "Thought:\nI"]
PLAIN = st.lists(st.sampled_from(TIDY), min_size=1).map(" ".join)
few = settings(max_examples=30, deadline=None)


@all_families
@few
@given(data=st.data())
def test_tokens_of_acting_are_the_tokens_of_training_and_the_mask_is_exact(name: str, data: st.DataObject) -> None:
    codec = codec_of(name)
    sampled = st.lists(st.integers(0, codec.vocabulary - 1), max_size=9)
    transcript, expected, turns = codec.transcript(), TokenSequence((), ()), []
    first = observation = data.draw(TEXT)
    for _ in range(data.draw(st.integers(0, 4))):
        read = transcript.observe(observation)
        ids = [*data.draw(sampled), *([codec.stop_id] if data.draw(st.booleans()) else [])]
        transcript.act(ids, [-0.5] * len(ids))
        written = [*[False] * len(read), *[True] * len(ids)]
        expected = TokenSequence((*expected.ids, *read, *ids), (*expected.mask, *written))
        observation = data.draw(TEXT)
        turns.append(answered(codec.decode(ids), observation, ids))

    trained = codec.encode(trajectory(first, turns))

    assert trained.ids == tuple(transcript.ids)
    assert trained.mask == tuple(transcript.mask)
    assert len(trained) == len(transcript.logprobs)
    assert [value != 0 for value in transcript.logprobs] == transcript.mask
    closing = len(trained) - len(expected)
    assert trained.ids[: len(expected)] == expected.ids
    assert trained.mask == expected.mask + (False,) * closing
    assert closing == bool(turns and (not ids or ids[-1] != codec.stop_id))


@all_families
def test_what_is_not_learned_from_is_written_but_masked(name: str) -> None:
    codec = codec_of(name)
    turns = [answered("Go north.", "Done."), answered("Go south.", "Done."), answered("Go west.")]
    whole = codec.encode(trajectory("Where to?", turns))
    partly = codec.encode(trajectory("Where to?", [turns[0], replace(turns[1], learned=False), turns[2]]))
    assert partly.ids == whole.ids
    dropped = [token for token, before, now in zip(whole.ids, whole.mask, partly.mask, strict=True) if before > now]
    assert dropped == list(codec.encode_answer(Completion("Go south.")))
    assert all(now <= before for before, now in zip(whole.mask, partly.mask, strict=True))


BLANK = st.sampled_from(["", " ", "\n", "\t \r\n", "\u00a0", "\u2028 ", "\u3000"])
PADDED = st.tuples(BLANK, TEXT, BLANK).map("".join)


@all_families
@few
@given(first=PADDED, rest=st.lists(st.tuples(PADDED, PADDED), max_size=4))
def test_what_an_expert_wrote_is_trained_on_with_the_tokens_of_acting(
    name: str, first: str, rest: list[tuple[str, str]]
) -> None:
    codec = codec_of(name)
    transcript, answers, observation = codec.transcript(), [], first
    for answer, following in rest:
        transcript.observe(observation)
        answers.append(codec.encode_answer(Completion(answer)))
        transcript.act(answers[-1])
        observation = following
    trained = codec.encode(trajectory(first, [answered(*turn) for turn in rest]))
    assert trained.ids == tuple(transcript.ids)
    assert trained.mask == tuple(transcript.mask)
    learned = [token for token, written in zip(trained.ids, trained.mask, strict=True) if written]
    assert learned == [token for answer in answers for token in answer]
    assert all(answer[-1] == codec.stop_id and codec.stop_id not in answer[:-1] for answer in answers)


@all_families
@few
@given(data=st.data())
def test_what_is_too_long_loses_whole_turns_from_its_end(name: str, data: st.DataObject) -> None:
    codec = codec_of(name)
    turns = [answered(data.draw(PLAIN), data.draw(PLAIN)) for _ in range(data.draw(st.integers(1, 4)))]
    shorter = [codec.encode(trajectory("Go on.", turns[:kept])) for kept in range(len(turns) + 1)]
    limit = data.draw(st.integers(1, len(shorter[-1]) + 1))
    cut = codec.encode(trajectory("Go on.", turns), limit)
    kept = max(kept for kept, sequence in enumerate(shorter) if len(sequence) <= limit)
    assert (cut.ids, cut.mask) == (shorter[kept].ids, shorter[kept].mask)
    assert cut.cut == len(turns) - kept
    assert [sequence.cut for sequence in shorter] == [0] * len(shorter)


def test_a_conversation_that_fits_exactly_is_kept_and_one_whose_first_turn_does_not_is_empty() -> None:
    codec, played = codec_of("chatml"), trajectory("Go.", [answered("north", "A wall."), answered("south")])
    whole = codec.encode(played)
    first = codec.encode(trajectory("Go.", played.turns[:1]))
    assert codec.encode(played, len(whole)) == whole
    assert codec.encode(played, len(whole) - 1) == TokenSequence(first.ids, first.mask, cut=1)
    assert codec.encode(played, len(first) - 1) == TokenSequence((), (), cut=2)


@families
@few
@given(data=st.data())
def test_a_transcript_of_texts_spells_what_the_template_writes(name: str, data: st.DataObject) -> None:
    family, codec = FAMILIES[name], codec_of(name)
    words = PLAIN if family.sentencepiece or family.swallows else TEXT
    texts = data.draw(st.lists(words, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1))
    transcript = codec.transcript()
    transcript.observe(texts[0])
    for answer, observation in zip(texts[1::2], texts[2::2], strict=True):
        transcript.act(codec.encode_answer(Completion(answer)))
        transcript.observe(observation)

    spelt = tokenizer_of(name).decode(transcript.ids, skip_special_tokens=False)

    expected = render(name, texts)
    if family.swallows or family.sentencepiece:  # white space behind a control token is swallowed, or added
        spelt, expected = "".join(spelt.split()), "".join(str(expected).split())
    assert spelt == expected


@families
@few
@given(texts=st.lists(PLAIN, min_size=3, max_size=3))
def test_prompts_have_the_very_tokens_that_the_tokenizer_gives_for_the_template(name: str, texts: list[str]) -> None:
    transcript = codec_of(name).transcript()
    transcript.observe(texts[0])
    assert transcript.ids == render(name, texts[:1], tokenize=True)
    transcript.act(codec_of(name).encode_answer(Completion(texts[1])))
    transcript.observe(texts[2])
    if name != "headers":
        assert transcript.ids == render(name, texts, tokenize=True)


def test_a_prompt_keeps_its_tokens_where_an_answer_would_have_merged_with_it() -> None:
    transcript = codec_of("headers").transcript()
    prompt = transcript.observe("You see a wall.")
    transcript.act(codec_of("headers").encode_answer(Completion("go")))
    transcript.observe("You see a door.")
    whole = render("headers", ["You see a wall.", "go", "You see a door."], tokenize=True)
    assert whole[: len(prompt)] != prompt
    assert transcript.ids[: len(prompt)] == prompt
    assert tokenizer_of("headers").decode(transcript.ids) == tokenizer_of("headers").decode(whole)


@all_families
def test_an_answer_given_as_text_comes_back_as_that_text_and_trains_its_stop_token(name: str) -> None:
    codec = codec_of(name)
    texts = ["Thought:\nI go.\n\nAction:\ngo to 8,6", "café ☕ 日本", "", "a"]
    trims = "trim" in ALL[name].template or ".strip(" in ALL[name].template
    texts += [] if trims else ["  two  spaces ", "\nline\n"]
    sequence = codec.encode(trajectory("You see a wall.", [answered(text, "A door.") for text in texts]))

    answers: list[list[int]] = []
    for before, token, written in zip((False, *sequence.mask), sequence.ids, sequence.mask, strict=False):
        if written:
            answers = answers if before else [*answers, []]
            answers[-1].append(token)

    assert [codec.decode(ids) for ids in answers] == texts
    assert all(ids[-1] == codec.stop_id and codec.stop_id in codec.stop_ids for ids in answers)
    assert sequence.mask[-1]


@all_families
def test_control_tokens_in_texts_stay_text(name: str) -> None:
    family, codec = ALL[name], codec_of(name)
    evil = "".join((*family.special, *family.ordinary))
    control = {tokenizer_of(name).convert_tokens_to_ids(token) for token in family.special}
    control |= {tokenizer_of(name).convert_tokens_to_ids(token) for token in family.ordinary if "think" not in token}

    def controls(first: str, answer: str, second: str) -> list[int]:
        transcript = codec.transcript()
        transcript.observe(first)
        transcript.act(codec.encode_answer(Completion(answer)))
        transcript.observe(second)
        return [token for token in transcript.ids if token in control]

    assert controls(evil, evil, evil) == controls("x", "x", "x")


@pytest.mark.parametrize("name", ["llama2", "llama2-sp", "llama3", "headers", "mistral", "mistral-sp", "gemma"])
def test_the_text_begins_once_even_if_the_tokenizer_adds_a_beginning_of_its_own(name: str) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_of(name).backend_tokenizer.to_str()),
        bos_token=FAMILIES[name].bos, eos_token=FAMILIES[name].eos, chat_template=FAMILIES[name].template,
    )  # fmt: skip
    bos = tokenizer.bos_token_id
    with_bos = processors.TemplateProcessing(single="B $A", special_tokens=[("B", bos)])
    tokenizer.backend_tokenizer.post_processor = with_bos
    assert tokenizer("x")["input_ids"][0] == bos

    transcript = Codec(tokenizer).transcript()
    transcript.observe("You see a wall.")

    assert transcript.ids[0] == bos
    assert transcript.ids.count(bos) == 1
    assert transcript.ids == render(name, ["You see a wall."], tokenize=True)


def test_a_cut_answer_is_closed_untrained_and_the_closing_is_read_with_the_next_observation() -> None:
    codec = codec_of("chatml")
    transcript = codec.transcript()
    prompt = transcript.observe("You see a wall.")
    cut = list(codec.encode_answer(Completion("Thought:\nI go")))[:-1]
    transcript.act(cut)
    assert transcript.ids == [*prompt, *cut, codec.stop_id]
    assert transcript.mask == [False] * len(prompt) + [True] * len(cut) + [False]
    assert transcript.observe("A door.")[0] == codec.stop_id
    whole = render("chatml", ["You see a wall.", "Thought:\nI go", "A door."])
    assert tokenizer_of("chatml").decode(transcript.ids) == whole


def test_an_answer_that_ended_with_another_stop_token_is_closed_as_the_template_closes_it() -> None:
    codec, tokenizer = codec_of("gemma"), tokenizer_of("gemma")
    assert codec.stop_ids == set(tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"]))
    transcript = codec.transcript()
    transcript.observe("You see a wall.")
    transcript.act([*codec.encode_answer(Completion("go"))[:-1], tokenizer.eos_token_id])
    transcript.observe("A door.")
    assert tokenizer.decode(transcript.ids).count("go<eos><end_of_turn>\n<start_of_turn>user\nA door.") == 1


def test_sampled_tokens_of_another_vocabulary_are_not_used() -> None:
    codec = codec_of("chatml")
    canonical = list(codec.encode_answer(Completion("go to the kitchen")))
    letters = [codec.encode_answer(Completion(letter))[0] for letter in "go"]
    assert codec.encode_answer(Completion("go", (*letters, codec.stop_id))) == (*letters, codec.stop_id)
    assert codec.encode_answer(Completion("go to the kitchen", (*letters, codec.stop_id))) == canonical
    assert codec.encode_answer(Completion("go to the kitchen", (codec.vocabulary, *canonical))) == canonical


def test_sampled_tokens_that_are_half_a_character_are_kept() -> None:
    codec = codec_of("chatml")
    half = list(codec.encode_answer(Completion("☕")))[:1]
    text = codec.decode(half)
    assert text == "\ufffd"
    assert codec.encode_answer(Completion(text, tuple(half))) == tuple(half)


def test_an_episode_without_turns_has_no_tokens() -> None:
    assert codec_of("tiny").encode(trajectory("", [])) == TokenSequence((), ())


def test_the_thinking_of_earlier_answers_is_kept() -> None:
    answer = "<think>\nA wall.\n</think>\n\nAction:\nwest"
    sequence = codec_of("qwen3").encode(trajectory("Go.", [answered(answer, "A door."), answered("Action:\nwest")]))
    assert answer in tokenizer_of("qwen3").decode(sequence.ids)


def test_log_probabilities_must_be_as_many_as_tokens() -> None:
    transcript = codec_of("tiny").transcript()
    transcript.observe("Go.")
    with pytest.raises(ValueError, match="3 tokens came with 1 log-probabilities"):
        transcript.act([5, 6, 1], [-0.1])


THOUGHTFUL = "<think>\nA wall.\n</think>\n\nAction:\nwest"


@pytest.mark.parametrize(
    ("name", "plain", "thoughtful"),
    [
        ("drops", "\n</think>\n\nAction:\nwest", "A wall.\n</think>\n\nAction:\nwest"),
        ("keeps", "\n</think>\n\nAction:\nwest", "A wall.\n</think>\n\nAction:\nwest"),
        ("keeps, spelt", "\n</think>\n\nAction:\nwest", "A wall.\n</think>\n\nAction:\nwest"),
        ("never shows", "\n</think>\n\nAction:\nwest", "A wall.\n</think>\n\nAction:\nwest"),
        ("short block", "\n</think>\nAction:\nwest", "A wall.\n</think>\nAction:\nwest"),
        ("leads", "\n<think></think>\nAction:\nwest", "\n<think>A wall.</think>\nAction:\nwest"),
        ("no thinking", "Action:\nwest", "Action:\nwest"),
        ("qwen3", "Action:\nwest", THOUGHTFUL),
        ("chatml", "Action:\nwest", THOUGHTFUL),
    ],
)
def test_thoughts_go_into_the_block_of_the_template_and_no_empty_one_stands_before_them(
    name: str, plain: str, thoughtful: str
) -> None:
    codec = codec_of(name)
    for text, expected in (
        ("Action:\nwest", plain),
        (THOUGHTFUL, thoughtful),
        ("<think>\n\n</think>\n\nAction:\nwest", plain if name not in ("qwen3", "chatml") else None),
    ):
        if expected is not None:
            ids = codec.encode_answer(Completion(text))
            assert ids[-1] == codec.stop_id
            assert tokenizer_of(name).decode(ids[:-1]) == expected


@pytest.mark.parametrize("name", ["drops", "keeps", "keeps, spelt", "never shows"])
def test_thoughts_that_began_in_the_prompt_get_their_tag_in_the_text(name: str) -> None:
    codec = codec_of(name)
    written = codec.encode_answer(Completion(THOUGHTFUL))
    assert codec.decode(written) == THOUGHTFUL
    unfinished = written[:3]
    assert codec.decode(unfinished) == "<think>\n" + tokenizer_of(name).decode(unfinished)
    assert codec.encode_answer(Completion(codec.decode(unfinished), tuple(unfinished), cut=True)) == tuple(unfinished)


@pytest.mark.parametrize("name", ["drops", "never shows", "short block"])
def test_what_a_template_drops_from_the_past_stays_in_a_transcript(name: str) -> None:
    codec = codec_of(name)
    turns = [answered(THOUGHTFUL, "A door."), answered("Action:\nnorth", "A key.")]
    spelt = tokenizer_of(name).decode(codec.encode(trajectory("Go.", turns)).ids)
    alone = str(render(name, ["Go."]))
    assert spelt.startswith(alone + "A wall.\n</think>")
    prompt = alone.partition("Go.")[2]
    assert f"A door.{prompt}" in spelt


def test_every_thinking_template_writes_each_prompt_as_it_would_itself() -> None:
    for name in THINKERS:
        codec = codec_of(name)
        for text in ("You see a wall.", "None:\n\n- 8,6"):
            messages = [{"type": "text", "text": text}] if name == "parts" else text
            rendered = tokenizer_of(name).apply_chat_template(
                [{"role": "user", "content": messages}], tokenize=True, return_dict=False, add_generation_prompt=True
            )
            assert codec.transcript().observe(text) == rendered


@all_families
@few
@given(text=st.one_of(PADDED, st.sampled_from([THOUGHTFUL, "<think>\nA wall", "<think>", " "])))
def test_nothing_follows_an_answer_that_was_cut_and_one_without_words_teaches_nothing(name: str, text: str) -> None:
    codec = codec_of(name)
    ids = list(codec.encode_answer(Completion(text, cut=True)))
    trained = codec.encode(trajectory("Go.", [Turn(Completion(text, cut=True), "", "", 0.0)]))
    assert [token for token, written in zip(trained.ids, trained.mask, strict=True) if written] == ids
    assert codec.stop_id not in ids
    assert trained.ids[-1] == codec.stop_id
    if not text.strip():
        assert ids == []
    tail = codec._glue.tail
    if tail and not text.endswith(tail):
        assert not tokenizer_of(name).decode(ids).endswith(tail)


TODAY = {
    "strftime_now": "{{ strftime_now('%d %B %Y, %H:%M') }}",
    "date_string": "{{ date_string if date_string is defined else 'unknown' }}",
    "another name of it": "{% set now = strftime_now %}{% macro d() %}{{ now('%A %j') }}{% endmacro %}{{ d() }}",
    "chance": "{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n'] | random }}",
}


@pytest.mark.parametrize("how", TODAY)
def test_a_prompt_does_not_change_with_the_day(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backend = Tokenizer.from_str(tokenizer_of("chatml").backend_tokenizer.to_str())
    template = "<|im_start|>system\n" + TODAY[how] + "<|im_end|>\n" + CHATML
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=template)
    first = Codec(tokenizer)
    faked = (
        "import datetime, time\n"
        "class Other(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None): return cls(2031, 5, 17, 9, 30)\n"
        "    today = utcnow = now\n"
        "datetime.datetime = Other\n"
        "time.time = lambda: 1936776600.0\n"
    )
    (tmp_path / "sitecustomize.py").write_text(faked)  # the process that renders begins with it
    monkeypatch.syspath_prepend(str(tmp_path))
    _reduced.cache_clear()
    second = Codec(tokenizer)
    _reduced.cache_clear()
    assert second.transcript().observe("Go.") == first.transcript().observe("Go.")
    assert second.day == first.day == (None if how == "chance" else "2024-07-26")
    assert codec_of("chatml").day is None


SHORTENS_THE_PAST = CHATML.replace("m.content +", "(m.content if loop.revindex < 3 else '...') +")
COUNTS = CHATML.replace("m.role +", "loop.length | string + m.role +")
SPELLS_ANEW = CHATML.replace("m.content +", "m.content | replace('c', 'k') +")
NEEDS_A_SYSTEM_MESSAGE = "{{ raise_exception('a system message is required') }}"
PLAIN_TEXT = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant: "
LOWERS = CHATML.replace("m.content", "m.content | lower")
OTHER_PROMPT = CHATML.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>agent\n' }}")
LATER_NEWS = CHATML.replace(
    "'<|im_start|>' +", "('NEWS' if loop.index == 3 and not loop.last else '') + '<|im_start|>' +"
)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: choose a chat"),
        (
            SHORTENS_THE_PAST,
            "changes what stands before the first answer when the conversation grows .it writes '.*[.]{3}",
        ),
        (COUNTS, "changes what stands before the first answer when the conversation grows .it writes '.*3user"),
        (SPELLS_ANEW, "in another way than by appending .it writes '.*kafé"),
        ("no message is written<|im_end|>", "leaves the text of a user message out"),
        (LOWERS, "leaves the text of a user message out, or writes it otherwise"),
        (OTHER_PROMPT, "begins its last answer otherwise than its generation prompt, '.*agent"),
        (LATER_NEWS, "conversation of 5 messages in another way than by appending .it writes '.*NEWS"),
        (NEEDS_A_SYSTEM_MESSAGE, "fails on user and assistant messages .a system message"),
        (PLAIN_TEXT, "instead of a token of its own"),
        ("{% for m in messages", "fails on user and assistant messages"),
        ("{% for i in range(10**12) %}{% endfor %}", "fails on user and assistant messages .Range too big"),
        ("{{ 'x' * 10**11 }}", "needs more memory than it may"),
        (CHATML + "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "does not end"),
        ({"tool_use": CHATML}, "has none by the name of default"),
    ],
)
def test_a_template_that_cannot_be_reduced_is_refused_with_the_part_that_fails_and_a_cure(
    template: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 1)
    backend = Tokenizer.from_str(tokenizer_of("chatml").backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=template)
    with pytest.raises(ModelError, match=message) as caught:
        Codec(tokenizer)
    assert "\n" not in str(caught.value)
    assert "model.template" in str(caught.value)


class SlowTokenizer(PreTrainedTokenizer):
    """A tokenizer in plain Python with a token for each of a few letters."""

    vocab_size = 1

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0, **self.added_tokens_encoder}

    def _convert_token_to_id(self, token: str) -> int:
        return 0


def test_a_tokenizer_in_plain_python_is_refused() -> None:
    with pytest.raises(ModelError, match=r"has no tokenizer.json: choose a model that has one"):
        Codec(SlowTokenizer(eos_token="<|im_end|>", chat_template=CHATML))


def test_a_tokenizer_that_reads_control_tokens_out_of_text_is_refused() -> None:
    vocabulary = {"<end>": 0, "go": 1, "[UNK]": 2}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    backend.add_special_tokens(["<end>"])
    template = "{% for m in messages %}{{ m.content + '<end>' }}{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", chat_template=template)
    with pytest.raises(ModelError, match="cannot tell its control token '<end>' from text"):
        Codec(tokenizer)


def test_the_tokenizers_own_truncation_does_not_reach_the_codec() -> None:
    backend = Tokenizer.from_str(tokenizer_of("chatml").backend_tokenizer.to_str())
    backend.enable_truncation(4)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=CHATML)
    assert Codec(tokenizer).transcript().observe("wall " * 50) == codec_of("chatml").transcript().observe("wall " * 50)
