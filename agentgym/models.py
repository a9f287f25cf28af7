"""Models and tokenizers: from a folder, from a hub, or built small from nothing; and low-rank adapters.

Weights are read from safetensors only, and code that comes with a model is never run.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from agentgym.data.codec import Codec
from agentgym.data.rendering import TEMPLATE, TOOL_TEMPLATE
from agentgym.data.template import with_options
from agentgym.errors import ModelError
from agentgym.hub import locate, look_into_weights, weights_place
from agentgym.settings import LoraSettings, ModelSettings, TinySettings

T = TypeVar("T")

CONTROL_TOKENS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
"""The control tokens of the tiny model; their ids are 0 to 3."""

TOOL_TOKENS = ("<|system|>", "<|tool|>", "<tool_call>", "</tool_call>")
"""Those that it has besides where it calls tools in a syntax of its own; their ids are 4 to 7."""

PIECES = r"\n*[A-Z][a-z]+:\n| ?\d+,\d+| ?\p{L}+| ?\d|[^\s\p{L}\d]|\s+(?!\S)|\s+"
"""What a token of the tiny model may be made of, first match first: a headline as ``Thought:`` with the line breaks
around it, a pair of coordinates, a word, a digit (each with the space before it), any other character, white space.
A cell of a map and a headline thus become one token each: a small model copies one more surely than three."""

TOOL_PIECES = r'["{}:,\[\]]+(?: ["{\[]+)*|' + PIECES
"""The same, where the marks of JSON that follow each other are one token, as between two arguments of a call."""

_WIDE = 192  # narrower models learn faster from initial weights that are twice as spread as usual


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    place = locate(name)
    tokenizer = _explained(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False))
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def tokenizer_of(settings: ModelSettings, name: str) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model that a run plays or teaches.

    The model that the settings name gets their chat template and its options. What was learned from it carries both
    along in its folder, and other players have their own.

    Args:
        settings: the recipe's.
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: there is none, it cannot be read, or it has no such options.
    """
    tokenizer = load_tokenizer(name)
    if name != settings.name or not (settings.template or settings.template_options):
        return tokenizer
    if settings.template:
        try:
            tokenizer.chat_template = Path(settings.template).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the chat template {settings.template!r}: {error}; name another") from error
    if tokenizer.chat_template:
        tokenizer.chat_template = with_options(tokenizer.get_chat_template(), settings.template_options, name)
    return tokenizer


def saved_dtype(name: str) -> torch.dtype:
    """The number format in which a model is saved: bfloat16, float16, or float32 for all others.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: there is none.
    """
    place = locate(name)
    config = _explained(name, "config", lambda: AutoConfig.from_pretrained(place, trust_remote_code=False))
    told = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if told is None:  # then the weights tell
        for file in sorted(Path(place).glob("*.safetensors"))[:1]:
            with safe_open(file, "pt") as weights:
                kinds = {"BF16": "bfloat16", "F16": "float16"}
                told = kinds.get(weights.get_slice(next(iter(weights.keys()))).get_dtype())
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(str(told).removeprefix("torch."), torch.float32)


def load_model(name: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Loads a causal language model onto the CPU, ready to evaluate.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.
        dtype: the number format of the weights.

    Raises:
        ModelError: there is none, or its weights are pickled, incomplete or damaged.
    """
    place = weights_place(name)

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )

    model, report = _explained(name, "model", load)
    if missing := sorted(report["missing_keys"]):  # they would be left random
        raise ModelError(
            f"{len(missing)} weights of {name!r} are missing ({missing[0]}, ...): save the whole model again"
        )
    assert isinstance(model, PreTrainedModel)
    return model


def empty_model(name: str) -> PreTrainedModel:
    """Makes a causal language model in float32 without weights, on torch's meta device: its shapes take no memory.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: there is none.
    """
    place = locate(name)

    def make() -> Any:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]

    model = _explained(name, "model", make)
    assert isinstance(model, PreTrainedModel)
    return model


def weights_hash(name: str) -> str:
    """Names the weights of a model: the first half of a SHA-256 of its files, or id and commit of a model of the hub.

    Raises:
        ModelError: there is none.
    """
    folder = Path(locate(name))
    if not folder.is_dir():
        known = try_to_load_from_cache(name, "config.json")
        return f"{name}@{Path(known).parent.name}" if isinstance(known, str) else name
    files = sorted(folder.glob("*.safetensors"))
    return _hashed(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def _hashed(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Reads files that are as large and as old as given: a 7B model takes seconds, and its hash is asked for often."""
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:32]


