"""One mapping of cache settings: what takes the effect of what away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cachedit_yaml.rules.checks import masks
from cachedit_yaml.rules.checks.context import Context, is_count, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath

#: Which calibrators an option belongs to.
_CALIBRATOR_OPTIONS: Final[Mapping[str, str]] = {
    "taylorseer_order": "taylorseer",
    "dmd_history": "dmd",
    "dmd_rank": "dmd",
    "dmd_ridge": "dmd",
    "dmd_svd_precision": "dmd",
}
#: Settings that a value of 0 turns into "never", and how messages say it.
_NEVER: Final[Mapping[str, str]] = {
    "max_cached_steps": "no step may be cached",
    "max_continuous_cached_steps": "no step may be cached",
    "residual_diff_threshold": "no difference is below 0",
}


def check(context: Context) -> None:
    """Every mapping of settings of an adapter."""
    for path, settings in context.layers():
        check_one(context, settings, path)


def check_one(context: Context, data: Mapping[str, Any], path: KeyPath) -> None:
    """One mapping of settings."""
    _calibrator(context, mapping(data.get("calibrator")), path)
    masks.check_one(context, data, path)
    for name, why in _NEVER.items():
        value = data.get(name)
        if value == 0 and value is not False and value is not None:
            context.report(
                "never-hits",
                f"{name!r} is 0, so {why}",
                (*path, name),
                hint="write -1 for no limit"
                if name.startswith("max")
                else "a usual threshold is 0.08 to 0.3",
            )
    total, row = data.get("max_cached_steps"), data.get("max_continuous_cached_steps")
    if is_count(total) and is_count(row) and 0 < total < row:
        context.report(
            "ignored",
            f"at most {total} steps are cached at all, so {row} in a row limit nothing",
            (*path, "max_continuous_cached_steps"),
            related=("the other limit", (*path, "max_cached_steps")),
        )
    warmup, interval = data.get("max_warmup_steps"), data.get("warmup_interval")
    if is_count(warmup) and is_count(interval) and 1 < warmup <= interval:
        context.report(
            "thin-warmup",
            f"of {warmup} warm-up steps only the first is computed",
            (*path, "warmup_interval"),
            related=("the warm-up", (*path, "max_warmup_steps")),
        )
    if "force_refresh_step_policy" in data and data.get("force_refresh_step_hint", 0) is None:
        context.report(
            "ignored",
            "'force_refresh_step_policy' has no effect without a hint",
            (*path, "force_refresh_step_policy"),
            key=True,
        )


def _calibrator(context: Context, calibrator: Mapping[str, Any], path: KeyPath) -> None:
    kind = calibrator.get("type")
    here: KeyPath = (*path, "calibrator")
    for option, owner in _CALIBRATOR_OPTIONS.items():
        if option in calibrator and isinstance(kind, str) and kind != owner:
            context.report(
                "unusable",
                f"{option!r} is an option of {owner}, and the type is {kind}",
                (*here, option),
                key=True,
                hint="remove it",
            )
    off = [calibrator.get(n) is False for n in ("enable_calibrator", "enable_encoder_calibrator")]
    if all(off) and kind != "none":
        context.report(
            "ignored",
            "the calibrator forecasts neither hidden_states nor encoder_hidden_states",
            (*here, "enable_encoder_calibrator"),
            key=True,
            related=("also off", (*here, "enable_calibrator")),
            hint="write 'calibrator: none'",
        )
    rank, history = calibrator.get("dmd_rank"), calibrator.get("dmd_history", 6)
    if kind == "dmd" and is_count(rank) and is_count(history) and rank >= history > 0:
        context.report(
            "unusable",
            f"{history} remembered steps have at most {history - 1} "
            f"differences, and the rank is {rank}",
            (*here, "dmd_rank"),
            expected=f"at most {history - 1}, or 0 to choose it",
        )
