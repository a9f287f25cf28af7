"""The environments that ship with envpool: one file an environment, all of one shape.

Each file holds, in this order, the instructions and the line for small models, the environment class, its expert and
its card `SPEC`.
"""
