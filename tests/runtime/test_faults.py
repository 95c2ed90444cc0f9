"""Errors, odd requests and several of everything: nothing leaks from one run into another."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cache_dit
import pytest
import torch
from diffusers import FirstBlockCacheConfig

from cachedit_yaml import CacheditYamlError, CacheRuntimeError, CompileError, enable
from tests import tiny
from tests.runtime import models, random_faults, requests_at_once
from tests.runtime.models import (
    ALWAYS,
    NEVER,
    SmallPipeline,
    adapter,
    noise,
    row,
    small,
    start,
)
from tests.runtime.odd_models import Double


class Armed:
    """Raises from within a block, when told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.target: torch.nn.Module | None = None
        self.countdown = 0

    @contextmanager
    def on(self, *blocks: torch.nn.Module) -> Iterator[Armed]:
        """Stand in for the forward of some blocks; to be entered before caching is enabled."""
        for block in blocks:
            plain = block.forward

            def forward(hidden_states: Any, *args: Any, plain: Any = plain,
                        block: torch.nn.Module = block, **kwargs: Any) -> Any:  # fmt: skip
                if block is self.target:
                    self.countdown -= 1
                    if self.countdown < 0:
                        self.target = None
                        raise self.error
                return plain(hidden_states, *args, **kwargs)

            forward.__wrapped__ = plain  # type: ignore[attr-defined]
            block.forward = forward
        yield self
        for block in blocks:
            del block.forward


def double(*, together: bool = False) -> Any:
    """An adapter for a transformer with two lists, which may take one decision."""
    if together:
        return adapter(
            {**Double.SPEC, "single_blocks": {"pattern": "Pattern_3", "follows": "blocks"}}
        )
    return adapter(Double.SPEC)


# Exceptions


@pytest.mark.parametrize("error", [RuntimeError("broken block"), KeyboardInterrupt()])
@pytest.mark.parametrize("settings", [ALWAYS, {**ALWAYS, "Bn_compute_blocks": 1,
                                                "calibrator": "taylorseer"}])  # fmt: skip
@pytest.mark.parametrize("together", [False, True])
def test_exception_in_any_block(
    error: BaseException, settings: dict[str, Any], together: bool
) -> None:
    """On a miss or a hit, in any block of either list: the next generation knows nothing of it."""
    pipe, spec = SmallPipeline(Double()), double(together=together)
    plain = pipe(6)
    blocks = [*pipe.transformer.blocks, *pipe.transformer.single_blocks]
    with start(pipe, spec, **settings) as handle:
        wanted = pipe(6)
        stats = handle.stats().branches
    raised = 0
    with Armed(error).on(*blocks) as armed, start(pipe, spec, **settings) as handle:
        for block, countdown in itertools.product(blocks, (0, 1, 3)):
            armed.target, armed.countdown = block, countdown
            with contextlib.suppress(type(error)):
                pipe(6)
                raised -= 1
            raised += 1
            armed.target = None
            assert torch.equal(pipe(6), wanted)
            assert handle.stats().branches == stats
        # Blocks in the middle run on the first step only, the others on every step.
        always = (1 if together else 2) * (1 + settings.get("Bn_compute_blocks", 0))
        assert raised == 3 * always + (8 - always)
    assert torch.equal(pipe(6), plain)


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize("blocks", ["transformer_blocks", "single_transformer_blocks"])
def test_exception_in_flux(blocks: str, place: int) -> None:
    pipe = tiny.build("FluxPipeline")
    block = getattr(pipe.transformer, blocks)[place]
    with Armed(RuntimeError("broken")).on(block) as armed, start(pipe, None, **ALWAYS):
        wanted = tiny.run(pipe, "guided", steps=5)
        armed.target = block
        with pytest.raises(RuntimeError, match="broken"):
            tiny.run(pipe, "guided", steps=5)
        assert torch.equal(tiny.run(pipe, "guided", steps=5), wanted)


