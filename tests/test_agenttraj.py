from __future__ import annotations

import hashlib
import json
import math
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.data import store
from agentgym.data.agenttraj import environment_in, read_record, task_of
from agentgym.data.exports import ACKNOWLEDGEMENT, write_record, write_rollout
from agentgym.data.imports import QUARANTINE, Imported, check_any, import_files, write_quarantine
from agentgym.data.sources import find
from agentgym.errors import DataError
from envpool import EnvPool, ExpertPolicy, collect, get_spec
from envpool.errors import MalformedAction
from envpool.formats import format_for
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

DATA = Path(__file__).parents[1].parent / "shared" / "data"
SAMPLES = [("textcraft", 24), ("babyai", 36), ("lmrlgym_maze", 12)]


def say(*values: str, losses: tuple[bool | None, ...] = ()) -> list[dict[str, object]]:
    """A conversation of AgentTraj: "human" and "gpt" in turn; the first answer is not learned from."""
    losses = losses or tuple(None if i % 2 == 0 else i > 1 for i in range(len(values)))
    speakers = ("human", "gpt")
    return [
        {"from": speakers[i % 2], "loss": loss, "value": value}
        for i, (value, loss) in enumerate(zip(values, losses, strict=True))
    ]


def talk(*contents: str, system: str | None = None) -> list[dict[str, object]]:
    """A conversation with roles."""
    roles = ("user", "assistant")
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, *({"role": roles[i % 2], "content": content} for i, content in enumerate(contents))]


GOOD = {"conversations": say("rules", "fine", "maze", "Action:\nup", "moved", "down?"), "item_id": "lmrlgym_maze_19"}


def save(path: Path, *records: object) -> Path:
    path.write_text(json.dumps(records))
    return path


def read(record: object, environment: str | None = None) -> Trajectory:
    return read_record(record, Counter(), environment)


def through_the_store(folder: Path, imported: Imported) -> list[Trajectory]:
    store.write(folder / "a.parquet", imported.trajectories, iteration=0, phase="imported")
    return store.read([folder / "a.parquet"])


def test_an_agenttraj_record_becomes_a_trajectory():
    trajectory = read(GOOD)
    assert trajectory.task == Task("maze", 19)
    assert trajectory.item_id == "lmrlgym_maze_19"
    assert (trajectory.prompt, trajectory.acknowledgement, trajectory.observation) == ("rules", "fine", "maze")
    assert [t.completion for t in trajectory.turns] == [Completion("Action:\nup"), Completion("down?")]
    assert [t.action for t in trajectory.turns] == ["up", None]
    assert [t.observation for t in trajectory.turns] == ["moved", ""]
    assert (trajectory.stop, trajectory.score, trajectory.success) == (StopReason.DONE, None, None)
    assert all(math.isnan(turn.score) and turn.learned for turn in trajectory.turns)
    assert (trajectory.policy, trajectory.version) == ("agenttraj", "agenttraj")


def test_a_record_without_acknowledgement_has_no_prompt():
    trajectory = read({"item_id": "textcraft_5", "conversations": say("a table", "Action:\nlook", losses=(None, True))})
    assert (trajectory.prompt, trajectory.acknowledgement, trajectory.observation) == ("", None, "a table")
    assert len(trajectory.turns) == 1


def test_a_later_answer_may_not_be_learned_from():
    losses = (None, False, None, True, None, False, None, True)
    trajectory = read({"item_id": "maze_1", "conversations": say(*"abcdefgh", losses=losses)})
    assert [turn.learned for turn in trajectory.turns] == [True, False, True]


def test_an_evaluation_has_score_success_and_last_observation():
    conversation = [*say("rules", "fine", "maze", "Action:\nup"), {"from": "human", "loss": None, "value": "there"}]
    record = {"conversations": conversation, "item_id": "maze_3", "reward": 1.0, "success": 0}
    trajectory = read(record)
    assert [turn.observation for turn in trajectory.turns] == ["there"]
    assert [turn.score for turn in trajectory.turns] == [1.0]
    assert (trajectory.score, trajectory.success) == (1.0, True)  # by the rule of the environment, not of the file
    assert read({**record, "reward": 0}).success is False
    assert read({**record, "item_id": "nowhere_3"}).success is None
    assert read({**record, "reward": None}).score is None


