"""What one guidance branch did, as it runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BranchRecord:
    """What one guidance branch of one block list did in one generation, for people.

    Attributes:
        executed: steps (within this transformer's share) in which the branch ran.
        places: which forward of each of these steps it was, from 0 on.
        cached: those of them that hit.
        diffs: relative difference of the residual by step, where it was measured.
        computed_blocks: blocks that ran.
        total_blocks: blocks that the loop called.
    """

    executed: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    diffs: dict[int, float] = field(default_factory=dict)
    computed_blocks: int = 0
    total_blocks: int = 0
