"""What was traced, as tables: what each distance to an older step does to a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.trace import Forward


@dataclass
class Unit:
    """A guidance branch of a transformer in one generation.

    Attributes:
        transformer: its path.
        branch: the branch.
        share: how many steps the transformer has in that generation.
        blocks: how many blocks each list has.
        lists: their paths, in the same order.
        leaders: for each list the place of the one that decides for it, its own for most.
        steps: the steps in which it ran, counted within the transformer's share, ``[n]``.
        differences: of the residual of the first F blocks, by F: ``[n x d x lists]``.
        errors: of the final latents, by F and B: ``[n x d x s x p]``, d steps apart; d = 0 is 0.
    """

    transformer: str
    branch: str
    share: int
    blocks: tuple[int, ...]
    lists: tuple[str, ...]
    leaders: tuple[int, ...]
    steps: list[int]
    differences: dict[int, Array]
    errors: dict[tuple[int, int], Array]

    @property
    def names(self) -> list[str]:
        """The lists as a profile's ``lists`` names them."""
        return [f"{self.transformer}.{path}" for path in self.lists]

    def always(self, fn: int, bn: int) -> Array:
        """How many blocks of each list run on a cached step, ``[lists]``.

        F blocks of those that decide, and B of the last one that takes its decision.
        """
        own = range(len(self.leaders))
        last = {leader: place for place, leader in enumerate(self.leaders)}
        first = [fn if self.leaders[place] == place else 0 for place in own]
        ends = [bn if last[self.leaders[place]] == place else 0 for place in own]
        found: Array = np.array([first, ends]).sum(axis=0)
        return found


def error_table(
    item: Forward,
    factors: list[float] | None,
    samples: int,
    scale: float,
    fn: int,
    bn: int,
    reach: int,
) -> Array | None:
    """The errors of one forward in the final latents, ``[d x s x p]``."""
    known: dict[int, Array] = {}
    for key, error in item.errors.items():
        if key[:2] != (fn, bn):
            continue
        distance = key[2]
        if factors is None:
            mixed = error[None].flatten(1)[None]
            known[distance] = (scale * mixed[0]).numpy()
        else:
            parts = torch.split(error, samples)
            mixed = sum(
                (factor * one for factor, one in zip(factors, parts, strict=True)), torch.zeros(())
            )
            known[distance] = (scale * mixed).numpy()
    if not known:
        return None
    shape = next(iter(known.values())).shape
    table = np.full((reach, *shape), np.nan, np.float32)
    known[0] = np.zeros(shape, np.float32)
    for distance in range(max(known) + 1):
        table[distance] = _interpolated(known, distance)
    return table


def difference_table(item: Forward, fn: int, reach: int) -> Array:
    """The differences of one forward, ``[d x lists]``; infinite where there is no older step."""
    known = {d: np.array(v) for (f, d), v in item.differences.items() if f == fn}
    table = np.full((reach, len(item.blocks)), np.inf)
    known[0] = np.zeros(len(item.blocks))
    for distance in range(max(known) + 1):
        table[distance] = _interpolated(known, distance)
    return table


def _interpolated(known: dict[int, Array], distance: int) -> Array:
    """A value between those that are known, by the cubic through the four nearest."""
    if distance in known:
        return known[distance]
    near = sorted(sorted(known, key=lambda item: abs(item - distance))[:4])
    total = np.zeros_like(known[near[0]])
    for one in near:
        weight = 1.0
        for other in near:
            if other != one:
                weight *= (distance - other) / (one - other)
        total = total + weight * known[one]
    return total
