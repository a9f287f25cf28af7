"""Format `native`: tools are offered as data, and a model calls them in its own syntax.

What a model answers is read whichever family it belongs to (`envpool.syntaxes`); what is written here is Hermes, which
the codec of a model's tokenizer rewrites into the model's own syntax.
"""

from __future__ import annotations

from collections.abc import Sequence

from envpool.call import Action, Call, Schema
from envpool.calls import Toolbox
from envpool.errors import MalformedAction
from envpool.parsed import Parsed
from envpool.syntaxes import HERMES, read, split, tamed
from envpool.thoughts import without_tags

NAME = "native"
"""What recipes call the format."""


class Native:
    """The model's own calls of tools.

    Args:
        tools: the environment's tools.
    """

    name = NAME
    instructions = (
        "Act by calling the tools that you are offered. Say why you act, then call; several calls in one answer are "
        "carried out in their order."
    )

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self._schemas = tuple(tools.schemas)

    @property
    def schemas(self) -> Sequence[Schema]:
        """The tools as they are offered to a model."""
        return self._schemas

    def render(self, thought: str, action: Action, *more: Action) -> str:
        """Writes an answer in the neutral spelling.

        Args:
            thought: why it acts.
            action: an action or a call.
            more: those to be carried out after it.
        """
        calls = [each if isinstance(each, Call) else self._tools.call(each) for each in (action, *more)]
        answer = HERMES.write(thought, calls)
        if split(answer, self.schemas) == (thought.strip(), tuple(calls)):
            return answer
        return HERMES.write(tamed(thought), calls)

    def parse(self, text: str) -> Parsed:
        """Reads the calls of an answer.

        Raises:
            MalformedAction: there is none, or one of them cannot be carried out; then none is.
        """
        said, calls = read(text, self.schemas)
        try:
            checked = tuple(map(self._tools.checked, calls))
            texts = tuple(map(self._tools.text, checked))
        except MalformedAction as malformed:
            raise refused(malformed, calls) from None
        return Parsed(without_tags(said), "\n".join(texts), checked, texts)


def refused(malformed: MalformedAction, calls: tuple[Call, ...]) -> MalformedAction:
    """The correction of an answer whose calls can be read and are not carried out."""
    several = f"None of your {len(calls)} calls was carried out. " if len(calls) > 1 else ""
    return MalformedAction(several + str(malformed), calls)


def offered(format: object) -> Sequence[Schema]:
    """The tools that a format offers as data; none but for `Native`."""
    return format.schemas if isinstance(format, Native) else ()
