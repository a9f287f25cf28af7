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
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of the HTTP library that the client is built on, whichever it is
    RepositoryNotFoundError,
)
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

from agentgym.errors import ModelError
from agentgym.settings import LoraSettings, TinySettings

T = TypeVar("T")

CONTROL_TOKENS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
"""The control tokens of the tiny model; their ids are 0 to 3."""

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template of the tiny model, for user and assistant messages."""

PIECES = r"\n*[A-Z][a-z]+:\n| ?\d+,\d+| ?\p{L}+| ?\d|[^\s\p{L}\d]|\s+(?!\S)|\s+"
"""What a token of the tiny model may be made of, first match first: a headline as ``Thought:`` with the line breaks
around it, a pair of coordinates, a word, a digit (each with the space before it), any other character, white space.
A cell of a map and a headline thus become one token each: a small model copies one more surely than three."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # whole, or in shards
_WIDE = 192  # narrower models learn faster from initial weights that are twice as spread as usual


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    place = _locate(name)
    tokenizer = _explained(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False))
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def load_model(name: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Loads a causal language model onto the CPU, ready to evaluate.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.
        dtype: the number format of the weights.

    Raises:
        ModelError: there is none, or its weights are pickled, incomplete or damaged.
    """
    place = _weights_place(name)

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
    place = _locate(name)

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
    folder = Path(_locate(name))
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


def build_tiny(settings: TinySettings, texts: Iterable[str], *, context: int, seed: int, folder: Path) -> None:
    """Builds an untrained Llama-type model with a tokenizer of its own; saves both in the Hugging Face layout.

    The folder is there complete or not at all, and the same arguments give the same files.

    Args:
        settings: sizes.
        texts: what the tokenizer is trained on: observations and answers.
        context: most tokens of a conversation.
        seed: decides the initial weights; torch's global random numbers are left alone.
        folder: where to save; must be empty or not exist.

    Raises:
        ModelError: the sizes do not fit together, or `folder` holds something.
    """
    _check(settings)
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty: remove it or choose another folder")
    tokenizer = _train_tokenizer(settings.vocabulary, texts, context)
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


def _check(settings: TinySettings) -> None:
    fixed = len(CONTROL_TOKENS) + len(ByteLevel.alphabet())
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


def _train_tokenizer(vocabulary: int, texts: Iterable[str], context: int) -> PreTrainedTokenizerBase:
    backend = Tokenizer(BPE())
    split = Split(Regex(PIECES), "isolated")
    backend.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    pad, end, *roles = CONTROL_TOKENS
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=pad,
        eos_token=end,
        extra_special_tokens=roles,
        chat_template=TEMPLATE,
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


def _locate(name: str) -> str:
    """Makes sure that there is something of that name, in seconds, and returns what transformers should load.

    Loading alone would try an unreachable hub again and again, and report the last of many causes.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return str(folder)
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"{name!r} holds only adapters: merge them into their model and save that")
        raise ModelError(f"{name!r} holds no config.json: give a folder that save_pretrained wrote")
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no model folder {name!r}: check the path")
    if not _has(name, "config.json"):
        raise ModelError(f"{name!r} on the hub is no transformers model (no config.json): choose another")
    return name


def _has(name: str, *files: str) -> bool:
    """Whether a model in a folder or on the hub has at least one of these files."""
    if Path(name).is_dir():
        return any((Path(name) / file).is_file() for file in files)
    try:
        return any(isinstance(try_to_load_from_cache(name, file), str) for file in files) or any(
            _on_hub(name, file) for file in files
        )
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a hub id as 'organisation/model': check it") from error
    except GatedRepoError as error:
        raise ModelError(f"the hub gives {name!r} on consent only: agree on its page, then set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{name!r} is neither a folder nor a model on the hub: check the spelling, or set HF_TOKEN if it is private"
        ) from error
    except (HTTPError, OSError) as error:
        raise ModelError(
            f"{name!r} is no folder, not in the hub's cache, and the hub cannot be reached: "
            "give a folder, or connect and unset HF_HUB_OFFLINE"
        ) from error


def _on_hub(name: str, file: str) -> bool:
    try:
        get_hf_file_metadata(hf_hub_url(name, file))
    except EntryNotFoundError:
        return False
    return True


def _explained(name: str, what: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except Exception as error:  # damaged files of others make the libraries that read them raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"cannot read the {what} of {name!r}; choose or save another: {cause[:300]}") from error


def check_model(name: str, context: int | None = None) -> None:
    """Makes sure that a model can be loaded as far as that can be told without loading it.

    Args:
        name: a folder in the Hugging Face layout, or a hub id.
        context: most tokens of a conversation; None leaves it open.

    Raises:
        ModelError: it is not there, has no tokenizer, no usable chat template, or only pickled weights; its tokenizer
            has more tokens than the model knows, or a conversation may be longer than it can be.
    """
    from agentgym.data.codec import Codec

    place = _locate(name)
    whole = _explained(name, "config", lambda: AutoConfig.from_pretrained(place, trust_remote_code=False))
    codec = Codec(load_tokenizer(name))
    _weights_place(name)
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


def _weights_place(name: str) -> str:
    place = _locate(name)
    if not _has(place, *_WEIGHTS):
        raise ModelError(
            f"{name!r} has no weights in safetensors (pickled ones can run code and are not read): "
            "load it with transformers where you trust it, save it with save_pretrained and name that folder"
        )
    return place
