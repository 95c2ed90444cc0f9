"""Errors raised from any function that a generation calls, and the generation after them."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from cachedit_yaml.runtime.handle import Handle

#: What ends a generation: a fault, Ctrl-C, too little memory, a client that has left.
ERRORS = (
    RuntimeError,
    KeyboardInterrupt,
    MemoryError,
    torch.OutOfMemoryError,
    asyncio.CancelledError,
    GeneratorExit,
)


class Calls:
    """Counts the Python functions that are called, and raises from one of them."""

    def __init__(self, at: int | None = None, error: type[BaseException] = RuntimeError) -> None:
        self.count = 0
        self.place = ""
        self._at = at
        self._error = error

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What ``sys.setprofile`` calls."""
        if event != "call":
            return
        if self.count == self._at:
            sys.setprofile(None)
            code = frame.f_code
            self.place = f"{code.co_filename}:{frame.f_lineno} {code.co_name}"
            raise self._error("on purpose")
        self.count += 1

    @contextmanager
    def watching(self) -> Iterator[Calls]:
        """Count while this is entered."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield self
        finally:
            sys.setprofile(before)


def stress(
    handle: Handle, generate: Callable[[], torch.Tensor], count: int, seed: int
) -> list[str]:
    """Let generations fail anywhere, each followed by one that must be as on a fresh handle.

    Args:
        handle: of the pipeline, for which caching is on.
        generate: runs it once.
        count: faults.
        seed: of everything.

    Returns:
        The places at which an error was raised.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # what destructors raise
    try:
        return _stress(handle, generate, count, random.Random(seed))
    finally:
        gc.collect()
        sys.unraisablehook = hook


def _stress(
    handle: Handle, generate: Callable[[], torch.Tensor], count: int, chance: random.Random
) -> list[str]:
    generate()
    wanted = generate()
    rows = handle.stats().branches
    with Calls().watching() as calls:
        generate()
    places = []
    grad = torch.is_grad_enabled()
    for _ in range(count):
        error = chance.choice(ERRORS)
        fault = Calls(chance.randrange(calls.count), error)
        try:
            with fault.watching():
                generate()
        except error:
            pass
        torch.set_grad_enabled(grad)  # raised within torch's own `no_grad`, it stays off
        places.append(fault.place)
        again = generate()
        assert torch.equal(again, wanted), f"{error.__name__} at {fault.place}"
        assert handle.stats().branches == rows, f"{error.__name__} at {fault.place}"
    return places
