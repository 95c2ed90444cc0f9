"""What the engine holds for a cached block list: to switch it off, and to ask for statistics.

vLLM-Omni hands its targets to ``cache_dit.disable_cache`` and ``cache_dit.summary``. Both work on
modules and their attributes, so a target is a module without weights that has those attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.compiler.plan import ListPlan, TransformerPlan
from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import BranchStats


class Target(torch.nn.Module):
    """One block list of one transformer, as cache-dit's own functions see it.

    Attributes:
        handle: the handle of the pipeline that it belongs to.
    """

    def __init__(
        self, handle: Handle, transformer: str, blocks: str, disable: Callable[[], None]
    ) -> None:
        super().__init__()
        self.__dict__.update(handle=handle, transformer=transformer, blocks=blocks, disable=disable)

    def __getattr__(self, name: str) -> Any:
        if self.handle.enabled:
            if name == "_is_cached":
                return True
            try:
                if name == "_context_kwargs":
                    return self.handle.stats()
                found = self._statistics()
            except CacheRuntimeError:  # watched, and not cached yet
                found = {}
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        # cache-dit deletes its marks from what it switches off.
        self.disable()

    def _statistics(self) -> dict[str, Any]:
        """cache-dit's attributes for the first guidance branch, and for the second as ``cfg``."""
        rows = [
            row
            for row in self.handle.stats().branches
            if (row.transformer, row.blocks) == (self.transformer, self.blocks) or not self.blocks
        ]
        found: dict[str, Any] = {}
        for prefix, row in zip(("_", "_cfg_"), rows, strict=False):
            found |= {
                f"{prefix}cached_steps": list(row.cached_steps),
                f"{prefix}residual_diffs": differences(row),
                f"{prefix}accumulated_cached_steps": len(row.cached_steps),
            }
        if rows:
            executed = len(rows[0].executed_steps)
            found["_accumulated_executed_steps"] = executed
            found["_accumulated_transformer_executed_steps"] = sum(
                len(row.executed_steps) for row in rows
            )
        return found


def differences(row: BranchStats) -> dict[str, float]:
    """Residual differences, as cache-dit keeps them."""
    return {str(step): value for step, value in row.residual_diffs.items()}


def targets_of(handle: Handle, disable: Callable[[], None]) -> tuple[Target, ...]:
    """One target for each block list. Disabling one of them calls ``disable`` for all.

    What ``auto`` watches has no lists yet: one target stands for those to come.
    """
    if not isinstance(handle, Handle):
        return (Target(handle, "", "", disable),)
    return tuple(
        _target(handle, transformer, blocks, disable)
        for transformer in handle.plan.transformers
        for blocks in transformer.lists
    )


def _target(
    handle: Handle, transformer: TransformerPlan, blocks: ListPlan, disable: Callable[[], None]
) -> Target:
    # cache-dit's summary calls a module by the name of its class.
    name = f"{type(transformer.module).__name__} ({transformer.path}.{blocks.path})"
    cls: type[Target] = type(name, (Target,), {})
    return cls(handle, transformer.path, blocks.path, disable)
