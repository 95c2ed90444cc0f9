"""What the probe counts is what the statistics count."""

from __future__ import annotations

import weakref
from typing import Any

import torch

import cachedit_yaml
from cachedit_yaml.probe.attributes import attributes
from cachedit_yaml.probe.watch import Watch
from tests import tiny
from tests.runtime.models import SmallPipeline, noise, small

SPEC = cachedit_yaml.load_adapter(
    {
        "schema": 1,
        "name": "small",
        "cache": {"Fn_compute_blocks": 1},
        "transformers": {"transformer": {"blocks": {"blocks": "Pattern_3"}}},
    }
)


def test_calls_that_are_no_denoising_do_not_count() -> None:
    class Capturing(type(small())):  # type: ignore[misc]
        def forward(self, hidden_states: Any, timestep: Any = None, mode: str = "denoise") -> Any:
            return super().forward(hidden_states, timestep)

    pipe = SmallPipeline(Capturing())
    spec = cachedit_yaml.load_adapter(
        {
            "schema": 1,
            "name": "capturing",
            "cache": {"Fn_compute_blocks": 1},
            "transformers": {
                "transformer": {
                    "blocks": {"blocks": "Pattern_3"},
                    "denoising": {"when": {"mode": "denoise"}},
                }
            },
        }
    )
    with Watch(cachedit_yaml.compile_adapter(spec, pipe)) as watch:
        pipe(3)
        pipe.transformer(noise(), 0, mode="capture")
    assert watch.forwards == {"transformer": 3}
    assert watch.calls["transformer", "blocks", 0] == 3


def test_forwards_that_are_called_by_name() -> None:
    """No hook of the module runs then, and what runs blocks outside of them does not count."""

    class ByName(SmallPipeline):
        def __call__(self, steps: int) -> Any:
            for block in self.transformer.blocks:  # as for a prompt that is read first
                block(noise())
            for step in range(steps):
                output = self.transformer.forward(noise(), step)
            return output

    pipe = ByName(small())
    with Watch(cachedit_yaml.compile_adapter(SPEC, pipe)) as watch:
        pipe(3)
        assert not watch.forwards
        watch.clear()
        watch.by_name()
        pipe(3)
        pipe.transformer(noise(), 0)  # counts once, not twice
    assert watch.forwards == {"transformer": 4}
    assert watch.calls["transformer", "blocks", 0] == 4
    assert len(watch.outputs["transformer"]) == 4
    assert "forward" not in vars(pipe.transformer)


def test_what_a_call_computes_anew_is_no_trace() -> None:
    """Positions that a forward stores again and again; what somebody left behind is one."""
    pipe = SmallPipeline(small())
    plan = cachedit_yaml.compile_adapter(SPEC, pipe)

    def store(shift: float = 0.0) -> None:
        pipe.transformer.positions = (
            torch.arange(600) + shift,
            torch.ones(3, dtype=torch.bfloat16),
        )
        pipe.transformer.key = (1, 600 * 1000, torch.device("cpu"), "a")

    store()
    before = attributes(pipe, plan)
    store()
    assert attributes(pipe, plan) == before
    store(1.0)
    assert attributes(pipe, plan) != before
    store()
    pipe.transformer.blocks[0].forward = pipe.transformer.blocks[0].forward
    assert attributes(pipe, plan) != before


def test_what_was_there_is_held_while_it_is_compared() -> None:
    """Else the next object may lie at the same address, and be taken for it."""

    class Thing:
        """Something that a call puts on a model."""

    pipe = tiny.build("PixArtAlphaPipeline")
    plan = cachedit_yaml.compile_adapter("pixart", pipe)
    pipe.transformer.thing = Thing()
    held = weakref.ref(pipe.transformer.thing)
    before = attributes(pipe, plan)
    assert attributes(pipe, plan) == before
    del pipe.transformer.thing
    assert held() is not None
    pipe.transformer.thing = Thing()
    assert attributes(pipe, plan) != before


def test_one_that_ends_while_another_thread_is_on_its_way() -> None:
    """torch still calls the hooks that it found when the forward began, removed or not."""
    pipe = SmallPipeline(small())
    plain = pipe.transformer(noise(), 0)
    watch = Watch(cachedit_yaml.compile_adapter(SPEC, pipe))
    with pipe.transformer.register_forward_pre_hook(lambda *_: watch.__exit__()):
        watch.__enter__()
        assert torch.equal(pipe.transformer(noise(), 0), plain)
    assert not watch.forwards
