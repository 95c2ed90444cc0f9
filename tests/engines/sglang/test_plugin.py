"""SGLang's own plugin loader, and its back end for diffusers' pipelines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.errors import CompileError, ConfigError
from tests import tiny

pytestmark = pytest.mark.engines

ADAPTER = """\
schema: 1
pipelines: [FluxPipeline]
transformers:
  transformer:
    class: [FluxTransformer2DModel]
    blocks: {transformer_blocks: Pattern_1, single_transformer_blocks: Pattern_1}
cache: {Fn_compute_blocks: 1, max_warmup_steps: 2}
"""


def test_its_loader_finds_the_plugin_which_imports_nothing() -> None:
    program = (
        "import sys; "
        "from sglang.multimodal_gen.runtime.platforms.plugins import _discover; "
        "plugins = _discover(); before = set(sys.modules); plugins['cachedit_yaml'][0](); "
        "new = set(sys.modules) - before; "
        "print(sorted(x for x in new if x.partition('.')[0] in ('cache_dit', 'sglang', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_functions_that_others_hold_already_are_replaced_there_too() -> None:
    program = (
        "from sglang.multimodal_gen.runtime import cache; "
        "from sglang.multimodal_gen.runtime.cache import cache_dit_integration as own; "
        "from cachedit_yaml.engines.sglang import register; "
        "before = own.cache_dit_overrides_key; register(); "
        "name = 'enable_cache_on_transformer'; "
        "print(getattr(cache, name) is getattr(own, name), hasattr(getattr(own, name), "
        "'__wrapped__'), own.cache_dit_overrides_key is before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["True True True"], done.stderr


@pytest.fixture
def pipe() -> Iterator[Any]:
    found = tiny.build("FluxPipeline")
    yield found
    cachedit_yaml.disable(found)


def apply(pipe: Any, config: Any) -> Any:
    """SGLang's ``--cache-dit-config``."""
    from sglang.multimodal_gen.runtime.pipelines.diffusers_pipeline import DiffusersPipeline

    owner = object.__new__(DiffusersPipeline)
    owner._cache_dit_enabled = False
    assert owner._apply_cache_dit(pipe, SimpleNamespace(cache_dit_config=config)) is pipe
    return owner


def picture(pipe: Any, steps: int) -> torch.Tensor:
    call = {**tiny.cases("FluxPipeline")["plain"](pipe), "num_inference_steps": steps}
    found = pipe(**call)
    result = getattr(found, "images", found[0])
    return result if isinstance(result, torch.Tensor) else torch.as_tensor(result)


@pytest.mark.parametrize(
    "text",
    [
        ADAPTER,
        ADAPTER + "cache_config: {residual_diff_threshold: 0.9, max_warmup_steps: 3}\n",
        "cache_config: {Fn_compute_blocks: 1, max_warmup_steps: 3, residual_diff_threshold: 0.9}\n",
    ],
    ids=["adapter", "adapter and sections", "sections"],
)
def test_a_file_for_the_diffusers_back_end(pipe: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    plain = picture(pipe, 2)
    owner = apply(pipe, str(path))
    handle = cachedit_yaml.handle_of(pipe)
    assert handle is not None
    assert owner._cache_dit_enabled
    found = handle.plan.transformers[0].lists[0].layers.resolve(8).values
    assert found["max_warmup_steps"] == (3 if "cache_config" in text else 2)
    torch.manual_seed(0)
    assert torch.equal(picture(pipe, 2), plain)  # within the warm-up
    picture(pipe, 8)
    handle.disable()


def test_what_is_wrong_in_the_file_stops_the_start(pipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("cache_config: {residual_diff_treshold: 0.1}\n", encoding="utf-8")
    with pytest.raises(cachedit_yaml.AdapterError, match="residual_diff_treshold"):
        apply(pipe, str(path))
    path.write_text(ADAPTER.replace("transformer_blocks: P", "blocks: P", 1), encoding="utf-8")
    with pytest.raises((CompileError, ConfigError), match="does not fit"):
        apply(pipe, str(path))
    assert cachedit_yaml.handle_of(pipe) is None


def test_a_dict_and_a_pipeline_without_an_adapter_are_cache_dits(pipe: Any) -> None:
    import cache_dit

    owner = apply(pipe, {"Fn_compute_blocks": 1, "max_warmup_steps": 2})
    assert owner._cache_dit_enabled
    assert cachedit_yaml.handle_of(pipe) is None
    cache_dit.disable_cache(pipe)
