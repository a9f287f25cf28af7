"""The wire shapes in which AgentGym's environment servers speak; which one does is in each environment's card.

Every server knows the routes ``POST /create``, ``/reset`` and ``/step``, and some ``POST /close``; they differ in
names, in shapes and in what their numbers mean. A `Dialect` says how: the pool reads it to speak to a server, and
`envpool serve` reads the same one to be one. Source: the servers of AgentGym (https://github.com/WooooDyy/AgentGym).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from envpool.objects import spelled_in_json, spelled_in_python
from envpool.types import Info, Step

REQUEST, SESSION = "Agentgym-Request", "Agentgym-Session"
"""Headers of our own servers: the first is sent back as it came, the second says which session an answer is about.
AgentGym's servers have nothing of the kind, so that an answer of theirs that went to another request is not noticed."""


INFO = "step_info"
"""Key of what an environment says besides, if anything, in the answers of our own servers to ``/step``."""


class Literals(StrEnum):
    """How the values in the JSON object of an action are spelled on the wire."""

    JSON = "json"
    PYTHON = "python"  # ``True``, ``False`` and ``None``, for servers that read the object as Python does


class Unreadable(ValueError):
    """An answer that does not have the shape of its dialect; the text says what is missing."""


class Complained(Unreadable):
    """An answer that reports an error of the server under HTTP 200."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one server speaks.

    Attributes:
        base: path in front of every route.
        session: how requests after ``/create`` name the session, in the body and in the query.
        create: body of ``/create``; None for none.
        created: key of the session's id in the answer to ``/create``; None if the answer is the id itself.
        index: how ``/reset`` names the task.
        reset: what else ``/reset`` wants.
        first: where the answer to ``/reset`` holds the first observation: keys whose texts are joined by line
            breaks, a position in a list, or None if the answer is the text itself.
        observation: key of the observation in the answer to ``/step``.
        score: key of the episode's score so far in the answer to ``/step``.
        verdict: key without whose yes the score does not count and is 0.
        done: keys of which any says that the episode is over.
        actions: key of the possible actions in the answers; they are shown to the policy with every observation.
        action: how an action is sent, with ``{}`` where its text goes.
        literals: how the values in the JSON object of an action are spelled.
        spelling: how the server spells what actions begin with, where the environment spells it another way.
        offers: which actions the keys of the answer to ``/available_actions`` stand for: one for each text of a list,
            in place of ``{}``, or one if the value is true. Empty if the answer is the list of actions itself.
        trouble: keys and values that mark an answer as a failure of the server.
        harmless: how the observation of such an answer starts if it is an answer to a bad action after all.
        closes: whether there is ``/close``. Where there is none, a session is kept and reset for the next episode.
        sessions: how many sessions the server holds before it gives their ids out a second time.
        at_once: how many worlds it may be asked to build at once, if it takes long or holds up everything else.
        tasks: indices of the tasks that the original server knows.
        task_if_none: the task that ``/reset`` starts if it names none; None if it has to name one.
        looks_at_all: whether ``/observation`` answers with everything known instead of the text alone.
        alike: what makes several servers begin a task alike.
        words: route, if any, that answers with the possible actions, spaces taken out.
    """

    base: str = ""
    session: str = "id"
    create: Mapping[str, Any] | None = None
    created: str | None = "id"
    index: str = "data_idx"
    reset: Mapping[str, Any] = field(default_factory=dict)
    first: Sequence[str] | int | None = ("observation",)
    observation: str = "observation"
    score: str = "reward"
    verdict: str | None = None
    done: Sequence[str] = ("done",)
    actions: str | None = None
    action: str = "{}"
    literals: Literals = Literals.JSON
    spelling: Mapping[str, str] = field(default_factory=dict)
    offers: Mapping[str, str] = field(default_factory=dict)
    trouble: Mapping[str, Any] = field(default_factory=dict)
    harmless: str | None = None
    closes: bool = False
    sessions: int | None = None
    at_once: int | None = None
    tasks: range | None = None
    task_if_none: int | None = None
    looks_at_all: bool = False
    alike: str = "start all of them with the same settings and the same data"
    words: str | None = None

    def read_created(self, answer: Any) -> int | str:
        """Finds the session's id in the answer to ``/create``.

        Raises:
            Unreadable: it is not there, or the answer reports an error.
        """
        found = answer if self.created is None else _get(answer, self.created)
        if isinstance(found, bool) or not isinstance(found, int | str):
            raise Unreadable(f"the session's id is {_short(found)}")
        return found

    def read_first(self, answer: Any) -> str:
        """Finds the first observation in the answer to ``/reset``.

        Raises:
            Unreadable: it is not there, or the answer reports an error.
        """
        match self.first:
            case None:
                _complaint(answer)
                return _text(answer)
            case int(position):
                _complaint(answer)
                if not isinstance(answer, list) or len(answer) <= position:
                    raise Unreadable(f"expected a list, got {_short(answer)}")
                return _text(answer[position])
            case keys:
                self._check(answer)
                return self._with_actions("\n".join(_text(_get(answer, key)) for key in keys), answer)

    def read_step(self, answer: Any) -> Step:
        """Reads the answer to ``/step``.

        Raises:
            Unreadable: something is missing, or the answer reports an error.
        """
        self._check(answer)
        observation = _text(_get(answer, self.observation))
        done = False
        for key in self.done:
            said = _get(answer, key)
            if not isinstance(said, bool):
                raise Unreadable(f"{key!r} is {_short(said)}, neither true nor false")
            done = done or said
        score = _get(answer, self.score)
        # some servers answer whether it is solved (true, false) instead of how well
        if not isinstance(score, int | float) or not abs(score) < 1e300:
            raise Unreadable(f"{self.score!r} is {_short(score)}, not a number")
        counts = self.verdict is None or _get(answer, self.verdict) is True
        return Step(self._with_actions(observation, answer), float(score) if counts else 0.0, done, _info(answer))

    def write_action(self, action: str) -> str:
        """Writes an action as the server reads it."""
        for ours, theirs in self.spelling.items():
            if action.startswith(ours):
                action = theirs + action.removeprefix(ours)
        if self.literals == Literals.PYTHON:
            action = spelled_in_python(action)
        return self.action.replace("{}", action)

    def read_action(self, text: str) -> str:
        """Reads an action that a client wrote for the original server."""
        before, _, after = self.action.partition("{}")
        action = text.removeprefix(before).removesuffix(after)
        for ours, theirs in self.spelling.items():
            if action.startswith(theirs):
                action = ours + action.removeprefix(theirs)
        return spelled_in_json(action) if self.literals == Literals.PYTHON else action

    def read_available(self, answer: Any) -> Sequence[str]:
        """Finds the possible actions in the answer to ``/available_actions``.

        Raises:
            Unreadable: they are not there.
        """
        _complaint(answer)
        found = answer
        if self.offers and isinstance(answer, dict):
            found = []
            for key, action in self.offers.items():
                value = _get(answer, key)
                texts = value if isinstance(value, list) else [""] if value is True else []
                found += [action.replace("{}", text) if isinstance(text, str) else text for text in texts]
        if not isinstance(found, list) or not all(isinstance(action, str) for action in found):
            raise Unreadable(f"the possible actions are {_short(answer)}, not a list of texts")
        return [self.read_action(action) for action in found]

    def _check(self, answer: Any) -> None:
        _complaint(answer)
        if isinstance(answer, dict) and any(key in answer and answer[key] == self.trouble[key] for key in self.trouble):
            words = answer.get(self.observation)
            if not (self.harmless and isinstance(words, str) and words.startswith(self.harmless)):
                raise Complained(_short(words) or "it refuses without a reason")

    def _with_actions(self, observation: str, answer: Any) -> str:
        if self.actions is None:
            return observation
        possible = _get(answer, self.actions)
        if not isinstance(possible, list) or not all(isinstance(action, str) for action in possible):
            raise Unreadable(f"{self.actions!r} is {_short(possible)}, not a list of texts")
        return f"{observation}\nAvailable actions: {', '.join(possible)}"


def _info(answer: Mapping[str, Any]) -> Info:
    found = answer.get(INFO, {})
    if not isinstance(found, dict) or not all(isinstance(value, int | float | str) for value in found.values()):
        raise Unreadable(f"{INFO!r} is {_short(found)}, not numbers and texts by name")
    return found


def _complaint(answer: Any) -> None:
    if isinstance(answer, dict) and "error" in answer:
        raise Complained(_short(answer["error"]) or "it refuses without a reason")


def _get(answer: Any, key: str) -> Any:
    _complaint(answer)
    if not isinstance(answer, dict) or key not in answer:
        raise Unreadable(f"no {key!r} in {_short(answer)}")
    return answer[key]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"the observation is {_short(value)}, not a text")
    return value


def _short(value: Any) -> str:
    text = " ".join(value.split() if isinstance(value, str) else repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


PLAIN = Dialect(create={}, closes=True)
"""The wire shape in which envpool serves an environment that AgentGym does not have."""
