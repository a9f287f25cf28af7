from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.data import store
from agentgym.data.agenttraj import load_agenttraj, task_of
from agentgym.errors import DataError, RunError
from envpool.formats import REACT
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

DATA = Path(__file__).parents[1].parent / "shared" / "data"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False)
whole = st.integers(-(2**63), 2**63 - 1)


def several(elements):
    return st.none() | st.lists(elements, max_size=4).map(tuple)


completions = st.builds(Completion, texts, several(whole), several(numbers))
turns = st.builds(Turn, completions, st.none() | texts, texts, numbers)
trajectories = st.builds(
    Trajectory,
    task=st.builds(Task, texts, whole),
    sample=whole,
    policy=texts,
    prompt=texts,
    observation=texts,
    turns=st.lists(turns, max_size=4).map(tuple),
    stop=st.sampled_from(StopReason),
    score=st.none() | numbers,
    success=st.none() | st.booleans(),
    error=st.none() | texts,
    version=texts,
    seconds=numbers,
)


def episode(index: int = 0, **changes) -> Trajectory:
    turn = Turn(Completion("Action:\nup", (5, 6, 7), (-0.5, -0.25, 0.0)), "up", "You went up.", 1.0)
    done = Trajectory(Task("maze", index), 0, "model", "Go.", "A maze.", (turn, turn), StopReason.DONE, 1.0, True)
    return replace(done, **changes)


@settings(deadline=None)
@given(several=st.lists(trajectories, max_size=3))
def test_what_is_read_is_what_was_written(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("store") / "some.parquet"
    store.write(path, several, iteration=1, phase="explore")
    assert store.read([path]) == several


def test_order_is_kept_within_and_over_files(tmp_path):
    parts = [[episode(i) for i in random.Random(n).sample(range(100), 30)] for n in range(2)]
    paths = [tmp_path / "b.parquet", tmp_path / "a.parquet"]
    for path, part in zip(paths, parts, strict=True):
        store.write(path, part, iteration=0, phase="eval")
    assert store.read(paths) == parts[0] + parts[1]


def test_the_same_trajectories_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        store.write(tmp_path / name, [episode(i) for i in range(50)], iteration=0, phase="eval")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_frame_says_where_every_episode_came_from(tmp_path):
    failed = episode(3, stop=StopReason.ERROR, score=None, success=None, error="turn 2: it broke", version="2")
    store.write(tmp_path / "a.parquet", [episode(1), failed], iteration=2, phase="explore")
    store.write(tmp_path / "b.parquet", [episode(1)], iteration=2, phase="eval")
    frame = store.scan(tmp_path).collect()
    assert frame.schema == store.SCHEMA
    assert frame.select("item_id", "iteration", "phase", "stop", "score", "error", "version").rows() == [
        ("maze_1", 2, "explore", "done", 1.0, None, ""),
        ("maze_3", 2, "explore", "error", None, "turn 2: it broke", "2"),
        ("maze_1", 2, "eval", "done", 1.0, None, ""),
    ]
    assert frame["turns"].list.len().to_list() == [2, 2, 2]


def test_a_score_that_nobody_knows_is_null_in_the_file(tmp_path):
    turn = Turn(Completion("a"), "a", "", math.nan)
    store.write(tmp_path / "a.parquet", [episode(turns=(turn,))], iteration=0, phase="expert")
    assert store.scan(tmp_path).select(pl.col("turns").list.first().struct.field("score")).collect().item() is None
    assert math.isnan(store.read([tmp_path / "a.parquet"])[0].turns[0].score)


def test_half_a_character_does_not_stop_the_run(tmp_path):
    turn = Turn(Completion("\ud83d\ude00 ok"), "go \udc00", "\ud800\ud800", 0.0)
    store.write(
        tmp_path / "a", [episode(observation="x\ud800", error="\udfff", turns=(turn,))], iteration=0, phase="eval"
    )
    back = store.read([tmp_path / "a"])[0]
    assert (back.observation, back.error) == ("x\ufffd", "\ufffd")
    assert (back.turns[0].completion.text, back.turns[0].action) == ("\U0001f600 ok", "go \ufffd")


def test_an_unknown_phase_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'training' is not a valid Phase"):
        store.write(tmp_path / "a", [episode()], iteration=0, phase="training")
    assert list(tmp_path.iterdir()) == []


def test_folders_whose_names_look_like_patterns_or_columns_change_nothing(tmp_path):
    folder = tmp_path / "iteration=7" / "lr[1e-3]*"
    store.write(folder / "a.parquet", [episode()], iteration=0, phase="eval")
    assert store.read([folder / "a.parquet"]) == [episode()]
    assert store.scan(folder).select("iteration").collect().item() == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    store.write(path, [episode(1)], iteration=0, phase="eval")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*a\.parquet: No space left on device; free some space"):
        store.write(path, [episode(2)], iteration=0, phase="eval")
    assert store.read([path]) == [episode(1)]
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*file/a\.parquet"):
        store.write(tmp_path / "file" / "a.parquet", [episode()], iteration=0, phase="eval")


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        store.read([path])
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_cut_and_every_changed_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.parquet"
    store.write(path, [episode(i) for i in range(3)], iteration=0, phase="eval")
    whole, rng = path.read_bytes(), random.Random(0)
    label = whole.index(store.SEAL.encode())  # with the label gone, the file is one that another program wrote
    for place in rng.sample(range(len(whole)), 300):
        path.write_bytes(whole[:place])
        complaint(path)
        if not label - 2 <= place < label + len(store.SEAL) + 2:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ rng.randrange(1, 256)]) + whole[place + 1 :])
            complaint(path)


