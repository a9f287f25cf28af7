"""The page of a run: what is in it, that nothing in it runs, and how it looks to a browser."""

from __future__ import annotations

import base64
import fcntl
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import cli, curve
from agentgym.data import store
from agentgym.errors import DataError, RunError
from agentgym.evaluation import Explored, Iteration, Learned, Played, Report, html, measure
from agentgym.evaluation.episodes import MOST, before_and_after, choose, evenly, fair_shares, pack
from agentgym.evaluation.html import LIMIT, write_html
from agentgym.evaluation.scoreboard import EvalReport, Player
from agentgym.manner import Manner
from agentgym.recipe import save_recipe
from agentgym.settings import EnvironmentSettings, FormatName, LearningSettings, ModelSettings, Prompt, Recipe
from envpool import Completion, Split, StopReason, Task, Trajectory, Turn, get_spec

NAMES = ("maze", "textcraft", "wordle")
SPECS = {name: get_spec(name) for name in NAMES}
NASTY = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\"><!-- <![CDATA[",
    "$title ${summary} \\u003c &lt;b&gt; ' \" ` {{x}}",
    "\u2028\u2029\x00\ufeff\u202eright to left\U0001f600",
    "one_word_without_any_place_to_break_it_" * 20,
)
WORDS = ["go", "to", "the", "red", "ball", "door", "north", "wall", "chest", "planks", "stick", "craft", "from", "left"]
FACTS: dict[str, Any] = {
    "seconds": {"expert": 0.8, "bc": 72.4, "explore": 194.6, "eval": 61.2, "learn": 301.9, "control": 15.3},
    "versions": {"python": "3.11.2", "torch": "2.13.0", "lightning": "2.6.1"},
    "machine": {"system": "Linux", "architecture": "x86_64", "cores": 2, "accelerators": []},
}


def episode(rng: random.Random, name: str, index: int, *, share: float, policy: str, sample: int = 0) -> Trajectory:
    """An episode as an environment might play it; one in fifty fails, and one in ten says something nasty."""
    solved, failed = rng.random() < share, rng.random() < 0.02
    count = rng.randint(1, 4) if solved else 7
    turns = []
    for number in range(count):
        thought, action, seen = (" ".join(rng.choices(WORDS, k=k)) for k in (14, 3, 25))
        if rng.random() < 0.1:
            seen = f"{seen}\n{rng.choice(NASTY)}"
        if rng.random() < 0.05:
            turns.append(Turn(Completion(f"I think that {thought}"), None, "Answer with 'Action:'.", 0.0))
        else:
            score = 1.0 if solved and number == count - 1 else 0.0
            turns.append(Turn(Completion(f"Thought:\n{thought}.\n\nAction:\n{action}", (1, 2)), action, seen, score))
    end = StopReason.DONE if solved else StopReason.MAX_TURNS
    return Trajectory(
        task=Task(name, index),
        sample=sample,
        policy=policy,
        prompt=f"You are in {name}. {' '.join(WORDS)}. Answer with a thought and an action.",
        observation=f"Goal: {' '.join(rng.choices(WORDS, k=6))}.\nYou see {' '.join(rng.choices(WORDS, k=20))}.",
        turns=tuple(turns),
        stop=StopReason.ERROR if failed else end,
        score=None if failed else float(solved),
        success=None if failed else solved,
        error=f"step: the server answered 500 {rng.choice(NASTY)}" if failed else None,
        version="1.0",
        seconds=0.05 * count + rng.random(),
    )


def descent(folder: Path, steps: int) -> None:
    """Writes a curve as a learning phase does; at one of its steps the gradient was no number."""
    for step in range(1, steps + 1):
        if curve.wanted(step, steps):
            norm = math.nan if step == 100 else 1.5 + math.sin(step)
            curve.add(folder, curve.Point.of(step, 0.3 + 4 / step, norm))


