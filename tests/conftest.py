"""One thread per process: on shared cores more are slower, and results must not depend on them.

Tests say the same every time: hypothesis draws the same examples in every run and keeps none. ``tox -e deep`` draws
others, and more of them (the profile ``deep``).
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "same")
_CLOCKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine does not fail a test
settings.register_profile("same", derandomize=True, database=None, **_CLOCKS)
settings.register_profile("deep", derandomize=False, database=None, max_examples=2000, print_blob=True, **_CLOCKS)
settings.load_profile(PROFILE)

if PROFILE == "same":
    # Derandomised or not, it also draws constants of our modules that happen to be loaded, which depends on the tests
    # that ran before in the same process. There is no setting for it.
    _NONE = providers.Constants()
    providers._get_local_constants = lambda: _NONE
