"""The pool alone: 256 sessions at once, played by an async function of your own. No model, no torch.

Run it: ``python examples/pool_only.py``
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from envpool import EnvPool, Message, Split, Trajectory, get_spec, run_sync


async def wander(conversation: Sequence[Message]) -> str:
    """A policy is any async function from the conversation so far to the next answer; here a blind walker."""
    move = random.Random(f"{conversation[0].content} {len(conversation)}").choice(["up", "down", "left", "right"])
    return f"Thought:\nWhy not {move}?\n\nAction:\nmove {move}"


async def main() -> list[Trajectory]:
    """Plays 512 mazes, at most 256 at once, and prints the first success as soon as it is there."""
    tasks = get_spec("maze").select(Split.EXPLORE, 512, where={"distance": [2, 3]})
    pool = EnvPool(sessions=256)
    done: list[Trajectory] = []
    async with pool.run(tasks, wander) as trajectories:
        async for trajectory in trajectories:  # in the order in which they finish
            if trajectory.success and not any(t.success for t in done):
                print(f"first success: {trajectory.task.item_id} in {len(trajectory.turns)} turns")
            done.append(trajectory)
    return done


if __name__ == "__main__":
    played = run_sync(main)
    stops = Counter(str(trajectory.stop) for trajectory in played)
    print(f"{len(played)} episodes, {sum(bool(t.success) for t in played)} solved, stopped by {dict(stops)}")
