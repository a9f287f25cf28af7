"""The schema of a recipe: every setting there is, its type, its default and what it means.

Enum members are lower case because that is how a recipe writes them (OmegaConf reads members by name).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from agentgym.values import Section


class Prompt(StrEnum):
    """What a model is told before the first observation."""

    full = "full"  # the environment's instructions and the answer format
    brief = "brief"  # the environment's one line; for models trained from scratch
    from_data = "from_data"  # what the files of `data` say before the first observation, most often


class FormatName(StrEnum):
    """How thought and action are written in an answer."""

    react = "react"  # `Thought: ... Action: ...`, as in AgentTraj
    function_calling = "function_calling"  # a JSON object that calls a function
    code_as_action = "code_as_action"  # a call in Python's syntax; read, never run
    native = "native"  # the model's own calls of tools, which its chat template or its server offers


class Place(StrEnum):
    """Where the sessions of an environment live, as `envpool.spec.Place` says."""

    inline = "inline"  # in the thread that plays
    thread = "thread"  # each in a thread of its own
    process = "process"  # in worker processes


class Optimizer(StrEnum):
    """How weights are updated."""

    adamw = "adamw"
    muon = "muon"  # hidden matrices by Muon, everything else by AdamW


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class Merge(StrEnum):
    """What an iteration learns from besides its own successes."""

    initial = "initial"  # the expert set (the paper)
    previous = "previous"  # also what earlier iterations kept (the released scripts); `dedup` then chooses among all


class Start(StrEnum):
    """Which weights an iteration's learning starts from."""

    base = "base"  # the untrained model (the paper)
    bc = "bc"  # the model after behavioural cloning
    current = "current"  # the model that explored


class Dedup(StrEnum):
    """Which of several successes are the same."""

    none = "none"  # keep all
    task = "task"  # one per task: the one with the fewest turns, then the earliest
    text = "text"  # one per task and conversation text


class Reward(StrEnum):
    """How much a kept trajectory weighs in the loss."""

    binary = "binary"  # 1 (the paper)
    score = "score"  # its score, scaled to 0..1 by the environment's score range


class MannerFrom(StrEnum):
    """Whose prompt, answer format, context and answer length a model is measured with."""

    model = "model"  # those it was taught with, where its folder tells (agentgym.json); the recipe's otherwise
    recipe = "recipe"  # the recipe's, always


class StrategyName(StrEnum):
    """How training is spread over devices."""

    auto = "auto"  # ddp where there are several devices
    ddp = "ddp"  # every device holds the whole model
    fsdp = "fsdp"  # weights, gradients and optimiser state are shared out over the devices (FSDP2)


class ExportDtype(StrEnum):
    """Number format in which a model is saved."""

    base = "base"  # that of the model which learning began with
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class TrackingMode(StrEnum):
    """Where W&B writes."""

    online = "online"
    offline = "offline"
    off = "off"


@dataclass
class TinySettings(Section):
    """The model that `model.name: tiny` builds: a Llama-type decoder with a tokenizer trained on the expert set."""

    hidden: int = 128
    """Width."""
    layers: int = 4
    """Depth."""
    heads: int = 4
    """Attention heads."""
    kv_heads: int = 2
    """Heads that keep keys and values."""
    intermediate: int = 336
    """Width of the feed-forward layers."""
    vocabulary: int = 640
    """Upper limit of the number of tokens (byte-level BPE)."""


@dataclass
class LoraSettings(Section):
    """Low-rank adapters (peft) on all linear layers."""

    rank: int = 16
    """Rank of the adapters."""
    alpha: int = 32
    """Scale of the adapters."""
    dropout: float = 0.0
    """Dropout in the adapters."""


@dataclass
class EndpointSettings(Section):
    """A server that speaks OpenAI's API: vLLM, SGLang, or a hosted model. It plays; it cannot learn."""

    url: str = MISSING
    """Its base, as in `http://127.0.0.1:8000/v1`."""
    model: str | None = None
    """What the server calls the model; `model.name` if null."""
    key: str | None = None
    """The environment variable that holds the API key; null sends none."""
    tokens: bool = False
    """Send and receive token ids instead of messages (vLLM, SGLang): what was sampled is what is learned from.
    `model.name` is then where the tokenizer comes from."""
    concurrency: int = 64
    """Requests at once, per worker."""
    seconds: float = 180.0
    """Time limit of one request; `pool.policy_seconds` limits an answer with all that is repeated for it."""
    retries: int = 6
    """How often a request is repeated that the server did not answer, or answered with an error of its own."""
    stop: list[str] = field(default_factory=list)
    """An answer ends before any of these texts; not with `tokens`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request, as in `{reasoning_effort: low}`; null leaves one out that is sent otherwise."""
    trust_env: bool = False
    """Use the proxies that HTTPS_PROXY and its like name."""


