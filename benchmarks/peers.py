"""Caches of diffusers on the demo's transformer, with hooks of its own."""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import (
    FirstBlockCacheConfig,
    HookRegistry,
    MagCacheConfig,
    apply_first_block_cache,
    apply_mag_cache,
)
from diffusers.hooks.hooks import CacheContext, _set_cache_context


class Count:
    """How many blocks the loop called, and how many ran."""

    called = 0
    ran = 0

    @property
    def fraction(self) -> float:
        """The share that ran."""
        return self.ran / self.called if self.called else 1.0


@contextmanager
def counted(transformer: Any) -> Iterator[Count]:
    """Count blocks by what runs inside of them, whoever it is that skips some."""
    count = Count()

    def called(*_: Any) -> None:
        count.called += len(transformer.transformer_blocks)

    def ran(*_: Any) -> None:
        count.ran += 1

    hooks = [transformer.register_forward_pre_hook(called)]
    hooks += [
        block.attn1.register_forward_pre_hook(ran) for block in transformer.transformer_blocks
    ]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def hooked(transformer: Any, apply: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Hooks of diffusers, until the end; yields what begins a generation."""
    apply()
    _set_cache_context(transformer, CacheContext(name="all"))

    def begin() -> None:
        for block in transformer.transformer_blocks:
            HookRegistry.check_if_exists_or_initialize(block).reset_stateful_hooks(recurse=False)
        _set_cache_context(transformer, CacheContext(name="all"))

    try:
        yield begin
    finally:
        for block in transformer.transformer_blocks:
            registry = HookRegistry.check_if_exists_or_initialize(block)
            for name in list(registry.hooks):
                registry.remove_hook(name, recurse=False)


def first_block_cache(transformer: Any, threshold: float) -> Callable[[], None]:
    """FirstBlockCache."""
    return lambda: apply_first_block_cache(transformer, FirstBlockCacheConfig(threshold=threshold))


def mag_cache(
    transformer: Any, ratios: list[float], threshold: float, skip: int, retention: float
) -> Callable[[], None]:
    """MagCache with the ratios that it measured itself."""
    config = MagCacheConfig(
        threshold=threshold,
        max_skip_steps=skip,
        retention_ratio=retention,
        num_inference_steps=len(ratios),
        mag_ratios=list(ratios),
    )
    return lambda: apply_mag_cache(transformer, config)


def mag_ratios(transformer: Any, steps: int, run: Callable[[], Any]) -> list[float]:
    """What MagCache's calibration prints."""
    said = io.StringIO()
    config = MagCacheConfig(calibrate=True, num_inference_steps=steps)
    with hooked(transformer, lambda: apply_mag_cache(transformer, config)) as begin:
        begin()
        with contextlib.redirect_stdout(said):
            run()
    found = [line for line in said.getvalue().splitlines() if line.startswith("[")]
    return list(ast.literal_eval(found[-1]))
