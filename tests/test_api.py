"""The public functions: what they say, and what they take."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_dit import DBCacheConfig

import cachedit_yaml
from cachedit_yaml import CacheRuntimeError, CompileError, ConfigError
from cachedit_yaml.registry.registry import Registry
from tests import tiny

SHADOW = """\
schema: 1
name: pixart
pipelines: [PixArtAlphaPipeline]
cache: {Fn_compute_blocks: 1, residual_diff_threshold: 0.5}
transformers: {transformer: {blocks: {transformer_blocks: Pattern_3}}}
"""


def test_an_adapter_that_overrides_another_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(SHADOW, encoding="utf-8")
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    pipe = tiny.build("PixArtAlphaPipeline")
    for adapter in (None, "pixart"):
        plan = cachedit_yaml.compile_adapter(adapter, pipe)
        assert plan.spec.source == tmp_path / "mine.yaml"
        (note,) = plan.notes
        assert "mine.yaml (environment) overrides" in note
        assert "pixart.yaml (shipped)" in note
        assert note in plan.describe()


def test_an_adapter_that_was_found_by_a_base_class_says_so() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    pipe.__class__ = type("MyPipeline", (type(pipe),), {})
    (note,) = cachedit_yaml.compile_adapter(None, pipe).notes
    assert note == "matched by its base class 'PixArtAlphaPipeline'"


def test_configs_of_cache_dit_say_what_counts() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    name = "residual_diff_threshold"
    default = DBCacheConfig().residual_diff_threshold

    def threshold(config: Any) -> tuple[float, tuple[str, ...]]:
        plan = cachedit_yaml.compile_adapter(None, pipe, cache_config=config)
        return plan.transformers[0].lists[0].layers.resolve(None).values[name], plan.notes

    # From reset() every field counts, also where it equals the default.
    assert threshold(DBCacheConfig().reset(residual_diff_threshold=default)) == (default, ())
    value, notes = threshold(DBCacheConfig(residual_diff_threshold=default))
    assert value == 0.12
    assert "that equal its defaults count as not given" in notes[0]
    _, notes = threshold(DBCacheConfig().reset(enable_separate_cfg=True, num_inference_steps=9))
    assert [note.split()[1] for note in notes] == ["enable_separate_cfg", "num_inference_steps"]


@pytest.mark.parametrize("alone", [False, True])
def test_a_handle_that_was_not_kept(alone: bool) -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    target = pipe.transformer if alone else pipe
    plain = tiny.run(pipe)
    cachedit_yaml.enable(target)
    gc.collect()
    with pytest.raises(CompileError, match=r"or cachedit_yaml\.disable\(pipeline\)"):
        cachedit_yaml.enable(target)
    assert cachedit_yaml.disable(target) is True
    assert cachedit_yaml.disable(target) is False
    assert torch.equal(tiny.run(pipe), plain)
    with cachedit_yaml.enable(pipe):
        assert cachedit_yaml.disable(pipe.transformer) is True
    assert cachedit_yaml.disable(3) is False


def test_refresh_after_disable_and_with_nonsense() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    handle = cachedit_yaml.enable(pipe)
    for wrong in ("a", 0, 1.5):
        with pytest.raises(ValueError, match="a whole number from 1 on"):
            handle.refresh(wrong)
    handle.disable()
    with pytest.raises(CacheRuntimeError, match="this handle was disabled"):
        handle.refresh(4)


@pytest.mark.parametrize("wrong", [3, [1], b"flux"])
def test_an_adapter_that_is_none(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="an adapter is a name, a path or a mapping, not"):
        cachedit_yaml.load_adapter(wrong)


def test_names_that_are_nearly_right() -> None:
    with pytest.raises(cachedit_yaml.AdapterNotFoundError, match="nearest: dit"):
        cachedit_yaml.load_adapter("dti")
    pipe = tiny.build("PixArtAlphaPipeline")
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        cachedit_yaml.enable(pipe, profile="fsat")


def test_one_folder_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SHADOW, encoding="utf-8")
    found = cachedit_yaml.list_adapters(adapters=str(tmp_path))  # type: ignore[arg-type]
    assert any(entry.path == tmp_path / "mine.yaml" for entry in found)


def test_a_registry_is_read_anew_when_a_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHADOW, encoding="utf-8")
    first = Registry.load([tmp_path])
    assert Registry.load([tmp_path]) is first
    path.write_text(SHADOW.replace("0.5", "0.25"), encoding="utf-8")
    second = Registry.load([tmp_path])
    assert second is not first
    assert dict(second.get("pixart").cache.given())["residual_diff_threshold"] == 0.25
    path.unlink()
    assert Registry.load([tmp_path]).entry("pixart").kind == "shipped"


def test_two_caches_on_one_transformer_are_said() -> None:
    from diffusers import FirstBlockCacheConfig

    pipe = tiny.build("QwenImagePipeline")
    with cachedit_yaml.enable(pipe) as handle:
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
        tiny.run(pipe)
        assert any("diffusers' own cache" in text for text in handle.stats().warnings)
        pipe.transformer.disable_cache()


def test_a_threshold_of_zero_is_not_called_warm_up() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    with cachedit_yaml.enable(pipe, cache_config={"residual_diff_threshold": 0}) as handle:
        tiny.run(pipe)
    (warning,) = handle.stats().warnings
    assert warning.endswith("never hit: residual_diff_threshold is 0")
