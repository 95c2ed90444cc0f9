"""Settings that may be worth a run, as an adapter writes them, and what is said of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Final

#: Steps that bins go on for behind those that they were made for.
_BEYOND: Final = 1000


@dataclass(frozen=True)
class Candidate:
    """Settings, and what the trace makes of them.

    Attributes:
        settings: as an adapter writes them.
        blocks: share of the blocks that run.
        error: expected size of the error of the final latents, the root mean square over the
            samples; only good to be compared.
    """

    settings: Mapping[str, Any] = field(hash=False)
    blocks: float
    error: float

    @property
    def key(self) -> str:
        """What it is, in one line."""
        return in_one_line(self.settings.items())

    @property
    def family(self) -> tuple[Any, ...]:
        """What it has in common with others that the trace errs on alike."""
        return family_of(self.settings)


def in_one_line(settings: Iterable[tuple[str, Any]]) -> str:
    """Settings for people, as an adapter writes them or as it is read."""
    return ", ".join(f"{name}: {_shown(value)}" for name, value in settings if value is not None)


def family_of(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """F, B, whether a mask decides, and the order of TaylorSeer, the last one first."""
    order = (settings.get("calibrator") or {}).get("taylorseer_order", 0)
    blocks = settings.get("Fn_compute_blocks"), settings.get("Bn_compute_blocks", 0)
    return order, *blocks, settings.get("scm") is not None


def bins(mask: Sequence[int]) -> dict[str, list[int]]:
    """A mask as runs of computed steps and of cached ones between them.

    Shorter generations cut it off; of longer ones all further steps are computed.
    """
    runs = [(flag, len(list(run))) for flag, run in itertools.groupby([*mask, *[1] * _BEYOND])]
    return {
        "compute_bins": [length for flag, length in runs if flag],
        "cache_bins": [length for flag, length in runs if not flag],
    }


def mask_in(settings: Mapping[str, Any]) -> list[int]:
    """The mask that :func:`bins` wrote into settings, one number a step."""
    scm = settings["scm"]
    runs = itertools.zip_longest(scm["compute_bins"], scm["cache_bins"], fillvalue=0)
    return [flag for run, gap in runs for flag in (*[1] * run, *[0] * gap)][:-_BEYOND]


def _shown(value: Any) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        value = {name: own for name, own in asdict(value).items() if own is not None}
    if isinstance(value, Mapping) and "type" in value:
        return f"{value['type']} {value['taylorseer_order']}"
    if isinstance(value, Mapping) and "compute_bins" not in value:
        return ", ".join(f"{name} {_shown(own)}" for name, own in value.items())
    if isinstance(value, Mapping):
        pairs = zip(value["compute_bins"], value["cache_bins"], strict=False)
        return " ".join(f"{run}+{gap}" for run, gap in pairs)
    return str(value)


def calibrator(order: int) -> Mapping[str, Any] | None:
    """TaylorSeer of an order, as an adapter writes it."""
    return {"type": "taylorseer", "taylorseer_order": order} if order else None
