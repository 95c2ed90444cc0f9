"""Names of classes in an adapter: misspelled ones, and those in the wrong place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.rules.checks.context import items, mapping
from cachedit_yaml.rules.classes import installed, misspelled
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document

_TRANSFORMER: Final = re.compile(r"Transformer(?:[123]D)?Model$")
_PIPELINE: Final = re.compile(r"Pipeline$")


class NamedClass(NamedTuple):
    """A class name in an adapter."""

    name: str
    what: Literal["pipeline", "transformer", "block"]
    path: KeyPath


def class_names(data: Mapping[str, Any]) -> Iterator[NamedClass]:
    """Every class that an adapter names."""
    for index, item in enumerate(items(data.get("pipelines"))):
        if isinstance(item, str):
            yield NamedClass(item, "pipeline", ("pipelines", index))
    for name, value in mapping(data.get("transformers")).items():
        layouts: list[tuple[KeyPath, Mapping[str, Any]]] = []
        layouts.append((("transformers", name), mapping(value)))
        for index, variant in enumerate(items(mapping(value).get("variants"))):
            layouts.append((("transformers", name, "variants", index), mapping(variant)))
        for path, layout in layouts:
            for index, item in enumerate(items(layout.get("class"))):
                if isinstance(item, str):
                    yield NamedClass(item, "transformer", (*path, "class", index))
            for block, content in mapping(layout.get("blocks")).items():
                for index, item in enumerate(items(mapping(content).get("class"))):
                    if isinstance(item, str):
                        yield NamedClass(item, "block", (*path, "blocks", block, "class", index))


def check_classes(document: Document, engine: str | None) -> list[Diagnostic]:
    """Check the names of classes that a file itself says.

    Args:
        document: the file, without what it extends.
        engine: the engine whose folder it lies in; its classes are looked up in that package
            (and in diffusers), and not at all where it is not installed.
    """
    if document.data is None:
        return []
    packages = installed()
    if engine in ("vllm_omni", "sglang") and not any(p.engine == engine for p in packages):
        packages = ()
    found = []
    for name, what, path in class_names(document.data):
        if "*" in name:
            continue
        span = document.value_span(path)
        if (what == "pipeline" and _TRANSFORMER.search(name)) or (
            what != "pipeline" and _PIPELINE.search(name)
        ):
            is_a, belongs = (
                ("a transformer", "under the transformer's 'class'")
                if what == "pipeline"
                else ("a pipeline", "under 'pipelines'")
            )
            found.append(
                finding(
                    "misplaced-class",
                    f"{name!r} looks like the class of {is_a}",
                    path,
                    span,
                    hint=f"it belongs {belongs}",
                )
            )
            continue
        near = misspelled(name, packages, exported=what != "block")
        if near is not None:
            where = ", ".join(package.name for package in packages)
            found.append(
                finding(
                    "misspelled-class",
                    f"no class is called {name!r} in {where}",
                    path,
                    span,
                    hint=f"did you mean {near!r}?",
                    fix=document.replacement(path, near, key=False),
                )
            )
    return found
