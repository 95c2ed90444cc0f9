"""Whose generation a forward belongs to, and which branch: requests that share a transformer."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FluxPipeline
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from cachedit_yaml import enable
from cachedit_yaml.compiler.calibrators import has_calibrator
from cachedit_yaml.runtime.handle import Handle
from tests import tiny
from tests.runtime import models, requests_at_once
from tests.runtime.models import ALWAYS, DIM, MASKED, Small, SmallPipeline, row, small, start
from tests.runtime.requests_at_once import Conditioned, Pipeline, Request

STATIC = {
    "Fn_compute_blocks": 1,
    "scm": {"mask": [1, 1, 1, 1, 0, 0, 1, 0, 0, 1], "policy": "static"},
}


def request(seed: int, steps: int = 8, **more: Any) -> Request:
    values: dict[str, Any] = {
        "tokens": 4, "guided": 2, "late": None, "stops_at": None, "fails_at": None,
        "kind": FlowMatchEulerDiscreteScheduler,
    }  # fmt: skip
    return Request(seed=seed, steps=steps, **{**values, **more})


def alone(item: Request, **settings: Any) -> list[torch.Tensor]:
    model = small(Conditioned)
    with start_on(Pipeline(model, item.kind()), **settings):
        return list(requests_at_once.run(Pipeline(model, item.kind()), item))


def start_on(pipeline: Pipeline, **settings: Any) -> Handle:
    return enable(pipeline, models.adapter(), cache_config=settings)


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


# --- whose generation ---


@pytest.mark.parametrize("seed", range(6))
def test_random_requests_in_turns(seed: int) -> None:
    assert requests_at_once.stress(40, seed) > 0


@pytest.mark.parametrize("seed", range(3))
def test_random_requests_in_threads(seed: int) -> None:
    requests_at_once.in_threads(30, seed)


def sibling(pipe: Any, **parts: Any) -> Any:
    """Another pipeline of the same components."""
    wanted = inspect.signature(type(pipe).__init__).parameters
    components = {name: part for name, part in pipe.components.items() if name in wanted}
    other = type(pipe)(**{**components, **parts})
    other.set_progress_bar_config(disable=True)
    return other


@pytest.mark.parametrize(
    "name", ["StableDiffusion3Pipeline", "CogVideoXPipeline", "LTXPipeline", "SanaPipeline"]
)
def test_siblings_that_share_transformer_and_scheduler(name: str) -> None:
    """The steps are those of the pipeline that runs, whatever the enabled one ran before."""
    pipe = tiny.build(name)
    other = sibling(pipe)
    with start(pipe, None, **MASKED) as handle:
        for target, steps in ((pipe, 6), (other, 12), (pipe, 9), (other, 5)):
            tiny.run(target, steps=steps)
            assert handle.stats().num_steps == steps
            assert handle.stats().what == name
            assert handle.stats().ended == "finished"
            assert not handle.stats().warnings
        assert [item.num_steps for item in handle.history] == [6, 12, 9, 5]


def test_a_sibling_with_a_scheduler_of_its_own() -> None:
    pipe = tiny.build("FluxPipeline")
    other = sibling(pipe, scheduler=copy.deepcopy(pipe.scheduler))
    with start(pipe, None, **MASKED) as handle:
        for target, steps in ((other, 12), (pipe, 4), (other, 12), (other, 9)):
            tiny.run(target, steps=steps)
            assert handle.stats().num_steps == steps
            assert not handle.stats().warnings
    # Nothing is left on it.
    assert not {"step", "set_timesteps"} & vars(other.scheduler).keys()
    assert not {"progress_bar", "maybe_free_model_hooks"} & vars(other).keys()


def test_schedulers_of_requests_that_are_over_are_not_held() -> None:
    model = small(Conditioned)
    with start_on(Pipeline(model, FlowMatchEulerDiscreteScheduler()), **ALWAYS):
        before = live_schedulers()
        for seed in range(3):
            list(requests_at_once.run(Pipeline(model, DDIMScheduler()), request(seed)))
        assert live_schedulers() <= before


def live_schedulers() -> int:
    gc.collect()
    return sum(type(item) is DDIMScheduler for item in gc.get_objects())


def test_a_generation_whose_steps_run_in_other_threads() -> None:
    """As gradio and starlette do with a generator."""
    item = request(1, steps=10)
    settings = {**ALWAYS, "max_continuous_cached_steps": 2}
    wanted = alone(item, **settings)
    model = small(Conditioned)
    pipeline = Pipeline(model, FlowMatchEulerDiscreteScheduler())
    pools = [ThreadPoolExecutor(1) for _ in range(3)]
    with start_on(pipeline, **settings) as handle:
        handle.refresh(10)
        stream = pipeline.stream(item)
        seen = [pools[step % 3].submit(next, stream).result() for step in range(10)]
        assert handle.stats().num_steps == 10
        assert same(seen, wanted)
    for pool in pools:
        pool.shutdown()


def test_one_scheduler_for_two_requests_with_prompts_of_their_own() -> None:
    """One without a state, so that it serves both."""
    items = [request(seed, kind=DDIMScheduler) for seed in (1, 2)]
    wanted = [alone(item, **ALWAYS) for item in items]
    assert interleaved(items, **ALWAYS)[0] == wanted


class Tensors(list[torch.Tensor]):
    """Tensors that are compared by their values."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and same(self, other)


