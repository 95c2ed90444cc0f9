"""TeaCache's rule, after its published implementation for FLUX, on any list of blocks.

The first block's modulated input says how much a step changes; a polynomial of the fourth degree
makes of that how much the output changes; steps are skipped until the sum of these reaches a
threshold. A skipped step adds what all blocks added last. (Liu et al., "Timestep Embedding Tells:
It's Time to Cache for Video Diffusion Model", https://arxiv.org/abs/2411.19108.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

DEGREE = 4


@dataclass
class _State:
    """Of one guidance branch."""

    before: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    total: float = 0.0
    skip: bool = False
    start: torch.Tensor | None = None
    #: Changes of the input and of the output, while it is fitted.
    inputs: list[float] = field(default_factory=list)
    outputs: list[float] = field(default_factory=list)
    last: torch.Tensor | None = None


class TeaCache:
    """The rule for one transformer.

    Args:
        transformer: it.
        blocks: its blocks, in the order in which they run.
        steps: of a generation.
        branches: forwards a step.
    """

    def __init__(self, transformer: Any, blocks: list[Any], steps: int, branches: int) -> None:
        self.transformer = transformer
        self.blocks = blocks
        self.steps = steps
        self.branches = branches
        self.polynomial = np.poly1d([1.0, 0.0])

    def fit(self, run: Callable[[], Any]) -> None:
        """Fit the polynomial on an uncached generation."""
        with self.on(-1.0) as begin:
            begin()
            run()
            states = self._states
        x = np.concatenate([state.inputs for state in states])
        y = np.concatenate([state.outputs for state in states])
        self.polynomial = np.poly1d(np.polyfit(x, y, DEGREE))

    @contextmanager
    def on(self, threshold: float) -> Iterator[Callable[[], None]]:
        """Cache until the end; yields what begins a generation."""
        first, last = self.blocks[0], self.blocks[-1]
        kept = [(block, vars(block).get("forward")) for block in self.blocks]
        for block in self.blocks:
            block.forward = self._passing(block, block.forward, block is first, block is last)
        self._threshold = threshold
        self._begin()
        try:
            yield self._begin
        finally:
            for block, own in kept:
                if own is None:
                    del block.forward
                else:
                    block.forward = own

    def _begin(self) -> None:
        self._count = 0
        self._states = [_State() for _ in range(self.branches)]
        self._now = self._states[0]

    def _passing(
        self, block: Any, forward: Callable[..., Any], first: bool, last: bool
    ) -> Callable[..., Any]:
        """A block's forward that runs it, or hands on what it got."""

        def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if first:
                hidden_states = self._decide(block, hidden_states, kwargs)
            state = self._now
            if state.skip:
                text = kwargs.get("encoder_hidden_states")
                pair = text is not None and hasattr(self.transformer, "single_transformer_blocks")
                return (text, hidden_states) if pair else hidden_states
            output = forward(hidden_states, *args, **kwargs)
            if last:
                made = output[1] if isinstance(output, tuple) else output
                assert state.start is not None
                state.residual = made - state.start
                if self._threshold < 0:
                    if state.last is not None:
                        state.outputs.append(_change(made, state.last))
                    state.last = made
            return output

        return run

    def _decide(self, block: Any, hidden: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
        """Whether this forward is skipped; what the first block gets, or all of them give."""
        step, branch = divmod(self._count, self.branches)
        self._count += 1
        state = self._now = self._states[branch]
        now = self._modulated(block, hidden, kwargs)
        change = 0.0 if state.before is None else _change(now, state.before)
        if state.before is not None:
            state.inputs.append(change)
        state.before = now
        if step in (0, self.steps - 1) or self._threshold < 0 or state.residual is None:
            state.skip, state.total = False, 0.0
        else:
            state.total += float(self.polynomial(change))
            state.skip = state.total < self._threshold
            if not state.skip:
                state.total = 0.0
        state.start = hidden
        return hidden + state.residual if state.skip and state.residual is not None else hidden

    def _modulated(self, block: Any, hidden: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
        if "temb" in kwargs:
            found = block.norm1(hidden, emb=kwargs["temb"])
        else:
            found = block.norm1(
                hidden, kwargs["timestep"], kwargs["class_labels"], hidden_dtype=hidden.dtype
            )
        modulated: torch.Tensor = found[0]
        return modulated


def _change(now: torch.Tensor, before: torch.Tensor) -> float:
    return float((now - before).abs().mean() / before.abs().mean())
