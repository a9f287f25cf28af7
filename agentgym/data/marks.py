"""Marks: whether a message, a part of it or a whole record is learned from, in the spellings of public data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LEARNED = (
    *("loss", "weight", "train", "training", "trainable", "train_on_turn", "learn", "learned", "learnable"),
    *("loss_mask", "step_loss_mask", "loss_weight", "loss_scale", "compute_loss", "calculate_loss", "output_with_loss"),
    *("is_trainable", "should_train", "use_for_training", "for_training", "train_mask", "supervise", "supervised"),
    *("include_in_loss", "in_loss", "has_loss", "need_loss", "needs_loss", "with_loss", "cal_loss", "calc_loss"),
)
"""Marks of a message that is learned from (1 or true), or is not (0 or false); `spelt` in any case."""

MASKED = (
    *("masked", "is_masked", "loss_masked", "ignore", "ignored", "exclude", "excluded", "no_loss", "skip", "skipped"),
    *("exclude_from_loss", "exclude_from_training", "ignore_loss", "skip_loss", "skip_training", "mask_loss"),
    *("without_loss", "no_train", "no_training", "do_not_train", "dont_train", "not_trainable"),
)
"""Marks of a message that is not learned from (1 or true), or is (0 or false)."""

EITHER = ("mask",)
"""Marks that may mean either."""

IN_PARTS = ("train_detail", "training_detail", "train_details", "spans")
"""Marks of parts of a text."""

_KNOWN = frozenset({*LEARNED, *MASKED})
_HINTS = frozenset(
    {"loss", "train", "trained", "training", "trainable", "learn", "learned", "mask", "masked", "supervise", "sft"}
)  # words of keys that are marks, as it seems

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+")


def read_mark(given: Mapping[str, Any], name: str) -> bool | None:
    """Whether something is learned from, by the marks it has; None if it has none.

    Raises:
        ValueError: a mark is neither yes nor no, two of them disagree, or one may mean either.
    """
    marks: dict[str, bool] = {}
    for key, value in given.items():
        word = spelt(key)
        if value is None:
            continue
        if word in _KNOWN:
            if not isinstance(value, bool | int | float) or value not in (0, 1):
                raise ValueError(f"{key!r} of {name} is {repr(value)[:60]}: it should say 1 (learned from) or 0")
            marks[key] = bool(value) is (word in LEARNED)
        elif word not in (*EITHER, *IN_PARTS) and _HINTS & set(word.split("_")) and value in (0, 1):
            raise ValueError(f"{key[:60]!r} of {name} looks like a mark that is not known: write 'loss': true or false")
    if len(set(marks.values())) > 1:
        raise ValueError(f"{name} is learned from by one mark and not by another: {', '.join(map(repr, marks))}")
    for key in EITHER:
        if given.get(key) is not None and not marks:
            cure = "write 'loss': true or false"
            raise ValueError(f"{key!r} of {name} may mean that it is learned from, or that it is not: {cure}")
    for key in IN_PARTS:
        if given.get(key):
            raise ValueError(f"{key!r} of {name} marks parts of the message: an answer is learned from whole, or not")
    return next(iter(marks.values()), None)


def spelt(key: str) -> str:
    """A key in small letters, its words joined by ``_``, as of ``trainOnTurn`` and ``train-on-turn``."""
    return _WORD.sub("_", key).lower()


def of_parts(marks: Sequence[bool | None], learned: bool | None, name: str) -> bool | None:
    """The mark of an answer whose parts may have marks, too."""
    if False not in marks:
        return learned
    if learned or set(marks) != {False}:
        raise ValueError(f"{name} marks some of its parts: an answer is learned from whole, or not")
    return False


def is_mark(key: str) -> bool:
    """Whether a key says if something is learned from."""
    return spelt(key) in _KNOWN


def marks_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The marks of a whole record. What is neither yes nor no is none, as ``loss`` may be a figure.

    Raises:
        ValueError: one is a list.
    """
    marks = {key: value for key, value in record.items() if is_mark(key)}
    for key, value in marks.items():
        if isinstance(value, list) and value:
            raise ValueError(f"{key!r} of the record is a list: write 'loss': true or false into each message")
    return {key: value for key, value in marks.items() if isinstance(value, bool | int | float) and value in (0, 1)}
