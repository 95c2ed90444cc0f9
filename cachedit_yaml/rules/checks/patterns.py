"""Names with ``*``: which of them match which."""

from __future__ import annotations

import re
from collections.abc import Iterable


def covered(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches everything that a name (or pattern) matches.

    A ``*`` in the name is taken as a character that only a ``*`` matches, which is right but for
    patterns such as ``**``.
    """
    return any(
        re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name) is not None
        for pattern in patterns
    )