def test_files_that_are_missing_or_of_another_kind_are_named(tmp_path):
    assert "No such file" in complaint(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("not at all")
    assert "no Parquet file" in complaint(tmp_path / "text.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    assert "damaged" in complaint(tmp_path / "cut.parquet")
    pl.DataFrame({"index": ["one"], "price": [2.0]}).write_parquet(tmp_path / "other.parquet")
    assert "no trajectory file (missing or mistyped: environment, version, index" in complaint(
        tmp_path / "other.parquet"
    )


def foreign(path: Path, **columns: pl.Expr) -> None:
    """Writes a trajectory file as another program would: no checksum, a column more, some values changed."""
    store.write(path, [episode()], iteration=0, phase="eval")
    pl.read_parquet(path).with_columns(pl.lit("mine").alias("note"), **columns).write_parquet(path)


def test_a_trajectory_file_that_another_program_wrote_is_read(tmp_path):
    foreign(tmp_path / "a.parquet")
    assert store.read([tmp_path / "a.parquet"]) == [episode()]
    assert store.scan(tmp_path).collect().columns == list(store.SCHEMA)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"stop": pl.lit("stopped")}, "'stopped' is not a valid StopReason"),
        ({"prompt": pl.lit(None, pl.String)}, "maze_0 has no prompt"),
        ({"turns": pl.lit([None], pl.List(store.TURN))}, "a turn has no text or no observation"),
    ],
)
def test_an_episode_that_cannot_be_is_named(tmp_path, columns, said):
    foreign(tmp_path / "a.parquet", **columns)
    assert said in complaint(tmp_path / "a.parquet")


def test_damage_that_only_the_decoder_sees_is_named_too(tmp_path):
    path = tmp_path / "a.parquet"
    foreign(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(60) + whole[64:])
    assert "is damaged" in complaint(path)


def test_a_folder_without_trajectories_is_no_run(tmp_path):
    with pytest.raises(DataError, match="holds no trajectory files"):
        store.scan(tmp_path)
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(DataError, match="no Parquet file"):
        store.scan(tmp_path)


def say(*values: str, losses: tuple[bool | None, ...] = ()) -> list[dict[str, object]]:
    """A conversation of AgentTraj: "human" and "gpt" in turn; the first answer is not learned from."""
    losses = losses or tuple(None if i % 2 == 0 else i > 1 for i in range(len(values)))
    speakers = ("human", "gpt")
    return [
        {"from": speakers[i % 2], "value": value, "loss": loss}
        for i, (value, loss) in enumerate(zip(values, losses, strict=True))
    ]


GOOD = {"item_id": "lmrlgym_maze_19", "conversations": say("rules", "fine", "maze", "Action:\nup", "moved", "down?")}


def save(path: Path, *records: object) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_an_agenttraj_record_becomes_a_trajectory(tmp_path):
    (trajectory,), complaints = load_agenttraj(save(tmp_path / "a.json", GOOD))
    assert complaints == []
    assert trajectory.task == Task("maze", 19)
    assert (trajectory.prompt, trajectory.observation) == ("rules", "maze")
    assert [t.completion for t in trajectory.turns] == [Completion("Action:\nup"), Completion("down?")]
    assert [t.action for t in trajectory.turns] == ["up", None]
    assert [t.observation for t in trajectory.turns] == ["moved", ""]
    assert (trajectory.stop, trajectory.score, trajectory.success) == (StopReason.DONE, None, None)
    assert all(math.isnan(turn.score) for turn in trajectory.turns)
    assert (trajectory.policy, trajectory.version) == ("agenttraj", "agenttraj")


