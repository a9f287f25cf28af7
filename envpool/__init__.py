"""Hundreds of concurrent sessions of text environments, one way to play them.

    types       tasks, steps, turns, trajectories
    errors      everything raised on purpose
    spec        an environment's card; registry finds it, splits and tool_servers are what several share
    options     what a card is configured with; datafiles are the real data that options name
    tools       typed functions: what can be done; signatures and schemas are their types, templates their texts, calls
                checks, writes, reads and carries out what is called
    formats     how thought and action are written: react (reading finds the action, labels where it is marked),
                function_calling, code_as_action, native (syntaxes are the models' own); thoughts and objects find what
                is private and what is JSON in an answer
    policy      who answers: protocol, functions, experts; random_policy is the floor
    session     one live instance of an environment; places/ says where it lives, replay brings it back
    dialects    how AgentGym's servers speak; server/ is such a server
    episode     one episode: the one place where failure becomes data
    pool        many episodes at once
    statistics  what a pool is doing, in numbers
    run         from plain code into trio and back
    imports     modules, files and folders of a user's that hold environments
    envs/       the embedded environments, and the cards of those behind servers
    testing/    fake servers, faults, and the conformance kit

envpool knows no tokens, weights or gradients; agentgym does.
"""

from envpool.datafiles import DataFile
from envpool.episode import Limits
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
from envpool.options import option
from envpool.policy import Actor, Episode, ExpertPolicy, Policy
from envpool.pool import EnvPool
from envpool.random_policy import RandomPolicy
from envpool.registry import environments, get_spec, register, using
from envpool.run import collect, run_sync
from envpool.session import Transport
from envpool.spec import Environment, EnvSpec, Place, Writing
from envpool.statistics import Statistics
from envpool.tools import Tool, tool
from envpool.types import Call, Completion, Message, Split, Step, StopReason, Task, Trajectory, Turn

__all__ = [
    "Actor",
    "Call",
    "Completion",
    "ContextFull",
    "DataFile",
    "EnvPool",
    "EnvPoolError",
    "EnvSpec",
    "Environment",
    "EnvironmentFailed",
    "Episode",
    "ExpertPolicy",
    "Limits",
    "MalformedAction",
    "Message",
    "MissingExtra",
    "Place",
    "Policy",
    "PolicyFailed",
    "RandomPolicy",
    "Split",
    "Statistics",
    "Step",
    "StopReason",
    "Task",
    "Tool",
    "Trajectory",
    "Transport",
    "Turn",
    "UnknownEnvironment",
    "UnknownTask",
    "Writing",
    "collect",
    "environments",
    "get_spec",
    "option",
    "register",
    "run_sync",
    "tool",
    "using",
]
