"""``"auto"`` by other ways, and under what goes wrong: failures, threads, twice."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
)

import cachedit_yaml
from cachedit_yaml.errors import CacheRuntimeError
from tests.cli import own_model
from tests.drafting import odd

NEVER = {"residual_diff_threshold": 0}
STATIC = {"scm": {"preset": "fast", "policy": "static"}}


def test_from_pretrained(tmp_path: Path) -> None:
    own_model.make().save_pretrained(tmp_path)
    text = torch.randn(1, 3, 16)
    pipe = cachedit_yaml.from_pretrained(
        tmp_path, "auto", pipeline_class=own_model.ClipPipeline, cache_config=STATIC
    )
    with cachedit_yaml.handle_of(pipe) as handle:
        first, second = (
            pipe(text, num_inference_steps=12, generator=torch.Generator().manual_seed(0))
            for _ in range(2)
        )
        assert handle.stats().adapter == "ClipPipeline"
        assert any(row.cached_steps for row in handle.stats().branches)
    assert not torch.equal(first, second)
    again = pipe(text, num_inference_steps=12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, first)


class Denoise(ModularPipelineBlocks):  # type: ignore[misc]
    """The denoising loop of a Modular pipeline of one's own."""

    model_name = "own"

    @property
    def expected_components(self) -> list[Any]:
        return [
            ComponentSpec("transformer", own_model.ClipDenoiser),
            ComponentSpec("scheduler", FlowMatchEulerDiscreteScheduler),
        ]

    @property
    def inputs(self) -> list[Any]:
        return [InputParam("text", required=True), InputParam("steps", default=12)]

    @property
    def intermediate_outputs(self) -> list[Any]:
        return [OutputParam("latents")]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block = self.get_block_state(state)
        clip = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
        components.scheduler.set_timesteps(block.steps)
        for t in components.scheduler.timesteps:
            output = components.transformer(clip, t.expand(1), block.text)
            clip = components.scheduler.step(output, t, clip, return_dict=False)[0]
        block.latents = clip
        self.set_block_state(state, block)
        return components, state


def test_a_modular_pipeline() -> None:
    torch.manual_seed(0)
    pipe = Denoise().init_pipeline()
    pipe.update_components(
        transformer=own_model.ClipDenoiser().eval(), scheduler=FlowMatchEulerDiscreteScheduler()
    )
    text = torch.randn(1, 3, 16)
    plain = pipe(text=text, output="latents")
    with cachedit_yaml.enable(pipe, "auto", cache_config=STATIC) as handle:
        assert torch.equal(pipe(text=text, output="latents"), plain)
        assert not torch.equal(pipe(text=text, output="latents"), plain)
        assert handle.why_not is None
        assert any(row.cached_steps for row in handle.stats().branches)
    assert torch.equal(pipe(text=text, output="latents"), plain)


def test_a_second_time_it_is_known() -> None:
    pipe: Any = odd.make(odd.Plain)
    with cachedit_yaml.enable(pipe, "auto"):
        pipe()
        pipe()
    with cachedit_yaml.enable(pipe, "auto", cache_config=STATIC) as handle:
        pipe(12)  # cached at once
        assert any(row.cached_steps for row in handle.stats().branches)
    assert "forward" not in vars(pipe.transformer)


class Failing(odd.Plain):
    """Fails in a call that is told, in the middle of its blocks."""

    at = -1

    def loop(self, x: Any, text: Any) -> Any:
        for number, block in enumerate(self.blocks):
            if number == 2:
                self.at -= 1
                if self.at == 0:
                    raise ZeroDivisionError("no luck")
            x = block(x)
        return x


@pytest.mark.parametrize("at", [1, 2, 3, 7])
def test_a_first_generation_that_fails(at: int) -> None:
    """In its first, second, third and seventh step: the next one is watched."""
    pipe: Any = odd.make(Failing)
    plain = pipe(12)
    with cachedit_yaml.enable(pipe, "auto", cache_config=NEVER) as handle:
        pipe.transformer.at = at
        with pytest.raises(ZeroDivisionError):
            pipe(12)
        assert torch.equal(pipe(12), plain)
        with pytest.raises(CacheRuntimeError, match="still watched"):
            handle.stats()
        assert torch.equal(pipe(12), plain)
        assert handle.stats().num_steps == 12
    assert torch.equal(pipe(12), plain)
    assert not {"forward", "_forward_pre_hooks_with_kwargs"} & {
        name for name, held in vars(pipe.transformer).items() if held
    }


def test_generations_of_one_step_are_not_watched_for_ever() -> None:
    pipe: Any = odd.make(odd.Plain)
    plain = pipe(1)
    with cachedit_yaml.enable(pipe, "auto", cache_config=NEVER) as handle:
        for watched in (True, True, True, False):
            assert torch.equal(pipe(1), plain)
            assert ("still watched" in repr(handle)) == watched


def test_each_generation_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    # Whoever looks at all objects breaks the tuples that other threads are building.
    monkeypatch.setattr(gc, "get_objects", lambda: looked.append(1) or [])
    pipes: list[Any] = [odd.make(odd.Plain), odd.make(odd.Streams, odd.Pair)]
    plains = [pipe(12) for pipe in pipes]
    handles: list[Any] = [cachedit_yaml.enable(x, "auto", cache_config=NEVER) for x in pipes]
    for _ in range(3):
        with ThreadPoolExecutor(len(pipes)) as pool:
            for plain, made in zip(plains, pool.map(lambda x: x(12), pipes), strict=True):
                assert torch.equal(made, plain)
    for handle in handles:
        assert handle.why_not is None
        assert handle.stats().num_steps == 12
        handle.disable()
    assert not looked


class Meeting(odd.Plain):
    """Lets another thread begin while it runs in one that is told."""

    told: threading.Thread | None = None
    begun: Any = None

    def loop(self, x: Any, text: Any) -> Any:
        if self.told is threading.current_thread() and self.begun is not None:
            self.begun()
        return super().loop(x, text)


def test_what_is_tried_is_nobody_elses_generation() -> None:
    """Hits that are made to happen, to see that they are right, change no other's output."""
    first: Any = odd.make(Meeting)
    other = odd.Pipeline(first.transformer)  # the same model
    plain = first(12)
    made: list[torch.Tensor] = []
    beside = threading.Thread(target=lambda: made.append(other(12)))

    def begin() -> None:
        first.transformer.begun = None
        beside.start()

    with cachedit_yaml.enable(first, "auto", cache_config=NEVER) as handle:
        assert torch.equal(first(12), plain)
        first.transformer.told, first.transformer.begun = threading.current_thread(), begin
        assert torch.equal(first(12), plain)
        beside.join()
        assert handle.why_not is None
    assert torch.equal(made[0], plain)
