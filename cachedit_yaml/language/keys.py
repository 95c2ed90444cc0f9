"""What the parts of the language share: its version, who is at home in it, what is not set."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: The version of the language that this package reads.
LANGUAGE_VERSION: Final = 1

#: The engines that an adapter serves without a section: they run the pipelines of diffusers.
HOME: Final = ("diffusers", "cache_dit")


class Unset(Enum):
    """The type of :data:`UNSET`: a setting that a layer does not mention.

    It differs from ``None``, which is a value (``null`` in YAML) that sets a field back.
    """

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
