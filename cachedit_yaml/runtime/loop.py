"""The default execution: the transformers' own loops, with their blocks hooked."""

from __future__ import annotations

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.errors import CompileError
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.stats import BranchStats
from cachedit_yaml.runtime.transformer import TransformerRunner
from cachedit_yaml.runtime.turns import TransformerState


class LoopExecution:
    """Runs a plan with every block in its place.

    Raises:
        CompileError: the plan prunes, which cache-dit does natively only.
    """

    name = "loop"
    runner = TransformerRunner

    def __init__(self, plan: Plan, clock: Clock) -> None:
        for _, item in plan.block_lists:
            if item.layers.resolve(None).prune:
                raise CompileError(
                    f"{item.where}: DBPrune runs natively only; pass execution='native'"
                )
        self.plan = plan
        self.runners = [self.runner(item, clock, plan.together) for item in plan.transformers]

    @property
    def patches(self) -> list[Patch]:
        """Everything to install, in order."""
        return [patch for runner in self.runners for patch in runner.patches]

    def install(self) -> None:
        """Nothing but the patches."""

    def remove(self) -> None:
        """Nothing but the patches."""

    def branch_stats(self, generation: Generation) -> tuple[BranchStats, ...]:
        """What a generation did."""
        rows = []
        for transformer in self.plan.transformers:
            state = generation.transformers.get(transformer.path)
            if not isinstance(state, TransformerState):
                continue
            lists = {item.path: item for item in transformer.lists}
            order = list(lists)
            entries = sorted(state.branches.items(), key=lambda entry: order.index(entry[0][0]))
            for (blocks, branch, turn), found in entries:
                label = branch if turn == 0 else f"{branch}, round {turn + 1}"
                threshold = float(found.resolved.values["residual_diff_threshold"])
                rows.append(
                    BranchStats.of(
                        transformer.path,
                        blocks,
                        label,
                        threshold,
                        found.record,
                        found.unfit,
                        lists[blocks].follows,
                    )
                )
        return tuple(rows)

    def remarks(self, generation: Generation) -> list[str]:
        """What went otherwise than one would want."""
        found = []
        for transformer in self.plan.transformers:
            state = generation.transformers.get(transformer.path)
            if not isinstance(state, TransformerState):
                continue
            for reason, count in state.uncached.items():
                found.append(f"{transformer.path}: {count} forwards ran uncached: {reason}")
            if getattr(transformer.module, "is_cache_enabled", False):
                found.append(
                    f"{transformer.path}: diffusers' own cache was enabled too; two caches on one "
                    "transformer are not exact"
                )
            if state.vetoed:
                found.append(
                    f"{transformer.path}: {state.vetoed} forwards were computed, because another "
                    "prompt than before had their place in the step; announce guidance branches "
                    "with `transformer.cache_context(name)`"
                )
            if state.reruns:
                found.append(
                    f"{transformer.path}: {state.reruns} forwards ran twice, because the loop "
                    "called other blocks than on the stored step"
                )
        return found
