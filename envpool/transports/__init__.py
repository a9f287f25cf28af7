"""Where sessions live.

local      in this process
process    in worker processes of this machine
http       behind environment servers; remote and caller are its sessions and its requests, endpoint its settings
routing    each environment where it belongs
"""
