"""What is on a pipeline and its models, to see whether disabling restores everything."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict

from cachedit_yaml.compiler.plan import Plan


def attributes(target: Any, plan: Plan) -> list[Any]:
    """What is on the pipeline, its scheduler, the transformers, the block lists and the blocks."""
    owners: list[Any] = []
    for transformer in plan.transformers:
        owners.append(transformer.module)
        for blocks in transformer.lists:
            owners += [blocks.holder, *blocks.blocks]
    # A call changes values on the pipeline, such as the timesteps: of these the names count.
    loose = [target, plan.scheduler]
    names = [sorted(vars(item)) for item in loose if item is not None]
    return [*names, *({name: _mark(value) for name, value in vars(own).items()} for own in owners)]


def left_behind(before: list[Any], after: list[Any], again: list[Any]) -> bool:
    """Whether anything of what :func:`attributes` gives stays otherwise than it was.

    Some models count their calls, or keep what belongs to the last one: a value that was there
    before, and that one more call without caching changes again, is the model's own.

    Args:
        before: before caching was on.
        after: after it was switched off.
        again: after one more call without it.
    """
    for one, other, last in zip(before, after, again, strict=True):
        if not isinstance(one, dict) and one != other:
            return True
        if isinstance(one, dict) and set(one) != set(other):
            return True
        if isinstance(one, dict) and any(
            one[name] != other[name] and other[name] == last.get(name) for name in one
        ):
            return True
    return False


class _Same:
    """An object, equal to itself only.

    Its ``id`` would not do: the next object may lie where one lay that nobody held any more.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


def _mark(value: Any) -> Any:
    """What tells one value from another; calls write a model's config and its positions anew."""
    if isinstance(value, FrozenDict):
        return dict(value)
    if isinstance(value, torch.Tensor):
        numbers = value.detach().cpu().contiguous().reshape(-1)
        return value.shape, value.dtype, bytes(numbers.view(torch.uint8).numpy())
    if isinstance(value, (tuple, list)):
        return [_mark(item) for item in value]
    return value if isinstance(value, (int, float, str, torch.device)) else _Same(value)