@pytest.mark.parametrize("seed", range(len(requests_at_once.SETTINGS)))
def test_exceptions_from_any_function(seed: int) -> None:
    pipe = SmallPipeline(small())
    pipe(6)
    before = [dict(vars(item)) for item in (pipe.transformer, pipe.scheduler)]
    settings = {"Fn_compute_blocks": 1, **requests_at_once.SETTINGS[seed]}
    with start(pipe, **settings) as handle:
        places = random_faults.stress(handle, lambda: pipe(6), 40, seed)
    assert len(set(places)) > 20
    for item, attributes in zip((pipe.transformer, pipe.scheduler), before, strict=True):
        assert vars(item).keys() == attributes.keys()


def test_exception_between_forwards() -> None:
    pipe = SmallPipeline(small())

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with start(pipe, **ALWAYS) as handle:
        wanted = pipe(8, seed=1)
        with pytest.raises(KeyboardInterrupt):
            pipe(8, seed=2, after_step=stop)
        # Nobody knows that it does not go on.
        assert handle.history[-1].branches[0].executed_steps == (0, 1, 2, 3)
        assert row(handle).executed_steps == tuple(range(8))
        assert torch.equal(pipe(8, seed=1), wanted)
        assert row(handle).cached_steps == tuple(range(1, 8))


def test_retry_within_a_generation() -> None:
    """What is left of a generation that raised runs uncached: its buffers are of two steps."""
    pipe = SmallPipeline(small())
    plain = pipe(6)
    blocks = list(pipe.transformer.blocks)
    armed = Armed(RuntimeError("broken"))

    class Stubborn(SmallPipeline):
        def forward_at(self, step: int, turn: int) -> Any:
            def forward(*args: Any) -> Any:
                try:
                    return self.transformer(*args)
                except RuntimeError:
                    return self.transformer(*args)

            return forward

    stubborn = Stubborn(pipe.transformer, pipe.scheduler)
    with armed.on(*blocks), start(stubborn, adapter(), **NEVER) as handle:
        armed.target, armed.countdown = blocks[4], 2
        assert torch.equal(stubborn(6), plain)
    with armed.on(*blocks), start(stubborn, adapter(), **ALWAYS) as handle:
        wanted = stubborn(6)
        armed.target, armed.countdown = blocks[0], 2
        stubborn(6)
        assert row(handle).executed_steps == (0, 1, 2)
        (warning,) = handle.stats().warnings
        assert (
            warning == "transformer: 4 forwards ran uncached: a forward of this generation raised"
        )
        assert torch.equal(stubborn(6), wanted)


def test_retry_of_a_transformer_alone() -> None:
    model = small()
    latents, other = noise(), noise(7)
    with torch.no_grad():
        plain = model(other, 700)
    blocks = list(model.blocks)
    with Armed(RuntimeError("broken")).on(*blocks) as armed, start(model, **ALWAYS) as handle:
        for timestep in (900, 800):
            model(latents, timestep)
        armed.target = blocks[0]
        with pytest.raises(RuntimeError, match="broken"):
            model(latents, 700)
        assert torch.equal(model(other, 700), plain)
        model(other, 600)
        assert row(handle).cached_steps == (1,)


# Requests


def test_batch_size_and_dtype_from_one_generation_to_the_next() -> None:
    requests: list[dict[str, Any]] = [
        {},
        {"batch": 2},
        {"tokens": 7},
        {"batch": 3, "tokens": 2},
        {"seed": 4},
        {},
    ]
    pipe = SmallPipeline(small())
    wanted = []
    for request in requests:
        with start(pipe, **ALWAYS, calibrator="taylorseer"):
            wanted.append(pipe(6, **request))
    with start(pipe, **ALWAYS, calibrator="taylorseer") as handle:
        for request, result in zip(requests, wanted, strict=True):
            assert torch.equal(pipe(6, **request), result)
            assert row(handle).cached_steps == (1, 2, 3, 4, 5)


def test_dtype_from_one_generation_to_the_next() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS):
        wanted = pipe(6)
        pipe.transformer.double()
        assert pipe(6, dtype=torch.float64).dtype == torch.float64
        pipe.transformer.float()
        assert torch.equal(pipe(6), wanted)


