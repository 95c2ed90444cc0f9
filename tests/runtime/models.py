"""Small transformers and a small pipeline, for what no pipeline of diffusers does.

Each block's arguments, and what a loop's body does besides calling it, differ; everything else is
as in a real transformer. :class:`SmallPipeline` drives one with a real diffusers scheduler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

from cachedit_yaml import enable, enable_transformer, load_adapter
from cachedit_yaml.language import views
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import BranchStats
from cachedit_yaml.yaml.document import Document
from tests import tiny

DIM = 8
TOKENS = 4

#: Settings under which nothing can hit.
NEVER = {"residual_diff_threshold": 0.0, "Fn_compute_blocks": 1}
#: Settings under which every step after the first hits, unless something forbids it.
ALWAYS = {"residual_diff_threshold": 0.99, "Fn_compute_blocks": 1, "max_warmup_steps": 1}
#: Serves a step wherever the mask allows it, so the cached steps show the length of the mask.
MASKED: dict[str, Any] = {
    "Fn_compute_blocks": 1,
    "max_continuous_cached_steps": -1,
    "scm": {"preset": "ultra", "policy": "static"},
}


def adapter(blocks: Mapping[str, Any] | str = "Pattern_3", **more: Any) -> AdapterSpec:
    """An adapter for one transformer named ``transformer`` whose list is ``blocks``.

    Nothing lies under it: the tests of what runs are about what an adapter says by itself.
    """
    lists = {"blocks": blocks} if isinstance(blocks, str) else blocks
    transformer = {"blocks": lists, **more.pop("transformer", {})}
    data = {
        "schema": 1,
        "name": "small",
        "pipelines": ["SmallPipeline"],
        "transformers": {"transformer": transformer},
        **more,
    }
    with patch.object(views, "defaults_for", lambda *_: Document("defaults.yaml", {})):
        return load_adapter(data)


class Block(nn.Module):
    """A block of hidden states alone (Pattern_3)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def delta(self, hidden: torch.Tensor, shift: Any = 0.0) -> torch.Tensor:
        """What the block adds."""
        return 0.3 * torch.tanh(self.linear(hidden) + shift)

    def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        return hidden_states + self.delta(hidden_states, temb)


class Small(nn.Module):
    """A transformer whose loop does nothing but call its blocks."""

    block: type[nn.Module] = Block

    def __init__(self, count: int = 6, seed: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.block() for _ in range(count))
        self.proj_out = nn.Linear(DIM, DIM)
        tiny.randomise(self, seed)
        self.eval().requires_grad_(False)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        temb = shift_of(timestep)
        for block in self.blocks:
            hidden_states = block(hidden_states, temb)
        return 0.2 * self.proj_out(hidden_states)


def shift_of(timestep: Any) -> Any:
    """What the blocks see of a timestep."""
    return 0.0 if timestep is None else torch.as_tensor(timestep).flatten()[0] / 4000


def small(cls: type[Small] = Small, **kwargs: Any) -> Small:
    """A small transformer."""
    return cls(**kwargs)


class SmallPipeline:
    """A diffusion pipeline of one transformer: latents in, latents out.

    Args:
        transformer: any of the transformers above.
        scheduler: a real one; FlowMatchEuler unless given.
    """

    def __init__(self, transformer: nn.Module, scheduler: Any = None) -> None:
        self.transformer = transformer
        self.scheduler = scheduler or FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(
        self,
        steps: int = 6,
        *,
        seed: int = 0,
        forwards: Callable[[int], int] = lambda step: 1,
        batch: int = 1,
        tokens: int = TOKENS,
        dtype: torch.dtype = torch.float32,
        after_step: Callable[[int], None] = lambda step: None,
        **extra: Any,
    ) -> torch.Tensor:
        """Generate ``[b x s x d]`` latents.

        `forwards` says how many forwards a step makes. The second and later ones see other
        inputs, as guidance does.
        """
        latents = noise(seed, batch, tokens).to(dtype)
        self.scheduler.set_timesteps(steps)
        for step, timestep in enumerate(self.scheduler.timesteps):
            parts = [
                self.forward_at(step, turn)(latents + 0.5 * turn, timestep, **extra)
                for turn in range(forwards(step))
            ]
            update = parts[0] + sum(0.3 * (part - parts[0]) for part in parts[1:])
            latents = self.step(update, timestep, latents).to(dtype)
            after_step(step)
        return latents

    def step(self, update: torch.Tensor, timestep: Any, latents: torch.Tensor) -> torch.Tensor:
        """The next latents ``[b x s x d]``."""
        stepped: torch.Tensor = self.scheduler.step(update, timestep, latents)[0]
        return stepped

    def forward_at(self, step: int, turn: int) -> Any:
        """The transformer of one forward."""
        return self.transformer


def noise(seed: int = 0, batch: int = 1, tokens: int = TOKENS) -> torch.Tensor:
    """Random latents ``[b x s x d]``."""
    return torch.randn(batch, tokens, DIM, generator=torch.Generator().manual_seed(seed))


def start(target: Any, spec: Any = None, /, execution: str = "loop", **settings: Any) -> Handle:
    """Enable a pipeline, or a transformer alone, with settings of the cache as keywords."""
    profile = settings.pop("profile", None)
    spec = adapter() if spec is None and isinstance(target, (Small, SmallPipeline)) else spec
    function = enable_transformer if isinstance(target, nn.Module) else enable
    return function(target, spec, cache_config=settings, profile=profile, execution=execution)


def rows(handle: Handle, transformer: str = "transformer") -> dict[str, BranchStats]:
    """What the last generation did, by ``list [branch]``."""
    return {
        f"{item.blocks} [{item.branch}]": item
        for item in handle.stats().branches
        if item.transformer == transformer
    }


def row(handle: Handle, blocks: str = "blocks", branch: str = "forward 1") -> BranchStats:
    """One branch of one list in the last generation."""
    return rows(handle)[f"{blocks} [{branch}]"]


@contextmanager
def calls(*modules: nn.Module) -> Iterator[list[nn.Module]]:
    """Record which of some modules' forwards run, in order.

    A hook of torch runs before ``forward`` and thus whether a block is skipped or not, so this
    sits within: it is to be entered before caching is enabled.
    """
    seen: list[nn.Module] = []
    for module in modules:
        plain = module.forward

        @functools.wraps(plain)
        def recording(
            *args: Any, plain: Any = plain, module: nn.Module = module, **kwargs: Any
        ) -> Any:
            seen.append(module)
            return plain(*args, **kwargs)

        module.forward = recording
    try:
        yield seen
    finally:
        for module in modules:
            vars(module).pop("forward", None)
