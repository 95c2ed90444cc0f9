"""What stands twice."""

from __future__ import annotations

import itertools
from typing import Final

from cachedit_yaml.language.patterns import covered
from cachedit_yaml.rules.checks.context import Context, at, is_number, items, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath

#: Each name is compared with so many patterns; no adapter has more than a few.
_MOST_PATTERNS: Final = 32


def check(context: Context) -> None:
    """Items that stand twice in a list, or that a pattern in it matches already."""
    lists: list[KeyPath] = [("pipelines",), ("models",)]
    for name, value in context.named.items():
        base: KeyPath = ("transformers", name)
        lists.append((*base, "class"))
        lists += [(*base, "blocks", b, "class") for b in mapping(value.get("blocks"))]
    for path in lists:
        _twice(context, path, path[-1] != "models")
    for path, settings in context.layers():
        _twice_in(context, settings.get("non_prune_block_ids"), (*path, "non_prune_block_ids"))
    bounds: dict[object, int] = {}
    for index, step in enumerate(items(context.data.get("steps"))):
        bound = mapping(step).get("max_steps")
        if is_number(bound):
            if bound in bounds:
                context.report(
                    "duplicate-item",
                    f"two entries have 'max_steps: {bound}'",
                    ("steps", index, "max_steps"),
                    related=("first here", ("steps", bounds[bound], "max_steps")),
                )
            bounds.setdefault(bound, index)


def _twice(context: Context, path: KeyPath, patterns: bool) -> None:
    names = items(at(context.data, path))
    _twice_in(context, names, path)
    if not patterns:
        return
    found = ((item, i) for i, item in enumerate(names) if isinstance(item, str) and "*" in item)
    wide = dict(itertools.islice(found, _MOST_PATTERNS))
    for index, item in enumerate(names):
        if not isinstance(item, str):
            continue
        for pattern, where in wide.items():
            if pattern != item and covered(item, [pattern]):
                context.report(
                    "redundant-name",
                    f"{pattern!r} matches {item!r} already",
                    (*path, index),
                    related=("matched here", (*path, where)),
                )
                break


def _twice_in(context: Context, values: object, path: KeyPath) -> None:
    seen: dict[object, int] = {}
    for index, item in enumerate(items(values)):
        if not isinstance(item, (str, int)) or isinstance(item, bool):
            continue
        if item in seen:
            context.report(
                "duplicate-item",
                f"{item!r} stands twice in {path[-1]!r}",
                (*path, index),
                related=("first here", (*path, seen[item])),
            )
        seen.setdefault(item, index)
