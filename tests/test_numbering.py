"""Whose numbers tasks have: with AgentGym's own servers, nothing that we know of our tasks is said of theirs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from known import DIALECTS

from agentgym.checks import check_recipe, complaints_about
from agentgym.errors import DataError, RecipeError
from agentgym.evaluation import measure
from agentgym.itemids import ORIGINAL, all_renumbered
from agentgym.numbering import VERSION, card_of, plays_original
from agentgym.overlap import overlap_of
from agentgym.panel import make_panel, panel_text
from agentgym.play import _finished, tasks_of
from agentgym.preflight import check_play
from agentgym.settings import EnvironmentSettings, ModelSettings, Recipe
from agentgym.tasks import write_panel
from envpool import Split, Task, get_spec
from envpool.types import Completion, StopReason, Trajectory, Turn

NOWHERE = "http://127.0.0.1:9"


def recipe(name: str, **settings: Any) -> Recipe:
    given = {"endpoints": [NOWHERE], "original": True, **settings}
    return Recipe(name="x", model=ModelSettings(name="random"), environments={name: given})


def played(task: Task, version: str) -> Trajectory:
    turn = Turn(Completion("Action:\nx"), "x", "y", 0.0)
    return Trajectory(task, 0, "me", "", "Goal: craft stick.", (turn,), StopReason.DONE, 1.0, True, version=version)


@pytest.mark.parametrize("name", all_renumbered())
def test_facts_splits_and_versions_of_an_original_server_are_its_own_or_none(name: str) -> None:
    given = recipe(name, explore=20, eval=20)
    check_recipe(given)
    card, own = card_of(given, name), get_spec(name)
    known = DIALECTS[name].tasks
    splits = [set(card.tasks(split)) for split in Split]
    assert sum(map(len, splits)) == len(set.union(*splits))
    assert known is None or set.union(*splits) == set(known)
    assert (card.version in ORIGINAL, card.facts(3), card.task_type, card.expert) == (True, {}, None, None)
    for split in (Split.EXPLORE, Split.EVAL):
        drawn = tasks_of(given, split)
        assert len(drawn) == 20
        assert {task.index for task in drawn} <= set(card.tasks(split))
    ours = replace(given.environments[name], original=False)
    assert card_of(replace(given, environments={name: ours}), name) is own


@pytest.mark.parametrize("name", all_renumbered())
def test_facts_cannot_choose_tasks_of_an_original_server(name: str) -> None:
    fact = next(iter(get_spec(name).facts(0)))
    (complaint,) = complaints_about(recipe(name, eval=2, where={fact: [1]}))
    assert complaint.key == f"environments.{name}.where"
    assert "nothing is known of the original server's tasks" in complaint.text
    assert f"play on `envpool serve {name}`" in complaint.text


@pytest.mark.parametrize("name", ["maze", "babyai"])
def test_environments_with_the_original_numbers_keep_their_facts(name: str) -> None:
    given = recipe(name, eval=2)
    assert not plays_original(given, name)
    assert card_of(given, name) is get_spec(name)


def test_without_endpoints_nothing_is_original() -> None:
    (complaint,) = complaints_about(recipe("textcraft", endpoints=[], eval=2))
    assert complaint.key == "environments.textcraft.original"
    assert "there are no endpoints" in complaint.text


def test_the_experts_of_an_original_environment_play_here_by_our_numbers() -> None:
    given = recipe("textcraft", expert=4)
    assert {task.index for task in tasks_of(given, Split.TRAIN)} <= set(get_spec("textcraft").tasks(Split.TRAIN))


def test_a_report_has_no_rows_by_facts_for_what_an_original_server_played() -> None:
    task = Task("textcraft", get_spec("textcraft").tasks(Split.EVAL)[0])
    given = recipe("textcraft", eval=1)
    specs = {"textcraft": get_spec("textcraft")}
    job: Any = type("Job", (), {"sample": 2})
    episode = _finished(given, job, played(task, "1"))
    assert (episode.version, episode.sample) == (VERSION, 2)
    figures = measure([episode], specs).environments["textcraft"]
    assert (figures.types, figures.task_type, figures.success) == ({}, None, 1.0)
    assert measure([played(task, "1")], specs).environments["textcraft"].types


def test_overlap_says_nothing_of_tasks_that_only_share_a_number() -> None:
    given = recipe("textcraft", expert=5, eval=30)
    data = [played(task, "1") for task in tasks_of(given, Split.EVAL)]
    assert overlap_of(given, data) == []
    theirs = [replace(t, version="agenttraj") for t in data]
    (line,) = overlap_of(given, theirs)
    assert "30 of 30 evaluation tasks are in training" in line


def test_a_list_of_agenteval_as_panel_means_the_original_numbers(tmp_path: Path) -> None:
    plain = tmp_path / "plain.json"
    plain.write_text('[{"item_id": "textcraft_3"}]')
    given = replace(recipe("textcraft", original=False), panel=str(plain))
    assert plays_original(given, "textcraft")
    pinned = tmp_path / "pinned.json"
    pinned.write_text(panel_text(make_panel("pinned", [Task("textcraft", 3)])))
    assert not plays_original(replace(given, panel=str(pinned)), "textcraft")
    (complaint,) = complaints_about(replace(recipe("textcraft"), panel=str(pinned)))
    assert complaint.key == "environments.textcraft.original"
    assert "pins tasks of ours" in complaint.text


def test_tasks_of_an_original_server_cannot_be_pinned_here(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: x\nmodel: {name: random}\nenvironments: {textcraft: "
        f"{{eval: 3, original: true, endpoints: ['{NOWHERE}']}}}}\n"
    )
    with pytest.raises(DataError, match="played on original servers, whose tasks are other ones here"):
        write_panel(str(tmp_path / "r.yaml"), [], tmp_path / "panel.json")
    assert not (tmp_path / "panel.json").exists()


@contextmanager
def server(status: int, body: bytes) -> Any:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "original", "line"),
    [
        (404, b'{"detail":"Not Found"}', False, "is no server of envpool's: its tasks have other numbers"),
        (404, b'{"detail":"Not Found"}', True, None),
        (200, b'{"server": "envpool", "environment": "textcraft"}', True, "is a server of envpool's"),
        (200, b'{"server": "envpool", "environment": "textcraft"}', False, None),
        (401, b"{}", False, None),
        (200, b"[", False, None),
    ],
)
def test_a_server_is_asked_whose_it_is_before_a_run(status: int, body: bytes, original: bool, line: str | None) -> None:
    with server(status, body) as address:
        given = recipe("textcraft", eval=2, original=original, endpoints=[address])
        if line is None:
            check_play(given, Split.EVAL)
            return
        with pytest.raises(RecipeError, match=line) as caught:
            check_play(given, Split.EVAL)
        assert caught.value.complaints[0].startswith("environments.textcraft.original: ")


def test_whose_numbers_are_played_cannot_change_when_a_run_goes_on() -> None:
    from agentgym.recipe import same_run

    first = recipe("textcraft", eval=2)
    second = replace(first, environments={"textcraft": EnvironmentSettings(eval=2, endpoints=[NOWHERE])})
    assert same_run(first, second) == ["environments.textcraft.original"]
