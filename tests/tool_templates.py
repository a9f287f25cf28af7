"""Small chat templates with tools, of the shapes that families of models have; all written for these tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from test_codec import Family, train
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from agentgym.data.toolcodec import ToolCodec

HERMES = (
    "{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{% if tools %}{{ 'Tools:' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' + m.content }}{% for call in m.tool_calls or [] %}"
    "{% if m.content or not loop.first %}{{ '\n' }}{% endif %}"
    '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ (call.function.arguments | tojson) + '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{% if loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKS = (  # thoughts begin in the prompt, and those before the last message of a user are dropped
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ (tool | tojson) + '\n' }}{% endfor %}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|im_start|>user\n' + (m.content | trim) + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content | trim }}{% for call in m.tool_calls or [] %}"
    "{% if not loop.first %}{{ '\n' }}{% elif m.content | trim %}{{ '\n\n' }}{% endif %}"
    "{{ '<tool_call>\n<function=' + call.function.name + '>\n' }}"
    "{% for name, value in call.function.arguments | items %}{{ '<parameter=' + name + '>\n' }}"
    "{{ value if value is string else value | tojson }}{{ '\n</parameter>\n' }}{% endfor %}"
    "{{ '</function>\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>tool\n' + m.content | trim + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
LLAMA = (  # tools stand in the first message of the user, one call an answer, results as JSON
    "{{ bos_token }}{% set first = namespace(user=tools) %}{% for m in messages %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "{% set call = m.tool_calls[0].function %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{{ '{\"name\": \"' + call.name + '\", \"parameters\": ' + (call.arguments | tojson) + '}<|eot_id|>' }}"
    "{% elif m.role == 'tool' %}"
    "{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' + (m.content | tojson) + '<|eot_id|>' }}"
    "{% else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{% if m.role == 'user' and first.user %}{% set first.user = none %}{{ 'Answer with JSON.\n\n' }}"
    "{% for tool in tools %}{{ tool | tojson(indent=4) + '\n\n' }}{% endfor %}{% endif %}"
    "{{ (m.content | trim) + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (  # tools stand before the last message of the user, calls have ids, and there is no system message
    "{{ bos_token }}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and m == users[-1] %}"
    "{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for call in m.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('an id has nine letters') }}{% endif %}"
    "{{ (call.function | tojson)[:-1] + ', \"id\": \"' + call.id + '\"}' }}"
    "{{ ', ' if not loop.last else ']' + eos_token }}{% endfor %}"
    "{% elif m.role == 'assistant' %}{{ ' ' + (m.content | trim) + eos_token }}"
    "{% elif m.role == 'tool' %}{{ '[TOOL_RESULTS] {\"content\": ' + m.content }}"
    "{{ ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}"
    "{% else %}{{ raise_exception('only user, assistant and tool') }}{% endif %}{% endfor %}"
)
GEMMA = (  # a turn goes on behind results, which name their tool; thoughts have a channel
    "{%- macro shown(value) -%}{%- if value is string -%}{{ '<|\"|>' + value + '<|\"|>' }}"
    "{%- elif value is none -%}null{%- elif value is boolean -%}{{ 'true' if value else 'false' }}"
    "{%- elif value is mapping -%}{{ '{' }}{%- for key, one in value | dictsort -%}"
    "{{ key + ':' + shown(one) }}{{ ',' if not loop.last }}{%- endfor -%}{{ '}' }}"
    "{%- elif value is iterable -%}{{ '[' }}{%- for one in value -%}{{ shown(one) }}{{ ',' if not loop.last }}"
    "{%- endfor -%}{{ ']' }}{%- else -%}{{ value }}{%- endif -%}{%- endmacro -%}"
    "{{ bos_token + '<|turn>system\n' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}"
    "{% for tool in tools or [] %}{{ '<|tool>' + (tool | tojson) + '<tool|>' }}{% endfor %}{{ '<turn|>\n' }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|turn>user\n' + (m.content | trim) + '<turn|>\n' }}"
    "{% elif m.role == 'assistant' %}{% if loop.previtem.role != 'tool' %}{{ '<|turn>model\n' }}{% endif %}"
    "{% if m.tool_calls %}"
    "{% if m.reasoning_content %}{{ '<|channel>thought\n' + m.reasoning_content + '\n<channel|>' }}{% endif %}"
    "{% for call in m.tool_calls %}"
    "{{ '<|tool_call>call:' + call.function.name + shown(call.function.arguments) + '<tool_call|>' }}{% endfor %}"
    "{% if loop.last %}{{ '<|tool_response>' }}{% endif %}"
    "{% else %}{{ (m.content | trim) + '<turn|>\n' }}{% endif %}"
    "{% elif m.role == 'tool' %}"
    "{{ '<|tool_response>response:' + m.name + '{value:' + shown(m.content) + '}<tool_response|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|turn>model\n' }}{% endif %}"
)
HARMONY = (  # calls and answers in words end with tokens of their own; thoughts are a message
    "{{ '<|start|>system<|message|>Today: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ '<|start|>developer<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if tools %}{{ '<|start|>developer<|message|># Tools\n' }}"
    "{% for tool in tools %}{{ 'type ' + tool.function.name + ' = any;\n' }}{% endfor %}{{ '<|end|>' }}{% endif %}"
    "{% set last = namespace(tool='') %}{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
    "{% elif m.tool_calls %}{% set call = m.tool_calls[0].function %}{% set last.tool = call.name %}"
    "{% if m.content or m.thinking %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + (m.content or m.thinking) + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}"
    "{{ (call.arguments | tojson) + '<|call|>' }}"
    "{% elif m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% elif m.role == 'tool' %}{{ '<|start|>functions.' + last.tool }}"
    "{{ ' to=assistant<|channel|>commentary<|message|>' + (m.content | tojson) + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)

_TURNS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
_BRACKETS = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
_GEMMA = ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>")
_GEMMA_TOO = ("<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>", '<|"|>')
_HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>")

_MARK = re.compile(
    r"<\|[^|<>\s]{1,30}\|>|<\|\"\|>|<\|[a-z_]{2,30}>|<[a-z_]{2,30}\|>"
    r"|</?(?:think|tool_call|tool_response|start_of_turn|end_of_turn)>|\[/?[A-Z_]{3,}\]|</?s>"
)
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|return|>", "<turn|>", "<end_of_turn>", "<|end|>", "</s>")

FAMILIES = {
    "hermes": Family(HERMES, _TURNS, "<|im_end|>", ordinary=_CALLS),
    "hermes-sp": Family(HERMES, _TURNS, "<|im_end|>", ordinary=_CALLS, sentencepiece="first"),
    "thinks": Family(THINKS, _TURNS, "<|im_end|>", ordinary=(*_CALLS, "<think>", "</think>")),
    "llama": Family(LLAMA, _HEADERS, "<|eot_id|>", "<|begin_of_text|>"),
    "mistral": Family(MISTRAL, ("<unk>", "<s>", "</s>", *_BRACKETS, "[/TOOL_RESULTS]"), "</s>", "<s>"),
    "mistral-sp": Family(
        MISTRAL, ("<unk>", "<s>", "</s>", *_BRACKETS, "[/TOOL_RESULTS]"), "</s>", "<s>", sentencepiece="first"
    ),
    "gemma": Family(GEMMA, (*_GEMMA, *_GEMMA_TOO), "<eos>", "<bos>"),
    "harmony": Family(HARMONY, ("<|endoftext|>", *_HARMONY), "<|return|>"),
}


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with its template."""
    return tokenizer_for(FAMILIES[name])


