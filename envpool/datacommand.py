"""The command `envpool data`: what an environment can use, and whether it is here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from envpool.datafiles import DataFile, Finding, State, complaint, examine
from envpool.errors import EnvPoolError
from envpool.imports import add_import_option
from envpool.registry import get_spec
from envpool.spec import EnvSpec

BIG = 100_000_000
"""Bytes from which on reading a file is shown as it goes."""

WRONG = 2
"""Exit code if something is missing or damaged."""


def add_data_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``envpool data`` to the commands."""
    command = commands.add_parser("data", help="list the real data that an environment can use, and check it")
    command.add_argument("environment")
    command.add_argument("--dir", type=Path, metavar="DIR", help="check the files in this folder, by size and checksum")
    add_import_option(command)
    command.set_defaults(run=lambda words: show_data(words.environment, words.dir))


def show_data(environment: str, folder: Path | None = None) -> int:
    """Prints the files that an environment can use, option by option, and checks them in a folder if one is given.

    Returns:
        0, or `WRONG` if a file is missing or damaged.

    Raises:
        UnknownEnvironment: there is none of that name.
        EnvPoolError: there is no such folder.
    """
    spec = get_spec(environment)
    if not spec.data:
        print(f"{spec.name} uses no files but its own{_own(spec)}")
        return 0
    if folder is not None and not folder.is_dir():
        raise EnvPoolError(f"there is no folder {str(folder)!r}: name the one that holds {_first(spec).name}")
    for name, files in spec.data.items():
        print(f"{spec.name} can use with option {name}:")
        for file in files:
            print(f"  {_line(file)}")
    if folder is None:
        print(f"check them with `envpool data {spec.name} --dir DIR`")
        return 0
    findings = [_looked_at(folder, file) for files in spec.data.values() for file in files]
    if wrong := complaint(folder, findings):
        print(f"envpool: {wrong}", file=sys.stderr)
        return WRONG
    good = sum(finding.state == State.GOOD for finding in findings)
    print(f"{good} of {len(findings)} files of {spec.name} are in {folder}, with the right checksums")
    return 0


def _line(file: DataFile) -> str:
    unless = "" if file.needed else " (may be missing)"
    return f"{file.name}  {file.size:,} bytes  sha256 {file.sha256}  {file.summary}{unless}; published at {file.source}"


def _own(spec: EnvSpec) -> str:
    """Names the options that take a path to files that are nowhere published."""
    return "".join(f"; option {one.name}: {one.summary}" for one in spec.declared.values() if one.takes_path)


def _first(spec: EnvSpec) -> DataFile:
    return next(file for files in spec.data.values() for file in files)


def _looked_at(folder: Path, file: DataFile) -> Finding:
    """Checks a file and says what it is; while a big one is read, how far that is."""
    read = shown = 0
    live = sys.stderr.isatty() and file.size >= BIG

    def on_bytes(count: int) -> None:
        nonlocal read, shown
        read += count
        percent = 100 * read // file.size
        if live and percent > shown:
            shown = percent
            print(f"\r{file.name}: {percent} %", end="", file=sys.stderr, flush=True)

    finding = examine(folder, file, on_bytes)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"{file.name}: {finding.state}{f' ({finding.why})' if finding.why else ''}")
    return finding
