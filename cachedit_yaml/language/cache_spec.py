"""Settings of the cache in the adapter language: layers, masks, calibrators, profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

from cachedit_yaml.language.keys import UNSET, Unset

#: Settings of its own that a list has which follows another one.
OWN: Final = ("Bn_compute_blocks", "calibrator")

MaskPreset = Literal["slow", "medium", "fast", "ultra"]
MaskPolicy = Literal["dynamic", "static"]


@dataclass(frozen=True, kw_only=True)
class StepMask:
    """Step computation mask (SCM): the steps that must be computed.

    Shorthand: a preset's name. Exactly one of ``preset``, ``mask`` or the two bins is given.
    """

    SHORTHAND: ClassVar[str] = "preset"
    ATOMIC: ClassVar[bool] = True

    preset: MaskPreset | None = None
    compute_bins: tuple[int, ...] | None = None
    cache_bins: tuple[int, ...] | None = None
    mask: tuple[Literal[0, 1], ...] | None = None
    policy: MaskPolicy = "dynamic"


@dataclass(frozen=True, kw_only=True)
class Calibrator:
    """How a skipped step is forecast instead of repeated. Shorthand: the calibrator's name."""

    SHORTHAND: ClassVar[str] = "type"
    ATOMIC: ClassVar[bool] = True

    type: Literal["taylorseer", "foca", "dmd", "none"]
    enable_calibrator: bool = True
    enable_encoder_calibrator: bool = True
    calibrator_cache_type: Literal["residual", "hidden_states"] = "residual"
    taylorseer_order: int = 1
    dmd_history: int = 6
    dmd_rank: int = 0
    dmd_ridge: float = 1e-8
    dmd_svd_precision: Literal["low", "medium", "high"] = "medium"


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Settings of the cache: cache-dit's DBCache and DBPrune fields, the mask, the calibrator.

    A field that a layer does not mention is :data:`UNSET`; ``null`` sets a field back to none.
    """

    cache_type: Literal["DBCache", "DBPrune"] | Unset = UNSET
    Fn_compute_blocks: int | Unset = UNSET
    Bn_compute_blocks: int | Unset = UNSET
    residual_diff_threshold: float | Unset = UNSET
    max_accumulated_residual_diff_threshold: float | Unset | None = UNSET
    max_warmup_steps: int | Unset = UNSET
    warmup_interval: int | Unset = UNSET
    max_cached_steps: int | Unset = UNSET
    max_continuous_cached_steps: int | Unset = UNSET
    cfg_compute_first: bool | Unset = UNSET
    cfg_diff_compute_separate: bool | Unset = UNSET
    force_refresh_step_hint: int | Unset | None = UNSET
    force_refresh_step_policy: Literal["once", "repeat"] | Unset = UNSET
    enable_dynamic_prune_threshold: bool | Unset = UNSET
    max_dynamic_prune_threshold: float | Unset | None = UNSET
    dynamic_prune_threshold_relax_ratio: float | Unset = UNSET
    non_prune_block_ids: tuple[int, ...] | Unset = UNSET
    force_reduce_calibrator_vram: bool | Unset = UNSET
    scm: StepMask | Unset | None = UNSET
    calibrator: Calibrator | Unset | None = UNSET
    batch: Literal["per_sample", "worst", "mean"] | Unset = UNSET

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each setting that this layer mentions."""
        for item in fields(CacheSettings):
            value = getattr(self, item.name)
            if value is not UNSET:
                yield item.name, value


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How near a cached result came to the uncached one: PSNR in dB over several images."""

    pooled: float | None = None
    mean: float | None = None
    worst: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Where the settings beside it come from. Only people read it; it changes nothing."""

    model: str
    steps: int
    prompts: int | None = None
    blocks: float | None = None
    psnr: Quality | None = None
    ssim: float | None = None
    versions: Mapping[str, str] | None = None
    device: str | None = None
    date: str | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredSettings(CacheSettings):
    """Settings that may say where they were measured."""

    measured: Measured | None = None


@dataclass(frozen=True, kw_only=True)
class Profile(MeasuredSettings):
    """A named set of settings that a user picks by name."""

    description: str | None = None
    lists: Mapping[str, CacheSettings] | None = None


@dataclass(frozen=True, kw_only=True)
class StepDefaults(CacheSettings):
    """Settings for generations of at most ``max_steps`` steps (distilled models)."""

    max_steps: int
