from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known import EMBEDDED

import envpool
from envpool import EnvPoolError, MalformedAction, Split, Task, UnknownEnvironment, UnknownTask, get_spec
from envpool.__main__ import main
from envpool.errors import MissingExtra
from envpool.formats import REACT


def test_the_door_offers_what_it_names_and_little_more():
    assert envpool.__all__ == sorted(envpool.__all__)
    public = {name for name in vars(envpool) if not name.startswith("_")}
    rooms = {Path(path).stem for path in Path(envpool.__file__).parent.iterdir()}
    assert public - rooms == set(envpool.__all__) - rooms
    assert len(envpool.__all__) < 45


def test_importing_the_pool_imports_no_torch_and_no_extra():
    heavy = "torch lightning transformers polars omegaconf wandb agentgym minigrid"
    code = f"import envpool, sys; assert not [m for m in '{heavy}'.split() if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_card_is_complete(name):
    spec = get_spec(name)
    assert spec.name == name
    assert spec.version
    assert len(spec.instructions) > 200 > len(spec.summary)
    assert "\n" not in spec.brief
    assert not spec.success(spec.initial_score)
    assert spec.success(spec.score_range[1])
    assert spec.expert is not None


@pytest.mark.parametrize("name", EMBEDDED)
def test_splits_share_no_task(name):
    spec = get_spec(name)
    splits = [set(spec.tasks(split)) for split in Split]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits))


def test_a_draw_is_the_same_for_the_same_seed_and_different_for_another():
    spec = get_spec("textcraft")
    first = spec.select("explore", 50, seed=1)
    assert first == spec.select(Split.EXPLORE, 50, seed=1)
    assert first != spec.select("explore", 50, seed=2)
    assert first == spec.select("explore", 80, seed=1)[:50]


def test_a_draw_can_be_narrowed_by_facts():
    spec = get_spec("textcraft")
    drawn = spec.select("eval", 40, where={"depth": [2], "kind": ["wood"]})
    assert {(spec.facts(t.index)["depth"], spec.facts(t.index)["kind"]) for t in drawn} == {(2, "wood")}
    with pytest.raises(UnknownTask, match="no fact 'depht'; did you mean 'depth'"):
        spec.select("eval", 1, where={"depht": [1]})
    with pytest.raises(UnknownTask, match="fewer than 99999"):
        spec.select("eval", 99999, where={"depth": [1]})


def test_an_unknown_environment_gets_the_nearest_name():
    with pytest.raises(UnknownEnvironment, match="unknown environment 'textcroft'; did you mean 'textcraft'"):
        get_spec("textcroft")


def test_a_taken_name_is_refused():
    with pytest.raises(EnvPoolError, match="'maze' is taken"):
        envpool.register(get_spec("maze"))


def test_a_missing_package_names_its_extra():
    assert str(MissingExtra("babyai", "minigrid", "babyai")).endswith("pip install 'agentgym-lightning[babyai]'")


def test_react_reads_what_it_writes():
    parsed = REACT.parse(REACT.render("I want to.", "move up"))
    assert (parsed.thought, parsed.action) == ("I want to.", "move up")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("move up", "No action found"),
        ("Thought:\nhm\n\nAction:\n  \n", "No action found"),
        ("Action:\nup\nAction:\ndown", "2 lines of your answer start with 'Action:'"),
    ],
)
def test_react_answers_a_malformed_action_with_a_correction(text, words):
    with pytest.raises(MalformedAction, match=words):
        REACT.parse(text)


def test_react_takes_all_lines_of_the_action():
    assert REACT.parse("Action: move up\nand then down\n\nThat is all.").action == "move up\nand then down"


@given(st.text())
def test_react_raises_nothing_but_a_correction(text):
    try:
        assert REACT.parse(text).action
    except MalformedAction:
        return


@given(st.text(), st.text())
def test_react_keeps_one_line_actions(thought, action):
    line = " ".join(action.split())
    if line:
        assert REACT.parse(REACT.render(thought, line)).action == line


def test_a_misspelt_split_is_one_line_with_the_cure():
    with pytest.raises(UnknownTask, match=r"^there is no split 'explor'; did you mean 'explore'\? \(known: train, "):
        get_spec("maze").select("explor", 1)
    assert get_spec("maze").select("explore", 3) == get_spec("maze").select(Split.EXPLORE, 3)


def test_the_command_lists_and_plays(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert {line.split()[0] for line in listed.splitlines()} >= set(EMBEDDED)
    assert "; at most 1 turn; " in listed
    assert "at most 15 turns)" in listed
    assert main(["play", "maze", "--player", "expert"]) == 0
    assert capsys.readouterr().out.endswith("maze_0: done, score 1.0, success True\n")


def test_the_command_lets_a_person_play(capsys, monkeypatch):
    answers = iter(["move sideways", *["move right"] * 2])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers, None) or stop())

    def stop() -> str:
        raise EOFError

    assert main(["play", "maze", "0"]) == 130
    shown = capsys.readouterr()
    assert "Unknown action" in shown.out
    assert "You are at 1,3" in shown.out
    assert "interrupted" in shown.err


def test_the_commands_mistakes_are_one_line(capsys):
    assert main(["play", "mace"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for words in (["maze", "99999999", "--player", "random"], ["maze", "99999999"], ["alfworld"]):
        assert main(["play", *words]) == 2
        shown = capsys.readouterr()
        assert "write one action a line" not in shown.out  # nobody is told to play what cannot be played
        assert shown.err.count("\n") == 1
        assert "no task 99999999" in shown.err or "server only" in shown.err


def test_a_person_sees_how_the_last_action_was_answered(capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "c r a n e")
    assert main(["play", "wordle", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nb b y b y\n") == 6
    assert shown.count("write one action a line") == 1


def test_sigterm_ends_the_game_of_a_person_who_does_not_answer():
    command = [sys.executable, "-m", "envpool", "play", "maze", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        shown = b""
        while not shown.endswith(b"\n> "):
            piece = os.read(process.stdout.fileno(), 10_000)
            assert piece
            shown += piece
        process.terminate()
        try:
            assert process.wait(5) == -signal.SIGTERM
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_the_command_does_not_mind_if_nobody_reads_what_it_says():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "envpool", "list"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_task_has_the_item_id_of_agenttraj():
    assert Task("textcraft", 31).item_id == "textcraft_31"
