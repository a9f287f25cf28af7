"""Options of environments: how they are declared and read, and what they do to the card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from anagrams import known, write_original
from hypothesis import given
from hypothesis import strategies as st

from envpool import (
    EnvPool,
    EnvPoolError,
    EnvSpec,
    ExpertPolicy,
    RandomPolicy,
    Split,
    Task,
    collect,
    get_spec,
    option,
    using,
)
from envpool.options import OptionError, declared, options_json, parse_words, read_options
from envpool.places.local import LocalTransport


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Every:
    """One option of each type."""

    flag: bool = option(False, "a flag")
    count: int = option(1, "a count")
    share: float = option(0.5, "a share")
    name: str = option("x", "a name")
    kind: Literal["a", "b"] = option("a", "a kind")
    colour: Colour = option(Colour.RED, "a colour")
    file: Path | None = option(None, "a file")
    most: int | None = option(None, "a limit", changes_tasks=False)
    levels: tuple[int, ...] = option((1, 2), "levels")
    files: tuple[Path, ...] = option((), "files")


@pytest.fixture
def anagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EnvSpec]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with known() as spec:
        yield spec


def lists(spec: EnvSpec, **options: Any) -> str:
    return spec.with_options(options).version


values = st.fixed_dictionaries(
    {},
    optional={
        "flag": st.booleans(),
        "count": st.integers(),
        "share": st.floats(allow_nan=False, allow_infinity=False),
        "name": st.text(st.characters(exclude_categories=["Cs"])),
        "kind": st.sampled_from(["a", "b"]),
        "colour": st.sampled_from(["red", "blue"]),
        "file": st.none() | st.from_regex(r"[a-z/ ]{1,9}", fullmatch=True),
        "most": st.none() | st.integers(),
        "levels": st.lists(st.integers()),
        "files": st.lists(st.from_regex(r"[a-z/]{1,9}", fullmatch=True)),
    },
)


@given(values)
def test_options_survive_the_way_to_another_process(given: dict[str, Any]) -> None:
    read = read_options("e", Every, given)
    assert read_options("e", Every, json.loads(json.dumps(options_json(read)))) == read
    assert options_json(Every()) == {}


@given(values.map(lambda found: {n: v for n, v in found.items() if n not in ("name", "file") or v != "null"}))
def test_a_command_line_says_what_a_recipe_says(given: dict[str, Any]) -> None:
    words = [f"{n}={v if isinstance(v, str) else json.dumps(v).replace(chr(34), '')}" for n, v in given.items()]
    assert read_options("e", Every, parse_words("e", Every, words)) == read_options("e", Every, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flag": 1}, "flag: 1 is not true or false"),
        ({"count": True}, "count: True is not a whole number"),
        ({"count": 1.5}, "count: 1.5 is not a whole number"),
        ({"count": "7"}, "count: '7' is not a whole number"),
        ({"share": "much"}, "share: 'much' is not a number"),
        ({"share": float("nan")}, "share: nan is not a number"),
        ({"name": 3}, "name: 3 is not a text"),
        ({"name": None}, "name: None is not a text"),
        ({"colour": "rad"}, "colour: 'rad' is not one of red, blue; did you mean 'red'?"),
        ({"file": 3}, "file: 3 is not a path or null"),
        ({"file": ""}, "file: '' is not a path or null"),
        ({"file": "a\0b"}, r"file: 'a\\x00b' is not a path or null"),
        ({"share": float("inf")}, "share: inf is not a number"),
        ({"count": 10**5000}, "count: this int is not a whole number"),
        ({"levels": [1, "x"]}, r"levels: \[1, 'x'\] is not a list, as in \[a, b\], of which each is a whole number"),
        ({"cout": 3, "kind": "c"}, "cout: unknown option; did you mean 'count'?; kind: 'c' is not one of a, b"),
        ("count", "'count' is not a section of options: write `name: value` below it"),
    ],
)
def test_what_an_option_cannot_be_is_said_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said.replace("?", r"\?")) as caught:
        read_options("e", Every, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "default", "said"),
    [
        (int, 3, "says not what it does"),
        (int, option(dataclasses.MISSING, "x"), "has no default"),
        (Path, option(Path("x"), "x"), "has a path as default"),
        (dict, option(None, "x"), "is of a type that recipes cannot write"),
    ],
)
def test_a_declaration_that_is_of_no_use_is_refused(hint: Any, default: Any, said: str) -> None:
    kind = dataclasses.make_dataclass("Options", [("one", hint, default)], frozen=True)
    with pytest.raises(EnvPoolError, match=said):
        declared(kind)
    with pytest.raises(EnvPoolError, match="frozen=True"):
        declared(dataclasses.make_dataclass("Options", [("one", int, option(1, "x"))]))


def test_what_changes_the_tasks_changes_the_version(anagram: EnvSpec) -> None:
    Path("a.txt").write_text("stone\nnotes\nonset\n")
    Path("b").mkdir()
    Path("b/other name.txt").write_text("stone\nnotes\nonset\n")
    Path("c.txt").write_text("stone\nnotes\nseton\n")
    own, first = anagram.version, lists(anagram, words="a.txt")
    assert first.startswith(f"{own}+")
    assert lists(anagram, words=Path("b/other name.txt").absolute()) == first  # it counts by its content
    different = [lists(anagram, words="c.txt"), lists(anagram, words="a.txt", lives=4), lists(anagram, lives=4)]
    assert len({own, first, *different}) == 5
    assert lists(anagram, words="a.txt", log="log.txt", lives=3) == first  # a default, and what no task depends on
    assert anagram.with_options({"lives": 3}) is anagram


def test_the_same_options_and_data_are_the_same_card(anagram: EnvSpec) -> None:
    Path("a.txt").write_text("stone\n")
    card = anagram.with_options({"words": "a.txt"})
    assert anagram.with_options({"words": Path("a.txt")}) is card
    assert card.with_options({"words": "a.txt"}) is card  # from any of its cards
    assert card.with_options({}) is anagram
    assert card.with_options(card.options) is card
    Path("a.txt").write_text("notes and more\n")
    assert anagram.with_options({"words": "a.txt"}).version != card.version


def test_a_name_means_a_configured_card_within_a_block_only(anagram: EnvSpec) -> None:
    card = anagram.with_options({"lives": 1})
    with using([card]):
        assert get_spec("anagram") is card
        assert get_spec("anagram", {"lives": 1}) is card
        assert get_spec("anagram", {}) is anagram  # said is said
    assert get_spec("anagram") is anagram


@pytest.mark.parametrize("place", ["inline", "thread", "process"])
def test_pools_of_other_options_play_at_once_and_do_not_mix(anagram: EnvSpec, place: str) -> None:
    transport = LocalTransport(place, processes=1)  # even one that they share
    cards = [anagram, anagram.with_options({"hint": "first"}), anagram.with_options({"lives": 1})]
    played: dict[str, set[str]] = {}
    tasks = [Task("anagram", index) for index in anagram.tasks(Split.EVAL)]

    async def play(card: EnvSpec) -> None:
        policy = RandomPolicy() if place == "process" else ExpertPolicy()
        async with EnvPool(specs=[card], sessions=4, transport=transport).run(tasks, policy) as trajectories:
            played[card.version] = {t.observation.partition(".")[2][:8] + t.version async for t in trajectories}

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for card in cards:
                nursery.start_soon(play, card)

    trio.run(main)
    plain, hinted, once = (card.version for card in cards)
    assert played == {plain: {plain}, hinted: {f" It begi{hinted}"}, once: {once}}


@pytest.mark.parametrize(("place", "times"), [("inline", 1), ("thread", 1), ("process", 2)])
def test_sixty_four_sessions_open_what_they_share_once_a_process(anagram: EnvSpec, place: str, times: int) -> None:
    card = anagram.with_options({"log": "log.txt", "hint": "first"})
    tasks = [Task("anagram", index) for index in range(32)] * 4
    pool = EnvPool(specs=[card], sessions=64, transport=LocalTransport(place, processes=2))
    played = collect(pool, tasks, RandomPolicy())
    assert all(t.error is None and "It begins with" in t.observation for t in played)
    pids = Path("log.txt").read_text().split()
    assert len(pids) == len(set(pids)) == times


def test_a_worker_process_plays_no_other_data_than_its_pool(anagram: EnvSpec) -> None:
    Path("a.txt").write_text("stone\nnotes\nonset\n")
    card = anagram.with_options({"words": "a.txt"})
    Path("a.txt").write_text("seton\ntones\nsteno\n and more\n")
    transport = LocalTransport("process", processes=1)
    (played,) = collect(EnvPool(specs=[card], transport=transport), [Task("anagram", 0)], RandomPolicy())
    assert f"not {card.version}: its data has changed, start anew" in str(played.error)
    assert played.score is None


def test_an_environment_that_cannot_be_made_of_its_options_says_so(anagram: EnvSpec) -> None:
    Path("a.txt").write_bytes(b"\xff")
    with pytest.raises(OptionError, match=r"it cannot be made with these options \(UnicodeDecodeError: .*\)"):
        anagram.with_options({"words": "a.txt"})
    with pytest.raises(OptionError, match=r"livs: unknown option; .*'lives'\?; words: there is no file .*'no'"):
        anagram.with_options({"words": "no", "livs": 3})
    with pytest.raises(OptionError, match="maze: lives: there are no options: leave it out"):
        get_spec("maze", {"lives": 3})


def test_declared_data_is_what_its_checksum_says(anagram: EnvSpec, tmp_path: Path) -> None:
    data = write_original(tmp_path / "data")
    version = lists(anagram, original=data)
    (data / "lists" / "notes.txt").write_text("not declared, so it does not count")
    assert lists(anagram, original=write_original(tmp_path / "elsewhere")) == version
    assert len(anagram.with_options({"original": data}).tasks(Split.TRAIN)) == 4
    big = data / "lists" / "big.txt"
    for content, why in [
        (big.read_text().replace("planet", "plated"), r"is damaged in .* \(its checksum is another\)"),
        ("stream\n", r"is damaged in .* \(it has 7 bytes, not 70\)"),
        (None, r"is missing in .* \(it is not there\)"),
    ]:
        big.unlink()
        if content is not None:
            big.write_text(content)
        with pytest.raises(
            OptionError, match=f"original: lists/big.txt {why}: get it from https://example.org/anagram"
        ):
            anagram.with_options({"original": data})
    with pytest.raises(OptionError, match=r"there is no folder 'nowhere': name the one that holds lists/big\.txt"):
        anagram.with_options({"original": "nowhere"})
