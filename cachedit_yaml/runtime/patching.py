"""Instance attributes replaced for as long as caching is on, and restored bit for bit.

Only instances are touched, never classes. What replaces a method is a :class:`Patch`: an object
that knows what it stands for, so that a deep copy or a pickle of its owner gets the plain method.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar, cast

_ABSENT = object()
_T = TypeVar("_T", bound="Patched")


class Patch:
    """Replaces one method of one instance.

    Args:
        plain: what copies of the owner get, where it is not what the patch found.

    Attributes:
        name: the attribute.
    """

    def __init__(self, owner: Any, name: str, plain: Callable[..., Any] | None = None) -> None:
        # The owner holds this: it must not hold the owner, or only the collector would free it.
        self._owner = weakref.ref(owner)
        self.name = name
        found = getattr(owner, name)
        own = getattr(found, "__self__", None) is owner and hasattr(type(owner), name)
        self._plain = plain
        self._previous: Any = vars(owner).get(name, _ABSENT)
        self._inner = None if own and self._previous is _ABSENT else found
        self.active = False
        self.keeps: Any = None  # what has to live as long as this is installed
        for attribute in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(found, attribute):
                setattr(self, attribute, getattr(found, attribute))

    @property
    def owner(self) -> Any:
        """The instance; None once it is gone."""
        return self._owner()

    @property
    def inner(self) -> Callable[..., Any]:
        """What the attribute was before: a bound method, or what another hook had put there."""
        if self._inner is not None:
            found: Callable[..., Any] = self._inner
            return found
        owner = self._owner()
        method: Callable[..., Any] = getattr(type(owner), self.name).__get__(owner)
        return method

    @inner.setter
    def inner(self, inner: Callable[..., Any]) -> None:
        self._inner = inner

    def call_inner(self, *args: Any, **kwargs: Any) -> Any:
        """Call what the attribute was before, in a way that a compiler can follow.

        A bound method that is made anew leads TorchDynamo back to this patch, without end.
        """
        if self._inner is not None:
            return self._inner(*args, **kwargs)
        owner = self._owner()
        return getattr(type(owner), self.name)(owner, *args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        # `inspect.signature` follows it to the real signature, which cache-dit's forward hides:
        # Modular pipelines pass only the arguments that it names.
        return self._plain or self.inner

    @property
    def __code__(self) -> CodeType:
        # `torch.export` asks for it to name where a forward stands.
        code: CodeType = cast(Any, self.__wrapped__).__code__
        return code

    @property
    def displaced(self) -> bool:
        """Whether the method itself was put back while this was installed.

        What somebody else has put there may call this one, for all that can be told.
        """
        owner = self.owner
        if not self.active or owner is None:
            return False
        now = vars(owner).get(self.name, _ABSENT)
        plain = getattr(type(owner), self.name, None)
        bound = getattr(now, "__self__", None) is owner
        return now is _ABSENT or (bound and getattr(now, "__func__", None) is plain)

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
        if self.owner is None:
            return
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
                outer._previous, outer._inner = self._previous, self._inner
                return
            outer = outer._previous

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of the owner is a plain, uncached object: it must not run the original's weights.
        return copy.deepcopy(self._plain or self.inner, memo)

    def __reduce__(self) -> Any:
        if self._previous is _ABSENT:
            return _bound_method, (self.owner, self.name)
        return _identity, (self._previous,)


class Around(Patch):
    """Calls `around` with the method that it stands for, and with the call's arguments."""

    def __init__(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        super().__init__(owner, name)
        self.around = around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.active:
            return self.inner(*args, **kwargs)
        return self.around(self.call_inner, *args, **kwargs)


class After(Patch):
    """Tells what the method that it stands for has returned, and the call's arguments."""

    def __init__(self, owner: Any, name: str, told: Callable[..., None]) -> None:
        super().__init__(owner, name)
        self.told = told

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.inner(*args, **kwargs)
        if self.active:
            self.told(result, args, kwargs)
        return result


class Patched:
    """Keeps its patches installed while it is entered."""

    def __init__(self) -> None:
        self._patches: list[Patch] = []

    def __enter__(self: _T) -> _T:
        for patch in self._patches:
            patch.install()
        return self

    def __exit__(self, *exception: object) -> None:
        for patch in reversed(self._patches):
            patch.remove()


def _bound_method(owner: Any, name: str) -> Any:
    return getattr(type(owner), name).__get__(owner)


def _identity(value: Any) -> Any:
    return value
