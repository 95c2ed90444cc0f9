"""Which guidance branch a forward belongs to, and whether it is a denoising step at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cachedit_yaml.compiler.plan import TransformerPlan
from cachedit_yaml.compiler.signature import parameters_of
from cachedit_yaml.runtime.identity import Traces
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.timesteps import Moment, Reading


@dataclass(frozen=True)
class Forward:
    """One forward of a transformer, as it is called.

    Attributes:
        timestep: its timestep; read only where no scheduler tells.
        name: the guidance branch that the pipeline announced.
        traces: the tensors that go into it.
    """

    timestep: Reading
    name: str | None
    traces: Traces

    @property
    def moment(self) -> Moment | None:
        """Its timestep, if it can be read."""
        return self.timestep.moment


class _CacheContext(Patch):
    """Stands in for ``transformer.cache_context`` and remembers the name that it announces."""

    names: BranchNames

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if not self.active:
            return self.inner(name, *args, **kwargs)
        return self.names.announce(name, self.inner(name, *args, **kwargs))


class BranchNames:
    """The names that a pipeline announces with ``transformer.cache_context(name)``.

    Wrapping the instance's method does not depend on diffusers' hooks, whose interface changes
    between releases. Names are kept by thread.
    """

    def __init__(self, transformer: torch.nn.Module) -> None:
        self._local = threading.local()
        self.patches: list[Patch] = []
        if callable(getattr(transformer, "cache_context", None)):
            patch = _CacheContext(transformer, "cache_context")
            patch.names = self
            self.patches.append(patch)

    def current(self) -> str | None:
        """The innermost name that this thread has announced, or None."""
        stack = getattr(self._local, "stack", None)
        return stack[-1] if stack else None

    @contextmanager
    def announce(self, name: str, context: Any) -> Iterator[Any]:
        """Enter the pipeline's own context under a name."""
        stack = self._local.__dict__.setdefault("stack", [])
        stack.append(str(name))
        try:
            with context as value:
                yield value
        finally:
            stack.pop()


class Parameters:
    """The parameters of a transformer's forward, to read calls with.

    Args:
        forward: the bound forward.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        try:
            found = parameters_of(forward)
        except (TypeError, ValueError):
            found = {}
        self._places = {name: place for place, name in enumerate(found)}
        self._defaults = {
            name: parameter.default
            for name, parameter in found.items()
            if parameter.default is not parameter.empty
        }

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name."""
        return {**dict(zip(self._places, args, strict=False)), **kwargs}

    def get(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An argument of a call by name; its default, or None, where the call leaves it out."""
        if name in kwargs:
            return kwargs[name]
        place = self._places.get(name)
        if place is not None and place < len(args):
            return args[place]
        return self._defaults.get(name)


def counts_as_denoising(
    plan: TransformerPlan,
    parameters: Parameters,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> bool:
    """Whether a call is a denoising step: all are, unless the adapter says which."""
    if plan.denoising is None:
        return True
    when, unless = plan.denoising.when or {}, plan.denoising.unless or {}

    def has(name: str, value: Any) -> bool:
        return _equal(parameters.get(name, args, kwargs), value)

    return all(has(*item) for item in when.items()) and not any(
        has(*item) for item in unless.items()
    )


def _equal(given: Any, value: Any) -> bool:
    if isinstance(given, torch.Tensor):
        return given.numel() == 1 and bool(given.item() == value)
    return bool(given == value)
