"""cachedit-yaml: caching for diffusion transformers, described in YAML instead of Python.

Importing this package imports nothing but itself: what it exports is imported when it is first
used, and torch, cache-dit and diffusers when a function that needs them is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachedit_yaml.api import (
        compile_adapter,
        disable,
        enable,
        enable_transformer,
        find_adapter,
        handle_of,
        list_adapters,
        load_adapter,
    )
    from cachedit_yaml.drafting.draft import Draft, infer
    from cachedit_yaml.engines.cache_dit.register import install, uninstall
    from cachedit_yaml.engines.diffusers.loading import from_pretrained
    from cachedit_yaml.errors import (
        AdapterConflictError,
        AdapterError,
        AdapterNotFoundError,
        CacheditYamlError,
        CacheRuntimeError,
        CompileError,
        ConfigError,
        DraftError,
        ProofError,
        RefusedError,
        SchemaVersionError,
    )
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.probe.live import Proof, check
    from cachedit_yaml.tuning.tune import Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "AdapterConflictError",
    "AdapterError",
    "AdapterNotFoundError",
    "AdapterSpec",
    "CacheRuntimeError",
    "CacheditYamlError",
    "CompileError",
    "ConfigError",
    "Draft",
    "DraftError",
    "Proof",
    "ProofError",
    "RefusedError",
    "SchemaVersionError",
    "Tuning",
    "__version__",
    "check",
    "compile_adapter",
    "disable",
    "enable",
    "enable_transformer",
    "find_adapter",
    "from_pretrained",
    "handle_of",
    "infer",
    "install",
    "list_adapters",
    "load_adapter",
    "tune",
    "uninstall",
]

_HOMES = {
    "AdapterSpec": "language.spec",
    "Draft": "drafting.draft",
    "Proof": "probe.live",
    "Tuning": "tuning.tune",
    "check": "probe.live",
    "from_pretrained": "engines.diffusers.loading",
    "infer": "drafting.draft",
    "install": "engines.cache_dit.register",
    "tune": "tuning.tune",
    "uninstall": "engines.cache_dit.register",
}


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "errors" if name.endswith("Error") else "api")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
