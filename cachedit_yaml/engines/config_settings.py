"""The cache settings of cache-dit, vLLM-Omni and SGLang, declared like the language itself.

The tests compare these with the dataclasses of the installed packages.
"""

# `key` makes dataclass fields, which is what this rule looks for.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from cachedit_yaml.language.cache_spec import CacheSettings
from cachedit_yaml.language.keys import key

_TAYLORSEER: Final = "write 'enable_taylorseer: true'"


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The fields that cache-dit's configs and vLLM-Omni's `cache_config` share."""

    Fn_compute_blocks: int = key("F.", default=8, minimum=1, maximum=1000)
    Bn_compute_blocks: int = key("B.", default=0, minimum=0, maximum=1000)
    residual_diff_threshold: float = key("Threshold.", default=0.08, minimum=0, below=1)
    max_warmup_steps: int = key("Warm-up.", default=8, minimum=0, maximum=10000)
    max_cached_steps: int = key("Limit.", default=-1, minimum=-1, maximum=10000)
    max_continuous_cached_steps: int = key("Limit in a row.", default=-1, minimum=-1, maximum=10000)
    enable_taylorseer: bool = key("Forecast with TaylorSeer.", default=False)
    taylorseer_order: int = key("Order.", default=1, minimum=1, maximum=4)
    num_inference_steps: int | None = key("Steps.", minimum=1, maximum=10000, nullable=True)
    force_refresh_step_hint: int | None = key("Refresh.", minimum=1, maximum=10000, nullable=True)
    force_refresh_step_policy: Literal["once", "repeat"] = key("How often.", default="once")


@dataclass(frozen=True, kw_only=True)
class CacheDitSettings(DiTConfig):
    """cache-dit: `cache_config` of a `load_configs` file, or the older flat form."""

    #: Names from elsewhere, and what to write here.
    FOREIGN: ClassVar[Mapping[str, str]] = {
        "scm_steps_mask_policy": "it is called 'steps_computation_mask' here",
        "scm_steps_policy": "it is called 'steps_computation_policy' here",
        "has_separate_cfg": "it is called 'enable_separate_cfg' here",
        "scm": "write 'steps_computation_mask: medium' and 'num_inference_steps'",
        "calibrator": _TAYLORSEER,
        "calibrator_config": _TAYLORSEER,
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "rel_l1_thresh": "it is called 'residual_diff_threshold' here",
    }

    cache_type: Literal["DBCache", "DBPrune"] = key("Kind.", default="DBCache")
    max_accumulated_residual_diff_threshold: float | None = key("Sum.", above=0, nullable=True)
    warmup_interval: int = key("Interval.", default=1, minimum=1, maximum=1000)
    enable_separate_cfg: bool | None = key("Two forwards a step.", nullable=True)
    cfg_compute_first: bool = key("Order of the branches.", default=False)
    cfg_diff_compute_separate: bool = key("A difference for each branch.", default=True)
    steps_computation_mask: (
        Literal["slow", "medium", "fast", "ultra"] | tuple[Literal[0, 1], ...] | None
    ) = key("Mask.", min_items=1, max_items=1000, nullable=True)
    steps_computation_policy: Literal["dynamic", "static"] = key("Policy.", default="dynamic")
    enable_encoder_taylorseer: bool = key("For the encoder too.", default=False)
    taylorseer_cache_type: Literal["residual", "hidden_states"] = key("What.", default="residual")
    calibrator_cache_type: Literal["residual", "hidden_states"] = key("What.", default="residual")
    enable_dmd: bool = key("Forecast with DMD.", default=False)
    enable_encoder_dmd: bool = key("For the encoder too.", default=False)
    dmd_history: int = key("Steps.", default=6, minimum=2, maximum=64)
    dmd_rank: int = key("Rank.", default=0, minimum=0, maximum=64)
    dmd_ridge: float = key("Ridge.", default=1e-8, minimum=0)
    dmd_svd_precision: Literal["low", "medium", "high"] = key("Precision.", default="medium")
    enable_foca: bool = key("Forecast with FoCa.", default=False)
    enable_encoder_foca: bool = key("For the encoder too.", default=False)
    enable_dynamic_prune_threshold: bool = key("DBPrune.", default=False)
    max_dynamic_prune_threshold: float | None = key("DBPrune.", minimum=0, nullable=True)
    dynamic_prune_threshold_relax_ratio: float = key("DBPrune.", default=1.25, above=0)
    non_prune_block_ids: tuple[int, ...] = key("DBPrune.", default=(), minimum=0, max_items=1000)
    force_reduce_calibrator_vram: bool = key("DBPrune.", default=False)


@dataclass(frozen=True, kw_only=True)
class VllmOmniSettings(CacheSettings):
    """vLLM-Omni: `cache_config` of a stage or the command line, with this package's keys."""

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
    # Of the engine's other cache backends, whose values are the engine's own business.
    rel_l1_thresh: Any = key("TeaCache.")
    coefficients: Any = key("TeaCache.")
    sea_threshold: Any = key("SeaCache.")
    sea_residual_order: Any = key("SeaCache.")
    sea_max_consecutive_cached: Any = key("SeaCache.")
    sea_power_exp: Any = key("SeaCache.")
    mag_threshold: Any = key("MagCache.")
    mag_max_skip_steps: Any = key("MagCache.")
    mag_retention_ratio: Any = key("MagCache.")
    mag_ratios: Any = key("MagCache.")
    mag_calibrate: Any = key("MagCache.")
    step_cache_dit_enabled: Any = key("step_cache.")
    velocity_sim_thresholds: Any = key("step_cache.")
    velocity_skip_countdowns: Any = key("step_cache.")
    step_cache_dit_min_history: Any = key("step_cache.")
    step_cache_dit_max_history: Any = key("step_cache.")


#: Settings of vLLM-Omni's other cache backends, and which one reads them.
OTHER_BACKENDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("rel_l1_thresh", "coefficients"), "tea_cache"),
    **dict.fromkeys(
        ("sea_threshold", "sea_residual_order", "sea_max_consecutive_cached", "sea_power_exp"),
        "sea_cache",
    ),
    **dict.fromkeys(
        (
            "mag_threshold",
            "mag_max_skip_steps",
            "mag_retention_ratio",
            "mag_ratios",
            "mag_calibrate",
        ),
        "mag_cache",
    ),
    **dict.fromkeys(
        (
            "step_cache_dit_enabled",
            "velocity_sim_thresholds",
            "velocity_skip_countdowns",
            "step_cache_dit_min_history",
            "step_cache_dit_max_history",
        ),
        "step_cache",
    ),
}
