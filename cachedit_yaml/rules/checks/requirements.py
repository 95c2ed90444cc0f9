"""`requires`: versions that can exist, packages that do."""

from __future__ import annotations

import re
from typing import Any, Final

from cachedit_yaml.engines import engines
from cachedit_yaml.rules.checks.context import Context, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath, nearest

#: What an adapter may reasonably need, beside engines.
_OTHERS: Final = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "cachedit-yaml",
    "peft",
    "numpy",
    "flash-attn",
    "xformers",
    "torchao",
)
_BOUND: Final = re.compile(r" *(~=|==|!=|<=|>=|<|>) *([0-9]+(?:\.[0-9]+)*) *")


def check(context: Context) -> None:
    """Ranges that nothing satisfies, and packages that look misspelled."""
    wishes = mapping(context.data.get("requires"))
    known = (
        [*(name for item in engines() for name in item.distributions), *_OTHERS] if wishes else []
    )
    for name, wanted in wishes.items():
        path: KeyPath = ("requires", name)
        near = nearest(name, known) if isinstance(name, str) and name not in known else []
        if near and near[0] != name.replace("_", "-"):
            context.report(
                "misspelled-package",
                f"the package {name!r} is not a known one",
                path,
                key=True,
                near=near,
            )
        if isinstance(wanted, str) and _impossible(wanted):
            context.report(
                "no-version",
                f"no version is {wanted!r}",
                path,
                hint="the lower bound must be below the upper one",
            )


def _impossible(wanted: str) -> bool:
    """Whether the bounds exclude each other. Only plain numbers are compared."""
    low: tuple[tuple[int, ...], bool] | None = None
    high: tuple[tuple[int, ...], bool] | None = None
    for part in wanted.split(","):
        match = _BOUND.fullmatch(part)
        if match is None:
            return False
        sign, version = match[1], _version(match[2])
        if sign in (">=", ">", "==", "~=") and (low is None or version > low[0]):
            low = (version, sign != ">")
        if sign in ("<=", "<", "==") and (high is None or version < high[0]):
            high = (version, sign != "<")
    if low is None or high is None:
        return False
    return low[0] > high[0] or (low[0] == high[0] and not (low[1] and high[1]))


def _version(text: str) -> tuple[int, ...]:
    numbers: list[Any] = [int(part[:9]) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
