"""What one guidance branch did, as it runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class SampleRecord:
    """What one sample of a batch did.

    Attributes:
        cached: steps that were served from the cache.
        diffs: relative difference of its residual by step, where it was measured.
    """

    cached: list[int] = field(default_factory=list)
    diffs: dict[int, float] = field(default_factory=dict)


@dataclass
class BranchRecord:
    """What one guidance branch of one block list did in one generation, for people.

    Attributes:
        executed: steps (within this transformer's share) in which the branch ran.
        places: which forward of each of these steps it was, from 0 on.
        cached: those of them that hit, with every sample of the batch.
        partly: which share of the samples hit, by step, where some did and others did not.
        diffs: relative difference of the residual by step, where it was measured; the largest of
            the samples'.
        samples: by sample, where they decide apart; none where all are one.
        together: why samples that might have hit were computed with the others; by step.
        computed_blocks: blocks that ran; one that ran for a part of the batch counts as that part.
        total_blocks: blocks that the loop called.
    """

    executed: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    partly: dict[int, float] = field(default_factory=dict)
    diffs: dict[int, float] = field(default_factory=dict)
    samples: list[SampleRecord] = field(default_factory=list)
    together: dict[int, str] = field(default_factory=dict)
    computed_blocks: float = 0
    total_blocks: int = 0
