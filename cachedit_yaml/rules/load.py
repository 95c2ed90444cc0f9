"""From a file, a text or a dict to an adapter; from a user's dict to cache settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.inherit import Resolver
from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
from cachedit_yaml.language.structure import structure
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.checks import check_settings, check_version
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text


def load_adapter(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    resolve: Resolver | None = None,
    engine: str | None = None,
) -> AdapterSpec:
    """Load one adapter.

    Args:
        source: a path; YAML text (a string that holds a line break); or a dict of the same keys.
        resolve: finds what `extends` names; without it only paths can be extended.
        engine: the engine that asks.

    Returns:
        The adapter, with its name, source and lines filled in.

    Raises:
        SchemaVersionError: the file is written for another version of the language.
        AdapterError: the adapter is wrong; carries every error.
    """
    return read_adapter(source, resolve=resolve).spec_for(engine)


def read_adapter(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    name: str | None = None,
    resolve: Resolver | None = None,
) -> Adapter:
    """Read one adapter and keep everything that can be said about it.

    Args:
        source: as in :func:`load_adapter`.
        name: how messages call a file; default: its path.
        resolve: as in :func:`load_adapter`.
    """
    if isinstance(source, Mapping):
        # Only names can be extended here: a dict lies in no folder.
        data = source if "schema" in source else {"schema": 1, **source}
        found = Document("adapter", dict(data)), check_version(source)
    elif isinstance(source, str) and "\n" in source:
        found = read_text(source)
    else:
        return Adapter(partial(read_file, source, name), resolve=resolve)
    return Adapter.of(*found, resolve=resolve, standalone=False)


def settings_from(config: Any) -> CacheSettings | None:
    """Turn a mapping or a cache-dit config into settings.

    Of a cache-dit config made with ``reset()`` every field that is not None counts; of any other,
    the fields that differ from the class's defaults: an object made with one argument does not
    overwrite everything else.

    Raises:
        ConfigError: a key that nobody knows, or a value that it cannot have.
    """
    if config is None or isinstance(config, CacheSettings):
        return config
    if isinstance(config, Mapping):
        return parse_settings(config)
    from cachedit_yaml.compiler.from_config import mapping_from_config

    return parse_settings(mapping_from_config(config))


def parse_settings(mapping: Mapping[str, Any], what: str = "cache_config") -> CacheSettings:
    """Turn a user's dict into cache settings.

    Args:
        mapping: names and values as under `cache:` in an adapter.
        what: how messages call the dict.

    Returns:
        The settings; what the dict does not mention is ``UNSET``.

    Raises:
        ConfigError: a name or value is wrong; names all of them.
    """
    settings, problems = structure(CacheSettings, mapping, prefix=(what,))
    if isinstance(mapping, Mapping):
        problems += check_settings(mapping, (what,))
    errors = [item for item in problems if item.severity == "error"]
    if settings is None or errors:
        raise ConfigError("\n".join(item.summary() for item in errors))
    return settings
