"""Where trajectory files are: on this machine, in a folder, or in a data set on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from agentgym.checks import DATA_SUFFIXES
from agentgym.errors import DataError

HUB = "hf://"
_ON_HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>[^/].*?))?/?")
_SHAPE = "hf://OWNER/DATASET, hf://OWNER/DATASET/FILE.json or hf://OWNER/DATASET@REVISION/FOLDER"


def find(source: str) -> list[Path]:
    """Finds the files of a source, sorted by name; those of the Hub are fetched, or taken from its cache.

    Args:
        source: a file, a folder (with its folders), or an address such as ``hf://AgentGym/AgentTraj-L``.

    Raises:
        DataError: there is none, or the Hub cannot be reached.
    """
    path = _fetch(source) if source.startswith(HUB) else Path(source).expanduser()
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix in DATA_SUFFIXES and file.is_file())
        files = sorted(file for file in inside if not _hidden(file.relative_to(path)))
        if not files:
            raise DataError(f"{source} holds no trajectory file: their names end in {', '.join(DATA_SUFFIXES)}")
        return files
    if not path.exists():
        raise DataError(f"there is no {source}: name a file, a folder, or a data set as {_SHAPE}")
    return [path]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _fetch(address: str) -> Path:
    """Fetches a file or all trajectory files of a folder from the Hub; returns where they lie."""
    match = _ON_HUB.fullmatch(address)
    if match is None or ".." in address.split("/"):
        raise DataError(f"{address!r} names no data set of the Hugging Face Hub: write {_SHAPE}")
    name, revision, inside = match["name"], match["revision"], match["path"]
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        if inside and inside.endswith(DATA_SUFFIXES):
            return Path(hf_hub_download(name, inside, repo_type="dataset", revision=revision))
        beginning = f"{inside}/" if inside else ""
        patterns = [f"{beginning}*{suffix}" for suffix in DATA_SUFFIXES]  # a star of theirs stands for slashes too
        folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns)
        return Path(folder) / beginning
    except Exception as error:
        if not _of_the_hub(error):
            raise
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot fetch {address} ({cause[:160]}): check the name and the network, or fetch the files yourself and "
            "name their folder"
        ) from error


def _of_the_hub(error: BaseException) -> bool:
    """Whether it is the Hub, the network or the disk that failed; some of its errors have no other base class."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(("huggingface_hub.", "httpx"))
