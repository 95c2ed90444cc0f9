"""A cache under the engine's step execution, where requests of different steps share a batch.

The engine refuses every cache there, because one cache would serve all of them. Here each request
has a generation of its own, which stands in its state and goes with it. Requests share a forward
where the engine batches their rows, and each decides for its own. Forwards outside of
``denoise_step`` belong to none of them.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Final

from cachedit_yaml.engines.vllm_omni.wishes import Wishes
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.steps import Padded, Stepwise, together

logger = logging.getLogger("vllm_omni.cachedit_yaml")

#: Where a request's state holds its generation.
KEY: Final = "cachedit_yaml"
#: The fields of the engine's batch whose sequences it pads to the longest, under their masks.
_PADDED: Final = ("prompt_embeds", "negative_prompt_embeds")


class _Current:
    """What a request's state holds.

    Attributes:
        handle: whose generation it is.
        stepwise: the generation.
        chunk: the chunk of the video that it makes.
        timesteps: its schedule; each chunk, and each resolution of a pyramid, has its own.
        lengths: of its prompts, by the field that holds them.
        blocks: what has to be alike for requests to share a forward.
    """

    def __init__(self, handle: Handle, stepwise: Stepwise, state: Any) -> None:
        self.handle = handle
        self.stepwise = stepwise
        self.chunk = state.chunk_index
        self.timesteps = state.timesteps
        self.lengths = {name: _length(state, name) for name in _PADDED}
        self.blocks = stepwise.blocks

    def goes_on(self, handle: Handle, state: Any) -> bool:
        """Whether a state is still in this generation."""
        return (
            self.handle is handle
            and self.chunk == state.chunk_index
            and self.timesteps is state.timesteps
        )


def _length(state: Any, name: str) -> int:
    """How much of a request's prompt is its own, as the engine counts it."""
    prompt, mask = getattr(state, name), getattr(state, f"{name}_mask")
    if mask is not None:
        return int(mask.reshape(-1, mask.shape[-1]).sum(1).max())
    return 0 if prompt is None else int(prompt.shape[-2])


def takes_rows(denoise_step: Callable[..., Any]) -> bool:
    """Whether a pipeline's step takes its requests as rows of the engine's batch.

    The batch also holds their states, for pipelines that need more of each request than rows: a
    packed sequence, keys and values of its own. A step that names the states is of that kind.
    """
    code = getattr(inspect.unwrap(denoise_step), "__code__", None)
    return code is not None and "states" not in {*code.co_names, *code.co_varnames}


class Denoise(Patch):
    """Stands in for ``pipeline.denoise_step``: every request is in a generation of its own."""

    handle: Handle
    wishes: Wishes

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner, name)
        self._going: dict[str, weakref.ref[Stepwise]] = {}
        self._batches = takes_rows(getattr(owner, name))
        # Kinds of batches whose rows have turned out to be no request's own.
        self._refused: set[Hashable] = set()

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
        groups = self._groups(batch)
        if len(groups) == 1:
            return self._step(input_batch, batch, kwargs)
        import torch

        parts: dict[str, torch.Tensor] = {}
        for group in groups:
            output = self._step(type(input_batch).make_batch(group), group, kwargs)
            if output is None:  # the pipeline was interrupted
                return None
            rows = output.split([len(state.latents) for state in group])
            parts |= zip((state.request_id for state in group), rows, strict=True)
        return torch.cat([parts[state.request_id] for state in batch])

    def _groups(self, batch: Sequence[Any]) -> list[list[Any]]:
        """The requests, those together that share a forward."""
        groups: dict[Hashable, list[Any]] = {}
        for state in batch:
            shares = self._batches and state.latents is not None and state.latents.ndim > 2
            kind = (state.latents.shape[1:], self._current(state).blocks) if shares else None
            groups.setdefault(kind or state.request_id, []).append(state)
        found: list[list[Any]] = []
        for group in groups.values():
            apart = len(group) > 1 and self._kind(group) in self._refused
            found += [[state] for state in group] if apart else [group]
        return found

    def _kind(self, group: Sequence[Any]) -> Hashable:
        """What batches have alike of which one was refused."""
        currents = [self._current(state) for state in group]
        rows = sum(len(state.latents) for state in group)
        widths = tuple(max(item.lengths[name] for item in currents) for name in _PADDED)
        return group[0].latents.shape[1:], currents[0].blocks, rows, widths

    def _step(self, input_batch: Any, group: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One forward for some requests, each of which gets what it would alone."""
        currents = [self._current(state) for state in group]
        padded = []
        for name in _PADDED:
            prompts = getattr(input_batch, name), getattr(input_batch, f"{name}_mask")
            if prompts[0] is not None:
                tensors = [item for item in prompts if item is not None]
                padded.append(Padded(tensors, [item.lengths[name] for item in currents]))
        rows = [len(state.latents) for state in group]
        parts = [(item.stepwise, count) for item, count in zip(currents, rows, strict=True)]
        with together(parts, padded) as shared:
            output = self.inner(input_batch, states=group, **kwargs)
        if shared.refused is not None and len(group) > 1:
            self._refused.add(self._kind(group))
            logger.warning("each request gets a forward of its own: %s", shared.refused)
        for state, current in zip(group, currents, strict=True):
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
