"""What a pipeline of any kind returned, as numbers: pictures, videos, sound, or latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from cachedit_yaml.errors import ConfigError

#: Numbers of any shape.
Array: TypeAlias = np.ndarray[Any, Any]
Kind: TypeAlias = Literal["pictures", "videos", "sound", "numbers"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Where pipelines put what they return, by what it is if it is no picture.
_PLACES: Final[dict[str, Kind]] = {
    "images": "numbers",
    "frames": "numbers",
    "audios": "sound",
    "sample": "numbers",
}


class Samples(list[Array]):
    """Samples of one kind.

    Pictures are ``[h x w x 3]`` and videos ``[frames x h x w x 3]``, both of 8 bits; sound, latents
    and all else are floating point numbers.

    Attributes:
        kind: what they are.
    """

    def __init__(self, kind: Kind, items: Iterable[Array] = ()) -> None:
        super().__init__(items)
        self.kind: Kind = kind

    @property
    def text(self) -> str:
        """How many of what, of which size, for people."""
        shape: tuple[int, ...] = self[0].shape if self else ()
        number = len(self)
        many = "" if number == 1 else "s"
        if self.kind == "pictures":
            return f"{number} picture{many} of {shape[1]} x {shape[0]}"
        if self.kind == "videos":
            return f"{number} video{many} of {shape[0]} frames of {shape[2]} x {shape[1]}"
        what = "sound" if self.kind == "sound" else "tensor"
        size = " x ".join(map(str, shape))
        undecoded = "" if self.kind == "sound" else ", not decoded"
        return f"{number} {what}{many} of {size}{undecoded}"


def samples_of(output: Any) -> Samples:
    """The samples in what a pipeline returned.

    Raises:
        ConfigError: it holds no numbers.
    """
    for name, kind in _PLACES.items():
        value = getattr(output, name, None)
        if value is not None:
            return _named(list(_samples(value)), kind)
    values = output.values() if isinstance(output, Mapping) else output
    for value in values if isinstance(values, (tuple, list, ValuesView)) else (output,):
        found = list(_samples(value))
        if found:
            return _named(found, "numbers")
    raise ConfigError(f"the pipeline returned {type(output).__name__}, which holds no numbers")


def of_pictures(frames: Sequence[Sequence[Any]]) -> Samples:
    """Pictures that each have one frame or more, as samples."""
    items = [np.stack([np.asarray(one.convert("RGB")) for one in each]) for each in frames]
    still = all(len(item) == 1 for item in items)
    return Samples("pictures", [item[0] for item in items]) if still else Samples("videos", items)


def _named(items: list[Array], kind: Kind) -> Samples:
    if kind == "numbers":
        items = [_pixels(item) for item in items]
    if items and all(item.dtype == np.uint8 for item in items):
        kind = "videos" if items[0].ndim == 4 else "pictures"
    return Samples(kind, items)


def _pixels(sample: Array) -> Array:
    """Pictures and videos that came as numbers from 0 to 1, with 8 bits; else as they are."""
    if sample.dtype == np.uint8 or sample.ndim not in (3, 4) or not sample.size:
        return sample
    if sample.shape[-1] != 3 and sample.shape[-3] == 3:
        sample = np.moveaxis(sample, -3, -1)
    if sample.shape[-1] != 3 or not (sample.min() >= 0 and sample.max() <= 1):
        return sample
    return np.asarray(np.round(sample * 255), np.uint8)


def _samples(value: Any) -> Iterator[Array]:
    from PIL import Image

    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        yield from (item.astype(np.float32) for item in (value if value.ndim > 1 else value[None]))
    elif isinstance(value, Image.Image):
        yield np.asarray(value.convert("RGB"))
    elif isinstance(value, (list, tuple)):
        for item in value:
            own = list(_samples(item))
            frames = isinstance(item, (list, tuple)) and len(own) > 0
            yield from [np.stack(own)] if frames else own
