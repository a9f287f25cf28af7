"""A program that does everything there is to do with an environment: every_command.py NAME [--import MODULE].

It prints a JSON list of (command, exit code, what it said) and runs in a folder of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agentgym.cli import main as agentgym
from envpool.__main__ import main as envpool

RECIPE = """
name: x
model: {{name: random}}
imports: {imports}
environments: {{{name}: {{eval: 2}}}}
tracking: {{mode: off}}
"""


def main(name: str, imports: Sequence[str]) -> None:
    Path("r.yaml").write_text(RECIPE.format(name=name, imports=json.dumps(imports[1:])))
    for words in (
        "list",
        f"play {name} --player expert",
        f"data {name}",
        f"check {name} --tasks 1",
    ):
        say(envpool, "envpool", words, imports)
    serve(name, imports)
    for words in (
        f"envs {name}",
        f"tasks list {name}:eval",
        f"tasks stats {name}",
        f"tasks overlap {name}:train {name}:eval",
        "validate r.yaml",
        "tasks panel r.yaml --to p.json",
        "tasks verify p.json",
        "eval r.yaml --player expert --player random",
        f"eval r.yaml name=pinned panel=p.json environments.{name}.eval=0",
    ):
        say(agentgym, "agentgym", words, imports)


def serve(name: str, imports: Sequence[str]) -> None:
    command = [sys.executable, "-m", "envpool", "serve", name, "--port", "0", *imports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        say(envpool, "envpool", f"check {address} --dialect {name} --tasks 1", imports)
        server.terminate()


def say(command: Callable[[Sequence[str]], int], program: str, words: str, imports: Sequence[str]) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command([*words.split(), *imports])
    print(json.dumps([f"{program} {words}", code, said.getvalue()]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
