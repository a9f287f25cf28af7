"""A server that speaks OpenAI's API, such as vLLM, SGLang or a hosted model. Nothing here needs torch.

server.py      ModelServer: asks, repeats, keeps the connections
answers.py     what an answer says: a reply, what it cost, or which error it means
complaints.py  what is wrong with the settings
preflight.py   whether the server is there, takes the key and has the model

Errors
├── ModelError         the server cannot be used as it is set up: ends the run (wrong key, no such model, no credit)
├── ContextFull        the conversation has grown too long for the model: ends the episode, which keeps its score
├── ModelUnreachable   no readable answer, however often it was asked: fails the episode
└── ModelRefused       the server will not answer this one request: fails the episode
"""

from agentgym.modelserver.answers import ModelRefused, ModelUnreachable, Reply, Usage
from agentgym.modelserver.complaints import complaints_about
from agentgym.modelserver.preflight import complaints_before_playing
from agentgym.modelserver.server import NO_TOKEN_IDS, TOKEN_FIELDS, ModelServer

__all__ = [
    "NO_TOKEN_IDS",
    "TOKEN_FIELDS",
    "ModelRefused",
    "ModelServer",
    "ModelUnreachable",
    "Reply",
    "Usage",
    "complaints_about",
    "complaints_before_playing",
]
