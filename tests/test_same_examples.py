"""The README's test command draws the same examples whatever was tested before in the same process."""

from __future__ import annotations

import importlib

import pytest
from conftest import PROFILE
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[tuple[str, int]]:
    examples = []

    @settings(max_examples=300)
    @given(st.text(), st.integers())
    def collect(text: str, number: int) -> None:
        examples.append((text, number))

    collect()
    return examples


@pytest.mark.skipif(PROFILE != "same", reason="the profile is random on purpose")
def test_a_module_that_is_loaded_changes_no_example(tmp_path, monkeypatch):
    before = drawn()
    constants = {f"name_{number}": (f"a constant {number}", 10**6 + number) for number in range(200)}
    (tmp_path / "full_of_constants.py").write_text(
        "\n".join(f"{name} = {value!r}" for name, value in constants.items())
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("full_of_constants")
    assert drawn() == before
