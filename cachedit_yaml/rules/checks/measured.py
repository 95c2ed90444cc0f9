"""What `measured` says: numbers that can be true together."""

from __future__ import annotations

import datetime
import itertools
import re
from typing import Final

from cachedit_yaml.rules.checks.context import Context, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath

#: From bad to good: the worst picture, all pixels together, the mean of the pictures. By Jensen's
#: inequality the mean of PSNRs is at least the PSNR of the mean error.
_ORDER: Final = ("worst", "pooled", "mean")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def check(context: Context) -> None:
    """Look at each `measured`."""
    _one(context, context.data.get("cache"), ("cache",))
    for name, profile in mapping(context.data.get("profiles")).items():
        _one(context, profile, ("profiles", name))


def _one(context: Context, settings: object, place: KeyPath) -> None:
    said, path = mapping(mapping(settings).get("measured")), (*place, "measured")
    psnr = mapping(said.get("psnr"))
    given = [name for name in _ORDER if isinstance(psnr.get(name), (int, float))]
    for low, high in itertools.pairwise(given):
        if psnr[low] > psnr[high]:
            context.report(
                "measured-impossible",
                f"the PSNR {low!r} is {psnr[low]} dB, above {high!r} with {psnr[high]} dB",
                (*path, "psnr", low),
                related=("compared with this", (*path, "psnr", high)),
                hint="no set of pictures has these",
            )
    # One that has not the form of a day is found by the schema.
    if isinstance(date := said.get("date"), str) and _DAY.fullmatch(date):
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            context.report(
                "measured-impossible",
                f"there is no day {date!r}",
                (*path, "date"),
                expected="a day such as 2026-01-31",
            )