def build_tiny(
    settings: TinySettings, texts: Iterable[str], *, context: int, seed: int, folder: Path, tools: bool = False
) -> None:
    """Builds an untrained Llama-type model with a tokenizer of its own; saves both in the Hugging Face layout.

    The folder is there complete or not at all, and the same arguments give the same files.

    Args:
        settings: sizes.
        texts: what the tokenizer is trained on: observations and answers.
        context: most tokens of a conversation.
        seed: decides the initial weights; torch's global random numbers are left alone.
        folder: where to save; must be empty or not exist.
        tools: whether its chat template offers tools, and it calls them in a syntax of its own.

    Raises:
        ModelError: the sizes do not fit together, or `folder` holds something.
    """
    control = (*CONTROL_TOKENS, *(TOOL_TOKENS if tools else ()))
    _check(settings, len(control))
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty: remove it or choose another folder")
    tokenizer = _train_tokenizer(settings.vocabulary, texts, context, control)
    model = _new_llama(settings, len(tokenizer), context, seed)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.replace(folder)


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> PreTrainedModel:
    """Freezes a model and adds trainable low-rank adapters to all its linear layers but the last, in place.

    One factor of each adapter is random and the other is zero, so that the model computes the same as before. The
    seed last given to `torch.manual_seed` decides the random one, whatever was drawn since: on every rank the same.

    Returns:
        The model in peft's wrapper.
    """
    from peft import LoraConfig, get_peft_model  # takes seconds to import, and most runs go without

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed())
        wrapped: Any = get_peft_model(model, config)
    return wrapped  # type: ignore[no-any-return]


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Adds what `add_lora` added into the weights, in place, and takes the wrapper off."""
    wrapped: Any = model
    merged = wrapped.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged


def _check(settings: TinySettings, control: int) -> None:
    fixed = control + len(ByteLevel.alphabet())
    if settings.hidden % (2 * settings.heads):
        cure = (
            f"model.tiny.hidden is {settings.hidden}: make it a multiple of twice model.tiny.heads ({settings.heads})"
        )
    elif settings.heads % settings.kv_heads:
        cure = f"model.tiny.heads is {settings.heads}: make it a multiple of model.tiny.kv_heads ({settings.kv_heads})"
    elif settings.vocabulary < fixed:
        cure = f"model.tiny.vocabulary is {settings.vocabulary}: bytes and control tokens alone need {fixed}"
    else:
        return
    raise ModelError(cure)


def _train_tokenizer(
    vocabulary: int, texts: Iterable[str], context: int, control: tuple[str, ...]
) -> PreTrainedTokenizerBase:
    tools = len(control) > len(CONTROL_TOKENS)
    backend = Tokenizer(BPE())
    split = Split(Regex(TOOL_PIECES if tools else PIECES), "isolated")
    backend.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(control),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    pad, end, *roles = control
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=pad,
        eos_token=end,
        extra_special_tokens=roles,
        chat_template=TOOL_TEMPLATE if tools else TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _new_llama(settings: TinySettings, vocabulary: int, context: int, seed: int) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=-(-vocabulary // 16) * 16,  # matrix products are quicker on multiples of 16
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.02 if settings.hidden >= _WIDE else 0.04,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed accelerators too
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    assert isinstance(model, PreTrainedModel)
    return model


def _explained(name: str, what: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except Exception as error:  # damaged files of others make the libraries that read them raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"cannot read the {what} of {name!r}; {_cure(name)}: {cause[:300]}") from error


def _cure(name: str) -> str:
    """What to do about a damaged model; a run makes again what it made."""
    folder = Path(name).expanduser()
    made = (folder.parent / "done.json").is_file() or (folder.parent / "recipe.yaml").is_file()
    whole = folder.parent if (folder.parent / "done.json").is_file() else folder
    return f"delete {whole} and run the same command again" if made else "choose or save another"


def check_model(name: str, context: int | None = None, settings: ModelSettings | None = None) -> None:
    """Makes sure that a model can be loaded as far as that can be told without loading it.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.
        context: most tokens of a conversation; None leaves it open.
        settings: may hold another chat template.

    Raises:
        ModelError: it is not there, has no tokenizer, no usable chat template, or only pickled weights; its tokenizer
            has more tokens than the model knows, or a conversation may be longer than it can be.
    """
    place = locate(name)
    whole = _explained(name, "config", lambda: AutoConfig.from_pretrained(place, trust_remote_code=False))
    codec = Codec(load_tokenizer(name) if settings is None else tokenizer_of(settings, name))
    weights_place(name)
    _explained(name, "model", lambda: look_into_weights(Path(place)))
    config = whole.get_text_config()
    known = getattr(config, "vocab_size", None)
    if isinstance(known, int) and codec.vocabulary > known:
        raise ModelError(
            f"the tokenizer of {name!r} has {codec.vocabulary} tokens, and the model knows {known}: "
            "save the tokenizer that belongs to it"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if context is not None and isinstance(longest, int) and longest < context and _learns_positions(name, longest):
        raise ModelError(f"{name!r} knows {longest} positions, not {context}: set model.context={longest} or less")


def _learns_positions(name: str, count: int) -> bool:
    """Whether a model has a vector for each position, as GPT-2 has; others only become worse beyond the last one."""
    model = empty_model(name)
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    words = model.get_input_embeddings()
    return any(table is not words and count <= table.num_embeddings <= count + 2 for table in tables)  # OPT has 2 more
