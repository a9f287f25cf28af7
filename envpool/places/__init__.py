"""Where sessions live: each way implemented once, for the pool and for `envpool serve` alike.

local      the transport of the pool: sessions on this machine, in the place that a card or a recipe says
session    one of them, in any place and any event loop
choice     from the name of a place to the place
inline     environments in the thread of the event loop
thread     environments that have a thread each
process    environments in worker processes: workers, as the parent sees them; worker, what runs in them; memory
live       an environment and the calls to it, wherever it lives
hosts      what every place gives, and what it needs of an event loop; trio_loop, the pool's (the server has its own)

http       behind environment servers: replicas, which server; remote, the sessions on it; caller, the requests;
           creation, sessions in the making; echo, whose answer it is; connection, HTTP; endpoint, the settings
routing    each environment where it belongs
"""
