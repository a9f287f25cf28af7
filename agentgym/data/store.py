"""Trajectories on disk: Parquet, one row an episode, with where each came from.

    environment, version, index, item_id, sample    which problem, which try
    iteration, phase, policy                        who played it, when and what for
    prompt, observation, turns                      what was said; `turns` is a list of structs
    stop, score, success, error, seconds            how it ended

A file that `write` made carries a checksum in its footer, so that damage is noticed before anything is decoded:
of the single changed bytes tried in a small file, some gave other data without a word and some ended the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl

from agentgym.errors import DataError, RunError
from envpool.types import Completion, StopReason, Task, Trajectory, Turn


class Phase(StrEnum):
    """What a trajectory was made for."""

    EXPERT = "expert"  # the expert set
    EXPLORE = "explore"  # exploration; may be learned from
    EVAL = "eval"  # measurement of an iteration; never learned from
    CONTROL = "control"  # measurement of the control; never learned from


TURN = pl.Struct(
    {
        "text": pl.String,
        "action": pl.String,
        "observation": pl.String,
        "score": pl.Float64,  # null where it is not known (NaN in a `Turn`)
        "token_ids": pl.List(pl.Int64),
        "logprobs": pl.List(pl.Float64),
    }
)

SCHEMA = pl.Schema(
    {
        "environment": pl.String(),
        "version": pl.String(),
        "index": pl.Int64(),
        "item_id": pl.String(),
        "sample": pl.Int64(),
        "iteration": pl.Int64(),
        "phase": pl.String(),
        "policy": pl.String(),
        "prompt": pl.String(),
        "observation": pl.String(),
        "turns": pl.List(TURN),
        "stop": pl.String(),
        "score": pl.Float64(),
        "success": pl.Boolean(),
        "error": pl.String(),
        "seconds": pl.Float64(),
    }
)
"""The columns of a trajectory file."""

OPTIONAL = frozenset({"score", "success", "error"})
"""Columns that may be null."""

SEAL = "agentgym.sha256"
"""Key in the file's own metadata: the SHA-256 of the file with zeros in place of the digest."""

_BLANK = b"0" * 64
# Parquet's footer is Thrift's compact protocol: key, type byte (0x18, binary), length as a varint (64), value.
_BEFORE_DIGEST = SEAL.encode() + b"\x18\x40"
_CURE = "delete it and repeat the command that wrote it, or name another file"


def write(path: Path, trajectories: Iterable[Trajectory], *, iteration: int, phase: str) -> None:
    """Writes trajectories to one file, in the order given; the file is there whole or not at all.

    Half characters (lone surrogates), which no UTF-8 file can hold, become U+FFFD.

    Args:
        path: the file; it is replaced if it exists, and its folder is made if it does not.
        trajectories: what to write.
        iteration: the iteration that they belong to.
        phase: what they were made for, a `Phase`.

    Raises:
        RunError: the file cannot be written.
    """
    rows = [_row(trajectory, iteration, Phase(phase)) for trajectory in trajectories]
    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(buffer, metadata={SEAL: _BLANK.decode()})
    content = buffer.getvalue()
    write_atomically(path, _with_digest(content, hashlib.sha256(content).hexdigest().encode()))


def read(paths: Iterable[Path]) -> list[Trajectory]:
    """Reads trajectories back exactly as they were written: file by file, each in its own order.

    Raises:
        DataError: a file is missing, damaged or no trajectory file.
    """
    return [trajectory for path in paths for trajectory in _read(path)]


