"""What training and evaluation have in common: tasks with the same item id, and tasks with the same instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentgym.data.instructions import same_words
from agentgym.data.store import polars
from agentgym.data.tasklist import joined, of_tasks, with_instructions
from agentgym.data.tasksource import of_trajectories
from agentgym.itemids import ItemId, numbering, why_renumbered
from agentgym.numbering import VERSION, plays_original
from agentgym.play import tasks_of
from agentgym.settings import Recipe
from envpool import Split, Trajectory

if TYPE_CHECKING:
    import polars as pl

SHOWN = 3
"""How many tasks a line names."""


@dataclass(frozen=True)
class Overlap:
    """What two lists of tasks have in common in one environment.

    Attributes:
        environment: its name.
        tasks: how many evaluation tasks there are.
        learned: how many training tasks there are.
        numbered: how many of the evaluation tasks have an item id that can be looked for in training; the others have
            another numbering than all training tasks.
        same_id: item ids of the evaluation tasks that are in training; None if `numbered` is 0.
        told: of how many evaluation tasks that are not in `same_id` the instruction is known.
        learned_told: of how many training tasks it is known.
        same_text: (item id, instruction) of those among `told` whose instruction is that of a training task; None if
            it cannot be told or tells nothing.
        why: why `same_text` is None.
        uncompared: how many evaluation tasks were compared neither by item id nor by instruction.
    """

    environment: str
    tasks: int
    learned: int
    numbered: int
    same_id: Sequence[str] | None
    told: int
    learned_told: int
    same_text: Sequence[tuple[str, str]] | None
    why: str
    uncompared: int

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return bool(self.same_id or self.same_text)

    @property
    def line(self) -> str:
        """Says it in one line."""
        many = f"{self.tasks} evaluation task{'s' if self.tasks > 1 else ''}"
        if self.same_id is not None and self.numbered < self.tasks:
            many = f"the {self.numbered} (of {many}) whose item ids can be compared"
        if not self.learned:
            return f"{self.environment}: none of {many} is in training, which has no tasks of it"
        if self.same_id is None:
            why = why_renumbered(self.environment)
            which = "other options or data" if why is None else f"the original numbers ({why})"
            ids = f"item ids say nothing, for one side has {which}"
        elif self.same_id:
            verb = "is" if len(self.same_id) == 1 else "are"
            ids = f"{len(self.same_id)} of {many} {verb} in training ({_some(self.same_id)})"
        else:
            ids = f"none of {many} is in training by item id"
        return f"{self.environment}: {ids}; {self._texts(many)}"

    @property
    def names(self) -> list[str]:
        """All tasks that are in training or have the instruction of a training task, these with the instruction."""
        return [*(self.same_id or ()), *(f"{item_id}: {text}" for item_id, text in self.same_text or ())]

    @property
    def shortened(self) -> bool:
        """Whether the line names only some of them."""
        return max(len(self.same_id or ()), len(self.same_text or ())) > SHOWN

    def _texts(self, many: str) -> str:
        if self.same_text is None:
            return f"instructions are not compared: {self.why}"
        no, which = "none", f" of {many}" if self.same_id is None else ""
        if self.told < self.tasks - len(self.same_id or ()):
            which = f" of the {self.told}{' others' if self.same_id else ''} whose instruction is known"
        elif self.same_id:
            no, which = "no", " other"
        verb = "have" if len(self.same_text) > 1 else "has"
        named = _some([f"{item_id}: {text:.60}" for item_id, text in self.same_text])
        found = f"{len(self.same_text) or no}{which} {verb} the instruction of a training task"
        unknown = self.learned - self.learned_told
        untold = f"; the instruction of {unknown} of {self.learned} training tasks is not known" if unknown else ""
        return found + (f" ({named})" if self.same_text else "") + untold


def overlaps(
    training: pl.DataFrame, evaluation: pl.DataFrame, on_done: Callable[[int], None] = lambda count: None
) -> list[Overlap]:
    """Compares two lists of tasks, environment by environment of the second.

    Args:
        training: what is learned from.
        evaluation: what is measured.
        on_done: told how many more instructions were looked up (see `tasklist.to_find`).
    """
    told = [with_instructions(frame, on_done, needed=False) for frame in (training, evaluation)]
    return _compared(*told)


def of_role(frame: pl.DataFrame, *, evaluation: bool) -> pl.DataFrame:
    """The tasks of a source that is named as training or as evaluation.

    Of tasks whose split is known, evaluation is those of split eval and training is the others; where that leaves
    nothing, all are what the user says. So are tasks whose split is not known.
    """
    measured = frame["split"].eq_missing(str(Split.EVAL))
    part = frame.filter(frame["split"].is_null() | (measured if evaluation else ~measured))
    return part if part.height else frame


def overlap_of(recipe: Recipe, expert: Sequence[Trajectory]) -> list[str]:
    """Says which evaluation tasks of a recipe it also learns from, one line an environment that has any.

    Item ids are compared with all that the recipe learns from, instructions with the trajectories of its `data` files
    only: the splits of an environment keep tasks apart, not goals.

    Args:
        recipe: the recipe.
        expert: its expert set, with what the files of `data` hold.
    """
    own = tasks_of(recipe, Split.TRAIN)
    demonstrated = set(own)
    files = [t for t in expert if t.task not in demonstrated or t.policy != "expert"]
    if not files and recipe.panel is None:
        return []  # the splits see to it
    explored = _numbered(recipe, of_tasks(tasks_of(recipe, Split.EXPLORE), Split.TRAIN))
    drawn = joined([of_tasks(own, Split.TRAIN), explored])  # experts play here, by our numbers
    measured = _numbered(recipe, of_tasks(tasks_of(recipe, Split.EVAL), Split.EVAL))
    shown = {t.task.environment for t in files}
    to_tell = measured["environment"].is_in(list(shown))
    measured = joined([with_instructions(measured.filter(to_tell), needed=False), measured.filter(~to_tell)])
    found = _compared(joined([of_trajectories(files), drawn]), measured)
    return [overlap.line for overlap in found if overlap.found]


def _numbered(recipe: Recipe, frame: pl.DataFrame) -> pl.DataFrame:
    """Gives tasks that an original server plays by its own numbers a version that says so."""
    original = [name for name in recipe.environments if plays_original(recipe, name)]
    lib = polars()
    version = lib.when(lib.col("environment").is_in(original)).then(lib.lit(VERSION)).otherwise(lib.col("version"))
    return frame.with_columns(version=version)


def _compared(training: pl.DataFrame, evaluation: pl.DataFrame) -> list[Overlap]:
    names = evaluation["environment"].unique(maintain_order=True).to_list()
    return [_overlap(name, _tasks(training, name), _tasks(evaluation, name)) for name in names]


@dataclass(frozen=True, slots=True)
class _Known:
    """A task: its id as it was written, what is the same for every way to write it, and its instruction."""

    item_id: str
    numbering: str
    key: str
    text: str | None


def _tasks(frame: pl.DataFrame, environment: str) -> list[_Known]:
    """The tasks of an environment, each once."""
    tasks: dict[tuple[str, str], _Known] = {}
    for row in frame.filter(environment=environment).iter_rows(named=True):
        numbered = numbering(environment, row["version"])
        key = ItemId(row["item_id"], environment, row["index"]).key
        known = tasks.get((numbered, key))
        if known is None or known.text is None:
            tasks[numbered, key] = _Known(row["item_id"], numbered, key, row["instruction"])
    return list(tasks.values())


def _overlap(environment: str, learned: list[_Known], measured: list[_Known]) -> Overlap:
    ids = {(task.numbering, task.key) for task in learned}
    texts = {same_words(task.text) for task in learned if task.text is not None}
    comparable = {task.numbering for task in learned} & {task.numbering for task in measured}
    same = [task for task in measured if (task.numbering, task.key) in ids]
    others = [task for task in measured if (task.numbering, task.key) not in ids]
    told = [task for task in others if task.text is not None]
    every = [task.text for task in measured if task.text is not None]
    why = ""
    if not texts:
        why = "the training tasks come without them"
    elif not every or (others and not told):
        why = f"the {'other ' if every else ''}evaluation tasks come without them"
    elif len(every) > 1 and len(set(every)) == 1:
        why = "all evaluation tasks have the same one"
    shared = [(task.item_id, task.text) for task in told if task.text and same_words(task.text) in texts]
    numbered = sum(task.numbering in comparable for task in measured)
    unnumbered = [task for task in others if task.numbering not in comparable]
    return Overlap(
        environment=environment,
        tasks=len(measured),
        learned=len(learned),
        numbered=numbered,
        same_id=[task.item_id for task in same] if numbered else None,
        told=len(told),
        learned_told=sum(task.text is not None for task in learned),
        same_text=None if why else shared,
        why=why,
        uncompared=sum(bool(why) or task.text is None for task in unnumbered) if learned else 0,
    )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
