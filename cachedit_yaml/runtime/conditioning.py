"""Which guidance branch a forward is: by the name announced, by what conditions it, by its place.

Loops call a transformer once for each prompt of a step, and mostly say no name. What tells the
forwards apart are the tensors that stay the same from step to step, each prompt's embeddings above
all. A forward that takes others than any branch has taken begins a branch of its own, with a
computed step: a prompt that joins in, or one that replaces another. Where nothing stays the same,
a branch is its place in the step, and values tell whether it is (:mod:`.doubts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cachedit_yaml.runtime import prompts
from cachedit_yaml.runtime.doubts import Doubt, Values
from cachedit_yaml.runtime.identity import Trace, Traces

#: Branches that a generation remembers: prompts may come back.
MOST_BRANCHES: Final = 16


@dataclass(eq=False)
class Branch:
    """What is known of one branch.

    Attributes:
        label: what it is called.
        group: the name that was announced; empty without.
        last: the tensors of its last forward.
        stable: those of them that have stayed the same; None after its first forward.
        tick: the step of its last forward.
        values: what its prompts were, where values have to tell.
    """

    label: str
    group: str
    last: Traces = field(default_factory=dict)
    stable: frozenset[str] | None = None
    tick: int = -1
    values: Values = field(default_factory=Values)

    def same(self, traces: Traces) -> frozenset[str]:
        """The tensors that are those of its last forward."""
        last = self.last
        return frozenset(name for name, trace in traces.items() if last.get(name) == trace)

    def see(self, traces: Traces, tick: int) -> None:
        """A forward was its own."""
        if self.tick >= 0:
            self.stable = self.same(traces)
        self.last = traces
        self.tick = tick


class Branches:
    """The branches of one transformer in one generation.

    Attributes:
        ran: those that have run in the current step, in their order.
    """

    def __init__(self) -> None:
        self._known: list[Branch] = []
        self.ran: list[Branch] = []
        self._tick = -1

    def of(self, tick: int, name: str | None, traces: Traces) -> tuple[str, str | None]:
        """The branch that a forward belongs to.

        Args:
            tick: steps that have ended.
            name: the name that was announced.
            traces: the tensors that go into the forward.

        Returns:
            Its label, and that of a branch which had to be forgotten for it.
        """
        if tick != self._tick:
            self._tick = tick
            self.ran = []
        group = name or ""
        free = [item for item in self._known if item.group == group and item not in self.ran]
        place = sum(item.group == group for item in self.ran)
        label = _label(name, place)
        found = self._by_conditioning(free, traces) or self._by_place(free, label, traces)
        forgotten = None
        if found is None:
            taken = {item.label for item in self._known}
            labels = (_label(name, index) for index in range(place, place + len(taken) + 1))
            found = Branch(next(item for item in labels if item not in taken), group)
            forgotten = self._make_room()
            self._known.append(found)
        found.see(traces, tick)
        self.ran.append(found)
        return found.label, forgotten

    def doubt(self, arguments: Mapping[str, Any], latents: Any) -> Doubt | None:
        """Whether values have to tell that the last forward belongs to its branch; None if not.

        Args:
            arguments: those of the forward.
            latents: the latents among them.
        """
        own = self.ran[-1]
        if own.group or self._told(own):
            own.values.free()
            return None
        held = prompts.held_of(arguments, own.last, latents)
        if not held:
            return None
        others = [item for item in self._known if item is not own and not item.group]
        # What forwards of one step share is no prompt that has moved: latents by an unknown name.
        earlier = [item.values.last for item in others if item not in self.ran]
        earlier += [item.values.before for item in others]
        return Doubt(own.values, earlier, held, unknown=own.stable is not None)

    def _told(self, own: Branch) -> bool:
        """Whether memory that stays the same tells the prompts of a branch from all others.

        Less than its largest prompt does not.
        """
        names = prompts.main(iter(own.last))
        if own.stable is None:
            return not names
        anew = {name for name in own.last if prompts.is_prompt(name)} - own.stable
        telling = [
            prompts.elements(own.last[name])
            for name in names & own.stable
            if not any(
                item.last.get(name) == own.last[name] for item in self._known if item is not own
            )
        ]
        most = max((prompts.elements(own.last[name]) for name in names & anew), default=0)
        return not anew or (bool(telling) and max(telling) >= most)

    def free(self) -> None:
        """Hold no tensor."""
        for item in self._known:
            item.values.free()

    def likeness(self, traces: Traces) -> int:
        """How many tensors of a forward are those of a branch, of the likest one."""
        return max((len(item.same(traces)) for item in self._known), default=0)

    def _by_conditioning(self, free: list[Branch], traces: Traces) -> Branch | None:
        best, most = None, 0
        for item in free:
            same = item.same(traces)
            needed = item.stable if item.stable is not None else self._telling(item, traces)
            if needed and needed <= same and len(same) > most:
                best, most = item, len(same)
        return best

    def _by_place(self, free: list[Branch], label: str, traces: Traces) -> Branch | None:
        """The branch of this place, unless what goes in says that it is another one."""
        for item in free:
            if item.label == label:
                telling = item.stable if item.stable is not None else self._telling(item, traces)
                return None if telling else item
        return None

    def _telling(self, branch: Branch, traces: Traces) -> frozenset[str]:
        """What tells a branch from the others after its first forward.

        Tensors in which it differs from another branch of the same step, or from what has proved to
        stay the same there, if somebody holds them still: loops that make them anew for each
        forward, or write them over, leave none.
        """
        found = set()
        for other in self._known:
            if other is branch or other.group != branch.group:
                continue
            if other.stable is None and other.tick != branch.tick:
                continue
            for name in branch.last if other.stable is None else other.stable:
                own = branch.last.get(name)
                if own is not None and name in other.last and own != other.last[name]:
                    found.add(name)
        return frozenset(
            name for name in found if self._stands(branch.last[name], traces.get(name))
        )

    def _stands(self, last: Trace, now: Trace | None) -> bool:
        """Whether a tensor may still be what it was, as far as the one in its place now tells."""
        held = sum(item.values.held(last.storage.cdata) for item in self._known)
        lives = last.lives_beside(held) if held else last.lives
        return lives and not (now is not None and now.writes_over(last))

    def _make_room(self) -> str | None:
        """Forget the branch that has not run for longest."""
        if len(self._known) < MOST_BRANCHES:
            return None
        oldest = min(self._known, key=lambda item: item.tick)
        self._known.remove(oldest)
        oldest.values.free()
        return oldest.label


def _label(name: str | None, place: int) -> str:
    if name is None:
        return f"forward {place + 1}"
    return name if place == 0 else f"{name} {place + 1}"
