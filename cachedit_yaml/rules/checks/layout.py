"""What the adapter as a whole must say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cachedit_yaml.language.views import IDLE_BESIDE_REFUSAL
from cachedit_yaml.rules.checks.context import Context, items, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath


def check(context: Context, standalone: bool) -> None:
    """Transformers or a refusal, somebody whom the adapter is for, block lists everywhere.

    Args:
        context: the adapter.
        standalone: whether it has to say which pipelines it is for.
    """
    data = context.data
    if "refuse" in data:
        _refusal(context)
    elif not data.get("transformers"):
        path: KeyPath = ("transformers",) if "transformers" in data else ()
        context.report(
            "missing-key",
            "the adapter names no transformers",
            path,
            key=True,
            hint="add 'transformers: {transformer: {blocks: {LIST: Pattern_1}}}', or "
            "'refuse: REASON' if these pipelines must not be cached",
        )
    if standalone and not data.get("pipelines") and not any(_classes(context)):
        context.report(
            "missing-key",
            "nothing says which pipelines this adapter is for",
            (),
            hint="add 'pipelines: [ClassName]', or a 'class:' to a transformer",
        )
    for name, value in context.named.items() if "refuse" not in data else ():
        given = mapping(data.get("transformers")).get(name)
        if given is value and "blocks" not in value and "variants" not in value:
            context.report(
                "missing-key",
                f"{name!r} names no block lists",
                ("transformers", name),
                key=True,
                hint="add 'blocks: {LIST: Pattern_1}' or 'variants'",
            )


def _refusal(context: Context) -> None:
    data = context.data
    # A class alone says whom the refusal is for.
    if any(set(value) - {"class", "optional"} for value in context.named.values()):
        context.report(
            "unusable",
            "an adapter that refuses cannot have transformers",
            ("refuse",),
            key=True,
            related=("declared here", ("transformers",)),
            hint="remove one of the two",
        )
    else:
        for name in IDLE_BESIDE_REFUSAL:
            if name in data:
                context.report(
                    "ignored",
                    f"{name!r} has no effect in an adapter that refuses",
                    (name,),
                    key=True,
                    related=("the refusal", ("refuse",)),
                    hint="remove it",
                )
    if isinstance(data["refuse"], str) and not data["refuse"].strip():
        context.report(
            "wrong-format", "'refuse' gives no reason", ("refuse",), hint="say in one sentence why"
        )


def _classes(context: Context) -> Iterator[Any]:
    for transformer in context.named.values():
        yield transformer.get("class")
        for variant in items(transformer.get("variants")):
            yield mapping(variant).get("class")
