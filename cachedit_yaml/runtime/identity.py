"""Which tensors go into a forward, by the memory that they are; no value is read here.

A tensor is the same as another where both are the same part of the same storage and nothing was
written over it in between. A weak reference to the storage keeps its address from being given to
another one, and keeps no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

#: Of a list that is longer, the rest tells nothing more.
_MOST: Final = 64


class Trace(NamedTuple):
    """One tensor as it went into a forward.

    Attributes:
        storage: keeps the address of the storage from being used again.
        view: which part of it, and how often it had been written to.
    """

    storage: StorageWeakRef
    view: tuple[Any, ...]

    @property
    def lives(self) -> bool:
        """Whether somebody still holds the memory."""
        return not self.storage.expired()  # type: ignore[no-untyped-call]

    @property
    def version(self) -> int:
        """How often it had been written to."""
        return int(self.view[-1])

    def lives_beside(self, held: int) -> bool:
        """Whether somebody else holds the memory than the tensors of it that are held here.

        Args:
            held: how many those are.
        """
        # Asking is one more.
        return self.lives and torch._C._storage_Use_Count(self.storage.cdata) - 1 > held

    def writes_over(self, other: Trace) -> bool:
        """Whether this is the same part of the same storage, written to since."""
        same = self.storage.cdata == other.storage.cdata and self.view[:-1] == other.view[:-1]
        return same and self.view != other.view

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
    for argument, value in arguments.items():
        for name, tensor in tensors_in(argument, value):
            trace = trace_of(tensor)
            if trace is None or name == without:
                continue
            if excluded is None or trace.storage.cdata != excluded.storage.cdata:
                found[name] = trace
    return found


def tensors_in(name: str, value: Any, depth: int = 2) -> Iterator[tuple[str, torch.Tensor]]:
    """An argument of a forward, or the tensors in it, each by the name that leads to it."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth > 0 and isinstance(value, (list, tuple, Mapping)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in islice(items, _MOST):
            yield from tensors_in(f"{name}.{key}", item, depth - 1)


def _view_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride(), version_of(tensor)


def version_of(tensor: torch.Tensor | None) -> int:
    """The tensor's in-place counter; -1 in inference mode, which keeps none."""
    return -1 if tensor is None or tensor.is_inference() else int(tensor._version)


def shape_of(tensor: torch.Tensor | None) -> torch.Size | None:
    """The shape, if there is a tensor."""
    return None if tensor is None else tensor.shape


def overwritten(before: torch.Tensor, version: int, after: torch.Tensor) -> bool:
    """Whether a block wrote its output over its input."""
    if version != version_of(before):
        return True
    return before.data_ptr() == after.data_ptr() and before.data_ptr() != 0
