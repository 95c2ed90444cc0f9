"""Benchmarks: what caching costs when nothing hits, and what it gives when everything does.

Every number is a ratio of things that were measured next to each other in one run; see README.md.
"""

import os

# cache-dit's log would otherwise be part of what it costs.
os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "ERROR")
