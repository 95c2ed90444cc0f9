"""What the engine can do beside a cache: offloading, LoRA, several pictures, calibrators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.engines import checkpoints
from tests.engines.engine import Engine, running

pytestmark = pytest.mark.engines

HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
#: A CPU has no memory to pin.
NO_PINNING = {"pin_cpu_memory": False}
NO_HIT = {"residual_diff_threshold": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def plain(folder: Path) -> Iterator[Any]:
    """The results of a model without anything, uncached and cached."""

    def found(name: str, **request: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with running(name, checkpoints.build(name, folder)) as engine:
            return latents(engine, None, **request), latents(engine, HITS, **request)

    return found


def latents(engine: Engine, config: dict[str, Any] | None, **request: Any) -> torch.Tensor:
    if config is None:
        engine.generate(**request)
        return engine.latents[0]
    with engine.cached(config):
        engine.generate(**request)
        assert (engine.handle.stats().hit_ratio > 0) == (config["residual_diff_threshold"] > 0)
        return engine.latents[0]


@pytest.mark.parametrize("way", ["enable_cpu_offload", "enable_layerwise_offload"])
def test_offloading(folder: Path, plain: Any, way: str) -> None:
    uncached, cached = plain("flux")
    with running("flux", checkpoints.build("flux", folder), **NO_PINNING, **{way: True}) as engine:
        assert torch.equal(latents(engine, None), uncached)
        assert torch.equal(latents(engine, NO_HIT), uncached)
        assert torch.equal(latents(engine, HITS), cached)


def test_several_pictures_a_prompt(folder: Path, plain: Any) -> None:
    uncached, cached = plain("flux", num_outputs_per_prompt=2)
    assert uncached.shape[0] == 2
    with running("flux", checkpoints.build("flux", folder)) as engine:
        one = latents(engine, HITS)
        assert torch.equal(latents(engine, NO_HIT, num_outputs_per_prompt=2), uncached)
        assert torch.equal(latents(engine, HITS), one)  # another batch came in between
        assert torch.equal(latents(engine, HITS, num_outputs_per_prompt=2), cached)


def test_a_calibrator_with_two_transformers(folder: Path) -> None:
    with running("wan_two", checkpoints.build("wan_two", folder)) as engine:
        uncached = latents(engine, None, num_inference_steps=16)
        without = latents(engine, HITS, num_inference_steps=16)
        for own in ({"enable_taylorseer": True}, {"calibrator": {"type": "taylorseer"}}):
            first = latents(engine, {**HITS, **own}, num_inference_steps=16)
            assert torch.isfinite(first).all()
            assert not torch.equal(first, without)
            assert torch.equal(latents(engine, {**HITS, **own}, num_inference_steps=16), first)
            never = latents(engine, {**NO_HIT, **own}, num_inference_steps=16)
            assert torch.equal(never, uncached)


def lora_folder(folder: Path, seed: int) -> Path:
    """A small LoRA of FLUX.1, as PEFT saves one."""
    place = folder / f"lora{seed}"
    place.mkdir(exist_ok=True)
    config = {"r": 4, "lora_alpha": 4, "target_modules": ["to_out.0"], "peft_type": "LORA"}
    (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for index in range(4):
        name = f"base_model.model.transformer.transformer_blocks.{index}.attn.to_out.0"
        for part, shape in (("lora_A", (4, 32)), ("lora_B", (32, 4))):
            weights[f"{name}.{part}.weight"] = 0.5 * torch.randn(shape, generator=generator)
    save_file(weights, place / "adapter_model.safetensors")
    return place


def test_a_lora_for_each_request(folder: Path) -> None:
    from vllm_omni.lora.request import LoRARequest

    with running("flux", checkpoints.build("flux", folder)) as engine:
        assert engine.pipeline.transformer.inner_dim == 32
        loras = [None, *(LoRARequest(f"l{n}", n, str(lora_folder(folder, n))) for n in (1, 2))]
        plain = [latents(engine, None, lora_request=item) for item in loras]
        assert len({str(item) for item in plain}) == 3
        cached = [latents(engine, HITS, lora_request=item) for item in loras]
        for config, wanted in ((NO_HIT, plain), (HITS, cached)):
            with engine.cached(config):
                for index in (0, 1, 0, 2, 1):  # in turns, in one engine
                    engine.generate(lora_request=loras[index])
                    assert torch.equal(engine.latents[0], wanted[index])


def test_compiled_by_region(folder: Path, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its default on a GPU: each block is a graph of its own, and can be skipped."""
    from vllm_omni.platforms import current_omni_platform

    uncached, cached = plain("flux")
    monkeypatch.setattr(type(current_omni_platform), "supports_torch_inductor", lambda _: True)
    with running("flux", checkpoints.build("flux", folder), enforce_eager=False) as engine:
        block = engine.pipeline.transformer.transformer_blocks[0]
        assert hasattr(block.forward, "_torchdynamo_orig_callable")
        alone = latents(engine, None)
        assert torch.allclose(alone, uncached, rtol=1e-3, atol=1e-4)
        assert torch.equal(latents(engine, NO_HIT), alone)
        assert torch.allclose(latents(engine, HITS), cached, rtol=1e-3, atol=1e-4)
