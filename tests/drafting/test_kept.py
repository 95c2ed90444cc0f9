"""What is held of the outputs of blocks: by the transformer, by others, and beyond the call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import cachedit_yaml
from cachedit_yaml.drafting.blocks import KEPT, STASHED
from tests.drafting import odd


class Ended(nn.Module):
    """A module with blocks of its own, given what the blocks before it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(odd.Block() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Encoder(Ended):
    """Hands what its last block returned on to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.end = Ended()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(super().forward(x))


class Encoded(odd.Pipeline):
    """Encodes something before it denoises."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__(transformer)
        self.encoder = Encoder()

    @torch.no_grad()
    def __call__(self, steps: int = 4, seed: int = 0) -> torch.Tensor:
        self.encoder(torch.ones(1, 3, odd.WIDTH))
        return super().__call__(steps, seed)


class HoardingEnded(odd.Hoarding):
    """Keeps its blocks' outputs while it runs, and hands the last one on to a module."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__(block)
        self.end = Ended()

    def loop(self, x: Any, text: Any) -> Any:
        return self.end(super().loop(x, text))


def test_what_is_held_for_the_length_of_a_call_is_tried() -> None:
    """Whoever else was called, and with whatever: an encoder, a module behind the blocks."""
    torch.manual_seed(0)
    for pipe in (Encoded(odd.Hoarding(odd.Block)), odd.Pipeline(HoardingEnded(odd.Block))):
        draft = cachedit_yaml.infer(pipe, pipe)
        assert "blocks" in draft.data["transformers"]["transformer"]["blocks"]
        draft.check().require()


def test_where_it_is_held_is_said() -> None:
    for cls, why in ((odd.Collecting, KEPT), (odd.Stashing, STASHED)):
        pipe = odd.make(cls)
        assert cachedit_yaml.infer(pipe, pipe).refused == f"blocks: {why}"


class Filling(odd.Plain):
    """A call may fill a cache, which no call of the pipeline does."""

    def forward(self, latents: Any, timestep: Any, text: Any, return_kv: bool = False) -> Any:
        return super().forward(latents, timestep, text)


def test_calls_that_fill_a_cache_and_were_not_seen_run_uncached() -> None:
    pipe = odd.make(Filling)
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["transformers"]["transformer"]["denoising"] == {"when": {"return_kv": False}}
    assert "# denoising: any other call runs uncached" in draft.yaml
    draft.check().require()

    class Returning(Filling):
        def forward(self, latents: Any, timestep: Any, text: Any, return_kv: bool = True) -> Any:
            return super().forward(latents, timestep, text, return_kv)

    other = odd.make(Returning)
    assert "denoising" not in cachedit_yaml.infer(other, other).data["transformers"]["transformer"]
