"""What `disable` restores, and what copies, saved files and `state_dict` know of caching."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.runtime import models
from tests.runtime.models import ALWAYS, MASKED, NEVER, SmallPipeline, adapter, row, small, start

PIPELINES = [
    "FluxPipeline", "StableDiffusion3Pipeline", "QwenImagePipeline", "ZImagePipeline",
    "WanVACEPipeline", "DiTPipeline", "PixArtAlphaPipeline", "Flux2KleinPipeline",
    "LongCatImagePipeline",
]  # fmt: skip


def snapshot(pipe: Any) -> dict[str, Any]:
    """Every attribute of the modules, the scheduler and the pipeline, by identity."""
    state: dict[str, Any] = {"pipe": set(vars(pipe)), "scheduler": set(vars(pipe.scheduler))}
    for name, module in pipe.transformer.named_modules():
        state[name] = {key: id(value) for key, value in vars(module).items()}
        state[f"{name} children"] = [(key, id(child)) for key, child in module.named_children()]
    state["state_dict"] = list(pipe.transformer.state_dict())
    state["parameters"] = [name for name, _ in pipe.transformer.named_parameters()]
    state["class"] = {key: id(value) for key, value in vars(type(pipe.transformer)).items()}
    state["pipe class"] = {key: id(value) for key, value in vars(type(pipe)).items()}
    return state


@pytest.mark.parametrize("name", PIPELINES)
def test_disable_restores_everything(name: str) -> None:
    pipe = tiny.build(name)
    plain = tiny.run(pipe, steps=5)
    before = snapshot(pipe)
    handle = start(pipe, None, **MASKED)
    cached = tiny.run(pipe, steps=5)
    during = snapshot(pipe)
    for unchanged in ("state_dict", "parameters", "class", "pipe class"):
        assert during[unchanged] == before[unchanged]
    handle.disable()
    assert snapshot(pipe) == before
    assert torch.equal(tiny.run(pipe, steps=5), plain)
    assert not torch.equal(cached, plain)
    # Once more does nothing, and the context manager does the same.
    handle.disable()
    with start(pipe, None, **MASKED) as handle:
        assert torch.equal(tiny.run(pipe, steps=5), cached)
        assert "on" in repr(handle)
    assert "off" in repr(handle)
    assert snapshot(pipe) == before


@pytest.mark.parametrize("name", ["FluxPipeline", "QwenImagePipeline", "PixArtSigmaPipeline"])
def test_disable_restores_everything_natively(name: str) -> None:
    pipe = tiny.build(name)
    plain = tiny.run(pipe, steps=5)
    before = snapshot(pipe)
    handle = start(pipe, None, execution="native", **MASKED)
    tiny.run(pipe, steps=5)
    handle.disable()
    assert snapshot(pipe) == before
    assert torch.equal(tiny.run(pipe, steps=5), plain)


def test_what_other_hooks_had_put_there_is_restored() -> None:
    from accelerate import hooks as accelerate

    pipe = SmallPipeline(small())
    plain = pipe(5)
    with start(pipe, **ALWAYS):
        wanted = pipe(5)
    for module in (pipe.transformer, *pipe.transformer.blocks):
        accelerate.add_hook_to_module(module, accelerate.ModelHook())
    before = snapshot(pipe)
    with start(pipe, **ALWAYS):
        assert torch.equal(pipe(5), wanted)
    assert snapshot(pipe) == before
    assert torch.equal(pipe(5), plain)


def test_a_hook_that_was_added_while_enabled() -> None:
    """Somebody wrapped our hook: it steps aside, and what was wrapped around it keeps working."""
    pipe = SmallPipeline(small())
    plain = pipe(5)
    seen = []

    def wrap(module: torch.nn.Module) -> None:
        inner = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            seen.append(module)
            return inner(*args, **kwargs)

        module.forward = forward

    handle = start(pipe, **ALWAYS)
    wrap(pipe.transformer)
    wrap(pipe.transformer.blocks[3])
    cached = pipe(5)
    assert row(handle).cached_steps == (1, 2, 3, 4)
    handle.disable()
    seen.clear()
    assert torch.equal(pipe(5), plain)
    assert len(seen) == 10
    with start(pipe, **ALWAYS):
        assert torch.equal(pipe(5), cached)
    assert torch.equal(pipe(5), plain)


def tensors() -> int:
    """Tensors that are alive."""
    gc.collect()
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


def test_enabling_fifty_times() -> None:
    pipe = SmallPipeline(small())
    settings = {**ALWAYS, "calibrator": "taylorseer"}

    def cycle(count: int) -> None:
        for _ in range(count):
            with start(pipe, adapter(), **settings):
                pipe(4, forwards=lambda step: 2)

    cycle(40)  # as many generations are remembered, and more; what others left is collected
    before = tensors()
    objects = len(gc.get_objects())
    tracemalloc.start()
    try:
        cycle(40)  # those that are remembered are traced, too
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        cycle(50)
        assert tensors() <= before
        grown = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert len(gc.get_objects()) < objects + 50
    assert grown < 40_000


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_a_generation_frees_its_tensors_when_it_ends(execution: str) -> None:
    pipe = SmallPipeline(small())
    settings = {**ALWAYS, "calibrator": "taylorseer", "Bn_compute_blocks": 1}
    with start(pipe, execution=execution, **settings) as handle:
        pipe(2)
        before = tensors()
        counts = {}

        def count(step: int) -> None:
            if step in (3, 7):
                counts[step] = tensors()

        pipe(8, after_step=count)
        assert tensors() == before
        assert counts[3] > counts[7]
        # What was counted stays.
        assert handle.stats().branches[0].cached_steps


def test_an_aborted_generation_frees_its_tensors_with_the_next() -> None:
    pipe = SmallPipeline(small())

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with start(pipe, **ALWAYS):
        pipe(4)
        before = tensors()
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                pipe(8, after_step=stop)
        pipe(4)
        assert tensors() == before


@pytest.mark.parametrize("disabled", [False, True])
def test_hooks_do_not_keep_the_pipeline_alive(disabled: bool) -> None:
    pipe = tiny.build("FluxPipeline")
    handle = start(pipe, None, **ALWAYS)
    tiny.run(pipe, steps=3)
    if disabled:
        handle.disable()
    parts = [weakref.ref(item) for item in (pipe, pipe.transformer, pipe.scheduler)]
    del pipe, handle
    gc.collect()
    assert [part() for part in parts] == [None, None, None]


def test_the_handle_alone_keeps_what_it_needs() -> None:
    """Dropping the handle does not switch caching off; the pipeline holds what it runs."""
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS):
        wanted = pipe(5)
    start(pipe, **ALWAYS)
    gc.collect()
    assert torch.equal(pipe(5), wanted)


@pytest.mark.parametrize("name", ["FluxPipeline", "SmallPipeline"])
def test_deepcopy(name: str) -> None:
    """The copy is uncached and runs its own weights; the original stays cached."""
    real = name != "SmallPipeline"
    pipe = tiny.build(name) if real else SmallPipeline(small())
    model = pipe.transformer

    def run(other: Any) -> torch.Tensor:
        pipe.transformer = other
        try:
            return tiny.run(pipe, steps=5) if real else pipe(5)
        finally:
            pipe.transformer = model

    plain = run(model)
    with start(pipe, None if real else adapter(), **ALWAYS) as handle:
        cached = run(model)
        twin = copy.deepcopy(model)
        stats = handle.stats()
        assert torch.equal(run(twin), plain)
        assert handle.stats().branches == stats.branches
        assert "no forward of a cached transformer was seen" in handle.stats().warnings[-1]
        tiny.randomise(twin, "other")
        changed = run(twin)
        assert not torch.equal(changed, plain)
        assert torch.equal(run(model), cached)
        # The copy can be cached too, and disabled again.
        with start(twin, None if real else adapter(), **NEVER):
            assert torch.equal(run(twin), changed)
    assert torch.equal(run(twin), changed)
    assert torch.equal(run(model), plain)


def test_deepcopy_of_a_whole_pipeline() -> None:
    pipe = SmallPipeline(small())
    plain = pipe(5)
    with start(pipe, **ALWAYS) as handle:
        cached = pipe(5)
        twin = copy.deepcopy(pipe)
        assert torch.equal(twin(5), plain)
        assert handle.stats().branches[0].cached_steps == (1, 2, 3, 4)
        with start(twin, **ALWAYS):
            assert torch.equal(twin(5), cached)
        tiny.randomise(twin.transformer, "other")
        assert torch.equal(pipe(5), cached)
    assert torch.equal(pipe(5), plain)


def test_pickle() -> None:
    model = small()
    with torch.no_grad():
        plain = model(models.noise(), 500)
    with start(model, **ALWAYS):
        model(models.noise(), 900)
        for twin in (pickle.loads(pickle.dumps(model)), through_torch(model)):
            for module in (twin, *twin.blocks):
                assert module.forward.__self__ is module
            assert torch.equal(twin(models.noise(), 500), plain)
            assert twin.state_dict().keys() == model.state_dict().keys()
            with start(twin, **NEVER):
                assert torch.equal(twin(models.noise(), 500), plain)


def through_torch(model: torch.nn.Module) -> Any:
    """Save a whole module and load it."""
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_save_pretrained(tmp_path: Path) -> None:
    pipe = tiny.build("FluxPipeline")
    plain = tiny.run(pipe, steps=4)
    pipe.transformer.save_pretrained(tmp_path / "plain")
    with start(pipe, None, **ALWAYS):
        tiny.run(pipe, steps=4)
        pipe.transformer.save_pretrained(tmp_path / "cached")
    for file in (tmp_path / "plain").iterdir():
        assert (tmp_path / "cached" / file.name).read_bytes() == file.read_bytes()
    pipe.transformer = type(pipe.transformer).from_pretrained(tmp_path / "cached")
    assert torch.equal(tiny.run(pipe, steps=4), plain)


def test_moving_while_enabled() -> None:
    pipe = tiny.build("StableDiffusion3Pipeline")
    with start(pipe, None, **ALWAYS):
        wanted = tiny.run(pipe, steps=4)
        pipe.transformer.to(torch.float64)
        assert next(pipe.transformer.parameters()).dtype == torch.float64
        pipe.transformer.to(torch.float32)
        pipe.transformer.train().eval()
        pipe.to("cpu")
        assert torch.equal(tiny.run(pipe, steps=4), wanted)
        state = {key: value + 0.01 for key, value in pipe.transformer.state_dict().items()}
        pipe.transformer.load_state_dict(state)
        changed = tiny.run(pipe, steps=4)
        assert not torch.equal(changed, wanted)


def test_state_dict_during_a_generation(tmp_path: Path) -> None:
    """cache-dit's own blocks make these recurse without end in the middle of a generation."""
    pipe = tiny.build("QwenImagePipeline")
    keys = list(pipe.transformer.state_dict())
    names = [name for name, _ in pipe.transformer.named_parameters()]
    plain = tiny.run(pipe, "guided", steps=5)
    seen = []

    def callback(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        model = pipe.transformer
        assert list(model.state_dict()) == keys
        assert [name for name, _ in model.named_parameters()] == names
        if step == 2:
            model.eval()
            model.to(torch.float32)
            model.save_pretrained(tmp_path)
            seen.append(copy.deepcopy(model))
        return kwargs

    with start(pipe, None, **ALWAYS):
        wanted = tiny.run(pipe, "guided", steps=5)
        assert torch.equal(tiny.run(pipe, "guided", steps=5, callback_on_step_end=callback), wanted)
    with start(pipe, None, **NEVER):
        tiny.run(pipe, "guided", steps=5, callback_on_step_end=callback)
    for twin in seen:
        pipe.transformer = twin
        assert torch.equal(tiny.run(pipe, "guided", steps=5), plain)


def test_state_dict_from_within_a_block() -> None:
    """In the middle of a forward, too."""
    pipe = SmallPipeline(small())
    keys = list(pipe.transformer.state_dict())
    seen = []
    pipe.transformer.blocks[2].register_forward_hook(
        lambda *_: seen.append(list(pipe.transformer.state_dict()))
    )
    with start(pipe, **ALWAYS):
        pipe(4)
    assert len(seen) == 4
    assert all(item == keys for item in seen)


def test_module_hooks_see_every_block() -> None:
    """torch's own hooks on a block run whether the block is skipped or not."""
    pipe = SmallPipeline(small())
    seen: list[int] = []
    for index, block in enumerate(pipe.transformer.blocks):
        block.register_forward_pre_hook(lambda *_, index=index: seen.append(index))
    with start(pipe, **ALWAYS):
        pipe(4)
    assert seen == list(range(6)) * 4
