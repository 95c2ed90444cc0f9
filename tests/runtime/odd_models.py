"""Transformers whose loops or blocks do what an ordinary loop does not.

Each has its list in ``blocks`` (``Double`` and ``Interleaved`` have two) and says in ``SPEC`` how
an adapter declares it. All ignore the timestep, so that with the same latents every step computes
the same, and what a hit returns must be what the blocks would have.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from tests import tiny
from tests.runtime.models import Block, Small


class Odd(Small):
    """The base: an ordinary loop."""

    SPEC: ClassVar[Any] = "Pattern_3"

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        return self.proj_out(self.loop(hidden_states))

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        """Run the blocks."""
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class InPlaceBlock(Block):
    """Writes over its input and returns it."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``[b x s x d]`` to the same tensor."""
        return hidden_states.add_(self.delta(hidden_states))


class InPlace(Odd):
    """In-place kernels; the latents themselves are not to be overwritten."""

    block = InPlaceBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().loop(hidden.clone())


class HalfInPlaceBlock(Block):
    """Writes over its input and returns another tensor."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``[b x s x d]`` to a new tensor."""
        hidden_states.mul_(1.1)
        return hidden_states + self.delta(hidden_states)


class HalfInPlace(InPlace):
    """As `InPlace`, but the output does not give it away."""

    block = HalfInPlaceBlock


class BodyInPlace(Odd):
    """The loop's body adds to the blocks' output in place, as ControlNets do."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.clone()
        for index, block in enumerate(self.blocks):
            hidden = block(hidden)
            hidden += 0.1 * (index + 1)
        return hidden


class BodyAdds(Odd):
    """As `BodyInPlace`, with new tensors."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            hidden = block(hidden) + 0.1 * (index + 1)
        return hidden


class SkipBlock(Block):
    """Takes what a block on the other side of the middle has returned."""

    def forward(self, hidden_states: torch.Tensor, skip: torch.Tensor | None = None) -> Any:
        """``[b x s x d]`` twice to ``[b x s x d]``."""
        shift = 0.0 if skip is None else torch.sin(skip)
        return hidden_states + self.delta(hidden_states, shift)


class Skips(Odd):
    """Long skip connections, as in a U-Net."""

    block = SkipBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        skips = []
        half = len(self.blocks) // 2
        for index, block in enumerate(self.blocks):
            if index < half:
                hidden = block(hidden)
                skips.append(hidden)
            else:
                hidden = block(hidden, skips.pop())
        return hidden


class Twice(Odd):
    """Runs its list twice in one forward, with something in between."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().loop(2.0 - super().loop(hidden))


class Backwards(Odd):
    """Runs its list from the end."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in reversed(self.blocks):
            hidden = block(hidden)
        return hidden


class TupleBlock(Block):
    """Returns a tuple of one."""

    def forward(self, hidden_states: torch.Tensor) -> Any:
        """``[b x s x d]`` to a tuple."""
        return (super().forward(hidden_states),)


class Tuples(Odd):
    """Blocks that return a tuple of one."""

    block = TupleBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            (hidden,) = block(hidden)
        return hidden


class NoneBlock(Block):
    """Returns None for encoder_hidden_states where it gets none."""

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: Any = None) -> Any:
        """``[b x s x d]`` to ``[b x s x d]`` and None."""
        return super().forward(hidden_states), None


class Nones(Odd):
    """Blocks whose second output is None, and whose second input is left out."""

    SPEC = "Pattern_0"
    block = NoneBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden, nothing = block(hidden)
            assert nothing is None
        return hidden


class ListBlock(Block):
    """Changes both streams and returns them in a list, encoder first."""

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        """``[b x s x d]`` and ``[b x t x d]`` to both, in a list."""
        text = encoder_hidden_states + self.delta(encoder_hidden_states)
        shift = encoder_hidden_states.mean(1, keepdim=True)
        return [text, hidden_states + self.delta(hidden_states, shift)]


