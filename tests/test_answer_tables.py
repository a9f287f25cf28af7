"""What docs/environments.md says of answers is so: each row of its tables is a test."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from envpool import MalformedAction, get_spec
from envpool.formats import FORMATS, format_for

DOCS = Path(__file__).parents[1] / "docs" / "environments.md"
HEAD = re.compile(r"\| `(\w+)` \| environment \| answer \| read \|\n\|[-|]+\|\n((?:\|.*\n)+)")
CODE = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")


def code(cell: str) -> str:
    """The text of a cell that is code, as Markdown reads it."""
    found = CODE.fullmatch(cell)
    assert found is not None, cell
    text = found[2]
    stripped = text[1:-1] if text.startswith(" ") and text.endswith(" ") else text
    return stripped.replace("↵", "\n")


ROWS = [
    pytest.param(
        form, *(cell.strip() for cell in row.strip("|").split("|")[1:]), id=f"{form}: {row.split('|')[1].strip()}"
    )
    for form, rows in HEAD.findall(DOCS.read_text(encoding="utf-8"))
    for row in rows.splitlines()
]


def test_every_format_that_a_model_writes_as_text_has_a_table_and_no_row_is_there_twice() -> None:
    assert {row.values[0] for row in ROWS} == set(FORMATS) - {"native"}
    assert max(Counter(str(row.id) for row in ROWS).values()) == 1


@pytest.mark.parametrize(("form", "environment", "answer", "read"), ROWS)
def test_an_answer_is_read_as_the_table_says(form: str, environment: str, answer: str, read: str) -> None:
    format = format_for(form, get_spec(code(environment)))
    if read.startswith("corrected: "):
        with pytest.raises(MalformedAction) as malformed:
            format.parse(code(answer))
        assert read.removeprefix("corrected: ") in str(malformed.value)
    else:
        assert format.parse(code(answer)).action == code(read)
