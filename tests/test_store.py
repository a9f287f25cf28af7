from __future__ import annotations

import json
import math
import os
import random
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.data import store
from agentgym.data.atomic import write_atomically, write_gradually
from agentgym.errors import DataError, RunError
from envpool.types import Call, Completion, StopReason, Task, Trajectory, Turn

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False)
whole = st.integers(-(2**63), 2**63 - 1)


def several(elements):
    return st.none() | st.lists(elements, max_size=4).map(tuple)


completions = st.builds(Completion, texts, several(whole), several(numbers))
json_values = st.recursive(
    st.none() | st.booleans() | texts | numbers | whole,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(Call, texts, st.dictionaries(texts, json_values, max_size=2))
turns = st.builds(
    Turn,
    completions,
    st.none() | texts,
    texts,
    numbers,
    st.booleans(),
    numbers,
    numbers,
    st.lists(calls, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.dictionaries(texts, texts | numbers | whole, max_size=2),
)
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
    item=st.none() | texts.map("id {}".format),
    acknowledgement=st.none() | texts,
    tools=st.lists(st.dictionaries(texts, json_values, max_size=2), max_size=2).map(tuple),
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
    back = store.read([path])
    assert back == several
    assert repr(back) == repr(several)  # the times of turns too, which do not count in a comparison


@given(trajectory=trajectories)
def test_a_row_goes_through_json_unchanged(trajectory):
    row = store.to_row(trajectory, iteration=3, phase="eval", weights="f00d", sampling={"top_p": 0.9, "seed": 1})
    back = json.loads(json.dumps(row))
    assert back == row
    assert repr(store.from_row(back)) == repr(trajectory)
    assert (row["iteration"], row["phase"], row["weights"]) == (3, "eval", "f00d")
    assert json.loads(row["sampling"]) == {"top_p": 0.9, "seed": 1}


@settings(deadline=None)
@given(several=st.lists(trajectories, max_size=3))
def test_a_fingerprint_outlives_the_file_and_the_journal(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("store") / "some.parquet"
    store.write(path, several, iteration=1, phase="explore")
    journal = [json.dumps(store.to_row(t, iteration=1, phase="explore")) for t in several]
    assert store.fingerprint(store.read([path])) == store.fingerprint(several)
    assert store.fingerprint(store.from_row(json.loads(line)) for line in journal) == store.fingerprint(several)


def changed(**changes) -> Trajectory:
    """An episode whose second turn is another."""
    first, second = episode().turns
    return episode(turns=(first, replace(second, **changes)))


def test_a_fingerprint_sees_every_change_but_those_of_time():
    same = [episode(seconds=7.0), changed(policy_seconds=1.0, environment_seconds=2.0)]
    assert len({store.fingerprint([t]) for t in [episode(), *same]}) == 1
    others = [
        *(episode(**change) for change in ({"sample": 1}, {"prompt": "Stay."}, {"success": False}, {"score": 0.5})),
        *(episode(**change) for change in ({"item": "the third"}, {"acknowledgement": "OK"}, {"policy": "me"})),
        *(changed(**change) for change in ({"learned": False}, {"action": None}, {"observation": "?"}, {"score": 2.0})),
        episode(tools=({"type": "function"},)),
        *(changed(**change) for change in ({"calls": (Call("up", {}),)}, {"results": ("a", "b")}, {"info": {"a": 1}})),
        changed(completion=Completion("Action:\nup", (5, 6, 8), (-0.5, -0.25, 0.0))),
        changed(completion=Completion("Action:\nup", (5, 6, 7), (-0.5, -0.25, -0.1))),
    ]
    assert len({store.fingerprint([t]) for t in [episode(), *others]}) == len(others) + 1
    assert store.fingerprint([episode(1), episode(2)]) != store.fingerprint([episode(2), episode(1)])


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
    assert frame.schema == store.schema()
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


WRITER = """
import sys
from pathlib import Path
from agentgym.data import store
from envpool.types import Call, Completion, StopReason, Task, Trajectory, Turn

folder, writer = Path(sys.argv[1]), int(sys.argv[2])
turn = Turn(Completion("up"), "up", "", 1.0)
print("ready", flush=True)
sys.stdin.readline()
for part in range(20):
    tasks = [Task("maze", 100 * part + i) for i in range(5)]
    played = [Trajectory(t, 0, f"writer {writer}", "", "", (turn,), StopReason.DONE, 1.0, True) for t in tasks]
    store.append(folder, played, iteration=part, phase="explore")
"""


def test_many_processes_write_into_one_folder_at_once(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert len(list(tmp_path.iterdir())) == 4 * 20  # and nothing half written beside them
    played = store.scan(tmp_path).group_by("policy").agg(pl.col("index").n_unique()).collect()
    assert sorted(played.rows()) == [(f"writer {n}", 100) for n in range(4)]


def test_appending_never_changes_what_is_there(tmp_path):
    first = store.append(tmp_path, [episode(1)], iteration=0, phase="eval")
    before = first.read_bytes()
    store.append(tmp_path, [episode(2)], iteration=0, phase="eval")
    assert first.read_bytes() == before
    assert store.read(store.files(tmp_path)) == [episode(1), episode(2)]


def test_two_machines_that_write_in_the_same_nanosecond_give_two_names(tmp_path, monkeypatch):
    monkeypatch.setattr(store.time, "time_ns", lambda: 1)
    for index in range(20):
        store.append(tmp_path, [episode(index)], iteration=0, phase="eval")
    assert len(store.read(store.files(tmp_path))) == 20


def spoil(path: Path) -> None:
    """Makes nonsense of a file's data and leaves its footer."""
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:end] = random.Random(0).randbytes(end - 4)
    path.write_bytes(content)


def test_a_scan_reads_only_the_files_and_columns_that_a_question_needs(tmp_path):
    for iteration in range(3):
        store.append(tmp_path, [episode(i) for i in range(10)], iteration=iteration, phase="explore")
    for path in (store.files(tmp_path)[0], store.files(tmp_path)[2]):
        spoil(path)
    question = store.scan(tmp_path).filter(pl.col("iteration") == 1).select("item_id", "score")
    assert "SELECTION" in question.explain()
    assert "PROJECT 3/20 COLUMNS" in question.explain()
    assert question.collect().height == 10
    with pytest.raises(DataError, match="its checksum is another"):
        store.read(store.files(tmp_path))


def test_a_run_folder_is_its_trajectories(tmp_path):
    store.write(tmp_path / "run" / "trajectories" / "a.parquet", [episode()], iteration=0, phase="eval")
    assert store.files(tmp_path / "run") == [tmp_path / "run" / "trajectories" / "a.parquet"]
    assert store.scan(tmp_path / "run").collect().height == 1


def test_places_may_be_given_as_text(tmp_path):
    folder = str(tmp_path / "store")
    path = store.append(folder, [episode(1)], iteration=0, phase="eval")
    assert store.files(folder) == [path]
    for where in (folder, str(path), [str(path)]):
        assert store.scan(where).collect().height == 1
    assert store.read([str(path)]) == [episode(1)]
    assert next(store.episodes(str(path)))[1] == episode(1)
    assert str(store.name_in(folder)).startswith(folder)
    store.write(f"{folder}/b.parquet", [episode(2)], iteration=0, phase="eval")
    store.write_rows(f"{folder}/c.parquet", list(store.rows(f"{folder}/b.parquet")))
    store.write_atomically(f"{folder}/d", b"whole")
    assert store.scan(folder).collect().height == 3


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    store.write(path, [episode(1)], iteration=0, phase="eval")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*a\.parquet: No space left on device; free some space"):
        store.write(path, [episode(2)], iteration=0, phase="eval")
    assert store.read([path]) == [episode(1)]
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]


def test_a_file_is_in_its_place_even_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_what_fails_beside_the_writing_is_not_called_a_failure_to_write(tmp_path):
    def reader_goes_away() -> None:
        with write_gradually(tmp_path / "a") as write:
            write(b"half")
            raise BrokenPipeError(32, "Broken pipe")

    def file_goes_away() -> None:
        with write_gradually(tmp_path / "a") as write:
            write(b"whole")
            next(tmp_path.iterdir()).unlink()

    with pytest.raises(BrokenPipeError):
        reader_goes_away()
    with pytest.raises(RunError, match=r"cannot write .*a: No such file"):
        file_goes_away()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_replaces_none(tmp_path, monkeypatch, links):
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    write_atomically(tmp_path / "a", b"first", new=True)
    with pytest.raises(RunError, match="a is there already: name another file"):
        write_atomically(tmp_path / "a", b"second", new=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


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
    assert store.scan(tmp_path).collect().columns == list(store.schema())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"stop": pl.lit("stopped")}, "'stopped' is not a valid StopReason"),
        ({"phase": pl.lit("training")}, "'training' is not a valid Phase"),
        ({"prompt": pl.lit(None, pl.String)}, "maze_0 has no prompt"),
        ({"turns": pl.lit([None], store.schema()["turns"])}, "a turn has no text or no observation"),
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


WITHOUT = """
import sys
for name in ("polars", "wandb"):
    sys.modules[name] = None  # importing it raises ImportError
import importlib
import agentgym, agentgym.cli
for room in ("data.codec", "data.packing", "data.datamodule", "data.store", "modules", "generation", "play", "learn"):
    importlib.import_module(f"agentgym.{room}")
from pathlib import Path
from agentgym.data import store
from agentgym.errors import DataError
for use in (lambda: store.read([Path(sys.argv[1])]), lambda: store.scan(Path(sys.argv[1])),
            lambda: store.write(Path(sys.argv[1]), [], iteration=0, phase="eval")):
    try:
        use()
    except DataError as error:
        print(error)
"""


def test_everything_but_trajectory_files_works_without_polars_and_wandb(tmp_path):
    store.write(tmp_path / "a.parquet", [episode()], iteration=0, phase="eval")
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "a.parquet")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == ["trajectory files need polars, which is not installed: pip install polars"] * 3


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("turn", "calls", [{"tool": "act", "arguments": "[1]"}]),
        ("turn", "calls", [{"tool": "act", "arguments": None}]),
        ("turn", "calls", [{"tool": "act", "arguments": "[" * 5000}]),
        ("turn", "calls", [{"tool": None, "arguments": "{}"}]),
        ("turn", "info", "[1]"),
        ("turn", "results", [None]),
        ("row", "tools", "[" * 5000),
        ("row", "tools", '["act"]'),
    ],
)
def test_calls_of_another_program_that_are_none_are_refused_in_one_line(tmp_path, where, name, value):
    turn = Turn(Completion("act"), "act", "done", 1.0)
    played = Trajectory(Task("maze", 1), 0, "p", "", "o", (turn,), StopReason.DONE, 1.0, True)
    row = store.to_row(played, iteration=0, phase="explore")
    (row["turns"][0] if where == "turn" else row)[name] = value
    store.write_rows(tmp_path / "odd.parquet", [row])
    with pytest.raises(DataError, match="holds an episode that cannot be"):
        store.read([tmp_path / "odd.parquet"])
