"""Requests that the caller names, for loops that nothing else tells apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: The names of the requests that this thread or task is in, the innermost last.
_REQUESTS: ContextVar[tuple[str, ...]] = ContextVar("cachedit_yaml_requests", default=())


@contextmanager
def within(name: str) -> Iterator[None]:
    """Whatever runs here belongs to a request of this name."""
    _REQUESTS.set((*_REQUESTS.get(), name))
    try:
        yield
    finally:
        # Not by the token: a generator may go on in another thread.
        left = list(_REQUESTS.get())
        if name in left:
            left.reverse()
            left.remove(name)
            left.reverse()
        _REQUESTS.set(tuple(left))


def current_request() -> str | None:
    """The innermost request that the caller has named."""
    names = _REQUESTS.get()
    return names[-1] if names else None