def test_batch_that_changes_in_the_middle() -> None:
    """Of a transformer alone, without refresh: nothing is broadcast over another batch."""
    model = small()
    with torch.no_grad():
        plain = model(noise(1, batch=2), 700)
    with start(model, **ALWAYS) as handle, torch.no_grad():
        for timestep in (900, 800):
            model(noise(), timestep)
        assert torch.equal(model(noise(1, batch=2), 700), plain)
        assert row(handle).cached_steps == (1,)
        # From here on it is this shape that is stored.
        model(noise(1, batch=2), 600)
        assert row(handle).cached_steps == (1, 3)


def test_dtype_that_changes_in_the_middle() -> None:
    class Mixing(models.Small):
        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            return super().forward(hidden_states, timestep)

    model = Mixing()
    settings = {**ALWAYS, "scm": {"mask": [1, 0, 0], "policy": "static"}}
    with start(model, adapter(), **settings) as handle, torch.no_grad():
        handle.refresh(3)
        model(noise(), 900)
        model.double()
        wanted = Mixing().double()(noise().double(), 800)
        assert torch.equal(model(noise().double(), 800), wanted)
        assert row(handle).cached_steps == ()


def test_a_pipeline_in_half_precision() -> None:
    pipe = tiny.build("FluxPipeline").to(torch.bfloat16)
    inputs = tiny.cases("FluxPipeline")["plain"](pipe)
    half = {name: value.to(torch.bfloat16) for name, value in inputs.items()
            if isinstance(value, torch.Tensor)}  # fmt: skip
    plain = tiny.run(pipe, steps=5, **half)
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe, steps=5, **half), plain)
    with start(pipe, None, **ALWAYS) as handle:
        assert tiny.run(pipe, steps=5, **half).dtype == torch.bfloat16
        assert all(item.cached_steps for item in handle.stats().branches)


def test_gradients() -> None:
    """Where autograd records, nothing is stored or served, and the gradients are right."""
    model = small()
    model.requires_grad_(True)

    def backward() -> list[torch.Tensor]:
        model.zero_grad()
        for timestep in (900, 600, 300):
            model(noise(), timestep).square().mean().backward()
        return [item.grad.clone() for item in model.parameters() if item.grad is not None]

    plain = backward()
    with start(model, **ALWAYS) as handle:
        assert all(torch.equal(*pair) for pair in zip(backward(), plain, strict=True))
        assert "3 forwards ran uncached: gradients are on" in handle.stats().warnings[0]


def test_gradients_of_the_input_alone() -> None:
    model = small()

    def gradient() -> torch.Tensor:
        total = torch.zeros(())
        latents = noise().requires_grad_()
        for timestep in (900, 600, 300):
            total = total + model(latents, timestep).square().mean()
        return torch.autograd.grad(total, latents)[0]

    plain = gradient()
    with start(model, **ALWAYS):
        assert torch.equal(gradient(), plain)
        # Without anything to record, gradients being on in general is no hindrance.
        model(noise(), 900)


def test_frozen_parameters_need_no_no_grad() -> None:
    model = small()
    with start(model, **ALWAYS) as handle:
        for timestep in (900, 600, 300):
            assert not model(noise(), timestep).requires_grad
        assert row(handle).cached_steps == (1, 2)


def test_inference_mode() -> None:
    pipe = tiny.build("FluxControlNetPipeline")
    plain = tiny.run(pipe, steps=5)
    with start(pipe, None, **ALWAYS):
        cached = tiny.run(pipe, steps=5)
        with torch.inference_mode():
            inside = tiny.run(pipe, steps=5)
        assert torch.equal(inside, cached)
        # Back and forth: no inference tensor is left behind.
        assert torch.equal(tiny.run(pipe, steps=5), cached)
    with start(pipe, None, **NEVER), torch.inference_mode():
        assert torch.equal(tiny.run(pipe, steps=5), plain)


# Several pipelines, transformers and threads


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_two_pipelines_enabled_and_disabled_in_any_order(order: tuple[int, ...]) -> None:
    one, other = SmallPipeline(small()), SmallPipeline(small(seed=1))
    pipes = (one, other)
    plain = [pipe(5) for pipe in pipes]
    cached = []
    for pipe in pipes:
        with start(pipe, **ALWAYS):
            cached.append(pipe(5))
    handles: list[Any] = [None, None]
    # Two changes of state for each: on and off, in the order given.
    for index in (item % 2 for item in order):
        if handles[index] is None:
            handles[index] = start(pipes[index], **ALWAYS)
        else:
            handles[index].disable()
        for pipe, handle, without, with_cache in zip(pipes, handles, plain, cached, strict=True):
            on = handle is not None and handle.enabled
            assert torch.equal(pipe(5), with_cache if on else without)
    for pipe in pipes:
        assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()
        assert "forward" not in vars(pipe.transformer)


