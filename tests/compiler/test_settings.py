"""Cache settings: precedence, origins, cache-dit's config objects, and cache-dit's own fields."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, DBPruneConfig
from cache_dit.caching.cache_contexts.calibrators import (
    Calibrator as CacheDitCalibrator,
)
from cache_dit.caching.cache_contexts.calibrators import (
    CalibratorConfig,
    FoCaCalibratorConfig,
    TaylorSeerCalibratorConfig,
)

from cachedit_yaml import CacheditYamlError, ConfigError, compile_adapter
from cachedit_yaml.compiler.cache_dit_source import cache_dit_version, config_fields
from cachedit_yaml.compiler.calibrators import calibrators, has_calibrator
from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.compiler.settings import (
    EXPRESSED_ELSEWHERE,
    Resolved,
    cache_dit_defaults,
)
from cachedit_yaml.language.spec import UNSET, CacheSettings, Calibrator, StepMask
from cachedit_yaml.rules.load import settings_from
from tests.runtime.models import SmallPipeline, adapter, small
from tests.runtime.odd_models import Double

NAME = "residual_diff_threshold"
#: Where a setting may be given, from weak to strong, with the way there in the adapter.
PLACES: tuple[tuple[str, ...], ...] = (
    ("cache",),
    ("transformers", "transformer", "params"),
    ("transformers", "transformer", "blocks", "blocks", "params"),
    ("steps",),
    ("profiles", "chosen"),
    ("profiles", "chosen", "lists", "blocks"),
    ("cache_config",),
)
ORIGINS = (
    "adapter small: cache",
    "adapter small: transformers.transformer.params",
    "adapter small: params of blocks",
    "adapter small: steps up to 20",
    "adapter small: profile chosen",
    "adapter small: profile chosen, list blocks",
    "cache_config",
)


def compiled(places: tuple[int, ...], values: dict[int, Any], name: str = NAME) -> Resolved:
    """Give a setting in some places, and resolve it for the list `blocks` and 10 steps."""
    document: dict[str, Any] = {
        "cache": {},
        "transformers": {
            "transformer": {
                "params": {},
                "blocks": {
                    "blocks": {"pattern": "Pattern_3", "params": {}},
                    "single_blocks": "Pattern_3",
                },
            }
        },
        "steps": [{"max_steps": 20}],
        "profiles": {"chosen": {"lists": {"blocks": {}}}},
        "cache_config": {"Fn_compute_blocks": 1},
    }
    for place in places:
        target = document
        for key in PLACES[place]:
            target = target[key]
        (target[0] if isinstance(target, list) else target)[name] = values[place]
    config = document.pop("cache_config")
    plan = compile_adapter(
        adapter({}, **document), SmallPipeline(Double()), cache_config=config, profile="chosen"
    )
    return plan.transformers[0].lists[0].layers.resolve(10)


VALUES = {place: 0.1 + place / 100 for place in range(len(PLACES))}


@pytest.mark.parametrize("pair", list(itertools.combinations(range(len(PLACES)), 2)))
def test_precedence(pair: tuple[int, int]) -> None:
    """Of any two places, the stronger one wins, and is named."""
    resolved = compiled(pair, VALUES)
    assert resolved.values[NAME] == VALUES[pair[1]]
    assert resolved.origins[NAME] == ORIGINS[pair[1]]


def test_precedence_of_all() -> None:
    for strongest in range(len(PLACES)):
        places = tuple(range(strongest + 1))
        assert compiled(places, VALUES).values[NAME] == VALUES[strongest]
    resolved = compiled((), VALUES)
    assert resolved.values[NAME] == DBCacheConfig().residual_diff_threshold
    assert resolved.origins[NAME] == f"cache-dit {cache_dit_version()}"


def test_null_sets_back() -> None:
    """`null` is a value like any other: it takes back what a weaker place gives."""
    for name, value in (
        ("calibrator", "taylorseer"),
        ("scm", "fast"),
        ("max_accumulated_residual_diff_threshold", 0.5),
        ("force_refresh_step_hint", 4),
    ):
        for place in range(1, len(PLACES)):
            resolved = compiled((0, place), {0: value, place: None}, name)
            assert resolved.values[name] is None
            assert resolved.origins[name] == ORIGINS[place]
            assert resolved.calibrator_config() is None
            config = resolved.cache_config(10, None)
            assert getattr(config, name, None) is None


def test_a_mask_is_replaced_as_a_whole() -> None:
    weak, strong = {"preset": "slow", "policy": "static"}, {"mask": [1, 0, 1]}
    resolved = compiled((0, 6), {0: weak, 6: strong}, "scm")
    assert resolved.scm == StepMask(mask=(1, 0, 1), policy="dynamic")


def plan_of(**more: Any) -> Plan:
    """Compile an adapter for a transformer with two lists."""
    config = more.pop("cache_config", None)
    profile = more.pop("profile", None)
    lists = more.pop("lists", Double.SPEC)
    return compile_adapter(
        adapter(lists, **more), SmallPipeline(Double()), cache_config=config, profile=profile
    )


def test_settings_by_number_of_steps() -> None:
    """The smallest `max_steps` that holds the run wins; without a number none applies."""
    plan = plan_of(
        cache={"Fn_compute_blocks": 1, "max_warmup_steps": 8},
        steps=[
            {"max_steps": 12, "max_warmup_steps": 3, "max_cached_steps": 5},
            {"max_steps": 4, "max_warmup_steps": 1},
            {"max_steps": 8, "max_warmup_steps": 2},
        ],
    )
    layers = plan.transformers[0].lists[0].layers
    for steps, warmup in ((1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (12, 3), (13, 8), (None, 8)):
        resolved = layers.resolve(steps)
        assert resolved.values["max_warmup_steps"] == warmup, steps
        # What the smallest one does not mention comes from the next.
        assert resolved.values["max_cached_steps"] == (5 if steps and steps <= 12 else -1)
    assert len(layers.cases()) == 4


def test_settings_by_number_of_steps_of_the_whole_generation() -> None:
    """Not of a transformer's share of it: a generation of 12 steps is not one of 8."""
    from tests.runtime.models import row, start
    from tests.runtime.test_clock import HandOver, two_transformers

    pipe = HandOver(small(), small(seed=1), (4, 8))
    split = {"count": {"transformer": 4, "transformer_2": -1}}
    spec = two_transformers(
        step_split=split,
        cache={"Fn_compute_blocks": 1, "residual_diff_threshold": 0.99, "max_warmup_steps": 1},
        steps=[{"max_steps": 8, "max_warmup_steps": 8}],
    )
    with start(pipe, spec) as handle:
        pipe(12)
        assert row(handle).cached_steps == (1, 2, 3)


