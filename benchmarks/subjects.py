"""The transformers that are measured, and the ways to cache them.

``QwenImageTransformer2DModel`` serves as the real one: it has a single block list, its loop does
nothing but call the block (so cache-dit runs it rightly too), its parts outside the blocks cost a
tenth of a block, and its blocks hand on two streams, so that both have to be cached.

All contenders of a comparison are twins: modules of their own that share their weights in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import cache_dit
import torch
from cache_dit import BlockAdapter, DBCacheConfig, ForwardPattern
from diffusers import QwenImageTransformer2DModel

from cachedit_yaml import AdapterSpec, enable_transformer, load_adapter

#: Block lists and their patterns, of this module's transformer.
LISTS: Mapping[str, str] = {"transformer_blocks": "Pattern_1"}
TEXT_TOKENS = 32


@dataclass(frozen=True)
class Size:
    """Blocks, width and image tokens of a transformer."""

    layers: int
    width: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.width} x {self.tokens}"


def build(size: Size, device: str = "cpu") -> torch.nn.Module:
    """A transformer with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        model: torch.nn.Module = QwenImageTransformer2DModel(
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=size.layers,
            attention_head_dim=64,
            num_attention_heads=size.width // 64,
            joint_attention_dim=size.width,
            axes_dims_rope=(16, 24, 24),
        )
    model.eval().requires_grad_(False)
    return model


def inputs(size: Size, steps: int, device: str = "cpu") -> list[dict[str, Any]]:
    """The arguments of the forwards of one generation, the timesteps falling from 1."""
    torch.manual_seed(1)
    side = int(size.tokens**0.5)
    fixed = {
        "hidden_states": torch.randn(1, size.tokens, 16, device=device),
        "encoder_hidden_states": torch.randn(1, TEXT_TOKENS, size.width, device=device),
        "img_shapes": [[(1, side, side)]],
        "return_dict": False,
    }
    schedule = torch.tensor([1 - step / steps for step in range(steps)], device=device)
    # As pipelines do: a view of the schedule.
    return [{**fixed, "timestep": schedule[step].expand(1)} for step in range(steps)]


def twin(model: torch.nn.Module) -> torch.nn.Module:
    """Another module with the same weights: the very same, not equal ones."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(item): item for item in shared})


def first_block_only(model: torch.nn.Module) -> torch.nn.Module:
    """A twin that has one block: what is left at best when every other block is skipped."""
    alone: Any = twin(model)
    alone.transformer_blocks = torch.nn.ModuleList([alone.transformer_blocks[0]])
    return cast(torch.nn.Module, alone)


@dataclass(frozen=True)
class Cached:
    """A transformer with caching on.

    Attributes:
        refresh: begins a generation.
        hits: steps of the last generation that were served from the cache, of each block list.
        off: switches caching off.
    """

    refresh: Callable[[], Any]
    hits: Callable[[], list[list[int]]]
    off: Callable[[], Any]


def settings(threshold: float, mask: list[int] | None) -> dict[str, Any]:
    """Cache settings with F=1 and B=0, in cache-dit's names.

    Args:
        threshold: the residual difference below which a step hits.
        mask: one number a step, 1 to compute it and 0 to serve it from the cache.
    """
    values: dict[str, Any] = {
        "Fn_compute_blocks": 1,
        "Bn_compute_blocks": 0,
        "max_warmup_steps": 1,
        "residual_diff_threshold": threshold,
        # As cache-dit has it, whatever lies under our adapters.
        "max_continuous_cached_steps": -1,
    }
    if mask is not None:
        values |= {"steps_computation_mask": mask, "steps_computation_policy": "static"}
    return values


def with_cache_dit(
    model: torch.nn.Module,
    steps: int,
    values: Mapping[str, Any],
    lists: Mapping[str, str] | None = LISTS,
) -> Cached:
    """Cache a transformer with cache-dit alone, as its documentation says.

    Args:
        model: the transformer.
        steps: steps of a generation.
        values: as :func:`settings` gives them.
        lists: the block lists and their patterns; None for its own adapter of the class.
    """
    target: Any = model
    if lists is not None:
        target = BlockAdapter(
            transformer=model,
            blocks=[getattr(model, name) for name in lists],
            forward_pattern=[ForwardPattern[name] for name in lists.values()],
            has_separate_cfg=False,
        )
    config = DBCacheConfig(**values, enable_separate_cfg=False)
    cache_dit.enable_cache(target, cache_config=config)

    def refresh() -> None:
        cache_dit.refresh_context(model, num_inference_steps=steps)

    def hits() -> list[list[int]]:
        manager = vars(model)["_context_manager"]
        names = vars(model)["_context_names"]
        return [manager.get_context(name).get_cached_steps() for name in names]

    return Cached(refresh, hits, lambda: cache_dit.disable_cache(model))


def with_ours(
    model: torch.nn.Module,
    steps: int,
    values: Mapping[str, Any],
    adapter: AdapterSpec | None,
) -> Cached:
    """Cache a transformer with cachedit-yaml.

    Args:
        model: the transformer.
        steps: steps of a generation.
        values: as :func:`settings` gives them.
        adapter: a loaded adapter; None looks one up by the transformer's class.
    """
    config = dict(values)
    mask = config.pop("steps_computation_mask", None)
    if mask is not None:
        config["scm"] = {"mask": mask, "policy": config.pop("steps_computation_policy")}
    handle = enable_transformer(model, adapter, cache_config=config)

    def hits() -> list[list[int]]:
        return [list(branch.cached_steps) for branch in handle.stats().branches]

    return Cached(lambda: handle.refresh(steps), hits, handle.disable)


def own_adapter(lists: Mapping[str, str] = LISTS, *, together: bool = False) -> AdapterSpec:
    """An adapter for these block lists, loaded.

    Args:
        lists: the block lists and their patterns.
        together: whether all follow the first one.
    """
    blocks: dict[str, Any] = dict(lists)
    first, *others = blocks
    if together:
        blocks |= {name: {"pattern": lists[name], "follows": first} for name in others}
    return load_adapter(
        {
            "schema": 1,
            "name": "benchmark",
            "pipelines": ["BenchmarkPipeline"],
            "transformers": {"transformer": {"blocks": blocks}},
            "guidance": "fused",
        }
    )
