"""Small models of one's own, each built in an unusual way."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch import nn

from tests.drafting import odd


class Skipped(odd.Block):
    """Takes what a block of another list returned."""

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * self.mlp(x + 0.5 * skip).tanh()


class UNet(odd.Stacked):
    """A list that goes down, one in the middle, and one that goes up with skip connections."""

    def __init__(self, block: type[nn.Module] = odd.Block, joined: bool = False) -> None:
        super().__init__(block)
        self.middle = nn.ModuleList(odd.Block() for _ in range(3))
        self.up = nn.ModuleList((odd.Block if joined else Skipped)() for _ in range(4))
        self.joined = joined

    def loop(self, x: Any, text: Any) -> Any:
        skips = []
        for block in self.blocks:
            x = block(x)
            skips.append(x)
        for block in self.middle:
            x = block(x)
        for block in self.up:
            x = block(x + 0.5 * skips.pop()) if self.joined else block(x, skips.pop())
        return x


class Keyword(odd.Block):
    """Takes keywords only, and returns a mapping."""

    def forward(self, *, img: torch.Tensor, txt: torch.Tensor) -> Any:
        return {"img": img + 0.1 * self.mlp(img) + txt.mean(), "txt": txt + 0.1 * self.mlp(txt)}


class Keywords(odd.Stacked):
    """Its loop goes on with the mapping."""

    def __init__(self) -> None:
        super().__init__(Keyword)

    def loop(self, x: Any, text: Any) -> Any:
        both = {"img": x, "txt": text}
        for block in self.blocks:
            both = block(**both)
        return both["img"]


@dataclasses.dataclass
class State:
    """What blocks hand on."""

    hidden: torch.Tensor
    text: torch.Tensor


class Wrapped(odd.Block):
    """Takes and returns an object that holds everything."""

    def forward(self, state: State) -> State:
        return State(super().forward(state.hidden), state.text)


class Objects(odd.Stacked):
    """Its blocks have no tensor among their arguments."""

    def __init__(self) -> None:
        super().__init__(Wrapped)

    def loop(self, x: Any, text: Any) -> Any:
        state = State(x, text)
        for block in self.blocks:
            state = block(state)
        return state.hidden


class Body(nn.Module):
    """Holds the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(odd.Block() for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Inner(nn.Module):
    """The loop is a submodule's, called past its hooks, and the timestep comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.body = nn.Linear(odd.WIDTH, odd.WIDTH), Body()

    def forward(self, t: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor) -> Any:
        return self.body.forward(self.inside(tokens) + t / 1000)


class Named(odd.Stacked):
    """Holds its blocks in something that is no list."""

    def __init__(self, container: type[nn.Module]) -> None:
        super().__init__(odd.Block)
        blocks = {f"block{place}": block for place, block in enumerate(self.blocks)}
        self.blocks: Any = nn.ModuleDict(blocks)
        if container is nn.Sequential:
            self.blocks = nn.Sequential(*blocks.values())

    def loop(self, x: Any, text: Any) -> Any:
        for block in self.blocks.children():
            x = block(x)
        return x


class Untimed(odd.Plain):
    """Is told no timestep."""

    def forward(self, latents: Any, text: Any) -> Any:  # type: ignore[override]
        return self.loop(self.inside(latents), text)


class Sampler:
    """A loop of its own: no scheduler, and another name for everything."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.packed = isinstance(net, Inner)

    @torch.no_grad()
    def sample(self, steps: int = 4) -> torch.Tensor:
        make = torch.Generator().manual_seed(0)
        x, text = (torch.randn(1, size, odd.WIDTH, generator=make) for size in (5, 3))
        sigmas = torch.linspace(1, 0, steps + 1)
        for now, after in itertools.pairwise(sigmas):
            if self.packed:  # tokens without a batch
                made = self.net(1000 * now, x[0], torch.tensor([2, 3]))[None]
            elif isinstance(self.net, Untimed):
                made = self.net(x, text)
            else:
                made = self.net(x, 1000 * now, text)
            x = x + (after - now) * made
        return x


def sampler(cls: type[nn.Module], *arguments: Any, **options: Any) -> Sampler:
    """With random weights."""
    torch.manual_seed(0)
    return Sampler(cls(*arguments, **options))