def test_roles_and_reasoning_are_read_too():
    conversation = talk("rules", "OK. I'll follow your instructions.", "maze", "Action:\nup", "moved")
    conversation[3]["reasoning_content"] = "Let me see.\nAction:\ndown"
    trajectory = read({"item_id": 7, "conversations": conversation, "reward": 0.5}, "maze")
    assert (trajectory.task, trajectory.item_id) == (Task("maze", 7), "maze_7")
    assert (trajectory.prompt, trajectory.observation, trajectory.score) == ("rules", "maze", 0.5)
    (turn,) = trajectory.turns
    assert turn.completion.text == "<think>\nLet me see.\nAction:\ndown\n</think>\n\nAction:\nup"
    assert (turn.action, turn.observation) == ("up", "moved")


def test_a_system_message_goes_before_the_prompt_and_a_first_answer_that_acts_is_a_turn():
    acting = read({"item_id": "maze_1", "messages": talk("maze", "Action:\nup", "moved", "Action:\nup", system="Go.")})
    assert (acting.prompt, acting.acknowledgement, acting.observation) == ("Go.", None, "maze")
    assert len(acting.turns) == 2
    told = talk("rules", "Okay.", "maze", "Action:\nup", system="Be brief.")
    untold = read({"item_id": "maze_1", "messages": told})
    assert (untold.prompt, untold.acknowledgement, len(untold.turns)) == ("Be brief.", None, 2)
    told[2]["loss"] = False
    asked = read({"item_id": "maze_1", "messages": told})
    assert (asked.prompt, asked.acknowledgement, len(asked.turns)) == ("Be brief.\n\nrules", "Okay.", 1)


@pytest.mark.parametrize(
    ("answer", "agrees"),
    [
        ("OK. I'll follow your instructions and try my best to solve the task.", True),
        ("Ok.", True),
        ("Understood.", True),
        ("I understand the rules. I will do my best.", True),
        ("Sure! I\u2019ll follow the instructions.", True),
        (ACKNOWLEDGEMENT, True),
        ("I will move up", False),
        ("I'll go up", False),
        ("Sure, move up", False),
        ("OK. I'll follow your instructions. Action: up", False),
        ("OK.\nAction:\nup", False),
        ("I understand the door is open", False),
    ],
)
def test_only_whole_sentences_of_consent_are_an_acknowledgement(answer, agrees):
    said = talk("rules", answer, "maze", "Action:\nup", "moved", "Action:\nup")
    assert (read({"item_id": "maze_1", "messages": said}).acknowledgement == answer) == agrees
    rollout = talk("maze", answer, "moved", "I will move left", "moved", system="Go.")
    trajectory = read({"item_id": "maze_1", "conversations": rollout, "reward": 1})
    assert (trajectory.prompt, trajectory.observation, len(trajectory.turns)) == ("Go.", "maze", 2)


def test_the_score_of_an_episode_that_failed_is_no_number():
    failed = read({"item_id": "maze_1", "messages": talk("maze", "up"), "reward": 0.0, "stop": "error"})
    assert (failed.stop, failed.score, failed.success) == (StopReason.ERROR, None, None)
    assert math.isnan(failed.turns[-1].score)


def test_records_of_the_same_task_are_its_samples_over_all_files(tmp_path):
    other, short = {**GOOD, "item_id": "lmrlgym_maze_20"}, {**GOOD, "item_id": "maze_19"}
    files = [save(tmp_path / "a.json", GOOD, other, GOOD), save(tmp_path / "b.json", GOOD, short)]
    trajectories = import_files(files).trajectories
    assert [(t.task.index, t.sample) for t in trajectories] == [(19, 0), (20, 0), (19, 1), (19, 2), (19, 3)]


