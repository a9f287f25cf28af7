from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.envs.wordle.spec import SPEC
from envpool.envs.wordle.world import Wordle, feedback, words
from envpool.errors import UnknownTask
from envpool.types import Split, Step

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def game_of(word: str) -> Wordle:
    game = Wordle()
    game.reset(words().index(word))
    return game


def play_expert(index: int) -> tuple[list[str], Step]:
    game = Wordle()
    game.reset(index)
    assert SPEC.expert
    actions = []
    for _, action in SPEC.expert(game):
        actions.append(action)
        step = game.step(action)
        if step.done:
            return actions, step
    raise AssertionError("the expert gave up")


def test_the_word_list_is_ordinary_sorted_and_free_of_names_and_numerals() -> None:
    path = Path(__file__).parents[1] / "envpool" / "envs" / "wordle" / "data" / "words.txt"
    listed = path.read_text("ascii").splitlines()
    assert listed == sorted(set(listed))
    assert set(listed) == set(words())
    assert all(len(word) == 5 and word.isascii() and word.isalpha() and word.islower() for word in listed)
    assert {"apple", "house", "train", "water", "panic", "solar", "proxy", "favor"} <= set(listed)
    assert not {"james", "paris", "xviii", "clxii", "ascii", "zombi", "aaaaa"} & set(listed)
    assert 3000 < len(listed) < 5000
    assert "Kevin Atkinson" in path.with_name("LICENSE.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("guess", "secret", "marks"),
    [
        ("panic", "train", "byygb"),
        ("train", "train", "ggggg"),
        ("solar", "drunk", "bbbby"),
        ("geese", "enter", "byybb"),  # three e guessed, two in the word
        ("eerie", "enter", "gyybb"),
        ("allow", "label", "yyybb"),
        ("sassy", "essay", "yygbg"),  # the s in place is served before the others
        ("llama", "label", "gyybb"),
        ("array", "radar", "yyygb"),
        ("speed", "erase", "ybyyb"),
    ],
)
def test_repeated_letters_are_marked_as_often_as_the_secret_has_them(guess: str, secret: str, marks: str) -> None:
    assert feedback(guess, secret) == marks


@given(st.text("abc", min_size=5, max_size=5), st.text("abc", min_size=5, max_size=5))
def test_feedback_obeys_its_definition(guess: str, secret: str) -> None:
    marks = feedback(guess, secret)
    assert [mark == "g" for mark in marks] == [a == b for a, b in zip(guess, secret, strict=True)]
    for letter in "abc":
        marked = [mark for mark, guessed in zip(marks, guess, strict=True) if guessed == letter]
        assert len(marked) - marked.count("b") == min(guess.count(letter), secret.count(letter))
        elsewhere = [mark for mark in marked if mark != "g"]
        assert elsewhere == sorted(elsewhere, reverse=True)  # y before b: the leftmost get the marks


def test_a_right_guess_ends_the_game_with_score_1() -> None:
    step = game_of("train").step("t r a i n")
    assert (step.observation, step.score, step.done) == ("g g g g g", 1.0, True)
    assert SPEC.success(step.score)


@pytest.mark.parametrize("action", ["p a n i c", "panic", " P A N I C\n", "pan ic"])
def test_a_guess_may_be_spelt_out_or_written_together(action: str) -> None:
    assert game_of("train").step(action) == Step("b y y g b", 0.0, False)


def test_the_sixth_wrong_guess_ends_the_game_with_score_0() -> None:
    game = game_of("train")
    steps = [game.step(word) for word in ("panic", "solar", "house", "proxy", "water", "apple")]
    assert [step.done for step in steps] == [False] * 5 + [True]
    assert not SPEC.success(steps[-1].score)
    assert game.step("train") == Step("The game is over.", 0.0, True)


def test_the_sixth_guess_can_still_win() -> None:
    game = game_of("train")
    for word in ("panic", "solar", "house", "proxy", "water"):
        game.step(word)
    assert game.step("train") == Step("g g g g g", 1.0, True)
    assert game.step("panic") == Step("The game is over.", 1.0, True)


