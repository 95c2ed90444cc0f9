"""Transformers whose blocks do nothing, so that what surrounds the blocks can be seen."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.subjects import TEXT_TOKENS, Size


class StubBlock(torch.nn.Module):
    """A block in the manner of Pattern_1 whose output is there already."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.output = (
            torch.randn(1, TEXT_TOKENS, size.width),
            torch.randn(1, size.tokens, size.width),
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return encoder hidden states and hidden states, both ``[b x s x d]``."""
        return self.output


class StubTransformer(torch.nn.Module):
    """A transformer that costs nothing but its loop."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.transformer_blocks = torch.nn.ModuleList(StubBlock(size) for _ in range(size.layers))

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Run the blocks over hidden states and encoder hidden states, ``[b x s x d]``."""
        for block in self.transformer_blocks:
            encoder_hidden_states, hidden_states = block(
                hidden_states=hidden_states,
                encoder_hidden_states=encoder_hidden_states,
                temb=None,
            )
        return hidden_states


def inputs(size: Size, steps: int) -> list[dict[str, Any]]:
    """The arguments of the forwards of one generation."""
    hidden = torch.randn(1, size.tokens, size.width)
    text = torch.randn(1, TEXT_TOKENS, size.width)
    return [
        {
            "hidden_states": hidden,
            "encoder_hidden_states": text,
            "timestep": torch.tensor([1 - step / steps]),
        }
        for step in range(steps)
    ]
