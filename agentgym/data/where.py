"""Which episodes of trajectory files: `environment=NAME,success=true`, as the user writes it and as polars asks it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agentgym.data import store
from agentgym.errors import DataError
from envpool.errors import did_you_mean

if TYPE_CHECKING:
    from polars import Expr

Where = Mapping[str, Sequence[str]]
"""Which episodes: what a column may hold, for some columns."""

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def filters(words: str | None) -> dict[str, list[str]]:
    """Reads ``environment=NAME,success=true``; a column that is named twice may hold either.

    Raises:
        DataError: it is not written so.
    """
    where: dict[str, list[str]] = {}
    for word in words.split(",") if words else []:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise DataError(f"--where {words!r} is not written like environment=NAME,success=true")
        where.setdefault(name.strip(), []).append(value.strip())
    return where


def expression(where: Where) -> Expr:
    """What polars filters for.

    Raises:
        DataError: there is no such column, or it cannot hold the value.
    """
    pl = store.polars()
    expression: Expr = pl.lit(True)
    columns = {name: dtype for name, dtype in store.schema().items() if not dtype.is_nested()}
    for name, values in where.items():
        if name not in columns:
            near = did_you_mean(name, columns)
            raise DataError(f"episodes have no {name!r}{near} (they have: {', '.join(columns)})")
        column, dtype = pl.col(name), columns[name]
        either: list[Expr] = []
        for value in values:
            if value in ("null", "none"):
                either.append(column.is_null())
                continue
            try:
                known = _TRUTH[value.lower()] if dtype == pl.Boolean else pl.Series([value]).cast(dtype).item()
            except (KeyError, pl.exceptions.PolarsError):
                raise DataError(f"{name}={value}: {value!r} is no {dtype}, which {name} is") from None
            either.append(column == known)
        expression = expression & functools.reduce(operator.or_, either)
    return expression


def said(where: Where) -> str:
    """How messages repeat it."""
    return ",".join(f"{name}={value}" for name, values in where.items() for value in values) or "at all"