@pytest.mark.parametrize("action", ["", "zzzzz", "move right", "pan", "p a n i c s", "pänic", "12345"])
def test_nonsense_is_answered_with_invalid_word_and_costs_a_try(action: str) -> None:
    game = game_of("train")
    assert game.step(action) == Step("invalid word", 0.0, False)
    assert [game.step("panic").done for _ in range(5)] == [False] * 4 + [True]


@given(st.lists(st.text() | st.sampled_from(["panic", "s l a t e"]), max_size=8))
def test_no_text_raises(actions: list[str]) -> None:
    game = Wordle()
    game.reset(7)
    for turn, action in enumerate(actions, start=1):
        step = game.step(action)
        assert step.observation
        assert step.done == (turn >= 6 or step.score == 1.0)


@pytest.mark.parametrize("index", [-1, 10**6])
def test_an_index_without_a_word_is_refused_in_one_line(index: int) -> None:
    with pytest.raises(UnknownTask, match=rf"^wordle has no task {index}: take .*$"):
        Wordle().reset(index)


def test_the_splits_share_no_word_and_leave_none_out() -> None:
    tasks = [index for split in Split for index in SPEC.tasks(split)]
    assert sorted(tasks) == list(range(len(words())))
    assert len({words()[index] for index in tasks}) == len(tasks)
    shares = [len(SPEC.tasks(split)) / len(tasks) for split in (Split.TRAIN, Split.EXPLORE, Split.EVAL)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.001)


def test_the_order_of_the_words_is_the_same_everywhere() -> None:
    assert words()[:2] == ("delta", "tiara")


def test_facts_count_the_repeated_letters() -> None:
    assert [SPEC.facts(words().index(word)) for word in ("train", "apple", "mamma")] == [
        {"repeats": 0},
        {"repeats": 1},
        {"repeats": 3},
    ]


def test_the_expert_wins_nine_games_of_ten_with_guesses_that_fit() -> None:
    # over all 3461 words it wins 96.7 %
    sample = range(0, len(words()), 23)
    won = 0
    for index in sample:
        actions, step = play_expert(index)
        guesses = [action.replace(" ", "") for action in actions]
        secret = words()[index]
        assert all(
            feedback(g, later) == feedback(g, secret) for i, g in enumerate(guesses) for later in guesses[i + 1 :]
        )
        won += SPEC.success(step.score)
    assert won / len(sample) >= 0.9


def test_the_expert_sums_up_what_it_knows() -> None:
    game = game_of("tiara")
    assert SPEC.expert
    moves = SPEC.expert(game)
    for _ in range(2):
        game.step(next(moves)[1])
    assert next(moves) == ("Known: _ _ a _ _. Elsewhere: t r. Not: s l e c f.", "t i a r a")


def test_the_expert_answers_within_20_milliseconds_on_average() -> None:
    begin = time.process_time()
    turns = sum(len(play_expert(index)[0]) for index in range(1, len(words()), 101))
    assert (time.process_time() - begin) / turns < 0.02


def test_two_instances_say_the_same() -> None:
    one, other = Wordle(), Wordle()
    for index in range(0, len(words()), 500):
        assert one.reset(index) == other.reset(index)
        for action in one.available_actions()[:4]:
            assert one.step(action) == other.step(action)


def test_the_recorded_game_with_the_original_server_goes_the_same_way() -> None:
    path = SHARED / "agentgym_wire_samples.json"
    if not path.exists():
        pytest.skip("agentgym_wire_samples.json is not here")
    exchanges = json.loads(path.read_text("utf-8"))["wordle"]
    began = next(i for i, exchange in enumerate(exchanges) if exchange["path"] == "/reset")
    game = game_of("drunk")  # fits every mark of that game
    steps = [e for e in exchanges[began:] if e["path"] == "/step" and "observation" in e["response"]]
    assert len(steps) == 6
    for exchange in steps:
        step = game.step(exchange["json"]["action"])
        theirs = exchange["response"]
        assert step == Step(theirs["observation"].strip(), theirs["reward"], theirs["done"])
