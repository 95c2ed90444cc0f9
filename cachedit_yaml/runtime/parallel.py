"""Whether the ranks of a process group work on one forward together."""

from __future__ import annotations

import torch
import torch.distributed as dist

#: What cache-dit and diffusers set on a transformer that they have parallelized.
_MARKS = ("_is_parallelized", "_parallel_config", "_cp_config")


def is_parallelized(module: torch.nn.Module, together: bool = False) -> bool:
    """Whether other ranks run this forward too, so that all have to decide alike.

    A process group alone does not say so: ranks may as well work on prompts of their own, and would
    then wait for each other.

    Args:
        module: the transformer.
        together: the ranks of this program are known to run each forward together, as those of an
            engine do.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    return together or any(getattr(module, mark, None) not in (None, False) for mark in _MARKS)