@pytest.mark.parametrize(
    ("item_id", "task"),
    [
        ("textcraft_50", Task("textcraft", 50)),
        ("babyai_138", Task("babyai", 138)),
        ("lmrlgym_maze_19", Task("maze", 19)),
        ("lmrlgym_wordle_3", Task("wordle", 3)),
        ("tool_sheet_0", Task("sheet", 0)),
        ("my_own_world_7", Task("my_own_world", 7)),
    ],
)
def test_item_ids_name_environment_and_index(item_id, task):
    assert task_of(item_id) == (task, None if item_id == task.item_id else item_id)


TRIAL = "pick_two-Pen-None-308_trial_T2019_174127"


def test_an_item_id_without_an_index_is_kept_and_its_index_is_one_that_no_environment_has(tmp_path):
    records = [{**GOOD, "item_id": item} for item in (TRIAL, f"{TRIAL}x", TRIAL)]
    imported = import_files([save(tmp_path / "alfworld_train.json", *records)])
    first, second, again = through_the_store(tmp_path, imported)
    assert first.item_id == again.item_id == TRIAL
    assert first.task == again.task == Task("alfworld", -169481718853688)  # the same on every machine
    assert first.task != second.task
    assert (first.sample, again.sample) == (0, 1)
    assert [write_record(t) for t in (first, second, again)] == records


@pytest.mark.parametrize("item_id", ["textcraft", "textcraft_", "_3", "maze_-1", "maze_1x", TRIAL, "5"])
def test_what_tells_the_environment_neither_in_id_nor_in_file_is_set_aside(tmp_path, item_id):
    imported = import_files([save(tmp_path / "a.json", {**GOOD, "item_id": item_id})])
    assert imported.trajectories == []
    assert "does not tell the environment, and neither does the file's name" in imported.quarantined[0].reason


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("alfworld_train.json", "alfworld"),
        ("tool_movie_train.json", "movie"),
        ("lmrlgym_maze_train_sample.json", "maze"),
        ("maze_12.json", "maze"),
        ("webshop.jsonl", "webshop"),
        ("my_world_test.json", "my_world"),
        ("mazes.json", None),
        ("data.json", None),
    ],
)
def test_file_names_tell_environments(name, environment):
    assert environment_in(name) == environment


BAD = [
    ("text", "the record is no object"),
    ({"conversations": []}, "the record has no 'item_id'"),
    ({"item_id": 5.5}, "the record has an 'item_id' that is no text"),
    ({"item_id": True}, "the record has an 'item_id' that is no text"),
    ({"item_id": ""}, "the record has no 'item_id'"),
    ({"item_id": "maze"}, "item_id 'maze' does not tell the environment"),
    ({"item_id": "maze_\ud800"}, "the item_id holds half a character"),
    ({"item_id": "maze_1", "environment": "No Name"}, "'No Name' is no name of an environment"),
    ({"item_id": "maze_1", "conversations": None}, "it names a task, as AgentEval does, and no episode"),
    ({"item_id": "maze_1", "conversations": []}, "it names a task, as AgentEval does, and no episode"),
    ({"item_id": "maze_1", "conversations": "hello"}, "'conversations' of the record is of a wrong type"),
    ({"item_id": "maze_1", "conversations": say("rules", "fine")}, "holds no turn"),
    ({"item_id": "maze_1", "conversations": say("rules", "fine", "maze")}, "holds no turn"),
    ({"item_id": "maze_1", "conversations": ["hello"]}, "message 0 is no object"),
    (
        {"item_id": "maze_1", "conversations": [{"error": "it broke"}]},
        "message 0 has no 'role' and no 'from' (its keys: 'error')",
    ),
    ({"item_id": "maze_1", "conversations": say("a", "b")[::-1]}, "message 0 is not from 'human'"),
    ({"item_id": "maze_1", "conversations": talk("a", "b")[::-1]}, "message 0 is not from 'user'"),
    ({"item_id": "maze_1", "conversations": [{"role": "tool", "content": "a"}]}, "holds no turn"),
    ({"item_id": "maze_1", "conversations": [{"role": "user", "content": None}]}, "message 0 has no 'content'"),
    ({"item_id": "maze_1", "conversations": say("a", "\ud800")}, "message 1 holds half a character"),
    ({**GOOD, "reward": "1"}, "the reward '1' is no number"),
    ({**GOOD, "reward": math.nan}, "the reward 'nan' is no number"),
    ({**GOOD, "reward": True}, "the reward 'True' is no number"),
    ({**GOOD, "reward": 10**400}, "is no number"),
    ({**GOOD, "stop": "tired"}, "'tired' is not a valid StopReason"),
]