def interleaved(
    items: list[Request], kind: type[Pipeline] = Pipeline, **settings: Any
) -> tuple[list[Tensors], list[str]]:
    """Run requests step by step in turns on one pipeline, and what was warned of."""
    pipeline = kind(small(Conditioned), DDIMScheduler())
    with start_on(pipeline, **settings) as handle:
        seen = in_turns([pipeline.stream(item) for item in items])
        return seen, [text for item in handle.history for text in item.warnings]


def in_turns(streams: list[Iterator[torch.Tensor]]) -> list[Tensors]:
    """What each of several loops yields."""
    return [Tensors(steps) for steps in zip(*zip(*streams, strict=True), strict=True)]


class OnePrompt(Request):
    """Everybody's prompt is the same tensor."""

    SHARED = torch.ones(2, DIM)

    def prompts(self) -> list[torch.Tensor]:
        return [self.SHARED, self.SHARED]


def test_requests_that_nothing_tells_apart_run_uncached() -> None:
    values = vars(request(1, kind=DDIMScheduler))
    items = [OnePrompt(**{**values, "seed": seed, "guided": 1}) for seed in (1, 2)]
    never = {**ALWAYS, "residual_diff_threshold": 0.0}
    plain = [Tensors(alone(item, **never)) for item in items]

    seen, warnings = interleaved(items, Copies, **ALWAYS)
    # What was computed before they were noticed is each one's own.
    assert any("cannot be told apart" in text for text in warnings)
    assert any("handle.request(name)" in text for text in warnings)
    assert seen == plain


class Copies(Pipeline):
    """A loop that copies the latents, so that not even they tell."""

    def stream(self, request: Request) -> Iterator[torch.Tensor]:
        latents = models.noise(request.seed)
        prompt = request.prompts()[0]
        self.scheduler.set_timesteps(request.steps)
        for timestep in self.scheduler.timesteps:
            with torch.no_grad():
                update = self.transformer(latents.clone(), timestep, prompt)
                latents = self.scheduler.step(update, timestep, latents)[0]
            yield latents


def test_requests_with_names() -> None:
    items = [request(seed, kind=DDIMScheduler, guided=1) for seed in (1, 2)]
    shared = OnePrompt.SHARED
    wanted = []
    for item in items:
        pipeline = Pipeline(small(Conditioned), DDIMScheduler())
        with start_on(pipeline, **ALWAYS):
            wanted.append(Tensors(named_loop(pipeline, item, shared, None)))
    pipeline = Pipeline(small(Conditioned), DDIMScheduler())
    with start_on(pipeline, **ALWAYS) as handle:
        loops = [named_loop(pipeline, item, shared, handle, f"user {item.seed}") for item in items]
        assert in_turns(loops) == wanted
        assert [item.what for item in handle.history] == ["user 1", "user 2"]
        assert [item.ended for item in handle.history] == ["finished", "finished"]


