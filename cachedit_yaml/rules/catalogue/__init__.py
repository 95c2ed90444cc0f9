"""Every kind of finding, with what it means and how to mend it.

``docs/rules.md`` is made from here (``python -m cachedit_yaml.rules.catalogue.page``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from cachedit_yaml.rules.catalogue import (
    deep,
    engine,
    file,
    ignores,
    meaning,
    names,
    schema,
)
from cachedit_yaml.rules.catalogue.rule import Level, Rule
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, Span

__all__ = ["RETIRED", "RULES", "Level", "Rule", "find_rule", "finding"]

#: Every rule by name, in the order of the codes.
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.name: rule
        for module in (file, schema, meaning, names, deep, engine, ignores)
        for rule in module.RULES
    }
)
#: Codes and names of rules that no longer exist; neither is ever used again.
RETIRED: Final[Mapping[str, str]] = MappingProxyType({})


def find_rule(text: str) -> Rule | None:
    """Find a rule by its code or its name; None if there is none."""
    if text in RULES:
        return RULES[text]
    return next((rule for rule in RULES.values() if rule.id == text.upper()), None)


def finding(
    code: str, message: str, path: KeyPath = (), span: Span | None = None, **more: Any
) -> Diagnostic:
    """A diagnostic that weighs what the catalogue says; the fields are those of the class."""
    return Diagnostic(code, message, path, span, RULES[code].severity, **more)
