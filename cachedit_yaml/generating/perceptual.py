"""LPIPS, where the package lpips is installed and its weights lie on this machine.

Nothing is ever downloaded: the package holds the linear layers, and AlexNet's weights are taken
from where torchvision keeps them once they were fetched (``torch.hub.get_dir()``).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from cachedit_yaml.generating.samples import Array

#: The smallest side that AlexNet takes.
_LEAST: Final = 32
#: Frames at a time.
_AT_ONCE: Final = 8


def missing(frame: Array) -> str | None:
    """Why LPIPS cannot be measured of frames like this one, ``[h x w x 3]``; None where it can."""
    if min(frame.shape[:2]) < _LEAST:
        return f"it needs {_LEAST} pixels in width and height"
    for name in ("lpips", "torchvision"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed (pip install 'cachedit-yaml[lpips]')"
    weights = _weights()
    if not os.path.isfile(weights):
        home = Path(os.path.expanduser("~"))  # reports are handed on, and name nobody
        shown = "~" / weights.relative_to(home) if weights.is_relative_to(home) else weights
        return f"AlexNet's weights are not at {shown}, and nothing is downloaded"
    return None


def distances(true: Array, made: Array) -> list[float]:
    """LPIPS of frames to others.

    Args:
        true: ``[frames x h x w x 3]`` of 8 bits.
        made: as many of the same size.

    Returns:
        One number a frame, 0 where they look equal; none where it cannot be measured.
    """
    if missing(true[0]) is not None:
        return []
    import torch

    model = _model()

    def scaled(frames: Array) -> torch.Tensor:
        return torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1

    found: list[float] = []
    with torch.no_grad():
        for at in range(0, len(true), _AT_ONCE):
            pair = (scaled(item[at : at + _AT_ONCE]) for item in (true, made))
            found += model(*pair).flatten().tolist()
    return found


def _weights() -> Path:
    import torch
    from torchvision.models import AlexNet_Weights

    address = str(AlexNet_Weights.IMAGENET1K_V1.url)
    return Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]


@functools.cache
def _model() -> Any:
    import lpips
    import torch

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        # Both packages load their own weights, which are there: nothing is fetched.
        return lpips.LPIPS(net="alex", verbose=False).eval()