def named_loop(
    pipeline: Pipeline, item: Request, prompt: torch.Tensor, handle: Handle | None, name: str = ""
) -> Iterator[torch.Tensor]:
    def mine() -> Any:
        return contextlib.nullcontext() if handle is None else handle.request(name)

    latents = models.noise(item.seed)
    with mine():
        pipeline.scheduler.set_timesteps(item.steps)
    for timestep in list(pipeline.scheduler.timesteps):
        with mine(), torch.no_grad():
            update = pipeline.transformer(latents.clone(), timestep, prompt)
            latents = pipeline.scheduler.step(update, timestep, latents)[0]
        yield latents


def test_a_request_that_raises_is_released() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS) as handle:
        with pytest.raises(KeyboardInterrupt), handle.request("mine"):
            pipe(8, after_step=stop_at(3))
        last = handle.history[-1]
        assert (last.what, last.ended, last.num_steps) == ("mine", "its request raised", 8)
        assert last.branches[0].executed_steps == (0, 1, 2, 3)


def stop_at(step: int) -> Any:
    def stop(now: int) -> None:
        if now == step:
            raise KeyboardInterrupt

    return stop


def test_chunks_that_run_over_the_same_timesteps() -> None:
    """`set_timesteps` once, and a loop over them for each chunk."""

    class Chunks(SmallPipeline):
        @torch.no_grad()
        def __call__(self, steps: int, chunks: int) -> list[torch.Tensor]:  # type: ignore[override]
            self.scheduler.set_timesteps(steps)
            result = []
            for chunk in range(chunks):
                latents = models.noise(chunk)
                for timestep in self.scheduler.timesteps:
                    latents = self.scheduler.step(
                        self.transformer(latents, timestep), timestep, latents
                    )[0]
                result.append(latents)
            return result

    pipe = Chunks(small(), DDIMScheduler())
    with start(pipe, **MASKED) as handle:
        first = pipe(9, 1)[0]
        assert torch.equal(pipe(9, 3)[0], first)
        assert [item.num_steps for item in handle.history] == [9, 9, 9, 9]
        cached = {item.branches[0].cached_steps for item in handle.history}
        assert cached == {row(handle).cached_steps}
        assert row(handle).cached_steps


