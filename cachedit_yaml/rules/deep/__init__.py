"""``--deep``: an adapter against the classes that it names, without weights.

Models are made on the meta device from the defaults of their class, so nothing is downloaded and no
memory is taken. What the code does is read from its source; it is not run.
"""

from __future__ import annotations

import os

# What these say on import about optional needs of theirs is of no use here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

from cachedit_yaml.rules.deep.check import check_deep
from cachedit_yaml.rules.deep.engine_classes import check_engine

__all__ = ["check_deep", "check_engine"]
