"""What one request wants of the cache, where that is not what everybody gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.compiler.settings import Layers


@dataclass(frozen=True)
class Choice:
    """The settings of one generation.

    Attributes:
        off: nothing of it is cached.
        layers: the settings of each block list, by its transformer's path and its own.
    """

    off: bool = False
    layers: Mapping[tuple[str, str], Layers] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Choice:
        """The settings of a plan, which is another one for the same pipeline."""
        return cls(layers={(own.path, item.path): item.layers for own, item in plan.block_lists})
