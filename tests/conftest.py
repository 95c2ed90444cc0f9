"""What holds for every test: one thread, and libraries that only report errors."""

from __future__ import annotations

import contextlib
import os

# Read when torch, diffusers and cache-dit are imported, which is after this.
os.environ["OMP_NUM_THREADS"] = "1"  # small tensors gain nothing from more
os.environ["DIFFUSERS_VERBOSITY"] = "error"
os.environ["CACHE_DIT_LOG_LEVEL"] = "error"

with contextlib.suppress(ImportError):  # the engines' environments do not have it
    from hypothesis import HealthCheck, settings

    # Nothing fails because the machine is slow.
    settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("here")
