"""Configs of engines: what is recognised, and tables that agree with the installed packages."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cache_dit import DBCacheConfig, DBPruneConfig, load_configs

from cachedit_yaml.engines.cache_dit.files import SETTINGS as CACHE_DIT
from cachedit_yaml.engines.configs import recognise
from tests.golden import cases


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("schema: 1\npipelines: [A]\n", "adapter"),
        ("pipelines: [A]\ncache_config: {}\n", "adapter"),
        ("zzz: 1\n", "adapter"),
        ("", "adapter"),
        ("cache_config: {Fn_compute_blocks: 1}\n", "cache_dit"),
        ("cache_config:\n", "cache_dit"),
        ("parallelism_config: {ulysses_size: 2}\n", "cache_dit"),
        ("Fn_compute_blocks: 1\nmax_warmup_steps: 4\n", "cache_dit"),
        ("cache_dit_config: {cache_config: {}}\n", "sglang"),
        ("stages:\n  - stage_id: 0\n", "vllm_omni"),
        ("cache_backend: cache_dit\n", "vllm_omni"),
        ('{"adapter": "flux"}', "vllm_omni"),
        ('{"scm_steps_mask_policy": "fast"}', "vllm_omni"),
        ("stages: [1, 2]\n", "adapter"),
    ],
)
def test_recognise(text: str, kind: str) -> None:
    assert recognise(yaml.safe_load(text)) == kind


def test_every_field_of_cache_dit_is_known() -> None:
    fields = {f.name for cls in (DBCacheConfig, DBPruneConfig) for f in dataclasses.fields(cls)}
    extra = {
        "enable_taylorseer", "enable_encoder_taylorseer", "taylorseer_cache_type",
        "taylorseer_order", "calibrator_cache_type", "enable_dmd", "enable_encoder_dmd",
        "dmd_history", "dmd_rank", "dmd_ridge", "dmd_svd_precision", "enable_foca",
        "enable_encoder_foca",
    }  # fmt: skip
    assert set(CACHE_DIT.schema["properties"]) == fields | extra
    # The source that reads them says the same.
    source = Path(load_configs.__code__.co_filename).read_text(encoding="utf-8")
    source = source.partition("def load_cache_options_from_yaml")[0]
    assert extra == set(re.findall(r'kwargs\.get\("(\w+)"', source)) - {"cache_type"}


def good(name: str) -> dict[str, Any]:
    text = (cases.FOLDER / "ok" / name).read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    assert isinstance(data, dict)
    return data


def test_what_is_found_good_is_read_by_cache_dit() -> None:
    del (data := good("cache-dit.yaml"))["parallelism_config"]
    loaded = load_configs(data)
    assert loaded["cache_config"].max_warmup_steps == 8
    assert loaded["calibrator_config"] is not None
    assert load_configs(good("sglang.yaml")["cache_dit_config"])["cache_config"] is not None


def test_what_is_found_misspelled_is_silently_lost_by_cache_dit() -> None:
    loaded = load_configs({"cache_config": {"enable_sperate_cfg": True}})
    assert loaded["cache_config"].enable_separate_cfg is None


def test_a_config_says_what_it_is(tmp_path: Path) -> None:
    case = cases.parse(b"cache_config: {Fn_compute_blocks: 1}\n", "a.yaml")
    _, out = cases.run(case, "--format", "json")
    assert '"kind": "cache_dit"' in out


@pytest.mark.parametrize(
    "text",
    [
        "stages: {a: 1}\n",
        "stages: [1, [2], {cache_config: 3}]\n",
        "cache_config: 1\n",
        "cache_dit_config: [1]\n",
        "cache_config: [1, 2]\ncache_backend: [x]\n",
        "cache_backend: cache_dit\ncache_config: {adapter: 1, profile: []}\n",
    ],
)
def test_odd_forms_are_no_traceback(text: str) -> None:
    code, out = cases.run(cases.parse(text.encode(), "a.yaml"))
    assert code in (0, 1)
    assert "Traceback" not in out
