"""Everything agentgym raises on purpose; the command line prints it as one line (or one a `Complaint`).

AgentGymError
├── RecipeError      a recipe or an override is wrong; carries all complaints together
├── DataError        a trajectory file, a list of tasks or a panel cannot be used
├── ModelError       a model or tokenizer cannot be loaded, or its chat template cannot be used
├── RunError         a run folder belongs to another recipe, or cannot be written
├── NothingFinished  no episode of a phase came to an end by itself
└── UsageError       the words on the command line make no command
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class AgentGymError(Exception):
    """Base class of the errors that agentgym raises on purpose; its text is one line with a cure."""


class RecipeError(AgentGymError):
    """A recipe cannot be used.

    Args:
        complaints: every complaint about it, each one line with a cure.
    """

    def __init__(self, complaints: Sequence[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = list(complaints)


class DataError(AgentGymError):
    """A trajectory file, a list of tasks or a panel cannot be used."""


class ModelError(AgentGymError):
    """A model or tokenizer cannot be loaded or used."""


class RunError(AgentGymError):
    """A run folder cannot be used."""


class NothingFinished(AgentGymError):
    """No episode of a phase came to an end by itself: there is nothing to measure or to learn from."""


class UsageError(AgentGymError):
    """The words on the command line make no command."""


class Complaint(NamedTuple):
    """One thing that is wrong.

    Attributes:
        key: dotted key of the setting; empty if it is about no one setting.
        text: what is wrong, with a cure, in one line.
        causes: other settings; where one of these is wrong itself, this is only a consequence.
    """

    key: str
    text: str
    causes: Sequence[str] = ()