def run(folder: Path, *, tasks: int = 12, tries: int = 20, iterations: int = 2, finished: bool = True) -> Path:
    """Makes the folder of a run of `fit` as it would be, without any model.

    Args:
        folder: where.
        tasks: held-out tasks of each environment.
        tries: episodes explored in each environment and iteration.
        iterations: besides behavioural cloning.
        finished: whether there is a control and a report.
    """
    rng = random.Random(7)
    environments = {name: EnvironmentSettings(expert=8, explore=tries, eval=tasks) for name in NAMES}
    steps = LearningSettings(steps=900)
    recipe = Recipe(name="trial", model=ModelSettings(name="tiny"), environments=environments, bc=steps, learn=steps)
    folder.mkdir(parents=True)
    save_recipe(recipe, folder / "recipe.yaml")

    def played(name: str, indices: Iterable[int], share: float, iteration: int, phase: store.Phase) -> list[Trajectory]:
        made = [episode(rng, env, i, share=share, policy=f"it{iteration:03d}/model") for i in indices for env in NAMES]
        store.write(folder / "trajectories" / f"{name}.parquet", made, iteration=iteration, phase=phase)
        return made

    def measured(name: str, share: float, iteration: int, phase: store.Phase) -> Played:
        return measure(played(name, range(2_000, 2_000 + tasks), share, iteration, phase), SPECS)

    played("expert", range(8), 1.0, 0, store.Phase.EXPERT)
    rows, solved = [], set[Task]()
    for n in range(iterations + 1):
        explored = None
        if n:
            tried = played(f"it{n:03d}-explore-0", range(tries), 0.3 + 0.1 * n, n, store.Phase.EXPLORE)
            kept = [t for t in tried if t.success]
            store.write(folder / "trajectories" / f"it{n:03d}-kept.parquet", kept, iteration=n, phase=store.Phase.KEPT)
            new = {t.task for t in kept} - solved
            solved |= new
            explored = Explored.of(tried, kept=len(kept), newly_solved=len(new))
        learned = Learned(
            steps=900 if n else 400, tokens=450_313 + 999 * n, trajectories=24 + 40 * n, loss=0.4 - 0.05 * n
        )
        (folder / f"it{n:03d}").mkdir()
        descent(folder / f"it{n:03d}", learned.steps)
        if n and finished:
            descent(folder / "control" / f"it{n:03d}", learned.steps)
        done = {"model": "model", "seconds": 1.0, **asdict(learned)}
        (folder / f"it{n:03d}" / "done.json").write_text(json.dumps(done))
        result = measured(f"it{n:03d}-eval", 0.35 + 0.12 * n, n, store.Phase.EVAL)
        rows.append(Iteration(iteration=n, played=result, learned=learned, explored=explored))
    if finished:
        result = measured("control-eval", 0.45, iterations, store.Phase.CONTROL)
        control = Iteration(iteration=iterations, played=result, learned=replace(rows[-1].learned, trajectories=24))
        report = Report(name="trial", seed=0, recipe=asdict(recipe), iterations=rows, control=control, **FACTS)
        report.write(folder)
    return folder


class Chromium:
    """A headless browser, spoken to over a pipe (DevTools protocol: JSON texts that end with a zero byte)."""

    def __init__(self, program: str, profile: Path) -> None:
        (self._reads, answers), (orders, self._writes) = os.pipe(), os.pipe()
        # the browser reads from 3 and writes to 4, which may be in use here
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (orders, answers)]
        as_3_and_4 = (
            "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execvp(sys.argv[3], sys.argv[3:])"
        )
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = ["--headless=new", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}", *sandbox]
        self._process = subprocess.Popen(
            [sys.executable, "-c", as_3_and_4, *map(str, ends), program, *options],
            pass_fds=ends,
            stderr=subprocess.DEVNULL,
        )
        for end in (orders, answers, *ends):
            os.close(end)
        self._rest = b""
        self._count = 0
        self._session = ""
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._count, "method": method, "params": parameters, **session}
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, page: Path, width: int = 1280, height: int = 900, *, dark: bool = False, fragment: str = "") -> None:
        """Loads a page and waits until its episodes are there; `complaints` gets what it says or fetches."""
        self.complaints = []
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=page.as_uri() + fragment)
        ready = (
            "new Promise((done) => { const look = () => document.readyState === 'complete' && "
            "document.documentElement?.dataset.ready ? done(true) : requestAnimationFrame(look); look(); })"
        )
        assert self.value(ready) is True

    def value(self, expression: str) -> Any:
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path: Path) -> None:
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._writes)
        os.close(self._reads)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._reads, 1 << 16)
            assert part, "the browser went away"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(f"fetches {parameters['request']['url']}")
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(parameters))
        return message


