"""Pipelines of diffusers as people use them: loaded, offloaded, cast, with LoRA, compiled, shared.

With no hit each is exact, beside the same pipeline without caching; with hits its output is finite.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, PixArtAlphaPipeline, PixArtSigmaPipeline

import cachedit_yaml
from cachedit_yaml import AdapterNotFoundError, ConfigError, RefusedError
from tests import tiny

STEPS = 6
NO_HIT = {"residual_diff_threshold": 0}
HITS = {"residual_diff_threshold": 0.99, "max_warmup_steps": 2, "max_continuous_cached_steps": -1}
PIPELINES = ["FluxPipeline", "PixArtAlphaPipeline", "QwenImagePipeline", "WanPipeline"]


def run(pipe: Any, steps: int = STEPS) -> torch.Tensor:
    with torch.no_grad():
        return tiny.run(pipe, steps=steps)


def prove(pipe: Any, prepare: Callable[[Any], None], after: bool) -> None:
    """With something done to a transformer before or after enabling."""
    twin = copy.deepcopy(pipe)
    prepare(twin)
    plain = run(twin)
    for config in (NO_HIT, HITS):
        fresh = copy.deepcopy(pipe)
        if not after:
            prepare(fresh)
        with cachedit_yaml.enable(fresh, cache_config=config) as handle:
            if after:
                prepare(fresh)
            for _ in range(2):
                result = run(fresh)
                if config is NO_HIT:
                    assert torch.equal(result, plain)
                    assert handle.stats().hit_ratio == 0
                else:
                    assert result.isfinite().all()
                    assert handle.stats().hit_ratio > 0
        assert torch.equal(run(fresh), plain)


def group_offload(level: str) -> Callable[[Any], None]:
    def prepare(pipe: Any) -> None:
        options = {"num_blocks_per_group": 1} if level == "block_level" else {}
        pipe.transformer.enable_group_offload(
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type=level,
            **options,
        )

    return prepare


def model_offload(pipe: Any) -> None:
    """What ``enable_model_cpu_offload`` does to each model, which itself wants a GPU."""
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(pipe.transformer, torch.device("cpu"))


def layerwise(pipe: Any) -> None:
    pipe.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )


WAYS = {
    "group offload by block": group_offload("block_level"),
    "group offload by leaf": group_offload("leaf_level"),
    "model offload": model_offload,
    "layerwise casting": layerwise,
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["FluxPipeline", "PixArtAlphaPipeline"])
def test_offloaded_and_cast(name: str, way: str, after: bool) -> None:
    prove(tiny.build(name), WAYS[way], after)


@pytest.fixture
def lora(tmp_path: Path) -> Callable[[Any], None]:
    """Loads a LoRA that changes what the transformer computes."""
    from peft import LoraConfig

    model = tiny.build("FluxPipeline").transformer
    config = LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    torch.manual_seed(3)
    model.add_adapter(config)
    model.save_lora_adapter(str(tmp_path))

    def load(pipe: Any) -> None:
        pipe.transformer.load_lora_adapter(
            str(tmp_path), prefix=None, weight_name="pytorch_lora_weights.safetensors"
        )

    return load


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_lora(lora: Callable[[Any], None], after: bool) -> None:
    pipe = tiny.build("FluxPipeline")
    changed = copy.deepcopy(pipe)
    lora(changed)
    assert not torch.equal(run(changed), run(pipe))
    prove(pipe, lora, after)


def test_lora_fused_and_unloaded_while_cached(lora: Callable[[Any], None]) -> None:
    pipe = tiny.build("FluxPipeline")
    plain = run(pipe)
    with cachedit_yaml.enable(pipe, cache_config=NO_HIT):
        lora(pipe)
        loaded = run(pipe)
        pipe.transformer.fuse_lora()
        assert torch.allclose(run(pipe), loaded, atol=1e-3)
        pipe.transformer.unfuse_lora()
        pipe.transformer.unload_lora()
        assert torch.allclose(run(pipe), plain, atol=1e-3)


@pytest.fixture
def compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_compiled_blocks_are_not_compiled_anew(after: bool) -> None:
    """Of two lists and two guidance branches."""
    from torch._dynamo.testing import CompileCounter

    def run(pipe: Any, steps: int = STEPS) -> torch.Tensor:
        return tiny.run(pipe, "guided", steps=steps)

    pipe = tiny.build("FluxPipeline")
    twin = copy.deepcopy(pipe)
    wanted = {"plain": run(pipe)}
    for name, config in (("no hit", NO_HIT), ("hits", HITS)):
        with cachedit_yaml.enable(pipe, cache_config=config):
            wanted[name] = run(pipe)
    counter = CompileCounter()
    twin.transformer.compile_repeated_blocks(backend=counter, fullgraph=True)
    assert torch.equal(run(twin), wanted["plain"])
    graphs = counter.frame_count
    assert graphs > 0
    torch._dynamo.reset()
    counter.clear()
    if not after:
        pipe.transformer.compile_repeated_blocks(backend=counter, fullgraph=True)
    for name, config in (("no hit", NO_HIT), ("hits", HITS)):
        with cachedit_yaml.enable(pipe, cache_config=config) as handle:
            if after:
                pipe.transformer.compile_repeated_blocks(backend=counter, fullgraph=True)
            for steps in (STEPS, STEPS + 3):
                result = run(pipe, steps)
                assert result.isfinite().all()
                assert (handle.stats().hit_ratio > 0) == (config is HITS)
                if steps == STEPS:
                    assert torch.equal(result, wanted[name])
    # As many graphs as without caching: none for a step, a hit or a generation.
    assert counter.frame_count == graphs
    assert torch.equal(run(pipe), wanted["plain"])


@pytest.mark.usefixtures("compiler")
def test_inductor_compiles_once_and_stays_exact() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    pipe = tiny.build("WanPipeline")
    counter = CompileCounterWithBackend("inductor")
    pipe.transformer.compile_repeated_blocks(backend=counter)
    plain = run(pipe, 4)
    wanted = counter.frame_count
    for config in (NO_HIT, HITS):
        with cachedit_yaml.enable(pipe, cache_config=config) as handle:
            result = run(pipe, 4)
            assert torch.equal(result, plain) == (config is NO_HIT)
            assert result.isfinite().all()
            assert (handle.stats().hit_ratio > 0) == (config is HITS)
    assert torch.equal(run(pipe, 4), plain)
    assert counter.frame_count == wanted > 0


def test_from_pipe_shares_the_transformer() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    plain = run(pipe)
    handle = cachedit_yaml.enable(pipe, cache_config=NO_HIT)
    # A copy's scheduler is not hooked: it is the same object.
    other = PixArtSigmaPipeline.from_pipe(pipe)
    assert other.transformer is pipe.transformer
    with pytest.raises(cachedit_yaml.CompileError, match="is cached already"):
        cachedit_yaml.enable(other)
    again = PixArtAlphaPipeline.from_pipe(pipe)
    for each in (again, pipe, again):
        assert torch.equal(run(each), plain)
        assert handle.stats().num_steps == STEPS
    handle.disable()
    with cachedit_yaml.enable(again, cache_config=HITS) as handle:
        for each in (pipe, again):
            assert run(each).isfinite().all()
            assert handle.stats().hit_ratio > 0
    assert torch.equal(run(pipe), plain)


def saved(folder: Path, name: str) -> tuple[Any, dict[str, None]]:
    """A small pipeline in a folder, and what it was saved without."""
    pipe = tiny.build(name)
    pipe.save_pretrained(folder)
    return pipe, {key: None for key, part in pipe.components.items() if part is None}


@pytest.mark.parametrize("name", PIPELINES)
def test_from_pretrained(tmp_path: Path, name: str) -> None:
    _, absent = saved(tmp_path, name)
    plain = run(DiffusionPipeline.from_pretrained(tmp_path, **absent))
    for config in (NO_HIT, HITS):
        loaded = cachedit_yaml.from_pretrained(tmp_path, cache_config=config, **absent)
        assert isinstance(loaded, DiffusionPipeline)
        result = run(loaded)
        handle = cachedit_yaml.handle_of(loaded)
        assert handle is not None
        assert (handle.stats().hit_ratio > 0) == (config is HITS)
        assert torch.equal(result, plain) == (config is NO_HIT)
        assert cachedit_yaml.disable(loaded)
        assert cachedit_yaml.handle_of(loaded) is None
        assert torch.equal(run(loaded), plain)


def test_from_pretrained_with_a_class_and_a_profile(tmp_path: Path) -> None:
    _, absent = saved(tmp_path, "PixArtAlphaPipeline")
    loaded = cachedit_yaml.from_pretrained(
        str(tmp_path), "pixart", profile="fast", pipeline_class=PixArtSigmaPipeline, **absent
    )
    assert type(loaded) is PixArtSigmaPipeline
    handle = cachedit_yaml.handle_of(loaded)
    assert handle is not None
    assert handle.plan.profile == "fast"


def test_what_is_wrong_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    # Nothing but the index: loading would fail.
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(AdapterNotFoundError, match="nearest: flux"):
        cachedit_yaml.from_pretrained(tmp_path, "flxu")
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        cachedit_yaml.from_pretrained(tmp_path, profile="fsat")
    with pytest.raises(ConfigError, match="did you mean 'max_warmup_steps'"):
        cachedit_yaml.from_pretrained(tmp_path, cache_config={"max_warmpu_steps": 1})
    with pytest.raises(ConfigError, match="'loop' or 'native'"):
        cachedit_yaml.from_pretrained(tmp_path, execution="nativ")  # type: ignore[arg-type]
    (tmp_path / "model_index.json").write_text('{"_class_name": "AnyFlowFARPipeline"}')
    with pytest.raises(RefusedError, match="must not be cached"):
        cachedit_yaml.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(AdapterNotFoundError):
        cachedit_yaml.from_pretrained(tmp_path)
    for path in (tmp_path / "no", str(tmp_path / "no")):
        with pytest.raises(ConfigError, match="does not exist; give the folder"):
            cachedit_yaml.from_pretrained(path)
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(ConfigError, match=r"no model_index\.json"):
        cachedit_yaml.from_pretrained(tmp_path)
