"""The routes of an environment server. Importing it takes FastAPI; `create_app` does that when it is needed."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from envpool.dialects import INFO, REQUEST, SESSION, Dialect
from envpool.errors import MalformedAction
from envpool.server.answers import Answer, Answers, Kind, Refused, key_reused
from envpool.server.callers import Callers
from envpool.server.sessions import SessionTable, State
from envpool.spec import EnvSpec

STATUS: Mapping[Kind, int] = {
    Kind.FULL: 503,
    Kind.UNAVAILABLE: 503,
    Kind.BAD_REQUEST: 422,
    Kind.TOO_LARGE: 413,
    Kind.NOT_JSON: 415,
    Kind.KEY_REUSED: 422,
    Kind.NOT_KEPT: 409,
    Kind.WRONG_HOST: 421,
    Kind.FOREIGN_PAGE: 403,
    Kind.UNAUTHORIZED: 401,
}
"""HTTP status of a refusal. AgentGym's servers answer with 200 where this names none, and their clients rely on it."""

HEADERS: Mapping[int, Mapping[str, str]] = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
"""What an answer says besides, by its HTTP status."""

ESCAPED = 6
"""Bytes that JSON may take for one of an action, as in ``\\u0001``."""

BODY = 4096
"""Bytes that a request may have beside the action."""

LONGEST_KEY = 200
"""Characters of an ``Idempotency-Key``."""

Handler = Callable[[Request], Awaitable[Answer]]


