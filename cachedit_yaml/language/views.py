"""What an adapter means in one engine: its file, what it extends, and the defaults, merged.

From weak to strong: ``defaults.yaml``; for each file of the chain of `extends`, the nearest last,
what it says for all engines and its section for this one. The merge works on plain data, before
anything is checked, so that what an adapter inherits is checked like what it says itself; each
value keeps the place of the file that it came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from cachedit_yaml.engines import NAMES
from cachedit_yaml.language.defaults import defaults_for
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.merge import lay_over
from cachedit_yaml.language.shapes import keys_of
from cachedit_yaml.language.spec import AdapterSpec, DefaultSettings, Heading
from cachedit_yaml.yaml.diagnostics import KeyPath
from cachedit_yaml.yaml.document import Document

#: Keys that say what a file is, whom it serves and how it is tried: they are never inherited.
OWN_KEYS: Final = frozenset(
    {"schema", "name", "description", "pipelines", "models", "extends", "probe"}
)
#: What means nothing where nothing is cached.
IDLE_BESIDE_REFUSAL: Final = (
    "cache", "steps", "scheduler", "step_split", "guidance", "set", "profiles"
)  # fmt: skip


class _Layer(NamedTuple):
    document: Document
    below: KeyPath
    without: frozenset[str]

    @property
    def data(self) -> Mapping[str, Any]:
        data: Any = self.document.data
        for step in self.below:
            data = data[step]
        return data  # type: ignore[no-any-return]


def sections_of(data: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The sections of a file for engines that exist."""
    found = data.get("engines")
    if not isinstance(found, Mapping):
        return {}
    return {name: found[name] for name in NAMES if isinstance(found.get(name), Mapping)}


def is_home(data: Mapping[str, Any]) -> bool:
    """Whether a file serves the engines that run diffusers' pipelines without a section."""
    return bool(data.get("pipelines")) or not sections_of(data)


def engines_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The engines that a file serves, in the order of the table."""
    sections, home = sections_of(data), is_home(data)
    return tuple(name for name in NAMES if name in sections or (home and name in HOME))


def view(chain: Sequence[Document], engine: str) -> Document:
    """Merge an adapter for one engine.

    Args:
        chain: the adapter, and what it extends, the nearest first; each has data.
        engine: the engine.

    Returns:
        A document with the merged data, without `engines`, and the place of each value.
    """
    adapter, *bases = chain
    layers = [layer for document in reversed(bases) for layer in _layers(document, engine, True)]
    layers += _layers(adapter, engine, False)
    said = [index for index, layer in enumerate(layers) if "refuse" in layer.data]
    refusal = said[-1] if said and layers[said[-1]].data["refuse"] is not None else None
    result = Document(adapter.name, {})
    if refusal is None:
        kind = next(
            (d.data["kind"] for d in chain if d.data and isinstance(d.data.get("kind"), str)),
            "image",
        )
        result = _not_outranking(defaults_for(kind, engine), layers)
    # To say that a whole part of the defaults is nothing is more likely to be a slip.
    keep = [] if bases else list(keys_of(DefaultSettings))
    for index, layer in enumerate(layers):
        if index == refusal:
            result = _only_whom(result)
        result = lay_over(
            result,
            layer.document,
            AdapterSpec,
            below=layer.below,
            without=layer.without,
            keep=() if layer.below else keep,
        )
    return result


def own_view(document: Document, engine: str) -> Document:
    """What a file itself says for one engine, without what it extends and without defaults."""
    if engine not in sections_of(document.data or {}):
        return document
    result = Document(document.name, {})
    for layer in _layers(document, engine, False):
        result = lay_over(
            result, layer.document, AdapterSpec, below=layer.below, without=layer.without
        )
    return result


def _layers(document: Document, engine: str, inherited: bool) -> list[_Layer]:
    data = document.data or {}
    own = OWN_KEYS if inherited else frozenset[str]()
    # Outside of the sections stands the probe of diffusers' pipelines.
    probe = frozenset() if engine in HOME else frozenset({"probe"})
    found = [_Layer(document, (), own | probe | {"engines"})]
    if engine in sections_of(data):
        heading = frozenset(keys_of(Heading)) | {"engines"}
        found.append(_Layer(document, ("engines", engine), own | heading))
    return found


def _not_outranking(defaults: Document, layers: Sequence[_Layer]) -> Document:
    """The defaults, whose `steps` leave alone what the adapter sets itself for any number of steps.

    Within one file, `steps` outrank `cache` and `params`; no default outranks an adapter.
    """
    steps = (defaults.data or {}).get("steps")
    own = {name for layer in layers for name in _settings_of(layer.data)}
    if not steps or not own:
        return defaults
    left = [{k: v for k, v in item.items() if k not in own} for item in steps]
    positions = {
        path: place
        for path, place in defaults.positions.items()
        if not (path[:1] == ("steps",) and len(path) > 2 and path[2] in own)
    }
    data = {**(defaults.data or {}), "steps": left}
    return dataclasses.replace(defaults, data=data, positions=positions)


def _settings_of(data: Mapping[str, Any]) -> Iterator[str]:
    """The settings that a file gives in `cache` and in any `params`."""
    yield from _mapping(data.get("cache"))
    todo = [data.get("transformers")]
    for value in todo:
        for key, below in _mapping(value).items():
            if key == "params":
                yield from _mapping(below)
            else:
                todo += below if isinstance(below, list) else [below]


def _only_whom(base: Document) -> Document:
    """Of what a refusal inherits, whom it is for; nothing else has a meaning beside it."""
    data = {k: v for k, v in (base.data or {}).items() if k not in IDLE_BESIDE_REFUSAL}
    classes = {
        name: list(names) for name, names in classes_of(data.get("transformers")).items() if names
    }
    data.pop("transformers", None)
    if classes:
        data["transformers"] = {name: {"class": names} for name, names in classes.items()}
    result = Document(base.name, data, path=base.path, sources=base.sources)
    result.positions = {
        path: place
        for path, place in base.positions.items()
        if path and path[0] in data and (path[0] != "transformers" or path[2:3] in ((), ("class",)))
    }
    return result


def classes_of(transformers: object) -> dict[str, dict[str, KeyPath]]:
    """The classes of each transformer and its variants, with the keys that lead to each."""
    found: dict[str, dict[str, KeyPath]] = {}
    for name, value in _mapping(transformers).items():
        classes = found.setdefault(name, {})
        layouts: list[tuple[KeyPath, object]] = [((name,), value)]
        variants = _mapping(value).get("variants")
        for index, variant in enumerate(variants if isinstance(variants, list) else ()):
            layouts.append(((name, "variants", index), variant))
        for path, layout in layouts:
            names = _mapping(layout).get("class")
            for index, item in enumerate(names if isinstance(names, list) else ()):
                if isinstance(item, str):
                    classes.setdefault(item, (*path, "class", index))
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