@pytest.mark.parametrize(("record", "reason"), BAD)
def test_bad_records_are_set_aside_with_file_number_and_reason(tmp_path, record, reason):
    path = save(tmp_path / "some.json", GOOD, record, GOOD)
    imported = import_files([path])
    assert [t.sample for t in imported.trajectories] == [0, 1]
    assert imported.records == 3
    (bad,) = imported.quarantined
    assert (bad.file, bad.record) == (str(path), 2)
    assert reason in bad.reason
    assert imported.complaint.startswith(f"1 of 3 records are set aside (some.json: record 2: {bad.reason}")


def test_the_quarantine_is_a_file_that_says_everything_once(tmp_path):
    imported = import_files([save(tmp_path / "some.json", GOOD, "bad", 3)])
    for _ in range(2):
        write_quarantine(tmp_path / QUARANTINE, imported.quarantined)
    assert [json.loads(line) for line in (tmp_path / QUARANTINE).read_text().splitlines()] == [
        {"file": str(tmp_path / "some.json"), "record": n, "reason": "the record is no object"} for n in (2, 3)
    ]


def test_the_quarantine_goes_on_where_another_program_left_it(tmp_path):
    (tmp_path / QUARANTINE).write_bytes(b"\xff\xfe no end")
    imported = import_files([save(tmp_path / "some.json", "bad")])
    for _ in range(2):
        write_quarantine(tmp_path / QUARANTINE, imported.quarantined)
    first, second, *rest = (tmp_path / QUARANTINE).read_bytes().split(b"\n")
    assert (first, json.loads(second)["record"], rest) == (b"\xff\xfe no end", 1, [b""])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "a.json: is no JSON"),
        (b"\xff\xfe", "a.json: is no JSON"),
        (b"[" * 200_000, "a.json: is no JSON"),
        (b"5", "a.json: is no list of records"),
        (b"[]", "the list is empty"),
        (b'{"item_id": "maze_1"}', "record 1: the record has no 'conversations'"),
    ],
)
def test_a_file_without_any_trajectory_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json holds no trajectory") as caught:
        check_any(import_files([tmp_path / "a.json"]), "a.json")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_one_record_a_file_and_one_record_a_line_are_read(tmp_path):
    (tmp_path / "maze_1.json").write_text(json.dumps(GOOD, indent=4))
    (tmp_path / "late.json").write_text("{broken\n" + json.dumps(GOOD) + "\n")  # its first line is the bad one
    imported = import_files([tmp_path / "late.json"])
    assert (len(imported.trajectories), [bad.record for bad in imported.quarantined]) == (1, [1])
    lines = "\ufeff" + "\n".join([json.dumps(GOOD), "", "{broken", json.dumps(GOOD)]) + "\n"
    (tmp_path / "b.jsonl").write_text(lines)
    (tmp_path / "c.json").write_text(lines)  # under another name
    for name, records in (("maze_1.json", 1), ("b.jsonl", 3), ("c.json", 3)):
        imported = import_files([tmp_path / name])
        assert (imported.records, len(imported.trajectories)) == (records, max(1, records - 1))
        assert [bad.record for bad in imported.quarantined] == [3] * (records > 1)


pieces = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(["from", "value", "loss", "role", "content", "reasoning_content"])
words = st.sampled_from(["human", "gpt", "user", "assistant", "system", "Action:\nup", "OK.", True, False, None])
messages = st.dictionaries(keys, words | pieces, max_size=6)
conversations = st.lists(messages | pieces, max_size=5) | st.lists(st.text(max_size=5), max_size=6).map(
    lambda texts: say(*texts) if len(texts) % 2 else talk(*texts)
)
fields = {
    "item_id": st.sampled_from(["maze_1", "lmrlgym_maze_2", TRIAL, 5, 10**30, -1, "", "\ud800"]) | pieces,
    "conversations": conversations | pieces,
    "messages": conversations | pieces,
    "reward": st.floats() | pieces,
    "environment": st.sampled_from(["maze", "x y", "\udfff"]) | pieces,
    "stop": st.sampled_from(["done", "error"]) | pieces,
}
records = st.fixed_dictionaries({}, optional=fields) | pieces | st.just(GOOD)


