"""What a pipeline of any kind returned, as numbers, and how near two of them are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating import quality
from cachedit_yaml.tuning.record import Array

#: Pictures in a report are at most so wide and high.
SHOWN: Final = 256


@dataclass(frozen=True)
class Likeness:
    """How near results are to the uncached ones.

    Attributes:
        each: PSNR of each sample in dB; infinite where it is equal. The peak is 255 for pictures,
            else the range of the uncached sample's values.
        pooled: PSNR of all samples together.
        ssim: mean SSIM of the pictures or frames; None for other kinds.
    """

    each: tuple[float, ...]
    pooled: float
    ssim: float | None

    @property
    def worst(self) -> float:
        """PSNR of the worst sample."""
        return min(self.each)

    @property
    def low(self) -> float:
        """Mean PSNR of the worst quarter of the samples: of the worst one, where they are few."""
        worst = sorted(self.each)[: -(-len(self.each) // 4)]
        return sum(worst) / len(worst)

    @property
    def mean(self) -> float:
        """Mean of the samples' PSNR; infinite as soon as one is equal."""
        return sum(self.each) / len(self.each)


def samples_of(output: Any) -> list[Array]:
    """The samples in what a pipeline returned.

    Returns:
        Pictures as ``[h x w x 3]`` and videos as ``[frames x h x w x 3]``, both of 8 bits; sound,
        latents and all else as floating point numbers.

    Raises:
        ConfigError: it holds no numbers.
    """
    for name in ("images", "frames", "audios", "sample"):
        value = getattr(output, name, None)
        if value is not None:
            return list(_samples(value))
    values = output if isinstance(output, (tuple, list)) else getattr(output, "values", tuple)()
    for value in values:
        found = list(_samples(value))
        if found:
            return found
    raise ConfigError(f"the pipeline returned {type(output).__name__}, which holds no numbers")


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


def likeness(reference: Sequence[Array], made: Sequence[Array]) -> Likeness:
    """Compare samples with the uncached ones.

    Raises:
        ConfigError: their numbers or shapes differ.
    """
    if [item.shape for item in reference] != [item.shape for item in made] or not made:
        raise ConfigError("a cached call returned samples of another number or size")
    errors = []
    for true, other in zip(reference, made, strict=True):
        peak = 255.0 if true.dtype == np.uint8 else float(true.max() - true.min()) or 1.0
        errors.append(float(np.square((true.astype(float) - other.astype(float)) / peak).mean()))
    pictures = [
        quality.compare(*([_frame(x) for x in _frames(item)] for item in pair)).ssim
        for pair in zip(reference, made, strict=True)
        if pair[0].dtype == np.uint8
    ]
    ssim = sum(pictures) / len(pictures) if pictures else None
    return Likeness(tuple(map(_decibel, errors)), _decibel(sum(errors) / len(errors)), ssim)


def worst_picture(
    reference: Sequence[Array], made: Sequence[Array], near: Likeness
) -> Array | None:
    """The worst picture, or the worst frame of the worst video, behind the uncached one.

    Returns:
        Both as ``[2 x h x w x 3]`` of 8 bits, at most :data:`SHOWN` pixels wide and high; None
        where the worst sample is no picture.
    """
    worst = min(range(len(made)), key=near.each.__getitem__)
    if reference[worst].dtype != np.uint8:
        return None
    true, other = (_frames(item[worst]) for item in (reference, made))
    errors = np.square(true.astype(np.float32) - other.astype(np.float32)).mean((1, 2, 3))
    pair = [_frame(frames[int(errors.argmax())]) for frames in (true, other)]
    for picture in pair:
        picture.thumbnail((SHOWN, SHOWN))
    return np.stack([np.asarray(picture) for picture in pair])


def _frames(sample: Array) -> Array:
    return sample if sample.ndim == 4 else sample[None]


def _frame(pixels: Array) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _decibel(error: float) -> float:
    return -10 * math.log10(error) if error else math.inf


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
