"""What one generation keeps for one transformer under native execution."""

from __future__ import annotations

from typing import Any

from cachedit_yaml.compiler.plan import ListPlan
from cachedit_yaml.runtime.manager import free
from cachedit_yaml.runtime.record import BranchRecord
from cachedit_yaml.runtime.stats import BranchStats
from cachedit_yaml.runtime.turns import TransformerState


class NativeState(TransformerState):
    """What one generation keeps for one transformer.

    Attributes:
        contexts: cache-dit's contexts by block list, each with the step that it began at; more
            than one where `force_refresh_step_hint` made it begin anew.
        forwards: forwards of the first step, which every later step must have.
        shapes: of what each forward of a step was called with; every later step must have the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.contexts: dict[str, list[tuple[int, Any]]] = {}
        self.forwards = 0
        self.shapes: dict[int, tuple[Any, ...]] = {}

    @property
    def separate(self) -> bool:
        """Whether a context keeps two branches."""
        return any(
            contexts[-1][1].cache_config.enable_separate_cfg for contexts in self.contexts.values()
        )

    def forget(self) -> None:
        """Nothing: cache-dit goes on with what it holds, until the generation ends."""

    def release(self) -> None:
        """Drop every cached tensor; the lists of steps stay for the statistics."""
        for contexts in self.contexts.values():
            for _, context in contexts:
                free(context)

    def rows(self, transformer: str, plan: ListPlan) -> list[BranchStats]:
        """What one block list did, from cache-dit's contexts."""
        contexts = self.contexts[plan.follows or plan.path]
        config = contexts[-1][1].cache_config
        executed = range(self.step + 1)
        count, always = len(plan.blocks), 0
        if plan.follows is None:
            always += config.Fn_compute_blocks
        if plan.layers.end is None:
            always += config.Bn_compute_blocks
        rows = []
        for branch in ("main", "guidance")[: 1 + bool(config.enable_separate_cfg)]:
            prefix = "" if branch == "main" else "cfg_"
            record = BranchRecord(executed=list(executed), total_blocks=count * len(executed))
            for begin, context in contexts:
                record.cached += [
                    begin + step for step in getattr(context, f"{prefix}cached_steps")
                ]
                record.diffs.update(
                    (begin + int(step), value)
                    for step, value in getattr(context, f"{prefix}residual_diffs").items()
                    if isinstance(value, float) and not value < 0 and plan.follows is None
                )
            saved = sum(
                sum(getattr(context, f"{prefix}pruned_blocks", ())) for _, context in contexts
            )
            saved = saved or (count - always) * len(record.cached)
            record.computed_blocks = record.total_blocks - saved
            threshold = float(config.residual_diff_threshold)
            rows.append(
                BranchStats.of(
                    transformer, plan.path, branch, threshold, record, follows=plan.follows
                )
            )
        return rows
