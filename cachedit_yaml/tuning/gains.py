"""What becomes of an error until the end, where later steps see what it has changed.

No trace of single steps shows that, so a few calls run with one step cached, at a few places, and
what comes out is held against what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch

from cachedit_yaml.tuning.candidates import Candidate
from cachedit_yaml.tuning.surrogate import Surrogate
from cachedit_yaml.tuning.units import Unit

#: So many of the traced calls run again, with a step cached at these shares of all steps.
HOLED: Final = 2
_SHARES: Final = (0.0, 0.06, 0.2)
#: They differ by a factor of three and more between calls, so their logarithms are taken at this.
_TRUST: Final = 0.75


def holes(steps: int) -> list[int]:
    """The steps that are cached, each alone."""
    return sorted({max(1, round(share * steps)) for share in _SHARES} - {steps})


def amplify(
    calls: Sequence[Sequence[Unit]],
    finals: Sequence[torch.Tensor | None],
    run: Callable[[int, Candidate], torch.Tensor | None],
) -> None:
    """Multiply the errors of each step by how much more they are at the end than expected.

    Args:
        calls: what was traced.
        finals: the latents after the last step of each call.
        run: runs one of the calls under some settings: the latents after its last step.
    """
    ratios: dict[int, list[float]] = {}
    for index, units in enumerate(calls[:HOLED]):
        surrogate = Surrogate([units])
        steps = surrogate.steps or 0
        for place in holes(steps) if steps > 1 else ():
            item = surrogate.mask([int(step != place) for step in range(steps)], order=0)
            final, off = finals[index], run(index, item)
            if final is None or off is None or off.shape != final.shape or not item.error:
                continue
            size = float((off.float() - final.float()).norm()) / math.sqrt(len(final))
            ratios.setdefault(place, []).append(math.log(max(size, 1e-30) / item.error))
    if not ratios:
        return
    gains = [math.exp(_TRUST * sum(found) / len(found)) for found in ratios.values()]
    for unit in (unit for call in calls for unit in call):
        own = np.interp(unit.steps, list(ratios), gains).astype(np.float32)
        for key, table in unit.errors.items():
            unit.errors[key] = table * own[:, None, None, None]
