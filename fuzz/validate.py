"""Fuzz target: whatever bytes a file holds, `validate` reports and neither raises nor hangs.

``python fuzz/validate.py -max_total_time=60`` with atheris installed (``make fuzz``). A
failure is written to ``crash-*``; turn it into a golden file or a case of tests/validation.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cachedit_yaml"]):
    from cachedit_yaml.cli.rendering import render_in
    from cachedit_yaml.engines.configs import check_config, recognise
    from cachedit_yaml.registry.registry import Registry
    from cachedit_yaml.rules.adapter import Adapter
    from cachedit_yaml.rules.class_names import check_classes
    from cachedit_yaml.rules.fix import apply_edits, edits_for
    from cachedit_yaml.rules.ignores import apply_ignores
    from cachedit_yaml.yaml.reader import read_text

LEVELS = frozenset({"file", "schema", "meaning", "names", "engine", "ignores"})
REGISTRY = Registry([])


def one_input(data: bytes) -> None:
    """Check one file as the command does, and use everything that it found."""
    document, found = read_text(data, "a.yaml")
    kind = recognise(document.data)
    if kind == "adapter":
        adapter = Adapter.of(document, found, resolve=REGISTRY.resolve)
        found = adapter.diagnostics + check_classes(document)
    else:
        found = found + check_config(kind, document, REGISTRY)
    found = apply_ignores(found, document, LEVELS)
    for item in found:
        render_in(item, document.sources)
        item.summary()
    edits, _ = edits_for("a.yaml", found)
    if edits:
        read_text(apply_edits(document.text, edits), "a.yaml")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
