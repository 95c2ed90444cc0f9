"""The adapter language: reading, checking and describing adapter files. Never imports torch."""

from __future__ import annotations

from cachedit_yaml.language.diagnostics import Diagnostic, Span
from cachedit_yaml.language.document import Document
from cachedit_yaml.language.load import load_adapter, parse_settings, read_adapter
from cachedit_yaml.language.rendering import render
from cachedit_yaml.language.spec import LANGUAGE_VERSION, UNSET, AdapterSpec, CacheSettings

__all__ = [
    "LANGUAGE_VERSION",
    "UNSET",
    "AdapterSpec",
    "CacheSettings",
    "Diagnostic",
    "Document",
    "Span",
    "load_adapter",
    "parse_settings",
    "read_adapter",
    "render",
]
