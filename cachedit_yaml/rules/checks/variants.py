"""Layouts that are never taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cachedit_yaml.language.patterns import covered
from cachedit_yaml.rules.checks.context import Context, items, mapping, strings
from cachedit_yaml.yaml.diagnostics import KeyPath, one_of


class _Taken(NamedTuple):
    """What an earlier layout takes."""

    classes: list[str]
    when: str | None
    place: int


def check(context: Context) -> None:
    """Variants behind a wider one, and `blocks` behind variants that take everything."""
    for name, value in context.named.items():
        path: KeyPath = ("transformers", name)
        earlier: list[_Taken] = []
        whole = strings(value.get("class"))
        for index, variant in enumerate(items(value.get("variants"))):
            here: KeyPath = (*path, "variants", index)
            taken = _taken(mapping(variant), index)
            if (
                whole
                and taken.classes
                and not any(
                    covered(c, whole) or covered(w, [c]) for c in taken.classes for w in whole
                )
            ):
                context.report(
                    "unreachable-variant",
                    f"variant {index + 1} is never taken: {name!r} is "
                    f"{one_of(whole)}, and this is for {one_of(taken.classes)}",
                    (*here, "class"),
                    key=True,
                    related=("the class", (*path, "class")),
                )
            for other in earlier:
                why = _shadow(taken, other)
                if why is not None:
                    context.report(
                        "unreachable-variant",
                        f"variant {index + 1} is never taken: {why}",
                        here,
                        related=("taken here", (*path, "variants", other.place)),
                    )
                    break
            both = _both_ways(taken, earlier)
            if both is not None and index + 1 < len(items(value.get("variants"))):
                context.report(
                    "unreachable-variant",
                    f"variant {index + 2} is never taken: the two before "
                    f"it take every transformer, {both} or not",
                    (*path, "variants", index + 1),
                    related=("taken here", here),
                )
                break
            if both is not None and "blocks" in value:
                context.report(
                    "unreachable-variant",
                    f"'blocks' is never taken: the variants take every transformer, {both} or not",
                    (*path, "blocks"),
                    key=True,
                    related=("taken here", here),
                )
            if taken.classes or taken.when:
                earlier.append(taken)


def _taken(variant: Mapping[str, Any], index: int) -> _Taken:
    when = variant.get("when")
    return _Taken(
        strings(variant.get("class")),
        " ".join(when.split()) if isinstance(when, str) else None,
        index,
    )


def _shadow(late: _Taken, early: _Taken) -> str | None:
    """Why nothing is left for a layout behind another one."""
    if early.when is None and late.classes and all(covered(c, early.classes) for c in late.classes):
        return f"an earlier one takes {one_of(late.classes)}"
    same = early.when is not None and early.when == late.when
    if same and (not early.classes or late.classes == early.classes):
        return f"an earlier one is taken when {early.when}"
    return None


def _both_ways(late: _Taken, earlier: list[_Taken]) -> str | None:
    """The condition that this layout and an earlier one take both ways."""
    if late.when is None or late.classes:
        return None
    plain = late.when.removeprefix("not ")
    opposite = plain if late.when.startswith("not ") else f"not {plain}"
    found = any(other.when == opposite and not other.classes for other in earlier)
    return plain if found else None
