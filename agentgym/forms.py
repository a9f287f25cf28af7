"""The forms in which episodes are written for other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentgym.data.exports import write_messages, write_record, write_rollout
from agentgym.errors import DataError
from envpool import Trajectory
from envpool.errors import did_you_mean


class Form(StrEnum):
    """What an export is written as."""

    agenttraj = "agenttraj"  # for the trainers of AgentGym; a JSON list
    rollouts = "rollouts"  # every episode with roles and rewards; JSON lines
    messages = "messages"  # for TRL and others that learn from `messages`; JSON lines

    @property
    def suffix(self) -> str:
        """What the file's name ends in."""
        return ".json" if self == Form.agenttraj else ".jsonl"


_WRITERS: Mapping[Form, Callable[[Trajectory], dict[str, Any]]] = {
    Form.agenttraj: write_record,
    Form.rollouts: write_rollout,
    Form.messages: write_messages,
}


def form_of(to: Path, form: str | None) -> Form:
    """What to write to a file.

    Args:
        to: the file.
        form: the name of a `Form`; if None, the file's name tells.

    Raises:
        DataError: there is no such form, or the file's name ends otherwise.
    """
    if form is None:
        if to.suffix not in (".json", ".jsonl"):
            raise DataError(f"{str(to)!r} should end in .json (AgentTraj) or .jsonl (roles and rewards)")
        return Form.agenttraj if to.suffix == ".json" else Form.rollouts
    if form not in list(Form):
        raise DataError(f"--as {form!r} is not one of {', '.join(Form)}{did_you_mean(form, Form)}")
    chosen = Form(form)
    if to.suffix != chosen.suffix:
        raise DataError(f"{str(to)!r} should end in {chosen.suffix}, as {chosen} do")
    return chosen


def writer(form: Form, tokenizer: str | None) -> Callable[[Trajectory], dict[str, Any]]:
    """Gives what makes a record of a trajectory.

    Args:
        form: the form.
        tokenizer: of messages: a model for whose tokenizer the tokens are written, too.

    Raises:
        DataError: the form holds no tokens.
        ModelError: the tokenizer cannot be used.
    """
    if tokenizer is None:
        return _WRITERS[form]
    if form != Form.messages:
        raise DataError(f"--tokenizer {tokenizer}: only messages hold tokens: add --as messages")
    return _with_tokens(tokenizer)


def _with_tokens(tokenizer: str) -> Callable[[Trajectory], dict[str, Any]]:
    """Makes messages with the tokens that are trained on here, and the mask of those that are learned from."""
    from agentgym.data.codec import Codec
    from agentgym.models import load_tokenizer

    codec = Codec(load_tokenizer(tokenizer))

    def write(trajectory: Trajectory) -> dict[str, Any]:
        tokens = codec.encode(trajectory)
        return {
            **write_messages(trajectory),
            "input_ids": list(tokens.ids),
            "assistant_masks": [int(learned) for learned in tokens.mask],
        }

    return write


def not_written(trajectory: Trajectory, form: Form, tokens: bool) -> Iterator[str]:
    """What an export loses of an episode, or what its readers do not see.

    Args:
        trajectory: the episode.
        form: what it is written as.
        tokens: whether its tokens are written, too.
    """
    if form == Form.agenttraj and any(turn.completion.reasoning for turn in trajectory.turns):
        yield "have thoughts beside their answers, which AgentTraj has no place for: they are not in the file"
    if form == Form.agenttraj and trajectory.tools:
        yield "were offered tools as data, which AgentTraj's trainers do not read: add --as messages, to a .jsonl file"
    if form == Form.messages and not tokens and not all(turn.learned for turn in trajectory.turns):
        yield (
            "have answers that are not learned from (loss: false), which TRL does not see: --tokenizer MODEL writes "
            "input_ids and assistant_masks, which it does"
        )
