"""``--deep``: an adapter against the classes that it names, without weights.

Models are made on the meta device from the defaults of their class, so nothing is downloaded and no
memory is taken. What the code does is read from its source; it is not run.
"""

from __future__ import annotations

from cachedit_yaml.validation.deep.check import check_deep

__all__ = ["check_deep"]
