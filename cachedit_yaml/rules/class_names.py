"""Names of classes in an adapter: misspelled ones, and those in the wrong place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from cachedit_yaml.engines import find_engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.views import engines_of, sections_of
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


def check_classes(document: Document, engines: Sequence[str] = ()) -> list[Diagnostic]:
    """Check the names of classes that a file itself says.

    An engine's classes are looked up in its package (and in diffusers), and not at all where it is
    not installed.

    Args:
        document: the file, without what it extends.
        engines: the engines that it is for; default: those that it says.
    """
    data = document.data
    if data is None:
        return []
    engines = engines or engines_of(data)
    # What stands outside of the sections is said of diffusers' classes, where it serves those.
    found = _check(document, data, (), engines[:1] if engines[0] in HOME else engines)
    for engine, section in sections_of(data).items():
        found += _check(document, section, ("engines", engine), [engine])
    return found


def _check(
    document: Document, data: Mapping[str, Any], prefix: KeyPath, engines: Sequence[str]
) -> list[Diagnostic]:
    packages = installed()
    wanted = {name for name in engines if name not in HOME and find_engine(name).class_index}
    if not wanted <= {item.engine for item in packages}:
        packages = ()
    found = []
    for name, what, path in class_names(data):
        path = (*prefix, *path)
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
