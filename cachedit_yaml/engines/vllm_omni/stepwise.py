"""A cache under the engine's step execution, where requests of different steps share a batch.

The engine refuses every cache there, because one cache would serve all of them. Here each request
has a generation of its own, which stands in its state and goes with it. Forwards outside of
``denoise_step`` belong to none of them.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from cachedit_yaml.engines.vllm_omni.wishes import Wishes
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.steps import Stepwise

logger = logging.getLogger("vllm_omni.cachedit_yaml")

#: Where a request's state holds its generation.
KEY: Final = "cachedit_yaml"


class _Current:
    """What a request's state holds.

    Attributes:
        handle: whose generation it is.
        stepwise: the generation.
        chunk: the chunk of the video that it makes.
        timesteps: its schedule; each chunk, and each resolution of a pyramid, has its own.
    """

    def __init__(self, handle: Handle, stepwise: Stepwise, state: Any) -> None:
        self.handle = handle
        self.stepwise = stepwise
        self.chunk = state.chunk_index
        self.timesteps = state.timesteps

    def goes_on(self, handle: Handle, state: Any) -> bool:
        """Whether a state is still in this generation."""
        return (
            self.handle is handle
            and self.chunk == state.chunk_index
            and self.timesteps is state.timesteps
        )


class Denoise(Patch):
    """Stands in for ``pipeline.denoise_step``: one forward a request, in its own generation."""

    handle: Handle
    wishes: Wishes

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner, name)
        self._going: dict[str, weakref.ref[Stepwise]] = {}

    def sweep(self, states: Collection[str]) -> None:
        """End what belongs to requests that the runner has forgotten: its last batch holds them.

        Args:
            states: the requests that the runner knows.
        """
        for name in [name for name in self._going if name not in states]:
            stepwise = self._going.pop(name)()
            if stepwise is not None:
                stepwise.end("its request is gone")

    def __call__(self, input_batch: Any, states: Sequence[Any] | None = None, **kwargs: Any) -> Any:
        batch = list(input_batch.states if states is None else states)
        if not (self.active and self.handle.enabled and batch):
            return self.inner(input_batch, states=states, **kwargs)
        if len(batch) == 1:
            return self._one(input_batch, batch[0], kwargs)
        return self._each(type(input_batch), batch, kwargs)

    def _each(self, kind: Any, batch: list[Any], kwargs: dict[str, Any]) -> Any:
        """One forward for each request, with what it would have alone."""
        import torch

        parts = []
        for state in batch:
            part = self._one(kind.make_batch([state]), state, kwargs)
            if part is None:  # the pipeline was interrupted
                return None
            parts.append(part)
        return torch.cat(parts)

    def _one(self, input_batch: Any, state: Any, kwargs: dict[str, Any]) -> Any:
        current = self._current(state)
        with current.stepwise.step():
            output = self.inner(input_batch, states=[state], **kwargs)
        generation = current.stepwise.generation
        if generation.ended == "finished":
            logger.info(
                "cache of request %s: %s", state.request_id, self.handle.stats_of(generation)
            )
        return output

    def _current(self, state: Any) -> _Current:
        found: _Current | None = state.extra.get(KEY)
        if found is not None and found.goes_on(self.handle, state):
            return found
        self.handle.choice = self.wishes.choice(state.sampling)
        left = max(1, state.total_steps - state.step_index)
        stepwise = self.handle.stepwise(left, name=state.request_id)
        found = state.extra[KEY] = _Current(self.handle, stepwise, state)
        self._going[state.request_id] = weakref.ref(stepwise)
        return found


class Prepare(Patch):
    """Stands in for ``pipeline.prepare_encode``, which may refuse a request alone."""

    wishes: Wishes

    def __call__(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        if self.active:
            self.wishes.choice(state.sampling)
        return self.inner(state, *args, **kwargs)


def patches_for(pipeline: Any, handle: Handle, wishes: Wishes) -> list[Patch]:
    """What a pipeline needs that the engine may run step by step; none for any other."""
    from vllm_omni.diffusion.models.interface import supports_step_execution

    if not supports_step_execution(pipeline):
        return []
    denoise, prepare = Denoise(pipeline, "denoise_step"), Prepare(pipeline, "prepare_encode")
    denoise.handle = handle
    denoise.wishes = prepare.wishes = wishes
    return [denoise, prepare]


def run_step(inner: Callable[..., Any], runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Around ``DiffusionModelRunner._execute_stepwise``.

    The runner refuses a backend by its name, and so do pipelines, which hold the same config. Ours
    serves step execution; any other backend, and what the engine's own code caches, meets the
    refusal as before.
    """
    config = runner.od_config
    denoise = vars(runner.pipeline).get("denoise_step")
    if config.cache_backend != "cache_dit" or not isinstance(denoise, Denoise):
        return inner(runner, *args, **kwargs)
    config.cache_backend = None
    try:
        return inner(runner, *args, **kwargs)
    finally:
        config.cache_backend = "cache_dit"
        denoise.sweep(runner.state_cache)