class Application:
    """The routes of one environment; `app` is what uvicorn runs.

    Args:
        spec: the card of the environment.
        table: its sessions, which are closed when the server ends.
        token: what clients have to show, if anything.
        callers: whose requests are answered; None for everyone's.
    """

    def __init__(
        self,
        spec: EnvSpec,
        table: SessionTable,
        *,
        token: str | None,
        callers: Callers | None,
    ) -> None:
        self._spec = spec
        self._dialect = spec.dialect
        self._table = table
        self._token = None if token is None else f"Bearer {token}".encode()
        self._max_body = BODY + ESCAPED * spec.longest_action
        self._callers = callers
        self._answers = Answers(table.shelf, 2 * table.max_sessions)  # to requests that create and close
        self.app = FastAPI(title=spec.name, openapi_url=None, docs_url=None, redoc_url=None, lifespan=self._running)
        self.app.state.sessions, self.app.state.max_body = table, self._max_body
        self._add_routes()

    def _add_routes(self) -> None:
        base = self._dialect.base
        self._route("POST", f"{base}/step", self._step)  # routes are tried in this order
        self._route("POST", f"{base}/reset", self._reset)
        self._route("POST", f"{base}/create", self._create)
        self._route("POST", f"{base}/close", self._close)
        self._route("GET", f"{base}/observation", self._observation)
        self._route("GET", f"{base}/detail", self._detail)
        self._route("GET", f"{base}/available_actions", self._available_actions)
        self._route("GET", f"{base}/", self._greet)
        self._route("GET", "/health", self._health, locked=False)
        for path in {f"{base}/info", "/info"}:
            self._route("GET", path, self._info)
        if self._dialect.words is not None:
            self._route("GET", f"{base}{self._dialect.words}", self._words)

    def _route(self, method: str, path: str, handler: Handler, *, locked: bool = True) -> None:
        async def endpoint(request: Request) -> Response:
            try:
                if self._callers is not None:
                    self._callers.check(request.headers)
                if locked:
                    self._check_token(request)
                answer = await handler(request)
            except Refused as refusal:
                answer = _refusal(refusal)
            except asyncio.CancelledError:  # by uvicorn, at the end of the server
                answer = _refusal(Refused(Kind.UNAVAILABLE, "the server is ending"))
            headers = {**HEADERS.get(answer.status, {}), **_echo(request)}
            return Response(answer.body, answer.status, headers, "application/json")

        # FastAPI's own routes work out parameters for every request, which costs more than all that is done here
        self.app.add_route(path, endpoint, methods=[method])

    @asynccontextmanager
    async def _running(self, app: FastAPI) -> AsyncIterator[None]:
        reaper = asyncio.create_task(self._table.reap_forever())
        try:
            yield
        finally:
            reaper.cancel()
            with suppress(asyncio.CancelledError):
                await reaper
            await self._table.aclose()

    async def _create(self, request: Request) -> Answer:
        body = await self._read(request)

        async def work() -> Answer:
            number = await self._table.create()
            if self._dialect.created is None:
                return _answer(number)
            return _answer({self._dialect.created: number, "observation": "", "done": False, "reward": 0})

        return await self._once(self._answers, None, request, body, work)

    async def _reset(self, request: Request) -> Answer:
        body = await self._read(request)
        number = _number(body.get(self._dialect.session), self._dialect.session)
        index = _number(body.get(self._dialect.index, self._dialect.task_if_none), self._dialect.index)

        async def work() -> Answer:
            state = await self._table.reset(number, index)
            return _answer(_first(self._dialect, number, state, await self._actions(number)))

        return await self._once(self._table.answers(number), self._answers, request, body, work)

    async def _step(self, request: Request) -> Answer:
        body = await self._read(request)
        number = _number(body.get(self._dialect.session), self._dialect.session)
        action = body.get("action")
        if not isinstance(action, str):
            raise Refused(Kind.BAD_REQUEST, "'action' is missing or no text")
        action = self._dialect.read_action(action)
        try:
            self._spec.check_length(action)
        except MalformedAction as error:
            raise Refused(Kind.TOO_LARGE, str(error)) from None

        async def work() -> Answer:
            state = await self._table.step(number, action)
            return _answer({**_next(self._dialect, state), **await self._actions(number)})

        return await self._once(self._table.answers(number), self._answers, request, body, work)

    async def _close(self, request: Request) -> Answer:
        body = await self._read(request)
        number = _number(body.get(self._dialect.session), self._dialect.session)

        async def work() -> Answer:
            return _answer(await self._table.close(number))

        return await self._once(self._answers, self._table.find_answers(number), request, body, work)

    async def _observation(self, request: Request) -> Answer:
        state = self._table.look(self._asked(request))
        return _answer(_all(self._dialect, state) if self._dialect.looks_at_all else state.observation)

    async def _detail(self, request: Request) -> Answer:
        return _answer(_all(self._dialect, self._table.look(self._asked(request))))

    async def _available_actions(self, request: Request) -> Answer:
        return _answer(list(await self._table.available_actions(self._asked(request))))

    async def _words(self, request: Request) -> Answer:
        """The possible actions as words. They are not filtered: which still fit is for the player to find out."""
        actions = await self._table.available_actions(self._asked(request))
        return _answer([action.replace(" ", "") for action in actions])

    async def _greet(self, request: Request) -> Answer:
        return _answer(f"This is {self._spec.name}, served by envpool.")

    async def _health(self, request: Request) -> Answer:
        return _answer({"status": "ok", "sessions": self._table.count(), "abandoned": self._table.abandoned})

    async def _info(self, request: Request) -> Answer:
        return _answer(
            {
                "server": "envpool",
                "environment": self._spec.name,
                "version": self._spec.version,
                "deterministic": self._spec.deterministic,
                "idempotent": True,
                "closes": True,
                "sessions": self._table.count(),
                "max_sessions": self._table.max_sessions,
            }
        )

    def _check_token(self, request: Request) -> None:
        if self._token is not None:
            shown = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(shown, self._token):
                raise Refused(Kind.UNAUTHORIZED, "The header 'Authorization: Bearer <token>' is missing or wrong.")

    async def _read(self, request: Request) -> dict[str, Any]:
        kind = request.headers.get("content-type")
        if kind is not None and kind.partition(";")[0].strip().lower() != "application/json":
            raise Refused(Kind.NOT_JSON, f"the request is of the type {kind!r:.80}: send application/json")
        length = request.headers.get("content-length", "")
        self._check_size(int(length) if length.isdecimal() else 0)
        content, more = bytearray(), True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Refused(Kind.BAD_REQUEST, "the request ended early")
            content += message.get("body", b"")
            self._check_size(len(content))
            more = message.get("more_body", False)
        if not content:
            return {}
        if kind is None:  # a foreign page can send anything, but not that it is JSON
            raise Refused(Kind.NOT_JSON, "the request does not say its type: send Content-Type: application/json")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise Refused(Kind.BAD_REQUEST, "the request is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(Kind.BAD_REQUEST, "the request is no JSON object")
        request.scope[SESSION] = body.get(self._dialect.session)
        return body

    def _check_size(self, size: int) -> None:
        if size > self._max_body:
            raise Refused(Kind.TOO_LARGE, f"the body of the request has more than {self._max_body:,} bytes")

    def _asked(self, request: Request) -> int:
        name = self._dialect.session
        request.scope[SESSION] = text = request.query_params.get(name, "")
        return _number(int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None, name)

    async def _once(
        self,
        answers: Answers,
        others: Answers | None,
        request: Request,
        body: Mapping[str, Any],
        work: Callable[[], Awaitable[Answer]],
    ) -> Answer:
        """Does the work, once only if the request has a key; one among `others` belongs to another request."""

        async def refuse_or_work() -> Answer:
            try:
                return await work()
            except Refused as refusal:
                return _refusal(refusal)

        key = request.headers.get("idempotency-key")
        if key is None:
            return await work()
        if len(key) > LONGEST_KEY:
            raise Refused(Kind.BAD_REQUEST, f"an Idempotency-Key has at most {LONGEST_KEY} characters")
        if others is not None and key in others:
            raise key_reused()
        return await answers.once(key, f"{request.scope['path']} {json.dumps(body, sort_keys=True)}", refuse_or_work)

    async def _actions(self, number: int) -> dict[str, Any]:
        """The possible actions, in a dialect that sends them with every observation."""
        if self._dialect.actions is None:
            return {}
        return {self._dialect.actions: list(await self._table.available_actions(number))}


def _answer(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())  # in ASCII: any text that JSON can bring can be sent back


def _echo(request: Request) -> dict[str, str]:
    """Says to which request an answer belongs, and to which session."""
    told = {REQUEST: request.headers.get(REQUEST), SESSION: request.scope.get(SESSION)}
    texts = ((name, str(value)[: LONGEST_KEY + 1]) for name, value in told.items() if isinstance(value, int | str))
    return {name: text for name, text in texts if text.isascii() and text.isprintable() and len(text) <= LONGEST_KEY}


def _refusal(refusal: Refused) -> Answer:
    body = {"error": str(refusal), "kind": refusal.kind}
    return Answer(STATUS.get(refusal.kind, 200), json.dumps(body).encode())


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(Kind.BAD_REQUEST, f"{name!r} is missing or no whole number")
    return value


def _first(dialect: Dialect, number: int, state: State, actions: Mapping[str, Any]) -> Any:
    """Writes the answer to ``/reset`` so that `Dialect.read_first` reads the observation."""
    match dialect.first:
        case None:
            return state.observation
        case int(position):
            return [state.observation if place == position else None for place in range(max(2, position + 1))]
        case keys:
            lines = state.observation.split("\n", len(keys) - 1)
            parts = dict(zip(keys, lines, strict=False))  # a short observation leaves the last keys empty
            return {dialect.session: number, **_all(dialect, state), **dict.fromkeys(keys, ""), **parts, **actions}


def _next(dialect: Dialect, state: State) -> dict[str, Any]:
    """Writes the answer to ``/step`` so that `Dialect.read_step` reads the state."""
    over = dict.fromkeys(dialect.done, False) | {dialect.done[0]: state.done}
    info = {INFO: dict(state.info)} if state.info else {}
    return {dialect.observation: state.observation, **_numbers(dialect, state), **over, **info}


def _all(dialect: Dialect, state: State) -> dict[str, Any]:
    return {"observation": state.observation, **_numbers(dialect, state), "done": state.done, "deleted": False}


def _numbers(dialect: Dialect, state: State) -> dict[str, float]:
    """The score so far, and as reward what the original means by it: the same, or what the last action added."""
    return {"reward": state.score if dialect.score == "reward" else state.gained, "score": state.score}
