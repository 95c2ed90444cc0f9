"""``install()``: plain cache-dit finds the adapters, and gets its own table back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import BlockAdapterRegister, DBCacheConfig
from cache_dit.caching.cache_adapters.cache_adapter import CachedAdapter

import cachedit_yaml
from cachedit_yaml import AdapterNotFoundError, CompileError, ConfigError, RefusedError
from tests import tiny
from tests.drafting import odd
from tests.engines import tuned

HITS = {"Fn_compute_blocks": 1, "residual_diff_threshold": 0.9, "max_warmup_steps": 2}

MINE = """\
schema: 1
pipelines: [PixArtAlphaPipeline]
cache: {Fn_compute_blocks: 2, Bn_compute_blocks: 1, max_warmup_steps: 3}
transformers:
  transformer: {class: [PixArtTransformer2DModel], blocks: {transformer_blocks: Pattern_3}}
"""


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    yield
    cachedit_yaml.uninstall()


def configs(target: Any) -> list[Any]:
    """The config of every block list of a pipeline's transformer."""
    blocks = [x for x in target.children() if isinstance(x, torch.nn.ModuleList)]
    return [x._context_kwargs["cache_config"] for x in blocks if hasattr(x, "_context_kwargs")]


def used(transformer: Any) -> list[Any]:
    """The config of each of the lists that have run; those that run as one have one."""
    manager = transformer._context_manager
    return [manager.get_context(name).cache_config for name in transformer._context_names]


def cached_steps(pipe: Any) -> list[int]:
    rows = cache_dit.summary(pipe, logging=False)
    return [step for row in rows for step in row.cached_steps]


def test_the_table_is_restored_exactly() -> None:
    table = BlockAdapterRegister._adapters
    before, method = list(table.items()), vars(CachedAdapter)["create_context"]
    names = cachedit_yaml.install()
    assert {"FluxPipeline", "MotifVideoPipeline", "WanTransformer3DModel"} <= set(names)
    assert set(names) <= set(cache_dit.supported_pipelines()[1])
    assert cachedit_yaml.install() == names
    assert BlockAdapterRegister._adapters is table
    assert cachedit_yaml.uninstall() is True
    assert list(table.items()) == before
    assert vars(CachedAdapter)["create_context"] is method
    assert cachedit_yaml.uninstall() is False


def test_what_others_register_in_between_stays() -> None:
    cachedit_yaml.install()

    def mine(pipe: Any, **kwargs: Any) -> None: ...

    BlockAdapterRegister.register("Mine")(mine)
    try:
        cachedit_yaml.uninstall()
        assert BlockAdapterRegister._adapters["Mine"] is mine
    finally:
        del BlockAdapterRegister._adapters["Mine"]


@pytest.mark.parametrize(
    "name", ["FluxPipeline", "WanPipeline", "SanaVideoPipeline", "LucyEditPipeline"]
)
def test_plain_cache_dit_is_exact_without_a_hit_and_hits(name: str) -> None:
    pipe = tiny.build(name)
    plain = tiny.run(pipe, steps=8)
    cachedit_yaml.install()
    # Not 8, which is cache-dit's default, so that the adapter's own would come before it.
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(**HITS | {"max_warmup_steps": 9}))
    assert torch.equal(tiny.run(pipe, steps=8), plain)
    assert not cached_steps(pipe)
    cache_dit.disable_cache(pipe)
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(**HITS))
    assert tiny.run(pipe, steps=8).isfinite().all()
    assert cached_steps(pipe)
    cache_dit.disable_cache(pipe)
    assert torch.equal(tiny.run(pipe, steps=8), plain)


