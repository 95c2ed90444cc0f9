"""How near samples of any kind are to the uncached ones, each kind by what is right for it.

- Pictures: PSNR with a peak of 255, SSIM, and LPIPS where its weights are at hand.
- Videos: the same over all frames, and the flicker between frames.
- Sound: PSNR with the range of the uncached sample as the peak, and the log-spectral distance.
- Latents and all else: PSNR with that peak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating import perceptual, quality
from cachedit_yaml.generating.samples import Array, Kind, Samples

#: What stands in tables beside PSNR: field, name, digits.
_OTHERS: Final = (
    ("ssim", "SSIM", 4),
    ("lpips", "LPIPS", 4),
    ("flicker", "FLICKER", 2),
    ("distance", "LSD", 2),
)
_WHAT: Final[dict[Kind, str]] = {
    "pictures": "PSNR in dB (peak 255), mean SSIM",
    "videos": "PSNR in dB over all frames (peak 255), mean SSIM of the frames, FLICKER: how far "
    "the changes from frame to frame are off, root mean square of 255 levels",
    "sound": "PSNR in dB (peak: the range of the uncached sample), "
    "LSD: log-spectral distance in dB",
    "numbers": "PSNR in dB (peak: the range of the uncached sample)",
}
#: PSNR in dB above which nobody sees a difference.
_UNSEEN: Final = 50.0
#: Samples in a window of sound, and power below the peak that counts as silence.
_WINDOW: Final = 2048
_SILENCE: Final = 1e-8


@dataclass(frozen=True)
class Likeness:
    """How near samples are to the uncached ones.

    Attributes:
        each: PSNR of each sample in dB; infinite where it is equal.
        pooled: PSNR of all samples together.
        ssim: mean SSIM of the pictures or frames; None for other kinds.
        lpips: mean LPIPS of the pictures or frames; None where it cannot be measured.
        flicker: of videos: how far the changes from frame to frame are off, the root mean square in
            levels of 255; 0 where they are equal.
        distance: of sound: mean log-spectral distance in dB.
    """

    each: tuple[float, ...]
    pooled: float
    ssim: float | None
    lpips: float | None = None
    flicker: float | None = None
    distance: float | None = None

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

    @property
    def typical(self) -> float:
        """What decides between settings of a cost: half :attr:`low`, half the mean of all.

        In the mean nothing counts as more than 50 dB, above which nobody sees a difference.
        """
        seen = [min(value, _UNSEEN) for value in self.each]
        return (sum(seen) / len(seen) + self.low) / 2

    def others(self) -> dict[str, str]:
        """What was measured beside PSNR, as text by its name."""
        found = ((name, getattr(self, field), digits) for field, name, digits in _OTHERS)
        return {name: f"{value:.{digits}f}" for name, value, digits in found if value is not None}


def measured_as(samples: Samples) -> str:
    """What is compared and how, in one sentence without a full stop, for every table."""
    about = _WHAT[samples.kind]
    if samples.kind in ("pictures", "videos"):
        missing = perceptual.missing(frames_of(samples[0])[0])
        about += "; LPIPS (AlexNet)" if missing is None else f"; LPIPS not measured: {missing}"
    return f"{samples.text} beside the uncached ones: {about}"


def likeness(reference: Sequence[Array], made: Sequence[Array]) -> Likeness:
    """Compare samples with the uncached ones.

    Args:
        reference: :class:`Samples`, or arrays, of which those of 8 bits are pictures or frames.
        made: as many of the same shapes.

    Raises:
        ConfigError: their numbers or shapes differ.
    """
    if [item.shape for item in reference] != [item.shape for item in made] or not made:
        raise ConfigError("a cached call returned samples of another number or size")
    pairs = list(zip(reference, made, strict=True))
    errors = [_error(*pair) for pair in pairs]
    shown = [pair for pair in pairs if pair[0].dtype == np.uint8]
    videos = [pair for pair in shown if pair[0].ndim == 4 and len(pair[0]) > 1]
    sound = pairs if getattr(reference, "kind", None) == "sound" else []
    return Likeness(
        tuple(map(_decibel, errors)),
        _decibel(sum(errors) / len(errors)),
        ssim=_mean([_ssim(*pair) for pair in shown]),
        lpips=_mean([x for pair in shown for x in perceptual.distances(*map(frames_of, pair))]),
        flicker=_mean([flicker(*pair) for pair in videos]),
        distance=_mean([spectral_distance(*pair) for pair in sound]),
    )


def frames_of(sample: Array) -> Array:
    """A picture as a video of one frame, ``[frames x h x w x 3]``."""
    return sample if sample.ndim == 4 else sample[None]


def flicker(true: Array, made: Array) -> float:
    """How far the changes from frame to frame are off, in levels of 255.

    Args:
        true: the uncached video, ``[frames x h x w x 3]`` of 8 bits.
        made: the other one.
    """
    change = np.diff(made.astype(np.float32), axis=0) - np.diff(true.astype(np.float32), axis=0)
    return float(np.sqrt(np.square(change).mean()))


def spectral_distance(true: Array, made: Array) -> float:
    """The log-spectral distance of two sounds in dB (Gray and Markel, 1976), mean over windows.

    Of each window the root mean square over its frequencies of how many dB the power is off; what
    is 80 dB below the loudest of the uncached sound counts as silent.

    Args:
        true: the uncached sound, ``[... x n]``; all but the last dimension are channels.
        made: the other one.
    """
    powers = [_power(item) for item in (true, made)]
    floor = max(float(powers[0].max()) * _SILENCE, 1e-30)
    first, second = (10 * np.log10(np.maximum(item, floor)) for item in powers)
    return float(np.sqrt(np.square(first - second).mean(axis=-1)).mean())


def _power(sound: Array) -> Array:
    """The power spectra of a sound in windows that overlap by half, ``[... x windows x f]``."""
    length = sound.shape[-1]
    window = min(_WINDOW, length)
    views = np.lib.stride_tricks.sliding_window_view(sound, window, axis=-1)
    views = views[..., :: max(window // 2, 1), :]
    shaped = views * np.hanning(window + 1)[:-1] if window > 2 else views
    return np.asarray(np.square(np.abs(np.fft.rfft(shaped))))


def _error(true: Array, other: Array) -> float:
    peak = 255.0 if true.dtype == np.uint8 else float(true.max() - true.min()) or 1.0
    return float(np.square((true.astype(float) - other.astype(float)) / peak).mean())


def _ssim(true: Array, other: Array) -> float:
    return quality.compare(*([_picture(x) for x in frames_of(item)] for item in (true, other))).ssim


def _picture(pixels: Array) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _decibel(error: float) -> float:
    return -10 * math.log10(error) if error else math.inf
