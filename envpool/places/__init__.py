"""Where sessions live.

local      in this process
process    in worker processes of this machine
http       behind environment servers: replicas, which server; remote, the sessions on it; caller, the requests;
           creation, sessions in the making; echo, whose answer it is; connection, HTTP; endpoint, the settings
routing    each environment where it belongs
"""
