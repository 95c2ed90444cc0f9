"""What one generation keeps for one transformer, and its part in a forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.conditioning import Branches
from cachedit_yaml.runtime.doubts import Doubt
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.identity import Traces
from cachedit_yaml.runtime.samples import Layout


class TransformerState:
    """What one generation keeps for one transformer.

    Attributes:
        step: index of the current step within this transformer's share; -1 before the first.
        branches: the caches, by block list, branch name and round through the list.
        layouts: which rows are whose, by branch name.
        uncached: forwards that ran uncached, by reason.
        vetoed: forwards that were computed, because another prompt than before had their place.
    """

    def __init__(self) -> None:
        self.step = -1
        self.tick = -1
        self.known = Branches()
        self.first: dict[tuple[str, int], str] = {}
        self.branches: dict[tuple[str, str, int], BranchState] = {}
        self.layouts: dict[str, Layout] = {}
        self.uncached: dict[str, int] = {}
        self.reruns = self.vetoed = 0
        self.changed: str | None = None

    def enter(self, tick: int, name: str | None, traces: Traces) -> str:
        """Count a forward; returns the branch that it belongs to."""
        if tick != self.tick:
            self.tick = tick
            self.step += 1
            self.first.clear()
        label, forgotten = self.known.of(tick, name, traces)
        for key in [key for key in self.branches if key[1] == forgotten]:
            self.branches[key].release()
        return label

    def lay_out(self, branch: str, count: int, latents: Any) -> None:
        """Tell which of the rows of a forward belong to which sample.

        Args:
            branch: the branch that the forward belongs to.
            count: how many rows it has.
            latents: those, until :meth:`leave`.
        """
        found = self.layouts.get(branch)
        if found is None or found.count != count:
            found = self.layouts[branch] = Layout(count)
        found.latents = latents if count > 1 and found.copies is None else None

    def leave(self, branch: str) -> None:
        """A forward of a branch is over."""
        if branch in self.layouts:
            self.layouts[branch].latents = None

    def likeness(self, traces: Traces) -> int:
        """How many tensors of a forward are those of one of its branches."""
        return self.known.likeness(traces)

    def step_at(self, tick: int) -> int:
        """The step that a forward at this tick belongs to."""
        return self.step + (tick != self.tick)

    def forget(self) -> None:
        """Drop what is cached; the next step computes."""
        self.known.free()
        for branch in self.branches.values():
            branch.forget()

    def release(self) -> None:
        """Drop every cached tensor."""
        self.known.free()
        for branch in self.branches.values():
            branch.release()

    def skip(self, reason: str) -> None:
        """Count a forward that runs uncached."""
        self.uncached[reason] = self.uncached.get(reason, 0) + 1


@dataclass
class Turn:
    """A generation's part in a forward.

    Attributes:
        generation: whose it is.
        state: what it keeps for the transformer.
        branch: the guidance branch that the forward belongs to.
        rows: its rows of the latents.
        reason: why it runs uncached, or None.
        doubt: whether it is that branch's, where values have to tell.
        width: the length of the encoder hidden states where requests share them; None where no
            request's are padded.
        length: how much of that is its own.
    """

    generation: Generation
    state: TransformerState
    branch: str
    rows: int
    reason: str | None = None
    doubt: Doubt | None = None
    width: int | None = None
    length: int | None = None

    def leave(self) -> None:
        """The forward is over, however it ended."""
        self.state.leave(self.branch)
        if self.doubt is not None:
            self.doubt.leave()

    def settle(self) -> None:
        """The forward has run."""
        if self.doubt is not None and self.reason is None:
            self.state.vetoed += self.doubt.vetoed
            self.doubt.settle()

    @property
    def place(self) -> int:
        """Which forward of its step this is, from 0 on."""
        return len(self.state.known.ran) - 1
