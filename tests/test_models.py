from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from agentgym.codecs import codec_of
from agentgym.data.codec import Codec
from agentgym.data.rendering import Conversation, render
from agentgym.data.template import with_options
from agentgym.errors import ModelError
from agentgym.models import (
    TEMPLATE,
    add_lora,
    build_tiny,
    check_model,
    load_model,
    load_tokenizer,
    merge_lora,
    tokenizer_of,
)
from agentgym.settings import LoraSettings, ModelSettings, TinySettings
from envpool import Completion

torch.set_num_threads(1)
SMALL = TinySettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, vocabulary=360)
TEXTS = [
    "You are at 8,6. The goal is at 12,10. There are 35 walls.",
    "Thought:\nThe goal 12,10 is right of 8,6.\n\nAction:\nmove right",
    "You cannot move right: a wall. Café ☕!",
] * 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "base"
    build_tiny(SMALL, TEXTS, context=256, seed=3, folder=folder)
    return folder


@pytest.fixture
def damaged(base: Path, tmp_path: Path) -> Path:
    """A copy of the model to be damaged."""
    return Path(shutil.copytree(base, tmp_path / "model"))


def pieces(base: Path, text: str) -> list[str]:
    tokenizer = load_tokenizer(str(base))
    return [tokenizer.decode([token]) for token in tokenizer.encode(text, add_special_tokens=False)]


def test_headlines_cells_and_digits_are_tokens_of_their_own(base: Path) -> None:
    assert pieces(base, TEXTS[1]) == [
        "Thought:\n", "The", " goal", " 12,10", " is", " right", " of", " 8,6", ".", "\n\nAction:\n", "move", " right",
    ]  # fmt: skip
    assert pieces(base, "358 walls 350") == ["3", "5", "8", " walls", " 3", "5", "0"]


