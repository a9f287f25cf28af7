"""Whose requests a server answers: not those of a web page that somebody's browser happens to show.

Such a page can send requests to a server on the same machine, even one that only this machine can reach. Browsers say
so in the header ``Origin`` or ``Sec-Fetch-Site``, unless the page has made its own name an alias of this machine (DNS
rebinding): then that name stands in ``Host``.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from envpool.errors import EnvPoolError
from envpool.server.answers import Kind, Refused

if TYPE_CHECKING:
    from starlette.datastructures import Headers

_NAME = re.compile(r"\[[0-9a-f:.]+\]|[^\s/:\[\]@,]+")
_HOST = re.compile(rf"({_NAME.pattern})(?::[0-9]{{1,5}})?")


class Callers:
    """Those whose requests are answered.

    Args:
        address: what the server listens on.
        allowed: further names under which clients may address it.

    Raises:
        EnvPoolError: something among `allowed` is no name of a host.
    """

    def __init__(self, address: str, allowed: Iterable[str] = ()) -> None:
        self._names = {"localhost", address.lower()}
        for name in allowed:
            if not _NAME.fullmatch(name.lower()):
                raise EnvPoolError(f"--allow-host {name!r} is no name of a host: write it without http:// and port")
            self._names.add(name.lower().strip("[]"))
        self._anywhere = address in ("", "0.0.0.0", "::")
        if self._anywhere:
            name = socket.gethostname().lower()
            self._names |= {name, name.partition(".")[0]}
        self._latest: str | None = None

    def check(self, headers: Headers) -> None:
        """Looks at the head of a request.

        Raises:
            Refused: it is for another host, or a page of another origin sent it.
        """
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if host != self._latest:
            match = _HOST.fullmatch(host)
            if match is None:
                raise Refused(Kind.WRONG_HOST, "the request does not say for which host it is: send one header Host")
            name = match[1].strip("[]").rstrip(".")
            if not self._knows(name):
                raise Refused(Kind.WRONG_HOST, f"no server for {name:.60}: start it with --allow-host {name:.60}")
            self._latest = host
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise Refused(Kind.FOREIGN_PAGE, "a page of another origin sent the request")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(Kind.FOREIGN_PAGE, "a page of another site sent the request")

    def _knows(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._anywhere  # a page cannot make an address its name
