"""Settings that are known to do badly, in what a generation did with them.

The numbers are those of the demo's two models: docs/tune.md, and `make bench-quality`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.stats import BranchStats

#: From so many steps of warm-up on, its last ones are neighbours whose slope says little.
_WARMUP: Final = 3
#: So many cached steps in a row are a long run, where they are as many as the warm-up: after 8,
#: runs of 6 came out as well with TaylorSeer as without, after 4 by 3 dB worse.
_IN_A_ROW: Final = 4
#: Below this share of computed steps, a forecast of order 2 is worse than one of order 1, where a
#: threshold chooses them; under a mask the two are about equal.
_COMPUTED: Final = 0.5


def advice_of(plan: Plan, generation: Generation, branches: Iterable[BranchStats]) -> Iterator[str]:
    """What is known to be bad about the settings of a generation, one sentence each."""
    lists = {(own.path, item.path): item for own, item in plan.block_lists}
    for branch in branches:
        steps = generation.shares.get(branch.transformer) or generation.total
        resolved = lists[branch.transformer, branch.blocks].layers.resolve(steps)
        yield from advice_on(branch, resolved.values)


def advice_on(branch: BranchStats, settings: Mapping[str, Any]) -> Iterator[str]:
    """What is known to be bad about settings, one sentence each.

    Args:
        branch: what a list did under them; one that follows another has nothing of its own.
        settings: of the list, by name.
    """
    calibrator: Any = settings.get("calibrator")
    scm: Any = settings.get("scm")
    if getattr(calibrator, "type", None) != "taylorseer" or not calibrator.enable_calibrator:
        return
    if branch.follows is not None or not branch.cached_steps:
        return
    where = f"{branch.transformer}.{branch.blocks} [{branch.branch}]"
    warmup = settings.get("max_warmup_steps") or 0
    order = calibrator.taylorseer_order
    computed = 1 - branch.hit_ratio
    if order >= 2 and computed < _COMPUTED and scm is None:
        yield (
            f"{where}: TaylorSeer of order {order} where {computed:.0%} of the steps are computed; "
            "order 1 is nearer to the uncached result where few are"
        )
    if order < 1 or warmup < _WARMUP:
        return
    row = longest_run(branch)
    if getattr(scm, "preset", None) is not None:
        yield (
            f"{where}: the scm preset {scm.preset} after max_warmup_steps {warmup}, with "
            "TaylorSeer: it forecasts from neighbouring steps; warm up for 1 or 2"
        )
    elif scm is None and row >= max(_IN_A_ROW, warmup):
        yield (
            f"{where}: max_warmup_steps {warmup} with TaylorSeer and {row} cached steps in a row: "
            "it forecasts from neighbouring steps; warm up for 1 or 2, or cache fewer in a row"
        )


def longest_run(branch: BranchStats) -> int:
    """The most cached steps in a row."""
    longest = length = 1
    for before, step in pairwise(branch.cached_steps):
        length = length + 1 if step == before + 1 else 1
        longest = max(longest, length)
    return longest