class Lists(Odd):
    """Blocks that return a list."""

    SPEC = "Pattern_1"
    block = ListBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :3] * 2
        for block in self.blocks:
            text, hidden = block(hidden, text)
        return hidden + text.mean(1, keepdim=True)


class Replaces(Lists):
    """Puts what the first half of the blocks made in the place of the encoder hidden states."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text, other = hidden[:, :3] * 2, hidden
        for index, block in enumerate(self.blocks):
            if index == len(self.blocks) // 2:
                text, hidden = hidden, other
            text, hidden = block(hidden, text)
        return hidden


class Keywords(Lists):
    """Calls its blocks with keywords only."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :3] * 2
        for block in self.blocks:
            text, hidden = block(encoder_hidden_states=text, hidden_states=hidden)
        return hidden + text.mean(1, keepdim=True)


class Mixed(Lists):
    """Calls its blocks with keywords, without, and half and half."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :3] * 2
        for index, block in enumerate(self.blocks):
            if index % 3 == 0:
                text, hidden = block(hidden, encoder_hidden_states=text)
            elif index % 3 == 1:
                text, hidden = block(encoder_hidden_states=text, hidden_states=hidden)
            else:
                text, hidden = block(hidden, text)
        return hidden + text.mean(1, keepdim=True)


class EncoderInPlaceBlock(Block):
    """Writes over the encoder hidden states alone."""

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        """``[b x s x d]`` and ``[b x t x d]`` to both, encoder first."""
        shift = encoder_hidden_states.mean(1, keepdim=True)
        encoder_hidden_states.add_(self.delta(encoder_hidden_states))
        return encoder_hidden_states, hidden_states + self.delta(hidden_states, shift)


class EncoderInPlace(Lists):
    """The second stream alone is written over."""

    block = EncoderInPlaceBlock


class RolesBlock(Block):
    """Arguments with other names, hidden states second and keyword-only state."""

    def forward(self, context: torch.Tensor, x: torch.Tensor, *, gate: float = 1.0) -> Any:
        """``[b x t x d]`` and ``[b x s x d]`` to both, hidden states first."""
        shift = context.mean(1, keepdim=True)
        return x + gate * self.delta(x, shift), context + self.delta(context)


class OtherNames(Odd):
    """Blocks whose arguments are not called hidden_states and encoder_hidden_states."""

    SPEC: ClassVar[Any] = {
        "pattern": "Pattern_0",
        "roles": {"hidden_states": "x", "encoder_hidden_states": "context"},
    }
    block = RolesBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :3] * 2
        for block in self.blocks:
            hidden, text = block(text, hidden, gate=0.9)
        return hidden + text.mean(1, keepdim=True)


class StateBlock(Block):
    """Updates a state that is not a tensor, and returns it."""

    def forward(self, hidden_states: torch.Tensor, past: dict[str, int]) -> Any:
        """``[b x s x d]`` and the state to both."""
        past["calls"] = past.get("calls", 0) + 1
        return super().forward(hidden_states), past


class State(Odd):
    """A key-value cache runs through the blocks."""

    SPEC: ClassVar[Any] = {"pattern": "Pattern_0", "roles": {"state": "past"}}
    block = StateBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        past: dict[str, int] = {}
        for block in self.blocks:
            hidden, returned = block(hidden, past)
            assert returned is past
        self.last_state = past
        return hidden


class GrowingBlock(Block):
    """Returns a tensor that is longer than the one it was given, for the caller to keep."""

    def forward(self, hidden_states: torch.Tensor, past: torch.Tensor) -> Any:
        """``[b x s x d]`` to the same and ``[b x 2s x d]``."""
        return super().forward(hidden_states), torch.cat([past, hidden_states], dim=1)


class Growing(Odd):
    """A key-value cache of tensors: each block has its own, and none goes from one to the next."""

    SPEC: ClassVar[Any] = {"pattern": "Pattern_0", "roles": {"state": "past"}}
    block = GrowingBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        past = torch.zeros_like(hidden)
        for block in self.blocks:
            hidden, _ = block(hidden, past)
        return hidden


class GivesEncoderBlock(Block):
    """Takes hidden states, returns a second stream too (Pattern_4)."""

    def forward(self, hidden_states: torch.Tensor, temb: float = 0.0) -> Any:
        """``[b x s x d]`` to ``[b x s x d]`` and ``[b x 1 x d]``."""
        hidden = super().forward(hidden_states)
        return hidden, hidden_states.mean(1, keepdim=True)


class GivesEncoder(Odd):
    """The second stream leaves each block and does not enter the next."""

    SPEC = "Pattern_4"
    block = GivesEncoderBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden, text = block(hidden)
        return hidden + 0 * text


class KeepsEncoderBlock(Block):
    """Reads the encoder hidden states and returns hidden states alone (Pattern_2)."""

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        """``[b x s x d]`` and ``[b x t x d]`` to ``[b x s x d]``."""
        shift = encoder_hidden_states.mean(1, keepdim=True)
        return hidden_states + self.delta(hidden_states, shift)


class KeepsEncoder(Odd):
    """One stream through the blocks, another beside it."""

    SPEC = "Pattern_2"
    block = KeepsEncoderBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :3] * 2
        for block in self.blocks:
            hidden = block(hidden, text)
        return hidden


#: What must be exact with no hit, and as good as exact with hits on equal inputs.
STEADY: tuple[type[Odd], ...] = (
    Odd, InPlace, HalfInPlace, BodyInPlace, BodyAdds, Skips, Twice, Tuples, Nones, Lists, Keywords,
    Mixed, EncoderInPlace, OtherNames, State, GivesEncoder, KeepsEncoder,
)  # fmt: skip


class Double(Odd):
    """Two lists, one after the other."""

    SPEC: ClassVar[Any] = {"blocks": "Pattern_3", "single_blocks": "Pattern_3"}

    def __init__(self, count: int = 4, seed: int = 0) -> None:
        super().__init__(count, seed)
        self.single_blocks = nn.ModuleList(Block() for _ in range(count))
        tiny.randomise(self, seed)
        self.requires_grad_(False)

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = super().loop(hidden)
        for block in self.single_blocks:
            hidden = block(hidden)
        return hidden


class Interleaved(Double):
    """Two lists whose blocks run in turn."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block, single in zip(self.blocks, self.single_blocks, strict=True):
            hidden = single(block(hidden))
        return hidden


