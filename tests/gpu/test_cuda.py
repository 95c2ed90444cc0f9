"""On a CUDA device: what a CPU cannot show. Everything else is tested without one.

Run it alone with ``pytest -m gpu``, with torchao installed; without a device it is skipped, and
``make test`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cachedit_yaml
from tests import tiny

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

NAMES = ["FluxPipeline", "QwenImagePipeline", "WanPipeline", "StableDiffusion3Pipeline"]
NO_HIT = {"residual_diff_threshold": 0.0, "scm": None}
HITS = {"scm": {"preset": "fast", "policy": "static"}, "max_warmup_steps": 1, "calibrator": None}


def run(pipe: Any, steps: int = 8) -> torch.Tensor:
    """One generation from the same random numbers, its tensors on the device."""
    arguments = tiny.cases(type(pipe).__name__)["plain"](pipe)
    given = {
        name: value.to(DEVICE, pipe.transformer.dtype if value.is_floating_point() else None)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in arguments.items()
    }
    given |= {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(0)}
    with torch.no_grad():
        return pipe(**given)[0].float()


def prove(pipe: Any) -> None:
    """Exact with no hit, cached with hits, and as before when disabled."""
    plain = run(pipe)
    assert torch.equal(run(pipe), plain)
    with cachedit_yaml.enable(pipe, cache_config=NO_HIT):
        assert torch.equal(run(pipe), plain)
    with cachedit_yaml.enable(pipe, cache_config=HITS) as handle:
        output = run(pipe)
        assert output.isfinite().all()
        assert handle.stats().hit_ratio > 0
        assert not torch.equal(output, plain)
    assert torch.equal(run(pipe), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_exact(name: str, dtype: torch.dtype) -> None:
    prove(tiny.build(name).to(DEVICE, dtype))


def model_offload(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device=DEVICE)


def group_offload(pipe: Any) -> None:
    pipe.enable_group_offload(
        onload_device=torch.device(DEVICE),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=True,
    )


@pytest.mark.parametrize("way", [model_offload, group_offload])
def test_offloaded(way: Callable[[Any], None]) -> None:
    pipe = tiny.build("QwenImagePipeline")
    way(pipe)
    prove(pipe)


@pytest.mark.filterwarnings("default")  # of torch's own, about what it calls itself
def test_compiled() -> None:
    """Inductor compiles each kind of block once, and no step compiles anew."""
    pipe = tiny.build("QwenImagePipeline").to(DEVICE)
    pipe.transformer.compile_repeated_blocks(fullgraph=True)
    plain = run(pipe)
    with (
        torch.compiler.set_stance("fail_on_recompile"),
        cachedit_yaml.enable(pipe, cache_config=NO_HIT),
    ):
        assert torch.equal(run(pipe), plain)


def test_quantized_by_a_section_of_the_file(tmp_path: Path) -> None:
    """cache-dit quantizes on CUDA devices only."""
    path = tmp_path / "file.yaml"
    path.write_text("quantize_config: {quant_type: int8_weight_only}\n", encoding="utf-8")
    pipe = tiny.build("FluxPipeline").to(DEVICE, torch.bfloat16)
    kinds = {type(item.weight) for item in linears(pipe)}
    with cachedit_yaml.enable(pipe, path, cache_config=HITS) as handle:
        assert {type(item.weight) for item in linears(pipe)} != kinds
        assert run(pipe).isfinite().all()
        assert handle.stats().hit_ratio > 0


def linears(pipe: Any) -> list[torch.nn.Linear]:
    return [item for item in pipe.transformer.modules() if isinstance(item, torch.nn.Linear)]
