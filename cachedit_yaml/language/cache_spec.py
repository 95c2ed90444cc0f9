"""Settings of the cache in the adapter language: layers, masks, calibrators, profiles."""

# `key` makes dataclass fields, which is what this rule looks for.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from cachedit_yaml.language.keys import ATTRIBUTE_PATH, NAME, UNSET, Unset, key

MaskPreset = Literal["slow", "medium", "fast", "ultra"]
MaskPolicy = Literal["dynamic", "static"]


@dataclass(frozen=True, kw_only=True)
class StepMask:
    """Step computation mask (SCM): the steps that must be computed.

    Shorthand: a preset's name. Exactly one of ``preset``, ``mask`` or the two bins is given.
    """

    ONE_OF: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("preset",),
        ("mask",),
        ("compute_bins", "cache_bins"),
    )

    preset: MaskPreset | None = key("A preset of cache-dit, made for any number of steps.")
    compute_bins: tuple[int, ...] | None = key(
        "Lengths of the runs of computed steps, taken in turn with `cache_bins`.",
        minimum=1,
        min_items=1,
        max_items=256,
    )
    cache_bins: tuple[int, ...] | None = key(
        "Lengths of the runs of cached steps, taken in turn with `compute_bins`.",
        minimum=1,
        min_items=1,
        max_items=256,
    )
    mask: tuple[Literal[0, 1], ...] | None = key(
        "One number for each step: 1 computes the step, 0 may serve it from the cache.",
        min_items=1,
        max_items=1000,
    )
    policy: MaskPolicy = key(
        "`dynamic` asks the residual difference on the cached steps, `static` always hits.",
        default="dynamic",
    )


