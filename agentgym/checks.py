"""What can be wrong with a recipe whose keys and types are right.

Every function yields complaints; nothing here imports torch or a user's module.
"""

from __future__ import annotations

import dataclasses
import itertools
import keyword
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from omegaconf import OmegaConf

from agentgym.environmentchecks import complaints_about_environments, complaints_about_imports, complaints_about_panel
from agentgym.errors import Complaint, RecipeError
from agentgym.modelserver import complaints_about as complaints_about_endpoint
from agentgym.modulefinder import wrong_with_class
from agentgym.ranges import out_of_range
from agentgym.settings import (
    GenerationSettings,
    ModelSettings,
    Prompt,
    Recipe,
    StrategyName,
    TrainerSettings,
)
from agentgym.values import hints_of
from envpool.errors import did_you_mean

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
FSDP_PRECISIONS = ("32-true", "bf16-mixed")
PLAYERS = ("expert", "random")
"""Names of players that need no model; they can be measured and can collect, but not learn."""

RESERVED = ("tiny", *PLAYERS)
"""Names of models and players that stand for no folder."""

DATA_SUFFIXES = (".json", ".jsonl", ".parquet")
"""What the name of a trajectory file ends with."""


def complaints_about(recipe: Recipe, wrong: Collection[str] = ()) -> list[Complaint]:
    """Returns all that is wrong with a recipe, whatever it is used for; one complaint a setting, and no consequences.

    Args:
        recipe: the recipe.
        wrong: keys of settings that are known to be wrong.
    """
    known, found = set(wrong), []
    for complaint in _all(recipe):
        if not any(_echoes(key, known) for key in (complaint.key, *complaint.causes)):
            found.append(complaint)
            known.add(complaint.key)
    return found


def _echoes(key: str, wrong: Collection[str]) -> bool:
    """Whether a complaint about `key` would only echo one about it or about a key right in it."""
    return bool(key) and (key in wrong or (key in hints_of(Recipe) and any(w.startswith(f"{key}.") for w in wrong)))


def _all(recipe: Recipe) -> list[Complaint]:
    return [
        *itertools.starmap(Complaint, out_of_range(recipe)),
        *_run(recipe),
        *_model(recipe.model, recipe.generation),
        *_endpoint(recipe.model),
        *_template(recipe.model),
        *_learner(recipe.module),
        *complaints_about_imports(recipe.imports),
        *complaints_about_environments(recipe),
        *complaints_about_panel(recipe),
        *_data(recipe.data, recipe.prompt),
        *_learning(recipe),
        *_players(recipe),
        *_trainer(recipe.trainer),
    ]


def check_recipe(recipe: Recipe) -> None:
    """Checks a recipe that was made in Python; `load_recipe` does it for files.

    Raises:
        RecipeError: with all complaints.
    """
    missing = sorted(OmegaConf.missing_keys(OmegaConf.structured(recipe)))
    complaints = [Complaint(key, "missing: give it a value") for key in missing]
    refuse([*complaints, *complaints_about(recipe, missing)])


def is_local(recipe: Recipe, player: str) -> bool:
    """Whether a player is a model in this process, and not one behind a server."""
    return player not in PLAYERS and (recipe.model.endpoint is None or player != recipe.model.name)


def learns(recipe: Recipe) -> bool:
    """Whether there is anything that the recipe could learn from."""
    return bool(recipe.data) or any(e.expert for e in recipe.environments.values())


def refuse(complaints: Iterable[Complaint]) -> None:
    """Raises all complaints, if there are any.

    Raises:
        RecipeError: with a line for each.
    """
    lines = [f"{c.key}: {c.text}" if c.key else c.text for c in complaints]
    if lines:
        raise RecipeError(lines)


def _run(recipe: Recipe) -> Iterator[Complaint]:
    if not re.fullmatch(r"\w[\w.-]*", recipe.name):
        yield Complaint("name", f"{recipe.name!r} cannot name a folder: use letters, digits, '-', '_' and '.'")
    if not recipe.output or not recipe.output.isprintable():
        yield Complaint("output", f"{recipe.output!r} cannot be a folder: name another one")
    elif Path(recipe.output).is_file():
        yield Complaint("output", f"{recipe.output!r} is a file: name a folder")


