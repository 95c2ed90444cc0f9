"""Configs of engines, known by their content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachedit_yaml.language.diagnostics import Diagnostic
from cachedit_yaml.language.document import Document
from cachedit_yaml.registry import Registry


def recognise(data: Mapping[str, Any] | None) -> str:
    """What a file holds."""
    return "adapter"


def check_config(kind: str, document: Document, registry: Registry) -> list[Diagnostic]:
    """Check the cache part of an engine's config."""
    return []
