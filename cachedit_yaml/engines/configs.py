"""Configs of engines, known by their content, and the cache part of each.

- cache-dit: a ``load_configs`` file (``cache_config:`` beside ``parallelism_config:`` and others),
  or the older flat form. SGLang's ``--cache-dit-config`` takes the same.
- SGLang: server arguments with ``cache_dit_config:``.
- vLLM-Omni: a deploy YAML (``stages:``), arguments with ``cache_backend:``, or the JSON of
  ``--cache-config``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from cachedit_yaml.engines.config_rules import check_settings
from cachedit_yaml.engines.config_settings import CacheDitSettings, VllmOmniSettings
from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.language.shapes import keys_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.structure import structure
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.checks.context import items, mapping
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest, one_of
from cachedit_yaml.yaml.document import Document

Kind: TypeAlias = Literal["adapter", "cache-dit", "sglang", "vllm-omni"]

#: Sections of a `load_configs` file.
SECTIONS: Final = ("cache_config", "parallelism_config", "attention_backend", "quantize_config")
#: Keys that only an adapter has, or that every adapter must have.
_ADAPTER: Final = frozenset({"schema", "pipelines", "transformers", "extends", "refuse"})
#: Findings of the walker, as findings about a config.
_CODES: Final = {"unknown-key": "config-unknown-key", "wrong-type": "config-wrong-type"}
_BACKENDS: Final = ("cache_dit", "cachedit", "cache-dit")


class _Part(NamedTuple):
    """One place that holds cache settings.

    Attributes:
        path: the keys that lead there.
        settings: the dataclass that says what is allowed.
        backend: the cache backend that is named beside it; None where none is needed.
        beside: the mapping that it stands in, whose own keys the engine reads.
    """

    path: KeyPath
    settings: type
    backend: object = "cache_dit"
    beside: KeyPath | None = None


def recognise(data: Mapping[str, Any] | None) -> Kind:
    """What a file holds. Whatever is no engine's config is taken for an adapter."""
    if not data or _ADAPTER & data.keys():
        return "adapter"
    if "cache_dit_config" in data:
        return "sglang"
    stages = [mapping(stage) for stage in items(data.get("stages"))]
    if "cache_backend" in data or any(
        "cache_backend" in stage or "cache_config" in stage or "stage_id" in stage
        for stage in stages
    ):
        return "vllm-omni"
    if any(name in data for name in SECTIONS):
        return "cache-dit"
    own = {"adapter", "profile", "execution", "scm_steps_mask_policy", "scm_steps_policy"}
    known = set(keys_of(VllmOmniSettings)) & data.keys()
    flat = set(keys_of(CacheDitSettings)) & data.keys()
    if len(known | flat) < max(1, len(data) / 2):
        return "adapter"
    return "vllm-omni" if own & data.keys() else "cache-dit"


def split_sections(document: Document) -> tuple[Document | None, Document] | None:
    """Take a file apart that holds sections of cache-dit, and perhaps an adapter.

    Returns:
        The adapter (None where there is none) and the sections; None for any other file.
    """
    data = document.data
    if not data:
        return None
    if recognise(data) == "cache-dit":
        return None, document
    sections = {name: value for name, value in data.items() if name in SECTIONS}
    if not sections or not _ADAPTER & data.keys():
        return None
    adapter = {name: value for name, value in data.items() if name not in SECTIONS}
    return dataclasses.replace(document, data=adapter), dataclasses.replace(document, data=sections)


def check_config(kind: Kind, document: Document, registry: Registry) -> list[Diagnostic]:
    """Check the cache part of an engine's config.

    Args:
        kind: what :func:`recognise` says.
        document: the file.
        registry: where adapters and profiles are looked up.
    """
    data = document.data
    if data is None:
        return []
    found: list[Diagnostic] = []
    for part in _parts(kind, data):
        value = _at(data, part.path)
        if value is None:
            continue
        found += _structure(part, value, document)
        settings = mapping(value)
        found += check_settings(settings, part.path, document, part.backend)
        if part.settings is VllmOmniSettings:
            found += _adapter(settings, part.path, document, registry)
        found += _beside(part, mapping(_at(data, part.beside or ())), document)
    if kind == "cache-dit":
        found += _sections(data, document)
    return found


