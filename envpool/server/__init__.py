"""Any environment over HTTP, in the dialect of AgentGym's server of it, so that the original clients work unchanged.

serve         create_app, and the command ``envpool serve``
connections   what connections may cost before anybody knows whose they are
callers       whose requests are answered
application   the routes; the only file that imports FastAPI
sessions      who is there, whose turn it is, who has been away for too long
answers       refusals, and answers that are given once more to a request that is repeated
asyncio_loop  the event loop, as `envpool.places` needs it, where the environments live
"""

from envpool.server.serve import add_serve_command, create_app, serve

__all__ = ["add_serve_command", "create_app", "serve"]