CONVERSATION = "document.querySelector('.talk').textContent"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with more episodes than a page shows."""
    return write_html(run(tmp_path_factory.mktemp("runs") / "large", tasks=40, tries=200, iterations=3))


def unpacked(page: Path) -> dict[str, Any]:
    packed = re.search(r'id="episodes-data">([^<]*)</script>', page.read_text())
    assert packed
    return json.loads(zlib.decompress(base64.b64decode(packed[1])))


def data(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">([^<]*)</script>', page.read_text())
    assert found
    return json.loads(found[1])


def test_a_page_is_one_file_that_fetches_nothing_and_lets_only_its_own_script_run(large):
    text = large.read_text()
    assert not re.search(r"""\\b(src|href)=(?!"#|"data:,)""", text.split("<script", 1)[0])
    assert "//cdn" not in text
    assert "@import" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    assert "unsafe" not in policy[1]
    assert text.count("<script") == text.count("</script>") == 3
    assert large.stat().st_size < LIMIT


def test_a_page_says_how_many_episodes_it_shows_and_takes_them_evenly(large):
    shown = data(large)["episodes"]
    assert shown == {"shown": MOST, "total": 3 * (8 + 4 * 40 + 40 + 3 * 200), "cut": 0}
    episodes = unpacked(large)["episodes"]
    assert len(episodes) == MOST
    groups = Counter((e["phase"], e["iteration"], e["environment"]) for e in episodes)
    assert len(groups) == 3 * (1 + 4 + 1 + 3)
    assert {groups["expert", 0, name] for name in NAMES} == {8}
    assert {groups["eval", 2, name] for name in NAMES} == {40}
    explored = [count for (phase, *_), count in groups.items() if phase == "explore"]
    assert max(explored) - min(explored) <= 1
    assert len(unpacked(large)["prompts"]) == len(NAMES)
    assert "token_ids" not in json.dumps(episodes)


def test_kept_episodes_are_shown_once_and_marked(tmp_path):
    folder = run(tmp_path / "run")
    chosen = choose(folder / "trajectories")
    kept = [row for row in chosen.rows if row["kept"]]
    assert chosen.total == len(chosen.rows) == 3 * (8 + 3 * 12 + 12 + 2 * 20)
    assert {row["phase"] for row in kept} == {"explore"}
    assert len(kept) == sum(bool(row["success"]) for row in chosen.rows if row["phase"] == "explore")


@given(st.lists(st.integers(0, 50)), st.integers(0, 200))
def test_shares_are_as_even_as_the_groups_allow(sizes, most):
    shares = fair_shares(sizes, most)
    assert sum(shares) == min(most, sum(sizes))
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert max(cut, default=0) - min(cut, default=0) <= 1
    assert not cut or all(share <= min(cut) + 1 for share in shares)
    for size, share in zip(sizes, shares, strict=True):
        taken = evenly(range(size), share)
        assert len(set(taken)) == share


def test_texts_that_are_too_long_are_cut_with_a_note_before_episodes_are_left_out(tmp_path):
    rng = random.Random(1)
    noise = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=3_000)) for _ in range(40)]
    turns = [(Turn(Completion("Action:\ngo"), "go", text, math.inf),) for text in noise]
    played = [Trajectory(Task("maze", i), 0, "m", "p", "o", t, StopReason.DONE, 1.0, True) for i, t in enumerate(turns)]
    store.write(tmp_path / "a.parquet", played, iteration=0, phase=store.Phase.EVAL)
    rows = choose(tmp_path).rows
    whole, cut, fewer = (pack(rows, room) for room in (200_000, 60_000, 2_000))
    assert (whole.shown, whole.cut) == (40, 0)
    assert (cut.shown, cut.cut) == (40, 1_000)
    first = json.loads(zlib.decompress(base64.b64decode(cut.text)))["episodes"][0]["turns"][0]
    assert first == ["Action:\ngo", "go", f"{noise[0][:1_000]} … [2,000 more characters]", None]
    assert fewer.cut == 120
    assert 0 < fewer.shown < 40
    assert all(len(packed.text) <= room for packed, room in ((whole, 200_000), (cut, 60_000), (fewer, 2_000)))


def test_the_same_folder_makes_the_same_page(tmp_path):
    first, second = (write_html(run(tmp_path / name)).read_bytes() for name in "ab")
    assert first == second


def test_a_run_that_is_not_finished_is_shown_as_far_as_it_came(tmp_path, capsys):
    folder = run(tmp_path / "run", finished=False)
    (folder / "events.jsonl").write_text('{"event": "bc", "at": 1, "seconds": 2.25}\n' * 2)
    assert cli.main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "trial, unfinished" in printed
    assert "AgentEvol after 2 iterations" in printed
    shown = data(folder / "report.html")
    assert shown["unfinished"] is True
    assert shown["control"] is None
    assert shown["seconds"] == {"bc": 4.5}
    whole = json.loads((run(tmp_path / "whole") / "report.json").read_text())
    assert shown["iterations"] == whole["iterations"]


def test_the_command_prints_the_table_of_the_report_and_writes_the_page(tmp_path, capsys):
    folder = run(tmp_path / "run")
    assert cli.main(["report", str(folder)]) == 0
    printed, report = capsys.readouterr().out, json.loads((folder / "report.json").read_text())
    for row in (*report["iterations"], report["control"]):
        assert f"{100 * row['macro']['success']:.1f}" in printed
    assert report["lines"][0] in printed
    assert data(folder / "report.html")["unfinished"] is False


def test_a_folder_with_nothing_to_show_is_told_in_one_line(tmp_path, capsys):
    for name, reason in (
        ("nothing", "is no run folder"),
        ("started", "nothing of it has been measured: go on with the run first"),
        ("evaluation", "the evaluation"),
    ):
        folder = run(tmp_path / name, finished=False)
        shutil.rmtree(folder / "trajectories")
        if name == "nothing":
            (folder / "recipe.yaml").unlink()
        if name == "evaluation":
            (folder / "trajectories").mkdir()
            (folder / "trajectories" / "eval-random-0.journal").write_text("")
        assert cli.main(["report", str(folder)]) == 2
        said = capsys.readouterr().err
        assert reason in said
        assert said.count("\n") == 1
    assert "is not finished and has no report yet: go on with the run first" in said
    for content, reason in (("{", "cannot read"), ("[]", "is no report"), ('{"kind": "eval"}', "is no report")):
        (folder / "report.json").write_text(content)
        with pytest.raises(RunError, match=reason):
            write_html(folder)


def test_more_comparisons_than_a_page_holds_are_cut_with_a_note(chromium, tmp_path):
    folder = run(tmp_path / "run")
    report = json.loads((folder / "report.json").read_text())
    report |= {"comparisons": report["comparisons"] * 1_000, "lines": [f"This is line {n}." for n in range(2_000)]}
    (folder / "report.json").write_text(json.dumps(report))
    page = write_html(folder)
    assert page.stat().st_size < LIMIT
    chromium.open(page)
    assert chromium.value("document.querySelectorAll('#comparisons table').length") == 50
    assert "Showing 50 of 2,000" in chromium.value("document.querySelector('#comparisons').textContent")
    said = chromium.value("[...document.querySelectorAll('.summary p')].map((line) => line.textContent)")
    assert said == [*report["lines"][:50], "1,950 more are in report.md."]


def test_figures_that_no_page_holds_are_told_in_one_line(tmp_path, capsys, monkeypatch):
    folder = run(tmp_path / "run")
    before = (folder / "report.json").read_bytes()
    monkeypatch.setattr(html, "LIMIT", 50_000)
    assert cli.main(["report", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "report.html has no room for so many figures: measure fewer players in one run" in line
    assert (folder / "report.json").read_bytes() == before


def test_a_damaged_trajectory_file_is_named(tmp_path):
    folder = run(tmp_path / "run")
    path = folder / "trajectories" / "expert.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expert\.parquet"):
        write_html(folder)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_a_browser_shows_the_page_without_complaint_or_sideways_scrolling(chromium, large, width, dark):
    chromium.open(large, width, dark=dark)
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value("document.querySelectorAll('#learning svg').length") == 1 + len(NAMES)
    rows = "[...document.querySelector('#{} table').rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
    pairs, kinds = (chromium.value(rows.format(section)) for section in ("comparisons", "types"))
    assert pairs[0] == ["environment", "pairs", "won", "lost", "points", "p", "verdict"]
    assert [row[0] for row in pairs[1:]] == [*NAMES, "all"]
    assert all(row[6] in ("better", "worse", "no evidence") and " to " in row[4] for row in pairs[1:-1])
    assert kinds[0] == ["kind", "tasks", "BC", "control", "iteration 3"]
    assert "Showing 2,000 of " in chromium.value("document.querySelector('#trajectories .note').textContent")
    background = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == dark
    assert chromium.complaints == []


def test_whatever_an_environment_says_is_text(chromium, large):
    chromium.open(large)
    for nasty in NASTY[:3]:
        chromium.value(
            f"(() => {{ const box = document.querySelector('input[type=search]'); box.value = {json.dumps(nasty)};"
            "box.dispatchEvent(new Event('input')); return new Promise((done) => setTimeout(done, 200)); })()"
        )
        assert nasty in chromium.value(CONVERSATION)
        assert chromium.value("document.querySelector('.talk mark').textContent") == nasty
    assert chromium.value("document.title") == "trial · agentgym"
    assert chromium.value("document.querySelectorAll('main img, main script').length") == 0
    assert chromium.complaints == []


def test_the_list_is_walked_with_the_keyboard_and_holds_only_the_rows_in_sight(chromium, large):
    chromium.open(large)
    title = "document.querySelector('.read h3').textContent"
    position = "Number(document.querySelector('.row[aria-selected=true]').getAttribute('aria-posinset'))"
    chromium.value("document.querySelector('.list').focus()")
    chromium.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert chromium.value(position) == 2
    chromium.press("End")
    assert chromium.value(position) == MOST
    assert chromium.value("document.querySelectorAll('.row').length") < 60
    chromium.value("new Promise((done) => setTimeout(done, 400))")
    assert chromium.value("location.hash") == f"#episode-{MOST - 1}"
    last = chromium.value(title)
    chromium.press("Home", "Enter")
    assert chromium.value(title) != last
    assert chromium.value("document.activeElement.className") == "talk"
    chromium.press("Escape")
    assert chromium.value("document.activeElement.className") == "list"
    chromium.press("/")
    assert chromium.value("document.activeElement.type") == "search"


def test_the_list_is_narrowed_by_environment_outcome_phase_and_iteration(chromium, large):
    chromium.open(large)
    episodes = unpacked(large)["episodes"]
    choose_in = (
        "((name, value) => {{ const box = document.querySelector(`[name=${{name}}]`); box.value = value;"
        "box.dispatchEvent(new Event('change')); return document.querySelector('.found span').textContent; }})({}, {})"
    )
    wanted = [e for e in episodes if e["environment"] == "maze"]
    said = chromium.value(choose_in.format("'Environment'", "'maze'"))
    assert said == f"{len(wanted):,} of 2,000 episodes"
    wanted = [e for e in wanted if e["iteration"] == 2]
    assert len({e["phase"] for e in wanted}) == 2
    assert chromium.value(choose_in.format("'Iteration'", "'2'")).startswith(f"{len(wanted)} of ")
    wanted = [e for e in wanted if e["phase"] == "explore"]
    assert chromium.value(choose_in.format("'Phase'", "'explored'")).startswith(f"{len(wanted)} of ")
    wanted = [e for e in wanted if e["score"] is None]
    assert chromium.value(choose_in.format("'Outcome'", "'errored'")).startswith(f"{len(wanted)} of ")
    assert chromium.value("document.querySelector('.read h3').textContent") == wanted[0]["item_id"]
    assert wanted[0]["error"] in chromium.value(CONVERSATION)


def test_a_narrow_screen_shows_the_list_or_the_conversation(chromium, large):
    chromium.open(large, 400, 800)
    visible = "['.pick', '.read'].map((name) => document.querySelector(name).offsetParent !== null)"
    assert chromium.value(visible) == [True, False]
    chromium.value("document.querySelectorAll('.row')[3].click()")
    assert chromium.value(visible) == [False, True]
    chromium.value("document.querySelector('.back').click()")
    assert chromium.value(visible) == [True, False]
    assert chromium.value("document.documentElement.scrollWidth") <= 400


def test_a_link_to_an_episode_opens_it(chromium, large):
    chromium.open(large, fragment="#episode-700")
    shown = chromium.value("document.querySelector('.read h3').textContent")
    assert shown == unpacked(large)["episodes"][700]["item_id"]


def evaluated(folder: Path, names: Iterable[str], shares: dict[str, float], *, tasks: int = 20, tries: int = 1) -> Path:
    """The page of an evaluation: players and the share of tasks that each solves; in SciWorld the others score -40."""
    rng, players = random.Random(3), []
    manner = Manner(Prompt.full, FormatName.react, 8192, 512)
    specs = {name: get_spec(name) for name in names}
    chosen = [task for spec in specs.values() for task in spec.select(Split.EVAL, tasks, seed=0)]
    for name, share in shares.items():
        files, played = [], []
        for sample in range(tries):
            made = [episode(rng, t.environment, t.index, share=share, policy="m", sample=sample) for t in chosen]
            made = [
                replace(t, score=100.0 if t.success else -40.0)
                if t.task.environment == "sciworld" and t.score is not None
                else t
                for t in made
            ]
            file = folder / "trajectories" / f"eval-{len(players)}-{sample}.parquet"
            store.write(file, made, iteration=0, phase=store.Phase.EVAL)
            files.append(file.name)
            played += made
        measured = measure(played, specs)
        players.append(Player(name=name, manner=manner, taught=True, played=measured, trajectories=files))
    EvalReport(name="bench", seed=0, recipe={}, players=players, **FACTS).write(folder)
    return write_html(folder)


def test_the_page_of_an_evaluation_shows_players_kinds_of_tasks_and_several_tries(chromium, tmp_path):
    page = evaluated(tmp_path, NAMES, {"random": 0.1, "runs/a/it003/model": 0.6}, tries=4)
    chromium.open(page)
    assert chromium.value("document.querySelectorAll('#tries svg').length") == len(NAMES)
    assert chromium.value("document.querySelectorAll('#types table').length") == len(NAMES)
    assert chromium.value("document.querySelectorAll('#comparisons tr').length") == len(NAMES) + 2
    macro = json.loads((tmp_path / "report.json").read_text())["players"][1]["macro"]["headline"]
    assert f"{100 * macro:.1f}\xa0%" in chromium.value("document.querySelectorAll('.tile')[1].textContent")
    options = chromium.value("[...document.querySelector('[name=Player]').options].map((o) => o.value)")
    assert options == ["", "random", "runs/a/it003/model"]
    assert chromium.complaints == []
    chromium.open(page, 400)
    assert chromium.value("document.documentElement.scrollWidth") <= 400


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an evaluation of five players, models among them, with an environment of scores below 0."""
    models = {f"runs/agentevol/it{n:03d}/model": 0.3 + 0.1 * n for n in (0, 2, 4)}
    players = {"expert": 0.95, "random": 0.05, **models}
    return evaluated(tmp_path_factory.mktemp("board"), (*NAMES, "sciworld"), players)


