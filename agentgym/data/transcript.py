"""A conversation as tokens: a finished one, and one that grows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envpool.policy import Episode


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One conversation as tokens.

    Attributes:
        ids: token ids, shape (T,).
        mask: True where the model wrote the token and is trained on it, shape (T,).
        cut: how many turns at the end were left out because they did not fit.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class Transcript(ABC):
    """One conversation as it grows; tokens are only ever appended.

    Attributes:
        ids: token ids so far, shape (T,).
        mask: True where the model wrote the token and is trained on it, shape (T,).
        logprobs: log-probability under the policy that sampled the token; 0 where `mask` is False, shape (T,).
    """

    def __init__(self) -> None:
        self._read = 0
        self.ids: list[int] = []
        self.mask: list[bool] = []
        self.logprobs: list[float] = []

    @abstractmethod
    def hear(self, message: str, episode: Episode) -> list[int]:
        """Appends what the environment said last, up to where the model answers.

        Args:
            message: the text of it.
            episode: the episode so far.

        Returns:
            All ids behind those that the model sampled last: what it has yet to read.
        """

    @abstractmethod
    def act(self, ids: Sequence[int], logprobs: Sequence[float] | None = None, *, learned: bool = True) -> None:
        """Appends what the model answered.

        Args:
            ids: the sampled tokens, stop token included, shape (N,).
            logprobs: their log-probabilities, shape (N,); zeros if not given.
            learned: whether they are trained on.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer to what was said last, without its stop token."""

    def read_next(self, ids: Sequence[int]) -> list[int]:
        """Appends what the model reads; returns all ids behind those that it sampled last."""
        self._append(ids, False, None)
        return self.ids[self._read :]

    def append_answer(self, ids: Sequence[int], logprobs: Sequence[float] | None, learned: bool) -> None:
        """Appends what the model sampled."""
        self._append(ids, learned, logprobs)
        self._read = len(self.ids)

    def close(self, stop: int) -> None:
        """Appends a stop token that the model did not write, and is not trained on."""
        self._append([stop], False, None)

    def _append(self, ids: Sequence[int], learned: bool, logprobs: Sequence[float] | None) -> None:
        if logprobs is not None and len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} tokens came with {len(logprobs)} log-probabilities")
        self.ids.extend(ids)
        self.mask.extend([learned] * len(ids))
        self.logprobs.extend([0.0] * len(ids) if logprobs is None else logprobs)
