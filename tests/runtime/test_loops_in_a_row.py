"""Loops of one's own, one right after another: none is served from what another has stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cachedit_yaml.runtime.buffers import BranchState
from tests.runtime import models
from tests.runtime.models import ALWAYS, DIM, adapter, small, start
from tests.runtime.requests_at_once import Conditioned

PROMPTS = torch.randn(8, 4, DIM, generator=torch.Generator().manual_seed(3))


def levels(first: float, count: int) -> list[float]:
    """Falling timesteps."""
    return [first * (1 - index / count) for index in range(count)]


def rows(kind: str, count: int) -> list[list[float]]:
    """The timesteps of several loops."""
    down = levels(1000, count)
    second = levels(down[-1], count)
    third = levels(second[-1], count)
    found = {
        "the same": [down] * 3,
        "there and back": [down[::-1], down, down[::-1], down],
        # Three with two steps call the model as one of Heun's does, whatever one looks at.
        "stages": [down, second, third][: 2 if count == 2 else 3],
        "longer and back": [down, levels(1000, count + 2), down],
        "shorter": [[*down, down[-1] / 2], down, down[:-1] or down],
        "the last part": [down, down[1:] or down, down],
    }
    return found[kind]


class Loops:
    """Runs loops, and sees of which one what is served comes from.

    Attributes:
        wrong: served forwards, each with the loop that it was in and the one that had stored.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.wrong: list[tuple[int, int | None]] = []
        stored: dict[BranchState, int] = {}
        store, mark_hit = BranchState.store, BranchState.mark_hit

        def storing(branch: BranchState, *args: Any) -> None:
            stored[branch] = self.now
            store(branch, *args)

        def serving(branch: BranchState) -> None:
            if stored.get(branch) != self.now:
                self.wrong.append((self.now, stored.get(branch)))
            mark_hit(branch)

        monkeypatch.setattr(BranchState, "store", storing)
        monkeypatch.setattr(BranchState, "mark_hit", serving)

    @torch.no_grad()
    def run(
        self,
        model: Any,
        timesteps: list[float],
        latents: torch.Tensor,
        prompts: list[torch.Tensor],
        *,
        copies: bool,
        anew: bool,
    ) -> torch.Tensor:
        """One loop, without a scheduler."""
        self.now += 1
        for timestep in timesteps:
            parts = [
                model(latents.clone() if copies else latents, timestep, p.clone() if anew else p)
                for p in prompts
            ]
            latents = latents - 0.05 * sum(parts)
        return latents


def cases() -> Iterator[tuple[Any, ...]]:
    """Forwards of each loop's steps, and what is copied, begun with and asked for."""
    forwards = ((1, 1), (2, 2), (1, 2), (2, 1))
    return itertools.product(forwards, *[(False, True)] * 4)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "kind",
    ["the same", "there and back", "stages", "longer and back", "shorter", "the last part"],
)
def test_none_is_served_from_the_last_one(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = Loops(monkeypatch)
    for forwards, copies, anew, goes_on, others in cases():
        model, latents = small(Conditioned), models.noise()
        with start(model, adapter(), **ALWAYS, max_continuous_cached_steps=-1):
            for index, timesteps in enumerate(rows(kind, count)):
                first = 2 * index if others else 0
                prompts = [PROMPTS[first], PROMPTS[first + 1]][: forwards[index % 2]]
                given = latents if goes_on else models.noise()
                latents = loops.run(model, timesteps, given, prompts, copies=copies, anew=anew)
        assert not loops.wrong, (forwards, copies, anew, goes_on, others)