def test_the_summary_says_what_was_found_and_folds_how_it_was_measured(chromium, board):
    chromium.open(board)
    shown = chromium.value("[...document.querySelectorAll('.summary > p')].map((line) => line.textContent)")
    *others, last = [*json.loads((board.parent / "report.json").read_text())["players"]]
    assert [line.split(":")[0] for line in shown] == [
        f"{last['player']} against {other['player']}" for other in reversed(others)
    ]
    folded = chromium.value("document.querySelector('.summary details').textContent")
    assert "coverage" in folded
    assert "is measured as it was taught" in folded


def test_bars_and_intervals_below_0_are_left_of_0(chromium, board):
    chromium.open(board)
    report = json.loads((board.parent / "report.json").read_text())
    part = next(player for player in report["players"] if player["player"] == "random")["environments"]["sciworld"]
    low, high = part["headline_interval"]
    assert low < high < 0
    at = chromium.value(
        "(() => { const card = [...document.querySelectorAll('#environments .card')].find((node) => "
        "node.querySelector('h3').textContent.startsWith('sciworld'));const track = card.querySelectorAll('.track')[1];"
        "const place = (name) => { const box = track.querySelector(name).getBoundingClientRect(); "
        "return [box.left, box.right]; }; const all = track.getBoundingClientRect();"
        "return [[all.left, all.right], ...['.origin', '.fill', '.whisker'].map(place)]; })()"
    )
    (left, right), (zero, _), fill, whisker = at
    scale = right - zero  # pixels from 0 to 1
    assert zero - scale * -part["headline"] == pytest.approx(fill[0], abs=1)
    assert fill[1] == pytest.approx(zero, abs=1)
    assert whisker == pytest.approx([zero + scale * low, zero + scale * high], abs=1)
    assert left - 1 <= whisker[0]


