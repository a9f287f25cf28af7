"""The cards of the environments that live behind a server only: eleven of AgentGym's (arXiv 2406.04151).

What they can do is in `served_tools.py`, how their servers speak is in `dialects.py`; here is what a model is told and
what a score means. The instructions are ours. The numbers of the tasks are those of the original servers.

Splits. Where the servers number learning tasks and test tasks apart, eval is the latter: ALFWorld's last 200 games,
BIRD's development questions (SQLGym), SearchQA's first 51,713 questions. The former are divided by ``index % 5``: 0 is
train, else explore. Academia and Sheet have 20 tasks, all of them eval. For the others no official list is known here,
and ``index % 5`` decides alone: 0 is train, 4 eval, else explore. So these evals are not AgentEval's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from envpool.calls import Toolbox
from envpool.dialects import DIALECTS
from envpool.envs import served_tools as tools
from envpool.errors import EnvPoolError
from envpool.spec import Alone, Environment, EnvSpec, Tool, Writing
from envpool.types import Split

ALFWORLD = """\
You are in a household and have to do what the first observation asks for, such as putting a clean mug on a desk. \
Things and places have numbers, as in "mug 1" and "desk 2". You see what is on a place only after you have gone there, \
and what is in a closed one only after you have opened it. You can hold one object.

An action is one line. These are the forms: go to <place>; take <object> from <place>; put <object> in/on <place>; \
open <place>; close <place>; use <lamp>; clean <object> with <sink>; heat <object> with <microwave>; \
cool <object> with <fridge>; slice <object> with <knife>; examine <place where you are, or object that you hold>; \
inventory; look. For example: take mug 1 from desk 2.

Every observation ends with the actions that are possible now; take one of them, word for word. "Nothing happens." \
means that the action was not possible."""

SCIWORLD = """\
You are in a small world of rooms where science can be done, and have to carry out the task that the first observation \
describes. Tasks ask for things such as boiling a substance, growing a plant or finding out what conducts electricity.

An action is one line. These are the forms, with things and places named as the observations name them:
{forms}
For example: use thermometer on water. Where a name is not clear you are asked which one you mean; answer with the \
number alone. "No known action matches that input." means that the form or the name is wrong.

The score goes from 0 to 100 and rises as parts of the task are done in their order. Focus only on what the task tells \
you to focus on: focusing on anything else ends the episode with -100."""

WEBSHOP = """\
You shop in a web shop for what the instruction in the first observation describes: a kind of product with certain \
properties and options, below a certain price. Observations show the page as text, its parts separated by [SEP].

There are two forms of action, each on one line:
- search[<keywords>]: searches the shop, from any page.
- click[<label>]: clicks a button, a product code or an option of the page, named as the page shows it.

For example: search[red cotton shirt], then click[b07xyz1234] to open a product, click[red] and click[large] to choose \
its options, and click[buy now]. Other buttons are "next >", "< prev", "back to search", "description", "features" and \
"reviews". Buying ends the episode; \
the score says how well the purchase fits, from 0 to 1."""

WEBARENA = """\
You use a web browser to do what you are asked to. The first line of the first observation is the request. \
Observations list the open tabs and show the page as a tree, one element a line, each with a number in brackets.

An action is one line, in one of these forms:
- click [id], hover [id]: click an element, or move the mouse over it
- type [id] [text] [1]: type into a field and press Enter; [0] at the end does not press it
- press [keys]: press keys, as in press [Ctrl+v]
- scroll [down], scroll [up]
- new_tab, close_tab, tab_focus [index]: open, close and choose tabs
- goto [url], go_back, go_forward: move between pages
- stop [answer]: end the task. Give the answer if the request asks for one; stop [N/A] says that it cannot be done

For example: type [164] [green tea] [1]. The numbers of the elements change with the page: use those of the last \
observation. http://homepage.com lists the sites there are."""

SQLGYM = """\
You answer a question about a database with one SQL query. The first observation describes the tables and their \
columns, and asks the question.

Your action is the query itself, in the dialect of SQLite. For example: SELECT name FROM customer WHERE city = 'Oslo'. \
There is only one try. It is right if the query returns the same rows as the right one, so select just what is asked \
for."""

