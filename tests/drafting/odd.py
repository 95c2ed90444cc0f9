"""Small pipelines whose transformers each have one thing that a draft has to see."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

WIDTH = 8


class Stacked(nn.Module):
    """A transformer of one list of blocks; the loop is the subclass's."""

    def __init__(self, block: type[nn.Module], count: int = 4) -> None:
        super().__init__()
        self.inside = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(count))

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> Any:
        return self.loop(self.inside(latents) + timestep / 1000, text)

    def loop(self, x: Any, text: Any) -> Any:
        raise NotImplementedError


class Block(nn.Module):
    """Adds something to its hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        return x + 0.1 * self.mlp(x).tanh()


class Plain(Stacked):
    """Nothing odd."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


class InPlace(Block):
    """Overwrites what it takes, and returns it."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.add_(0.1 * self.mlp(x).tanh())


class Pair(Block):
    """Takes and returns two streams, the text first."""

    def forward(self, img: torch.Tensor, txt: torch.Tensor) -> Any:
        return txt + 0.1 * self.mlp(txt), img + 0.1 * self.mlp(img) + txt.mean()


class Streams(Stacked):
    """Two streams."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            text, x = block(x, txt=text)
        return x


class Turned(Block):
    """Its first argument is the text."""

    def forward(self, cond: torch.Tensor, x: torch.Tensor) -> Any:
        return x + 0.1 * self.mlp(x) + cond.mean(), cond + 0.1 * self.mlp(cond)


class TextFirst(Stacked):
    """Two streams, called the other way round."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            x, text = block(text, x)
        return x


class Guided:
    """Two calls a step, as guidance makes them: the same latents with two texts."""

    def __init__(self, pipeline: Any) -> None:
        self.transformer = pipeline.transformer
        self.scheduler = pipeline.scheduler

    @torch.no_grad()
    def __call__(self, steps: int = 4) -> torch.Tensor:
        self.scheduler.set_timesteps(steps)
        generator = torch.Generator().manual_seed(0)
        latents, *texts = (torch.randn(1, 5, WIDTH, generator=generator) for _ in range(3))
        for timestep in self.scheduler.timesteps:
            one, other = (self.transformer(latents, timestep, text) for text in texts)
            output = other + 3 * (one - other)
            latents = self.scheduler.step(output, timestep, latents, return_dict=False)[0]
        return latents


class Told(NamedTuple):
    """What a mixture of experts returns."""

    tokens: torch.Tensor
    loss: torch.Tensor


class Experts(Block):
    """Returns a loss beside its hidden states."""

    def forward(self, x: torch.Tensor) -> Any:
        return Told(super().forward(x), x.mean())


@dataclasses.dataclass(slots=True)
class Fields:
    """The same in an object."""

    tokens: torch.Tensor
    loss: torch.Tensor


class ExpertsInFields(Block):
    """The same in an object."""

    def forward(self, x: torch.Tensor) -> Any:
        return Fields(super().forward(x), x.mean())


class Unpacking(Stacked):
    """Takes the hidden states out."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            x = block(x).tokens
        return x


class Stateful(Block):
    """Passes a cache through."""

    def forward(self, x: torch.Tensor, past: dict[str, Any]) -> Any:
        return super().forward(x) + past["bias"], past


class Passing(Stacked):
    """A cache that nobody writes to."""

    def loop(self, x: Any, text: Any) -> Any:
        past = {"bias": text.mean()}
        for block in self.blocks:
            x, past = block(x, past)
        return x


class Writing(Block):
    """Appends to a key-value cache in every step."""

    def forward(self, x: torch.Tensor, past: list[torch.Tensor]) -> Any:
        past.append(x)
        return super().forward(x)


class Autoregressive(Stacked):
    """Its blocks write to what later steps read."""

    def loop(self, x: Any, text: Any) -> Any:
        past: list[torch.Tensor] = self.__dict__.setdefault("past", [])
        for block in self.blocks:
            x = block(x, past)
        return x


class Remembering(Block):
    """Keeps something in itself in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH), persistent=False)

    def forward(self, x: torch.Tensor) -> Any:
        self.mean += x.mean()
        return super().forward(x)


class Counting(Block):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return super().forward(x) + 0.01 * self.calls


class Kept:
    """A cache of somebody's own class."""

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []


