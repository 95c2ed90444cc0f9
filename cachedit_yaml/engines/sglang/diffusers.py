"""SGLang's diffusers back end: ``--cache-dit-config FILE``.

SGLang reads the file with ``cache_dit.load_configs``, which passes over every key that it does not
know, an adapter's too, and enables cache-dit with the rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from cachedit_yaml.engines.door import stays_with_the_engine
from cachedit_yaml.errors import CacheditYamlError

logger = logging.getLogger("sglang.multimodal_gen.cachedit_yaml")


def apply_cache_dit(inner: Callable[..., Any], owner: Any, pipe: Any, server_args: Any) -> Any:
    """Around ``DiffusersPipeline._apply_cache_dit``: cache a pipeline as the file says.

    Raises:
        CacheditYamlError: the file is wrong, or its adapter does not fit.
    """
    import cachedit_yaml
    from cachedit_yaml.api import read_config

    source = server_args.cache_dit_config
    if not isinstance(source, (str, os.PathLike)) or not os.path.isfile(source):
        return inner(owner, pipe, server_args)
    config = read_config(source)
    profile = os.environ.get("CACHEDIT_YAML_PROFILE") or None
    try:
        handle = cachedit_yaml.enable(pipe, os.fspath(source), profile=profile)
    except Exception as error:
        if not stays_with_the_engine(error, named=config is None or config.adapter is not None):
            raise
        # cache-dit enables it in its own way, with the file's settings.
        if not isinstance(error, CacheditYamlError):
            logger.exception("cachedit-yaml could not cache %s", type(pipe).__name__)
        logger.error("cache-dit's own code serves %s: %s", type(pipe).__name__, error)
        return inner(owner, pipe, server_args)
    logger.info("%s is cached by cachedit-yaml:\n%s", type(pipe).__name__, handle.explain())
    owner._cache_dit_enabled = True
    return pipe