@dataclass
class ModelSettings(Section):
    """The model that learns to act."""

    name: str = MISSING
    """`tiny`, a Hugging Face id, or a folder in the Hugging Face layout; to `agentgym eval` and `collect` also
    `expert` and `random`."""
    tiny: TinySettings = field(default_factory=TinySettings)
    """Only for `name: tiny`."""
    endpoint: EndpointSettings | None = None
    """Play with a model behind a server (`agentgym eval` and `collect`)."""
    template: str | None = None
    """A file with the chat template (Jinja) of the model `name`; the tokenizer's own if null."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """Variables of the chat template of the model `name`, as in `{enable_thinking: false}`."""
    lora: LoraSettings | None = None
    """Train adapters instead of all weights."""
    context: int = 4096
    """Most tokens of one episode, answers included."""
    gradient_checkpointing: bool = False
    """Compute activations twice to keep fewer."""


@dataclass
class EnvironmentSettings(Section):
    """What is used of one environment."""

    expert: int = 0
    """How many expert trajectories go into the expert set (tasks of split `train`)."""
    explore: int = 0
    """How many tasks the policy explores (split `explore`)."""
    eval: int = 0
    """How many tasks the policy is measured on (split `eval`)."""
    where: dict[str, list[Any]] = field(default_factory=dict)
    """Only tasks with these facts, as in `{depth: [1, 2]}`; `agentgym envs NAME` lists the facts."""
    max_turns: int | None = None
    """Turn limit; the environment's own if null."""
    options: dict[str, Any] = field(default_factory=dict)
    """What it is configured with, as in `{words: my_words.txt}`; `agentgym envs NAME` lists its options."""
    keep_above: float | None = None
    """Keep explored trajectories with a score greater than this; the environment's success rule if null."""
    cap: int | None = None
    """Keep at most this many explored trajectories an iteration."""
    endpoints: list[str] = field(default_factory=list)
    """Addresses of environment servers, AgentGym's own or those of `envpool serve`; several are replicas. In this
    process if empty."""
    original: bool = False
    """The endpoints are AgentGym's own servers: where their numbers mean other tasks, nothing is known of
    them here (no facts). A panel that is an AgentEval list says so too."""
    token: str | None = None
    """The environment variable that holds the servers' bearer token."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers for the servers: name to the environment variable that holds the value."""
    keep_sessions: bool = False
    """Reset the servers' sessions for the next episode rather than close them; for servers that take long to create
    one, and may answer less alike in one that was used before."""
    place: Place | None = None
    """Where its sessions live on this machine: `inline`, `thread` or `process`; as the environment says if null."""
    processes: int = 0
    """Worker processes of this machine (per worker of the pool) where the place is `process`; 0 for what is usual. Any
    other number makes `process` the place."""


@dataclass
class LearningSettings(Section):
    """One learning phase. Exactly one of `steps` and `epochs` is given."""

    steps: int | None = None
    """Optimiser steps."""
    epochs: int | None = None
    """Passes over the data."""
    tokens_per_step: int = 16384
    """Tokens of one optimiser step over all devices, about."""
    tokens_per_row: int = 8192
    """Tokens of one packed row, at most (longer trajectories get a row of their own)."""
    optimizer: Optimizer = Optimizer.adamw
    """Who updates the weights."""
    lr: float = 1e-5
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises."""
    schedule: Schedule = Schedule.linear
    """How it falls afterwards."""
    clip: float = 1.0
    """Greatest norm of the gradient."""


@dataclass
class EvolSettings(Section):
    """AgentEvol (arXiv 2406.04151, section 4)."""

    iterations: int = 4
    """M: how often to explore and learn; 0 is behavioural cloning only."""
    samples: int = 1
    """K: tries per task and iteration."""
    temperature: float = 1.0
    """Of exploration; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus sampling in exploration; 1 is off."""
    top_k: int = 0
    """Only so many of the most likely tokens in exploration; 0 is off."""
    min_p: float = 0.0
    """Only tokens at least this times as likely as the most likely one in exploration; 0 is off."""
    merge: Merge = Merge.initial
    """What to learn from besides the iteration's own successes."""
    start: Start = Start.base
    """Which weights learning starts from."""
    reward: Reward = Reward.binary
    """Weight of a kept trajectory."""
    dedup: Dedup = Dedup.task
    """Which successes count as the same."""
    only_unsolved: bool = False
    """Explore only tasks without a success so far; successes of earlier iterations stay in the data."""
    control: bool = False
    """Also go on with behavioural cloning on the expert set, with as many steps and tokens, and measure that."""


