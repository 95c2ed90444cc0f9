"""Batch invariance: whether a block does to a part of the rows what it does to all of them.

It runs on both, and what it adds is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import torch

from cachedit_yaml.compiler.parallel import average
from cachedit_yaml.runtime.compiled import twin

if TYPE_CHECKING:
    from cachedit_yaml.runtime.passes import ListPass
    from cachedit_yaml.runtime.rows import Split

#: Of what a block adds, so much may differ between a part of the rows and all of them.
_SHARE: Final = 0.02


def differing(
    run: ListPass,
    split: Split,
    inner: Callable[..., Any],
    whole: tuple[tuple[Any, ...], dict[str, Any]],
    part: tuple[tuple[Any, ...], dict[str, Any]],
) -> str | None:
    """Run a block on a part of the rows and on all of them.

    Args:
        run: the pass.
        split: which rows are the part.
        inner: the block's forward.
        whole: what it is called with, for all rows.
        part: the same for the part.

    Returns:
        How what it does differs, or None.
    """
    encoder = run.runner.plan.binding.encoder
    given = (
        run.runner.plan.binding.hidden.get(*part),
        encoder.get(*part) if encoder is not None else None,
    )
    try:
        outputs = []
        for args, kwargs in (part, whole):
            # Copies, as the block may write over what it gets.
            own = _copied((args, kwargs), {})
            held = [len(item) for item in _containers(own)]
            outputs.append(run.runner.split(inner(*own[0], **own[1])))
            if [len(item) for item in _containers(own)] != held:
                return "its blocks collect something in what they are given"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        text = str(error).partition("\n")[0][:120]
        return f"a block fails with a part of them ({type(error).__name__}: {text})"
    bad = [
        _differs(one, split, other, before)
        for one, other, before in zip(*outputs, given, strict=True)
    ]
    return "a block does something else to a part of them than to all" if _any(bad, run) else None


def _any(found: list[torch.Tensor], run: ListPass) -> bool:
    """Whether one of them is true, here or on one of the ranks that run the forward together."""
    bad = torch.stack([item.to(found[0].device) for item in found]).any()
    if run.runner.ranks is not None:
        bad = average(bad.float()[None], run.runner.ranks)[0]
    return bool(bad)


def _differs(part: Any, split: Split, whole: Any, given: Any) -> torch.Tensor:
    """Whether a part of the rows is not what all of them hold there, ``[]``."""
    if not isinstance(whole, torch.Tensor) or not isinstance(part, torch.Tensor):
        return torch.tensor(type(whole) is not type(part))
    if not split.carries(whole):
        return torch.tensor(part.shape != whole.shape)
    true = split.part(whole)
    if true.shape != part.shape:
        return torch.tensor(True)
    true, part = true.double(), part.double()
    error = torch.nan_to_num(true - part, 0.0, 0.0, 0.0).abs().mean()
    size = torch.nan_to_num(true, 0.0, 0.0, 0.0).abs().mean()
    allowed = 8 * torch.finfo(whole.dtype).eps * size
    same = isinstance(given, torch.Tensor) and given.shape == true.shape
    added = torch.nan_to_num(true - given.double(), 0.0, 0.0, 0.0).abs().mean() if same else size
    broken: torch.Tensor = (true.isfinite() != part.isfinite()).any()
    return broken | (error > _SHARE * added + allowed)


def _copied(value: Any, known: dict[int, torch.Tensor]) -> Any:
    """Arguments whose tensors are copies; what is given twice has one, in `known`."""
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            known[id(value)] = twin(value)
        return known[id(value)]
    if type(value) is dict:
        return {key: _copied(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_copied(item, known) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _containers(value: Any) -> Iterator[Any]:
    """The lists and mappings among arguments."""
    if isinstance(value, (list, tuple, dict)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)
