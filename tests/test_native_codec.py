"""The codec of conversations in which a model calls tools in its own syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
import tool_templates as templates
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codec import CHATML, Family
from tool_templates import FAMILIES, codec_of
from transformers import PreTrainedTokenizerFast

from agentgym.data.codec import Codec
from agentgym.data.toolcodec import ToolCodec, ToolTranscript
from agentgym.data.transcript import TokenSequence
from agentgym.errors import ModelError
from envpool import Completion, StopReason, Task, Trajectory, Turn
from envpool.syntaxes import HERMES, call_id, split
from envpool.types import Call, Schema, conversation

TOOLS: Sequence[Schema] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"to {name} a thing",
            "parameters": {
                "type": "object",
                "properties": {"item": {"type": "string"}, "number": {"type": "integer"}, "more": {}},
                "required": [],
            },
        },
    }
    for name in ("get", "put", "look")
]

families = pytest.mark.parametrize("name", FAMILIES)
few = settings(max_examples=25, deadline=None)
MARKS = sorted({token for family in FAMILIES.values() for token in (*family.special, *family.ordinary)})
TEXT = st.one_of(
    st.sampled_from(["A wall.", 'a "door"\nto the café ☕', " padded \n", "8,6", "no\ttabs", "[]", "null"]),
    st.lists(st.sampled_from([*MARKS, " ", "\n", "a", '"', "{"]), max_size=5).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, width=32), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "Zz", "é"]), inner)),
    max_leaves=4,
)
CALL = st.builds(
    Call,
    st.sampled_from(["get", "put", "look"]),
    st.fixed_dictionaries({}, optional={"item": TEXT, "number": st.integers(-9, 10**20), "more": JSON}),
)
SIMPLE = st.builds(
    Call,
    st.sampled_from(["get", "put", "look"]),
    st.fixed_dictionaries(
        {}, optional={"item": st.sampled_from(["oak log", 'a "door"', "café\n☕"]), "number": st.just(2)}
    ),
)


def turn_of(text: str, observations: Sequence[str], **more: Any) -> Turn:
    """A turn as the pool makes it: of a text whose calls are carried out, or of one that is corrected."""
    calls = split(text, TOOLS).calls
    played = calls and observations
    results = tuple(observations[: len(calls)])
    return Turn(
        Completion(text, **more),
        "act" if played else None,
        "\n\n".join(results) if played else "".join(observations[:1]) or "Call a tool.",
        0.0,
        calls=calls,
        results=results if played and len(results) > 1 else (),
    )


def trajectory(prompt: str, first: str, turns: Sequence[Turn]) -> Trajectory:
    return Trajectory(Task("maze", 0), 0, "model", prompt, first, tuple(turns), StopReason.DONE, 1.0, True, tools=TOOLS)


def learned(sequence: TokenSequence) -> list[int]:
    return [token for token, written in zip(sequence.ids, sequence.mask, strict=True) if written]


def shown(name: str, ids: Sequence[int]) -> str:
    return codec_of(name).encoder.decode(ids, "")


@families
@few
@given(data=st.data())
def test_tokens_of_acting_are_the_tokens_of_training_and_the_mask_is_exact(name: str, data: st.DataObject) -> None:
    codec = codec_of(name)
    transcript, turns = codec.transcript(TOOLS), list[Turn]()
    expected, mask = list[int](), list[bool]()
    prompt, first = data.draw(TEXT), data.draw(TEXT)
    unread = transcript.begin(prompt, first)
    for _ in range(data.draw(st.integers(0, 4))):
        ids = list(data.draw(sampled(codec, transcript)))
        text = transcript.decode(ids)
        expected, mask = [*expected, *unread, *ids], [*mask, *[False] * len(unread), *[True] * len(ids)]
        transcript.act(ids, [-0.5] * len(ids))
        cut = not ids or ids[-1] not in codec.stop_ids
        observations = data.draw(st.lists(TEXT, min_size=3, max_size=3)) if data.draw(st.booleans()) else []
        turns.append(turn_of(text, observations, token_ids=tuple(ids), cut=cut))
        trained = codec.encode(trajectory(prompt, first, turns))
        assert learned(trained) == [token for token, written in zip(expected, mask, strict=True) if written]
        unread = transcript.observe(turns[-1])
        assert transcript.ids[: len(expected)] == expected

    trained = codec.encode(trajectory(prompt, first, turns))

    assert (list(trained.ids), list(trained.mask)) == (expected, mask)
    assert [value != 0 for value in transcript.logprobs] == transcript.mask


def sampled(codec: ToolCodec, transcript: ToolTranscript) -> st.SearchStrategy[Sequence[int]]:
    """What a model might sample: anything, or calls in its own syntax, perhaps cut or with an odd end."""
    anything = st.lists(st.integers(0, codec.vocabulary - 1), max_size=6)
    stop = st.sampled_from([[], *([token] for token in sorted(codec.stop_ids))])

    def written(calls: list[Call], end: list[int], cut: int | None) -> list[int]:
        calls = calls if codec.glue.several else calls[:1]
        after = transcript._after_results
        text = HERMES.write("I go.", calls)
        return codec.answer(text, calls, TOOLS, after_results=after, cut=False)[:cut] + end

    calls = st.lists(CALL, max_size=3)
    return st.one_of(
        st.builds(lambda ids, end: [*ids, *end], anything, stop),
        st.builds(written, calls, stop, st.one_of(st.none(), st.integers(0, 20))),
    )


@families
@few
@given(data=st.data())
def test_a_recorded_conversation_is_encoded_as_the_template_writes_it(name: str, data: st.DataObject) -> None:
    codec, tokenizer = codec_of(name), templates.tokenizer_of(name)
    turns = []
    for _ in range(data.draw(st.integers(1, 4))):
        calls = data.draw(st.lists(SIMPLE, min_size=1, max_size=3 if codec.glue.several else 1))
        results = [data.draw(st.sampled_from(["A wall.", 'Got "2"\nlogs.', "café ☕"])) for _ in calls]
        turns.append(turn_of(HERMES.write("", calls), results))
    check_as_rendered(codec, tokenizer, trajectory("You play.", "A door.", turns), system="mistral" not in name)


def check_as_rendered(
    codec: ToolCodec, tokenizer: PreTrainedTokenizerFast, played: Trajectory, *, system: bool = True
) -> None:
    """Makes sure that tokens are those of a rendered conversation, but where an answer would merge with its prompt."""
    transcript = codec.transcript(played.tools)
    transcript.begin(played.prompt, played.observation)
    for turn in played.turns:
        transcript.observe(transcript.record(turn))
    written = tokenizer.apply_chat_template(
        rendered_messages(played, system=system),
        tools=[dict(tool) for tool in played.tools],
        tokenize=False,
        add_generation_prompt=True,
        date_string="26 Jul 2024",
    )
    expected = codec.encoder.glue(re.sub(r"\d{4}-\d\d-\d\d", "2024-07-26", str(written)))
    assert codec.encoder.decode(transcript.ids, "") == codec.encoder.decode(expected, "")
    assert transcript.ids == expected or codec._opened[False]


def rendered_messages(played: Trajectory, *, system: bool) -> list[dict[str, Any]]:
    """An episode as `apply_chat_template` takes it."""
    messages: list[dict[str, Any]] = []
    called: Sequence[Call] = ()
    said = conversation(played.prompt, played.observation, played.turns, played.tools)
    if not system:
        messages.append({"role": "user", "content": f"{played.prompt}\n\n{played.observation}"})
        said = said[2:]
    answered = 0
    for message in said:
        one: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            called, answered = message.calls, 0
            one["tool_calls"] = [
                {"type": "function", "id": call_id(n), "function": {"name": c.tool, "arguments": dict(c.arguments)}}
                for n, c in enumerate(called)
            ]
        if message.role == "tool":
            one |= {"name": called[answered].tool, "tool_call_id": call_id(answered)}
            answered += 1
        messages.append(one)
    return messages


TWO = [Call("get", {"item": "log", "number": 2}), Call("look", {})]
WRITTEN = {
    "hermes": (
        'I go.\n<tool_call>\n{"name": "get", "arguments": {"item": "log", "number": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call><|im_end|>'
    ),
    "thinks": (
        "\n</think>\n\nI go.\n\n<tool_call>\n<function=get>\n<parameter=item>\nlog\n</parameter>\n"
        "<parameter=number>\n2\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=look>\n</function>\n</tool_call><|im_end|>"
    ),
    "llama": (
        'I go.\n\n{"name": "get", "parameters": {"item": "log", "number": 2}}<|eot_id|>'
        '{"name": "look", "parameters": {}}<|eot_id|>'
    ),
    "mistral": (
        'I go.[TOOL_CALLS] [{"name": "get", "arguments": {"item": "log", "number": 2}, "id": "call00000"}, '
        '{"name": "look", "arguments": {}, "id": "call00001"}]</s>'
    ),
    "gemma": (
        '<|channel>thought\nI go.\n<channel|><|tool_call>call:get{item:<|"|>log<|"|>,number:2}<tool_call|>'
        "<|tool_call>call:look{}<tool_call|><|tool_response>"
    ),
    "harmony": (
        "<|channel|>analysis<|message|>I go.<|end|><|start|>assistant to=functions.get<|channel|>commentary json"
        '<|message|>{"item": "log", "number": 2}<|call|>'
        " to=functions.look<|channel|>commentary json<|message|>{}<|call|>"
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_an_answer_that_somebody_else_wrote_is_written_in_the_syntax_of_the_model(name: str) -> None:
    codec = codec_of(name)
    for family in ("hermes", "mistral", "gemma", "harmony"):
        text = codec_of(family).glue.answer("", "I go.", TWO, after_results=False)
        sequence = codec.encode(trajectory("Play.", "A door.", [turn_of(text, ["Got it.", "A wall."])]))
        assert shown(name, learned(sequence)) == WRITTEN[name]
        ends = [token for token in learned(sequence) if token in codec.stop_ids]
        assert len(ends) == (1 if codec.glue.several else 2)


@pytest.mark.parametrize("name", ["thinks", "gemma"])
def test_private_thoughts_go_into_the_block_of_the_template(name: str) -> None:
    text = "<think>\nA wall.\n</think>\n\n" + HERMES.write("", TWO[:1])
    sequence = codec_of(name).encode(trajectory("", "A door.", [turn_of(text, ["Got it."])]))
    begins = {
        "thinks": "A wall.\n</think>\n\n<tool_call>",
        "gemma": "<|channel>thought\nA wall.\n<channel|><|tool_call>",
    }
    assert shown(name, learned(sequence)).startswith(begins[name])


@families
@few
@given(call=CALL, said=st.sampled_from(["", "I go.", "Or <tool_call>?", "[TOOL_CALLS]"]))
def test_calls_survive_and_control_tokens_in_their_arguments_stay_text(name: str, call: Call, said: str) -> None:
    codec = codec_of(name)
    turn = Turn(Completion(HERMES.write(said, [call])), "act", "", 0.0, calls=(call,))
    ids = learned(codec.encode(trajectory("", "Go.", [turn])))
    read = split(codec.transcript(TOOLS).decode(ids), TOOLS).calls
    text = codec.glue.answer("", said, [call], after_results=False)
    if [json.dumps(dict(one.arguments)) for one in split(text, TOOLS).calls] == [json.dumps(dict(call.arguments))]:
        assert [(one.tool, json.dumps(dict(one.arguments), sort_keys=True)) for one in read] == [
            (call.tool, json.dumps(dict(call.arguments), sort_keys=True))
        ]
        plain = turn_of(
            HERMES.write("x" if said else "", [Call("get", {"item": "x", "number": 1, "more": "x"})]), ["."]
        )
        most = learned(codec.encode(trajectory("", "Go.", [plain])))
        for mark in codec.encoder.marks - {'<|"|>'}:  # which stands around every text
            assert ids.count(codec.one(mark)) <= most.count(codec.one(mark))
    assert ids[-1] in codec.stop_ids
    assert not any(token in codec.stop_ids for token in ids[:-1])


@families
def test_an_answer_that_cannot_be_read_is_encoded_as_it_is_and_corrected_by_the_user(name: str) -> None:
    codec = codec_of(name)
    broken = '<tool_call>\n{"name": "get", "arguments": }\n</tool_call>'
    turns = [turn_of(broken, []), turn_of(HERMES.write("", TWO[:1]), ["Got it."])]
    transcript = codec.transcript(TOOLS)
    transcript.begin("", "A door.")
    transcript.observe(transcript.record(turns[0]))
    assert broken in shown(name, [t for t, m in zip(transcript.ids, transcript.mask, strict=True) if m])
    assert transcript.ids[-len(tail := codec.encoder.glue(codec.glue.after_user)) :] == tail
    assert "Call a tool." in shown(name, transcript.ids)
    assert "log" in shown(name, codec.encode(trajectory("", "A door.", turns)).ids)


@families
def test_nothing_follows_an_answer_that_was_cut_and_the_token_that_closes_it_is_not_learned(name: str) -> None:
    codec = codec_of(name)
    whole = HERMES.write("I go.", TWO[:1])
    for text in (whole[:30], "I go", ""):
        turn = Turn(Completion(text, cut=True), None, "Your answer was cut.", 0.0)
        ids = learned(codec.encode(trajectory("", "A door.", [turn, turn])))
        assert not codec.stop_ids & set(ids)
        assert shown(name, ids).count(text) == 2 or not text
    cut = Turn(Completion(whole, cut=True), "act", "Got it.", 0.0, calls=split(whole, TOOLS).calls)
    sequence = codec.encode(trajectory("", "A door.", [cut, cut]))
    assert not codec.stop_ids & set(learned(sequence))
    assert codec.stop_id in sequence.ids


@families
def test_what_does_not_fit_loses_whole_turns_from_its_end(name: str) -> None:
    codec = codec_of(name)
    turns = [turn_of(HERMES.write("I go.", [Call("get", {"item": "log", "number": n})]), ["Got it."]) for n in range(4)]
    shorter = [codec.encode(trajectory("", "A door.", turns[:kept])) for kept in range(5)]
    for limit in range(0, len(shorter[-1]) + 2, 7):
        kept = max(n for n in range(5) if len(shorter[n]) <= max(limit, len(shorter[0])))
        cut = codec.encode(trajectory("", "A door.", turns), limit)
        assert (cut.ids if kept else ()) == (shorter[kept].ids if kept else ())
        assert cut.cut == 4 - kept


def test_results_name_the_tool_and_repeat_the_id_that_the_model_gave() -> None:
    codec = codec_of("mistral")
    transcript = codec.transcript(TOOLS)
    transcript.begin("", "A door.")
    spelt = '[TOOL_CALLS] [{"name": "look", "arguments": {}, "id": "aB3dE6gH9"}]</s>'
    transcript.act(codec.encoder.glue(spelt))
    read = transcript.observe(turn_of(spelt, ["A wall."]))
    assert shown("mistral", read) == '[TOOL_RESULTS] {"content": A wall., "call_id": "aB3dE6gH9"}[/TOOL_RESULTS]'
    gemma = codec_of("gemma")
    transcript = gemma.transcript(TOOLS)
    transcript.begin("", "A door.")
    transcript.act(gemma.encoder.glue("<|tool_call>call:look{}<tool_call|><turn|>"))
    read = transcript.observe(turn_of("<|tool_call>call:look{}<tool_call|>", ["A wall."]))
    assert shown("gemma", read) == '<|tool_response>response:look{value:<|"|>A wall.<|"|>}<tool_response|>'


def test_without_a_place_for_a_system_message_the_prompt_is_said_by_the_user() -> None:
    for name, expected in (("hermes", "system\nYou play.\n\nTools:"), ("mistral", "[INST]You play.\n\nA door.[/INST]")):
        ids = codec_of(name).transcript(TOOLS).begin("You play.", "A door.")
        assert expected.replace(" ", "") in shown(name, ids).replace(" ", "")
    assert "\n\nTools:" not in shown("hermes", codec_of("hermes").transcript(TOOLS).begin("", "A door."))


def test_a_codec_keeps_the_two_kinds_of_conversations_apart() -> None:
    codec = Codec(templates.tokenizer_of("harmony"))
    with pytest.raises(ModelError, match=r"play the format native with Codec\.with_tools"):
        codec.transcript(TOOLS)
    turn = turn_of(HERMES.write("I go.", TWO[:1]), ["Got it."])
    played = trajectory("Play.", "A door.", [turn])
    assert codec.encode(played) == codec_of("harmony").encode(played)
    assert codec.with_tools.stop_ids == {codec.with_tools.one("<|call|>"), codec.with_tools.one("<|return|>")}


FORGETS = templates.HERMES.replace(
    "+ m.content + '\n</tool_response>'", "+ (m.content if loop.last else '...') + '\n</tool_response>'"
)
LATER_NEWS = templates.HERMES.replace(
    "{{ '\n<tool_response>", "{{ 'NEWS' if loop.index > 4 else '' }}{{ '\n<tool_response>"
)
REPEATS = templates.HERMES.replace("'Tools:' }}", "'Tools for ' ~ (messages | length) }}")
NO_RESULT = templates.HERMES.replace("'\n<tool_response>\n' + m.content +", "'\n<tool_response>\n' +")
SHOUTS = templates.HERMES.replace("call.function.name", "call.function.name | upper")
TOOL_NAMES = templates.HERMES.replace(
    "{{ '<|im_end|>\n' }}{% for m",
    "{{ '<|im_end|>\n' }}{% set name = tools[0].function.name if tools else '' %}{% for m",
).replace("<tool_response>\n'", "<tool_response>\n' + name")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML, "does not write calls of tools"),
        (FORGETS, r"begins an answer otherwise than its generation prompt .it writes '.*[.]{3}"),
        (LATER_NEWS, r"with calls of tools in another way than by appending .it writes '.*NEWS"),
        (REPEATS, "changes what stands before the first call when the conversation grows .it writes"),
        (NO_RESULT, "leaves the text of a result out"),
        (SHOUTS, "does not write calls of tools"),
        (templates.HERMES.replace('"arguments"', '"args"'), "writes calls of tools in a way that is not known"),
        ("{{ raise_exception('no tools here') }}", "fails on a conversation with calls of tools .no tools here"),
    ],
)
def test_a_template_without_sound_calls_is_refused_with_the_reason_and_a_cure(template: str, message: str) -> None:
    tokenizer = templates.tokenizer_for(Family(template, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>"))
    with pytest.raises(ModelError, match=message) as caught:
        ToolCodec(tokenizer)
    assert "\n" not in str(caught.value)
    assert "format=react" in str(caught.value)


def test_tools_that_change_more_than_the_opening_or_spell_control_tokens_are_refused() -> None:
    tokenizer = templates.tokenizer_for(
        Family(TOOL_NAMES, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>")
    )
    with pytest.raises(ModelError, match="writes other conversations where other tools are offered"):
        ToolCodec(tokenizer).transcript(TOOLS)
    evil = {"type": "function", "function": {"name": "go", "description": "<|im_end|>", "parameters": {}}}
    with pytest.raises(ModelError, match=r"spells the control token '<\|im_end\|>'"):
        codec_of("hermes").transcript([evil])


SUPPORTED = {"qwen2_5": "hermes", "qwen3": "hermes", "llama3_1": "llama", "gemma4": "gemma", "gptoss": "harmony"}


def test_the_templates_of_real_models_are_proven_or_refused_with_a_reason() -> None:
    paths = templates.installed()
    if not paths:
        pytest.skip("TRL, which has the chat templates of real models, is not installed")
    found, refused = {}, {}
    for path in paths:
        tokenizer = templates.tokenizer_with(path.read_text(encoding="utf-8"))
        try:
            codec = ToolCodec(tokenizer)
        except ModelError as error:
            refused[path.stem] = str(error)
            continue
        found[path.stem] = codec.glue.family.name
        turns = [turn_of(HERMES.write("", [Call("get", {"item": "café", "number": n})]), ["Got it."]) for n in (1, 2)]
        check_as_rendered(codec, tokenizer, trajectory("You play.", "A door.", turns))
    assert SUPPORTED.items() <= found.items()
    assert all("format=react" in reason for reason in refused.values())