def _parts(kind: Kind, data: Mapping[str, Any]) -> Iterator[_Part]:
    if kind == "cache-dit":
        yield from _cache_dit((), data)
    elif kind == "sglang":
        config = data.get("cache_dit_config")
        # A text is the path of another file.
        if not isinstance(config, str):
            yield from _cache_dit(("cache_dit_config",), mapping(config))
    elif "stages" in data or "cache_backend" in data:
        if "cache_config" in data or "cache_backend" in data:
            yield _Part(("cache_config",), VllmOmniSettings, data.get("cache_backend"), ())
        for index, stage in enumerate(items(data.get("stages"))):
            path: KeyPath = ("stages", index)
            if "cache_config" in mapping(stage):
                yield _Part((*path, "cache_config"), VllmOmniSettings,
                            mapping(stage).get("cache_backend"), path)  # fmt: skip
    else:
        yield _Part((), VllmOmniSettings)


def _cache_dit(path: KeyPath, data: Mapping[str, Any]) -> Iterator[_Part]:
    if "cache_config" in data:
        yield _Part((*path, "cache_config"), CacheDitSettings, "cache_dit", path)
    elif not any(name in data for name in SECTIONS):
        yield _Part(path, CacheDitSettings)


def _structure(part: _Part, value: object, document: Document) -> list[Diagnostic]:
    _, problems = structure(part.settings, value, document, part.path)
    return [
        dataclasses.replace(item, code=_CODES.get(item.code, "config-wrong-value"))
        for item in problems
    ]


def _adapter(
    settings: Mapping[str, Any], path: KeyPath, document: Document, registry: Registry
) -> list[Diagnostic]:
    """The adapter and the profile that a config names."""
    name, profile = settings.get("adapter"), settings.get("profile")
    if not isinstance(name, str) or name == "engine":
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


def _beside(part: _Part, around: Mapping[str, Any], document: Document) -> list[Diagnostic]:
    """Cache settings that stand beside `cache_config`, and a backend that reads none of it."""
    if part.beside is None:
        return []
    found = []
    names = set(keys_of(CacheDitSettings)) | set(keys_of(VllmOmniSettings))
    for name in around:
        # `profile` and the like may well be arguments of the engine itself.
        if name in names and ("_" in name and not name.startswith("enable_c")):
            path = (*part.beside, name)
            found.append(Diagnostic(
                "config-not-reached", f"{name!r} stands beside 'cache_config', where nothing reads "
                "it", path, document.key_span(path),
                hint="move it under 'cache_config'",
            ))  # fmt: skip
    settings = mapping(_at(document.data, part.path))
    ours = set(settings) & (set(keys_of(CacheDitSettings)) | {"adapter", "profile", "execution"})
    if part.backend in (None, "none") and ours:
        found.append(Diagnostic(
            "config-not-reached", "'cache_config' is given, and no cache backend", part.path,
            document.key_span(part.path), hint="add 'cache_backend: cache_dit'",
        ))  # fmt: skip
    return found


def _sections(data: Mapping[str, Any], document: Document) -> list[Diagnostic]:
    """Sections whose name looks misspelled; cache-dit reads those that it knows and no other."""
    if not any(name in data for name in SECTIONS):
        return []
    found = []
    for name in data:
        near = nearest(name, SECTIONS) if name not in SECTIONS else []
        if near:
            fix = document.replacement((name,), near[0], key=True) if near[0] not in data else ()
            found.append(Diagnostic(
                "config-unknown-key", f"unknown key {name!r}", (name,), document.key_span((name,)),
                hint=f"did you mean {near[0]!r}?", fix=fix,
            ))  # fmt: skip
    return found


def _at(data: object, path: KeyPath) -> object:
    for step in path:
        if isinstance(step, int):
            data = items(data)[step]
        else:
            data = mapping(data).get(step)
    return data
