"""Arguments that a call needs and nobody gave, where the probe of an adapter has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.pipelines import Built
from cachedit_yaml.probe.recipe import recipe
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import yaml_files

#: What a picture shows is nobody's to guess.
_CHOSEN: Final = {"prompt", "class_labels"}


def usual_arguments(
    pipeline: Any, entry: Entry, registry: Registry, say: Callable[[str], None]
) -> Callable[[list[str]], Mapping[str, Any]]:
    """Where a call's missing arguments come from: the adapter's probe, or that of a file beside it.

    Args:
        pipeline: a live pipeline.
        entry: its adapter.
        registry: where adapters are looked for.
        say: is told what was taken from where.

    Returns:
        A function from the names that are missing to those that a probe has; none where it has not
        all of them.
    """

    def usual(missing: Sequence[str]) -> Mapping[str, Any]:
        name = type(pipeline).__name__
        for other in _beside(entry, registry) if _CHOSEN.isdisjoint(missing) else ():
            try:
                spec = other.with_probe()
                made = _arguments(spec, name, pipeline)
            except (CacheditYamlError, ProbeError):
                continue  # it is another file's fault, and nobody asked for that file
            if all(item in made for item in missing):
                named = ", ".join(missing)
                say(f"{name} needs {named}: as the probe of {other.shown} has it")
                return {item: made[item] for item in missing}
        return {}

    return usual


def _beside(entry: Entry, registry: Registry) -> Iterator[Entry]:
    """An adapter, and those in the folder where it lies."""
    yield entry
    if entry.kind != "shipped":
        for path in yaml_files(entry.path.parent):
            yield registry.find_file(path, entry.source)


def _arguments(spec: AdapterSpec, name: str, pipeline: Any) -> Mapping[str, Any]:
    if spec.probe is None or name not in spec.pipelines:
        return {}
    return Built(spec, recipe(spec, name), pipeline).arguments()
