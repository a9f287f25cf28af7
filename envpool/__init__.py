"""Hundreds of concurrent sessions of text environments, one way to play them.

    types       tasks, steps, turns, trajectories
    errors      everything raised on purpose
    spec        an environment's card; the registry
    formats     how thought and action are written
    policy      who answers: protocol, functions, experts, random players
    session     one live instance of an environment; transports/ says where it lives
    episode     one episode: the one place where failure becomes data
    pool        many episodes at once
    run         from plain code into trio and back
    envs/       the embedded environments, one file each

envpool knows no tokens, weights or gradients; agentgym does.
"""

from envpool.episode import Limits, run_episode
from envpool.errors import (
    ContextFull,
    EnvironmentFailed,
    EnvPoolError,
    MalformedAction,
    MissingExtra,
    PolicyFailed,
    UnknownEnvironment,
    UnknownTask,
)
from envpool.policy import Actor, Episode, ExpertPolicy, Load, Policy, RandomPolicy
from envpool.pool import EnvPool
from envpool.run import collect, run_sync
from envpool.spec import Environment, EnvSpec, environments, get_spec, register
from envpool.types import Completion, Message, Split, Step, StopReason, Task, Trajectory, Turn

__all__ = [
    "Actor",
    "Completion",
    "ContextFull",
    "EnvPool",
    "EnvPoolError",
    "EnvSpec",
    "Environment",
    "EnvironmentFailed",
    "Episode",
    "ExpertPolicy",
    "Limits",
    "Load",
    "MalformedAction",
    "Message",
    "MissingExtra",
    "Policy",
    "PolicyFailed",
    "RandomPolicy",
    "Split",
    "Step",
    "StopReason",
    "Task",
    "Trajectory",
    "Turn",
    "UnknownEnvironment",
    "UnknownTask",
    "collect",
    "environments",
    "get_spec",
    "register",
    "run_episode",
    "run_sync",
]
