"""Trajectories on disk: Parquet files whose rows are those of `rows`, one an episode.

A store is a folder of such files. Nothing in it is ever changed: whoever has something to add puts a file of its own
beside the others, so any number of processes write at the same time.

A file that was written here carries a checksum in its footer, so that damage is noticed before anything is decoded:
of the single changed bytes tried in a small file, some gave other data without a word and some ended the process.
Reading episodes compares it; `scan` reads footers and the columns asked for only, and so cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from agentgym.data import footer
from agentgym.data.atomic import write_atomically
from agentgym.data.rows import OPTIONAL, Phase, fingerprint, from_row, to_row
from agentgym.errors import DataError
from envpool.types import Trajectory

if TYPE_CHECKING:
    from polars import DataFrame, Expr, LazyFrame, Schema

__all__ = [
    "OPTIONAL",
    "Phase",
    "append",
    "collect",
    "episodes",
    "files",
    "fingerprint",
    "foreign_rows",
    "from_row",
    "join",
    "name_in",
    "read",
    "rows",
    "scan",
    "schema",
    "to_row",
    "write",
    "write_atomically",
    "write_rows",
]

SEAL = "agentgym.sha256"
"""Key in the file's own metadata: the SHA-256 of the file with zeros in place of the digest."""

_BLANK = b"0" * 64
# Parquet's footer is Thrift's compact protocol: key, type byte (0x18, binary), length as a varint (64), value.
_BEFORE_DIGEST = SEAL.encode() + b"\x18\x40"
_CURE = "delete it and repeat the command that wrote it, or name another file"


@cache
def schema() -> Schema:
    """The columns of a trajectory file."""
    pl = polars()
    turn = pl.Struct(
        {
            "text": pl.String,
            "action": pl.String,
            "observation": pl.String,
            "score": pl.Float64,  # null where it is not known (NaN in a `Turn`)
            "learned": pl.Boolean,
            "token_ids": pl.List(pl.Int64),
            "logprobs": pl.List(pl.Float64),
            "reasoning": pl.String,
            "cut": pl.Boolean,
            "policy_seconds": pl.Float64,
            "environment_seconds": pl.Float64,
            "calls": pl.List(pl.Struct({"tool": pl.String, "arguments": pl.String})),  # arguments as JSON
            "results": pl.List(pl.String),
            "info": pl.String,  # JSON
        }
    )
    columns = {
        "environment": pl.String(),
        "version": pl.String(),
        "index": pl.Int64(),
        "item_id": pl.String(),
        "sample": pl.Int64(),
        "iteration": pl.Int64(),
        "phase": pl.String(),
        "policy": pl.String(),
        "weights": pl.String(),
        "sampling": pl.String(),
        "prompt": pl.String(),
        "acknowledgement": pl.String(),
        "observation": pl.String(),
        "turns": pl.List(turn),
        "stop": pl.String(),
        "score": pl.Float64(),
        "success": pl.Boolean(),
        "error": pl.String(),
        "seconds": pl.Float64(),
        "tools": pl.String(),  # JSON
    }
    whole: Schema = pl.Schema(columns)
    return whole


def polars() -> ModuleType:
    """Imports polars, which only trajectory files need.

    Raises:
        DataError: it is not installed.
    """
    try:
        import polars
    except ImportError:
        raise DataError("trajectory files need polars, which is not installed: pip install polars") from None
    return polars


