"""Where trajectory files are: on this machine, in a folder, or in a data set on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from agentgym.checks import DATA_SUFFIXES
from agentgym.data.imports import QUARANTINE
from agentgym.errors import DataError

HUB = "hf://"
_ON_HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>[^/].*?))?/?")
_SHAPE = "hf://OWNER/DATASET, hf://OWNER/DATASET/FILE.json or hf://OWNER/DATASET@REVISION/FOLDER"


def find(source: str, on_other: Callable[[Path], None] = lambda path: None) -> list[Path]:
    """Finds the files of a source, sorted by name; those of the Hub are fetched, or taken from its cache.

    In a folder, what is hidden is passed over, and so is what an import has set aside (`QUARANTINE`).

    Args:
        source: a file, a folder (with its folders; of a run folder its trajectories), or an address such as ``hf://AgentGym/AgentTraj-L``.
        on_other: told each file of a folder whose name is not that of a trajectory file.

    Raises:
        DataError: there is none, a folder cannot be read, or the Hub cannot be reached.
    """
    path = _fetch(source) if source.startswith(HUB) else Path(source).expanduser()
    if path.is_dir():
        if (path / "recipe.yaml").is_file() and (path / "trajectories").is_dir():
            path = path / "trajectories"  # of a run folder: all else in it is about the run
        files = []
        for file in _inside(path):
            if file.suffix.lower() not in DATA_SUFFIXES:
                on_other(file)
            elif file.name != QUARANTINE:
                files.append(file)
        files.sort()
        if not files:
            raise DataError(f"{source} holds no trajectory file: their names end in {', '.join(DATA_SUFFIXES)}")
        return files
    if not path.exists():
        raise DataError(f"there is no {source}: name a file, a folder, or a data set as {_SHAPE}")
    return [path]


def complaint_about(others: Sequence[Path]) -> str:
    """How many files were left out for their names, in one line; empty if none was."""
    if not others:
        return ""
    more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
    names = ", ".join(path.name for path in others[:3])
    files = "file is" if len(others) == 1 else "files are"
    return f"{len(others):,} {files} left out, for they do not end in {', '.join(DATA_SUFFIXES)} ({names}{more})"


def _inside(folder: Path) -> Iterator[Path]:
    """Every file in a folder and its folders, links to folders among them; each folder once, and nothing hidden."""
    seen: set[tuple[int, int]] = set()
    for where, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        status = os.stat(where)
        place = status.st_dev, status.st_ino
        folders[:] = [] if place in seen else sorted(name for name in folders if not name.startswith("."))
        if place not in seen:
            yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))
        seen.add(place)


def _refuse(error: OSError) -> NoReturn:
    why = error.strerror or error
    raise DataError(f"cannot read {error.filename}: {why}; mend its permissions or move it away") from error


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
