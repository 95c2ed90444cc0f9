"""Which of the engine's ranks run a forward together."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from cachedit_yaml.compiler.parallel import ALL, Ranks


def ranks_of_one_forward() -> Ranks | None:
    """The ranks that run each forward with this one; all ranks of the engine call this.

    Sequence, tensor and pipeline parallelism divide a forward. Guidance branches and requests are
    divided too, but each of those forwards is whole: their ranks decide for themselves, as one
    process does for each branch. Only where weights or experts are spread over all ranks does every
    block need everyone.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    from vllm_omni.diffusion import forward_context
    from vllm_omni.diffusion.distributed import parallel_state

    if forward_context.is_forward_context_available():
        # The engine enables its cache inside one.
        config = forward_context.get_forward_context().omni_diffusion_config
        parallel = getattr(config, "parallel_config", None)
        if any(getattr(parallel, name, False) for name in ("use_hsdp", "enable_expert_parallel")):
            return ALL
    mine = (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_classifier_free_guidance_rank(),
    )
    cells: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(cells, mine, group=parallel_state.get_world_group().cpu_group)
    if len(set(cells)) == 1:
        return ALL
    if len(set(cells)) == len(cells):
        return None
    found = None
    for cell in sorted(set(cells)):
        # Every rank makes every group, in the same order.
        group = dist.new_group([rank for rank, other in enumerate(cells) if other == cell])
        if cell == mine:
            found = Ranks(group)
    return found
