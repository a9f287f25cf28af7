"""A model behind a server plays: vLLM, SGLang, or a hosted model, over OpenAI's API.

Run it: ``vllm serve Qwen/Qwen2.5-7B-Instruct``, and then
``python examples/remote_model.py http://127.0.0.1:8000/v1 Qwen/Qwen2.5-7B-Instruct``
"""

from __future__ import annotations

import sys

from agentgym.generation import RemotePolicy, Sampling
from agentgym.settings import EndpointSettings, GenerationSettings
from envpool import EnvPool, Split, collect, get_spec

if __name__ == "__main__":
    url, model = sys.argv[1:]
    policy = RemotePolicy(
        EndpointSettings(url),  # a hosted model also takes key="OPENAI_API_KEY": the environment variable's name
        model,
        settings=GenerationSettings(max_tokens=256),
        sampling=Sampling(temperature=0.0),
        seed=0,
        context=8192,
    )
    played = collect(EnvPool(sessions=20), get_spec("maze").select(Split.EVAL, 20), policy)
    print(f"maze: {policy.usage}")
    print(f"{len(played)} episodes, {sum(bool(trajectory.success) for trajectory in played)} solved")