@pytest.mark.parametrize("first", [0, 1])
def test_two_pipelines_with_one_scheduler_leave_no_trace(first: int) -> None:
    scheduler = SmallPipeline(small()).scheduler
    pipes = [SmallPipeline(small(seed=seed), scheduler) for seed in (0, 1)]
    pipes[0](4)
    before = set(vars(scheduler))
    for _ in range(3):
        handles = [start(pipe, **ALWAYS) for pipe in pipes]
        handles[first].disable()
        pipes[1 - first](4)
        assert row(handles[1 - first]).executed_steps == (0, 1, 2, 3)
        handles[1 - first].disable()
        assert vars(scheduler).keys() == before


def generate(model: torch.nn.Module, seed: int, steps: int = 12) -> torch.Tensor:
    """A loop without scheduler: threads do not share one."""
    latents = noise(seed)
    with torch.no_grad():
        for step in range(steps):
            latents = latents - 0.1 * model(latents, 1000.0 - 50 * step)
    return latents


def together(*tasks: Callable[[], Any]) -> list[Any]:
    """Run tasks at the same time, each in a thread of its own."""
    results: list[Any] = [None] * len(tasks)
    barrier = threading.Barrier(len(tasks))

    def work(index: int) -> None:
        barrier.wait()
        try:
            results[index] = tasks[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_transformers_in_two_threads() -> None:
    settings = {**ALWAYS, "calibrator": "taylorseer", "max_continuous_cached_steps": 2}
    pipes = [SmallPipeline(small(seed=seed)) for seed in (0, 1)]
    wanted = []
    for pipe in pipes:
        with start(pipe, **settings):
            wanted.append(pipe(12))
    handles = [start(pipe, **settings) for pipe in pipes]

    def repeat(pipe: SmallPipeline) -> list[torch.Tensor]:
        return [pipe(12) for _ in range(8)]

    for results, result, handle in zip(
        together(*(lambda pipe=pipe: repeat(pipe) for pipe in pipes)), wanted, handles, strict=True
    ):
        assert all(torch.equal(item, result) for item in results)
        assert row(handle).executed_steps == tuple(range(12))
        handle.disable()


@pytest.mark.parametrize("refresh", [False, True])
def test_two_threads_on_one_transformer(refresh: bool) -> None:
    """Served one after the other, forward by forward; each has its own caches."""
    model = small()
    wanted = []
    for seed in (0, 1):
        with start(model, **ALWAYS, max_continuous_cached_steps=2):
            wanted.append(generate(model, seed))
    with start(model, **ALWAYS, max_continuous_cached_steps=2) as handle:

        def repeat(seed: int) -> list[torch.Tensor]:
            results = []
            for _ in range(8):
                if refresh:
                    handle.refresh(12)
                results.append(generate(model, seed))
            return results

        for results, result in zip(
            together(lambda: repeat(0), lambda: repeat(1)), wanted, strict=True
        ):
            assert all(torch.equal(item, result) for item in results)


def test_an_exception_in_another_thread() -> None:
    model = small()
    with start(model, **ALWAYS):
        wanted = generate(model, 0)
    blocks = list(model.blocks)
    with Armed(RuntimeError("broken")).on(*blocks) as armed, start(model, **ALWAYS):
        latents = noise()
        with torch.no_grad():
            for step in range(12):
                if step == 5:
                    armed.target = blocks[0]
                    (error,) = together(lambda: generate(model, 1))
                    assert str(error) == "broken"
                latents = latents - 0.1 * model(latents, 1000.0 - 50 * step)
        assert torch.equal(latents, wanted)


def test_a_thread_that_ends_leaves_nothing() -> None:
    """A later thread may get the identifier of an earlier one: it starts anew all the same."""
    model = small()
    with torch.no_grad():
        plain = model(noise(9), 500.0)
    with start(model, **ALWAYS):
        for _ in range(5):
            together(lambda: generate(model, 0))

            def one_forward() -> torch.Tensor:
                with torch.no_grad():
                    return model(noise(9), 500.0)

            # In the earlier thread this would be one more step of its generation.
            (result,) = together(one_forward)
            assert torch.equal(result, plain)


# Refusals


def test_more_blocks_than_there_are() -> None:
    pipe = SmallPipeline(small(count=6))
    for fn, bn in ((4, 3), (7, 0), (1, 6)):
        with pytest.raises(CompileError) as caught:
            start(pipe, Fn_compute_blocks=fn, Bn_compute_blocks=bn)
        message = str(caught.value)
        assert "pipeline.transformer.blocks has 6 blocks" in message
        assert f"Fn_compute_blocks {fn} (cache_config)" in message
        assert "write at most 6 together" in message
    assert "forward" not in vars(pipe.transformer)


def test_more_blocks_than_there_are_for_few_steps() -> None:
    """`steps` applies to some runs only, and is checked all the same."""
    spec = adapter(cache={"Fn_compute_blocks": 1},
                   steps=[{"max_steps": 8, "Bn_compute_blocks": 6}])  # fmt: skip
    with pytest.raises(CompileError, match=r"Bn_compute_blocks 6 .*steps up to 8"):
        start(SmallPipeline(small(count=6)), spec)


def test_the_default_of_cache_dit_on_a_short_list() -> None:
    """Fn_compute_blocks is 8 unless the adapter says so, more than this transformer has."""
    with pytest.raises(CompileError, match=r"Fn_compute_blocks 8 \(cache-dit"):
        start(SmallPipeline(small(count=6)))


def test_enabling_twice() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS):
        wanted = pipe(5)
        for execution in ("loop", "native"):
            with pytest.raises(CompileError, match="cached already; call disable"):
                start(pipe, execution=execution, **ALWAYS)
        with pytest.raises(CompileError, match="cached already"):
            start(pipe.transformer, adapter(), **ALWAYS)
        with pytest.raises(CompileError, match="cached already"):
            start(SmallPipeline(pipe.transformer), **ALWAYS)
        assert torch.equal(pipe(5), wanted)
    with start(pipe, **ALWAYS):
        assert torch.equal(pipe(5), wanted)


