"""Whether a forward at the timestep of the last one is guidance, or the first of another loop.

An inversion ends at the timestep that sampling begins with, and so does one stage at that of the
next. Until then every step had as many forwards, and those of a step share their latents. One more
that takes latents of its own belongs to a loop that starts from what the last one has made. Tensors
are told apart by the memory that they are: nothing is read.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final, NamedTuple

from cachedit_yaml.runtime.identity import Traces
from cachedit_yaml.runtime.samples import latents_among

#: Samplers with two calls a step have one in the first: that many steps tell what is usual.
_KNOWN: Final = 2


class _Call(NamedTuple):
    """A forward: the branch that was announced, and the tensors that went in."""

    name: str | None
    traces: Traces

    def shares(self, other: _Call, names: frozenset[str]) -> bool:
        """Whether one of some tensors is the same in another forward."""
        return any(
            name in other.traces and self.traces[name] == other.traces[name]
            for name in names & self.traces.keys()
        )


class Repeats:
    """The forwards of this step and of the one before."""

    def __init__(self) -> None:
        self._steps = 0
        self._last: list[_Call] = []
        self._here: list[_Call] = []

    def begin_loop(self) -> None:
        """The next forward is the first of a loop."""
        self._steps, self._last, self._here = 0, [], []

    def begin_step(self) -> None:
        """The next forward is the first of a step."""
        self._steps += 1
        self._last, self._here = self._here, []

    def see(self, name: str | None, traces: Traces) -> None:
        """A forward belongs to this step."""
        self._here.append(_Call(name, traces))

    def begins(self, name: str | None, traces: Traces) -> bool:
        """Whether one more forward at the same timestep begins another loop.

        Args:
            name: the guidance branch that the pipeline announced.
            traces: the tensors that go into it.
        """
        usual = len(self._last)
        if self._steps < _KNOWN or len(self._here) < usual:
            return False
        call = _Call(name, traces)
        # What this step's first forward has of its own, the latents above all.
        first = self._here[0]
        moved = frozenset(first.traces.keys() & traces.keys()) - self._kept(first)
        if not moved or any(call.shares(other, moved) for other in self._here):
            return False
        # A prompt that joins in has others too where every forward gets a copy of the latents; not
        # where forwards of one prompt have their own, as those of samplers with two calls a step.
        shared = any(one.shares(other, moved) for one, other in combinations(self._last, 2))
        return usual == 1 or shared or self._prompted_twice([*self._here, call])

    @property
    def mixed(self) -> bool:
        """Whether this step may hold the end of one loop and the beginning of another.

        It may be the first or the second one: two do not tell a loop from a sampler's second call
        or, where each forward gets a copy of the latents, from guidance.
        """
        usual, first = len(self._last), self._here[0]
        if self._steps == 0:
            usual, moved = 1, latents_among(first.traces)
        elif self._steps == 1 and usual:
            moved = frozenset(first.traces) - self._kept(first)
        else:
            return False
        own, more = self._here[:usual], self._here[usual:]
        return any(not any(one.shares(other, moved) for one in own) for other in more)

    def _prompted_twice(self, calls: list[_Call]) -> bool:
        """Whether two forwards of a step are of one branch."""
        kept: frozenset[str] = frozenset().union(*map(self._kept, calls))
        return any(
            one.name == other.name
            and all(one.traces.get(name) == other.traces.get(name) for name in kept)
            for one, other in combinations(calls, 2)
        )

    def _kept(self, call: _Call) -> frozenset[str]:
        """The tensors of a forward that one of the step before had too."""
        return frozenset(
            name
            for name, trace in call.traces.items()
            if any(other.traces.get(name) == trace for other in self._last)
        )
