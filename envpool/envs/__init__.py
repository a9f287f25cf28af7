"""The environments that ship with envpool: a folder each, all of one shape.

spec      its card `SPEC`: what a model is told, splits, facts, scores, limits, how its servers speak
world     the environment itself; not there if it lives behind a server only
expert    who plays it well
tools     its actions
data/     what it reads
"""
