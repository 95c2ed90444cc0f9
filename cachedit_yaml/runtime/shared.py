"""The caches of several requests whose rows share a forward, as the blocks' hooks see one.

Each request decides by its own rows, at its own step and under its own limits, and has what is
stored in a cache of its own: it gets what it gets alone, whoever shares its forwards. The middle
blocks run on the rows of those that miss, see :mod:`cachedit_yaml.runtime.rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch

from cachedit_yaml.compiler.parallel import Ranks
from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.manager import read_together
from cachedit_yaml.runtime.members import Member
from cachedit_yaml.runtime.record import BranchRecord
from cachedit_yaml.runtime.rows import Split, TogetherError
from cachedit_yaml.runtime.samples import Layout

if TYPE_CHECKING:
    from cachedit_yaml.runtime.blocks import ListRunner

NO_ROWS: Final = "what runs through its blocks has no rows for each request"
OTHER_CALLS: Final = "the loop called other blocks when theirs were stored"


def _alike(name: str, unless: bool = False) -> property:
    """What is the same for all, as the same blocks run for them: that of one who has it.

    Args:
        name: the attribute.
        unless: it is None where one of them has none.
    """

    def get(shared: SharedBranch) -> Any:
        if unless and any(getattr(branch, name) is None for branch in shared.branches):
            return None
        return getattr(shared.told, name)

    def put(shared: SharedBranch, value: Any) -> None:
        for branch in shared.branches:
            setattr(branch, name, value)

    return property(get, put)


class SharedBranch:
    """One guidance branch of one block list, of all requests in a forward.

    It has what :class:`~cachedit_yaml.runtime.contexts.BranchState` has for one of them, and holds
    nothing from one forward to the next.

    Args:
        runner: the list.
        members: the requests, in the order of their rows; at least one with a cache.
        width: the length of the encoder hidden states where they are padded.

    Attributes:
        layout: the rows of the latents, each of which is computed or served by itself.
        record: the blocks that ran for all of them.
        kept: as there; what holds more than tensors of the batch is not shared.
    """

    called = _alike("called")
    ends = _alike("ends")
    last_middle = _alike("last_middle")
    replaced = _alike("replaced")
    resolved = _alike("resolved")
    signature = _alike("signature", unless=True)
    unfit = _alike("unfit", unless=True)

    def __init__(self, runner: ListRunner, members: Sequence[Member], width: int | None) -> None:
        self._runner, self.members, self._width = runner, members, width
        self.branches = [item.branch for item in members if item.branch is not None]
        self.layout = Layout(sum(item.rows for item in members))
        self.layout.copies = 1
        self.record = BranchRecord()
        self.kept: dict[int, Any] = {}

    @property
    def told(self) -> BranchState:
        """Who knows which blocks were called: one that is served, or has stored something."""
        served = [item.branch for item in self.members if item.branch and any(item.hits)]
        stored = [item for item in self.branches if item.signature is not None]
        return [*served, *stored, *self.branches][0]

    @property
    def has_encoder(self) -> bool:
        """Whether encoder hidden states are stored too."""
        return any(item.has_encoder for item in self.branches)

    def begin_step(self, step: int, place: int = 0) -> None:
        """A forward begins; each request has told which step it is at."""
        for item in self.members:
            if item.branch is not None:
                item.branch.begin_step(item.step, item.place)

    # --- whose rows ---

    def _pieces(self, tensor: Any, counts: Sequence[int]) -> Sequence[Any]:
        """What of a tensor is whose.

        Args:
            tensor: its first dimension is the batch, or a part of it.
            counts: how many rows of the latents each has there.

        Raises:
            TogetherError: that cannot be told.
        """
        if not isinstance(tensor, torch.Tensor):
            return [tensor] * len(counts)
        each, left = divmod(tensor.shape[0] if tensor.ndim else 0, sum(counts))
        if left or not each:
            raise self.refuse(NO_ROWS)
        found: Sequence[Any] = torch.split(tensor, [each * count for count in counts])
        return found

    def _encoders(self, encoder: Any, counts: Sequence[int]) -> list[Any]:
        pairs = zip(self.members, self._pieces(encoder, counts), strict=True)
        return [item.own(piece, self._width) for item, piece in pairs]

    def refuse(self, why: str) -> TogetherError:
        """They cannot share a forward."""
        for branch in self.branches:
            branch.record.together[branch.last_step] = why
        return TogetherError(why)

    def computed_together(self, why: str) -> None:
        """All rows would be computed because some are: requests do not wait for each other.

        Raises:
            TogetherError: always.
        """
        raise self.refuse(why)

    # --- what is decided ---

    def decide(
        self,
        residual: torch.Tensor,
        hidden: torch.Tensor,
        encoder: Any,
        ranks: Ranks | None,
        primary: object,
    ) -> tuple[bool, ...]:
        """Which rows are served in this step, as each request decides; the host waits once.

        The arguments are as there; each has a primary of its own.

        Raises:
            TogetherError: the requests cannot be told apart.
        """
        parts = self._parts(hidden, encoder)
        residuals = self._pieces(residual, [item.rows for item in self.members])
        asked = [
            (item.branch.manager, item.branch.prefix_fn, own)
            for item, own in zip(self.members, residuals, strict=True)
            if item.branch is not None and not item.branch.apart(own.shape)
        ]
        with read_together(asked if ranks is None else []):
            for own, (item, piece, beside) in zip(residuals, parts, strict=True):
                if item.branch is not None and item.branch.unfit is None:
                    assert item.primary is not None
                    hits = item.branch.decide(own, piece, beside, ranks, item.primary)
                    item.take(hits, self._runner, piece.shape)
        return self._decided()

    def decide_before(
        self, hidden: torch.Tensor, encoder: Any, leader: Any, hits: tuple[bool, ...]
    ) -> tuple[bool, ...]:
        """Which rows are served, with F = 0.

        The arguments are as there; each has followed its own leader.

        Raises:
            TogetherError: the requests cannot be told apart.
        """
        leaders = self.members if leader is None else leader.members
        for other, (item, piece, beside) in zip(leaders, self._parts(hidden, encoder), strict=True):
            if item.branch is not None:
                first, own = (None, ()) if leader is None else (other.branch, other.hits)
                found = item.branch.decide_before(piece, beside, first, own)
                item.take(found, self._runner, piece.shape)
        return self._decided()

    def _parts(self, hidden: torch.Tensor, encoder: Any) -> list[tuple[Member, Any, Any]]:
        """Everybody's hidden states and encoder hidden states."""
        counts = [item.rows for item in self.members]
        if self.layout.axis(hidden.shape) != 0:
            raise self.refuse(NO_ROWS)
        pieces, encoders = self._pieces(hidden, counts), self._encoders(encoder, counts)
        return list(zip(self.members, pieces, encoders, strict=True))

    def _decided(self) -> tuple[bool, ...]:
        """For each row of the latents, whether it is served."""
        served = [item.branch for item in self.members if item.branch and any(item.hits)]
        if len({(item.called, item.last_middle, item.replaced) for item in served}) > 1:
            raise self.refuse(OTHER_CALLS)
        return tuple(
            item.hits[row % len(item.hits)] for item in self.members for row in range(item.rows)
        )

    def mark_hit(self) -> None:
        """Record who is served from the cache in this step."""
        for item in self.members:
            if item.branch is not None and all(item.hits):
                item.branch.mark_hit()
            elif item.branch is not None and item.split is not None:
                item.branch.mark_some(item.split)

    def mark_some(self, split: Split) -> None:
        """The same, where not all of them are."""
        self.mark_hit()

    # --- what is stored ---

    def _computed(self) -> Iterable[tuple[int, Member, BranchState]]:
        for index, item in enumerate(self.members):
            if item.branch is not None and not all(item.hits):
                yield index, item, item.branch

    def remember_residual(self, residual: torch.Tensor, split: Split | None = None) -> None:
        """Keep what the first F blocks added, for those that are computed."""
        pieces = self._pieces(residual, [item.rows for item in self.members])
        for index, item, branch in self._computed():
            branch.remember_residual(pieces[index].clone(), item.split)

    def sign(self, hidden: torch.Tensor) -> None:
        """There is nothing to store; see :meth:`BranchState.sign`."""
        pieces = self._pieces(hidden, [item.rows for item in self.members])
        for index, _, branch in self._computed():
            branch.sign(pieces[index])

    def store(
        self,
        hidden_in: torch.Tensor,
        hidden_out: torch.Tensor,
        encoder_in: torch.Tensor | None,
        encoder_out: torch.Tensor | None,
        split: Split | None = None,
    ) -> None:
        """Keep what the middle blocks added, for those that are computed; as there."""
        counts = [item.count(served=False) for item in self.members]
        before, after = self._pieces(hidden_in, counts), self._pieces(hidden_out, counts)
        first, last = self._encoders(encoder_in, counts), self._encoders(encoder_out, counts)
        told = self.told
        for index, item, branch in self._computed():
            branch.store(before[index], after[index], first[index], last[index], item.split)
            if split is not None and item.split is None:
                branch.called, branch.last_middle = told.called, told.last_middle
                branch.replaced = told.replaced

    def apply(
        self, hidden: torch.Tensor, encoder: torch.Tensor | None, split: Split | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Replace the middle blocks for those that are served; as there."""
        counts = [item.count(served=True) for item in self.members]
        pieces, whole = self._pieces(hidden, counts), self._pieces(encoder, counts)
        made: list[torch.Tensor] = []
        beside: list[torch.Tensor] = []
        for item, piece, rest, count in zip(self.members, pieces, whole, counts, strict=True):
            if item.branch is None or not count:
                continue
            own = item.own(rest, self._width)
            first, second = item.branch.apply(piece, own, item.split)
            made.append(first)
            if second is not None:
                padding = rest[:, second.shape[1] :]
                beside.append(torch.cat([second, padding], 1) if padding.shape[1] else second)
        return torch.cat(made), torch.cat(beside) if beside else None

    # --- what is counted ---

    def ran(self, split: Split, whole: int = 0) -> None:
        """A block ran for the rows that are computed, and so many times for all of them."""
        for item in self.members:
            if item.branch is not None:
                share = item.count(served=False) / item.rows
                item.branch.record.computed_blocks += share + whole

    def settle(self) -> None:
        """The loop has left the middle blocks."""
        for branch in self.branches:
            branch.settle()

    def finish(self) -> None:
        """The forward is over: what ran for all, ran for each."""
        for branch in self.branches:
            branch.record.total_blocks += self.record.total_blocks
            branch.record.computed_blocks += self.record.computed_blocks
        self.record = BranchRecord()


#: The caches of what runs through a block list.
Cache: TypeAlias = BranchState | SharedBranch
