"""One transformer under native execution: cache-dit's own blocks, driven by our clock."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cache_dit
import torch
from cache_dit.caching.cache_blocks import remove_stats

from cachedit_yaml.compiler.adapters import base_config, block_adapter
from cachedit_yaml.compiler.chains import Chain, chains, settings_of
from cachedit_yaml.compiler.loops import LoopReport
from cachedit_yaml.compiler.plan import Plan, TransformerPlan
from cachedit_yaml.compiler.signature import plain_forward
from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.runtime.branches import BranchNames, Forward, Parameters, counts_as_denoising
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.identity import traces_of
from cachedit_yaml.runtime.masks import build_mask
from cachedit_yaml.runtime.native_state import NativeState
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.plain import needs_gradients
from cachedit_yaml.runtime.timesteps import Reading
from cachedit_yaml.runtime.transformer import ForwardHook

_ABSENT = object()


class NativeTransformer:
    """One transformer under cache-dit's own execution."""

    def __init__(
        self, plan: TransformerPlan, whole: Plan, clock: Clock, loops: dict[str, LoopReport]
    ) -> None:
        self.plan = plan
        self._whole = whole
        self._clock = clock
        self.names = BranchNames(plan.module)
        self._parameters = Parameters(plain_forward(plan.module))
        # The plain forward; a bound method would hold the transformer when caching is off.
        forward = plan.module.forward
        bound = getattr(forward, "__self__", None) is plan.module
        self._forward = weakref.WeakMethod(forward) if bound else lambda: forward
        self._loops = loops
        self._hook: ForwardHook | None = None
        # What cache-dit changed: the object, the attribute, what it put there, what was before.
        self._changes: list[tuple[Any, str, Any, Any]] = []
        self._children = list(plan.module._modules)
        self._running: Callable[[], Generation | None] = lambda: None
        self._lock = threading.RLock()

    @property
    def _plain(self) -> Callable[..., Any]:
        forward: Callable[..., Any] | None = self._forward()
        assert forward is not None  # what runs it holds the transformer
        return forward

    @property
    def patches(self) -> list[Patch]:
        """The hooks that drive cache-dit's contexts, on top of what it installed."""
        self._hook = ForwardHook(self, plain=self._plain)
        return [self._hook, *self.names.patches]

    @property
    def _holders(self) -> list[Any]:
        return [self.plan.module, *(item.holder for item in self.plan.lists)]

    def install(self) -> None:
        """Let cache-dit replace the transformer's forward."""
        before = [dict(vars(holder)) for holder in self._holders]
        try:
            adapter = block_adapter(self._whole, self.plan, None)
            cache_dit.enable_cache(adapter, cache_config=base_config(self._whole, self.plan))
        finally:
            for holder, old in zip(self._holders, before, strict=True):
                self._changes += [
                    (holder, name, value, old.get(name, _ABSENT))
                    for name, value in vars(holder).items()
                    if value is not old.get(name, _ABSENT)
                ]

    def remove(self) -> None:
        """Undo what cache-dit did, and nothing that somebody else has done since."""
        manager = getattr(self.plan.module, "_context_manager", None)
        if manager is not None:
            manager.clear_contexts()
        for holder, name, value, old in reversed(self._changes):
            now = vars(holder)
            if now.get(name) is value:
                if old is _ABSENT:
                    del now[name]
                else:
                    now[name] = old
        self._changes = []
        for holder in self._holders:
            remove_stats(holder)
        # Each of cache-dit's forwards takes the lists out and puts them back at the end.
        children = self.plan.module._modules
        for name in [name for name in self._children if name in children]:
            children[name] = children.pop(name)
        if self._hook is not None:
            # Where somebody has wrapped it, it stays: as the plain forward.
            self._hook.inner = self._plain
            self._hook = None

    def forward(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward through cache-dit, where it is a denoising step."""
        with self._lock:
            if not counts_as_denoising(self.plan, self._parameters, args, kwargs):
                return self._plain(*args, **kwargs)
            clock = self._clock
            timestep = self.plan.timestep
            generation = clock.generation(
                Forward(
                    Reading(lambda: self._parameters.get(timestep, args, kwargs)),
                    self.names.current(),
                    traces_of(self._parameters.named(args, kwargs), without=timestep),
                ),
                clock.pipelines.caller(self.plan),
            )
            state = generation.transformers.get(self.plan.path)
            early = state is None and clock.may_announce(generation)
            if early and generation.masked(self.plan):
                return self._plain(*args, **kwargs)
            if state is None:
                state = generation.transformers[self.plan.path] = self._begin(generation)
            reason = generation.reason_against(self.plan.path, state.step_at(generation.tick))
            if reason is None and needs_gradients(self.plan.module, args, kwargs):
                reason = "gradients are on"
            if reason is None and generation is not self._running():
                reason = "another generation has begun, and cache-dit serves one at a time"
            if reason is not None:
                state.skip(reason)
                return self._plain(*args, **kwargs)
            try:
                self._check_arguments(args, kwargs)
                self._count(state, generation, args, kwargs)
                output = inner(*args, **kwargs)
                self._follow_refresh(state)
                return output
            except BaseException:
                clock.fail(generation)
                raise

    def _begin(self, generation: Generation) -> NativeState:
        """Rebuild cache-dit's contexts for this generation."""
        state = NativeState()
        steps = generation.shares.get(self.plan.path, generation.total)
        for name, chain in self._contexts():
            item, resolved = chain[0], settings_of(chain, generation.total)
            # Two branches begin with the first step's second forward, whatever is declared, unless
            # cache-dit has to know the order of the branches before.
            separate = bool(self._whole.separate_cfg and resolved.values["cfg_compute_first"])
            mask = build_mask(resolved.scm, steps, item.where)
            config = resolved.cache_config(steps, mask, separate_cfg=separate, owns_refresh=False)
            if separate:
                _count_forwards(config)
            context = self._manager.reset_context(
                name, cache_config=config, calibrator_config=resolved.calibrator_config()
            )
            state.contexts[item.path] = [(0, context)]
        self._running = weakref.ref(generation)
        return state

    @property
    def _manager(self) -> Any:
        return vars(self.plan.module)["_context_manager"]

    def _contexts(self) -> Iterator[tuple[str, Chain]]:
        """The names of cache-dit's contexts, and the lists that they serve."""
        return zip(vars(self.plan.module)["_context_names"], chains(self.plan), strict=True)

    def _follow_refresh(self, state: NativeState) -> None:
        """cache-dit may have put a new context in the place of one."""
        for name, chain in self._contexts():
            context, known = self._manager.get_context(name), state.contexts[chain[0].path]
            if context is not known[-1][1]:
                known.append((state.step, context))

    def _check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for path, report in self._loops.items():
            for name in report.arguments:
                value = self._parameters.get(name, args, kwargs)
                if value is not None and value is not False:
                    raise CacheRuntimeError(
                        f"native execution would lose what {name!r} does in the loop over "
                        f"{self.plan.path}.{path}; use execution='loop'"
                    )

    def _count(
        self,
        state: NativeState,
        generation: Generation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Count a forward, and let the first step say how many make a step."""
        before = len(state.known.ran)
        step = state.step
        state.enter(generation.tick, self.names.current(), {})
        if state.step != step and state.step > 0 and before != state.forwards:
            raise self._uneven(step, before, state.forwards)
        if state.step == 1 and state.forwards == 1 and state.separate:
            raise CacheRuntimeError(
                f"cfg_compute_first needs two forwards a step, and {self.plan.path} ran one in "
                "step 0; leave it out, or use execution='loop'"
            )
        place = len(state.known.ran)
        shapes = _shapes(args, kwargs)
        if state.shapes.setdefault(place, shapes) != shapes:
            raise CacheRuntimeError(
                f"native execution needs the same shapes in every step, and {self.plan.path} got "
                f"others in step {state.step} (guidance that starts or stops changes the batch); "
                "use execution='loop'"
            )
        if state.step > 0:
            if place > state.forwards:
                raise self._uneven(state.step, place, state.forwards)
            return
        state.forwards = place
        if place > 2:
            raise CacheRuntimeError(
                f"native execution keeps two guidance branches, and {self.plan.path} ran {place} "
                "forwards in one step; use execution='loop'"
            )
        if place == 2:
            for contexts in state.contexts.values():
                _separate(contexts[-1][1])

    def _uneven(self, step: int, forwards: int, first: int) -> CacheRuntimeError:
        return CacheRuntimeError(
            f"native execution needs the same guidance in every step, and {self.plan.path} ran "
            f"{forwards} forwards in step {step} after {first} in step 0; use execution='loop'"
        )


def _shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The shapes of a call's tensors, also of those in lists."""
    found: list[Any] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value.shape)
        elif isinstance(value, (list, tuple)):
            found.append(tuple(getattr(item, "shape", None) for item in value))
    return tuple(found)


def _separate(context: Any) -> None:
    """Turn a context to two branches at the first step's second forward.

    By then it has seen the first branch only, which is what cache-dit expects of it.
    """
    if context.cache_config.enable_separate_cfg:
        return
    context.cache_config.enable_separate_cfg = True
    _count_forwards(context.cache_config)
    twin = type(context)(
        name=context.name,
        cache_config=context.cache_config,
        calibrator_config=context.calibrator_config,
    )
    context.cfg_calibrator = twin.cfg_calibrator
    context.cfg_encoder_calibrator = twin.cfg_encoder_calibrator


def _count_forwards(config: Any) -> None:
    """cache-dit compares the hint with forwards, of which there are now two in a step."""
    if config.force_refresh_step_hint is not None:
        config.force_refresh_step_hint *= 2
