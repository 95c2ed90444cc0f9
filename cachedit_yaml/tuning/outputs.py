"""What tuning keeps of the outputs of calls: their worst picture, and which call made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cachedit_yaml.generating.likeness import Likeness, frames_of, likeness
from cachedit_yaml.generating.samples import Array, Samples, samples_of

__all__ = ["Likeness", "Samples", "likeness", "plain_call", "samples_of", "worst_picture"]

#: Pictures in a report are at most so wide and high.
SHOWN: Final = 256


def worst_picture(
    reference: Sequence[Array], made: Sequence[Array], near: Likeness
) -> Array | None:
    """The worst picture, or the worst frame of the worst video, behind the uncached one.

    Returns:
        Both as ``[2 x h x w x 3]`` of 8 bits, at most :data:`SHOWN` pixels wide and high; None
        where the worst sample is no picture.
    """
    from PIL import Image

    worst = min(range(len(made)), key=near.each.__getitem__)
    if reference[worst].dtype != np.uint8:
        return None
    true, other = (frames_of(item[worst]) for item in (reference, made))
    errors = np.square(true.astype(np.float32) - other.astype(np.float32)).mean((1, 2, 3))
    pair = [Image.fromarray(frames[int(errors.argmax())]) for frames in (true, other)]
    for picture in pair:
        picture.thumbnail((SHOWN, SHOWN))
    return np.stack([np.asarray(picture) for picture in pair])


def plain_call(call: Mapping[str, Any]) -> str:
    """A call as text that is the same for the same call, to know it again."""
    return repr(sorted((name, _plain(value)) for name, value in call.items()))


def _plain(value: Any) -> str:
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if hasattr(value, "tobytes"):
        import hashlib

        return hashlib.sha256(value.tobytes()).hexdigest()
    return repr(value)