def _model(model: ModelSettings, generation: GenerationSettings) -> Iterator[Complaint]:
    tiny = model.tiny
    looks_like_path = model.name.startswith((".", "/", "~")) or model.name.count("/") > 1 or "\\" in model.name
    if model.name in RESERVED:
        pass  # even if there is a folder of that name
    elif model.endpoint is not None and not model.endpoint.tokens:
        pass  # the server's own name of it
    elif looks_like_path or Path(model.name).is_dir():
        if not (Path(model.name).expanduser() / "config.json").is_file():
            what = "holds no config.json" if Path(model.name).is_dir() else "does not exist"
            yield Complaint("model.name", f"the folder {model.name!r} {what}: name a folder in the Hugging Face layout")
    elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model.name):
        yield Complaint(
            "model.name",
            f"{model.name!r} is neither `tiny`, a Hugging Face id (`owner/model`) nor a folder",
            ["model.endpoint", "model.endpoint.tokens"],
        )
    if model.name == "tiny" and min(tiny.heads, tiny.kv_heads) > 0:
        if tiny.hidden % (2 * tiny.heads):
            text = f"{tiny.heads} heads do not divide the width {tiny.hidden} evenly into heads of an even width"
            yield Complaint("model.tiny.heads", text, ["model.tiny.hidden"])
        if tiny.heads % tiny.kv_heads:
            yield Complaint(
                "model.tiny.kv_heads",
                f"{tiny.kv_heads} kv_heads do not divide the {tiny.heads} heads evenly",
                ["model.tiny.heads"],
            )
    if generation.max_tokens >= model.context:
        text = f"{generation.max_tokens} tokens of one answer leave no room in a context of {model.context}"
        yield Complaint("generation.max_tokens", text, ["model.context"])


_TEMPLATE_WORDS = ("messages", "tools", "documents", "add_generation_prompt", "true", "false", "none", "loop", "self")
"""What `model.template_options` may not set."""


def _template(model: ModelSettings) -> Iterator[Complaint]:
    """What is wrong with the chat template of a recipe, as far as that can be told without the model."""
    for name in ("template", "template_options"):
        if not getattr(model, name):
            continue
        if model.name in RESERVED:
            yield Complaint(f"model.{name}", f"{model.name!r} has no chat template to change: leave it out")
        elif model.endpoint is not None and not model.endpoint.tokens:
            text = "the server renders its own chat template: set model.endpoint.tokens=true, or send"
            yield Complaint(f"model.{name}", f"{text} model.endpoint.options={{chat_template_kwargs: ...}}")
    if model.template is not None:
        path = Path(model.template).expanduser()
        try:
            if not path.read_text(encoding="utf-8").strip():
                yield Complaint("model.template", f"{model.template!r} is empty: name a file with a chat template")
        except (FileNotFoundError, NotADirectoryError):
            near = did_you_mean(model.template, [str(p) for p in path.parent.glob("*") if p.is_file()])
            yield Complaint("model.template", f"there is no file {model.template!r}{near}")
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())
            yield Complaint("model.template", f"cannot read {model.template!r} ({why}): name a UTF-8 text file")
    for option in model.template_options:
        if not option.isidentifier() or keyword.iskeyword(option) or option in _TEMPLATE_WORDS:
            text = "a chat template has no such variable to set: write a name as enable_thinking"
            yield Complaint(f"model.template_options.{option}", text)


def _endpoint(model: ModelSettings) -> Iterator[Complaint]:
    if model.endpoint is None:
        return
    for name, text in complaints_about_endpoint(model.endpoint):
        yield Complaint(f"model.endpoint.{name}", text)
    if model.name == "tiny":
        yield Complaint("model.name", "`tiny` is built here, and model.endpoint names a server: name its model")
    elif not model.name.strip() or not model.name.isprintable():
        yield Complaint("model.name", f"{model.name!r} names no model: write what the server calls it")


def _learner(path: str) -> Iterator[Complaint]:
    if text := wrong_with_class(path):
        yield Complaint("module", text)


