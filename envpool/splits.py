"""How the tasks of an original server are divided, where envpool has to decide: always by ``index % 5``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from envpool.types import Split

Tasks = Callable[[Split], Sequence[int]]
"""The task indices of a split, always in the same order."""

_BY_FIVES: Mapping[Split, Sequence[int]] = {Split.TRAIN: (0,), Split.EXPLORE: (1, 2, 3), Split.EVAL: (4,)}


def by_fives(indices: Sequence[int]) -> Tasks:
    """Divides tasks of which no official list is known: a fifth is train, a fifth eval. So eval is not AgentEval's."""

    @cache
    def tasks(split: Split) -> Sequence[int]:
        return tuple(index for index in indices if index % 5 in _BY_FIVES[Split(split)])

    return tasks


def eval_from(first: int, indices: range) -> Tasks:
    """The tasks from `first` on are the server's own test; a fifth of the others is train, the rest explore."""
    return _with_test(range(first, indices.stop), range(first))


def eval_to(stop: int, indices: range) -> Tasks:
    """The tasks before `stop` are the server's own test; a fifth of the others is train, the rest explore."""
    return _with_test(range(stop), range(stop, indices.stop))


def eval_only(indices: range) -> Tasks:
    """All tasks are only measured."""
    return lambda split: indices if Split(split) == Split.EVAL else ()


def _with_test(test: range, others: range) -> Tasks:
    @cache
    def tasks(split: Split) -> Sequence[int]:
        if Split(split) == Split.EVAL:
            return test
        return tuple(index for index in others if (index % 5 == 0) == (Split(split) == Split.TRAIN))

    return tasks
