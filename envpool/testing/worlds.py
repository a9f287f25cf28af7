"""What a server of an environment answers, request by request, in any dialect; no network here.

`native` is how envpool's own server answers; otherwise the answers are those of the dialect's original server, with its
gaps: no ``/info``, no idempotency keys, errors in the original's shape, and ids that are given out a second time.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from envpool.dialects import REQUEST, SESSION, Dialect
from envpool.errors import UnknownTask
from envpool.spec import Environment, EnvSpec
from envpool.testing.http1 import Headers, Request, Response

RECENT = 8
"""How many answers to idempotency keys are kept per session."""

RECENT_CREATED = 4096
"""How many answers to idempotency keys of ``/create`` and ``/close`` are kept."""


class Once:
    """Gives the answer of the first request with a key to every later one with that key.

    Only answers with status 200 are kept: what was refused may be tried again.

    Args:
        size: how many answers are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending: dict[str, trio.Event] = {}
        self._answers: dict[str, Response] = {}

    async def answer(self, key: str, carry_out: Callable[[], Awaitable[Response]]) -> Response:
        """Carries a request out unless that was done or is being done."""
        while key in self._pending:
            await self._pending[key].wait()
        if key in self._answers:
            return self._answers[key]
        self._pending[key] = trio.Event()
        try:
            response = await carry_out()
        finally:
            self._pending.pop(key).set()
        if response.status == 200:
            self._answers[key] = response
            if len(self._answers) > self._size:
                del self._answers[next(iter(self._answers))]
        return response


@dataclass(slots=True)
class World:
    """A session on the server."""

    environment: Environment
    score: float
    observation: str = ""
    done: bool = False
    started: bool = False
    recent: Once = field(default_factory=lambda: Once(RECENT))


