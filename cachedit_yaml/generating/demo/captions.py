"""Words for the pictures of the demo's second model: what is drawn, which one, on what colour."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from .data import CLASSES, draw, load_icons, pastel

if TYPE_CHECKING:
    import torch

#: What tells the icons of a class apart.
VARIANTS: dict[str, tuple[str, ...]] = {
    "smiley": ("happy", "cool", "loving"),
    "cat": ("calm", "loving"),
    "apple": ("red", "green"),
    "heart": ("red", "yellow", "green", "blue", "purple"),
}
#: Names of backgrounds: hues from and to, None for white.
COLOURS: dict[str, tuple[float, float] | None] = {
    "white": None,
    "pink": (0.87, 1.02),
    "orange": (0.04, 0.11),
    "yellow": (0.13, 0.19),
    "green": (0.25, 0.42),
    "blue": (0.5, 0.66),
    "purple": (0.7, 0.82),
}
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
#: Tokens of a prompt, with the one that ends it and the padding.
LENGTH = 8


def vocabulary() -> dict[str, int]:
    """Every word and its number."""
    found = [PAD, END, UNKNOWN, "a", "on", *CLASSES, *COLOURS]
    found += [word for words in VARIANTS.values() for word in words]
    return {word: number for number, word in enumerate(dict.fromkeys(found))}


def tokens_of(caption: str) -> list[int]:
    """The numbers of a caption's words, as the tokenizer of the model gives them."""
    known = vocabulary()
    numbers = [known.get(word, known[UNKNOWN]) for word in caption.split()][: LENGTH - 1]
    numbers.append(known[END])
    return numbers + [known[PAD]] * (LENGTH - len(numbers))


def caption_of(label: str, variant: str | None, colour: str | None, rng: random.Random) -> str:
    """A caption; a third each leaves out which icon it is and the colour."""
    words = ["a", label]
    if variant is not None and rng.random() < 0.67:
        words.insert(1, variant)
    if colour is not None and rng.random() < 0.67:
        words += ["on", colour]
    return " ".join(words)


def make_pictures(
    data: Path, per_class: int, jitter: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the training set.

    Returns:
        Pictures in [-1, 1] as (N, 3, 96, 96), and the tokens of their captions as (N, LENGTH).
    """
    import numpy as np
    import torch

    rng = random.Random(seed)
    pictures: list[np.ndarray] = []
    tokens: list[list[int]] = []
    for label, icons in zip(CLASSES, load_icons(data), strict=True):
        for index in range(per_class):
            icon = index % len(icons)
            variant = VARIANTS[label][icon] if label in VARIANTS else None
            name, hues = rng.choice(list(COLOURS.items()))
            colour = (255, 255, 255)
            while hues is not None and colour == (255, 255, 255):
                colour = pastel(rng, hues)
            pictures.append(np.asarray(draw(icons[icon], rng, jitter, colour)))
            tokens.append(tokens_of(caption_of(label, variant, name, rng)))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return pixels / 127.5 - 1.0, torch.tensor(tokens)
