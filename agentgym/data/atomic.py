"""Files that are there whole or not at all, also when the machine stops half-way."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from agentgym.errors import RunError

_CURES = {
    errno.ENOSPC: "free some space, or name another place",
    errno.EDQUOT: "free some space, or name another place",
    errno.ENAMETOOLONG: "choose a shorter one",
}


def write_atomically(path: Path | str, content: bytes, *, new: bool = False) -> None:
    """Writes a file that is there whole or not at all, also when the machine stops half-way.

    Args:
        path: the file; its folder is made if it is not there.
        content: what is to be in it.
        new: whether a file that is there already is an error; if not, it is replaced.

    Raises:
        RunError: the file cannot be written, or is there already.
    """
    with write_gradually(path, new=new) as write:
        write(content)


@contextlib.contextmanager
def write_gradually(path: Path | str, *, new: bool = False) -> Iterator[Callable[[bytes], None]]:
    """Gives a function that writes bytes to a file, which is there when the block ends, and never if that raises.

    Args:
        path: the file; its folder is made if it is not there.
        new: whether a file that is there already is an error; if not, it is replaced.

    Raises:
        RunError: the file cannot be written, or is there already. What else the block raises goes through.
    """
    path = Path(path)
    # A hidden name without the suffix: whoever lists `*.parquet` never sees it. Nobody else gives it.
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.tmp")
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")

    def write(content: bytes) -> None:
        with _told(path):
            file.write(content)

    try:
        yield write
        with _told(path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            if new:
                _publish(temporary, path)
            else:
                temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            file.close()  # writes what is left, where writing may have failed before
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Gives a file its name, unless another process gave it first.

    Raises:
        RunError: the name is taken.
    """
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links; there the name is taken first, by an empty file
            path.open("xb").close()
            temporary.replace(path)
    except FileExistsError:
        raise RunError(f"{path} is there already: name another file") from None


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says of which file a failure is."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "name another place")
        raise RunError(f"cannot write {path}: {error.strerror or error}; {cure}") from error


def _sync_folder(folder: Path) -> None:
    """Makes the name last as well. Not every file system can, as some of the network; the file is in its place then."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