def test_any_text_survives_the_tokenizer(base: Path) -> None:
    for text in ("日本\x00 ☕\r\n\t end ", "  two  spaces", "<|end|>", "\n\n\nAction:\n\n"):
        tokenizer = load_tokenizer(str(base))
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_transformers_loads_the_folder_with_the_same_ids_and_weights(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    assert tokenizer.convert_tokens_to_ids(["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]) == [0, 1, 2, 3]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.model_max_length) == (0, 1, 256)
    messages = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": TEXTS[1]}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered == f"<|user|>{TEXTS[0]}<|end|><|assistant|>{TEXTS[1]}<|end|>"
    ours = Codec(load_tokenizer(str(base))).transcript()
    ours.observe(TEXTS[0])
    ours.act(Codec(tokenizer).encode_answer(Completion(TEXTS[1])))
    assert ours.ids == tokenizer.apply_chat_template(messages, return_dict=False)
    same = load_model(str(base))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert (same.dtype, same.training) == (torch.float32, False)
    assert load_model(str(base), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_model_has_the_sizes_asked_for(base: Path) -> None:
    config = load_model(str(base)).config
    tokens = len(load_tokenizer(str(base)))
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (32, 2, 48)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (256, True)
    assert (config.eos_token_id, config.pad_token_id) == (1, 0)
    assert tokens <= SMALL.vocabulary
    assert 0 <= config.vocab_size - tokens < 16
    assert config.vocab_size % 16 == 0


@pytest.mark.parametrize(("hidden", "spread"), [(32, 0.04), (192, 0.02)])
def test_narrow_models_start_from_widely_spread_weights(hidden: int, spread: float, tmp_path: Path) -> None:
    settings = TinySettings(hidden=hidden, layers=1, heads=4, kv_heads=2, intermediate=48, vocabulary=260)
    build_tiny(settings, TEXTS, context=64, seed=0, folder=tmp_path / "base")
    weights = load_model(str(tmp_path / "base")).get_input_embeddings().weight[4:]
    assert weights.std().item() == pytest.approx(spread, rel=0.05)


def test_the_same_seed_gives_the_same_files_and_another_seed_other_weights(base: Path, tmp_path: Path) -> None:
    build_tiny(SMALL, iter(TEXTS), context=256, seed=3, folder=tmp_path / "same")
    build_tiny(SMALL, TEXTS, context=256, seed=4, folder=tmp_path / "other")
    names = sorted(path.name for path in base.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "same").iterdir())
    for name in names:
        assert (base / name).read_bytes() == (tmp_path / "same" / name).read_bytes(), name
    different = {name for name in names if (base / name).read_bytes() != (tmp_path / "other" / name).read_bytes()}
    assert different == {"model.safetensors"}


def test_building_leaves_the_global_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_tiny(SMALL, TEXTS, context=64, seed=3, folder=tmp_path / "base")
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_is_built_completely_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield TEXTS[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        build_tiny(SMALL, broken(), context=64, seed=0, folder=tmp_path / "base")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".base.part").mkdir()
    (tmp_path / ".base.part" / "left over.txt").write_text("of a killed run")
    build_tiny(SMALL, TEXTS, context=64, seed=0, folder=tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert not (tmp_path / "base" / "left over.txt").exists()


def test_a_folder_that_holds_something_is_not_overwritten(base: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="is not empty: remove it"):
        build_tiny(SMALL, TEXTS, context=256, seed=4, folder=base)
    assert (base / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 100, "heads": 3, "kv_heads": 3}, "model.tiny.hidden is 100: make it a multiple of twice"),
        ({"heads": 4, "kv_heads": 3}, "model.tiny.heads is 4: make it a multiple of model.tiny.kv_heads"),
        ({"vocabulary": 200}, "model.tiny.vocabulary is 200: bytes and control tokens alone need 260"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        build_tiny(TinySettings(**sizes), TEXTS, context=64, seed=0, folder=tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


def test_adapters_change_nothing_at_first_and_merge_into_the_weights(base: Path, tmp_path: Path) -> None:
    model, ids = load_model(str(base)), torch.tensor([[2, 40, 50, 1, 3]])
    before = model(ids).logits
    adapted = add_lora(model, LoraSettings(rank=2, alpha=4))
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert torch.equal(adapted(ids).logits, before)
    assert len(trained) == 2 * 7 * SMALL.layers
    assert all("lora_" in name for name in trained)
    for weight in trained.values():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    after = adapted(ids).logits
    merged = merge_lora(adapted)
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.allclose(merged(ids).logits, after, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.equal(load_model(str(tmp_path / "merged"))(ids).logits, merged(ids).logits)


def one_line(name: str) -> str:
    """What loading the model says."""
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)
    return str(caught.value)


def test_a_path_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for name in (str(tmp_path / "none"), "./none", "../none", "~/no/such", "runs/none/base", str(tmp_path / "file")):
        assert "there is no model folder" in one_line(name)
        with pytest.raises(ModelError, match="there is no model folder"):
            load_tokenizer(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "holds no config.json: give a folder" in one_line(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds only adapters: merge them" in one_line(str(tmp_path))


def test_pickled_weights_are_not_read(damaged: Path) -> None:
    torch.save(load((damaged / "model.safetensors").read_bytes()), damaged / "pytorch_model.bin")
    (damaged / "model.safetensors").unlink()
    assert "pickled ones can run code" in one_line(str(damaged))
    (damaged / "pytorch_model.bin").unlink()
    assert "has no weights in safetensors" in one_line(str(damaged))


def test_damaged_or_incomplete_weights_are_refused(damaged: Path) -> None:
    whole = (damaged / "model.safetensors").read_bytes()
    weights = load(whole)
    (damaged / "model.safetensors").write_bytes(whole[:2000])
    assert "cannot read the model of" in one_line(str(damaged))
    lost = "model.layers.1.mlp.up_proj.weight"
    rest = {name: weight for name, weight in weights.items() if name != lost}
    save_file(rest, damaged / "model.safetensors", {"format": "pt"})
    assert f"1 weights of {str(damaged)!r} are missing ({lost}, ...)" in one_line(str(damaged))
    other = {name: weight[:8] if name == lost else weight for name, weight in weights.items()}
    save_file(other, damaged / "model.safetensors", {"format": "pt"})
    assert "cannot read the model of" in one_line(str(damaged))


def test_a_damaged_config_or_tokenizer_is_refused(damaged: Path) -> None:
    (damaged / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read the tokenizer of"):
        load_tokenizer(str(damaged))
    (damaged / "config.json").write_text('{"model_type": "no-such-type"}')
    assert "cannot read the model of" in one_line(str(damaged))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", "[]", "cannot read the config of "),
        ("tokenizer_config.json", "[]", "cannot read the tokenizer of "),
        ("config.json", {"num_attention_heads": 3}, "cannot read the config of "),
        ("chat_template.jinja", "{{ 1/0 }}", "fails on user and assistant messages (division by zero)"),
        ("chat_template.jinja", "{{ 1 + messages[0].content }}", "fails on user and assistant messages (unsupported"),
        ("config.json", {"vocab_size": 300}, "tokens, and the model knows 300: save the tokenizer that belongs to it"),
    ],
)
def test_a_damaged_folder_is_one_line_before_it_is_loaded(
    damaged: Path, file: str, content: str | dict[str, int], reason: str
) -> None:
    path = damaged / file
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_text(content)
    with pytest.raises(ModelError) as caught:
        check_model(str(damaged))
    assert reason in str(caught.value)
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "half", "garbled", "no weights at all"])
def test_damaged_weights_are_one_line_before_they_are_loaded(damaged: Path, how: str) -> None:
    path = damaged / "model.safetensors"
    whole = path.read_bytes()
    damage = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "garbled": b"\xff" * len(whole),
        "no weights at all": b"{}",
    }
    path.write_bytes(damage[how])
    with pytest.raises(ModelError, match=r"cannot read the model of .*model\.safetensors is damaged") as caught:
        check_model(str(damaged))
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_not_there_or_an_index_that_is_garbled_is_one_line(damaged: Path) -> None:
    (damaged / "model.safetensors").rename(damaged / "model-00001-of-00002.safetensors")
    index = damaged / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "gone.safetensors"}}))
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        check_model(str(damaged))
    for text in ("", "{", "[]", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(ModelError, match="cannot read the model of"):
            check_model(str(damaged))


def test_what_a_run_made_is_made_again(damaged: Path) -> None:
    (damaged / "model.safetensors").write_bytes(b"")
    (damaged.parent / "done.json").write_text("{}")
    with pytest.raises(ModelError, match=f"delete {damaged.parent} and run the same command again"):
        load_model(str(damaged))


OTHER = "{% if shout %}{{ '<|pad|>' }}{% endif %}" + TEMPLATE


def test_a_template_file_and_its_options_reach_the_codec_and_what_learned_carries_them_along(
    base: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.jinja").write_text(OTHER)
    settings = ModelSettings(name=str(base), template=str(tmp_path / "other.jinja"), template_options={"shout": True})
    first = codec_of(settings, str(base)).transcript().observe("Go.")
    assert first == [0, *Codec(load_tokenizer(str(base))).transcript().observe("Go.")]
    quiet = replace(settings, template_options={"shout": False})
    assert codec_of(quiet, str(base)).transcript().observe("Go.") == first[1:]
    assert codec_of(replace(settings, name="another"), str(base)).transcript().observe("Go.") == first[1:]
    taught = tokenizer_of(settings, str(base))
    taught.save_pretrained(tmp_path / "model")
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    said = [{"role": "user", "content": "Go."}]
    assert again.apply_chat_template(said, add_generation_prompt=True, return_dict=False) == first


def test_a_template_file_that_changed_is_read_again(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.jinja"
    file.write_text(OTHER)
    settings = ModelSettings(name=str(base), template=str(file), template_options={"shout": True})
    first = codec_of(settings, str(base)).transcript().observe("Go.")
    file.write_text(OTHER.replace("<|pad|>", "<|pad|><|pad|>"))
    os.utime(file, ns=(1, 1))
    assert codec_of(settings, str(base)).transcript().observe("Go.") == [0, *first]


def test_an_option_has_the_value_that_was_given() -> None:
    values = [True, None, 3, 1.5, "a 'b' \"c\" \n é ☕ 😀", ["a", {"b": None}], {"k": [1, "x"]}, "{{ x }}"]
    options = {f"thing_{number}": value for number, value in enumerate(values)}
    template = with_options(f"[{', '.join(f'{{{{ {name} | tojson }}}}' for name in options)}]", options, "m")
    said = render(template, {}, [Conversation([{"role": "user", "content": "x"}], True)])[0]
    assert json.loads(said.text) == values


def test_an_option_that_the_template_does_not_know_is_refused(base: Path) -> None:
    settings = ModelSettings(name=str(base), template_options={"mesages": 1})
    with pytest.raises(ModelError, match="knows no option 'mesages'; did you mean 'messages'"):
        check_model(str(base), 64, settings)


def test_a_conversation_must_not_be_longer_than_learned_positions(base: Path, damaged: Path) -> None:
    check_model(str(base), 1000)  # rotary positions go on
    config = GPT2Config(vocab_size=400, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(damaged)
    check_model(str(damaged), 64)
    check_model(str(damaged))
    with pytest.raises(ModelError, match=r"knows 64 positions, not 65: set model\.context=64 or less"):
        check_model(str(damaged), 65)


def test_code_that_comes_with_a_model_is_not_run(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (damaged / "config.json").write_text(json.dumps(config))
    (damaged / "evil.py").write_text(f"open({str(damaged / 'ran')!r}, 'w').write('x')")
    assert "cannot read the model of" in one_line(str(damaged))
    assert not (damaged / "ran").exists()


class Hub(ThreadingHTTPServer):
    """A hub on this machine with one model and the refusals of the real one."""

    model: Path


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        model, _, file = self.path.removeprefix("/api/models").partition("/resolve/")
        file = file.partition("/")[2]  # behind the revision
        path = self.server.model / file
        refusal = None
        if model == "/acme/gated":
            refusal = (403, "GatedRepo")
        elif not model.startswith(("/acme/tiny", "/acme/notes", "/acme/pickled")):
            refusal = (404, "RepoNotFound")
        elif not path.is_file() or model == "/acme/notes" or (model == "/acme/pickled" and path.suffix != ".json"):
            refusal = (404, "EntryNotFound")
        body = b"" if refusal else path.read_bytes()
        self.send_response(refusal[0] if refusal else 200)
        if refusal:
            self.send_header("X-Error-Code", refusal[1])
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{file}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of our own in place of the real one, with an empty cache."""
    constants = huggingface_hub.constants
    with Hub(("127.0.0.1", 0), HubHandler) as server:
        server.model = base
        endpoint = f"http://127.0.0.1:{server.server_port}"
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_model_of_the_hub_is_loaded_by_its_id_and_again_without_the_hub(
    hub: Hub, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_model("acme/tiny")
    tokenizer = load_tokenizer("acme/tiny")
    assert torch.equal(first.get_input_embeddings().weight, load_model(str(base)).get_input_embeddings().weight)
    assert tokenizer.get_vocab() == load_tokenizer(str(base)).get_vocab()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(load_model("acme/tiny").get_input_embeddings().weight, first.get_input_embeddings().weight)


def test_what_the_hub_refuses_is_explained(hub: Hub) -> None:
    assert "neither a folder nor a model on the hub: check the spelling" in one_line("acme/tinny")
    assert "on consent only: agree on its page" in one_line("acme/gated")
    assert "no transformers model" in one_line("acme/notes")
    assert "pickled ones can run code" in one_line("acme/pickled")
    assert "neither a folder nor a hub id" in one_line("two words")


def test_without_the_hub_a_missing_model_is_reported_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "the hub cannot be reached: give a folder" in one_line("acme/tiny")
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_tokenizer("acme/tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.server_close()
    assert "the hub cannot be reached: give a folder" in one_line("acme/tiny")
