"""Adapters whose block lists follow one another, and the same in which each decides for itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from cachedit_yaml.language.spec import AdapterSpec, BlockList

#: What a layout has.
_Lists = Mapping[str, BlockList]


def following(spec: AdapterSpec) -> AdapterSpec:
    """The adapter with one decision a forward: each list follows the one before it."""

    def chained(blocks: _Lists) -> _Lists:
        names = [None, *blocks]
        return {
            name: dataclasses.replace(item, follows=before)
            for (name, item), before in zip(blocks.items(), names, strict=False)
        }

    return _changed(spec, chained)


def apart(spec: AdapterSpec) -> AdapterSpec:
    """The adapter in which each list decides for itself."""

    def alone(blocks: _Lists) -> _Lists:
        return {name: dataclasses.replace(item, follows=None) for name, item in blocks.items()}

    return _changed(spec, alone)


def several(spec: AdapterSpec) -> bool:
    """Whether one of its transformers has more than one block list."""
    layouts = (
        layout for item in spec.transformers.values() for layout in (item, *(item.variants or ()))
    )
    return any(len(layout.blocks or ()) > 1 for layout in layouts)


def _changed(spec: AdapterSpec, change: Callable[[_Lists], _Lists]) -> AdapterSpec:
    transformers = {
        path: dataclasses.replace(
            item,
            blocks=None if item.blocks is None else change(item.blocks),
            variants=item.variants
            and tuple(
                dataclasses.replace(x, blocks=None if x.blocks is None else change(x.blocks))
                for x in item.variants
            ),
        )
        for path, item in spec.transformers.items()
    }
    return dataclasses.replace(spec, transformers=transformers)
