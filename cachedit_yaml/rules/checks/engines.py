"""`engines`: sections for engines that exist, with keys that a section can have."""

from __future__ import annotations

from collections.abc import Mapping

from cachedit_yaml.engines import NAMES
from cachedit_yaml.language.shapes import keys_of
from cachedit_yaml.language.spec import Heading
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.yaml.diagnostics import Diagnostic, nearest, one_of, show
from cachedit_yaml.yaml.document import Document


def check_engines(document: Document) -> list[Diagnostic]:
    """Look at the sections as a whole; what they mean is checked with the rest of the adapter."""
    data = document.data or {}
    context = Context(data, document)
    if "engines" not in data:
        return []
    sections = data["engines"]
    if not isinstance(sections, Mapping):
        context.report(
            "wrong-type",
            f"'engines' is {show(sections)}",
            ("engines",),
            expected="a mapping",
            hint=f"write 'engines: {{{NAMES[-1]}: {{}}}}' where nothing differs there",
        )
        return context.diagnostics
    for name, section in sections.items():
        if name not in NAMES:
            near = nearest(str(name), NAMES)
            context.report(
                "unknown-key",
                f"no engine is called {name!r}",
                ("engines", name),
                key=True,
                expected=None if near else one_of(NAMES),
                hint=f"did you mean {near[0]!r}?" if near else None,
                replace=near[0] if near and near[0] not in sections else None,
            )
        elif not isinstance(section, Mapping):
            context.report(
                "wrong-type",
                f"{name!r} is {show(section)}",
                ("engines", name),
                expected="a mapping",
                hint="write '{}' where nothing differs there",
            )
        else:
            for key in (*keys_of(Heading), "engines"):
                if key in section:
                    context.report(
                        "unknown-key",
                        f"unknown key {key!r}",
                        ("engines", name, key),
                        key=True,
                        hint="belongs at the top level of the file",
                    )
    return context.diagnostics
