"""What the cache settings of an engine's config say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cachedit_yaml.rules.checks.context import Context, is_count, items
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document

#: Settings that have no effect unless another one is given (and true).
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "enable_encoder_taylorseer": ("enable_taylorseer",),
    "taylorseer_order": ("enable_taylorseer",),
    "taylorseer_cache_type": ("enable_taylorseer",),
    "enable_encoder_dmd": ("enable_dmd",),
    "dmd_history": ("enable_dmd",),
    "dmd_rank": ("enable_dmd",),
    "dmd_ridge": ("enable_dmd",),
    "dmd_svd_precision": ("enable_dmd",),
    "enable_encoder_foca": ("enable_foca",),
    "calibrator_cache_type": ("enable_dmd", "enable_foca"),
    "steps_computation_policy": ("steps_computation_mask",),
    "scm_steps_policy": ("scm_steps_mask_policy",),
    "force_refresh_step_policy": ("force_refresh_step_hint",),
    "profile": ("adapter",),
}
_CALIBRATORS: Final = ("enable_taylorseer", "enable_dmd", "enable_foca")
_NEVER: Final[Mapping[str, str]] = {
    "max_cached_steps": "no step may be cached",
    "max_continuous_cached_steps": "no step may be cached",
    "residual_diff_threshold": "no difference is below 0",
}
_LIMITS: Final = ("max_cached_steps", "max_continuous_cached_steps")


def check_settings(
    settings: Mapping[str, Any], path: KeyPath, document: Document, others: Mapping[str, str]
) -> list[Diagnostic]:
    """Check one mapping of cache settings.

    Args:
        settings: the mapping.
        path: the keys that lead there.
        document: the file.
        others: settings that only another cache backend reads, and its name.
    """
    context = Context(settings, document)

    def at(name: str) -> KeyPath:
        return (*path, name)

    _calibrators(context, settings, path)
    for name, needed in _NEEDS.items():
        # An adapter is also found by the class of the pipeline, so a profile may stand alone.
        if name == "profile" or name not in settings:
            continue
        if not any(settings.get(other) for other in needed):
            context.report(
                "config-ignored", f"{name!r} has no effect without {needed[0]!r}", at(name),
                key=True, hint=f"add '{needed[0]}', or remove it",
            )  # fmt: skip
    for name in settings:
        if name in others:
            context.report(
                "config-ignored", f"{name!r} is a setting of {others[name]}, which cache_dit does "
                "not read", at(name), key=True, hint="remove it",
            )  # fmt: skip
    _mask(context, settings, path)
    for name, why in _NEVER.items():
        value = settings.get(name)
        if value == 0 and value is not False and value is not None:
            context.report("config-never-hits", f"{name!r} is 0, so {why}", at(name))
    steps, warmup = settings.get("num_inference_steps"), settings.get("max_warmup_steps")
    if is_count(steps) and is_count(warmup) and 1 < steps <= warmup:
        context.report(
            "config-never-hits", f"the run has {steps} steps, and the warm-up takes {warmup}",
            at("max_warmup_steps"), related=("the steps", at("num_inference_steps")),
        )  # fmt: skip
    return context.diagnostics


def _calibrators(context: Context, settings: Mapping[str, Any], path: KeyPath) -> None:
    on = [name for name in _CALIBRATORS if settings.get(name) is True]
    if settings.get("calibrator") not in (None, "none") and on:
        on.append("calibrator")
    if len(on) > 1:
        context.report(
            "two-calibrators", f"{on[0]!r} and {on[1]!r} exclude each other", (*path, on[1]),
            key=True, related=("the other", (*path, on[0])), hint="keep one of them",
        )  # fmt: skip


def _mask(context: Context, settings: Mapping[str, Any], path: KeyPath) -> None:
    mask, steps = settings.get("steps_computation_mask"), settings.get("num_inference_steps")
    here: KeyPath = (*path, "steps_computation_mask")
    if isinstance(mask, str) and "num_inference_steps" not in settings:
        context.report(
            "config-wrong-value", "a mask by name needs the number of steps", here,
            hint="add 'num_inference_steps'",
        )  # fmt: skip
    numbers = items(mask)
    if numbers and is_count(steps) and len(numbers) != steps:
        context.report(
            "config-wrong-value", f"the mask has {len(numbers)} entries, and the run {steps} steps",
            here, related=("the steps", (*path, "num_inference_steps")),
        )  # fmt: skip
    if len(numbers) > 1 and all(item == 1 and item is not True for item in numbers):
        context.report("config-never-hits", "the mask computes every step", here)
    if mask and settings.get("steps_computation_policy") == "static":
        for name in _LIMITS:
            if settings.get(name, -1) not in (-1, None, 0):
                context.report(
                    "config-ignored", f"{name!r} has no effect beside a static mask", (*path, name),
                    key=True, related=("the mask", here),
                )  # fmt: skip