class MergingBlock(Block):
    """Leaves out a token."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s-1 x d]``."""
        return super().forward(hidden_states)[:, 1:]


class Merging(Odd):
    """Its blocks change the number of tokens."""

    block = MergingBlock

    def __init__(self, count: int = 3, seed: int = 0) -> None:
        super().__init__(count, seed)


class MergingEncoderBlock(Block):
    """Leaves out a token of the encoder hidden states, but for the last block."""

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        """``[b x s x d]`` and ``[b x t x d]`` to both; at least two tokens stay."""
        text = encoder_hidden_states + self.delta(encoder_hidden_states)
        return [text[:, -max(2, text.shape[1] - 1) :], hidden_states + self.delta(hidden_states)]


class MergingEncoder(Lists):
    """Its blocks change the number of encoder tokens until two are left."""

    block = MergingEncoderBlock

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        text = hidden[:, :4] * 2
        for block in self.blocks:
            text, hidden = block(hidden, text)
        return hidden + text.mean(1, keepdim=True)


class Fickle(Odd):
    """Leaves out other blocks from call to call, as no sane pipeline does."""

    leave_out: tuple[int, ...] = ()

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            if index not in self.leave_out:
                hidden = block(hidden)
        return hidden


class Wrapped(nn.Module):
    """A transformer whose blocks are further down."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.inner = Odd()
        self.requires_grad_(False)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        return self.model.inner(hidden_states, timestep)
