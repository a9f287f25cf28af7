"""Writes envpool/envs/babyai/data/moved.json: the BabyAI tasks that belong to another split than their seed says.

    python scripts/make_babyai_splits.py

Needs the extra ``babyai`` and about a minute. Run it again when the first observations of BabyAI change.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from envpool.envs.babyai.spec import SEEDS, split_by_seed
from envpool.envs.babyai.world import LEVELS, BabyAI, facts
from envpool.types import Split

OUTPUT = Path(__file__).parents[1] / "envpool" / "envs" / "babyai" / "data" / "moved.json"


def moved_tasks() -> dict[Split, dict[int, list[int]]]:
    """For each split, the seeds per level that belong there although their seed says otherwise.

    Tasks that start with the same observation belong to the split of the one with the lowest index.
    """
    env = BabyAI()
    owner: dict[str, Split] = {}
    moved: dict[Split, dict[int, list[int]]] = {split: defaultdict(list) for split in Split}
    for index in range(SEEDS * len(LEVELS)):
        known = facts(index)
        level, seed = int(known["level"]), int(known["seed"])
        split = owner.setdefault(env.reset(index), split_by_seed(seed))
        if split is not split_by_seed(seed):
            moved[split][level].append(seed)
    return moved


def main() -> None:
    """Writes the file, one line per split and level."""
    moved = moved_tasks()
    splits = []
    for split, levels in moved.items():
        rows = [f'"{level}": {json.dumps(seeds, separators=(",", ":"))}' for level, seeds in sorted(levels.items())]
        splits.append(f'"{split}": {{\n' + ",\n".join(rows) + "\n}")
    OUTPUT.write_text("{" + ",\n".join(splits) + "}\n", encoding="utf-8")
    for split, levels in moved.items():
        print(f"{split}: {sum(map(len, levels.values()))} tasks moved here")


if __name__ == "__main__":
    main()
