"""cache-dit's calibrators, which forecast what a cached step would have added."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachedit_yaml.language.spec import Calibrator

if TYPE_CHECKING:
    from cache_dit.caching.cache_contexts.calibrators import CalibratorConfig


def calibrator_config(calibrator: Calibrator | None) -> CalibratorConfig | None:
    """Build cache-dit's config of a calibrator, or None where there is none.

    Args:
        calibrator: what the settings say.
    """
    if calibrator is None or calibrator.type == "none":
        return None
    cls = calibrators()[calibrator.type]
    known = {item.name for item in dataclasses.fields(cls)}
    values = {
        item.name: getattr(calibrator, item.name)
        for item in dataclasses.fields(calibrator)
        if item.name in known
    }
    return cls().reset(calibrator_kwargs={}, calibrator_type=calibrator.type, **values)


def calibrators() -> Mapping[str, type[CalibratorConfig]]:
    """cache-dit's configs of calibrators, by their names in the language."""
    from cache_dit.caching.cache_contexts import calibrators as theirs

    return {
        "taylorseer": theirs.TaylorSeerCalibratorConfig,
        "foca": theirs.FoCaCalibratorConfig,
        "dmd": theirs.DMDCalibratorConfig,
    }


@functools.cache
def has_calibrator(name: str) -> bool:
    """Whether the installed cache-dit can make a calibrator: some have only its config."""
    from cache_dit.caching.cache_contexts.calibrators import Calibrator as Factory

    try:
        Factory(calibrators()[name]().reset(calibrator_type=name, calibrator_kwargs={}))
    except (AssertionError, ValueError):
        return False
    return True
