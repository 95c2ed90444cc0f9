"""What an engine's own config or request may ask of the cache, whichever engine it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import CacheSettings
from cachedit_yaml.yaml.diagnostics import or_near

#: Keys of this package.
OWN: Final = ("adapter", "profile", "execution")
#: The value of ``adapter`` that leaves a model to the engine's own code.
ENGINE: Final = "engine"
#: Settings in the language's words.
SETTINGS: Final = tuple(item.name for item in dataclasses.fields(CacheSettings))
_DMD: Final = ("dmd_history", "dmd_rank", "dmd_ridge", "dmd_svd_precision")


def unknown_keys(given: Iterable[str], known: Collection[str], where: str) -> list[str]:
    """One sentence for each key that nobody knows."""
    lines = []
    for name in given:
        if name not in known:
            lines.append(f"{where} has no key {name!r}{or_near(str(name), known)}")
    return lines


def wrong_own(given: Mapping[str, Any], where: str) -> list[str]:
    """One sentence for each of this package's keys that has no fitting value."""
    return [
        f"{where}: {name} must be text, not {type(given[name]).__name__}"
        for name in OWN
        if given.get(name) is not None and not isinstance(given[name], str)
    ]


def calibrator(given: Mapping[str, Any]) -> dict[str, Any]:
    """The calibrator as engines say it; options alone change nothing there either.

    Raises:
        ConfigError: both are on.
    """
    if given.get("enable_taylorseer") and given.get("enable_dmd"):
        raise ConfigError("enable_taylorseer and enable_dmd: only one of them can be true")
    if given.get("enable_dmd"):
        options = {name: given[name] for name in _DMD if name in given}
        return {"calibrator": {"type": "dmd", **options}}
    if given.get("enable_taylorseer"):
        order = given.get("taylorseer_order", 1)
        return {"calibrator": {"type": "taylorseer", "taylorseer_order": order}}
    off = {"enable_taylorseer", "enable_dmd"} & given.keys()
    return {"calibrator": None} if off else {}
