"""What one type cannot say: keys that exclude, need or name each other. One module per theme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachedit_yaml.rules.checks import (
    blocks,
    duplicates,
    following,
    layout,
    masks,
    measured,
    profiles,
    requirements,
    settings,
    splits,
    variants,
)
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.rules.checks.repeats import check_repeats
from cachedit_yaml.rules.checks.version import check_order, check_version
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document

__all__ = [
    "check_adapter",
    "check_layers",
    "check_order",
    "check_repeats",
    "check_settings",
    "check_version",
]


def check_adapter(
    data: Mapping[str, Any], document: Document | None = None, *, standalone: bool = True
) -> list[Diagnostic]:
    """Check what holds between the keys of an adapter.

    Args:
        data: the adapter as plain data, after `extends`.
        document: the document that the data comes from, for positions.
        standalone: whether the adapter has to say which pipelines it is for; not so for a dict
            that is passed along with its pipeline, or for one that extends another.

    Returns:
        Everything that these rules find.
    """
    context = Context(data, document)
    layout.check(context, standalone)
    variants.check(context)
    splits.check(context)
    duplicates.check(context)
    profiles.check(context)
    blocks.check(context)
    following.check(context)
    masks.check(context)
    measured.check(context)
    settings.check(context)
    requirements.check(context)
    return context.diagnostics


def check_layers(document: Document, prefix: KeyPath) -> list[Diagnostic]:
    """Check the settings, steps and profiles that stand outside of an adapter.

    Args:
        document: them alone.
        prefix: the keys that lead to them in their file.
    """
    context = Context(document.data or {}, document, prefix)
    for rule in (duplicates, profiles, measured, settings):
        rule.check(context)
    return context.diagnostics


def check_settings(data: Mapping[str, Any], prefix: KeyPath = ()) -> list[Diagnostic]:
    """Check what holds between the keys of one mapping of cache settings."""
    context = Context(data, None, prefix)
    settings.check_one(context, data, ())
    return context.diagnostics
