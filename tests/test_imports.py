"""Public data sets: every message is read whole, or its record is set aside, or a line says what is not read."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.cli import main
from agentgym.data import footer, store, stream
from agentgym.data.agenttraj import read_record
from agentgym.data.called import write_call
from agentgym.data.exports import write_messages, write_rollout
from agentgym.data.imports import Imported, import_files
from agentgym.data.marks import LEARNED, MASKED
from agentgym.data.messages import SPEAKERS, THOUGHTS
from agentgym.errors import DataError, RecipeError
from agentgym.learn import weight
from agentgym.settings import Reward
from envpool import Completion, StopReason, Task, Trajectory, Turn, get_spec
from envpool.formats import format_for

UP = "Thought:\nIt is free.\n\nAction:\nmove up"
ASKED = {"role": "user", "content": "You are at 1,2."}
MOVED = {"role": "user", "content": "You are at 1,1."}


def record(*messages: object, **more: object) -> dict[str, object]:
    return {"item_id": "maze_3", "messages": list(messages), **more}


def answer(content: object = UP, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **more}


def read(given: object, environment: str | None = None, remarks: set[str] | None = None) -> Trajectory:
    return read_record(json.loads(json.dumps(given)), Counter(), environment, remarks=remarks)


def texts(given: object) -> list[str]:
    return [turn.completion.text for turn in read(given).turns]


def save(path: Path, given: object) -> Path:
    path.write_text(json.dumps(given))
    return path


def brought(path: Path, *given: object) -> Imported:
    return import_files([save(path, given)])


@pytest.mark.parametrize("key", ["finish_reason", "stop_reason"])
def test_an_answer_says_that_it_was_cut(key: str) -> None:
    given = record(ASKED, answer(**{key: "length"}), MOVED, answer(**{key: "stop"}), MOVED, answer())
    assert [turn.completion.cut for turn in read(given).turns] == [True, False, False]


# Calls of tools


CALL = {"name": "move", "arguments": {"direction": "up"}}
FLY = {"name": "fly", "arguments": {}}  # none of the maze's tools
AS_TEXT = {"name": "move", "arguments": '{"direction": "up"}'}


@pytest.mark.parametrize(
    ("message", "thought"),
    [
        (answer(None, tool_calls=[{"id": "c1", "type": "function", "function": AS_TEXT}]), ""),
        (answer("", tool_calls=[{"function": CALL}]), ""),
        (answer("I go.", tool_calls=[{"function": AS_TEXT}]), "I go."),
        (answer("I go.", tool_calls=[CALL], function_call=None), "I go."),
        (answer("I go.", tool_calls=json.dumps([CALL])), "I go."),
        (answer(None, function_call=AS_TEXT, tool_calls=[]), ""),
        (answer([{"type": "text", "text": "I go."}, {"type": "tool_use", "id": "c", "name": "move",
                                                     "input": {"direction": "up"}}]), "I go."),
        ({"from": "function_call", "value": json.dumps(CALL)}, ""),
        ({"role": "tool_call", "content": json.dumps([CALL])}, ""),
    ],
)  # fmt: skip
def test_a_call_is_part_of_the_answer_as_the_format_function_calling_writes_it(message, thought):
    asked = {"from": "human", "value": "You are at 1,2."} if "from" in message else ASKED
    (turn,) = read(record(asked, message)).turns
    assert turn.completion.text == format_for("function_calling", get_spec("maze")).render(thought, "move up")
    assert (turn.action, turn.learned) == ("move up", True)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (answer(None, tool_calls=[CALL, FLY]), "message 1 makes 2 calls at once, and a turn is one action"),
        (answer("x", tool_calls=[CALL], function_call=FLY), "makes 2 calls at once"),
        (answer(None, tool_calls=[{"function": {"arguments": "{}"}}]), "a call without the name of a function"),
        (answer(None, tool_calls=[{"name": "move", "arguments": "up"}]), "arguments that are no JSON object"),
        (answer(None, tool_calls="x"), "'tool_calls' of message 1 is no JSON"),
        (answer(None, tool_calls={"name": "move"}), "'tool_calls' of message 1 is of a wrong type"),
        ({"role": "function_call", "content": "move up"}, "a call without the name of a function"),
        (answer(None, refusal="I cannot."), "message 1 holds a 'refusal'"),
        (answer(None, audio={"id": "a"}), "message 1 holds 'audio': only text can be read"),
        (answer(None), "message 1 has no 'content'"),
        (answer([{"type": "image_url", "image_url": {"url": "x"}}]), "holds a part of type 'image_url'"),
        (answer([{"type": "redacted_thinking", "data": "x"}]), "holds a part of type 'redacted_thinking'"),
        (answer([{"type": "text", "text": "x"}, {"type": "thinking", "thinking": "y"}]), "holds thoughts behind"),
        (answer("x", value="y"), "message 1 has both 'content' and 'value'"),
        (answer("x", reasoning="a", thinking="b"), "holds thoughts under two keys that differ"),
        (answer("<think>a</think>x", reasoning="b"), "holds thoughts in its text and others beside it"),
        (answer("x", reasoning_details=[{"type": "reasoning.encrypted", "data": "?"}]), "thoughts that cannot be read"),
        ({"role": "narrator", "content": "x"}, "message 1 is from 'narrator', a speaker that is not known"),
        ({"role": "system", "content": "x"}, "message 1 is from 'system', which speaks first or never"),
    ],
)
def test_what_cannot_be_read_of_a_message_is_named(message, reason, tmp_path):
    imported = brought(tmp_path / "maze_train.json", record(ASKED, message), record(ASKED, answer()))
    assert (imported.records, imported.good) == (2, 1)
    assert reason in imported.quarantined[0].reason


def test_an_answer_behind_an_answer_is_set_aside():
    with pytest.raises(ValueError, match="message 2 is not from 'user', but an answer behind an answer"):
        read(record(ASKED, answer(), answer()))


@pytest.mark.parametrize("role", sorted(word for word, kind in SPEAKERS.items() if kind == "user"))
def test_what_tools_and_environments_say_is_an_observation(role):
    said = {"role": role.upper(), "content": "You are at 1,1.", "tool_call_id": "c1", "name": "move"}
    assert [turn.observation for turn in read(record(ASKED, answer(), said)).turns] == ["You are at 1,1."]


def test_results_of_tools_in_parts_and_objects_are_observations():
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "Rain."}]}
    deep = {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "Sun."}]}]}
    plain = {"role": "tool", "content": {"sky": "blue"}}
    found = read(record(ASKED, answer(), result, answer(), deep, answer(), plain))
    assert [turn.observation for turn in found.turns] == ["Rain.", "Sun.", '{"sky": "blue"}']


def test_the_functions_that_a_model_was_told_of_stand_in_the_prompt():
    tools = [{"type": "function", "function": {"name": "move", "parameters": {}}}]
    for told in (tools, json.dumps(tools)):
        found = read(record({"role": "system", "content": "Play."}, ASKED, answer(), tools=told))
        assert found.prompt == 'Play.\n\nThe functions are:\n{"name": "move", "parameters": {}}'
    assert read(record(ASKED, answer(), tools="[]", system="Play.")).prompt == "Play."


# Marks of the loss


@pytest.mark.parametrize("value", [0, 1, False, True, 0.0, 1.0])
@pytest.mark.parametrize("key", [*LEARNED, *MASKED])
def test_a_mark_says_whether_an_answer_is_learned_from(key, value):
    found = read(record(ASKED, answer(**{key: value}), MOVED, answer()))
    assert [turn.learned for turn in found.turns] == [bool(value) is (key in LEARNED), True]


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ({"weight": 0.5}, "'weight' of message 1 is 0.5: it should say 1"),
        ({"weight": 2}, "'weight' of message 1 is 2: it should"),
        ({"train": "no"}, "'train' of message 1 is 'no'"),
        ({"loss": True, "weight": 0}, "is learned from by one mark and not by another: 'loss', 'weight'"),
        ({"train": True, "masked": True}, "by one mark and not by another: 'train', 'masked'"),
        ({"mask": 1}, "'mask' of message 1 may mean that it is learned from, or that it is not"),
        ({"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": False}]}, "marks parts of the message"),
    ],
)
def test_a_mark_that_is_neither_yes_nor_no_sets_the_record_aside(marks, reason):
    with pytest.raises(ValueError, match=reason):
        read(record(ASKED, answer(**marks)))


def test_marks_of_whole_records_count_too():
    assert [turn.learned for turn in read(record(ASKED, answer(), weight=0)).turns] == [False]
    assert [turn.learned for turn in read(record(ASKED, answer(), weight=1, mask="User")).turns] == [True]
    assert [turn.learned for turn in read(record(ASKED, answer(), label=False)).turns] == [False]
    for more in ({"weight": 2.0}, {"mask": "Assistant"}):
        with pytest.raises(ValueError, match="of the record"):
            read(record(ASKED, answer(), **more))


@pytest.mark.parametrize("marks", [{"loss": False}, {"train": 0}, {"exclude": True}, {"useForTraining": False}])
def test_any_mark_of_a_whole_record_counts(marks, tmp_path):
    imported = brought(tmp_path / "a.json", record(ASKED, answer(), **marks))
    assert [turn.learned for turn in imported.trajectories[0].turns] == [False]
    assert imported.told == []


@pytest.mark.parametrize("key", ["loss", "loss_mask", "train_mask"])
def test_a_list_of_marks_beside_the_messages_sets_the_record_aside(key):
    with pytest.raises(ValueError, match=f"'{key}' of the record is a list: write 'loss': true or false into each"):
        read(record(ASKED, answer(), **{key: [0, 1]}))


@pytest.mark.parametrize("key", ["trainOnTurn", "loss-mask", "Loss", "Train On Turn"])
def test_a_mark_is_known_however_its_words_are_joined(key):
    assert [turn.learned for turn in read(record(ASKED, answer(**{key: False}))).turns] == [False]


@pytest.mark.parametrize("key", ["loss_enabled", "is_trained", "sft", "noLearnTurn"])
@pytest.mark.parametrize("value", [False, True, 0, 1])
def test_what_looks_like_a_mark_and_is_not_known_sets_the_record_aside(key, value):
    with pytest.raises(ValueError, match=f"'{key}' of message 1 looks like a mark that is not known: write 'loss'"):
        read(record(ASKED, answer(**{key: value})))


def test_a_key_that_says_no_is_not_dropped_without_a_word(tmp_path):
    imported = brought(tmp_path / "a.json", record(ASKED, answer(verified=False), checked=False))
    assert sorted(imported.told) == [
        "1 of 1 records have a key 'checked' that is not read",
        "1 of 1 records have a key 'verified' in a message that is not read",
    ]


def test_marks_of_the_parts_of_an_answer_count():
    def parts(*marks):
        return [{"type": "text", "text": UP, **mark} for mark in marks]

    def learned(given, **marks):
        return [turn.learned for turn in read(record(ASKED, answer(given, **marks))).turns]

    assert learned(parts({"train": False}, {"train": False})) == [False]
    assert learned(parts({"train": True}, {})) == [True]
    for some, marks in ((parts({"loss": 0}, {}), {}), (parts({"loss": 0}), {"loss": 1})):
        with pytest.raises(ValueError, match="message 1 marks some of its parts: an answer is learned from whole"):
            learned(some, **marks)
    asked = {"role": "user", "content": [{"type": "text", "text": "You are at 1,2.", "train": False}]}
    assert [turn.learned for turn in read(record(asked, answer())).turns] == [True]


def test_a_message_of_two_speakers_sets_the_record_aside():
    assert read(record(ASKED, {**answer(), "from": "gpt", "value": UP})).turns[0].action == "move up"
    with pytest.raises(ValueError, match="message 1 has both 'role' and 'from', which differ: keep one"):
        read(record(ASKED, {**answer(), "from": "human"}))


OTHERS = {
    "a.jsonl.gz": (gzip.compress(b'{"item_id": "maze_3"}'), "is compressed (gzip): unpack it"),
    "b.jsonl": (gzip.compress(b'{"item_id": "maze_3"}'), "is compressed (gzip): unpack it"),
    "c.json": (b"PK\x03\x04" + b"\xff" * 40, "is an archive (ZIP): unpack it"),
    "d.jsonl": (b"PAR1\x15\x04PAR1", "is a Parquet file: let its name end in .parquet"),
    "e.csv": (b"prompt,completion\nhere,move up\n", "is a table (CSV): save it as Parquet or JSON lines"),
    "f.json": ('[{"item_id": "maze_3"}]'.encode("utf-16-le"), "is UTF-16 or UTF-32 without a byte order mark: save"),
    "g.parquet": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS and not"),
    "h.jsonl": (b"<!DOCTYPE html>\n<html>\n</html>\n", "is no JSON (it begins with '<!DOCTYPE html>')"),
    "i.json": (b"- item_id: maze_3\n", "is no JSON (it begins with '- item_id: maze_3'): save it as JSON"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named_with_the_way_out(name, tmp_path):
    content, words = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    imported = import_files([tmp_path / name])
    assert (imported.good, imported.records, len(imported.quarantined)) == (0, 1, 1)
    assert words in imported.quarantined[0].reason


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["x"]}, "it holds a plain text: write it as"),
        ({"chosen": ["x"], "rejected": ["y"]}, "it holds a pair of a chosen and a rejected answer"),
        ({"instruction": ["x"], "output": ["y"]}, "it holds an instruction with its output"),
        ({"question": ["x"], "answer": ["y"]}, "it holds a question with its answer"),
        ({"dialog": [["x", "y"]]}, "(it has 'dialog'): write it as"),
    ],
)
def test_other_shapes_of_tables_and_records_are_named(columns, words, tmp_path):
    pl.DataFrame(columns).write_parquet(tmp_path / "maze.parquet")
    assert words in import_files([tmp_path / "maze.parquet"]).quarantined[0].reason
    with pytest.raises(ValueError, match=re.escape(words)):
        read({"item_id": "maze_3", **{key: values[0] for key, values in columns.items()}})


def test_answers_in_a_prompt_are_not_learned_from():
    pair = {"item_id": "maze_3", "prompt": [ASKED, answer(), MOVED], "completion": [answer("move left")]}
    assert [turn.learned for turn in read(pair).turns] == [False, True]
    assert texts({"item_id": "maze_3", "prompt": "You are at 1,2.", "completion": UP}) == [UP]


# Thoughts


@pytest.mark.parametrize("key", THOUGHTS)
@pytest.mark.parametrize("text", [UP, f"<think>\nHm.\n</think>\n\n{UP}"])
def test_thoughts_under_any_key_stand_before_the_answer_once(key, text):
    assert texts(record(ASKED, answer(text, **{key: "Hm."}))) == [f"<think>\nHm.\n</think>\n\n{UP}"]


def test_thoughts_in_parts_and_lists_of_blocks_are_read():
    spelt = [f"<think>\nHm.\n</think>\n\n{UP}"]
    parts = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": UP}]
    assert texts(record(ASKED, answer(parts))) == spelt
    details = [{"type": "reasoning.text", "text": "Hm."}]
    assert texts(record(ASKED, answer(reasoning="Hm.", reasoning_details=details))) == spelt
    called = answer("", reasoning="Hm.", tool_calls=[CALL])
    assert texts(record(ASKED, called)) == [
        "<think>\nHm.\n</think>\n\n" + write_call("", "move", {"direction": "up"}),
    ]


# Rewards


@pytest.mark.parametrize(
    ("item", "reward", "reason"),
    [
        ("maze_3", 100, "the reward 100 is beyond maze's scores, 0 to 1 (is it a percentage?)"),
        ("webshop_3", 1.5, "the reward 1.5 is beyond webshop's scores, 0 to 1"),
        ("sciworld_3", 101, "the reward 101 is beyond sciworld's scores, -100 to 100:"),
        ("babyai_3", -1, "the reward -1 is beyond babyai's scores, 0 to 1:"),
    ],
)
def test_a_reward_on_another_scale_is_set_aside(item, reward, reason, tmp_path):
    good, bad = ({**record(ASKED, answer()), "item_id": item, "reward": value} for value in (1, reward))
    imported = brought(tmp_path / "a.json", good, bad)
    assert [trajectory.score for trajectory in imported.trajectories] == [1.0]
    assert reason in imported.quarantined[0].reason
    assert "1 of 2 rewards of" in imported.told[0]
    store.write(tmp_path / "a.parquet", imported.trajectories, iteration=0, phase="imported")
    frame = pl.read_parquet(tmp_path / "a.parquet").with_columns(score=pl.lit(float(reward)))
    frame.write_parquet(tmp_path / "b.parquet")
    assert reason in import_files([tmp_path / "b.parquet"]).quarantined[0].reason


def test_a_file_whose_rewards_all_lie_on_another_scale_is_noticed(tmp_path):
    low = [{**record(ASKED, answer()), "item_id": f"sciworld_{n}", "reward": n / 2} for n in range(3)]
    told = brought(tmp_path / "a.json", *low).told
    assert told == [
        "all rewards of sciworld in a.json lie between 0 and 1, and its scores go from -100 to 100: if they are on "
        "another scale, multiply them"
    ]
    assert brought(tmp_path / "a.json", *low, {**low[0], "reward": 70}).told == []


@pytest.mark.parametrize(("score", "weighs"), [(0.5, 0.5), (100.0, 1.0), (1e300, 1.0), (-3.0, 0.0), (None, 1.0)])
def test_a_weight_lies_between_0_and_1_whatever_the_score(score, weighs):
    done = replace(played(), score=score)
    assert weight(done, Reward.score) == weight(done, "score") == weighs
    assert weight(done, Reward.binary) == weight(done, "binary") == 1.0
    assert weight(replace(done, task=Task("nowhere", 1)), Reward.score) == 1.0


def test_a_reward_that_there_is_not_is_one_line():
    with pytest.raises(
        RecipeError, match=r"^evol\.reward: 'scores' is not one of binary, score; did you mean 'score'\?$"
    ):
        weight(played(), "scores")


# What is not read is told


def test_keys_that_are_not_read_are_told_with_how_many_records_have_them(tmp_path):
    odd = record(ASKED, answer(mood="gay", annotations=[]), source="web", info={})
    part = record({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]}, answer())
    trained = record({**ASKED, "train": True}, answer())
    imported = brought(tmp_path / "a.json", odd, odd, part, trained)
    assert sorted(imported.told) == [
        "1 of 4 records have a key 'cache_control' in a part of a message that is not read",
        "1 of 4 records mark a message of 'user' as learned from, and only answers are",
        "2 of 4 records have a key 'mood' in a message that is not read",
        "2 of 4 records have a key 'source' that is not read",
    ]


@pytest.mark.parametrize(
    ("name", "item", "task", "remark"),
    [
        (
            "maze_train.json",
            "textcraft_5",
            Task("textcraft", 5),
            "are of textcraft by their item ids, though their file",
        ),
        ("maze_train.json", "os_5", None, "have item ids of 'os' and are taken for tasks of maze"),
        ("maze_train.json", "maze_5", Task("maze", 5), None),
        ("maze_train.json", 5, Task("maze", 5), None),
    ],
)
def test_a_file_name_that_contradicts_the_item_ids_is_told(tmp_path, name, item, task, remark):
    imported = brought(tmp_path / name, {**record(ASKED, answer()), "item_id": item})
    assert task is None or imported.trajectories[0].task == task
    assert [remark in line for line in imported.told] == ([True] if remark else [])


def test_a_record_whose_own_fields_contradict_each_other_is_set_aside():
    with pytest.raises(ValueError, match="item_id 'maze_3' is of maze, but the record's 'environment' is 'wordle'"):
        read(record(ASKED, answer(), environment="wordle"))
    with pytest.raises(ValueError, match="has both 'conversations' and 'messages': keep one"):
        read(record(ASKED, answer(), conversations=[MOVED, answer()]))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"chosen": [answer()], "rejected": [answer()]}, "a pair of a chosen and a rejected answer"),
        ({"instruction": "Go.", "input": "", "output": "north"}, "an instruction with its output"),
        ({"prompt": [ASKED], "reward_model": {}}, "a prompt without a completion"),
        ({"input_ids": [1, 2], "labels": [1, 2]}, "tokens without their text"),
        ({"text": "You are here."}, "a plain text"),
    ],
)
def test_other_shapes_are_refused_by_their_names(shape, words):
    with pytest.raises(ValueError, match=f"it holds {words}: write it as"):
        read({"item_id": "maze_3", **shape})


def test_messages_under_another_key_are_found_and_named():
    with pytest.raises(ValueError, match="keeps its messages under 'trajectory': rename it to 'messages'"):
        read({"item_id": "maze_3", "trajectory": [ASKED, answer()]})


# Who speaks first


def test_messages_before_the_first_answer_are_instructions_and_the_first_observation():
    told = {"role": "user", "content": "Play the maze."}
    for first in (told, {**told, "role": "developer"}, {**told, "role": "system"}):
        found = read(record(first, ASKED, answer(), MOVED))
        assert (found.prompt, found.observation) == ("Play the maze.", "You are at 1,2.")
        assert [turn.observation for turn in found.turns] == ["You are at 1,1."]
    found = read(record(ASKED, answer(), MOVED, told, answer()))
    assert [turn.observation for turn in found.turns] == ["You are at 1,1.\n\nPlay the maze.", ""]


def test_sharegpt_without_loss_is_read_and_its_consent_is_no_turn():
    says = [("human", "Rules."), ("gpt", "OK."), ("human", "A maze."), ("gpt", UP), ("human", "Moved."), ("gpt", UP)]
    found = read({"id": "maze_7", "conversations": [{"from": who, "value": what} for who, what in says]})
    assert (found.task, found.acknowledgement, len(found.turns)) == (Task("maze", 7), "OK.", 2)


@pytest.mark.parametrize(("key", "value"), [("id", "maze_7"), ("task_id", "maze_7"), ("example_id", 7), ("index", 7)])
def test_a_task_may_be_named_by_another_key(key, value):
    assert read({key: value, "messages": [ASKED, answer()]}, "maze").task == Task("maze", 7)


def test_a_record_without_an_id_is_called_after_its_place_and_told(tmp_path):
    imported = brought(tmp_path / "maze_train.json", {"messages": [ASKED, answer()]}, {"messages": [ASKED, answer()]})
    assert [trajectory.item_id for trajectory in imported.trajectories] == ["maze_train.json 1", "maze_train.json 2"]
    assert len({trajectory.task for trajectory in imported.trajectories}) == 2
    assert imported.told == ["2 of 2 records have no item id: their tasks are called after their places in the files"]


# How files are laid out


ONE = record(ASKED, answer())
LAYOUTS = {
    "a list on one line": json.dumps([ONE, ONE]),
    "a list on many lines": json.dumps([ONE, ONE], indent=1),
    "lines": f"{json.dumps(ONE)}\n\n{json.dumps(ONE)}\n",
    "records on many lines": f"{json.dumps(ONE, indent=2)}\n{json.dumps(ONE, indent=2)}\n",
    "lists one behind the other": f"{json.dumps([ONE])}\n{json.dumps([ONE])}\n",
    "an object with a list": json.dumps({"data": [ONE, ONE]}),
    "an object with a split": json.dumps({"train": [ONE, ONE], "version": 1}, indent=1),
    "joined files with marks": f"\ufeff{json.dumps(ONE)}\n\ufeff{json.dumps(ONE)}\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_records_are_found_however_a_file_is_laid_out(tmp_path, layout, suffix, encoding):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(LAYOUTS[layout].encode(encoding))
    imported = import_files([path])
    assert (imported.records, imported.quarantined) == (2, [])
    assert [trajectory.sample for trajectory in imported.trajectories] == [0, 1]


def test_layouts_that_cannot_be_read_are_named(tmp_path):
    several = import_files([save(tmp_path / "a.json", {"train": [ONE], "test": [ONE]})])
    assert "holds several lists ('train', 'test'): save the one that is meant" in several.complaint
    (tmp_path / "b.jsonl").write_bytes(json.dumps(ONE).encode() + b'\n{"a": "\xe9"}\n')
    latin = import_files([tmp_path / "b.jsonl"])
    assert (latin.good, latin.quarantined[0].record) == (1, 2)
    assert latin.quarantined[0].reason.endswith("save it as UTF-8")


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_parquet_of_the_hub_is_read_without_the_nulls_of_its_columns(tmp_path, key):
    called = answer(None, tool_calls=[{"id": "c", "function": CALL}])
    other = answer(None, tool_calls=[{"id": "c", "function": {"name": "look", "arguments": {"far": True}}}])
    rows = [{"item_id": "maze_3", key: [ASKED, called, MOVED]}, {"item_id": "maze_4", key: [ASKED, other]}]
    pl.DataFrame(rows).write_parquet(tmp_path / "train.parquet")
    imported = import_files([tmp_path / "train.parquet"])
    assert imported.quarantined == []
    assert [turn.completion.text for trajectory in imported.trajectories for turn in trajectory.turns] == [
        write_call("", "move", {"direction": "up"}),
        write_call("", "look", {"far": True}),
    ]
    pl.DataFrame({"price": [2.0]}).write_parquet(tmp_path / "other.parquet")
    assert (
        "the file has no 'conversations' or 'messages' (it has 'price'): write it as"
        in import_files([tmp_path / "other.parquet"]).complaint
    )


def test_the_environment_of_records_can_be_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(Path("a.json"), {"example_id": 3, "prompt": [ASKED], "completion": [answer()], "reward": 1.0})
    assert main(["traj", "import", "a.json", "--to", "a.parquet"]) == 2
    assert "name it by --environment" in capsys.readouterr().err
    assert main(["traj", "import", "a.json", "--to", "a.parquet", "--environment", "maze"]) == 0
    assert [trajectory.task for trajectory in store.read(["a.parquet"])] == [Task("maze", 3)]
    assert main(["traj", "import", "a.json", "--to", "b.parquet", "--environment", "mazes"]) == 0
    assert "there is no environment 'mazes' here; did you mean 'maze'?" in capsys.readouterr().out
    assert main(["traj", "import", "a.json", "--to", "c.parquet", "--environment", "No Name"]) == 2
    assert (
        "--environment: 'No Name' is no name of an environment: write one of `agentgym envs`" in capsys.readouterr().err
    )
    assert not Path("c.parquet").exists()


# Nothing is lost


SPEECH = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).map("zq{}".format)
BODY = SPEECH | SPEECH.map(lambda text: [{"type": "text", "text": text}]) | st.none()
KEYS = st.sampled_from([*THOUGHTS, "tool_calls", "function_call", "refusal", "annotations", "foo", "audio", "weight"])
VALUES = SPEECH | st.builds(lambda text: {"name": "move", "arguments": {"direction": text}}, SPEECH) | st.just(0)
EXTRA = st.dictionaries(KEYS, VALUES | VALUES.map(lambda value: [value]), max_size=2)
SPOKEN = st.builds(
    lambda role, body, extra: {"role": role, "content": body, **extra},
    st.sampled_from(["user", "assistant", "assistant", "tool", "system"]), BODY, EXTRA,
)  # fmt: skip


def words(value: object) -> list[str]:
    """Every made-up text in a value."""
    if isinstance(value, dict):
        return [word for each in value.values() for word in words(each)]
    if isinstance(value, list):
        return [word for each in value for word in words(each)]
    return [value] if isinstance(value, str) and value.startswith("zq") else []


@settings(deadline=None, max_examples=300)
@given(several=st.lists(st.lists(SPOKEN, min_size=1, max_size=4), max_size=3))
def test_every_word_of_a_message_is_in_its_trajectory_or_its_key_is_told(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("words") / "maze_train.json"
    imported = brought(path, *({"item_id": f"maze_{n}", "messages": said} for n, said in enumerate(several)))
    assert imported.records == len(several) == imported.good + len(imported.quarantined)
    told = " ".join(imported.told)
    for trajectory in imported.trajectories:
        row = store.to_row(trajectory, iteration=0, phase="imported")
        kept = [row["prompt"], row["observation"], *(t[key] for t in row["turns"] for key in ("text", "observation"))]
        spelt = "\n".join([*kept, *(json.dumps(text, ensure_ascii=False) for text in kept)])
        for message in several[trajectory.task.index]:
            for key, value in message.items():
                for word in words(value):
                    inside = json.dumps(json.dumps(word, ensure_ascii=False)[1:-1], ensure_ascii=False)[1:-1]
                    assert word in spelt or inside in spelt or f"{key!r} in a message" in told


# Files that unpack to far more than they are


def bomb(path: Path, rows: int) -> Path:
    turn = Turn(Completion("Action:\nup"), "up", "moved", 1.0)
    one = Trajectory(Task("maze", 0), 0, "m", "Go.", "A maze.", (turn, turn), StopReason.DONE, 1.0, True)
    frame = pl.DataFrame([store.to_row(one, iteration=0, phase="explore")], schema=store.schema(), orient="row")
    pl.concat([frame] * rows).rechunk().write_parquet(path)
    return path


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused_before_it_is(tmp_path):
    path = bomb(tmp_path / "bomb.parquet", 100_000)
    assert path.stat().st_size < 30_000
    imported = import_files([path])
    assert (imported.records, imported.good) == (1, 0)
    assert "MB in memory" in imported.quarantined[0].reason
    assert "split it into files of fewer rows" in imported.quarantined[0].reason
    with pytest.raises(DataError, match=r"bomb\.parquet would take about"):
        store.read([path])
    assert footer.values(path.read_bytes()) == 100_000 * 49
    assert len(import_files([bomb(tmp_path / "small.parquet", 300)]).trajectories) == 300


@pytest.mark.parametrize("where", ["prompt", "turns"])
def test_a_long_text_that_many_rows_share_is_not_copied_for_each(tmp_path, where):
    frame = pl.read_parquet(bomb(tmp_path / "a.parquet", 2_000))
    long = frame["turns"][0].to_list()[:1]
    long[0]["observation"] = "x" * 500_000
    changed = (
        pl.lit("x" * 500_000) if where == "prompt" else pl.lit(pl.Series([long], dtype=frame["turns"].dtype)).first()
    )
    frame.with_columns(changed.alias(where)).write_parquet(tmp_path / "b.parquet")
    imported = import_files([tmp_path / "b.parquet"])
    assert (imported.records, imported.good) == (1, 0)
    assert "would take about 9" in imported.quarantined[0].reason


@given(content=st.binary(max_size=40))
def test_a_footer_that_is_none_is_left_to_whoever_decodes_it(content):
    assert footer.complaint(b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1") == ""


def test_an_import_of_many_rows_is_the_same_file_of_rows_in_batches(tmp_path, monkeypatch):
    rows = [
        store.to_row(read(record(ASKED, answer(), reward=n / 10)), iteration=0, phase="imported") for n in range(11)
    ]
    stream.write_stream(tmp_path / "whole.parquet", rows)
    monkeypatch.setattr(stream, "BATCH", 3)
    sizes = []

    def given_rows():
        for number, row in enumerate(rows):
            sizes.append(number)
            yield row

    stream.write_stream(tmp_path / "parts.parquet", given_rows(), new=True)
    assert list(store.rows(tmp_path / "parts.parquet")) == list(store.rows(tmp_path / "whole.parquet")) == rows
    assert store.SEAL.encode() in (tmp_path / "parts.parquet").read_bytes()
    stream.write_stream(tmp_path / "none.parquet", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


# Out and in again


def played(**changes: object) -> Trajectory:
    sampled = Completion(UP, (5, 6, 7), (-0.5, -0.25, 0.0), "It is north.", True)
    turns = (
        Turn(sampled, "move up", "moved", float("nan")),
        Turn(Completion("<think>\na\n</think>\n\nmove"), None, "Answer with an action.", float("nan"), learned=False),
        Turn(Completion(write_call("", "move", {"direction": "up"})), "move up", "there", 1.0),
    )
    facts = {"policy": "me", "prompt": "Go.", "observation": "A maze.", "version": "1", **changes}
    return Trajectory(Task("maze", 3), 0, turns=turns, stop=StopReason.DONE, score=1.0, success=True, **facts)


@pytest.mark.parametrize("write", [write_rollout, write_messages])
@pytest.mark.parametrize("prompt", ["Go.", ""])
@pytest.mark.parametrize("acknowledgement", [None, "Fine!"])
def test_what_goes_out_as_json_lines_comes_back_and_holds_no_turn_that_was_not_played(write, prompt, acknowledgement):
    out = played(prompt=prompt, acknowledgement=acknowledgement)
    written = json.loads(json.dumps(write(out)))
    said = written.get("messages") or written["conversations"]
    assert [message["role"] for message in said if message["role"] == "assistant"] == ["assistant"] * 3
    assert said[0]["content"] == out.messages[0].content
    remarks: set[str] = set()
    back = read(written, remarks=remarks)
    completions = [turn.completion for turn in out.turns]
    if write is write_rollout:  # holds no tokens
        completions = [replace(completion, token_ids=None, logprobs=None) for completion in completions]
    assert [turn.completion for turn in back.turns] == completions
    assert [(t.action, t.observation, t.learned) for t in back.turns] == [
        (t.action, t.observation, t.learned) for t in out.turns
    ]
    same = ("task", "policy", "prompt", "observation", "stop", "score", "success", "version", "acknowledgement")
    assert [getattr(back, name) for name in same] == [getattr(out, name) for name in same]
    assert remarks == set()