def test_a_model_that_only_yaml_knows(caplog: pytest.LogCaptureFixture) -> None:
    pipe = tiny.build("NucleusMoEImagePipeline")
    with pytest.raises(ValueError, match="not officially supported"):
        cache_dit.enable_cache(pipe)
    plain = tiny.run(pipe)
    cachedit_yaml.install()
    cache_dit.enable_cache(pipe)
    # Two calls of the transformer in a step must not share a buffer.
    assert configs(pipe.transformer)[0].enable_separate_cfg is True
    assert caplog.text.count("guidance is taken to run as a forward of its own") == 1
    assert torch.equal(tiny.run(pipe), plain)
    cache_dit.disable_cache(pipe)
    cachedit_yaml.uninstall()
    with pytest.raises(ValueError, match="not officially supported"):
        cache_dit.enable_cache(pipe)


def test_the_adapters_settings_apply_and_those_of_the_caller_win(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE, encoding="utf-8")
    pipe = tiny.build("PixArtAlphaPipeline")
    cachedit_yaml.install(adapters=[tmp_path])
    given = DBCacheConfig(max_warmup_steps=5, enable_separate_cfg=True)
    cache_dit.enable_cache(pipe, cache_config=given)
    (config,) = configs(pipe.transformer)
    assert (config.Fn_compute_blocks, config.Bn_compute_blocks) == (2, 1)
    assert config.max_warmup_steps == 5
    assert config.enable_separate_cfg is True
    cache_dit.disable_cache(pipe)
    cache_dit.enable_cache(pipe)
    (config,) = configs(pipe.transformer)
    assert config.max_warmup_steps == 3
    assert config.enable_separate_cfg is False
    cache_dit.disable_cache(pipe)


def test_a_profile_that_tune_wrote_is_used_by_its_name(tmp_path: Path) -> None:
    pipe = tiny.build("FluxPipeline")
    plain = tiny.run(pipe, steps=tuned.STEPS)
    path = tuned.write(tmp_path)
    with cachedit_yaml.enable(pipe, path, profile="steady", execution="native") as handle:
        wanted = tiny.run(pipe, steps=tuned.STEPS)
        assert handle.stats().hit_ratio > 0
    assert cachedit_yaml.install(adapters=[path], profile="steady")
    cache_dit.enable_cache(pipe)
    assert torch.equal(tiny.run(pipe, steps=tuned.STEPS), wanted)
    (config,) = used(pipe.transformer)
    for key, value in tuned.settings(path, "steady").items():
        assert key in ("calibrator", "scm") or getattr(config, key) == value
    assert not torch.equal(wanted, plain)
    cache_dit.disable_cache(pipe)
    # What was asked for by name is not left to cache-dit's own adapter: it has no F = 0.
    cachedit_yaml.install(adapters=[path], profile="half")
    with pytest.raises(CompileError, match="Fn_compute_blocks"):
        cache_dit.enable_cache(pipe)
    cachedit_yaml.install(adapters=[path], profile="steadi")
    with pytest.raises(ConfigError, match=r"no profile 'steadi'.*steady"):
        cache_dit.enable_cache(pipe)
    assert torch.equal(tiny.run(pipe, steps=tuned.STEPS), plain)


def test_a_transformer_alone_is_found_by_its_class() -> None:
    model = tiny.transformer("PixArtTransformer2DModel")
    inputs = tiny.forward_kwargs(model)
    cachedit_yaml.install()
    with torch.no_grad():
        plain = model(**inputs, return_dict=False)[0]
        cache_dit.enable_cache(model, cache_config=DBCacheConfig(Fn_compute_blocks=1))
        assert model._is_cached
        assert torch.equal(model(**inputs, return_dict=False)[0], plain)
    cache_dit.disable_cache(model)


def test_what_cache_dit_would_get_wrong_is_left_to_its_own_adapter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipe = tiny.build("ChromaPipeline")
    plain = tiny.run(pipe, steps=4)
    cachedit_yaml.install()
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(**HITS))
    assert "left to cache-dit's own adapter" in caplog.text
    assert torch.equal(tiny.run(pipe, steps=2), tiny.run(tiny.build("ChromaPipeline"), steps=2))
    cache_dit.disable_cache(pipe)
    assert plain.isfinite().all()


