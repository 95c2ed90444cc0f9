"""Caches of diffusers on a transformer of the demo, with hooks of its own, and TeaCache's rule."""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from diffusers.hooks import (
    FirstBlockCacheConfig,
    HookRegistry,
    MagCacheConfig,
    TaylorSeerCacheConfig,
    apply_first_block_cache,
    apply_mag_cache,
    apply_taylorseer_cache,
)
from diffusers.hooks.hooks import CacheContext, _set_cache_context

from benchmarks.teacache import TeaCache

#: Switches a cache on for a transformer; yields what begins a generation.
Switch = Callable[[], AbstractContextManager[Callable[[], None]]]


def blocks_of(transformer: Any) -> list[Any]:
    """All blocks, in the order in which they run."""
    lists = (getattr(transformer, name, ()) for name in ("transformer_blocks",
             "single_transformer_blocks"))  # fmt: skip
    return [block for found in lists for block in found]


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
    blocks = blocks_of(transformer)

    def called(*_: Any) -> None:
        count.called += len(blocks)

    def ran(*_: Any) -> None:
        count.ran += 1

    hooks = [transformer.register_forward_pre_hook(called)]
    for block in blocks:
        inside = block.attn1 if hasattr(block, "attn1") else block.attn
        hooks.append(inside.register_forward_pre_hook(ran))
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def hooked(
    transformer: Any, apply: Callable[[], None], steps: int, branches: int
) -> Iterator[Callable[[], None]]:
    """Hooks of diffusers, until the end; yields what begins a generation.

    Args:
        transformer: it.
        apply: puts the hooks on.
        steps: of a generation.
        branches: forwards a step, each of which has a state of its own.
    """
    apply()
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    registry.invalidate_child_registries_cache()
    count = 0

    def told(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Say which forward comes: pipelines leave that out, or say less than SeaCache asks for."""
        nonlocal count
        step, branch = divmod(count, branches)
        time = float(kwargs["timestep"].flatten()[0])
        context = CacheContext(
            name=str(branch),
            step_index=step,
            num_inference_steps=steps,
            sigma=time / 1000 if time > 1 else time,
        )
        _set_cache_context(transformer, context)
        count += 1

    def begin() -> None:
        nonlocal count
        count = 0
        _set_cache_context(transformer, CacheContext(name="0"))
        registry.reset_stateful_hooks()

    hook = transformer.register_forward_pre_hook(told, with_kwargs=True)
    try:
        yield begin
    finally:
        hook.remove()
        for module in transformer.modules():
            own = getattr(module, "_diffusers_hook", None)
            for name in list(own.hooks) if own is not None else ():
                own.remove_hook(name, recurse=False)
        registry.invalidate_child_registries_cache()


class Peers:
    """The caches of others for one transformer.

    Args:
        transformer: it.
        steps: of a generation.
        branches: forwards a step.
        run: runs one uncached generation, for what is to be fitted.
    """

    def __init__(self, transformer: Any, steps: int, branches: int, run: Callable[[], Any]) -> None:
        self.transformer = transformer
        self.steps = steps
        self.branches = branches
        self.ratios = self._mag_ratios(run)
        self.tea = TeaCache(transformer, blocks_of(transformer), steps, branches)
        self.tea.fit(run)

    def _hooked(self, apply: Callable[[Any, Any], None], config: Any) -> Switch:
        return lambda: hooked(
            self.transformer, lambda: apply(self.transformer, config), self.steps, self.branches
        )

    def _mag_ratios(self, run: Callable[[], Any]) -> list[float]:
        """What MagCache's calibration prints."""
        said = io.StringIO()
        config = MagCacheConfig(calibrate=True, num_inference_steps=self.steps)
        with self._hooked(apply_mag_cache, config)() as begin:
            begin()
            with contextlib.redirect_stdout(said):
                run()
        found = [line for line in said.getvalue().splitlines() if line.startswith("[")]
        # Guidance: of the forward that has the prompt, which comes first.
        return list(ast.literal_eval(next(line for line in found if line[1].isdigit())))

    def all(self) -> Iterator[tuple[str, Switch]]:
        """Every cache with a sweep of its settings: a name, and what switches it on."""
        for threshold in (0.04, 0.055, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3):
            config: Any = FirstBlockCacheConfig(threshold=threshold)
            yield f"FirstBlockCache {threshold}", self._hooked(apply_first_block_cache, config)
        for threshold, skip, retention in (
            (0.02, 2, 0.06), (0.04, 3, 0.06), (0.06, 3, 0.06), (0.12, 4, 0.06), (0.2, 5, 0.06),
            (0.3, 7, 0.06), (0.06, 3, 0.2), (0.12, 4, 0.2),
        ):  # fmt: skip
            config = MagCacheConfig(
                threshold=threshold,
                max_skip_steps=skip,
                retention_ratio=retention,
                num_inference_steps=len(self.ratios),
                mag_ratios=list(self.ratios),
            )
            name = f"MagCache {threshold}, at most {skip}, retention {retention}"
            yield name, self._hooked(apply_mag_cache, config)
        for order, interval in ((0, 2), (1, 2), (1, 3), (1, 4), (1, 5), (1, 7), (2, 3), (2, 5)):
            name = f"TaylorSeer {order}, every {interval}"
            yield name, self._hooked(apply_taylorseer_cache, self._taylorseer(order, interval))
        yield from self._sea()
        for threshold in (0.03, 0.05, 0.08, 0.11, 0.15, 0.2, 0.3):
            yield f"TeaCache {threshold}", lambda threshold=threshold: self.tea.on(threshold)

    def _taylorseer(self, order: int, interval: int) -> TaylorSeerCacheConfig:
        """Its lite mode, which skips whole blocks; its patterns do not know a DiT's last layer."""
        last = "proj_out" if hasattr(self.transformer, "proj_out") else "proj_out_2"
        return TaylorSeerCacheConfig(
            cache_interval=interval,
            disable_cache_before_step=1,
            max_order=order,
            taylor_factors_dtype=torch.float32,
            skip_predict_identifiers=[r"(single_)?transformer_blocks\.\d+"],
            cache_identifiers=[last],
        )

    def _sea(self) -> Iterator[tuple[str, Switch]]:
        try:
            from diffusers.hooks import SeaCacheConfig, apply_sea_cache
        except ImportError:  # before diffusers 0.42
            return
        for order, most, thresholds in (
            (0, 0, (0.1, 0.15, 0.22, 0.3, 0.45)),
            (1, 0, (0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)),
            (1, 2, (0.15,)),
        ):
            for threshold in thresholds:
                config = SeaCacheConfig(
                    threshold=threshold,
                    residual_order=order,
                    max_consecutive_cached=most,
                    power_exp=2.0,
                    raw_vision_callback=_latents,
                )
                limit = f", at most {most}" if most else ""
                name = f"SeaCache {threshold}, order {order}{limit}"
                yield name, self._hooked(apply_sea_cache, config)


def _latents(module: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """What SeaCache compares: latents ``[channels x 1 x height x width]`` of each picture."""
    found = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    if found.ndim == 3:  # packed, as FLUX has them
        side = int(found.shape[1] ** 0.5)
        found = found.transpose(1, 2).unflatten(2, (side, side))
    return list(found[:, :, None].unbind(0))
