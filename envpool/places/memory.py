"""How much memory processes hold, where the system tells."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

MEGABYTE = 2**20


def resident_memory(groups: Collection[int]) -> dict[int, int]:
    """Adds up the resident memory of process groups, a process that the leader started included.

    Args:
        groups: ids of process groups.

    Returns:
        Megabytes by group; nothing where there is no ``/proc``.
    """
    held: dict[int, int] = dict.fromkeys(groups, 0)
    page = os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if (group := int(fields[2])) in held:
                held[group] += int(fields[21]) * page
    return {group: size // MEGABYTE for group, size in held.items() if size}