@pytest.mark.parametrize("key", ["blocks", "transformer.blocks"])
def test_profile_for_one_list(key: str) -> None:
    plan = plan_of(
        cache={"Fn_compute_blocks": 1},
        profiles={"fast": {NAME: 0.3, "lists": {key: {NAME: 0.4, "Bn_compute_blocks": 1}}}},
        profile="fast",
    )
    first, second = (item.layers.resolve(None) for item in plan.transformers[0].lists)
    assert (first.values[NAME], first.bn) == (0.4, 1)
    assert (second.values[NAME], second.bn) == (0.3, 0)


def test_unknown_profile() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'fasst'; it has: fast, slow"):
        plan_of(profiles={"slow": {}, "fast": {}}, profile="fasst")
    with pytest.raises(ConfigError, match=r"no profile 'fast'; it has: none"):
        plan_of(profile="fast")


def test_explain_names_the_origin_of_every_value() -> None:
    plan = plan_of(
        lists={"blocks": {"pattern": "Pattern_3", "params": {"Bn_compute_blocks": 1}},
               "single_blocks": "Pattern_3"},
        cache={"max_warmup_steps": 2},
        steps=[{"max_steps": 8, "max_cached_steps": 3}],
        profiles={"fast": {NAME: 0.3, "calibrator": "taylorseer", "scm": "ultra"}},
        profile="fast",
        cache_config={"Fn_compute_blocks": 1},
    )  # fmt: skip
    text = plan.describe(28)
    first = text[text.index("  blocks:") : text.index("  single_blocks:")]
    for line in (
        "  blocks: 4 x Block, Pattern_3",
        "Fn_compute_blocks        1  (cache_config)",
        "Bn_compute_blocks        1  (adapter small: params of blocks)",
        "residual_diff_threshold  0.3  (adapter small: profile fast)",
        "max_warmup_steps         2  (adapter small: cache)",
        "scm                      ultra  (adapter small: profile fast)",
        "calibrator               taylorseer  (adapter small: profile fast)",
    ):
        assert line in first
    assert f"Bn_compute_blocks        0  (cache-dit {cache_dit_version()})" in text
    assert "max_cached_steps" not in text
    assert "max_cached_steps         3  (adapter small: steps up to 8)" in plan.describe(8)


