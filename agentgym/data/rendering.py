"""Renders chat templates in a process of their own, with a limit on time and memory and a clock that stands still.

A chat template is a program that came with a model: it may never end, or fill the memory, within one operation that
nobody can interrupt. This module is also that process's program: JSON on stdin, JSON on stdout.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from agentgym.errors import ModelError

SECONDS = 10
"""How much time of a processor the renderings of one template may take; usual ones take a tenth of a second."""

START_SECONDS = 120
"""How long that process may take in all, whatever else the machine does."""

MEMORY = 2**30
"""How many bytes it may take beyond what it needs to begin."""

LONGEST = 10**7
"""Most characters of a rendered conversation."""

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template of the tiny model, for user and assistant messages. It is ours, and so is rendered right here."""

TOOL_TEMPLATE = (
    "{{ '<|system|>' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}{% endif %}"
    "{% for tool in tools or [] %}{% set parameters = (tool.function.parameters or {}).properties or {} %}"
    "{{ tool.function.name + '(' + parameters | join(', ') + ')\n' }}{% endfor %}{{ '<|end|>' }}"
    "{% for message in messages if message.role != 'system' %}{{ '<|' + message.role + '|>' + message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "{% if message.content or not loop.first %}{{ '\n' }}{% endif %}"
    '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ (call.function.arguments | tojson) + '}\n</tool_call>' }}{% endfor %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template of the tiny model that calls tools: of those offered, it says names and parameters only."""

DAY = "2024-07-26"
"""The day that every template takes for today: the one that Llama 3.1's writes when it does not know."""


class Conversation(NamedTuple):
    """What a template is to write.

    Attributes:
        messages: as `apply_chat_template` takes them.
        prompt: whether a model is to answer.
        day: the day that the template takes for today.
        tools: the tools that are offered, as `apply_chat_template` takes them; None offers none.
    """

    messages: Sequence[Mapping[str, Any]]
    prompt: bool
    day: str = DAY
    tools: Sequence[Mapping[str, Any]] | None = None


class Rendered(NamedTuple):
    """What a template wrote; `error` says why it could not."""

    text: str
    error: str | None = None


def render(template: str, variables: Mapping[str, str], conversations: Sequence[Conversation]) -> list[Rendered]:
    """Renders conversations with a chat template.

    Args:
        template: its text.
        variables: the tokenizer's names of special tokens, as ``{"eos_token": "</s>"}``.
        conversations: what to render.

    Raises:
        ModelError: it takes longer or more memory than it may; the text says which, and what that template does.
    """
    if template in (TEMPLATE, TOOL_TEMPLATE):
        return [_rendered(template, variables, one) for one in conversations]
    question = {"template": template, "variables": dict(variables), "seconds": SECONDS, "asked": conversations}
    path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=json.dumps(question),
            capture_output=True,
            encoding="utf-8",
            timeout=START_SECONDS,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # Ctrl-C goes to the process that waits
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"does not end within {START_SECONDS} seconds") from None
    if done.returncode < 0:
        raise ModelError(f"does not end within {SECONDS} seconds")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"the process that renders chat templates failed: {last}")
    return [Rendered(*answer) for answer in json.loads(done.stdout)]


def _serve() -> None:
    """Answers one question."""
    import transformers.utils.chat_template_utils  # noqa: F401  # before limits begin to count

    question = json.load(sys.stdin)
    _limit(question["seconds"])
    asked = itertools.starmap(Conversation, question["asked"])
    answers = [_rendered(question["template"], question["variables"], one) for one in asked]
    json.dump(answers, sys.stdout)


def _rendered(template: str, variables: Mapping[str, str], asked: Conversation) -> Rendered:
    """Renders one conversation, in the very environment of transformers."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    now = datetime.fromisoformat(asked.day)
    random_state = random.getstate()
    random.seed(0)
    try:
        text: str = _compile_jinja_template(template).render(
            messages=asked.messages,
            tools=asked.tools,
            documents=None,
            add_generation_prompt=asked.prompt,
            date_string=now.strftime("%d %b %Y"),
            strftime_now=now.strftime,
            **variables,
        )
    except MemoryError:
        return Rendered("", "needs more memory than it may")
    except Exception as error:  # it is a program that came with a model, and may raise anything
        return Rendered("", " ".join(str(error).split())[:300] or type(error).__name__)
    finally:
        random.setstate(random_state)
    return Rendered(text) if len(text) <= LONGEST else Rendered("", f"writes more than {LONGEST} characters")


def _limit(seconds: int) -> None:
    """Limits this process; where the system cannot (Windows), its parent ends it after `START_SECONDS`."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError), open("/proc/self/statm") as pages:  # where there is none, time limits it
        taken = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


if __name__ == "__main__":
    _serve()
