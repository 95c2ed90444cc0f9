"""Config files of engines, known by their content, and the cache part of each.

What an engine's files look like says its :class:`ConfigFiles`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from cachedit_yaml.engines import engines, find_engine
from cachedit_yaml.engines.config_rules import check_settings
from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.language.schemas import Schema, schema_of
from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
from cachedit_yaml.language.structure import check
from cachedit_yaml.registry.hub import hub_name
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.checks.context import items, mapping
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest, one_of
from cachedit_yaml.yaml.document import Document

#: Keys that only an adapter has, or that every adapter must have.
ADAPTER_KEYS: Final = frozenset({"schema", "pipelines", "transformers", "extends", "refuse"})
#: Findings about structure, as findings about a config.
_CODES: Final = {"unknown-key": "config-unknown-key", "wrong-type": "config-wrong-type"}


class Settings:
    """The cache settings that an engine reads.

    Args:
        module: the engine's module; ``cache_config.schema.json`` beside it says what they may be.
        foreign: names from elsewhere, and what to write here.
        ours: whether the language's own settings are read too.
    """

    def __init__(self, module: str, foreign: Mapping[str, str], *, ours: bool = False) -> None:
        self.path = Path(module).with_name("cache_config.schema.json")
        self.foreign = foreign
        self.ours = ours

    @functools.cached_property
    def schema(self) -> Schema:
        """What they may be."""
        schema: Schema = json.loads(self.path.read_text(encoding="utf-8"))
        ours = schema_of(CacheSettings)["properties"] if self.ours else {}
        return {**schema, "properties": {**ours, **schema["properties"]}}

    @functools.cached_property
    def others(self) -> Mapping[str, str]:
        """Those of the engine's other cache backends, and which one reads them."""
        properties = self.schema["properties"]
        return {name: item["$comment"] for name, item in properties.items() if "$comment" in item}


class Part(NamedTuple):
    """One place that holds cache settings.

    Attributes:
        path: the keys that lead there.
        settings: what is read there.
        backend: the cache backend that is named beside it; None where none is needed.
        beside: the mapping that it stands in, whose own keys the engine reads.
    """

    path: KeyPath
    settings: Settings
    backend: object = "cache_dit"
    beside: KeyPath | None = None