def _data(sources: list[str], prompt: Prompt) -> Iterator[Complaint]:
    for name in sources:
        path = Path(name).expanduser()
        if name.startswith("hf://"):
            if not re.fullmatch(r"hf://[\w.-]+/[\w.-]+(@[\w.-]+)?(/.*)?", name):
                yield Complaint("data", f"{name!r} names no data set: write hf://OWNER/DATASET")
        elif path.is_dir():
            if not any(file.suffix.lower() in DATA_SUFFIXES for file in path.rglob("*")):
                yield Complaint("data", f"the folder {name!r} holds no trajectory file ({', '.join(DATA_SUFFIXES)})")
        elif not path.is_file():
            near = [str(p) for p in path.parent.glob("*") if p.is_file()]
            yield Complaint("data", f"there is no file {name!r}{did_you_mean(name, near)}")
        elif path.suffix.lower() not in DATA_SUFFIXES:
            endings = ".json (AgentTraj), .jsonl (a record a line) or .parquet"
            yield Complaint("data", f"{name!r} is no trajectory file: its name should end in {endings}")
    if prompt == Prompt.from_data and not sources:
        yield Complaint("prompt", "from_data takes the words from trajectory files: name some in `data`", ["data"])


def _learning(recipe: Recipe) -> Iterator[Complaint]:
    phases = [("bc", recipe.bc, learns(recipe)), ("learn", recipe.learn, learns(recipe) and recipe.evol.iterations > 0)]
    for key, settings, used in phases:
        if settings.steps is not None and settings.epochs is not None:
            yield Complaint(key, f"both steps ({settings.steps}) and epochs ({settings.epochs}) are given: keep one")
        elif used and settings.steps is None and settings.epochs is None:
            yield Complaint(key, f"says not how long to learn: give {key}.steps or {key}.epochs")
    if recipe.evol.temperature == 0 and recipe.evol.samples > 1:
        yield Complaint(
            "evol.samples",
            f"{recipe.evol.samples} tries at temperature 0 are all the same: raise evol.temperature",
            ["evol.temperature"],
        )


def _players(recipe: Recipe) -> Iterator[Complaint]:
    players = recipe.eval.players
    for player in sorted({player for player in players if players.count(player) > 1}):
        yield Complaint("eval.players", f"{player!r} is there {players.count(player)} times: name it once")
    for player in dict.fromkeys(players):
        if player != recipe.model.name:  # that one was looked at already
            alone = dataclasses.replace(recipe.model, name=player, endpoint=None)
            for key, text, _ in _model(alone, recipe.generation):
                if key == "model.name":
                    yield Complaint("eval.players", text)
    if recipe.evol.temperature == 0 and recipe.eval.samples > 1:
        text = f"{recipe.eval.samples} tries at temperature 0 are all the same: raise evol.temperature"
        yield Complaint("eval.samples", text, ["evol.temperature"])


def _trainer(trainer: TrainerSettings) -> Iterator[Complaint]:
    if trainer.accelerator not in ACCELERATORS:
        near = did_you_mean(trainer.accelerator, ACCELERATORS)
        yield Complaint("trainer.accelerator", f"{trainer.accelerator!r} is not one of {', '.join(ACCELERATORS)}{near}")
    if trainer.precision not in PRECISIONS:
        near = did_you_mean(trainer.precision, PRECISIONS)
        yield Complaint("trainer.precision", f"{trainer.precision!r} is not one of {', '.join(PRECISIONS)}{near}")
    elif trainer.strategy == StrategyName.fsdp and trainer.precision not in FSDP_PRECISIONS:
        text = f"{trainer.precision!r} does not go with fsdp: use {' or '.join(FSDP_PRECISIONS)}"
        yield Complaint("trainer.precision", text, ["trainer.strategy"])
    if trainer.offload and trainer.strategy != StrategyName.fsdp:
        yield Complaint("trainer.offload", "only fsdp can do it: set trainer.strategy=fsdp", ["trainer.strategy"])
    if trainer.accelerator == "mps" and trainer.devices * trainer.num_nodes > 1:
        yield Complaint("trainer.devices", "mps is one device: set trainer.devices=1 trainer.num_nodes=1")
