"""What a generation did, for people and for programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from cachedit_yaml.runtime.record import BranchRecord
from cachedit_yaml.yaml.diagnostics import plain


@dataclass(frozen=True)
class SampleStats:
    """One sample of a batch, in one guidance branch of one block list.

    Attributes:
        cached_steps: steps in which it was served from the cache.
        residual_diffs: relative difference of its residual by step, where it was measured.
    """

    cached_steps: tuple[int, ...]
    residual_diffs: dict[int, float]


@dataclass(frozen=True)
class BranchStats:
    """One guidance branch of one block list in one generation.

    Attributes:
        transformer: attribute path from the pipeline.
        blocks: attribute path of the list from the transformer.
        branch: the name that the pipeline announced, or the forward's place in its step.
        executed_steps: steps (within the transformer's share) in which it ran.
        places: which forward of each of these steps it was, from 0 on; empty where the execution
            does not tell.
        cached_steps: those of them served from the cache, with every sample of the batch.
        residual_diffs: relative difference of the residual by step, where it was measured; the
            largest of the samples'.
        threshold: the difference below which a step hits.
        computed_blocks: blocks that ran; one that ran for a part of the batch counts as that part.
        total_blocks: blocks that the transformer's loop called.
        unfit: why it could not hit at all, or None.
        follows: the list that decided for this one; None where it decided itself.
        partly_cached: steps in which some samples were served from the cache and others were not,
            each with the share of those that were.
        samples: what each sample of a batch did; empty where all are treated alike.
        together: steps that were computed for all samples, though some might have been served, and
            why.
    """

    transformer: str
    blocks: str
    branch: str
    executed_steps: tuple[int, ...]
    cached_steps: tuple[int, ...]
    residual_diffs: dict[int, float]
    threshold: float
    computed_blocks: float
    total_blocks: int
    unfit: str | None = None
    places: tuple[int, ...] = ()
    follows: str | None = None
    partly_cached: dict[int, float] = field(default_factory=dict)
    samples: tuple[SampleStats, ...] = ()
    together: dict[int, str] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        """Cached steps over executed ones; one that is cached for some samples counts in part."""
        return self._hits / len(self.executed_steps) if self.executed_steps else 0.0

    @property
    def steps_cached(self) -> str:
        """How many of its steps were served from the cache, for people."""
        partly = f", {len(self.partly_cached)} more in part" if self.partly_cached else ""
        return f"{len(self.cached_steps)} of {len(self.executed_steps)} steps cached{partly}"

    @property
    def _hits(self) -> float:
        return len(self.cached_steps) + sum(self.partly_cached.values())

    @property
    def computed_fraction(self) -> float:
        """Blocks that ran over blocks that the loop called."""
        return self.computed_blocks / self.total_blocks if self.total_blocks else 1.0

    @classmethod
    def of(
        cls,
        transformer: str,
        blocks: str,
        branch: str,
        threshold: float,
        record: BranchRecord,
        unfit: str | None = None,
        follows: str | None = None,
    ) -> BranchStats:
        """Freeze a running record."""
        return cls(
            transformer=transformer,
            blocks=blocks,
            branch=branch,
            executed_steps=tuple(record.executed),
            cached_steps=tuple(record.cached),
            residual_diffs=dict(record.diffs),
            threshold=threshold,
            computed_blocks=_whole(record.computed_blocks),
            total_blocks=record.total_blocks,
            unfit=unfit,
            places=tuple(record.places),
            follows=follows,
            partly_cached=dict(record.partly),
            samples=tuple(
                SampleStats(tuple(item.cached), dict(item.diffs)) for item in record.samples
            ),
            together=dict(record.together),
        )


def _whole(blocks: float) -> float:
    """Parts of blocks added up, without what adding leaves behind the comma."""
    return round(blocks) if abs(blocks - round(blocks)) < 1e-6 else round(blocks, 6)


@dataclass(frozen=True)
class Stats:
    """One generation.

    Attributes:
        adapter: the adapter's name.
        execution: ``loop`` or ``native``.
        num_steps: executed steps of the generation, or None where unknown.
        branches: one entry for each transformer, list and branch.
        warnings: what went otherwise than one would want, one sentence each.
        what: whose it was: the class of the pipeline that ran, or the name of a request; empty
            where neither is known.
        ended: how it ended; None while it goes on, as far as anybody knows.
    """

    adapter: str
    execution: str
    num_steps: int | None
    branches: tuple[BranchStats, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    what: str = ""
    ended: str | None = None

    @property
    def hit_ratio(self) -> float:
        """Cached steps over executed ones, over all branches."""
        executed = sum(len(item.executed_steps) for item in self.branches)
        return sum(item._hits for item in self.branches) / executed if executed else 0.0

    @property
    def computed_fraction(self) -> float:
        """Blocks that ran over blocks that the loops called."""
        total = sum(item.total_blocks for item in self.branches)
        return sum(item.computed_blocks for item in self.branches) / total if total else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        result = asdict(self)
        result.update(hit_ratio=self.hit_ratio, computed_fraction=self.computed_fraction)
        for row, item in zip(result["branches"], self.branches, strict=True):
            row.update(hit_ratio=item.hit_ratio, computed_fraction=item.computed_fraction)
        return result

    def __str__(self) -> str:
        steps = "?" if self.num_steps is None else self.num_steps
        lines = [
            f"{self.adapter} ({self.execution}): {steps} steps, {self.hit_ratio:.0%} of forwards "
            f"cached, {self.computed_fraction:.0%} of blocks computed"
        ]
        for item in self.branches:
            diffs = [value for value in item.residual_diffs.values() if value >= 0]
            spread = f", differences {min(diffs):.3f} to {max(diffs):.3f}" if diffs else ""
            how = f"follows {item.follows}" if item.follows else f"threshold {item.threshold:g}"
            lines.append(
                f"  {item.transformer}.{item.blocks} [{item.branch}]: "
                f"{item.steps_cached}, {how}{spread}"
            )
            if item.partly_cached:
                each = ", ".join(str(len(own.cached_steps)) for own in item.samples)
                lines.append(f"    by sample: {each}")
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join(map(plain, lines))


def warnings_about(branches: tuple[BranchStats, ...]) -> list[str]:
    """Say where a cache never hit, and which number would change that."""
    found = []
    hit = {(item.transformer, item.blocks, item.branch) for item in branches if item._hits}
    for item in branches:
        where = f"{item.transformer}.{item.blocks} [{item.branch}]"
        if item.unfit is not None:
            found.append(f"{where} cannot hit: {item.unfit}")
            continue
        for why in dict.fromkeys(item.together.values()):
            times = sum(other == why for other in item.together.values())
            found.append(
                f"{where}: {times} times all samples of a batch were computed because one of them "
                f"had to be: {why}"
            )
        never = [
            index for index, own in enumerate(item.samples) if own.residual_diffs
            and not own.cached_steps
        ]  # fmt: skip
        if item._hits and never:
            found.append(
                f"{where}: of {len(item.samples)} samples in the batch these never hit: "
                + ", ".join(str(index + 1) for index in never)
            )
        broken = [value for value in item.residual_diffs.values() if not math.isfinite(value)]
        if broken and item._hits:
            found.append(
                f"{where}: {len(broken)} steps came to NaN or infinity; what they left was thrown "
                "away, and no step was served from it"
            )
        pruned = item.computed_blocks < item.total_blocks
        if item._hits or pruned or len(item.executed_steps) < 2:
            continue
        if item.follows is not None:
            # Where that one never hit either, it is said of that one.
            if (item.transformer, item.follows, item.branch) in hit:
                found.append(
                    f"{where} never hit, though {item.follows}, which it follows, did: what it "
                    "had stored never fitted"
                )
            continue
        if item.threshold == 0:
            found.append(f"{where} never hit: residual_diff_threshold is 0")
            continue
        diffs = [value for value in item.residual_diffs.values() if value >= 0]
        if broken:
            found.append(
                f"{where}: the residual difference is not a number; the blocks write over their "
                "input, or produce NaN"
            )
        elif diffs and min(diffs) >= item.threshold:
            found.append(
                f"{where} never hit: threshold {item.threshold:g} is below every difference seen "
                f"({min(diffs):.4f} to {max(diffs):.4f}); raise residual_diff_threshold"
            )
        elif not diffs:
            found.append(
                f"{where} never hit: every step was warm-up, computed by the mask, or past a "
                "limit; lower max_warmup_steps for so few steps"
            )
    return found
