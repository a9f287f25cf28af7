"""Whether an answer is that to its request: our servers repeat the request's name and say which session they used."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping

from envpool.dialects import REQUEST, SESSION
from envpool.places.connection import Received

_REQUEST, _SESSION = REQUEST.lower().encode(), SESSION.lower().encode()


class Echo:
    """What one endpoint repeats. Once it has repeated a name it has to go on: an original server never does.

    Attributes:
        known: whether it repeats names.
    """

    def __init__(self) -> None:
        self.known = False
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count()

    def name(self) -> Mapping[str, str]:
        """The header that names a request; no other request, here or elsewhere, has the same."""
        return {REQUEST: f"{self._prefix}-{next(self._numbers)}"}

    def doubt(self, answer: Received, name: Mapping[str, str], session: int | str | None) -> str | None:
        """Says why an answer is not that to a request; None if it may be.

        Args:
            answer: what came.
            name: the header of the request.
            session: which session it is for, if any.
        """
        repeated = answer.header(_REQUEST)
        if repeated is None:
            return "does not say to which request" if self.known else None
        self.known = True
        if repeated != name[REQUEST]:
            return "to another request"
        used = answer.header(_SESSION)
        if session is not None and answer.status == 200 and used != str(session):
            return "for another session" if used else "does not say for which session"
        return None
