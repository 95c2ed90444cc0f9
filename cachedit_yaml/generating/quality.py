"""How near two sets of pictures are: PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Quality:
    """Nearness of pictures to their references.

    Attributes:
        psnr: peak signal-to-noise ratio in dB over all pixels of all pictures; None where the
            pictures are equal, for which it is infinite.
        ssim: structural similarity, the mean over the pictures.
    """

    psnr: float | None
    ssim: float

    @property
    def psnr_text(self) -> str:
        """The PSNR for people."""
        return "identical" if self.psnr is None else f"{self.psnr:.1f} dB"


def compare(reference: Sequence[Image], pictures: Sequence[Image]) -> Quality:
    """Compare pictures with their references.

    Args:
        reference: the pictures as they should be.
        pictures: as many of the same sizes.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: their numbers or sizes differ.
    """
    import numpy as np
    from skimage.metrics import mean_squared_error, structural_similarity

    pairs = [
        (np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))
        for first, second in zip(reference, pictures, strict=True)
    ]
    if not pairs or any(first.shape != second.shape for first, second in pairs):
        raise ValueError("pictures can be compared with others of the same sizes only")
    # Pooled: the mean of PSNRs would be infinite as soon as one picture is equal.
    pixels = sum(first.size for first, _ in pairs)
    error = sum(float(mean_squared_error(*pair)) * pair[0].size for pair in pairs) / pixels
    window = min(7, *(side - 1 + side % 2 for pair in pairs for side in pair[0].shape[:2]))
    similar = [
        float(structural_similarity(*pair, data_range=255, channel_axis=-1, win_size=window))
        for pair in pairs
    ]
    psnr = float(10 * np.log10(255.0**2 / error)) if error else None
    return Quality(psnr, sum(similar) / len(similar))
