"""Which ranks of a program work on one forward together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist

#: What cache-dit and diffusers set on a transformer that they have parallelized.
_MARKS = ("_is_parallelized", "_parallel_config", "_cp_config")


@dataclass(frozen=True)
class Ranks:
    """Ranks that run each forward together, so that all of them have to decide alike.

    Attributes:
        group: their process group; None for all ranks of the program.
    """

    group: Any = None


ALL: Final = Ranks()


def ranks_of(module: torch.nn.Module, together: Ranks | None = None) -> Ranks | None:
    """The ranks that run this forward together, or None where this one runs it alone.

    A process group alone does not say so: ranks may as well work on prompts of their own, and would
    then wait for each other.

    Args:
        module: the transformer.
        together: the ranks that are known to run each forward together, as an engine says.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    if together is not None:
        return together
    marked = any(getattr(module, mark, None) not in (None, False) for mark in _MARKS)
    return ALL if marked else None


def average(values: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """The mean of each value over some ranks; all of them call this.

    Args:
        values: of this rank; changed in place.
        ranks: which.
    """
    # Not ReduceOp.AVG: gloo has it in newer releases of torch only.
    dist.all_reduce(values, group=ranks.group)
    return values / dist.get_world_size(ranks.group)
