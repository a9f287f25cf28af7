"""The environments that ship with envpool, by where they can live, and how their servers speak."""

from envpool import get_spec
from envpool.registry import shipped

EMBEDDED = tuple(sorted(name for name in shipped() if not get_spec(name).served))
SERVED = tuple(sorted(name for name in shipped() if get_spec(name).served))
DIALECTS = {name: get_spec(name).dialect for name in sorted(shipped())}
