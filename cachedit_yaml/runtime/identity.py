"""Which tensors go into a forward, by the memory that they are; their values are never read.

A tensor is the same as another where both are the same part of the same storage and nothing was
written over it in between. A weak reference to the storage keeps its address from being given to
another one, and keeps no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

#: More tensors than any transformer takes; more of them tell nothing more.
_MOST: Final = 64


class Trace(NamedTuple):
    """One tensor as it went into a forward.

    Attributes:
        storage: keeps the address of the storage from being used again.
        view: which part of it, and how often it had been written to.
    """

    storage: StorageWeakRef
    view: tuple[Any, ...]

    def is_of(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is the same one."""
        try:
            address = tensor.untyped_storage()._cdata
        except (RuntimeError, NotImplementedError):
            return False
        return bool(address == self.storage.cdata) and _view_of(tensor) == self.view

    @property
    def lives(self) -> bool:
        """Whether somebody still holds the memory."""
        return not self.storage.expired()  # type: ignore[no-untyped-call]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Trace)
            and self.storage.cdata == other.storage.cdata
            and self.view == other.view
        )

    def __hash__(self) -> int:
        return hash((self.storage.cdata, self.view))


#: The tensors of a forward, by the name of the argument that leads to each.
Traces = Mapping[str, Trace]


def trace_of(tensor: torch.Tensor) -> Trace | None:
    """What a tensor is; None for those that have no storage (sparse ones, transforms)."""
    try:
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        return Trace(storage, _view_of(tensor))
    except (RuntimeError, NotImplementedError):
        return None


def traces_of(arguments: Mapping[str, Any], without: str = "") -> Traces:
    """The tensors among the arguments of a forward, and in lists, tuples and mappings there.

    Args:
        arguments: by their names.
        without: one that is left out, and with it what shares its memory: the timestep, which a
            loop may hand on twice.
    """
    found: dict[str, Trace] = {}
    left_out = arguments.get(without)
    excluded = trace_of(left_out) if isinstance(left_out, torch.Tensor) else None
    for name, tensor in _tensors(arguments):
        trace = trace_of(tensor)
        if trace is None or name == without:
            continue
        if excluded is None or trace.storage.cdata != excluded.storage.cdata:
            found[name] = trace
        if len(found) >= _MOST:
            break
    return found


def _tensors(arguments: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    todo: list[tuple[str, Any, int]] = [(name, value, 0) for name, value in arguments.items()]
    for name, value, depth in todo[:_MOST]:
        if isinstance(value, torch.Tensor):
            yield name, value
        elif depth < 2 and isinstance(value, (list, tuple)):
            inner = enumerate(value[:_MOST])
            yield from _deeper(name, inner, depth)
        elif depth < 2 and isinstance(value, Mapping):
            yield from _deeper(name, value.items(), depth)


def _deeper(name: str, items: Any, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in items:
        inner = f"{name}.{key}"
        if isinstance(value, torch.Tensor):
            yield inner, value
        elif depth < 1 and isinstance(value, (list, tuple, Mapping)):
            entries = value.items() if isinstance(value, Mapping) else enumerate(value)
            yield from _deeper(inner, entries, depth + 1)


def _view_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    # In inference mode nobody counts what is written.
    version = -1 if tensor.is_inference() else tensor._version
    return tensor.storage_offset(), tensor.shape, tensor.stride(), version
