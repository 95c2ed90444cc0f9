"""SGLang diffusion: the plugin of its workers.

SGLang asks cache-dit's table for the adapter of a transformer, by the name of its class, and its
diffusers back end calls ``cache_dit.enable_cache(pipe)``; so :func:`cachedit_yaml.install` is all.
"""

from __future__ import annotations

from types import ModuleType

from cachedit_yaml.engines.late import when_imported


def register() -> None:
    """Put the adapters into cache-dit once it is imported, which most processes never do.

    SGLang calls this in every worker, as a plugin of ``sglang.multimodal_gen.plugins``. What goes
    wrong is logged, and the worker starts without the adapters.
    """
    when_imported("cache_dit", _install)


def _install(_: ModuleType) -> None:
    from cachedit_yaml.engines.cache_dit.register import install

    install()