class _Refused(Exception):
    """The server answers with an error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Invalid(Exception):
    """The request lacks something."""


class _Full(Exception):
    """There is no room for another session."""


class Worlds:
    """Answers requests with the environments of a card.

    Args:
        spec: the card.
        dialect: the shape of requests and answers.
        native: as envpool's server does, or as the original does.
        max_sessions: how many sessions there may be at once; only a native server counts them.

    Attributes:
        worlds: the live sessions by id.
        created: how many sessions were created, ever.
        closed: how many were closed, ever.
        recent: the answers to idempotency keys that belong to no session.
    """

    def __init__(self, spec: EnvSpec, dialect: Dialect, native: bool, max_sessions: int) -> None:
        self.worlds: dict[int, World] = {}
        self.created = self.closed = 0
        self.recent = Once(RECENT_CREATED)
        self._spec, self._dialect, self._native, self._max_sessions = spec, dialect, native, max_sessions
        self._ids = random.Random(0)
        self._given = 0
        self._routes: dict[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = {
            ("GET", "/"): lambda words: f"This is environment {spec.name}.",
            ("POST", "/create"): self._create,
            ("POST", "/reset"): self._reset,
            ("POST", "/step"): self._step,
            ("GET", "/observation"): lambda words: self._world(words, playing=not native).observation,
            ("GET", "/detail"): lambda words: self._standing(self._world(words)) | {"deleted": False},
        }
        if native or dialect.closes:
            self._routes["POST", "/close"] = self._close
        if native:
            self._routes["GET", "/info"] = self._info
            self._routes["GET", "/health"] = lambda words: {"status": "ok", "sessions": len(self.worlds)}
            self._routes["GET", "/available_actions"] = lambda words: self._actions(self._world(words))

    def route(self, request: Request) -> str:
        """The path of a request without the base of the dialect."""
        path = request.path.removeprefix(self._dialect.base)
        return path if path.startswith("/") else f"/{path}"

    def forget(self) -> None:
        """Loses all sessions, as a server that is started anew; an original one counts its ids from 1 again."""
        self.worlds.clear()
        self.recent = Once(RECENT_CREATED)
        self._given = 0

    def recent_of(self, request: Request) -> Once:
        """Where the answers to idempotency keys of such requests are kept."""
        if self.route(request) in ("/reset", "/step"):
            with suppress(_Invalid):  # the request itself will be told
                world = self.worlds.get(self._id(self._words(request)))
                if world is not None:
                    return world.recent
        return self.recent

    def echo(self, request: Request) -> Headers:
        """Says to which request an answer belongs, and to which session."""
        told = {REQUEST: request.header(REQUEST.lower())}
        with suppress(_Invalid):  # the answer tells
            session = self._words(request).get(self._dialect.session)
            told[SESSION] = None if session is None else str(session)
        return tuple((name.lower().encode(), value.encode()) for name, value in told.items() if value is not None)

    def answer(self, request: Request) -> Response:
        """Answers one request."""
        handler = self._routes.get((request.method, self.route(request)))
        if handler is None:
            return Response.of({"detail": "Not Found"}, 404)
        try:
            return Response.of(handler(self._words(request)))
        except _Invalid as invalid:
            return Response.of({"detail": [{"type": "missing", "msg": str(invalid)}]}, 422)
        except _Full as full:
            return Response.of({"error": str(full), "kind": "full"}, 503, ((b"retry-after", b"1"),))
        except _Refused as refused:
            return self._refusal(refused)

    def _refusal(self, refused: _Refused) -> Response:
        if self._native:
            return Response.of({"error": str(refused), "kind": refused.kind})
        if self._dialect.trouble:
            said = dict.fromkeys(self._dialect.done, False)
            return Response.of({self._dialect.observation: str(refused), "reward": 0, **self._dialect.trouble, **said})
        if self._dialect.created is None:  # the originals whose sessions are bare numbers do not catch their errors
            return Response.text("Internal Server Error", 500)
        return Response.of({"error": str(refused)})

    def _words(self, request: Request) -> Mapping[str, Any]:
        if request.method == "GET":
            return request.query
        try:
            words = request.json()
        except ValueError as error:
            raise _Invalid(f"the body is not JSON: {error}") from None
        if words is None and self._dialect.create is None and self.route(request) == "/create":
            return {}
        if not isinstance(words, dict):
            raise _Invalid("the body is not an object")
        return words

    def _create(self, words: Mapping[str, Any]) -> Any:
        _need(words, self._dialect.create or ())
        if self._native and len(self.worlds) >= self._max_sessions:
            raise _Full(f"there are {len(self.worlds)} sessions already")
        session = self._new_id()
        if session not in self.worlds:
            self.worlds[session] = World(self._tried(self._spec.build), self._spec.initial_score)
        self.created += 1
        if self._dialect.created is None:
            return session
        return {self._dialect.created: session, "observation": "", "done": False, "reward": 0}

    def _new_id(self) -> int:
        if self._native:
            return self._ids.getrandbits(53)
        self._given += 1
        limit = self._dialect.sessions
        return self._given if limit is None else (self._given - 1) % limit + 1

    def _reset(self, words: Mapping[str, Any]) -> Any:
        world = self._world(words, playing=False)
        _need(words, (self._dialect.index, *self._dialect.reset))
        index = words[self._dialect.index]
        if not isinstance(index, int):
            raise _Invalid(f"{self._dialect.index} is not a number")
        world.observation = self._tried(world.environment.reset, index)
        world.started, world.done, world.score = True, False, self._spec.initial_score
        if self._dialect.first is None:
            return world.observation
        if isinstance(self._dialect.first, int):
            return [*[None] * self._dialect.first, world.observation, None]
        said = _split(world.observation, self._dialect.first)
        session = {self._dialect.session: words[self._dialect.session]}
        return session | self._standing(world) | {"score": world.score, "deleted": False} | said

    def _step(self, words: Mapping[str, Any]) -> Any:
        world = self._world(words)
        _need(words, ("action",))
        step = self._tried(world.environment.step, self._dialect.read_action(str(words["action"])))
        gained = step.score - world.score
        world.observation, world.score, world.done = step.observation, step.score, step.done
        return self._standing(world, gained)

    def _standing(self, world: World, gained: float = 0.0) -> dict[str, Any]:
        """What the answer to ``/step`` holds; where `score` is the score, `reward` is what the action added."""
        dialect = self._dialect
        said = {dialect.observation: world.observation, "reward": world.score}
        said |= {key: world.done and key == dialect.done[0] for key in dialect.done}
        if dialect.score == "score":
            said["reward"] = gained
        if self._native or dialect.score == "score":
            said["score"] = world.score
        if dialect.actions is not None:
            said[dialect.actions] = self._actions(world)
        return said

    def _actions(self, world: World) -> list[str]:
        return list(self._tried(world.environment.available_actions))

    def _close(self, words: Mapping[str, Any]) -> Any:
        world = self.worlds.pop(self._id(words), None)
        if world is not None:
            self.closed += 1
            self._tried(world.environment.close)
        return world is not None

    def _info(self, words: Mapping[str, Any]) -> Any:
        return {
            "server": "envpool",
            "environment": self._spec.name,
            "version": self._spec.version,
            "deterministic": self._spec.deterministic,
            "idempotent": True,
            "closes": True,
            "sessions": len(self.worlds),
            "max_sessions": self._max_sessions,
        }

    def _id(self, words: Mapping[str, Any]) -> int:
        _need(words, (self._dialect.session,))
        try:
            return int(words[self._dialect.session])
        except (TypeError, ValueError):
            raise _Invalid(f"{self._dialect.session} is not a number") from None

    def _world(self, words: Mapping[str, Any], playing: bool = True) -> World:
        session = self._id(words)
        world = self.worlds.get(session)
        if world is None:
            raise _Refused("unknown_session", f"The id {session} is not valid.")
        if playing and not world.started:
            raise _Refused(
                "not_started", f"The session {session} has not been reset." if self._native else f"{session}"
            )
        if playing and world.done:
            raise _Refused("finished", f"The task with environment {session} has finished.")
        return world

    def _tried(self, call: Callable[..., Any], *args: object) -> Any:
        try:
            return call(*args)
        except UnknownTask as error:
            raise _Refused("unknown_task", str(error)) from error
        except Exception as error:
            raise _Refused("environment_failed", f"{type(error).__name__}: {error}") from error


def _need(words: Mapping[str, Any], keys: Sequence[str] | Mapping[str, Any]) -> None:
    missing = [key for key in keys if key not in words]
    if missing:
        raise _Invalid(f"Field required: {', '.join(missing)}")


def _split(observation: str, keys: Sequence[str]) -> dict[str, str]:
    """Spreads the lines of an observation over keys, so that joining them with line breaks gives it again."""
    parts = observation.split("\n", len(keys) - 1)
    return dict(zip(keys, [*parts, *[""] * (len(keys) - len(parts))], strict=True))
