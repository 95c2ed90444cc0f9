"""The files beside adapters: ``defaults.yaml``, and the probes in ``probes/``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cachedit_yaml.language.defaults import NOT_SETTINGS
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.merge import lay_over
from cachedit_yaml.language.schemas import load
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.structure import check
from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.rules.checks import check_layers, check_order, check_version
from cachedit_yaml.rules.checks.context import mapping
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document


def check_beside(kind: str, document: Document, reading: list[Diagnostic]) -> list[Diagnostic]:
    """Check a file that is no adapter.

    Args:
        kind: ``defaults`` or ``probe``.
        document: the file.
        reading: what reading it found.
    """
    if document.data is None:
        return reading
    found = [*reading, *check_version(document.data, document)]
    found += check_order(document.data, document)
    if any(item.code == "schema-version" for item in found):
        return found
    data = {"schema": 1, **document.data}  # that it is missing is said already, in better words
    found += check(load(kind), data, document)
    for place in _parts(data) if kind == "defaults" else ():
        alone = lay_over(
            Document(document.name, {}), document, AdapterSpec, below=place, without=NOT_SETTINGS
        )
        found += check_layers(alone, place)
    return found


def _parts(data: Mapping[str, Any]) -> Iterator[KeyPath]:
    """The keys that lead to settings in a file of defaults."""
    yield ()
    for key in ("kinds", "engines"):
        for name, part in mapping(data.get(key)).items():
            if isinstance(part, Mapping):
                yield key, name


def idle_probes(
    document: Document, adapter: str | None, engines: Collection[str]
) -> list[Diagnostic]:
    """Probes that nothing reads.

    Args:
        document: a file in ``probes/``.
        adapter: the name of the adapter beside it; None where there is none.
        engines: the engines that the adapter serves.
    """
    if adapter is None:
        return [
            finding(
                "idle-probe",
                "no adapter's file has this name in the folder above",
                span=document.key_span(()),
                hint="rename it as the adapter's file, or remove it",
            )
        ]
    served = {HOME[0] if name in HOME else name for name in engines}
    return [
        finding(
            "idle-probe",
            f"adapter {adapter!r} does not serve {engine}",
            (engine,),
            document.key_span((engine,)),
            hint=f"add 'engines: {{{engine}: {{}}}}' to it, or remove this",
        )
        for engine in load("probe")["properties"]
        if engine != "schema" and engine in (document.data or {}) and engine not in served
    ]
