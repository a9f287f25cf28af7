"""Item ids: how AgentGym's files name tasks, and whether a number means the same task here.

``textcraft_31`` is task 31 of `textcraft`; ``lmrlgym_maze_19`` and ``tool_sheet_3`` carry the name of a collection
before that of the environment. ALFWorld's training ids name files and SearchQA's the data set a question is from: both
name a task, but no number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NUMBERED = re.compile(r"(?:lmrlgym_|tool_)?([a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*)_(0|[1-9][0-9]{0,17})")
_QUESTION = re.compile(r"(nq|triviaqa|popqa|hotpotqa|2wikimultihopqa|musique|bamboogle)_.+")
_HOUSEHOLD = re.compile(
    r"(look_at_obj_in_light|pick_and_place_simple|pick_(?:clean|heat|cool)_then_place_in_recep|pick_two_obj_and_place)"
    r"[-_].+"
)

RENUMBERED: Mapping[str, str] = {
    "textcraft": "the original counts its goals in an order of its own",
    "wordle": "the original draws its word from another list",
}
"""Environments whose tasks have other numbers here than in AgentGym, and why."""


ORIGINAL = ("agenttraj", "agenteval")
"""Versions of tasks whose numbers are those of AgentGym's environments."""


def renumbered(environment: str, version: str) -> bool:
    """Whether a number means another task here than where it is from."""
    return version in ORIGINAL and environment in RENUMBERED


@dataclass(frozen=True, slots=True)
class ItemId:
    """A task as an item id names it.

    Attributes:
        text: the id as it was written.
        environment: whose task it is.
        index: its number; None where the id has none.
        task_type: what kind of task it is, where the id says so.
    """

    text: str
    environment: str
    index: int | None
    task_type: str | None = None

    @property
    def key(self) -> str:
        """The same for every way to write this id: ``maze_19`` for ``lmrlgym_maze_19``."""
        return self.text if self.index is None else f"{self.environment}_{self.index}"


def read_item_id(text: str) -> ItemId:
    """Reads an item id.

    Raises:
        ValueError: it names no task.
    """
    if match := _QUESTION.fullmatch(text):
        return ItemId(text, "searchqa", None, match[1])
    if match := _NUMBERED.fullmatch(text):
        return ItemId(text, match[1], int(match[2]))
    if match := _HOUSEHOLD.fullmatch(text):
        return ItemId(text, "alfworld", None, match[1])
    raise ValueError(f"item_id {text[:60]!r} is not <environment>_<index>")
