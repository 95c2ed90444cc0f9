"""Whether the ranks of a process group work on one forward together."""

from __future__ import annotations

import torch
import torch.distributed as dist

#: What cache-dit and diffusers set on a transformer that they have parallelized.
_MARKS = ("_is_parallelized", "_parallel_config", "_cp_config")


def is_parallelized(module: torch.nn.Module) -> bool:
    """Whether other ranks run this forward too, so that all have to decide alike.

    A process group alone does not say so: ranks may as well work on prompts of their own, and would
    then wait for each other. Engines that split a transformer in their own way mark it with
    ``_is_parallelized``, as cache-dit does.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    return any(getattr(module, mark, None) not in (None, False) for mark in _MARKS)