class Hiding(Block):
    """Keeps what it sees in an object that no name shows."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = Kept()

    def forward(self, x: torch.Tensor) -> Any:
        self._kept.keys.append(x)
        return super().forward(x)


class SkipBlock(Block):
    """Takes what an earlier block returned."""

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> Any:
        return super().forward(x if skip is None else x + 0.1 * skip)


class Skips(Stacked):
    """The second half takes what the first half returned."""

    def loop(self, x: Any, text: Any) -> Any:
        skips: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks):
            if index >= len(self.blocks) // 2:
                x = block(x, skips.pop())
            else:
                x = block(x)
                skips.append(x)
        return x


class Collecting(Stacked):
    """Everything that a block returns goes into the end."""

    def loop(self, x: Any, text: Any) -> Any:
        seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return torch.stack(seen).mean(0)


class Backwards(Stacked):
    """Runs its blocks from the last to the first."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in reversed(self.blocks):
            x = block(x)
        return x


class Adding(Stacked):
    """Adds something between two blocks."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            x = block(x) + 0.01 * text.mean()
        return x


class Refined(Stacked):
    """A second list that only sees the text, and one that is short."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__(block)
        self.refiner = nn.ModuleList(block() for _ in range(3))
        self.short = nn.ModuleList(block() for _ in range(2))

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.refiner:
            text = block(text)
        for block in self.short:
            x = block(x)
        for block in self.blocks:
            x = block(x + 0.01 * text.mean())
        return x


class Pipeline:
    """A loop around one or two transformers."""

    def __init__(self, *transformers: nn.Module, scheduler: str = "scheduler") -> None:
        for number, item in enumerate(transformers):
            setattr(self, f"transformer_{number + 1}" if number else "transformer", item)
        self.count = len(transformers)
        self.name = scheduler
        self.boundary_ratio = 0.6
        setattr(self, scheduler, FlowMatchEulerDiscreteScheduler())

    @torch.no_grad()
    def __call__(self, steps: int = 4, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(1, 5, WIDTH, generator=generator)
        text = torch.randn(1, 3, WIDTH, generator=generator)
        scheduler = getattr(self, self.name)
        scheduler.set_timesteps(steps)
        for item in self.__dict__.values():
            item.__dict__.pop("past", None) if isinstance(item, nn.Module) else None
        for timestep in scheduler.timesteps:
            late = self.count > 1 and timestep < 1000 * self.boundary_ratio
            model = self.transformer_2 if late else self.transformer  # type: ignore[attr-defined]
            output = model(latents, timestep, text)
            output = output[0] if isinstance(output, tuple) else output
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
        return latents


def make(
    cls: type[Stacked], block: type[nn.Module] = Block, *more: Any, **options: Any
) -> Pipeline:
    """A pipeline with random weights."""
    torch.manual_seed(0)
    return Pipeline(cls(block), *(cls(block) for _ in more), **options)


class Heads(Stacked):
    """A head reads what each block returns."""

    def loop(self, x: Any, text: Any) -> Any:
        total: Any = 0
        for block in self.blocks:
            x = block(x)
            total = total + self.inside(x).mean()
        return x + total


class Joined(Stacked):
    """What each block returns is added up beside the hidden states."""

    def loop(self, x: Any, text: Any) -> Any:
        total = 0.01 * x
        for block in self.blocks:
            x = block(x)
            total = total + 0.01 * x
        return total


class Supervised(Stacked):
    """Returns something of each block beside the prediction, which a pipeline may add up."""

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> Any:
        x = self.inside(latents) + timestep / 1000
        losses = []
        for block in self.blocks:
            x = block(x)
            losses.append(x.square().mean())
        return x, torch.stack(losses)


class Noisy(Stacked):
    """Draws random numbers."""

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x + 0.01 * torch.randn_like(x)


class Drifting(Stacked):
    """Returns something else in each call."""

    calls = 0

    def loop(self, x: Any, text: Any) -> Any:
        self.calls = (self.calls + 1) % 4  # so that each run of four steps is the same
        for block in self.blocks:
            x = block(x)
        return x + 0.01 * self.calls


class Hoarding(Stacked):
    """Keeps what its blocks return in a list that nobody reads."""

    def loop(self, x: Any, text: Any) -> Any:
        seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return x


class Stashing(Stacked):
    """Leaves what its blocks return in an attribute, for whoever comes."""

    def loop(self, x: Any, text: Any) -> Any:
        self.__dict__["seen"] = seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return x