def write(
    path: Path | str,
    trajectories: Iterable[Trajectory],
    *,
    iteration: int,
    phase: str,
    weights: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> None:
    """Writes trajectories to one file, in the order given; the file is there whole or not at all.

    Half characters (lone surrogates), which no UTF-8 file can hold, become U+FFFD.

    Args:
        path: the file; it is replaced if it exists, and its folder is made if it does not.
        trajectories: what to write.
        iteration: the iteration that they belong to.
        phase: what they were made for, a `Phase`.
        weights: a hash of the weights that played them, if it was a model with known ones.
        sampling: how tokens were drawn: temperature, top_p, seed, max_tokens and the like.

    Raises:
        RunError: the file cannot be written.
        DataError: polars is not installed.
    """
    given = [to_row(t, iteration=iteration, phase=phase, weights=weights, sampling=sampling) for t in trajectories]
    write_rows(path, given)


def write_rows(path: Path | str, given: Sequence[Mapping[str, Any]], *, new: bool = False) -> None:
    """Writes rows of `to_row` or `rows` to one file, as `write` does.

    Args:
        path: the file.
        given: the rows.
        new: whether a file that is there already is an error; if not, it is replaced.

    Raises:
        RunError: the file cannot be written, or is there already.
        DataError: polars is not installed.
    """
    buffer = io.BytesIO()
    frame = polars().DataFrame(given, schema=schema(), orient="row")
    frame.write_parquet(buffer, metadata={SEAL: _BLANK.decode()})
    _write_sealed(path, buffer.getvalue(), new=new)


def join(path: Path | str, parts: Sequence[Path], *, new: bool = False) -> None:
    """Joins trajectory files to one, in the order given, without unpacking all of them at a time.

    Raises:
        RunError: the file cannot be written, or is there already.
        DataError: polars is not installed.
    """
    buffer = io.BytesIO()
    polars().scan_parquet(parts, glob=False).sink_parquet(buffer, metadata={SEAL: _BLANK.decode()})
    _write_sealed(path, buffer.getvalue(), new=new)


def append(
    folder: Path | str,
    trajectories: Iterable[Trajectory],
    *,
    iteration: int,
    phase: str,
    weights: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Path:
    """Adds a file to a store, under a name that no other process or machine gives; arguments as of `write`.

    Returns:
        The file.

    Raises:
        RunError: it cannot be written.
        DataError: polars is not installed.
    """
    path = name_in(folder)
    write(path, trajectories, iteration=iteration, phase=phase, weights=weights, sampling=sampling)
    return path


def name_in(folder: Path | str) -> Path:
    """A file for a store that no other process or machine names so. Such names sort by time."""
    return Path(folder) / f"{time.time_ns():020d}-{uuid.uuid4().hex}.parquet"


def read(paths: Iterable[Path | str]) -> list[Trajectory]:
    """Reads trajectories back exactly as they were written: file by file, each in its own order.

    Raises:
        DataError: a file is missing, damaged or no trajectory file, or polars is not installed.
    """
    return [trajectory for path in paths for _, trajectory in episodes(path)]


def episodes(path: Path | str, where: Expr | None = None) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """Reads the episodes of one file that match, in their order: as rows, and as trajectories.

    Raises:
        DataError: the file is missing, damaged or no trajectory file, or polars is not installed.
    """
    for row in rows(path, where):
        try:
            trajectory = from_row(row)
        except ValueError as error:
            raise DataError(f"{path} holds an episode that cannot be ({_line(error)}): {_CURE}") from error
        yield row, trajectory


def rows(path: Path | str, where: Expr | None = None) -> Iterator[dict[str, Any]]:
    """Reads the rows of one file that match, in their order; what another program wrote may be no episodes.

    Raises:
        DataError: the file is missing, damaged or no trajectory file, or would take far more memory than its size
            says, or polars is not installed.
    """
    content = _content(path := Path(path))
    _check_columns(path, io.BytesIO(content))
    yield from _unpacked(path, content, list(schema()), where)


def foreign_rows(path: Path | str, wanted: Callable[[Sequence[str]], bool]) -> Iterator[dict[str, Any]] | None:
    """Reads the rows of a Parquet file of other columns; None if its columns are not what is wanted.

    Args:
        path: the file.
        wanted: told the columns, whether to read it.

    Raises:
        DataError: the file is missing, damaged, no Parquet file, or too large to unpack, or polars is not installed.
    """
    content = _content(path := Path(path))
    columns = list(_columns(path, io.BytesIO(content)))
    return _unpacked(path, content, columns, None) if wanted(columns) else None


def _unpacked(path: Path, content: bytes, columns: Sequence[str], where: Expr | None) -> Iterator[dict[str, Any]]:
    pl = polars()
    if complaint := footer.complaint(content):
        raise DataError(f"{path} {complaint}")
    try:
        frame = pl.read_parquet(io.BytesIO(content), columns=columns)
        if where is not None:
            frame = frame.filter(where)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} is damaged ({_line(error)}): {_CURE}") from error
    if complaint := footer.texts_complaint(frame, len(content)):
        raise DataError(f"{path} {complaint}")
    yield from frame.iter_rows(named=True)


def files(where: Path | str) -> list[Path]:
    """The trajectory files of a store, or of a run folder, by name; a file is itself.

    Raises:
        DataError: there is none, or the folder cannot be read.
    """
    where = Path(where)
    if where.is_file() or (where.exists() and not where.is_dir()):  # what is neither is refused when it is opened
        return [where]
    folder = where / "trajectories" if (where / "trajectories").is_dir() else where
    try:
        paths = sorted(folder / name for name in os.listdir(folder) if name.lower().endswith(".parquet"))
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}; check the path") from error
    if not paths:
        what = f"{where} holds no trajectory files (*.parquet)" if where.is_dir() else f"there is no {where}"
        raise DataError(f"{what}: name a run, or a folder with such files")
    return paths