@settings(deadline=None, max_examples=300)
@given(several=st.lists(records, max_size=5), as_lines=st.booleans(), name=st.sampled_from(["alfworld_train", "x"]))
def test_whatever_the_records_are_each_is_stored_or_set_aside(tmp_path_factory, several, as_lines, name):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / (name + (".jsonl" if as_lines else ".json"))
    path.write_text("\n".join(map(json.dumps, several)) if as_lines else json.dumps(several))
    imported = import_files([path])
    assert imported.records == len(several) == len(imported.trajectories) + len(imported.quarantined)
    good = sum(record == GOOD for record in several)
    assert len(imported.trajectories) >= good
    assert len(through_the_store(folder, imported)) == len(imported.trajectories)
    write_quarantine(folder / QUARANTINE, imported.quarantined)


@settings(deadline=None)
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".json", ".jsonl"]))
def test_whatever_bytes_a_file_holds_something_is_said_about_it(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(content)
    imported = import_files([path])
    assert imported.records == len(imported.trajectories) + len(imported.quarantined)
    if suffix == ".json" and content.strip() != b"[]":
        assert imported.records


def made_up(count: int) -> list[dict[str, object]]:
    """AgentTraj records with everything that a round trip could lose."""
    rng = random.Random(0)
    records = []
    for number in range(count):
        texts = [
            rng.choice(["go", "é☕\u2028", "", "a\r\nb", "<think>\nx\n</think>\n\ny", "Action:\nup"]) for _ in range(12)
        ]
        length = rng.choice([4, 8, 12])
        losses = tuple(None if i % 2 == 0 else i > 1 and rng.random() > 0.2 for i in range(length))
        item = rng.choice([f"textcraft_{number}", f"lmrlgym_maze_{number}", f"{TRIAL}{number}", f"tool_sheet_{number}"])
        conversation = say(*texts[:length], losses=losses)
        if rng.random() < 0.3:  # without prompt and acknowledgement
            conversation = say(*texts[:length], losses=(None, True, *losses[2:]))
        records.append({"conversations": conversation, "item_id": item})
    return records


def test_made_up_agenttraj_comes_out_of_the_store_as_it_went_in(tmp_path):
    given_records = made_up(60)
    imported = import_files([save(tmp_path / "alfworld_train.json", *given_records)])
    assert imported.quarantined == []
    back = [write_record(trajectory) for trajectory in through_the_store(tmp_path, imported)]
    assert json.dumps(back) == json.dumps(given_records)  # the same keys in the same order, too


@pytest.mark.skipif(not DATA.is_dir(), reason="the samples of AgentTraj are not here")
@pytest.mark.parametrize(("name", "records"), SAMPLES)
def test_the_samples_of_agenttraj_come_out_of_the_store_as_they_went_in(tmp_path, name, records):
    path = DATA / f"{name}_train_sample.json"
    imported = import_files([path])
    assert imported.quarantined == []
    assert len(imported.trajectories) == records
    for trajectory in imported.trajectories:
        assert trajectory.prompt
        assert all(turn.action == as_played(turn, trajectory.task.environment) for turn in trajectory.turns)
    back = [write_record(trajectory) for trajectory in through_the_store(tmp_path, imported)]
    assert json.dumps(back, indent=1) == path.read_text().rstrip("\n")


def as_played(turn, environment):
    """The action that the pool would send; None if it would answer with a correction."""
    try:
        return format_for("react", get_spec(environment)).parse(turn.completion.text).action
    except MalformedAction:
        return None


def test_rollouts_come_back_as_they_went_out():
    trajectories = [read(record, "alfworld") for record in made_up(60)]
    trajectories += collect(EnvPool(), [Task("maze", 3), Task("textcraft", 1)], ExpertPolicy())
    counts = Counter()
    back = [read_record(json.loads(json.dumps(write_rollout(t))), counts) for t in trajectories]
    for before, after in zip(trajectories, back, strict=True):
        assert (after.task, after.item_id, after.version, after.policy) == (
            before.task, before.item_id, before.version, before.policy,
        )  # fmt: skip
        assert (after.score, after.success, after.stop) == (before.score, before.success, before.stop)
        assert (after.prompt, after.observation) == (before.prompt, before.observation)
        assert [(t.completion.text, t.action, t.observation, t.learned) for t in after.turns] == [
            (t.completion.text, t.action, t.observation, t.learned) for t in before.turns
        ]


def test_reasoning_goes_back_where_it_came_from():
    said = talk("maze", "Action:\nup", "moved", "Action:\nup")
    said[1]["reasoning_content"] = "I think."
    record = write_rollout(read({"item_id": "maze_1", "conversations": said, "reward": 1.0}))
    assert record["conversations"] == said
    assert (record["item_id"], record["reward"], record["success"]) == ("maze_1", 1.0, 1)


def test_an_empty_reasoning_of_others_is_none():
    said = talk("maze", "Action:\nup")
    said[1]["reasoning_content"] = ""
    assert read({"item_id": "maze_1", "conversations": said}).turns[0].completion.text == "Action:\nup"


thoughts = ["", "a", "Action:\nup", "a\n</think>\n\nb"]
answers = (
    st.sampled_from(["OK.", "Sure", "I'll go up", "I will move up", ACKNOWLEDGEMENT, "", "Action:\nup"])
    | st.sampled_from(
        [f"<think>\n{thought}\n</think>\n\n{rest}" for thought in thoughts for rest in ("", "Action:\nup")]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)


@settings(deadline=None, max_examples=300)
@given(
    prompt=st.sampled_from(["", "Walk."]),
    acknowledgement=st.none() | answers,
    said=st.lists(st.tuples(answers, st.sampled_from(["", "moved"]), st.booleans()), min_size=1, max_size=4),
    score=st.sampled_from([None, 0.0, 1.0]),
)
def test_whatever_is_said_first_a_rollout_comes_back_as_it_went_out(prompt, acknowledgement, said, score):
    made = [Turn(Completion(text), None, observation, 0.0, learned) for text, observation, learned in said]
    out = Trajectory(Task("maze", 1), 0, "me", prompt, "maze", tuple(made), StopReason.DONE, score, None)
    out = replace(out, acknowledgement=acknowledgement)
    for write in (write_rollout, write_record):
        back = read(json.loads(json.dumps(write(out))))
        assert (back.prompt, back.observation) == (prompt, "maze")
        if acknowledgement is not None:
            assert back.acknowledgement == acknowledgement
        assert [(t.completion.text, t.learned) for t in back.turns] == [(text, learned) for text, _, learned in said]
    before = [observation for _, observation, _ in said]
    assert [turn.observation for turn in read(write_rollout(out)).turns] == before


def test_what_was_played_here_is_written_as_agenttraj_expects_it():
    (played,) = collect(EnvPool(), [Task("maze", 3)], ExpertPolicy())
    record = write_record(played)
    conversation = record["conversations"]
    assert record["item_id"] == "maze_3"
    assert [(m["from"], m["loss"]) for m in conversation[:4]] == [
        ("human", None), ("gpt", False), ("human", None), ("gpt", True),
    ]  # fmt: skip
    assert [m["value"] for m in conversation[:3]] == [played.prompt, ACKNOWLEDGEMENT, played.observation]
    assert len(conversation) % 2 == 0
    assert [m["value"] for m in conversation[3::2]] == [turn.completion.text for turn in played.turns]
    back = read(record)
    assert (back.task, back.prompt, back.observation) == (played.task, played.prompt, played.observation)


def test_a_first_answer_that_is_not_learned_from_is_not_taken_for_an_acknowledgement():
    turns = tuple(Turn(Completion("Action:\nup"), "up", "moved", 0.0, learned) for learned in (False, True))
    masked = Trajectory(Task("maze", 1), 0, "me", "", "maze", turns, StopReason.DONE, None, None)
    for write in (write_record, write_rollout):
        back = read(write(masked))
        assert (back.prompt, back.observation) == ("", "maze")
        assert [turn.learned for turn in back.turns] == [False, True]


def test_sources_are_files_folders_and_what_is_neither_is_one_line(tmp_path):
    for name in ("b.json", "a.jsonl", "deep/c.parquet", ".hidden/d.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    names = ["a.jsonl", "b.json", "deep/c.parquet"]
    assert [str(path.relative_to(tmp_path)) for path in find(str(tmp_path))] == names
    assert find(str(tmp_path / "b.json")) == [tmp_path / "b.json"]
    (tmp_path / "empty").mkdir()
    bad = [
        (tmp_path / "empty", "holds no trajectory file"),
        (tmp_path / "none.json", "there is no "),
        ("hf://x", "write hf"),
    ]
    for source, words in [*bad, ("hf://a/b/../c.json", "write hf://OWNER/DATASET")]:
        with pytest.raises(DataError, match=words) as caught:
            find(str(source))
        assert "\n" not in str(caught.value)


def test_of_a_run_folder_its_trajectories_are_the_source(tmp_path):
    for name in ("report.json", "it000/done.json", "wandb/table.json", "trajectories/expert.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert len(find(str(tmp_path))) == 4  # some folder
    (tmp_path / "recipe.yaml").write_text("name: run")
    assert find(str(tmp_path)) == [tmp_path / "trajectories" / "expert.parquet"]


def test_nothing_vanishes_from_a_folder(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for file in (folder / "A.JSON", folder / "b.txt", folder / QUARANTINE, elsewhere / "deep" / "c.Parquet"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[]")
    (folder / "link").symlink_to(elsewhere)
    (elsewhere / "deep" / "loop").symlink_to(folder)
    others = []
    found = [str(path.relative_to(folder)) for path in find(str(folder), others.append)]
    assert found == ["A.JSON", "link/deep/c.Parquet"]
    assert others == [folder / "b.txt"]
    assert find(str(folder / QUARANTINE)) == [folder / QUARANTINE]
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError, match=r"cannot read .*data/link/deep: Permission denied; mend its permissions"):
        find(str(folder))


HUB_FILES = {"maze_train.json": json.dumps([GOOD]).encode(), "deep/b.json": b"[]", "README.md": b"read me"}
COMMIT = "0" * 39 + "1"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as it takes to fetch a data set."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        status, body, headers = 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        if "/resolve/" in path:
            body = HUB_FILES.get(path.split("/resolve/")[1].partition("/")[2], b"")
            if body:
                status, headers = 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        elif path.startswith("/api/datasets/owner/data"):
            files = [{"type": "file", "path": n, "size": len(b), "oid": COMMIT} for n, b in HUB_FILES.items()]
            facts = {"id": "owner/data", "sha": COMMIT, "siblings": [{"rfilename": name} for name in HUB_FILES]}
            status, headers = 200, {"Content-Type": "application/json"}
            body = json.dumps(files if "/tree/" in path else facts).encode()
        elif path.startswith("/api/"):
            headers = {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


FETCH = """
import sys
from agentgym.data.sources import find
from agentgym.errors import DataError
for source in sys.argv[1:]:
    try:
        print(*(path.name for path in find(source)))
    except DataError as error:
        print(error)
"""


def fetch(*sources: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", FETCH, *sources]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_data_sets_of_the_hub_are_fetched_once_and_what_is_not_there_is_one_line(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = {"HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    online = {**home, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
    try:
        whole, one, deep, no_file, no_data = fetch(
            "hf://owner/data",
            "hf://owner/data@main/maze_train.json",
            "hf://owner/data/deep",
            "hf://owner/data/none.json",
            "hf://owner/other",
            **online,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (whole, one, deep) == ("b.json maze_train.json", "maze_train.json", "b.json")
    assert no_file.startswith("cannot fetch hf://owner/data/none.json (")
    assert no_data.startswith("cannot fetch hf://owner/other (")
    again, missing = fetch("hf://owner/data", "hf://owner/new", **home, HF_HUB_OFFLINE="1")
    assert again == whole
    assert missing.startswith("cannot fetch hf://owner/new (")
    assert missing.endswith("or fetch the files yourself and name their folder")
