"""Files that are there whole or not at all, also when the machine stops half-way."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from agentgym.errors import RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, also when the machine stops half-way.

    Raises:
        RunError: the file cannot be written.
    """
    with write_gradually(path) as file:
        file.write(content)


@contextlib.contextmanager
def write_gradually(path: Path) -> Iterator[io.BufferedWriter]:
    """Opens a file for writing bytes that is there whole when the block ends, and not at all if that raises.

    Raises:
        RunError: the file cannot be written.
    """
    # A hidden name without the suffix: whoever lists `*.parquet` never sees it. Nobody else gives it.
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"cannot write {path}: {reason}; free some space or choose another folder: output=FOLDER"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
