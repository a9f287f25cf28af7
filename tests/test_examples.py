from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agentgym.fit import fit
from agentgym.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"

RECIPE = """\
name: example
output: {output}
prompt: brief
model:
  name: tiny
  context: 400
  tiny: {{hidden: 32, layers: 1, heads: 2, kv_heads: 1, intermediate: 32, vocabulary: 300}}
bc: {{steps: 3, tokens_per_step: 512, tokens_per_row: 512, lr: 1e-2}}
learn: {{steps: 3, tokens_per_step: 512, tokens_per_row: 512, lr: 1e-2}}
evol: {{iterations: 0}}
generation: {{max_tokens: 8}}
trainer: {{accelerator: cpu}}
tracking: {{mode: 'off'}}
"""


def test_the_pool_alone_plays_512_mazes():
    ran = subprocess.run([sys.executable, EXAMPLES / "pool_only.py"], capture_output=True, text=True, check=True)
    first, last = ran.stdout.splitlines()
    assert first.startswith("first success: maze_")
    assert last.startswith("512 episodes, ")


def test_a_module_and_an_environment_of_ones_own_are_named_in_a_recipe(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(output=tmp_path / "runs"))
    overrides = [
        "module=custom_module.FocalEvol",
        "imports=[higher_lower]",
        "environments.higher_lower={expert: 10, explore: 4, eval: 5}",
        "evol.iterations=1",
        "pool.workers=2",
    ]
    report = fit(load_recipe(tmp_path / "recipe.yaml", overrides))
    assert report.iterations[1].played.environments["higher_lower"].tasks == 5


def test_the_environment_of_the_docs_has_an_expert_that_always_wins():
    from envpool import EnvPool, ExpertPolicy, Split, collect, get_spec
    from envpool.imports import import_modules

    import_modules([str(EXAMPLES / "higher_lower.py")])
    spec = get_spec("higher_lower")
    for split in Split:
        assert all(t.success for t in collect(EnvPool(), spec.select(split), ExpertPolicy()))


def test_the_environment_of_the_docs_is_short_and_quoted_as_it_is():
    code = (EXAMPLES / "higher_lower.py").read_text()
    card = code[code.index("SPEC = EnvSpec(") :].rstrip()
    assert card in (EXAMPLES.parent / "docs" / "environments.md").read_text()
    assert len(card.splitlines()) <= 50


def test_the_readmes_library_use_runs(tmp_path):
    readme = (EXAMPLES.parent / "README.md").read_text()
    pool, module = (block.split("```")[0] for block in readme.split("```python\n")[1:3])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for code in (pool, module):
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=EXAMPLES.parent)
