"""One block list under the hooked loop: its hooks, and the form in which its blocks return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.compiler.parallel import Ranks
from cachedit_yaml.compiler.plan import ListPlan
from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.runtime.patching import Patch

if TYPE_CHECKING:
    from cachedit_yaml.runtime.passes import ListPass


class BlockHook(Patch):
    """Stands in for one block's forward, or for its compiled call: it is never traced itself."""

    def __init__(self, block: torch.nn.Module, runner: ListRunner, index: int) -> None:
        compiled = block._compiled_call_impl is not None
        super().__init__(block, "_compiled_call_impl" if compiled else "forward")
        self.runner = runner
        self.index = index

    def follow(self) -> None:
        """Move to where the block is called now, if it has been compiled since."""
        compiled = self.owner._compiled_call_impl
        if compiled is not self and not (compiled is None and self.name == "forward"):
            self.remove()
            BlockHook.__init__(self, self.owner, self.runner, self.index)
            self.install()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        running = self.runner.running
        if running is None or not self.active:
            return self.inner(*args, **kwargs)
        return running.call(self.index, self.inner, args, kwargs)


class ListRunner:
    """One block list: its hooks, and the pass that is under way.

    Attributes:
        running: the pass of the transformer's current forward; None outside of one.
        ranks: those that run the same forward, and decide alike; None for this one alone.
        in_place: blocks overwrite their input, so it is cloned before it is needed later.
    """

    def __init__(self, plan: ListPlan) -> None:
        self.plan = plan
        self.hooks = [BlockHook(block, self, index) for index, block in enumerate(plan.blocks)]
        self.running: ListPass | None = None
        self.in_place = False
        self.ranks: Ranks | None = None
        # The form in which the blocks return: 0 a tensor, else the length of the tuple.
        self.form = 0
        self.form_type: type[Any] = tuple

    def split(self, output: Any) -> tuple[torch.Tensor, Any]:
        """Take hidden states and the rest from what a block returned.

        Raises:
            CacheRuntimeError: it does not have the form that the pattern says.
        """
        if isinstance(output, torch.Tensor):
            self.form = 0
            return output, None
        pattern = self.plan.pattern
        wanted = 2 if pattern.returns_encoder else 1
        if isinstance(output, (tuple, list)) and len(output) in (1, wanted):
            self.form = len(output)
            self.form_type = type(output)
            first = pattern.hidden_first or len(output) == 1
            hidden, rest = (output[0], output[-1]) if first else (output[1], output[0])
            if isinstance(hidden, torch.Tensor):
                return hidden, rest if len(output) == 2 else None
        kinds = (
            f"({', '.join(type(item).__name__ for item in output)})"
            if isinstance(output, (tuple, list))
            else type(output).__name__
        )
        raise CacheRuntimeError(
            f"{self.plan.where}: a block returned {kinds}, which is not {pattern.name}; "
            "correct the pattern in the adapter"
        )

    def join(self, hidden: torch.Tensor, rest: Any) -> Any:
        """The inverse of :meth:`split`, in the form that the blocks use."""
        if self.form == 0:
            return hidden
        if self.form == 1:
            return self.form_type((hidden,))
        pair = (hidden, rest) if self.plan.pattern.hidden_first else (rest, hidden)
        return self.form_type(pair)