def scan(where: Path | str | Sequence[Path | str]) -> LazyFrame:
    """Opens trajectory files as one lazy frame, for questions about millions of episodes.

    Of every file the footer is read at once, to see that it is a trajectory file. After that only what a query needs:
    the columns that it names, of the row groups whose statistics do not rule out what it filters for.

    Args:
        where: a store, a run folder or a file, whose files go by name; or files, in this order.

    Raises:
        DataError: a file is no trajectory file, or there is none, or polars is not installed.
    """
    pl = polars()
    paths = files(where) if isinstance(where, Path | str) else [Path(path) for path in where]
    for path in paths:
        with _opened(path) as file:
            _check_kind(path, file.read(4))
        _check_columns(path, path)
    frame: LazyFrame = pl.scan_parquet(
        paths, glob=False, hive_partitioning=False, extra_columns="ignore", schema=schema()
    )
    return frame


def collect(frame: LazyFrame, name: object, *, streaming: bool = False) -> DataFrame:
    """Carries out a question about trajectory files.

    Args:
        frame: what `scan` opened, with what is asked of it.
        name: what to call the files where one of them is damaged.
        streaming: whether to read them piece by piece; the rows then come in any order.

    Raises:
        DataError: a file is damaged, or was removed meanwhile.
    """
    pl = polars()
    try:
        found: DataFrame = frame.collect(engine="streaming" if streaming else "auto")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{name} is damaged or gone ({_line(error)}): {_CURE}") from error
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    if path.exists() and not path.is_file():  # to open a pipe would wait for somebody to write
        raise DataError(f"{path} is no regular file: name one that agentgym wrote, or delete it")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error


def _content(path: Path) -> bytes:
    """Reads a file and compares it with the checksum it carries, if it carries one."""
    with _opened(path) as file:
        content = file.read()
    _check_kind(path, content[:4])
    if _BEFORE_DIGEST in content:
        digest = hashlib.sha256(_with_digest(content, _BLANK)).hexdigest().encode()
        if _with_digest(content, digest) != content:
            raise DataError(f"{path} is damaged (its checksum is another): {_CURE}")
    return content


def _write_sealed(path: Path | str, content: bytes, *, new: bool) -> None:
    write_atomically(path, _with_digest(content, hashlib.sha256(content).hexdigest().encode()), new=new)


def _with_digest(content: bytes, digest: bytes) -> bytes:
    start = content.rindex(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    return content[:start] + digest + content[start + len(digest) :]


def _check_kind(path: Path, beginning: bytes) -> None:
    if beginning != b"PAR1":
        cure = f"name a file that agentgym wrote, or convert it: agentgym traj import {path} --to FILE.parquet"
        raise DataError(f"{path} is no Parquet file: {cure}")


def _check_columns(path: Path, source: Path | io.BytesIO) -> None:
    found = _columns(path, source)
    wrong = ", ".join(name for name, dtype in schema().items() if found.get(name) != dtype)
    if wrong:
        cure = "name one that agentgym wrote, or give `agentgym traj import` one with a column 'messages'"
        raise DataError(f"{path} is no trajectory file (missing or mistyped: {wrong}): {cure}")


def _columns(path: Path, source: Path | io.BytesIO) -> Schema:
    pl = polars()
    try:
        found: Schema = pl.scan_parquet(source, glob=False, hive_partitioning=False).collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} is damaged ({_line(error)}): {_CURE}") from error
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
