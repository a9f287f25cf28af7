"""An action in the form that its environment takes: a text, or the call of a tool."""

from __future__ import annotations

from envpool.calls import Toolbox
from envpool.spec import EnvSpec
from envpool.types import Action, Call

_boxes: dict[int, tuple[EnvSpec, Toolbox]] = {}
"""The toolboxes that were needed, by the id of the card, which is kept so that no other one gets its id."""


def as_taken(spec: EnvSpec, action: Action) -> Action:
    """Writes an action as the environment takes it: as a call if it takes calls, else as text.

    Raises:
        MalformedAction: it cannot be written so; the text is what to answer.
    """
    if isinstance(action, Call) is spec.takes_calls:
        return action
    return as_text(spec, action) if isinstance(action, Call) else _box(spec).call(action)


def as_text(spec: EnvSpec, action: Action) -> str:
    """Writes an action as text.

    Raises:
        MalformedAction: it is a call that cannot be written so; the text is what to answer.
    """
    return action if isinstance(action, str) else _box(spec).text(action)


def _box(spec: EnvSpec) -> Toolbox:
    if id(spec) not in _boxes:
        _boxes[id(spec)] = spec, Toolbox.of(spec)
    return _boxes[id(spec)][1]
