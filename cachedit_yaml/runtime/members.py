"""One request in a forward that several share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.rows import Split

if TYPE_CHECKING:
    from cachedit_yaml.runtime.blocks import ListRunner


@dataclass
class Member:
    """One request in a forward.

    Attributes:
        branch: its cache; None where all of it is computed and nothing is stored.
        primary: the first branch of its step.
        rows: its rows of the latents.
        step: the step that it is at.
        place: which forward of the step this is.
        length: how much of the encoder hidden states is its own; None for all.
        hits: which of its samples are served in this forward; a single answer for all.
        split: those, where some are and others are not.
    """

    branch: BranchState | None
    primary: BranchState | None
    rows: int
    step: int
    place: int
    length: int | None = None
    hits: tuple[bool, ...] = (False,)
    split: Split | None = None

    def take(self, hits: tuple[bool, ...], runner: ListRunner, shape: torch.Size) -> None:
        """It has decided.

        Args:
            hits: as above.
            runner: the list.
            shape: of its hidden states.
        """
        self.hits = hits
        if any(hits) and not all(hits):
            assert self.branch is not None
            assert self.branch.layout is not None
            self.split = Split(runner, self.branch.layout, hits, shape[0], shape)

    def count(self, served: bool) -> int:
        """How many of its rows are served, or computed."""
        return sum(self.hits[row % len(self.hits)] is served for row in range(self.rows))

    def own(self, encoder: Any, width: int | None) -> Any:
        """Its encoder hidden states without what they were padded with.

        Args:
            encoder: its rows of them, ``[r x s x d]``.
            width: the length of what is padded; None for nothing.
        """
        padded = isinstance(encoder, torch.Tensor) and encoder.ndim > 2
        return encoder[:, : self.length] if padded and encoder.shape[1] == width else encoder