def test_enabling_twice_under_another_hook() -> None:
    """Offloading wraps the forward; that a cache is below it is still known."""
    from accelerate import hooks as accelerate

    pipe = SmallPipeline(small())
    plain = pipe(5)
    handle = start(pipe, **ALWAYS)
    wanted = pipe(5)
    accelerate.add_hook_to_module(pipe.transformer, accelerate.ModelHook())
    with pytest.raises(CompileError, match="cached already"):
        start(pipe, **ALWAYS)
    assert torch.equal(pipe(5), wanted)
    handle.disable()
    assert torch.equal(pipe(5), plain)
    with start(pipe, **ALWAYS):
        assert torch.equal(pipe(5), wanted)
    accelerate.remove_hook_from_module(pipe.transformer)
    assert torch.equal(pipe(5), plain)


def test_over_the_cache_of_cache_dit() -> None:
    pipe = tiny.build("FluxPipeline")
    plain = tiny.run(pipe)
    cache_dit.enable_cache(pipe, cache_config=cache_dit.DBCacheConfig(Fn_compute_blocks=1))
    try:
        with pytest.raises(CompileError, match=r"cached by cache-dit; call cache_dit\.disable"):
            enable(pipe, cache_config=ALWAYS)
    finally:
        cache_dit.disable_cache(pipe)
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe), plain)


def test_over_the_cache_of_diffusers() -> None:
    pipe = tiny.build("FluxPipeline")
    plain = tiny.run(pipe)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(CompileError, match="cached by diffusers; call its disable_cache"):
        enable(pipe, cache_config=ALWAYS)
    pipe.transformer.disable_cache()
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe), plain)


class Stiff:
    """Refuses a new attribute, once armed: what is below it has been changed by then."""

    armed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self.armed and name == type(self).refuses:
            raise RuntimeError(f"no {name} here")
        super().__setattr__(name, value)


