"""Names of an adapter, against the classes of what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cachedit_yaml.language.patterns import fits_one, names_of
from cachedit_yaml.language.spec import AdapterSpec, BlockList, Transformer

if TYPE_CHECKING:
    import torch


def classes_of(declared: Transformer) -> tuple[str, ...]:
    """The class names that a transformer is declared with, its variants' included."""
    own = declared.transformer_class or ()
    variants = [name for item in declared.variants or () for name in item.transformer_class or ()]
    return (*own, *variants)


def layouts_of(declared: Transformer) -> list[Mapping[str, BlockList]]:
    """The block lists of each layout that a transformer is declared with, its variants' first."""
    layouts = [item.blocks for item in declared.variants or ()]
    return [*layouts, declared.blocks] if declared.blocks else layouts


def class_matches(module: torch.nn.Module, names: Sequence[str]) -> bool:
    """Whether the module's class or one of its bases has one of these names."""
    return fits_one(names, names_of(type(module)))


def split_names(spec: AdapterSpec) -> list[str]:
    """The transformers that the step split names."""
    split = spec.step_split
    if split is None:
        return []
    if split.boundary is not None:
        return [split.boundary.high, split.boundary.low]
    return [*(split.fraction or {}), *(split.count or {})]
