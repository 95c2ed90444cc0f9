"""How a plan is run: by its hooked loops, natively by cache-dit, or in a way of somebody's own.

Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cachedit_yaml.errors import ConfigError

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.runtime.clock import Clock
    from cachedit_yaml.runtime.generation import Generation
    from cachedit_yaml.runtime.handle import Handle
    from cachedit_yaml.runtime.patching import Patch
    from cachedit_yaml.runtime.stats import BranchStats


class Execution(Protocol):
    """How a plan is run: the hooked loop, or cache-dit's own way."""

    name: str

    @property
    def patches(self) -> list[Patch]:
        """Everything to install, in order."""

    def install(self) -> None:
        """Whatever else enabling does."""

    def remove(self) -> None:
        """Undo it."""

    def branch_stats(self, generation: Generation) -> tuple[BranchStats, ...]:
        """What a generation did."""

    def remarks(self, generation: Generation) -> list[str]:
        """What went otherwise than one would want."""


def start(plan: Plan, execution: str | Callable[[Plan, Clock], Execution] = "loop") -> Handle:
    """Run a plan: the second half of :func:`cachedit_yaml.enable`.

    Args:
        plan: what is to be cached.
        execution: ``loop``, ``native``, or what makes another one.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`. The pipeline is then as before.
    """
    from cachedit_yaml.runtime.clock import Clock
    from cachedit_yaml.runtime.handle import Handle
    from cachedit_yaml.runtime.loop import LoopExecution
    from cachedit_yaml.runtime.native import NativeExecution

    clock = Clock(plan)
    chosen: Execution
    if execution == "loop":
        chosen = LoopExecution(plan, clock)
    elif execution == "native":
        chosen = NativeExecution(plan, clock)
    elif callable(execution):
        chosen = execution(plan, clock)
    else:
        raise ConfigError(f"execution must be 'loop' or 'native', not {execution!r}")
    handle = Handle(plan, chosen, clock)
    handle._enable()
    return handle