def test_long_names_of_players_fold_and_numbers_do_not(chromium, board):
    for width in (1280, 400):
        chromium.open(board, width)
        overflowing, first, folded = chromium.value(
            "[[...document.querySelectorAll('.scroll')].filter((node) => node.scrollWidth > node.clientWidth).length,"
            "Math.max(...[...document.querySelectorAll('#environments td:first-child')].map((td) => td.offsetWidth)),"
            "[...document.querySelectorAll('td:not(:first-child)')].flatMap((cell) => [...cell.childNodes])"
            ".filter((node) => { const range = document.createRange(); range.selectNodeContents(node);"
            "return /\\d/.test(node.textContent) && range.getClientRects().length > 1; }).length]"
        )
        assert folded == 0
        assert overflowing == 0 or width == 400
        assert first < 160 or width == 1280


def test_the_page_rounds_as_the_terminal_does(chromium, large):
    chromium.open(large)
    shares = [k / n for n in (1, 3, 7, 8, 16, 20, 32, 64, 160, 200, 210, 1000) for k in range(-n, n + 1)]
    numbers = [*shares, *(100 * share for share in shares), 0.15, 1.005, 2.5, -0.5, 12.25, 0.0005]
    for digits in (0, 1, 3):
        shown = chromium.value(f"{json.dumps(numbers)}.map((number) => fixed(number, {digits}))")
        assert shown == [f"{number:z.{digits}f}".replace("-", "\N{MINUS SIGN}") for number in numbers]
    assert chromium.value("[pValue(0.0625), pValue(0.0001), points(0.125, 0), points(-0.0625)]") == [
        "p = 0.062", "p <\xa00.001", "+12", "\N{MINUS SIGN}6.2",
    ]  # fmt: skip
    assert chromium.value("[limits([0.05, 0.495]), limits([-0.535, -0.06])]") == [
        "5\N{EN DASH}50", "\N{MINUS SIGN}54 to \N{MINUS SIGN}6",
    ]  # fmt: skip


