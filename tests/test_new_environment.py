"""An environment is one folder: put there, or installed, all commands know it, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from anagrams import FOLDER

import agentgym
import envpool

HERE = Path(agentgym.__file__).parents[1]
PROGRAM = Path(__file__).parent / "every_command.py"


def of_a_user(folder: Path) -> tuple[list[Path], list[str]]:
    """A folder of a user's, which commands and recipes name."""
    shutil.copytree(FOLDER, folder / "anagram")
    return [], ["--import", "anagram/"]


def that_ships(folder: Path) -> tuple[list[Path], list[str]]:
    """A folder in `envpool/envs`."""
    shutil.copytree(Path(envpool.__file__).parent, folder / "tree" / "envpool")
    shutil.copytree(FOLDER, folder / "tree" / "envpool" / "envs" / "anagram")
    return [folder / "tree"], []


def of_a_package(folder: Path) -> tuple[list[Path], list[str]]:
    """A package that is installed, as pip leaves it."""
    shutil.copytree(FOLDER, folder / "site" / "anagram")
    about = folder / "site" / "anagrams-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: anagrams\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[agentgym.environments]\nanagram = anagram.spec:SPEC\n")
    return [folder / "site"], []


def ran(folder: Path, path: Sequence[Path], words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    found = os.pathsep.join(map(str, [*path, HERE]))
    environment = {**os.environ, "PYTHONPATH": found, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("put", [of_a_user, that_ships, of_a_package])
def test_a_new_folder_is_known_to_every_command(put, tmp_path: Path) -> None:
    path, imports = put(tmp_path)
    before = {file for file in tmp_path.rglob("*") if file.suffix == ".py"}
    ended = ran(tmp_path, path, [sys.executable, str(PROGRAM), "anagram", *imports])
    assert ended.returncode == 0, ended.stderr
    said = {command: (code, text) for command, code, text in map(json.loads, ended.stdout.splitlines())}
    assert len(said) == 14
    for command, (code, text) in said.items():
        assert code == 0, (command, text)
    assert "12 eval" in said["envpool list"][1]
    assert "success True" in said["envpool play anagram --player expert"][1]
    assert "p.json is the same here: 2 first observations, 2 goldens" in said["agentgym tasks verify p.json"][1]
    (checked,) = [text for command, (_, text) in said.items() if "check http" in command]
    assert ", 0 failed" in checked or "12 checks: 12 passed" in checked, checked
    assert "expert: 2 held-out tasks, coverage 2/2" in said["agentgym eval r.yaml --player expert --player random"][1]
    assert {file for file in tmp_path.rglob("*") if file.suffix == ".py"} == before


def test_what_is_wrong_with_an_installed_environment_is_said_in_one_line(tmp_path: Path) -> None:
    path, _ = of_a_package(tmp_path)
    points = tmp_path / "site" / "anagrams-1.0.dist-info" / "entry_points.txt"
    play = [sys.executable, "-m", "envpool", "play", "anagram", "--player", "expert"]
    for value, line in [
        ("anagram.spec:CARD", "cannot import anagram of anagrams (AttributeError: "),
        ("anagram.nowhere:SPEC", "cannot import anagram of anagrams (ModuleNotFoundError: "),
        ("anagram.world:Anagram", "anagram.world:Anagram of anagrams is not the card of anagram: name its SPEC"),
    ]:
        points.write_text(f"[agentgym.environments]\nanagram = {value}\n")
        ended = ran(tmp_path, path, play)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert line in ended.stderr
    points.write_text("[agentgym.environments]\nmaze = anagram.spec:SPEC\n")
    ended = ran(tmp_path, path, [sys.executable, "-m", "envpool", "list"])
    assert "anagrams brings an environment 'maze', and there is another one of that name" in ended.stderr