def test_a_record_without_acknowledgement_has_no_prompt(tmp_path):
    record = {"item_id": "textcraft_5", "conversations": say("a table", "Action:\nlook", losses=(None, True))}
    (trajectory,), _ = load_agenttraj(save(tmp_path / "a.json", record))
    assert (trajectory.prompt, trajectory.observation, len(trajectory.turns)) == ("", "a table", 1)


def test_records_of_the_same_task_are_its_samples(tmp_path):
    other = {**GOOD, "item_id": "lmrlgym_maze_20"}
    trajectories, _ = load_agenttraj(save(tmp_path / "a.json", GOOD, other, GOOD))
    assert [(t.task.index, t.sample) for t in trajectories] == [(19, 0), (20, 0), (19, 1)]


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
    assert task_of(item_id) == task


@pytest.mark.parametrize(
    "item_id", ["", "textcraft", "textcraft_", "_3", "maze_-1", "maze_1x", "pick_two-Pen-None-308_trial_T2019_174127"]
)
def test_item_ids_without_an_index_are_refused(item_id):
    with pytest.raises(ValueError, match="is not <environment>_<index>"):
        task_of(item_id)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("text", "the record is no object"),
        ({"conversations": []}, "the record has no 'item_id'"),
        ({"item_id": 5}, "'item_id' of the record is of a wrong type"),
        ({"item_id": "maze"}, "item_id 'maze' is not"),
        ({"item_id": "maze_1", "conversations": None}, "the record has no 'conversations'"),
        ({"item_id": "maze_1", "conversations": []}, "holds no turn"),
        ({"item_id": "maze_1", "conversations": say("rules", "fine")}, "holds no turn"),
        ({"item_id": "maze_1", "conversations": say("rules", "fine", "maze")}, "does not end with an answer"),
        ({"item_id": "maze_1", "conversations": ["hello"]}, "message 0 is no object"),
        ({"item_id": "maze_1", "conversations": say("a", "b")[::-1]}, "message 0 is not from 'human'"),
        ({"item_id": "maze_1", "conversations": say("a", "b", losses=(None, None))}, "message 1 has no 'loss'"),
        ({"item_id": "maze_1", "conversations": say("a", "\ud800")}, "message 1 holds half a character"),
        (
            {"item_id": "maze_1", "conversations": say(*"abcdef", losses=(None, False, None, True, None, False))},
            "message 5 has loss false",
        ),
    ],
)
def test_bad_records_are_set_aside_with_their_number_and_reason(tmp_path, record, reason):
    trajectories, complaints = load_agenttraj(save(tmp_path / "some.json", GOOD, record, GOOD))
    assert [t.sample for t in trajectories] == [0, 1]
    assert len(complaints) == 1
    assert complaints[0].startswith("some.json: record 2: ")
    assert reason in complaints[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b'{"item_id": "maze_1"}', "is no list of records"),
        (b"[]", "the list is empty"),
        (b'[{"item_id": "maze_1"}]', "record 1: the record has no 'conversations'"),
    ],
)
def test_a_file_without_any_trajectory_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json") as caught:
        load_agenttraj(tmp_path / "a.json")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_agenttraj_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*a\.json: No such file"):
        load_agenttraj(tmp_path / "a.json")


@pytest.mark.skipif(not DATA.is_dir(), reason="the samples of AgentTraj are not here")
@pytest.mark.parametrize(("name", "records"), [("textcraft", 24), ("babyai", 36), ("lmrlgym_maze", 12)])
def test_the_samples_of_agenttraj_are_read_whole(tmp_path, name, records):
    path = DATA / f"{name}_train_sample.json"
    trajectories, complaints = load_agenttraj(path)
    assert complaints == []
    assert len(trajectories) == records
    for trajectory, record in zip(trajectories, json.loads(path.read_text()), strict=True):
        assert record["item_id"].endswith(trajectory.task.item_id)
        said = [message["value"] for message in record["conversations"]]
        told = [trajectory.prompt, said[1], trajectory.observation]
        for turn in trajectory.turns:
            told += [turn.completion.text, turn.observation]
            assert turn.action == REACT.parse(turn.completion.text).action
        assert told == [*said, ""]
    store.write(tmp_path / "a.parquet", trajectories, iteration=0, phase="expert")
    assert repr(store.read([tmp_path / "a.parquet"])) == repr(trajectories)  # NaN is not equal to itself
