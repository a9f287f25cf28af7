"""Checksums of data, and the command that checks it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from anagrams import FOLDER, known, write_original

from envpool import datafiles
from envpool.__main__ import main
from envpool.datafiles import checksum, content_of
from envpool.errors import EnvPoolError

YEAR = 365 * 86_400 * 1_000_000_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with known():
        yield


def write(name: str, content: bytes, age: int = YEAR) -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    changed = file.stat().st_mtime_ns - age
    os.utime(file, ns=(changed, changed))
    return file


def read(file: Path) -> tuple[str, list[int]]:
    told: list[int] = []
    return checksum(file, told.append), told


def test_a_checksum_is_computed_once_and_anew_when_the_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpool.datafiles.BLOCK", 4)
    monkeypatch.setattr("envpool.datafiles._remembered", {})
    file = write("big.bin", b"0123456789")
    right = hashlib.sha256(b"0123456789").hexdigest()
    assert read(file) == (right, [4, 4, 2])
    assert read(file) == (right, [10])  # remembered
    datafiles._remembered.clear()
    assert read(file) == (right, [10])  # from the cache of the user
    datafiles._remembered.clear()
    (entry,) = Path("cache/agentgym/checksums").iterdir()
    entry.write_text("{")
    assert read(file) == (right, [4, 4, 2])  # a damaged entry is none
    write("big.bin", b"9876543210", age=YEAR - 1)
    assert read(file)[0] == hashlib.sha256(b"9876543210").hexdigest()


def test_a_file_that_has_just_changed_is_not_trusted_to_stay() -> None:
    file = write("new.bin", b"1", age=0)
    checksum(file)
    assert not Path("cache").exists()


def test_a_folder_is_what_lies_in_it_wherever_it_lies() -> None:
    for folder in ("a", "b/c"):
        write(f"{folder}/x.txt", b"1")
        write(f"{folder}/deep/y.txt", b"2")
    same = content_of(Path("a"))
    assert content_of(Path("b/c")) == same
    Path("a/deep/y.txt").rename("a/deep/z.txt")
    assert content_of(Path("a")) != same
    os.mkfifo("pipe")
    for name, line in [("nowhere", "there is no file or folder"), ("pipe", "'pipe' is neither a file nor a folder")]:
        with pytest.raises(EnvPoolError, match=line):
            content_of(Path(name))


def test_the_command_lists_and_checks_what_an_environment_can_use(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "anagram", "--import", f"{FOLDER}/"]
    assert main(words) == 0
    listed = capsys.readouterr().out
    assert "lists/big.txt  70 bytes  sha256 486c80cb" in listed
    assert "published at https://example.org/anagram" in listed
    data = write_original(Path("data"))
    assert main([*words, "--dir", "data"]) == 0
    assert "1 of 1 files of anagram are in data, with the right checksums" in capsys.readouterr().out
    (data / "lists" / "big.txt").write_text("stream\n")
    assert main([*words, "--dir", "data"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "envpool: lists/big.txt is damaged in 'data' (it has 7 bytes, not 70): get it from https://example.org/anagram\n"
    )
    assert main([*words, "--dir", "nowhere"]) == 2
    assert "there is no folder 'nowhere': name the one that holds lists/big.txt" in capsys.readouterr().err
    assert main(["data", "maze"]) == 0
    assert capsys.readouterr().out == "maze uses no files but its own\n"
