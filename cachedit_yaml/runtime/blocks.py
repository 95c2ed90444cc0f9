"""One block list under the hooked loop: its hooks, and the form in which its blocks return."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.compiler.parallel import Ranks
from cachedit_yaml.compiler.plan import ListPlan
from cachedit_yaml.compiler.signature import PATTERNS, Pattern
from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.runtime.outputs import Entries, describe, entries
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.yaml.diagnostics import nearest

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
        if self.owner is None:
            return
        compiled = self.owner._compiled_call_impl
        if compiled is not self and not (compiled is None and self.name == "forward"):
            self.remove()
            BlockHook.__init__(self, self.owner, self.runner, self.index)
            self.install()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        running = self.runner.running
        if running is None or not self.active:
            return self.inner(*args, **kwargs)
        if self.runner.stream is None:
            return running.call(self.index, self.inner, args, kwargs)
        self.runner.stream.enters(self.index, args, kwargs)
        output = running.call(self.index, self.inner, args, kwargs)
        self.runner.stream.leaves(self.index, output)
        return output


class ListRunner:
    """One block list: its hooks, and the pass that is under way.

    Attributes:
        running: the pass of the transformer's current forward; None outside of one.
        ranks: those that run the same forward, and decide alike; None for this one alone.
        in_place: blocks overwrite their input, so it is cloned before it is needed later.
        stream: follows what runs through the list, the first time that it is computed.
        leader: the list that decides for this one; None where it decides itself.
        group: the lists that take the same decision, this one among them.
        proved: blocks that do to a part of a batch what they do to all of it, by what they take.
        wide: arguments with several rows for each sample carry the batch too.
        together: why the samples of a batch decide together, by what runs through.
    """

    def __init__(self, plan: ListPlan) -> None:
        self.plan = plan
        self.hooks = [BlockHook(block, self, index) for index, block in enumerate(plan.blocks)]
        self.running: ListPass | None = None
        self.in_place = False
        self.stream: Stream | None = Stream(self) if plan.pattern.returns_encoder else None
        self.ranks: Ranks | None = None
        self.leader: ListRunner | None = None
        self.group = [self]
        self.proved: set[Any] = set()
        self.wide = False
        self.together: dict[Any, str] = {}
        # The form in which the blocks return: 0 a tensor, else the length of the tuple.
        self.form = 0
        self.form_type: type[Any] = tuple
        self.entries = None if plan.returns is None else Entries(plan.returns, plan.where)

    def split(self, output: Any) -> tuple[torch.Tensor, Any]:
        """Take hidden states and the rest from what a block returned.

        Raises:
            CacheRuntimeError: it does not have the form that the pattern says.
        """
        if self.entries is not None:
            return self.entries.take(output)
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
        raise CacheRuntimeError(
            f"{self.plan.where}: a block returned {describe(output)}, which is not {pattern.name}; "
            f"{_advice(output, pattern)}"
        )

    def join(self, hidden: torch.Tensor, rest: Any, kept: Any = None) -> Any:
        """The inverse of :meth:`split`, in the form that the blocks use.

        Args:
            hidden: the hidden states.
            rest: the encoder hidden states, where they are returned.
            kept: what else the block's last output held.
        """
        if self.entries is not None:
            return self.entries.put(kept, hidden, rest)
        if self.form == 0:
            return hidden
        if self.form == 1:
            return self.form_type((hidden,))
        pair = (hidden, rest) if self.plan.pattern.hidden_first else (rest, hidden)
        return self.form_type(pair)


def _advice(output: Any, pattern: Pattern) -> str:
    """How an adapter says which entry of an output is which."""
    held = [name for name, value in entries(output).items() if isinstance(value, torch.Tensor)]
    if not held:
        return "nothing in it is a tensor, so this list cannot be cached"
    roles = ["hidden_states", *(["encoder_hidden_states"] if pattern.returns_encoder else [])]
    named = {role: next(iter(nearest(role, held, limit=1)), held[0]) for role in roles}
    shown = ", ".join(f"{role}: {name}" for role, name in named.items())
    return f"write where it holds what, such as `returns: {{{shown}}}`, or another pattern"


class Stream:
    """Follows what one block returns into the next one, by identity, through one computed pass.

    A pattern that takes the two streams of a block for each other goes unnoticed where both have
    the same shape; the loop knows better.
    """

    def __init__(self, runner: ListRunner) -> None:
        self.runner = runner
        self._last: tuple[int, weakref.ref[Any], weakref.ref[Any]] | None = None

    def enters(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A block is called.

        Raises:
            CacheRuntimeError: with what the one before it has returned, in the other order.
        """
        last, self._last = self._last, None
        if last is None or last[0] + 1 != index:
            return
        plan = self.runner.plan
        taken = plan.binding.hidden.get(args, kwargs)
        beside = plan.binding.encoder.get(args, kwargs) if plan.binding.encoder else None
        hidden, encoder = last[1](), last[2]()
        if taken is None or hidden is None or encoder is None:
            return
        if taken is encoder and (beside is hidden or beside is None):
            right = next(
                item.name
                for item in PATTERNS.values()
                if item.returns_encoder
                and item.takes_encoder == plan.pattern.takes_encoder
                and item.hidden_first != plan.pattern.hidden_first
            )
            raise CacheRuntimeError(
                f"{plan.where}: {plan.pattern.name} takes what a block returns in the wrong order: "
                f"the loop hands it on the other way round; write {right} in the adapter"
            )

    def leaves(self, index: int, output: Any) -> None:
        """A block has returned."""
        running = self.runner.running
        if running is None or running.hit:
            return
        if index + 1 == len(self.runner.hooks):
            self.runner.stream = None  # seen whole
            return
        hidden, encoder = self.runner.split(output)
        if isinstance(encoder, torch.Tensor):
            self._last = index, weakref.ref(hidden), weakref.ref(encoder)