@dataclass
class EvalSettings(Section):
    """`agentgym eval`: whom to measure, and how often."""

    samples: int = 1
    """Tries per task: 1 is greedy; more are sampled at `evol.temperature`."""
    limit: int | None = None
    """At most so many tasks of each environment; null for `environments.NAME.eval` of them."""
    players: list[str] = field(default_factory=list)
    """`expert`, `random`, folders in the Hugging Face layout or Hugging Face ids, one row each; `model.name` alone if
    empty."""
    manner: MannerFrom = MannerFrom.model
    """Whose prompt, answer format, context and answer length a model is measured with."""


@dataclass
class GenerationSettings(Section):
    """How the model answers."""

    max_tokens: int = 512
    """Most tokens of one answer."""
    batch: int = 64
    """Most sessions answered in one batch."""
    lockstep: bool = True
    """Answer when all live sessions wait: the same batches, hence the same samples, in every run.
    Turn it off for environments that answer slowly."""
    graphs: bool | None = None
    """Record decoding steps as CUDA graphs and replay them, and take the memory of all keys and values at once; null
    does so on GPUs."""


@dataclass
class PoolSettings(Section):
    """The environment pool."""

    sessions: int = 64
    """Sessions at once, per worker; the keys and values of all of them are kept."""
    workers: int = 1
    """Processes that explore and evaluate, each with its own pool and copy of the model. With several devices every
    process of the run plays its share by itself, and this is 1."""
    step_seconds: float = 60.0
    """Time limit of one call to an environment."""
    policy_seconds: float = 600.0
    """Time limit of one answer of the policy."""
    episode_seconds: float = 3600.0
    """Time limit of an episode."""


@dataclass
class TrainerSettings(Section):
    """Handed to Lightning's Trainer."""

    accelerator: str = "auto"
    """`cpu`, `gpu`, ..."""
    devices: int = 1
    """Devices per node."""
    num_nodes: int = 1
    """Nodes."""
    strategy: StrategyName = StrategyName.auto
    """How training is spread over devices."""
    offload: bool = False
    """Keep weights, gradients and optimiser state in the CPU's memory; only for `strategy: fsdp`."""
    precision: str = "32-true"
    """Lightning's name of the number format."""
    export_dtype: ExportDtype = ExportDtype.base
    """Number format of the models that learning saves."""
    checkpoint_every: int = 200
    """Optimiser steps between checkpoints within a learning phase."""
    threads: int = 1
    """CPU threads of a process."""


@dataclass
class TrackingSettings(Section):
    """Weights & Biases."""

    mode: TrackingMode = TrackingMode.offline
    """`online` needs an account (WANDB_API_KEY in the environment)."""
    project: str = "agentgym"
    """W&B project."""


@dataclass
class Recipe(Section):
    """Everything about a run."""

    name: str = MISSING
    """Names the run folder."""
    seed: int = 0
    """Decides the draw of tasks, the initial weights, the order of the data and every sample."""
    output: str = "runs"
    """The run folder is `<output>/<name>`."""
    module: str = "agentgym.modules.AgentEvol"
    """Import path of the LightningModule that learns; a subclass of `AgentModule`."""
    model: ModelSettings = field(default_factory=ModelSettings)
    """The model that learns to act."""
    environments: dict[str, EnvironmentSettings] = field(default_factory=dict)
    """What is used of each environment, by its name."""
    panel: str | None = None
    """Which tasks are measured: a panel that ships with agentgym (`agenteval-mini`), a panel file, an AgentEval list or
    a folder of such lists. `environments.NAME.eval` is then left out, and `where` narrows the other splits only."""
    imports: list[str] = field(default_factory=list)
    """Environments of your own to import first: Python modules, `.py` files or folders with a `spec.py`."""
    data: list[str] = field(default_factory=list)
    """Trajectories for the expert set besides the experts of the environments: files (AgentTraj JSON, JSON lines,
    Parquet), folders of them, or data sets on the Hugging Face Hub, as in `hf://AgentGym/AgentTraj-L`."""
    prompt: Prompt = Prompt.full
    """What a model is told before the first observation."""
    format: FormatName = FormatName.react
    """How a model writes its answers, and the experts theirs."""
    bc: LearningSettings = field(default_factory=LearningSettings)
    """Behavioural cloning."""
    learn: LearningSettings = field(default_factory=LearningSettings)
    """The learning phase of an AgentEvol iteration."""
    evol: EvolSettings = field(default_factory=EvolSettings)
    """AgentEvol."""
    eval: EvalSettings = field(default_factory=EvalSettings)
    """`agentgym eval`."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """How the model answers."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The environment pool."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    """Handed to Lightning."""
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    """Weights & Biases."""
