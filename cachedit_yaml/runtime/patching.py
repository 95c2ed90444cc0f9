"""Instance attributes replaced for as long as caching is on, and restored bit for bit.

Only instances are touched, never classes. What replaces a method is a :class:`Patch`: an object
that knows what it stands for, so that a deep copy or a pickle of its owner gets the plain method.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patch:
    """Replaces one method of one instance.

    Args:
        plain: what copies of the owner get, where it is not what the patch found.

    Attributes:
        owner: the instance.
        name: the attribute.
        inner: what the attribute was before: a bound method, or what another hook had put there.
    """

    def __init__(self, owner: Any, name: str, plain: Callable[..., Any] | None = None) -> None:
        self.owner = owner
        self.name = name
        self.inner: Callable[..., Any] = getattr(owner, name)
        self._plain = plain
        self._previous: Any = vars(owner).get(name, _ABSENT)
        self.active = False
        self.keeps: Any = None  # what has to live as long as this is installed
        # `inspect.signature` follows __wrapped__ to the real signature.
        functools.update_wrapper(self, self.inner, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def install(self) -> None:
        """Put this in the method's place."""
        setattr(self.owner, self.name, self)
        self.active = True

    def remove(self) -> None:
        """Restore the attribute; where somebody wrapped this patch, step aside instead."""
        if not self.active:
            return
        self.active = False
        self.keeps = None
        outer = vars(self.owner).get(self.name)
        if outer is self:
            if self._previous is _ABSENT:
                delattr(self.owner, self.name)
            else:
                setattr(self.owner, self.name, self._previous)
            return
        # Another patch may have come on top (two pipelines share a scheduler): it takes over.
        while isinstance(outer, Patch):
            if outer._previous is self:
                outer._previous, outer.inner = self._previous, self.inner
                return
            outer = outer._previous

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of the owner is a plain, uncached object: it must not run the original's weights.
        return copy.deepcopy(self._plain or self.inner, memo)

    def __reduce__(self) -> Any:
        if self._previous is _ABSENT:
            return _bound_method, (self.owner, self.name)
        return _identity, (self._previous,)


def _bound_method(owner: Any, name: str) -> Any:
    return getattr(type(owner), name).__get__(owner)


def _identity(value: Any) -> Any:
    return value