def test_the_bar_of_wall_time_is_full_however_short_the_run_was(chromium, tmp_path):
    folder = run(tmp_path / "run")
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "seconds": {"eval": 0.2, "bc": 0.1}}))
    chromium.open(write_html(folder))
    parts = chromium.value("[...document.querySelectorAll('.stack > span')].map((part) => part.offsetWidth)")
    assert sum(parts) + 2 == pytest.approx(chromium.value("document.querySelector('.stack').clientWidth"), abs=2)


def test_loss_and_gradient_norm_are_drawn_for_every_phase_and_the_control(chromium, large):
    assert [(p["iteration"], p["control"], p["before"]) for p in data(large)["phases"]] == [
        (0, False, 0), (1, False, 400), (2, False, 1300), (3, False, 2200), (1, True, 400), (2, True, 1300),
        (3, True, 2200),
    ]  # fmt: skip
    for width in (1280, 400):
        chromium.open(large, width)
        assert chromium.value("document.querySelectorAll('#training svg').length") == 2
        assert chromium.value("document.querySelectorAll('#training svg path.curve').length") == 14
        drawn = chromium.value("[...document.querySelectorAll('#training path.curve')].map((p) => p.getAttribute('d'))")
        assert not any("NaN" in d or "Infinity" in d for d in drawn)
        assert chromium.value("document.querySelector('#training .legend').textContent") == "AgentEvolcontrol"
        assert chromium.complaints == []


