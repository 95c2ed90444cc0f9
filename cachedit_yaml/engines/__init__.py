"""The engines that run models, each in a folder of its own that holds all that is special to it.

To add one, add a folder with an ``engine.py`` and a line to the table. What an engine is to the
rest of the package says :mod:`cachedit_yaml.engines.protocol`; the rest asks this table.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cachedit_yaml.engines.protocol import Engine

#: Where the object of each engine is, which is imported when it is asked for.
_TABLE: Final = {
    "diffusers": "cachedit_yaml.engines.diffusers.engine",
    "cache_dit": "cachedit_yaml.engines.cache_dit.engine",
    "vllm_omni": "cachedit_yaml.engines.vllm_omni.engine",
    "sglang": "cachedit_yaml.engines.sglang.engine",
}
#: The names of the engines, as adapters say them.
NAMES: Final = tuple(_TABLE)


@functools.cache
def find_engine(name: str) -> Engine:
    """The engine of a name.

    Raises:
        KeyError: there is none.
    """
    found: Engine = import_module(_TABLE[name]).ENGINE
    return found


def engines() -> tuple[Engine, ...]:
    """All of them, in the order of the table."""
    return tuple(map(find_engine, NAMES))


def engine_of(cls: type) -> str | None:
    """The engine whose class this is, told by the package that it comes from."""
    package = cls.__module__.partition(".")[0]
    return next((item.name for item in engines() if package in item.packages), None)
