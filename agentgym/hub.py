"""Where a model is: a folder in the Hugging Face layout, or on the hub."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of the HTTP library that the client is built on, whichever it is
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from agentgym.errors import ModelError

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # whole, or in shards


def locate(name: str) -> str:
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
    if not has(name, "config.json"):
        raise ModelError(f"{name!r} on the hub is no transformers model (no config.json): choose another")
    return name


def has(name: str, *files: str) -> bool:
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


def weights_place(name: str) -> str:
    """Finds a model that has weights which can be read; as `locate`."""
    place = locate(name)
    if not has(place, *_WEIGHTS):
        raise ModelError(
            f"{name!r} has no weights in safetensors (pickled ones can run code and are not read): "
            "load it with transformers where you trust it, save it with save_pretrained and name that folder"
        )
    return place


def look_into_weights(folder: Path) -> None:
    """Reads what the files of weights say that they hold; raises what safetensors does if they are cut or garbled."""
    index = folder / _WEIGHTS[1]
    if index.is_file() and not (folder / _WEIGHTS[0]).is_file():
        files = sorted({folder / str(file) for file in json.loads(index.read_text())["weight_map"].values()})
    else:
        files = sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                weights.keys()
        except SafetensorError as error:
            raise ValueError(f"{file.name} is damaged: {error}") from error