# cache-dit's own objects


def given(config: Any) -> dict[str, Any]:
    """What a config object says."""
    settings = settings_from(config)
    assert settings is not None
    return dict(settings.given())


def test_config_objects() -> None:
    """Only what differs from the class's defaults counts."""
    assert given(DBCacheConfig()) == {"cache_type": "DBCache"}
    assert given(DBCacheConfig(residual_diff_threshold=0.3, max_warmup_steps=8)) == {
        "cache_type": "DBCache",
        "residual_diff_threshold": 0.3,
    }
    assert given(DBCacheConfig().reset(Fn_compute_blocks=2)) == {"Fn_compute_blocks": 2}
    assert given(DBCacheConfig(residual_diff_threshold=torch.tensor(0.5)))[NAME] == 0.5
    assert given(DBPruneConfig(non_prune_block_ids=[0, 3])) == {
        "cache_type": "DBPrune",
        "non_prune_block_ids": (0, 3),
    }
    masked = DBCacheConfig(steps_computation_mask=[1, 0], steps_computation_policy="static")
    assert given(masked)["scm"] == StepMask(mask=(1, 0), policy="static")
    # What the run tells by itself is left to it.
    told = DBCacheConfig(enable_separate_cfg=True, num_inference_steps=28)
    assert given(told) == {"cache_type": "DBCache"}
    assert settings_from(None) is None
    assert settings_from(CacheSettings(max_warmup_steps=3)) == CacheSettings(max_warmup_steps=3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "must be a mapping, a DBCacheConfig or a DBPruneConfig, not int"),
        (TaylorSeerCalibratorConfig(), "not TaylorSeerCalibratorConfig"),
        (DBCacheConfig(cache_type=cache_dit.CacheType.NONE), "expected DBCache or DBPrune"),
        (DBCacheConfig(residual_diff_threshold=2.0), "residual_diff_threshold"),
        (DBCacheConfig(steps_computation_policy="static"), "and no steps_computation_mask"),
        ({"residual_diff_treshold": 0.1}, "residual_diff_threshold"),
        ({"num_inference_steps": 28}, "the number of steps comes from the run"),
        ({"max_warmup_steps": "4"}, "max_warmup_steps"),
    ],
)
def test_config_that_is_wrong(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_from(config)


def test_config_is_never_changed() -> None:
    for config in (
        DBCacheConfig(Fn_compute_blocks=1, steps_computation_mask=[1] * 10),
        DBPruneConfig(Fn_compute_blocks=1, non_prune_block_ids=[1]),
        {"Fn_compute_blocks": 1, "scm": {"mask": [1] * 10}},
    ):
        before = copy.deepcopy(config)
        plan = (
            plan_of(cache_config=config, lists={"blocks": "Pattern_3"})
            if not isinstance(config, DBPruneConfig)
            else None
        )
        if plan is None:
            settings_from(config)
        else:
            built = plan.transformers[0].lists[0].layers.resolve(10).cache_config(10, [1] * 10)
            built.steps_computation_mask.append(7)
            built.Fn_compute_blocks = 99
        assert config == before


def test_configs_are_built_anew() -> None:
    """No list shares an object with another, or with the adapter."""
    plan = plan_of(cache={"Fn_compute_blocks": 1, "calibrator": "dmd", "scm": {"mask": [1, 1]}})
    resolved = plan.transformers[0].lists[0].layers.resolve(2)
    mask = [1, 1]
    one, other = (resolved.cache_config(2, mask) for _ in range(2))
    assert one == other
    assert one is not other
    assert one.steps_computation_mask is not other.steps_computation_mask
    assert one.steps_computation_mask is not mask
    first, second = (resolved.calibrator_config() for _ in range(2))
    assert first == second
    assert first is not second
    assert first is not None
    assert first.calibrator_kwargs is not second.calibrator_kwargs  # type: ignore[union-attr]


# What cache-dit has, and what the language has


def fields_of(cls: Any) -> set[str]:
    """The names of a dataclass's fields."""
    return {item.name for item in dataclasses.fields(cls)}


def test_fields_of_the_configs() -> None:
    """Fails where cache-dit adds or drops a field: then the language has to follow."""
    theirs = fields_of(DBCacheConfig) | fields_of(DBPruneConfig)
    ours = fields_of(CacheSettings)
    own = {"cache_type", "scm", "calibrator", "batch"}
    assert theirs - EXPRESSED_ELSEWHERE.keys() == ours - own
    assert EXPRESSED_ELSEWHERE.keys() <= theirs
    assert cache_dit_defaults().keys() == ours


def test_defaults_are_read_as_cache_dit_has_them() -> None:
    """From its source, without importing it."""
    for cls in (DBCacheConfig, DBPruneConfig):
        theirs = dataclasses.asdict(cls())
        assert config_fields()[cls.__name__] == {**theirs, "cache_type": str(theirs["cache_type"])}


def test_a_cache_dit_whose_source_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache_dit").mkdir()
    (tmp_path / "cache_dit" / "__init__.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cache_dit"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"the defaults of cache-dit in .* cannot be read"):
        config_fields.__wrapped__()


def test_fields_of_the_calibrators() -> None:
    theirs = set().union(*(fields_of(cls) for cls in calibrators().values()))
    assert theirs - {"calibrator_type", "calibrator_kwargs"} == fields_of(Calibrator) - {"type"}
    # Every calibrator of cache-dit has a name here.
    known = set(calibrators().values())
    subclasses = set(CalibratorConfig.__subclasses__())
    assert known == subclasses


@pytest.mark.parametrize("name", list(calibrators()))
def test_defaults_of_the_calibrators(name: str) -> None:
    """A calibrator that is only named is what cache-dit makes of its own defaults."""
    if not has_calibrator(name):
        with pytest.raises(CacheditYamlError, match=f"has no calibrator '{name}'"):
            compiled((0,), {0: name}, "calibrator")
        return
    resolved = compiled((0,), {0: name}, "calibrator")
    config = resolved.calibrator_config()
    assert config is not None
    theirs = dataclasses.asdict(calibrators()[name]())
    ours = dataclasses.asdict(config)
    assert {key: ours[key] for key in theirs if key != "calibrator_kwargs"} == {
        key: value for key, value in theirs.items() if key != "calibrator_kwargs"
    }
    assert CacheDitCalibrator(config) is not None
    assert config.to_kwargs() == calibrators()[name]().to_kwargs()


def test_defaults_of_the_configs() -> None:
    """Settings that nobody gives are cache-dit's own defaults, in either config."""
    plan = plan_of(cache={"Fn_compute_blocks": 1})
    resolved = plan.transformers[0].lists[0].layers.resolve(None)
    config = resolved.cache_config(None, None, owns_refresh=False)
    expected = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=False)
    assert config == expected
    prune = Resolved({**resolved.values, "cache_type": "DBPrune"}, resolved.origins)
    assert prune.cache_config(None, None) == DBPruneConfig(
        Fn_compute_blocks=1, enable_separate_cfg=False, cache_type=cache_dit.CacheType.DBPrune
    )


def test_calibrator_options() -> None:
    resolved = compiled(
        (0,), {0: {"type": "taylorseer", "taylorseer_order": 3,
                   "enable_encoder_calibrator": False}}, "calibrator",
    )  # fmt: skip
    config = resolved.calibrator_config()
    assert isinstance(config, TaylorSeerCalibratorConfig)
    assert (config.taylorseer_order, config.enable_encoder_calibrator) == (3, False)
    if has_calibrator("foca"):
        foca = compiled((0,), {0: "foca"}, "calibrator").calibrator_config()
        assert type(foca) is FoCaCalibratorConfig
    assert compiled((0,), {0: "none"}, "calibrator").calibrator_config() is None
    with pytest.raises(CacheditYamlError, match="dmd_history"):
        compiled((0,), {0: {"type": "taylorseer", "dmd_history": 4}}, "calibrator")


def test_unset_is_no_value() -> None:
    assert repr(UNSET) == "UNSET"
    assert dict(CacheSettings().given()) == {}
    assert dict(CacheSettings(scm=None).given()) == {"scm": None}