def test_lists_that_follow_run_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As FLUX.1's adapter ships; where cache-dit cannot, its own adapter runs."""
    pipe = tiny.build("FluxPipeline")
    settings = {**HITS, "Bn_compute_blocks": 1, "max_continuous_cached_steps": 2}
    with cachedit_yaml.enable(pipe, cache_config=settings, execution="native") as handle:
        wanted = tiny.run(pipe, steps=6)
        assert handle.stats().hit_ratio > 0
    cachedit_yaml.install()
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(**settings))
    assert torch.equal(tiny.run(pipe, steps=6), wanted)
    (config,) = used(pipe.transformer)
    assert config.Bn_compute_blocks == 1
    cache_dit.disable_cache(pipe)
    assert "left to cache-dit's own adapter" not in caplog.text
    (tmp_path / "mine.yaml").write_text(
        "schema: 1\npipelines: [ChromaPipeline]\ntransformers:\n  transformer:\n    blocks:\n"
        "      transformer_blocks: Pattern_1\n"
        "      single_transformer_blocks: {pattern: Pattern_3, follows: transformer_blocks}\n"
    )
    cachedit_yaml.install(adapters=[tmp_path])
    pipe = tiny.build("ChromaPipeline")
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(**HITS))
    assert "left to cache-dit's own adapter" in caplog.text
    cache_dit.disable_cache(pipe)


def test_what_nobody_gets_right_natively_is_an_error() -> None:
    cachedit_yaml.install()
    table = BlockAdapterRegister._adapters
    with pytest.raises(RefusedError):
        table["AnyFlowFARPipeline"](type("AnyFlowFARPipeline", (), {})())
    pipe = tiny.build("LattePipeline")
    with pytest.raises(CompileError, match="forward also does `hidden_states"):
        cache_dit.enable_cache(pipe)


def test_an_argument_that_cache_dit_would_lose_is_said(caplog: pytest.LogCaptureFixture) -> None:
    cachedit_yaml.install()
    pipe = tiny.build("FluxControlNetPipeline")
    with pytest.raises(RefusedError, match="loses what 'controlnet_block_samples' brings into"):
        cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(Fn_compute_blocks=1))
    pipe = tiny.build("StableDiffusion3Pipeline")
    cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(Fn_compute_blocks=1))
    assert "loses what 'skip_layers' brings into the loop" in caplog.text
    cache_dit.disable_cache(pipe)


def test_a_longer_name_that_begins_like_one_of_ours() -> None:
    cachedit_yaml.install()
    factory = BlockAdapterRegister._adapters["LattePipeline"]
    with pytest.raises(AdapterNotFoundError):
        factory(type("LattePipelineOfMine", (), {})())


def test_auto_is_for_what_nobody_knows() -> None:
    pipe: Any = odd.make(odd.Streams, odd.Pair)
    before = cache_dit.enable_cache, cache_dit.disable_cache
    with pytest.raises((ValueError, AssertionError)):
        cache_dit.enable_cache(pipe)
    plain = pipe(steps=12)
    cachedit_yaml.install(auto=True)
    config = DBCacheConfig(max_warmup_steps=2, residual_diff_threshold=0.9)
    assert cache_dit.enable_cache(pipe, config) is pipe
    assert torch.equal(pipe(steps=12), plain)
    assert not torch.equal(pipe(steps=12), plain)
    handle = cachedit_yaml.handle_of(pipe)
    assert handle is not None
    assert handle.stats().hit_ratio > 0
    cache_dit.disable_cache(pipe)
    assert torch.equal(pipe(steps=12), plain)
    known = tiny.build("FluxPipeline")
    cache_dit.enable_cache(known, DBCacheConfig(**HITS))  # in cache-dit's own way, as before
    assert cachedit_yaml.handle_of(known) is None
    cache_dit.disable_cache(known)
    cachedit_yaml.uninstall()
    assert (cache_dit.enable_cache, cache_dit.disable_cache) == before
