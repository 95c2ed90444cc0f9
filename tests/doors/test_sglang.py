"""The plugin of SGLang's workers, as far as it goes without SGLang: on real cache-dit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import BlockAdapterRegister, DBCacheConfig

import cachedit_yaml
from cachedit_yaml import AdapterNotFoundError
from cachedit_yaml.engines.sglang import register

MINE = """\
schema: 1
transformers: {transformer: {class: [OnlyYamlKnowsMe], blocks: {layers: Pattern_3}}}
pipelines: [OnlyYamlKnowsThis]
guidance: fused
cache: {Fn_compute_blocks: 1}
"""


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + 0.1 * self.linear(hidden_states)


class OnlyYamlKnowsMe(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer() for _ in range(4))

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


@pytest.fixture(autouse=True)
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine.yaml").write_text(MINE, encoding="utf-8")
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    yield
    cachedit_yaml.uninstall()


def generate(model: torch.nn.Module, steps: int = 6) -> torch.Tensor:
    torch.manual_seed(1)
    state = torch.randn(1, 4, 8)
    with torch.no_grad():
        for step in range(steps):
            state = state - 0.05 * model(state, torch.tensor([1 - step / steps]))
    return state


def test_a_transformer_that_only_yaml_knows() -> None:
    """What SGLang's ``enable_cache_on_transformer`` does: ask the table, then enable."""
    torch.manual_seed(0)
    model = OnlyYamlKnowsMe()
    plain = generate(model)
    assert not BlockAdapterRegister.is_supported(model)
    register()  # cache-dit is imported already
    assert BlockAdapterRegister.is_supported(model)
    for warmup in (6, 2):
        config = DBCacheConfig(
            num_inference_steps=6, Fn_compute_blocks=1, max_warmup_steps=warmup,
            residual_diff_threshold=0.9,
        )  # fmt: skip
        cache_dit.enable_cache(model, cache_config=config)
        result = generate(model)
        assert torch.equal(result, plain) == (warmup == 6)
        cache_dit.disable_cache(model)
        assert torch.equal(generate(model), plain)


def test_a_shipped_adapter_is_not_for_a_class_of_sglangs(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    factory: Any = BlockAdapterRegister._adapters["OnlyYamlKnowsMe"]
    theirs = type("LatteTransformer3DModel", (torch.nn.Module,), {"__module__": "sglang.dits"})
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline

    with pytest.raises(
        AdapterNotFoundError, match="is made for diffusers' LatteTransformer3DModel"
    ):
        factory(FakeDiffusionPipeline(theirs()))
    monkeypatch.setattr(OnlyYamlKnowsMe, "__module__", "sglang.dits")
    adapter = factory(FakeDiffusionPipeline(OnlyYamlKnowsMe()))
    assert adapter.blocks_name == [["layers"]]


def test_a_worker_that_never_imports_cache_dit_waits_for_nothing() -> None:
    program = (
        "import sys; from cachedit_yaml.engines.sglang import register; register(); "
        "print({'torch', 'cache_dit'} & set(sys.modules)); import cache_dit; "
        "print(cache_dit.BlockAdapterRegister._adapters['OnlyYamlKnowsMe'].__qualname__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["set()", "_Table.build"], done.stderr