@dataclass(frozen=True, kw_only=True)
class Calibrator:
    """How a skipped step is forecast instead of repeated. Shorthand: the calibrator's name."""

    type: Literal["taylorseer", "foca", "dmd", "none"] = key(
        "TaylorSeer (arXiv:2503.06923), FoCa (arXiv:2508.16211), DMD (dynamic mode "
        "decomposition), or none.",
        required=True,
    )
    enable_calibrator: bool = key("Forecast hidden_states.", default=True)
    enable_encoder_calibrator: bool = key("Forecast encoder_hidden_states.", default=True)
    calibrator_cache_type: Literal["residual", "hidden_states"] = key(
        "What is forecast: the residual of the skipped blocks, or their output.",
        default="residual",
    )
    taylorseer_order: int = key("Order of the Taylor expansion.", default=1, minimum=1, maximum=4)
    dmd_history: int = key("Computed steps that DMD remembers.", default=6, minimum=2, maximum=64)
    dmd_rank: int = key("Rank of the DMD; 0 chooses it.", default=0, minimum=0, maximum=64)
    dmd_ridge: float = key("Tikhonov term of the DMD.", default=1e-8, minimum=0)
    dmd_svd_precision: Literal["low", "medium", "high"] = key(
        "Precision of the DMD's SVD.", default="medium"
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Settings of the cache: cache-dit's DBCache and DBPrune fields, the mask, the calibrator.

    A field that a layer does not mention is :data:`UNSET`; ``null`` sets a field back to none.
    """

    cache_type: Literal["DBCache", "DBPrune"] | Unset = key(
        "DBCache skips the middle blocks of a step together, DBPrune decides block by block "
        "(native execution only).",
        default=UNSET,
    )
    Fn_compute_blocks: int | Unset = key(
        "F: first blocks of a list that always run; their residual decides whether to hit.",
        default=UNSET,
        minimum=1,
        maximum=1000,
    )
    Bn_compute_blocks: int | Unset = key(
        "B: last blocks of a list that always run.", default=UNSET, minimum=0, maximum=1000
    )
    residual_diff_threshold: float | Unset = key(
        "Hit when the relative difference of the residual after F blocks is below this. "
        "0 never hits; 1 and above would always hit and are refused.",
        default=UNSET,
        minimum=0,
        below=1,
    )
    max_accumulated_residual_diff_threshold: float | Unset | None = key(
        "Stop hitting once the differences of a generation add up to this.",
        default=UNSET,
        above=0,
        nullable=True,
    )
    max_warmup_steps: int | Unset = key(
        "Computed steps at the start of each transformer's share of a generation.",
        default=UNSET,
        minimum=0,
        maximum=10000,
    )
    warmup_interval: int | Unset = key(
        "Within the warm-up, compute only every so many steps.",
        default=UNSET,
        minimum=1,
        maximum=1000,
    )
    max_cached_steps: int | Unset = key(
        "At most this many cached steps a generation; -1 for no limit.",
        default=UNSET,
        minimum=-1,
        maximum=10000,
    )
    max_continuous_cached_steps: int | Unset = key(
        "At most this many cached steps in a row; -1 for no limit.",
        default=UNSET,
        minimum=-1,
        maximum=10000,
    )
    cfg_compute_first: bool | Unset = key(
        "Native execution: the guidance branch runs before the main one.", default=UNSET
    )
    cfg_diff_compute_separate: bool | Unset = key(
        "Each guidance branch decides by its own difference; false: by the first branch's.",
        default=UNSET,
    )
    force_refresh_step_hint: int | Unset | None = key(
        "Start the cache anew at this step, because the input changes there.",
        default=UNSET,
        minimum=1,
        maximum=10000,
        nullable=True,
    )
    force_refresh_step_policy: Literal["once", "repeat"] | Unset = key(
        "Refresh at that step only, or every so many steps.", default=UNSET
    )
    enable_dynamic_prune_threshold: bool | Unset = key(
        "DBPrune: derive the threshold from the differences of this step.", default=UNSET
    )
    max_dynamic_prune_threshold: float | Unset | None = key(
        "DBPrune: upper bound of the derived threshold.",
        default=UNSET,
        minimum=0,
        nullable=True,
    )
    dynamic_prune_threshold_relax_ratio: float | Unset = key(
        "DBPrune: the derived threshold is the mean difference times this.",
        default=UNSET,
        above=0,
    )
    non_prune_block_ids: tuple[int, ...] | Unset = key(
        "DBPrune: indices of blocks that always run.", default=UNSET, minimum=0, max_items=1000
    )
    force_reduce_calibrator_vram: bool | Unset = key(
        "DBPrune: keep smaller buffers for the calibrator.", default=UNSET
    )
    scm: StepMask | Unset | None = key(
        "Step computation mask: a preset's name, or a mapping.",
        default=UNSET,
        nullable=True,
        shorthand="preset",
        atomic=True,
    )
    calibrator: Calibrator | Unset | None = key(
        "Forecast skipped steps: a calibrator's name, or a mapping.",
        default=UNSET,
        nullable=True,
        shorthand="type",
        atomic=True,
    )

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each setting that this layer mentions."""
        for item in fields(CacheSettings):
            value = getattr(self, item.name)
            if value is not UNSET:
                yield item.name, value


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How near a cached result came to the uncached one: PSNR in dB over several images."""

    pooled: float | None = key("Over all pixels of all images.")
    mean: float | None = key("The mean of the images.")
    worst: float | None = key("The worst image.")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Where the settings beside it come from. Only people read it; it changes nothing."""

    model: str = key("The model, by its id.", required=True)
    steps: int = key("Steps of each generation.", required=True, minimum=1)
    prompts: int | None = key("How many prompts or labels were tried.", minimum=1)
    blocks: float | None = key("The share of the blocks that was computed.", above=0, maximum=1)
    psnr: Quality | None = key("PSNR against the uncached result, in dB.")
    ssim: float | None = key("SSIM against the uncached result.", minimum=-1, maximum=1)
    versions: Mapping[str, str] | None = key("Versions, by distribution.", key_pattern=NAME)
    device: str | None = key("What it ran on.")
    date: str | None = key(
        "The day, as 2026-01-31.", pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
    )


@dataclass(frozen=True, kw_only=True)
class MeasuredSettings(CacheSettings):
    """Settings that may say where they were measured."""

    measured: Measured | None = key(
        "Where the settings beside it were measured, and how near they came."
    )


@dataclass(frozen=True, kw_only=True)
class Profile(MeasuredSettings):
    """A named set of settings that a user picks by name."""

    description: str | None = key("What this profile trades for what.")
    lists: Mapping[str, CacheSettings] | None = key(
        "Settings for single block lists, by `transformer.list` or, where that is clear, `list`.",
        key_pattern=ATTRIBUTE_PATH,
    )


@dataclass(frozen=True, kw_only=True)
class StepDefaults(CacheSettings):
    """Settings for generations of at most ``max_steps`` steps (distilled models)."""

    max_steps: int = key(
        "Applies to generations of at most this many steps.", required=True, minimum=1
    )