@pytest.mark.parametrize(
    ("points", "curves"),
    [
        ([(1, 2.0, 1.0)], 0),
        ([(1, math.nan, math.nan), (2, math.nan, math.nan)], 0),
        ([(1, 1e-9, 1e300), (2, 1e9, 1e-300)], 2),
        ([(1, -3.0, 0.0), (2, -4.0, 0.0)], 2),
        ([(1, 0.0, 5.0), (10**9, 0.0, 5.0)], 2),
    ],
)
def test_odd_losses_are_drawn_without_complaint(points, curves, chromium, tmp_path):
    folder = run(tmp_path / "run", iterations=0, finished=False)
    (folder / "it000" / curve.FILE).unlink()
    for point in points:
        curve.add(folder / "it000", curve.Point.of(*point))
    chromium.open(write_html(folder))
    assert chromium.value("document.querySelectorAll('#training path.curve').length") == curves
    assert "NaN" not in chromium.value("document.querySelector('#main').innerHTML")
    assert chromium.complaints == []


def test_the_page_says_of_every_measurement_and_exploration_why_tasks_were_not_solved(chromium, large):
    report = json.loads((large.parent / "report.json").read_text())
    chromium.open(large)
    names = ["BC", "exploration 1", "iteration 1", "exploration 2", "iteration 2", "exploration 3", "iteration 3"]
    labels = chromium.value("[...document.querySelectorAll('#why .bars .label')].map((label) => label.textContent)")
    assert labels == [*names, "control"]
    unsolved = chromium.value("[...document.querySelectorAll('#why .bars .value')].map((value) => value.textContent)")
    ends = report["iterations"][0]["ends"]
    assert unsolved[0] == f"{sum(ends['unsolved'].values()) + sum(ends['errored'].values())}not solved"
    rows = chromium.value(
        "[...document.querySelectorAll('#why table')].map((table) => "
        "[...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim())))"
    )
    answers = report["iterations"][0]["answers"]
    share = f"{100 * answers['without_action'] / answers['given']:.1f}\xa0%"
    assert rows[0][1][:4] == ["BC", f"{answers['given']:,}", share, share]
    assert ["Answer with 'Action:'.", "correction", "BC", f"{answers['without_action']}"] in rows[1]


