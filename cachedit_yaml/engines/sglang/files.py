"""SGLang's configs: server arguments with ``cache_dit_config:``, in cache-dit's own form.

The file that ``--cache-dit-config`` names is one of cache-dit's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachedit_yaml.engines.cache_dit.files import parts_in
from cachedit_yaml.engines.configs import ConfigFiles, Part
from cachedit_yaml.rules.checks.context import mapping


class Files(ConfigFiles):
    """A file with ``cache_dit_config:``."""

    def has(self, data: Mapping[str, Any]) -> bool:
        """Whether it has that key."""
        return "cache_dit_config" in data

    def parts(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """What stands there; a text is the path of another file."""
        config = data.get("cache_dit_config")
        if not isinstance(config, str):
            yield from parts_in(("cache_dit_config",), mapping(config))


FILES: Final = Files()
