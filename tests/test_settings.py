"""Settings take what a user writes, in Python as in YAML, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import enum
import itertools
import re
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import agentgym
import envpool
from agentgym import settings
from agentgym.errors import RecipeError
from agentgym.learn import weight
from agentgym.recipe import load_recipe, save_recipe
from agentgym.selection import keep
from agentgym.settings import (
    Dedup,
    EndpointSettings,
    EnvironmentSettings,
    EvalSettings,
    EvolSettings,
    LearningSettings,
    ModelSettings,
    Prompt,
    Recipe,
    Reward,
    TrackingSettings,
    TrainerSettings,
)
from agentgym.values import Section, hints_of, without_none
from envpool import Split, Task, get_spec
from envpool.types import Completion, StopReason, Trajectory, Turn

SECTIONS = [kind for kind in vars(settings).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
ENUMS = [
    (section, field.name, kind)
    for section in SECTIONS
    for field in fields(section)
    for kind in [without_none(hints_of(section)[field.name])[0]]
    if isinstance(kind, type) and issubclass(kind, enum.Enum)
]


def test_every_part_of_a_recipe_takes_values_in_one_way() -> None:
    assert all(issubclass(section, Section) for section in SECTIONS)
    assert len(ENUMS) > 8


@pytest.mark.parametrize(("section", "name", "kind"), ENUMS)
def test_an_enumeration_is_named_by_text_at_once_and_later(section: Any, name: str, kind: type[enum.Enum]) -> None:
    for member in kind:
        assert getattr(section(**{name: member.name}), name) is member
        made = section()
        setattr(made, name, member.name)
        assert getattr(made, name) is member
        assert getattr(replace(section(), **{name: member.name}), name) is member
    wrong = f"{next(iter(kind)).name}x"
    for act in (lambda: section(**{name: wrong}), lambda: setattr(section(), name, wrong)):
        with pytest.raises(RecipeError, match=rf"^{name}: '{wrong}' is not one of .*did you mean"):
            act()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Recipe(output=Path("a/b")).output, "a/b"),
        (Recipe(data=(Path("x.json"), "y.json")).data, ["x.json", "y.json"]),
        (Recipe(name=7).name, "7"),
        (LearningSettings(lr=1).lr, 1.0),
        (LearningSettings(lr=np.float32(0.5), steps=np.int64(3)).steps, 3),
        (LearningSettings(lr=Fraction(1, 2)).lr, 0.5),
        (EnvironmentSettings(where={"depth": (1, 2)}).where, {"depth": [1, 2]}),
        (EvalSettings(players=("random",)).players, ["random"]),
        (Recipe(model={"name": "tiny", "tiny": {"hidden": 64}}).model.tiny.hidden, 64),
        (Recipe(environments={"maze": {"eval": 3}}).environments, {"maze": EnvironmentSettings(eval=3)}),
        (ModelSettings(name="a", endpoint={"url": "http://h"}).endpoint, EndpointSettings(url="http://h")),
        (TrackingSettings(mode=False).mode, settings.TrackingMode.off),
        (TrainerSettings(strategy=settings.StrategyName.fsdp).strategy, settings.StrategyName.fsdp),
    ],
)
def test_python_values_become_what_yaml_would_give(given: Any, found: Any) -> None:
    assert given == found
    assert type(given) is type(found)


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (
            lambda: Recipe(prompt="breif", seed="a", bc={"stps": 1, "lr": "x"}),
            [
                "seed: 'a' is not a whole number",
                "prompt: 'breif' is not one of full, brief, from_data; did you mean 'brief'?",
                "bc.lr: 'x' is not a number",
                "bc.stps: unknown key; did you mean 'steps'?",
            ],
        ),
        (lambda: Recipe(data="x.json"), ["data: 'x.json' is not a list, as in [a, b]"]),
        (lambda: Recipe(data=[1, None]), ["data: [1, None] is not a list, as in [a, b]"]),
        (lambda: Recipe(seed=True), ["seed: True is not a whole number"]),
        (lambda: LearningSettings(lr=10**400), [f"lr: 1{'0' * 199}... is not a number"]),
        (lambda: Recipe(environments={"maze": 3}), ["environments.maze: 3 is no section of settings: write its keys"]),
        (lambda: Recipe(environments=["maze"]), ["environments: ['maze'] is no section"]),
        (lambda: setattr(Recipe(), "promt", "brief"), ["promt: unknown key; did you mean 'prompt'?"]),
        (lambda: EnvironmentSettings(token=["sk-SECRET"]), ["token: this is not a text or null"]),
        (lambda: EnvironmentSettings(headers={"a": ["sk-SECRET"]}), ["headers.a: this is not a text"]),
        (lambda: Recipe(name="a\ud800"), ["name: 'a\\ud800' holds half a character (a lone surrogate): take it out"]),
        (lambda: Recipe(data=["\udcff"]), ["data: '\\udcff' holds half a character"]),
        (lambda: Recipe(bc={"\n": None}), ["bc.'\\n': unknown key"]),
        (lambda: Recipe(environments={"a\nb": {"eval": "x"}}), ["environments.'a\\nb'.eval: "]),
        (lambda: EndpointSettings(options={"a": [{"b": "\udcff"}]}), ["options.a: this holds half a character"]),
    ],
)
def test_what_a_setting_cannot_hold_is_refused_with_all_complaints(make: Any, lines: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    found = caught.value.complaints
    assert len(found) == len(lines)
    for complaint, line in zip(found, lines, strict=True):
        assert complaint.startswith(line)
        assert "SECRET" not in complaint


@hypothesis.settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([(section, field.name) for section in SECTIONS for field in fields(section)]),
)
def test_whatever_a_setting_is_given_it_holds_its_type_or_says_why(value: Any, place: tuple[Any, str]) -> None:
    section, name = place
    lines: list[str] = []
    try:
        made = section(**{name: value})
    except RecipeError as error:
        lines = error.complaints
    else:
        assert repr(replace(made)) == repr(made)
        assert OmegaConf.to_yaml(OmegaConf.structured(made)).encode()
    assert all(line.startswith(name) and "\n" not in line for line in lines)


def test_a_recipe_made_with_text_is_the_recipe_made_with_members_and_the_one_that_is_read(tmp_path: Path) -> None:
    text = Recipe(name="x", model={"name": "tiny"}, prompt="brief", evol=EvolSettings(reward="score"))
    member = Recipe(
        name="x", model=ModelSettings(name="tiny"), prompt=Prompt.brief, evol=EvolSettings(reward=Reward.score)
    )
    assert text == member
    text.environments = {"maze": {"eval": 1}}
    save_recipe(text, tmp_path / "r.yaml")
    assert load_recipe(tmp_path / "r.yaml") == text


def played(score: float) -> Trajectory:
    turn = Turn(Completion("Action:\nup"), "up", "up", 0.0)
    return Trajectory(Task("maze", 1), 0, "me", "", "", (turn,), StopReason.DONE, score, score > 0.99, seconds=1.0)


def test_functions_take_names_of_enumerations_as_well() -> None:
    half = played(0.5)
    assert [weight(half, reward) for reward in ("binary", "score", Reward.binary)] == [1.0, 0.5, 1.0]
    with pytest.raises(RecipeError, match="did you mean 'binary'"):
        weight(half, "binry")
    won = [played(1.0), played(1.0)]
    for dedup in Dedup:
        assert keep(won, {"maze": EnvironmentSettings()}, dedup.name) == keep(
            won, {"maze": EnvironmentSettings()}, dedup
        )
    with pytest.raises(RecipeError, match="did you mean 'text'"):
        keep(won, {"maze": EnvironmentSettings()}, "txt")
    for name in ("maze", "textcraft", "wordle", "webshop"):
        spec = get_spec(name)
        assert all([*spec.tasks(str(split))] == [*spec.tasks(split)] for split in Split)


def test_nothing_is_compared_with_an_enumeration_by_identity() -> None:
    files = [file for package in (agentgym, envpool) for file in Path(package.__file__).parent.rglob("*.py")]
    trees = {file: ast.parse(file.read_text()) for file in files}
    enums = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith(("Enum", "Flag")) for base in node.bases)
    }
    assert {"Prompt", "Split", "Verdict", "Move"} <= enums
    members = re.compile(rf"(\w+\.)*({'|'.join(enums)})(Name)?\.\w+")
    variables = re.compile(rf"(.*\.)?({'|'.join(name.removesuffix('Name').lower() for name in enums - {'Kind'})})")
    found = [
        f"{file.name}:{node.lineno}: {ast.unparse(node)}"
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for op, (left, right) in zip(node.ops, itertools.pairwise([node.left, *node.comparators]), strict=True)
        if isinstance(op, ast.Is | ast.IsNot)
        and not (isinstance(right, ast.Constant) or isinstance(left, ast.Constant))
        and any(members.fullmatch(text) or variables.fullmatch(text) for text in map(ast.unparse, (left, right)))
    ]
    assert found == []
