"""Which tensors are the same, and which have been written to, without keeping any."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.drafting.record import Origin

#: How deep tensors are looked for in containers and objects.
_DEPTH: Final = 4
_SAMPLES: Final = 32
#: What every module has of its own.
_OF_TORCH: Final = frozenset(vars(torch.nn.Module()))


class Tensors:
    """Numbers for tensor objects, and the blocks that made them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int, Origin | None]] = {}

    def token(self, tensor: torch.Tensor) -> int:
        """A number that no other tensor gets."""
        return self._entry(tensor)[1]

    def inside(self, value: Any) -> set[int]:
        """The numbers of the tensors in a value."""
        return {self.token(item) for item in tensors_in(value)}

    def origin(self, tensor: torch.Tensor) -> Origin | None:
        """The block whose output it is."""
        return self._entry(tensor)[2]

    def made(self, tensor: torch.Tensor, origin: Origin) -> weakref.ref[torch.Tensor]:
        """Remember which block returned it."""
        reference, token, _ = self._entry(tensor)
        self._known[id(tensor)] = reference, token, origin
        return reference

    def _entry(self, tensor: torch.Tensor) -> tuple[weakref.ref[torch.Tensor], int, Origin | None]:
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor:
            known = weakref.ref(tensor), next(self._numbers), None
            self._known[id(tensor)] = known
        return known


@torch.no_grad()
def sample(tensor: torch.Tensor) -> tuple[float, ...]:
    """A few values of a tensor, from all over it."""
    flat = tensor.detach().reshape(-1)
    if not flat.numel():
        return ()
    places = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel())).long()
    values: list[float] = flat[places.to(flat.device)].double().tolist()
    return tuple(values)


def versions(value: Any) -> tuple[tuple[int, int], ...]:
    """The tensors in a value, each with how often it has been written to."""
    return tuple((id(item), item._version) for item in tensors_in(value) if not item.is_inference())


def own_state(block: torch.nn.Module) -> dict[str, tuple[tuple[int, int], ...]]:
    """What a block keeps beside its parameters, by attribute path."""
    found = {}
    for path, module in block.named_modules():
        held: Mapping[str, Any] = {
            **{name: item for name, item in vars(module).items() if name not in _OF_TORCH},
            **module._buffers,
        }
        for name, item in held.items():
            if callable(item):
                continue
            counter = isinstance(item, int) and not isinstance(item, bool)
            if seen := ((-1, item),) if counter else versions(item):
                found[f"{path}.{name}".lstrip(".")] = seen
    return found


def tensors_in(value: Any, depth: int = _DEPTH) -> Iterator[torch.Tensor]:
    """The tensors in containers and objects.

    Args:
        value: anything.
        depth: how deep they are looked for.
    """
    if isinstance(value, torch.Tensor):
        yield value
    elif depth == 0 or isinstance(value, (str, bytes, int, float, torch.nn.Module, type)):
        return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif hasattr(value, "__dict__"):
        yield from tensors_in(vars(value), depth - 1)