def scan(folder: Path) -> pl.LazyFrame:
    """Opens all trajectory files of a folder as one lazy frame, by file name, for questions about a run.

    Raises:
        DataError: a file is damaged or no trajectory file, or there is none.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise DataError(f"{folder} holds no trajectory files (*.parquet): name the folder `trajectories` of a run")
    for path in paths:
        _check_columns(path, _content(path))
    return pl.scan_parquet(paths, glob=False, hive_partitioning=False, extra_columns="ignore", schema=SCHEMA)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, also when the machine stops half-way.

    Raises:
        RunError: the file cannot be written.
    """
    # A hidden name without the suffix: whoever lists `*.parquet` never sees it. The process id keeps workers apart.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise RunError(
            f"cannot write {path}: {reason}; free some space or choose another folder: output=FOLDER"
        ) from error


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row(trajectory: Trajectory, iteration: int, phase: Phase) -> dict[str, Any]:
    return {
        "environment": trajectory.task.environment,
        "version": trajectory.version,
        "index": trajectory.task.index,
        "item_id": trajectory.task.item_id,
        "sample": trajectory.sample,
        "iteration": iteration,
        "phase": str(phase),
        "policy": trajectory.policy,
        "prompt": _whole(trajectory.prompt),
        "observation": _whole(trajectory.observation),
        "turns": [_turn_row(turn) for turn in trajectory.turns],
        "stop": str(trajectory.stop),
        "score": trajectory.score,
        "success": trajectory.success,
        "error": None if trajectory.error is None else _whole(trajectory.error),
        "seconds": trajectory.seconds,
    }


def _turn_row(turn: Turn) -> dict[str, Any]:
    completion = turn.completion
    return {
        "text": _whole(completion.text),
        "action": None if turn.action is None else _whole(turn.action),
        "observation": _whole(turn.observation),
        "score": None if math.isnan(turn.score) else turn.score,
        "token_ids": None if completion.token_ids is None else list(completion.token_ids),
        "logprobs": None if completion.logprobs is None else list(completion.logprobs),
    }


def _whole(text: str) -> str:
    """Replaces half characters, which an environment may well answer with and which must not end a run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _read(path: Path) -> list[Trajectory]:
    content = _content(path)
    _check_columns(path, content)
    try:
        frame = pl.read_parquet(io.BytesIO(content), columns=list(SCHEMA))
        return [_trajectory(row) for row in frame.iter_rows(named=True)]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} is damaged ({_line(error)}): {_CURE}") from error
    except ValueError as error:
        raise DataError(f"{path} holds an episode that cannot be ({_line(error)}): {_CURE}") from error


def _content(path: Path) -> bytes:
    """Reads a file and compares it with the checksum it carries, if it carries one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    if content[:4] != b"PAR1":
        raise DataError(f"{path} is no Parquet file: name a file that agentgym wrote, or convert it")
    if _BEFORE_DIGEST in content:
        digest = hashlib.sha256(_with_digest(content, _BLANK)).hexdigest().encode()
        if _with_digest(content, digest) != content:
            raise DataError(f"{path} is damaged (its checksum is another): {_CURE}")
    return content


def _with_digest(content: bytes, digest: bytes) -> bytes:
    start = content.rindex(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    return content[:start] + digest + content[start + len(digest) :]


def _check_columns(path: Path, content: bytes) -> None:
    try:
        found = pl.read_parquet_schema(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} is damaged ({_line(error)}): {_CURE}") from error
    wrong = ", ".join(name for name, dtype in SCHEMA.items() if found.get(name) != dtype)
    if wrong:
        raise DataError(f"{path} is no trajectory file (missing or mistyped: {wrong}): name one that agentgym wrote")


def _trajectory(row: Mapping[str, Any]) -> Trajectory:
    empty = [name for name, value in row.items() if value is None and name not in OPTIONAL]
    if empty:
        raise ValueError(f"{row['item_id']} has no {empty[0]}")
    return Trajectory(
        task=Task(row["environment"], row["index"]),
        sample=row["sample"],
        policy=row["policy"],
        prompt=row["prompt"],
        observation=row["observation"],
        turns=tuple(_turn(turn) for turn in row["turns"]),
        stop=StopReason(row["stop"]),
        score=row["score"],
        success=row["success"],
        error=row["error"],
        version=row["version"],
        seconds=row["seconds"],
    )


def _turn(row: Mapping[str, Any] | None) -> Turn:
    if row is None or row["text"] is None or row["observation"] is None:
        raise ValueError("a turn has no text or no observation")
    token_ids, logprobs = row["token_ids"], row["logprobs"]
    completion = Completion(
        row["text"],
        None if token_ids is None else tuple(token_ids),
        None if logprobs is None else tuple(logprobs),
    )
    return Turn(completion, row["action"], row["observation"], math.nan if row["score"] is None else row["score"])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
