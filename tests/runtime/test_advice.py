"""`stats()` says where settings are known to do badly, and says nothing where they are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cachedit_yaml
from benchmarks.subjects import Size, build, inputs, own_adapter
from cachedit_yaml.registry.registry import Registry

STEPS = 16


def said(**settings: Any) -> list[str]:
    """The warnings of one generation."""
    model = build(Size(4, 64, 16))
    config = {"residual_diff_threshold": 0.9, **settings}
    with cachedit_yaml.enable_transformer(model, own_adapter(), cache_config=config) as handle:
        handle.refresh(STEPS)
        with torch.no_grad():
            for arguments in inputs(Size(4, 64, 16), STEPS):
                model(**arguments)
        stats = handle.stats()
        assert stats.branches[0].cached_steps
        return list(stats.warnings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {
                "max_warmup_steps": 4,
                "calibrator": "taylorseer",
                "max_continuous_cached_steps": 6,
            },
            "max_warmup_steps 4 with TaylorSeer and 6 cached steps in a row",
        ),
        (
            {
                "max_warmup_steps": 1,
                "calibrator": {"type": "taylorseer", "taylorseer_order": 2},
            },
            "TaylorSeer of order 2 where 25% of the steps are computed",
        ),
        (
            {"max_warmup_steps": 4, "calibrator": "taylorseer", "scm": "fast"},
            "the scm preset fast after max_warmup_steps 4",
        ),
    ],
)
def test_what_is_known_to_be_bad_is_said(settings: dict[str, Any], words: str) -> None:
    (warning,) = said(**settings)
    assert words in warning


@pytest.mark.parametrize(
    "settings",
    [
        {"max_warmup_steps": 1, "calibrator": "taylorseer"},
        {"max_warmup_steps": 4},
        {"max_warmup_steps": 4, "calibrator": "taylorseer", "max_continuous_cached_steps": 3},
        {"max_warmup_steps": 8, "calibrator": "taylorseer", "max_continuous_cached_steps": 6},
        {"max_warmup_steps": 1, "calibrator": "taylorseer", "scm": "fast"},
        {"max_warmup_steps": 4, "scm": "fast"},
        {
            "max_warmup_steps": 1,
            "calibrator": {"type": "taylorseer", "taylorseer_order": 2},
            "scm": "ultra",
        },
        {
            "max_warmup_steps": 1,
            "calibrator": {"type": "taylorseer", "taylorseer_order": 2},
            "max_cached_steps": 6,
        },
    ],
)
def test_what_is_not_is_not(settings: dict[str, Any]) -> None:
    assert said(**settings) == []


def test_no_shipped_profile_is_one_of_them() -> None:
    """Whichever engine asks: what `stats()` warns of is nothing that we suggest."""
    for entry in Registry.load().adapters():
        for engine in entry.engines:
            spec = entry.with_probe(engine)
            for name, profile in (spec.profiles or {}).items():
                settings = {**dict(spec.cache.given()), **dict(profile.given())}
                forecast = settings.get("calibrator")
                if forecast is None or forecast.type != "taylorseer":
                    continue
                warmup = settings["max_warmup_steps"]
                row = settings["max_continuous_cached_steps"]
                fine = settings.get("scm") is not None or warmup < 3 or row < max(4, warmup)
                assert fine, (entry.name, engine, name)