class ConfigFiles:
    """The config files of one engine.

    Attributes:
        settings: its cache settings; None where they are those of another engine.
        only: keys of the settings alone in a file that show whose they are.
    """

    settings: ClassVar[Settings | None] = None
    only: ClassVar[frozenset[str]] = frozenset()

    def has(self, data: Mapping[str, Any]) -> bool:
        """Whether a file is surely one of them."""
        raise NotImplementedError

    def parts(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """Where one of them holds cache settings."""
        raise NotImplementedError

    def remarks(self, data: Mapping[str, Any], document: Document) -> list[Diagnostic]:
        """What else is wrong in one of them."""
        return []


def _files() -> dict[str, ConfigFiles]:
    """By engine, the more particular ones first."""
    found = ((item.name, item.files()) for item in reversed(engines()))
    return {name: files for name, files in found if files is not None}


def recognise(data: Mapping[str, Any] | None) -> str:
    """The engine whose config a file is. Whatever is no engine's is ``adapter``."""
    if not data or ADAPTER_KEYS & data.keys():
        return "adapter"
    known = _files()
    for name, files in known.items():
        if files.has(data):
            return name
    # The settings alone, as a file or on a command line.
    if len(_words(known.values()) & data.keys()) < max(1, len(data) / 2):
        return "adapter"
    return next((name for name, files in known.items() if files.only & data.keys()), [*known][-1])


def _words(known: Iterable[ConfigFiles]) -> set[str]:
    """The names of all cache settings."""
    found = (files.settings for files in known if files.settings is not None)
    return {key for settings in found for key in settings.schema["properties"]}


def check_config(engine: str, document: Document, registry: Registry) -> list[Diagnostic]:
    """Check the cache part of an engine's config.

    Args:
        engine: what :func:`recognise` says.
        document: the file.
        registry: where adapters and profiles are looked up.
    """
    files, data = find_engine(engine).files(), document.data
    if files is None or data is None:
        return []
    found: list[Diagnostic] = []
    for part in files.parts(data):
        value = _at(data, part.path)
        if value is None:
            continue
        found += _structure(part, value, document)
        settings = mapping(value)
        read_by_others = part.settings.others if part.backend in ("cache_dit", None) else {}
        found += check_settings(settings, part.path, document, read_by_others)
        if "adapter" in part.settings.schema["properties"]:
            found += _adapter(settings, part.path, document, registry)
        found += _beside(part, mapping(_at(data, part.beside or ())), document)
    return found + files.remarks(data, document)


def _structure(part: Part, value: object, document: Document) -> list[Diagnostic]:
    settings = part.settings
    problems = check(settings.schema, value, document, part.path, settings.foreign)
    return [
        dataclasses.replace(item, code=_CODES.get(item.code, "config-wrong-value"))
        for item in problems
    ]


def _adapter(
    settings: Mapping[str, Any], path: KeyPath, document: Document, registry: Registry
) -> list[Diagnostic]:
    """The adapter and the profile that a config names."""
    name, profile = settings.get("adapter"), settings.get("profile")
    if not isinstance(name, str) or name in ("engine", "auto"):
        return []

    def wrong(message: str, key: str, near: list[str], expected: str | None) -> Diagnostic:
        where = (*path, key)
        return Diagnostic(
            "config-unknown-adapter", message, where, document.value_span(where),
            expected=expected, hint=f"did you mean {near[0]!r}?" if near else None,
            fix=document.replacement(where, near[0], key=False) if near else (),
        )  # fmt: skip

    names = sorted({entry.name for entry in registry.entries})
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    if not is_path and name not in names:
        return [wrong(f"no adapter is called {name!r}", "adapter", nearest(name, names), None)]
    if hub_name(name) is not None:
        return []  # a config that is only checked asks nothing of the hub
    try:
        spec: AdapterSpec = registry.get(name)
    except CacheditYamlError as error:
        # A path may exist only where the engine runs; a wrong adapter is reported in its own file.
        message = str(error).splitlines()[0]
        return [] if is_path else [wrong(message, "adapter", [], None)]
    if isinstance(profile, str) and profile not in spec.profiles:
        expected = one_of(sorted(spec.profiles)) if spec.profiles else None
        return [
            wrong(f"adapter {name!r} has no profile {profile!r}", "profile",
                  nearest(profile, spec.profiles), expected)
        ]  # fmt: skip
    return []


def _beside(part: Part, around: Mapping[str, Any], document: Document) -> list[Diagnostic]:
    """Cache settings that stand beside `cache_config`, and a backend that reads none of it."""
    if part.beside is None:
        return []
    found = []
    names = _words(_files().values())
    for name in around:
        # `profile` and the like may well be arguments of the engine itself.
        if name in names and ("_" in name and not name.startswith("enable_c")):
            path = (*part.beside, name)
            found.append(Diagnostic(
                "config-not-reached", f"{name!r} stands beside 'cache_config', where nothing reads "
                "it", path, document.key_span(path),
                hint="move it under 'cache_config'",
            ))  # fmt: skip
    ours = part.settings.schema["properties"].keys() - part.settings.others.keys()
    given = mapping(_at(document.data, part.path)).keys()
    if part.backend in (None, "none") and ours & given:
        found.append(Diagnostic(
            "config-not-reached", "'cache_config' is given, and no cache backend", part.path,
            document.key_span(part.path), hint="add 'cache_backend: cache_dit'",
        ))  # fmt: skip
    return found


def _at(data: object, path: KeyPath) -> object:
    for step in path:
        if isinstance(step, int):
            data = items(data)[step]
        else:
            data = mapping(data).get(step)
    return data