def test_a_call_that_ends_early_frees_its_tensors() -> None:
    """By a callback that interrupts, and by one that raises."""
    pipe = tiny.build("FluxPipeline")

    def interrupt(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        if step == 3:
            pipe._interrupt = True
        return kwargs

    def fail(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return kwargs

    with start(pipe, None, **ALWAYS) as handle:
        tiny.run(pipe, steps=8, callback_on_step_end=interrupt)
        assert handle.stats().ended in ("its call ended", "finished")
        assert handle.stats().branches[0].executed_steps == (0, 1, 2, 3)
        assert held(handle) == 0
        with pytest.raises(KeyboardInterrupt):
            tiny.run(pipe, steps=8, callback_on_step_end=fail)
        assert handle.stats().ended == "its call raised"
        assert handle.stats().branches[0].executed_steps == (0, 1, 2)
        assert held(handle) == 0


def held(handle: Handle) -> int:
    """Tensors in the caches of all generations that are remembered."""
    states = [
        state
        for generation in handle._clock.history
        for transformer in generation.transformers.values()
        for state in transformer.branches.values()
    ]
    return sum(len(state.context.buffers) for state in states)


@pytest.mark.parametrize("kind", ["alone", "a scheduler", "one without a state"])
def test_generations_one_after_another_hold_one_cache(kind: str) -> None:
    """Also where nothing tells that the last one has ended."""
    model = small(Conditioned)
    prompt = prompts(1)[0]
    scheduler = DDIMScheduler() if "without" in kind else FlowMatchEulerDiscreteScheduler()
    target = model if kind == "alone" else Pipeline(model, scheduler)
    with enable(target, models.adapter(), cache_config=ALWAYS) as handle:
        counts = []
        for _ in range(4):
            if kind == "alone":
                handle.refresh(8)
            else:
                scheduler.set_timesteps(8)
            latents = models.noise()
            with torch.no_grad():
                for step in range(4):  # and no more
                    timestep = torch.tensor(1000.0 - 125 * step)
                    latents = latents - 0.1 * model(latents, timestep, prompt)
                    if kind != "alone":
                        scheduler.step(latents, scheduler.timesteps[step], latents)
            counts.append(held(handle))
        assert counts[0] > 0
        assert counts == [counts[0]] * 4


@pytest.mark.parametrize("settings", [MASKED, {**ALWAYS, "calibrator": "taylorseer"}])
def test_released_at_once(settings: dict[str, Any]) -> None:
    """And it goes on: the same generation, with a computed step."""
    pipe = SmallPipeline(small())
    counts: list[tuple[int, int]] = []

    def free(step: int) -> None:
        if step == 3:
            before = held(handle)
            handle.release()
            counts.append((before, held(handle)))

    with start(pipe, **settings) as handle:
        whole = pipe(9)
        cached = row(handle).cached_steps
        assert 4 in cached
        pipe(9, after_step=free)
        assert counts[0][0] > counts[0][1] == 0
        assert handle.stats().num_steps == 9
        assert handle.stats().ended == "finished"
        assert row(handle).executed_steps == tuple(range(9))
        assert row(handle).cached_steps == tuple(step for step in cached if step != 4)
        assert torch.equal(pipe(9), whole)


# --- which branch ---


def loop(model: Small, steps: int, order: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loop of ten steps at most; `order(step)` gives the prompts of a step."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    latents, outputs = models.noise(), []
    with torch.no_grad():
        for step, timestep in enumerate(scheduler.timesteps):
            parts = [model(latents, timestep, prompt) for prompt in order(step)]
            outputs += parts
            latents = scheduler.step(sum(parts), timestep, latents)[0]
    return latents, outputs


def prompts(count: int) -> list[torch.Tensor]:
    return [torch.full((2, DIM), 0.4 * (index + 1)) for index in range(count)]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("inserted before", lambda p, step: [p[2], p[0], p[1]] if step >= 4 else p[:2]),
        ("inserted between", lambda p, step: [p[0], p[2], p[1]] if step >= 4 else p[:2]),
        ("dropped", lambda p, step: [p[1]] if step >= 4 else p[:2]),
        ("swapped in order", lambda p, step: [p[1], p[0]] if step % 2 else p[:2]),
        ("replaced", lambda p, step: [p[2], p[1]] if step >= 4 else p[:2]),
        ("replaced and back", lambda p, step: [p[2], p[1]] if step in (4, 5) else p[:2]),
        ("inserted in the second step", lambda p, step: [p[2], p[0], p[1]] if step else p[:2]),
    ],
)
def test_no_branch_takes_what_another_has_stored(name: str, order: Any) -> None:
    """Under a static mask, where no difference would tell: each prompt as if it were alone."""
    given = prompts(3)
    model = small(Conditioned)
    pipeline = Pipeline(model, FlowMatchEulerDiscreteScheduler())
    with start_on(pipeline, **STATIC) as handle:
        served: dict[int, list[int]] = {id(item): [] for item in given}
        ran: list[int] = []
        last = model.blocks[3].linear.register_forward_hook(lambda *_: ran.append(1))

        def watched(now: int) -> Iterator[torch.Tensor]:
            for prompt in order(given, now):
                ran.clear()
                yield prompt
                if not ran:
                    served[id(prompt)].append(now)

        loop(model, 10, watched)
        last.remove()
    mask = STATIC["scm"]["mask"]  # type: ignore[index]
    for prompt in given:
        steps = [now for now in range(10) if any(item is prompt for item in order(given, now))]
        # Its first forward is computed, whatever the mask says.
        allowed = [now for now in steps[1:] if not mask[now]]
        assert served[id(prompt)] == allowed, (name, handle.stats())


def test_embeddings_made_anew_for_every_forward() -> None:
    """Nothing stays the same object: a branch is its place, as ever."""
    given = prompts(2)
    model = small(Conditioned)
    with start_on(Pipeline(model, FlowMatchEulerDiscreteScheduler()), **ALWAYS) as handle:
        loop(model, 8, lambda step: (item.clone() for item in given))
        assert [item.branch for item in handle.stats().branches] == ["forward 1", "forward 2"]
        assert all(item.cached_steps == tuple(range(1, 8)) for item in handle.stats().branches)


def test_text_of_another_length() -> None:
    """A miss, no crash: the shape of the encoder hidden states has to agree too."""
    pipe = tiny.build("QwenImagePipeline")
    model = pipe.transformer
    make = torch.Generator().manual_seed(0)
    texts = torch.randn(1, 9, model.config.joint_attention_dim, generator=make)
    latents = torch.randn(1, 16, model.config.in_channels, generator=make)

    def run(lengths: list[int]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [
                model(
                    hidden_states=latents, encoder_hidden_states=texts[:, :length],
                    encoder_hidden_states_mask=torch.ones(1, length, dtype=torch.bool),
                    timestep=torch.tensor([1 - step / 8]), img_shapes=[[(1, 4, 4)]],
                    return_dict=False,
                )[0]
                for step, length in enumerate(lengths)
            ]  # fmt: skip

    lengths = [9] * 3 + [6] * 3 + [9] * 2
    plain = run(lengths)
    mask = {"scm": {"mask": [1] + [0] * 7, "policy": "static"}}
    with start(model, None, max_continuous_cached_steps=-1, **mask) as handle:
        handle.refresh(8)
        with model.cache_context("cond"):
            cached = run(lengths)
        steps = sorted(step for item in handle.stats().branches for step in item.cached_steps)
        assert steps == [1, 2, 4, 5, 6, 7]
    assert torch.equal(cached[3], plain[3])


# --- what is recorded ---


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_records_a_forward_sees_the_plain_one() -> None:
    model = small()
    latents = models.noise()
    plain = model(latents)
    pipe = SmallPipeline(model)
    with start(pipe, **ALWAYS):

        def record(step: int) -> None:
            if step != 3:
                return
            traced = torch.jit.trace(model, (latents,), check_trace=False)
            assert torch.equal(traced(latents), plain)
            mapped = torch.func.vmap(model)(latents[None])
            assert torch.allclose(mapped[0], plain, atol=1e-6)
            assert torch.equal(make_fx(model)(latents)(latents), plain)
            assert torch.equal(torch.export.export(model, (latents,)).module()(latents), plain)
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                assert model(mode.from_tensor(latents)).shape == plain.shape

        before = pipe(8)
        assert torch.equal(pipe(8, after_step=record), before)


# --- what is no number ---


@pytest.mark.parametrize("calibrator", [None, "taylorseer", "foca"])
@pytest.mark.parametrize("block", [0, 3])
@pytest.mark.parametrize("mask", [None, [1, 1, 1, 1, 1, 0, 0, 1, 0, 0]])
def test_what_is_no_number_is_served_to_nobody(
    calibrator: str | None, block: int, mask: list[int] | None
) -> None:
    if calibrator is not None and not has_calibrator(calibrator):
        pytest.skip(f"the installed cache-dit has the config of {calibrator}, not the calibrator")
    pipe = SmallPipeline(small())
    broken = pipe.transformer.blocks[block]
    inner, count = broken.delta, [0]

    def delta(hidden: torch.Tensor, shift: Any = 0.0) -> torch.Tensor:
        count[0] += 1
        found: torch.Tensor = inner(hidden, shift)
        return found * float("nan") if count[0] == 4 else found

    broken.delta = delta
    inner_step = pipe.step
    pipe.step = lambda update, *rest: inner_step(torch.nan_to_num(update), *rest)  # type: ignore[method-assign]
    settings: dict[str, Any] = {**ALWAYS, "calibrator": calibrator, "max_warmup_steps": 2}
    settings |= {"max_continuous_cached_steps": 1} if mask is None else {}
    settings |= {} if mask is None else {"scm": {"mask": mask, "policy": "static"}}
    finite: list[bool] = []
    with start(pipe, **settings) as handle:
        hook = pipe.transformer.register_forward_hook(
            lambda module, args, output: finite.append(bool(torch.isfinite(output).all()))
        )
        pipe(10)
        hook.remove()
        assert finite.count(False) == 1
        assert handle.stats().branches[0].cached_steps
        assert "NaN or infinity" in handle.stats().warnings[0]


# --- what is cached, is ---


def test_replaced_modules_are_noticed() -> None:
    def replace(pipe: Any) -> None:
        pipe.transformer = copy.deepcopy(pipe.transformer)

    def compile_whole(pipe: Any) -> None:
        pipe.transformer = torch.compile(pipe.transformer, backend="eager")

    def replace_blocks(pipe: Any) -> None:
        blocks = pipe.transformer.blocks
        blocks[2] = copy.deepcopy(blocks[2])

    def add_a_block(pipe: Any) -> None:
        pipe.transformer.blocks.append(copy.deepcopy(pipe.transformer.blocks[1]))

    def replace_the_list(pipe: Any) -> None:
        pipe.transformer.blocks = nn.ModuleList([*pipe.transformer.blocks][:4])

    def take_the_list(pipe: Any) -> None:
        del pipe.transformer.blocks
        pipe.transformer.blocks = []

    def compile_in_place(pipe: Any) -> None:
        pipe.transformer.compile(backend="eager")

    def put_back(pipe: Any) -> None:
        del pipe.transformer.forward

    def put_back_of_a_block(pipe: Any) -> None:
        block = pipe.transformer.blocks[2]
        block.forward = type(block).forward.__get__(block)

    def replay(pipe: Any) -> None:
        pipe.transformer.forward = lambda hidden_states, timestep: hidden_states

    for change, text in (
        (replace_the_list, "2 of its blocks were replaced"),
        (take_the_list, "6 of its blocks were replaced"),
        (compile_in_place, "was compiled as a whole after caching was enabled"),
        (put_back, "the forward of 1 cached modules (Small) was replaced"),
        (put_back_of_a_block, "the forward of 1 cached modules (Block) was replaced"),
        (replay, "no forward of a cached transformer was seen"),
        (replace, "was replaced after caching was enabled"),
        (compile_whole, "wrapped by torch.compile"),
        (replace_blocks, "1 of its blocks were replaced"),
        (add_a_block, "1 of its blocks were replaced"),
    ):
        pipe = SmallPipeline(small())
        with start(pipe, **ALWAYS) as handle:
            pipe(6)
            assert not handle.stats().warnings
            change(pipe)
            pipe(6)
            assert any(text in item for item in handle.stats().warnings), change


def test_a_transformer_that_is_let_go_is_gone_at_once() -> None:
    """Without waiting for the garbage collector."""
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS) as handle:
        pipe(6)
        gone = weakref.ref(pipe.transformer)
        gc.disable()
        try:
            pipe.transformer = None  # type: ignore[assignment]
            assert gone() is None
        finally:
            gc.enable()
        assert "was taken away" in handle.stats().warnings[-1]


def test_native_execution_lets_go_when_it_is_disabled() -> None:
    """What cache-dit puts into a transformer holds it, until that is taken out again."""
    pipe = SmallPipeline(small())
    handle = start(pipe, models.adapter(), "native", **ALWAYS)
    pipe(6)
    gone = weakref.ref(pipe.transformer)
    gc.disable()
    try:
        handle.disable()
        pipe.transformer = None  # type: ignore[assignment]
        assert gone() is None
    finally:
        gc.enable()


def test_the_boundary_is_read_for_each_generation() -> None:
    pipe = tiny.build("WanPipeline", two=True)
    with start(pipe, None, **MASKED) as handle:
        shares = []
        for ratio in (0.9, 0.3):
            pipe.register_to_config(boundary_ratio=ratio)
            tiny.run(pipe, steps=10)
            assert not any("step_split" in text for text in handle.stats().warnings)
            high = [row for row in handle.stats().branches if row.transformer == "transformer"]
            shares.append(len(high[0].executed_steps))
        assert shares[0] < shares[1]


def test_threads_that_are_gone_leave_nothing() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS) as handle:
        for _ in range(20):
            worker = threading.Thread(target=handle.refresh, args=(6,))
            worker.start()
            worker.join()
        assert len(handle._clock.told) == 1
        pipe(6)
        assert row(handle).cached_steps == tuple(range(1, 6))


def test_from_pipe() -> None:
    pipe = tiny.build("FluxPipeline")
    with start(pipe, None, **MASKED) as handle:
        other = FluxPipeline.from_pipe(pipe)
        other.set_progress_bar_config(disable=True)
        tiny.run(other, steps=7)
        assert handle.stats().num_steps == 7