class StiffBlock(Stiff, models.Block):
    refuses = "forward"


class StiffScheduler(Stiff, SmallPipeline(small()).scheduler.__class__):  # type: ignore[misc]
    refuses = "step"


class StiffPipeline(Stiff, SmallPipeline):
    refuses = "_cache_dit_second"


def everything(pipe: SmallPipeline) -> dict[str, Any]:
    """Every attribute of everything that enabling may touch."""
    state: dict[str, Any] = {"pipe": dict(vars(pipe)), "scheduler": dict(vars(pipe.scheduler))}
    for name, module in pipe.transformer.named_modules():
        state[name] = {key: id(value) for key, value in vars(module).items()}
        state[f"{name} class"] = {key: id(value) for key, value in vars(type(module)).items()}
    return state


@pytest.mark.parametrize(
    ("execution", "broken"),
    [
        ("loop", "block 0"),
        ("loop", "block 4"),
        ("loop", "scheduler"),
        ("loop", "pipeline"),
        ("native", "scheduler"),
        ("native", "pipeline"),
    ],
)
def test_an_enable_that_fails_leaves_no_trace(execution: str, broken: str) -> None:
    pipe = StiffPipeline(small(), StiffScheduler())
    index = int(broken[-1]) if broken.startswith("block") else 0
    pipe.transformer.blocks[index] = StiffBlock().requires_grad_(False)
    plain = pipe(5)
    spec = adapter(set={"_cache_dit_first": True, "_cache_dit_second": True})
    before = everything(pipe)
    target: Any = {"scheduler": pipe.scheduler, "pipeline": pipe}.get(
        broken, pipe.transformer.blocks[index]
    )
    object.__setattr__(target, "armed", True)
    with pytest.raises((RuntimeError, CacheRuntimeError), match="here"):
        start(pipe, spec, execution=execution, **ALWAYS)
    vars(target).pop("armed")
    assert everything(pipe) == before
    assert torch.equal(pipe(5), plain)
    with start(pipe, spec, execution=execution, **ALWAYS):
        pipe(5)
    assert torch.equal(pipe(5), plain)


REFUSAL = {"schema": 1, "name": "no", "pipelines": ["SmallPipeline"], "refuse": "it is not to be"}


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_a_refused_enable_leaves_no_trace(execution: str) -> None:
    pipe = SmallPipeline(small())
    before = everything(pipe)
    for spec, settings in (
        (adapter("Pattern_0"), ALWAYS),
        (adapter({"blocks": "Pattern_3", "others": "Pattern_3"}), ALWAYS),
        (adapter(), {"Fn_compute_blocks": 9}),
        (REFUSAL, ALWAYS),
    ):
        with pytest.raises(CacheditYamlError):
            start(pipe, spec, execution=execution, **settings)
        assert everything(pipe) == before


def test_unknown_execution() -> None:
    with pytest.raises(CacheditYamlError, match="'loop' or 'native', not 'fast'"):
        start(SmallPipeline(small()), execution="fast", **ALWAYS)


def test_too_many_forwards_in_one_step() -> None:
    """Whose clock stands still is not cached, and it is said."""
    pipe = SmallPipeline(small())
    plain = pipe(3, forwards=lambda step: 12)
    with start(pipe, **NEVER):
        assert torch.equal(pipe(3, forwards=lambda step: 12), plain)
    with start(pipe, **ALWAYS) as handle:
        pipe(3, forwards=lambda step: 12)
        assert any(
            "12 forwards ran uncached: too many forwards in one step" in text
            for text in handle.stats().warnings
        )
        assert len(handle.stats().branches) == 8


def test_a_replaced_forward_is_said() -> None:
    """Something puts another forward in place after caching was enabled."""
    pipe = SmallPipeline(small())
    plain = pipe(4)
    with start(pipe, **ALWAYS) as handle:
        hooked = pipe.transformer.forward
        pipe.transformer.forward = type(pipe.transformer).forward.__get__(pipe.transformer)
        assert torch.equal(pipe(4), plain)
        assert "no generation has run" in handle.stats().warnings[0]
        pipe.transformer.forward = hooked
