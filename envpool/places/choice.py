"""Which place an environment lives in."""

from __future__ import annotations

from collections.abc import Sequence

from envpool.errors import EnvPoolError, did_you_mean
from envpool.places.hosts import Host
from envpool.places.inline import InlineHost
from envpool.places.process import ProcessHost
from envpool.places.thread import ThreadHost
from envpool.spec import EnvSpec, Place


def read_place(place: str) -> Place:
    """Reads the name of a place.

    Raises:
        EnvPoolError: there is no such place.
    """
    if place not in list(Place):
        raise EnvPoolError(f"place={str(place)!r} is not one of {', '.join(Place)}{did_you_mean(str(place), Place)}")
    return Place(place)


def host_of(
    spec: EnvSpec, place: Place | None, processes: int, *, imports: Sequence[str] = (), quiet: bool = False
) -> Host:
    """Makes the place of an environment.

    Args:
        spec: its card.
        place: the place; None for that of the card.
        processes: worker processes, where the place is ``process``.
        imports: modules that they import first.
        quiet: whether they keep to themselves what the environment prints.

    Raises:
        EnvPoolError: it cannot live there.
    """
    match place or spec.place:
        case Place.INLINE:
            return InlineHost(spec)
        case Place.THREAD:
            return ThreadHost(spec)
        case _:
            return ProcessHost(spec, processes, imports=imports, quiet=quiet)