SEARCHQA = """\
You answer a question and may look things up in Wikipedia first. The first observation asks the question.

An action is one line, in one of these two forms:
- <search>query</search>: shows the passages that fit the query best
- <answer>answer</answer>: gives the answer, in as few words as it takes

For example: <search>capital of Peru</search>, then <answer>Lima</answer>. An answer must match word for word; you are \
told if it is wrong and may try again."""

TOOL_USE = """\
{what} The first observation states the goal. You work with tools, one a turn. An action names a tool and gives its \
arguments as a JSON object, on one line:

NAME with Action Input: {{"argument": value, ...}}

For example: {example}. A tool without arguments is given {{}}. Leave out arguments that you do not need; the \
values true, false and null cannot be read. The tools and their arguments are:
{tools}

{end}"""

FINISH = "As soon as you know the answer or have done what was asked, call finish; it ends the episode."


def _of_tools(environment_tools: Sequence[Tool], what: str, example: str, end: str = FINISH) -> str:
    signatures = Toolbox(environment_tools).signatures.rpartition("\n")[0]  # all but `act`
    return TOOL_USE.format(what=what, example=example, tools=signatures, end=end)


def _forms(environment_tools: Sequence[Tool]) -> str:
    def form(tool: Tool) -> str:
        return re.sub(r"{([a-z]+)(:int)?}", r"<\1>", tool.template)

    return "\n".join(f"- {form(tool)}: {tool.summary}" for tool in environment_tools)


def _refuse(name: str) -> Environment:
    raise EnvPoolError(
        f"{name} runs behind a server only: give its address, as in "
        f"environments.{name}.endpoints=[http://127.0.0.1:36001]"
    )


Tasks = Callable[[range, Split], Sequence[int]]
"""Which of all tasks are in a split."""


def _by_fives(all_tasks: range, split: Split) -> Sequence[int]:
    rest = {Split.TRAIN: (0,), Split.EXPLORE: (1, 2, 3), Split.EVAL: (4,)}[split]
    return tuple(index for index in all_tasks if index % 5 in rest)


def _eval_from(first: int, all_tasks: range, split: Split) -> Sequence[int]:
    return range(first, all_tasks.stop) if split == Split.EVAL else _learn(range(first), split)


def _eval_to(stop: int, all_tasks: range, split: Split) -> Sequence[int]:
    return range(stop) if split == Split.EVAL else _learn(range(stop, all_tasks.stop), split)


def _learn(tasks: range, split: Split) -> Sequence[int]:
    return tuple(index for index in tasks if (index % 5 == 0) == (split == Split.TRAIN))


def _eval_only(all_tasks: range, split: Split) -> Sequence[int]:
    return all_tasks if split == Split.EVAL else ()


ONE_LINE = Writing(lines=False)


def _card(name: str, *, tasks: Tasks = _by_fives, **card: Any) -> EnvSpec:
    all_tasks = DIALECTS[name].tasks
    assert all_tasks is not None

    @cache
    def of_split(split: Split) -> Sequence[int]:
        return tasks(all_tasks, Split(split))

    defaults: Mapping[str, Any] = {"version": "1", "success_above": 0.99, "served": True, "writing": ONE_LINE}
    return EnvSpec(name=name, make=partial(_refuse, name), tasks=of_split, **{**defaults, **card})