def tokenizer_for(family: Family) -> PreTrainedTokenizerFast:
    """A small tokenizer with a template."""
    backend = train(family)
    backend.add_special_tokens([AddedToken(token, special=True) for token in family.special])
    backend.add_tokens([AddedToken(token, normalized=False) for token in family.ordinary])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=family.eos, bos_token=family.bos, chat_template=family.template
    )


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """A small tokenizer for the template of a real model: what looks like a control token in it is one."""
    marks = sorted({*_MARK.findall(template)})
    ordinary = tuple(mark for mark in marks if not mark.startswith("<|"))
    special = ("<unk>", "<bos>", "<eos>", *(mark for mark in marks if mark not in ordinary))
    end = next((mark for mark in _ENDS if mark in marks), "<eos>")
    return tokenizer_for(Family(template, special, end, "<bos>", ordinary=ordinary))


def installed() -> Sequence[Path]:
    """The chat templates of real models, where TRL is installed."""
    found = find_spec("trl")
    folders = list(found.submodule_search_locations or []) if found else []
    paths = [path for folder in folders for path in sorted(Path(folder, "chat_templates").glob("*.jinja"))]
    return [path for path in paths if not path.stem.endswith("_training")]


@cache
def codec_of(name: str) -> ToolCodec:
    """The codec of a family."""
    return ToolCodec(tokenizer_of(name))
