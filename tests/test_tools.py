"""Tools: what a typed function says, which arguments it takes, how it is carried out."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import Field
from typing_extensions import TypedDict

from envpool import Call, EnvPoolError, MalformedAction, tool
from envpool.calls import Toolbox
from envpool.formats import FunctionCalling
from envpool.tools import tools_of


class Way(enum.Enum):
    UP = "up"
    DOWN = "down"


class Spot(TypedDict):
    row: int
    note: NotRequired[str | None]


@dataclass
class Price:
    amount: float
    currency: Literal["EUR", "NOK"] = "NOK"


class Deep(TypedDict):
    inner: list[Deep]


@tool
def trade(
    item: str,
    count: Annotated[int, "counted from 1"],
    way: Way = Way.DOWN,
    spots: list[Spot] = ...,
    price: Price | None = None,
    limit: Annotated[int, Field(ge=1, description="at least one")] = 5,
    extra: dict[str, bool] = ...,
    sure: bool = True,
    span: tuple[int, str] = ...,
) -> str:
    """buys
    or sells

    This is not told.
    """
    return f"{item} {count} {way} {spots} {price} {limit} {extra} {sure}"


BOX = Toolbox([trade])


def refusal(**arguments: Any) -> str:
    with pytest.raises(MalformedAction) as malformed:
        BOX.text(Call("trade", {"item": "tea", "count": 1, **arguments}))
    assert "\n" not in str(malformed.value)
    return str(malformed.value)


def test_the_schema_is_what_openai_takes_and_needs_no_definitions() -> None:
    schema = trade.schema["function"]
    assert (schema["name"], schema["description"]) == ("trade", "buys or sells")
    assert schema["parameters"]["required"] == ["item", "count"]
    assert schema["parameters"]["properties"] == {
        "item": {"type": "string"},
        "count": {"type": "integer", "description": "counted from 1"},
        "way": {"type": "string", "enum": ["up", "down"], "default": "down"},
        "spots": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"row": {"type": "integer"}, "note": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
                "required": ["row"],
            },
        },
        "price": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "amount": {"type": "number"},
                        "currency": {"type": "string", "enum": ["EUR", "NOK"], "default": "NOK"},
                    },
                    "required": ["amount"],
                },
                {"type": "null"},
            ]
        },
        "limit": {"type": "integer", "minimum": 1, "description": "at least one", "default": 5},
        "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "sure": {"type": "boolean", "default": True},
        "span": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
    }


def test_a_signature_is_shown_in_types_of_python_with_what_is_said_of_its_parameters() -> None:
    assert BOX.signatures.split("\n")[:3] == [
        "- trade(item: str, count: int, way: 'up' | 'down' = 'down', spots: list[{row: int, note?: str | None}] = ..., "
        "price: {amount: float, currency?: 'EUR' | 'NOK'} | None = None, limit: int = 5, extra: dict[str, bool] = ..., "
        "sure: bool = True, span: list[int, str] = ...): buys or sells",
        "  - count: counted from 1",
        "  - limit: at least one",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": "two"}, "The argument 'count' of trade is 'two', not a whole number."),
        ({"count": True}, "The argument 'count' of trade is True, not a whole number."),
        ({"count": 1e999}, "is inf, not a whole number"),
        ({"count": 10**4000}, "is too large a number, not a whole number"),
        ({"price": {"amount": 10**400}}, "'price.amount' of trade has too many digits: give a number of at most 308."),
        ({"item": ["tea"]}, "The argument 'item' of trade is a list, not a text."),
        ({"item": None}, "The argument 'item' of trade is nothing, not a text."),
        ({"item": "\ud800"}, r"holds half a character, '\ud800': write the whole one, or leave it out."),
        ({"way": "upp"}, "The argument 'way' of trade is 'upp', not 'up' or 'down'; did you mean 'up'?"),
        ({"spots": "a"}, "The argument 'spots' of trade is 'a', not a list."),
        ({"spots": [{"row": 1}, {"row": "x"}]}, "The argument 'spots[1].row' of trade is 'x', not a whole number."),
        ({"spots": [{}]}, "The argument 'spots[0]' of trade needs the field 'row'."),
        ({"spots": [{"row": 1, "nte": ""}]}, "'spots[0]' of trade has no field 'nte'; did you mean 'note'?"),
        ({"spots": [{"row": 1, "note": []}]}, "'spots[0].note' of trade is a list, not a text or nothing."),
        ({"price": {"amount": "x"}}, "The argument 'price.amount' of trade is 'x', not a number."),
        ({"price": 3}, "The argument 'price' of trade is 3, not an object or nothing."),
        ({"limit": 0}, "The argument 'limit' of trade is 0: input should be greater than or equal to 1."),
        ({"extra": {"a": "yes"}}, "The argument 'extra.a' of trade is 'yes', not true or false."),
        ({"sure": 1}, "The argument 'sure' of trade is 1, not true or false."),
        ({"span": [1]}, "The argument 'span' of trade is too short."),
        ({"itm": "x"}, "trade has no argument 'itm'; did you mean 'item'?"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_in_words_that_name_it(arguments: dict[str, Any], words: str) -> None:
    said = refusal(**arguments)
    assert words in said
    assert said.endswith(f"Call it as {BOX.signature('trade')}.")


def test_all_troubles_of_a_call_are_told_together() -> None:
    with pytest.raises(MalformedAction) as malformed:
        BOX.checked(Call("trade", {"count": "x", "itm": 1}))
    for words in ("no argument 'itm'", "needs the argument 'item'", "'count' of trade is 'x'"):
        assert words in str(malformed.value)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"count": "7"}, {"count": 7}),
        ({"count": 7.0}, {"count": 7}),
        ({"item": 7}, {"item": "7"}),
        ({"item": 2.5}, {"item": "2.5"}),
        ({"way": " up "}, {"way": "up"}),
        ({"sure": "True"}, {"sure": True}),
        ({"price": {"amount": "2.50"}}, {"price": {"amount": 2.5}}),
        ({"price": {"amount": 10**30}}, {"price": {"amount": 10**30}}),
        ({"spots": [{"row": "1", "note": None}]}, {"spots": [{"row": 1, "note": None}]}),
    ],
)
def test_an_argument_is_read_as_what_it_must_be_meant_to_be(given: dict[str, Any], read: dict[str, Any]) -> None:
    checked = BOX.checked(Call("trade", {"item": "tea", "count": 1, **given}))
    assert repr(checked.arguments) == repr({"item": "tea", "count": 1} | read)


def test_a_union_takes_a_value_as_it_is_before_it_takes_it_as_something_else() -> None:
    @tool
    def tell(value: str | int | list[int] | list[str]) -> None: ...

    box = Toolbox([tell])
    for value in (5, "5", [5], ["5"]):
        assert repr(box.checked(Call("tell", {"value": value})).arguments["value"]) == repr(value)
    assert box.checked(Call("tell", {"value": 5.5})).arguments == {"value": "5.5"}


def test_a_call_is_carried_out_with_defaults_enums_and_objects() -> None:
    arguments = {"item": "tea", "count": "2", "price": {"amount": 3}, "extra": {}, "spots": []}
    done = BOX.run(Call("trade", arguments))
    assert done == "tea 2 Way.DOWN [] Price(amount=3.0, currency='NOK') 5 {} True"
    with pytest.raises(MalformedAction, match="needs the argument 'item'"):
        BOX.run(Call("trade", {}))


def test_an_example_is_there_also_where_stand_ins_are_not_what_the_types_ask_for() -> None:
    @tool
    def pay(amount: Annotated[int, Field(ge=5)], day: date) -> None: ...

    box = Toolbox([pay])
    assert box.example_text == 'pay with Action Input: {"amount": 5, "day": "<day>"}'
    assert box.example_text in FunctionCalling(box).instructions
    with pytest.raises(MalformedAction, match="The argument 'day' of pay is '<day>': input should be a valid date"):
        box.text(box.example)


def test_methods_are_tools_and_calls_are_carried_out_on_their_object() -> None:
    class Shop:
        def __init__(self) -> None:
            self.sold: list[str] = []

        @tool
        def sell(self, item: str, count: int = 1) -> int:
            """sells it"""
            self.sold += [item] * count
            return count

        @tool
        def close(self) -> str:
            return ", ".join(self.sold)

    shop, box = Shop(), Toolbox(tools_of(Shop), calls=True)
    assert box.names == ["sell", "close"]
    assert (box.run(Call("sell", {"item": "tea", "count": "2"}), shop), shop.sell("milk")) == (2, 1)
    assert box.run(Call("close", {}), shop) == "tea, tea, milk"


def test_a_tool_can_still_be_called_as_the_function_that_it_is() -> None:
    assert trade("tea", 1, spots=[], extra={}).startswith("tea 1 Way.DOWN")


def test_a_default_that_is_known_fills_a_text_and_one_that_is_not_is_left_out() -> None:
    @tool("wait {turns} turns")
    def wait(turns: int = 3) -> None: ...

    @tool
    def rest(turns: int = ...) -> None: ...

    box = Toolbox([wait, rest])
    assert box.text(Call("wait", {})) == "wait 3 turns"
    assert box.text(Call("rest", {})) == "rest with Action Input: {}"


def go(x: str) -> None: ...


def go_on(x: str, y: str) -> None: ...


def go_all(*x: str) -> None: ...


def go_untyped(x) -> None: ...  # type: ignore[no-untyped-def]


def go_deep(x: Deep) -> None: ...


def go_call(x: Callable[[], int]) -> None: ...


def go_lost(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def go_list(x: list[str]) -> None: ...


def go_maybe(x: str | None) -> None: ...


def go_default(x: int = "a") -> None: ...  # type: ignore[assignment]


def go_unknown(x: int = ...) -> None: ...


@pytest.mark.parametrize(
    ("function", "text", "words"),
    [
        (lambda x: None, None, "a tool needs a name like that of a Python function"),
        (go, "go {y}", r"names 'y', which is not a parameter .*\(it has: x\)"),
        (go_on, "go {x}{y}", "has nothing between 'x' and 'y': write something there"),
        (go, "go {x:int}", "names 'x:int', which is not a parameter"),
        (go, "go {x} {x}", "names an argument twice"),
        (go, "go {x} {**}", "names an argument twice"),
        (go, "go", "leaves 'x' out: name it, or give no text"),
        (go_all, None, "needs a name of its own"),
        (go_untyped, None, "give 'x' a type, as in 'x: str'"),
        (go_deep, None, "a type that holds itself, Deep: name how deep it goes, or use dict"),
        (go_call, None, "a type that JSON does not have, .*: use str, int, float"),
        (go_lost, None, "a type cannot be found .*Nowhere.*: define it in the module"),
        (go_list, "go {x}", "cannot hold 'x: list.str.': only a text, a number or a truth value"),
        (go_maybe, "go {x}", "cannot hold 'x: str | None'"),
        (go_default, None, "has a default that is not of its type, 'a'"),
        (go_unknown, "go {x}", "needs 'x', whose default is not known: give no text"),
    ],
)
def test_a_tool_that_cannot_work_is_refused_where_it_is_written(
    function: Callable[..., None], text: str | None, words: str
) -> None:
    with pytest.raises(EnvPoolError, match=words) as refused:
        tool(function) if text is None else tool(text)(function)
    assert "\n" not in str(refused.value)


def test_two_tools_of_one_name_are_refused_and_calls_need_tools() -> None:
    @tool("do {x}")
    def act(x: str) -> None: ...

    for tools in ([trade, trade], [act]):
        with pytest.raises(EnvPoolError, match="two tools have the same name"):
            Toolbox(tools)
    with pytest.raises(EnvPoolError, match="an environment that takes calls names its tools"):
        Toolbox([], calls=True)


def test_the_tools_of_the_docs_work() -> None:
    docs = (Path(__file__).parents[1] / "docs" / "environments.md").read_text(encoding="utf-8")
    made: dict[str, Any] = {"__name__": __name__}
    for block in docs.split("\n## Tools\n")[1].split("\n## ")[0].split("```python\n")[1:]:
        exec("from __future__ import annotations\n" + block.split("```")[0], made)
    box = Toolbox([made["get"], made["find"]])
    assert box.text(Call("get", {"number": "2", "item": "oak log"})) == "get 2 oak log"
    assert box.text(Call("find", {"query": "lamp"})) == 'find with Action Input: {"query": "lamp"}'
    assert made["Shop"]().step(Call("buy", {"item": "tea"})).observation == "You bought 1 tea."
