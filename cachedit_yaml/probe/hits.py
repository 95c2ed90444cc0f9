"""Whether the steps that hit are those that may, and run F + B blocks of each list and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.runtime.stats import BranchStats, Stats

#: A block by its transformer, list and index.
Block = tuple[str, str, int]

#: Steps 1 and 2 may be served from the cache, whatever the number of executed steps.
MASK: Final[Mapping[str, Any]] = {
    "scm": {"compute_bins": [1, 1000], "cache_bins": [2], "policy": "static"},
    "max_continuous_cached_steps": -1,
    "max_cached_steps": -1,
    "force_refresh_step_hint": None,
}
_HITS: Final = (1, 2)


@dataclass(frozen=True)
class Hits:
    """What a run with hits has shown, beside one without caching.

    Attributes:
        stats: what the handle has counted.
        ran: how often each block ran.
        whole: how often it did without caching.
        shapes: of the hidden states that reached the first block of each list without caching: with
            hits that of a list which follows another one may not run.
    """

    stats: Stats
    ran: Mapping[Block, int]
    whole: Mapping[Block, int]
    shapes: Mapping[tuple[str, str], list[torch.Size]]

    def wrong(self, plan: Plan) -> str | None:
        """What is otherwise than it should be, of the first list of which anything is; or None."""
        for transformer, blocks in plan.block_lists:
            wrong = self._wrong(transformer, blocks)
            if wrong is not None:
                return f"{transformer.path}.{blocks.path}: {wrong}"
        return None

    def _wrong(self, transformer: TransformerPlan, blocks: ListPlan) -> str | None:
        where = (transformer.path, blocks.path)
        rows = [row for row in self.stats.branches if (row.transformer, row.blocks) == where]
        count = len(blocks.blocks)
        keys = [(transformer.path, blocks.path, index) for index in range(count)]
        ran = [self.ran[key] for key in keys]
        whole = [self.whole.get(key, 0) for key in keys]
        if sum(row.computed_blocks for row in rows) != sum(ran):
            return "the statistics count other blocks than ran"
        for row, shapes in self._by_branch(where, rows):
            expected = _expected(row.executed_steps, shapes, self._decided(row))
            if row.cached_steps != expected:
                return f"[{row.branch}] cached steps {row.cached_steps}, expected {expected}"
        settings = blocks.layers.resolve(None)
        always = {*range(settings.fn), *range(count - settings.bn, count)}
        if any(ran[index] != whole[index] for index in always):
            return (
                f"the first {settings.fn} and last {settings.bn} blocks did not run in every step"
            )
        cached = sum(len(row.cached_steps) for row in rows)
        # Where the loop leaves blocks out by itself (skipped layers), it says how often each runs.
        for index in range(count):
            if index not in always and not whole[index] - cached <= ran[index] <= whole[index]:
                return f"block {index} ran {ran[index]} times, and {cached} of its steps are cached"
        if len(set(whole)) == 1 and sum(whole) - sum(ran) != cached * (count - len(always)):
            return f"{sum(ran)} blocks ran where {cached} cached steps leave out all but F + B"
        return None

    def _decided(self, row: BranchStats) -> tuple[int, ...]:
        """Steps that may hit: those of the mask, or of the list that this one follows."""
        if row.follows is None:
            return _HITS
        where = (row.transformer, row.follows, row.branch)
        return next(
            (
                other.cached_steps
                for other in self.stats.branches
                if (other.transformer, other.blocks, other.branch) == where
            ),
            (),
        )

    def _by_branch(
        self, where: tuple[str, str], rows: list[BranchStats]
    ) -> Iterator[tuple[BranchStats, list[torch.Size]]]:
        """Shapes of the hidden states, by branch: those of a step run in turn."""
        seen = iter(self.shapes.get(where, []))
        own: dict[str, list[torch.Size]] = {row.branch: [] for row in rows}
        turns = [
            (step, place, row.branch)
            for row in rows
            for step, place in zip(row.executed_steps, row.places, strict=True)
        ]
        for _, _, branch in sorted(turns, key=lambda turn: turn[:2]):
            own[branch].append(next(seen))
        for row in rows:
            yield row, own[row.branch]


def _expected(
    executed: tuple[int, ...], shapes: list[torch.Size], allowed: tuple[int, ...]
) -> tuple[int, ...]:
    """Steps served from the cache: where it is allowed and the shape is that of the last."""
    hits, stored = [], None
    for step, shape in zip(executed, shapes, strict=True):
        if step in allowed and shape == stored:
            hits.append(step)
        else:
            stored = shape
    return tuple(hits)
