"""vLLM-Omni's configs: deploy YAML, its arguments, and the JSON of ``--cache-config``.

The tests compare the settings with the dataclass of the installed package.
"""

# `key` makes dataclass fields, which is what this rule looks for.
# ruff: noqa: RUF009

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from cachedit_yaml.engines.configs import ConfigFiles, Part
from cachedit_yaml.language.cache_spec import CacheSettings
from cachedit_yaml.language.keys import key
from cachedit_yaml.rules.checks.context import items, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath


@dataclass(frozen=True, kw_only=True)
class Settings(CacheSettings):
    """`cache_config` of a stage or the command line, with this package's keys."""

    FOREIGN: ClassVar[Mapping[str, str]] = {
        "enable_separate_cfg": "leave it out: the run shows it",
        "steps_computation_mask": "it is called 'scm_steps_mask_policy' here",
        "steps_computation_policy": "it is called 'scm_steps_policy' here",
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "enable_encoder_taylorseer": "write 'calibrator: {type: taylorseer, "
        "enable_encoder_calibrator: true}'",
        "profiles": "pick one with 'profile: NAME'",
    }

    adapter: str | None = key("Name or path of an adapter, or `engine`.", nullable=True)
    profile: str | None = key("One of its profiles.", nullable=True)
    execution: Literal["loop", "native"] = key("How it runs.", default="loop")
    enable_taylorseer: bool = key("Forecast with TaylorSeer.", default=False)
    taylorseer_order: int = key("Order.", default=1, minimum=1, maximum=4)
    scm_steps_mask_policy: Literal["slow", "medium", "fast", "ultra"] | None = key(
        "Mask.", nullable=True
    )
    scm_steps_policy: Literal["dynamic", "static"] = key("Policy.", default="dynamic")
    num_inference_steps: int | None = key("Steps.", minimum=1, maximum=10000, nullable=True)
    # Of the engine's other cache backends, by name; the values are the engine's own business.
    rel_l1_thresh: Any = key("tea_cache")
    coefficients: Any = key("tea_cache")
    sea_threshold: Any = key("sea_cache")
    sea_residual_order: Any = key("sea_cache")
    sea_max_consecutive_cached: Any = key("sea_cache")
    sea_power_exp: Any = key("sea_cache")
    mag_threshold: Any = key("mag_cache")
    mag_max_skip_steps: Any = key("mag_cache")
    mag_retention_ratio: Any = key("mag_cache")
    mag_ratios: Any = key("mag_cache")
    mag_calibrate: Any = key("mag_cache")
    step_cache_dit_enabled: Any = key("step_cache")
    velocity_sim_thresholds: Any = key("step_cache")
    velocity_skip_countdowns: Any = key("step_cache")
    step_cache_dit_min_history: Any = key("step_cache")
    step_cache_dit_max_history: Any = key("step_cache")


class Files(ConfigFiles):
    """A file with ``stages:`` or ``cache_backend:``, or of settings alone."""

    settings = Settings
    others: ClassVar[Mapping[str, str]] = {
        item.name: item.metadata["doc"]
        for item in dataclasses.fields(Settings)
        if item.type == "Any"
    }
    only = frozenset(
        {"adapter", "profile", "execution", "scm_steps_mask_policy", "scm_steps_policy"}
    )

    def has(self, data: Mapping[str, Any]) -> bool:
        """Whether it names a backend, or has stages that are this engine's."""
        marks = ("cache_backend", "cache_config", "stage_id")
        stages = [mapping(stage) for stage in items(data.get("stages"))]
        return "cache_backend" in data or any(name in stage for stage in stages for name in marks)

    def parts(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """Those of its stages, of all stages, or the whole of it."""
        if "stages" not in data and "cache_backend" not in data:
            yield Part((), Settings)
            return
        if "cache_config" in data or "cache_backend" in data:
            yield Part(("cache_config",), Settings, data.get("cache_backend"), ())
        for index, stage in enumerate(items(data.get("stages"))):
            path: KeyPath = ("stages", index)
            if "cache_config" in mapping(stage):
                backend = mapping(stage).get("cache_backend")
                yield Part((*path, "cache_config"), Settings, backend, path)


FILES: Final = Files()
