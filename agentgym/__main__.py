"""`python -m agentgym` is `agentgym`."""

from agentgym.cli import command

command()