def test_a_task_is_shown_before_and_after_that_was_solved_only_at_the_end(chromium, large):
    found = data(large)["contrast"]
    before, after = found["episodes"]
    assert (before["success"], after["success"], found["gained"]) == (False, True, True)
    assert (before["item_id"], before["iteration"], after["iteration"]) == (after["item_id"], 0, 3)
    assert len(json.dumps(found)) < 100_000
    for width, beside in ((1280, True), (400, False)):
        chromium.open(large, width)
        boxes = chromium.value(
            "[...document.querySelectorAll('#contrast .story')].map((node) => { const box = "
            "node.getBoundingClientRect(); return [box.left, box.top, box.right]; })"
        )
        assert (boxes[0][1] == boxes[1][1]) is beside
        assert all(0 <= left < right <= width for left, _, right in boxes)
        texts = chromium.value("[...document.querySelectorAll('#contrast .story')].map((node) => node.textContent)")
        assert [text.startswith(before["item_id"]) for text in texts] == [True, True]
        assert "not solved" in texts[0]
        assert after["turns"][0][1] in texts[1]
        assert chromium.value("document.documentElement.scrollWidth") <= width


def played_in(folder: Path, iteration: int, *episodes: Trajectory) -> None:
    store.write(folder / f"it{iteration:03d}-eval.parquet", episodes, iteration=iteration, phase=store.Phase.EVAL)


def test_which_task_is_shown_before_and_after(tmp_path):
    rng = random.Random(2)
    made = [replace(episode(rng, "maze", n, share=0.5, policy="m"), stop=StopReason.DONE, error=None) for n in range(3)]
    solved, failed = ([replace(t, score=float(s), success=s) for t in made] for s in (True, False))
    errored = [replace(t, score=None, success=None, stop=StopReason.ERROR) for t in made]
    assert before_and_after(tmp_path) is None
    played_in(tmp_path, 0, failed[0], solved[1])
    assert before_and_after(tmp_path) is None
    played_in(tmp_path, 2, solved[0], solved[1], solved[2])
    found = before_and_after(tmp_path)
    assert found is not None
    assert ([e["item_id"] for e in found["episodes"]], found["tasks"]) == (["maze_0", "maze_0"], 1)
    played_in(tmp_path, 2, errored[0], solved[1])
    found = before_and_after(tmp_path)
    assert found is not None
    assert (found["episodes"][1]["item_id"], found["gained"]) == ("maze_1", False)
    played_in(tmp_path, 2, errored[0], errored[1])
    assert before_and_after(tmp_path) is None


def test_long_episodes_before_and_after_are_cut_to_a_modest_size(tmp_path):
    turn = Turn(Completion("Action:\ngo " + "x" * 9_000, reasoning="y" * 9_000, cut=True), "go", "z" * 9_000, 0.0)
    rng = random.Random(2)
    whole = replace(episode(rng, "maze", 1, share=1, policy="m"), turns=(turn,) * 100, stop=StopReason.DONE)
    played_in(tmp_path, 0, replace(whole, score=0.0, success=False))
    played_in(tmp_path, 1, replace(whole, score=1.0, success=True))
    found = before_and_after(tmp_path)
    assert found is not None
    assert len(json.dumps(found)) < 80_000
    assert found["left"] == [60, 60]


def test_thoughts_beside_an_answer_and_its_cut_are_shown(chromium, tmp_path):
    folder = run(tmp_path / "run", iterations=0, finished=False)
    thinking = Turn(Completion("", reasoning="Where am I?", cut=True), None, "No action found.", 0.0)
    rng = random.Random(2)
    silent = replace(episode(rng, "maze", 2_000, share=0, policy="m"), turns=(thinking,), stop=StopReason.MAX_TURNS)
    silent = replace(silent, score=0.0, success=False, error=None)
    for path in (folder / "trajectories").iterdir():
        path.unlink()
    played_in(folder / "trajectories", 0, silent)
    chromium.open(write_html(folder))
    said = chromium.value(CONVERSATION)
    assert "Where am I?" in said
    assert "cut at the length limit" in said
    assert "only thoughts" in chromium.value("document.querySelector('#why').textContent")


def test_nothing_in_a_report_becomes_markup(chromium, tmp_path):
    folder = run(tmp_path / "run")
    report = json.loads((folder / "report.json").read_text())
    report |= {"name": NASTY[0], "lines": [NASTY[1], *NASTY[:3]], "machine": {"system": NASTY[0]}}
    (folder / "report.json").write_text(json.dumps(report))
    chromium.open(write_html(folder))
    assert chromium.value("document.querySelector('h1').textContent") == NASTY[0]
    assert chromium.value("document.querySelector('.summary p').textContent") == NASTY[1]
    assert chromium.value("document.title") == f"{NASTY[0]} · agentgym"
    assert chromium.value("document.querySelectorAll('script').length") == 3
    assert chromium.complaints == []