_CARDS = (
    _card(
        "academia",
        summary="answer questions about papers and authors from two graphs",
        instructions=_of_tools(
            tools.ACADEMIA,
            "You answer a question about scientific papers and their authors, from two graphs.",
            'paperNodeCheck with Action Input: {"node": "Attention Is All You Need"}',
        ),
        brief="Answer the question about papers.",
        tools=tools.ACADEMIA,
        tasks=_eval_only,
        max_turns=12,
    ),
    _card(
        "alfworld",
        summary="find, carry, clean, heat, cool and place things in a household of text",
        instructions=ALFWORLD,
        brief="Do the task in the household.",
        tools=tools.ALFWORLD,
        writing=Writing(signs="/", lines=False),
        tasks=partial(_eval_from, 2420),
        max_turns=30,
    ),
    _card(
        "movie",
        summary="answer questions about films and people from a film database",
        instructions=_of_tools(
            tools.MOVIE,
            "You answer a question about films and the people who make them, from a film database.",
            'get_search_movie with Action Input: {"movie_name": "Metropolis"}',
        ),
        brief="Answer the question about films.",
        tools=tools.MOVIE,
        max_turns=12,
        deterministic=False,  # the film database is a web service
    ),
    _card(
        "sciworld",
        summary="carry out science tasks of primary school in a world of rooms",
        instructions=SCIWORLD.format(forms=_forms(tools.SCIWORLD)),
        brief="Do the science task.",
        tools=tools.SCIWORLD,
        writing=Writing(signs="(),-", lines=False),
        max_turns=30,
        success_above=99.0,
        score_range=(-100.0, 100.0),
        metric="score",
    ),
    _card(
        "searchqa",
        summary="answer questions with the help of a search in Wikipedia",
        instructions=SEARCHQA,
        brief="Answer the question.",
        tools=tools.SEARCHQA,
        writing=Writing(alone=Alone.TAGS),
        tasks=partial(_eval_to, 51_713),
        max_turns=30,  # as AgentGym-RL evaluates; it trains with 5
    ),
    _card(
        "sheet",
        summary="edit a spreadsheet as asked",
        instructions=_of_tools(
            tools.SHEET,
            "You edit a spreadsheet until it is as the goal asks for.",
            'open_sheet with Action Input: {"name": "Sheet1"}',
            "Open the sheet that the goal names and look at all of it first. Rows and columns count from 1. When the "
            "sheet is as it should be, call finish. Any action in which the word finish occurs ends the episode.",
        ),
        brief="Edit the sheet.",
        tools=tools.SHEET,
        tasks=_eval_only,
        max_turns=15,
        deterministic=False,  # the sheets are in a web service
    ),
    _card(
        "sqlgym",
        summary="answer a question about a database with one SQL query",
        instructions=SQLGYM,
        brief="Write the query.",
        tools=tools.SQLGYM,
        writing=Writing(begins=r"[A-Za-z(]|--|/\*", alone=Alone.FENCE),
        tasks=partial(_eval_from, 9428),
        max_turns=1,
    ),
    _card(
        "todo",
        summary="ask and change a list of things to do",
        instructions=_of_tools(
            tools.TODO,
            "You answer a question about the user's lists of things to do, or change them as asked.",
            'get_tasks with Action Input: {"project_id": "2203"}',
        ),
        brief="Do the task with the to-do lists.",
        tools=tools.TODO,
        max_turns=15,
        deterministic=False,  # the lists are in a web service
    ),
    _card(
        "weather",
        summary="answer questions about the weather of any day and place",
        instructions=_of_tools(
            tools.WEATHER,
            "You answer a question about the weather, past, present or to come.",
            'get_latitude_longitude with Action Input: {"name": "Oslo"}',
        ),
        brief="Answer the question about the weather.",
        tools=tools.WEATHER,
        max_turns=10,
        deterministic=False,  # the weather is from a web service
    ),
    _card(
        "webarena",
        summary="do tasks on real web sites in a browser",
        instructions=WEBARENA,
        brief="Do the task in the browser.",
        tools=tools.WEBARENA,
        writing=Writing(lines=False, alone=Alone.FENCE),
        max_turns=25,
        deterministic=False,  # pages load as fast as they load, and the sites keep what was done to them
    ),
    _card(
        "webshop",
        summary="find and buy a product in a web shop",
        instructions=WEBSHOP,
        brief="Buy what is asked for.",
        tools=tools.WEBSHOP,
        writing=Writing(lines=False, alone=Alone.LINE),
        max_turns=10,
        deterministic=False,  # some prices are drawn anew for every session
    ),
)

SPECS: Mapping[str, EnvSpec] = {spec.name: spec for spec in _CARDS}
"""The cards by name."""
