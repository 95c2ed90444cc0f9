"""Computed forwards with the rounding of a hit, to compare one with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from cachedit_yaml.compiler.plan import ListPlan, TransformerPlan
from cachedit_yaml.drafting.marks import tensors_in
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.patching import Around, Patched


@dataclass
class _Rounding:
    """What one list does in the calls of one forward.

    Attributes:
        plan: the list.
        first: index of the first block that a hit skips.
        end: index after the last one.
        last: blocks after which the loop leaves the middle, in their order.
        entered: hidden states and encoder hidden states before the middle blocks.
        before: index of the last block that ran.
        turn: rounds through the list in this forward.
        beside: what the last block returned in the second place.
    """

    plan: ListPlan
    runner: ListRunner
    first: int
    end: int
    last: dict[int, int] = field(default_factory=dict)
    entered: tuple[torch.Tensor, Any] | None = None
    before: int = -1
    turn: int = 0
    beside: Any = None


class Rounded(Patched):
    """Forwards that compute everything, with the rounding that storing a difference brings.

    On a hit the last of the skipped blocks returns ``in + (out - in)`` for ``out``.

    Attributes:
        on: whether the calls to come are rounded; the first one shows which blocks the loop runs.
        states: the tensors of the states that blocks handed on in that one.
    """

    def __init__(self, plan: TransformerPlan) -> None:
        super().__init__()
        self.on = False
        self.states: list[torch.Tensor] = []
        self._lists = [self._of(item) for item in plan.lists]
        for item in self._lists:
            for index, block in enumerate(item.plan.blocks):
                name = "forward" if block._compiled_call_impl is None else "_compiled_call_impl"
                told = functools.partial(self._block, item, index)
                self._patches.append(Around(block, name, told))
        self._patches.append(Around(plan.module, "forward", self._forward))

    @staticmethod
    def _of(plan: ListPlan) -> _Rounding:
        settings = plan.layers.resolve(None)
        return _Rounding(plan, ListRunner(plan), settings.fn, len(plan.blocks) - settings.bn)

    def _forward(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for item in self._lists:
            item.before, item.turn, item.entered = len(item.plan.blocks), -1, None
        return inner(*args, **kwargs)

    def _block(
        self, item: _Rounding, index: int, inner: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if index <= item.before:
            item.turn, item.entered = item.turn + 1, None
        item.before = index
        binding, middle = item.plan.binding, item.first <= index < item.end
        if middle and item.entered is None:
            encoder = binding.encoder.get(args, kwargs) if binding.encoder else item.beside
            hidden = binding.hidden.get(args, kwargs).clone()
            item.entered = hidden, encoder.clone() if _is_tensor(encoder) else None
        output = inner(*args, **kwargs)
        if binding.passes and not self.on:
            self.states += tensors_in(item.runner.split(output)[1])
        if index < item.first:
            item.beside = item.runner.split(output)[1]
        if not middle:
            return output
        if not self.on:
            item.last[item.turn] = index
        elif item.last.get(item.turn) == index:
            return self._rounded(item, output)
        return output

    @staticmethod
    def _rounded(item: _Rounding, output: Any) -> Any:
        assert item.entered is not None
        runner, (before, beside) = item.runner, item.entered
        hidden, encoder = runner.split(output)
        if hidden.shape != before.shape:
            return output
        adds = item.plan.pattern.returns_encoder and not item.plan.binding.passes
        if adds and _is_tensor(encoder) and _is_tensor(beside) and encoder.shape == beside.shape:
            encoder = beside + (encoder.contiguous() - beside)
        kept = None if runner.entries is None else runner.entries.rest(output)
        return runner.join(before + (hidden.contiguous() - before), encoder, kept)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
