"""``enable(pipe, "file.yaml")`` with sections of cache-dit in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch

import cachedit_yaml
from cachedit_yaml import AdapterError, CacheRuntimeError, ConfigError
from cachedit_yaml.engines.cache_dit.configs import translate
from cachedit_yaml.rules.load import parse_settings
from tests import tiny
from tests.golden import cases

ADAPTER = """\
schema: 1
pipelines: [PixArtAlphaPipeline]
cache: {Fn_compute_blocks: 2, max_warmup_steps: 3, residual_diff_threshold: 0.1}
transformers: {transformer: {blocks: {transformer_blocks: Pattern_3}}}
"""
CACHE = "cache_config: {residual_diff_threshold: 0.9, max_warmup_steps: 1}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def values(plan: Any) -> Any:
    return plan.transformers[0].lists[0].layers.resolve(None).values


def backends(pipe: Any) -> set[str]:
    processors = [getattr(x, "processor", None) for x in pipe.transformer.modules()]
    found = {getattr(x, "_attention_backend", None) for x in processors if x is not None}
    return {str(getattr(x, "value", x)) for x in found}


def test_adapter_and_sections_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, ADAPTER + CACHE + "attention_backend: native\n")
    pipe = tiny.build("PixArtAlphaPipeline")
    plain = tiny.run(pipe, steps=8)
    with cachedit_yaml.enable(pipe, path) as handle:
        found = values(handle.plan)
        assert (found["Fn_compute_blocks"], found["max_warmup_steps"]) == (2, 1)
        assert found["residual_diff_threshold"] == 0.9
        assert not torch.equal(tiny.run(pipe, steps=8), plain)
        assert handle.stats().hit_ratio > 0
    assert torch.equal(tiny.run(pipe, steps=8), plain)
    # The caller's own settings win, and the same file as text of a path.
    plan = cachedit_yaml.compile_adapter(
        str(path), pipe, cache_config={"residual_diff_threshold": 0.5}
    )
    assert values(plan)["residual_diff_threshold"] == 0.5
    assert values(plan)["max_warmup_steps"] == 1


def test_the_other_sections_reach_cache_dit(tmp_path: Path) -> None:
    pipe = tiny.build("FluxPipeline")
    assert "_native_math" not in backends(pipe)
    plain = tiny.run(pipe, steps=8)
    path = write(tmp_path, "attention_backend: _native_math\n")
    with cachedit_yaml.enable(pipe, path, cache_config={"max_warmup_steps": 8}):
        assert "_native_math" in backends(pipe)
        assert torch.allclose(tiny.run(pipe, steps=8), plain, atol=1e-4)


def test_exact_without_a_hit(tmp_path: Path) -> None:
    path = write(tmp_path, ADAPTER + "cache_config: {max_warmup_steps: 8}\n")
    pipe = tiny.build("PixArtAlphaPipeline")
    plain = tiny.run(pipe, steps=8)
    with cachedit_yaml.enable(pipe, path):
        assert torch.equal(tiny.run(pipe, steps=8), plain)


@pytest.mark.parametrize("flat", [False, True])
def test_files_of_cache_dit_load_unchanged(tmp_path: Path, flat: bool) -> None:
    settings = (
        "  Fn_compute_blocks: 1\n  max_warmup_steps: 2\n  max_continuous_cached_steps: 2\n"
        "  residual_diff_threshold: 0.9\n  enable_taylorseer: true\n  taylorseer_order: 2\n"
        "  num_inference_steps: 8\n"
    )
    text = settings.replace("  ", "") if flat else f"cache_config:\n{settings}"
    path = write(tmp_path, text)
    theirs = cache_dit.load_configs(str(path))
    pipe = tiny.build("PixArtAlphaPipeline")
    with cachedit_yaml.enable(pipe, path) as handle:
        resolved = handle.plan.transformers[0].lists[0].layers.resolve(8)
        assert resolved.fn == theirs["cache_config"].Fn_compute_blocks
        calibrator = resolved.calibrator_config()
        assert calibrator.taylorseer_order == theirs["calibrator_config"].taylorseer_order
        assert not calibrator.enable_encoder_calibrator
        assert tiny.run(pipe, steps=8).isfinite().all()
        assert handle.stats().hit_ratio > 0
        assert any("num_inference_steps is left to the run" in x for x in handle.plan.notes)


@pytest.mark.parametrize(
    "config",
    [
        {"enable_dmd": True, "dmd_history": 4},
        {"enable_foca": True, "calibrator_cache_type": "hidden_states"},
        {"enable_taylorseer": True, "taylorseer_cache_type": "hidden_states"},
        {"enable_taylorseer": True, "enable_encoder_taylorseer": True},
    ],
)
def test_calibrators_mean_what_they_mean_to_cache_dit(config: dict[str, Any]) -> None:
    theirs = cache_dit.load_configs({"cache_config": config})["calibrator_config"]
    ours = parse_settings(translate(config)).calibrator
    assert ours.type == theirs.calibrator_type
    for name in (
        "enable_encoder_calibrator",
        "calibrator_cache_type",
        "taylorseer_order",
        "dmd_history",
    ):
        if hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name), name


def test_masks_and_what_is_switched_off() -> None:
    assert translate({"steps_computation_mask": [1, 0], "steps_computation_policy": "static"}) == {
        "scm": {"mask": [1, 0], "policy": "static"}
    }
    found = translate({"steps_computation_mask": "fast", "num_inference_steps": 8})
    assert found == {"scm": {"preset": "fast", "policy": "dynamic"}}
    assert translate({"steps_computation_mask": None, "enable_taylorseer": False}) == {
        "scm": None,
        "calibrator": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache_config: {residual_diff_treshold: 0.1}\n", r"file.yaml:1:16: .*residual_diff_tresh"),
        (ADAPTER + "cache_config: {Fn: 1}\n", "file.yaml:5:16"),
        (ADAPTER.replace("Pattern_3", "Pattern_9") + CACHE, "file.yaml:4:"),
        ("attention_backend: native\nparalelism_config: {}\n", "did you mean 'parallelism_config'"),
        ("attention_backend: native\nzzz: {}\n", "unknown key 'zzz'"),
        ("attention_backend: 3\n", "is no text"),
        ("parallelism_config: {ulises_size: 2}\n", "did you mean 'ulysses_size'"),
        ("parallelism_config: 2\n", "is no mapping"),
        ("quantize_config: {quant_typ: float8}\n", "did you mean 'quant_type'"),
    ],
)
def test_what_is_wrong_is_an_error_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    with pytest.raises(AdapterError, match=message):
        cachedit_yaml.enable(pipe, write(tmp_path, text))
    assert not cachedit_yaml.disable(pipe)


def test_what_cache_dit_refuses_leaves_the_pipeline_as_it_was(tmp_path: Path) -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    plain = tiny.run(pipe)
    path = write(tmp_path, "parallelism_config: {use_ray: true}\n")
    with pytest.raises(ConfigError, match="start the processes with torchrun"):
        cachedit_yaml.enable(pipe, path)
    path = write(tmp_path, "attention_backend: no_such\n")
    with pytest.raises(CacheRuntimeError, match="cannot apply attention_backend"):
        cachedit_yaml.enable(pipe, path)
    assert not cachedit_yaml.disable(pipe)
    assert torch.equal(tiny.run(pipe), plain)


def test_validate_knows_such_a_file() -> None:
    good = (ADAPTER + CACHE + "attention_backend: native\n").encode()
    code, out = cases.run(cases.parse(good, "a.yaml"))
    assert code == 0, out
    bad = good.replace(b"max_warmup_steps: 1", b"max_warmpu_steps: 1")
    code, out = cases.run(cases.parse(bad, "a.yaml"))
    assert code == 1
    assert "did you mean 'max_warmup_steps'" in out
