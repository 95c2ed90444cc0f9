"""What the code written by hand does on the same small pipeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

Outcome = Literal["equal", "wrong", "refuses", "absent", "untried"]


@dataclass(frozen=True)
class Rival:
    """What that code does on one make of one pipeline.

    Attributes:
        outcome: ``equal``: exact in every case; ``wrong``: silently another output in some case;
            ``refuses``: it raises when enabled or when run; ``absent``: it knows no adapter for the
            class; ``untried``: the pipeline cannot be made here.
        detail: the case and the mean error, or what was raised.
    """

    outcome: Outcome
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def error_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean difference of two outputs, over the mean size of the second."""
    if one.shape != other.shape:
        return float("inf")
    difference = (one.double() - other.double()).abs().mean()
    return float(difference / other.double().abs().mean())
