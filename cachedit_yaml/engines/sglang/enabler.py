"""Around SGLang's functions that cache its own transformers.

Each takes the engine's own function first. It is called for whatever no adapter serves.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from typing import Any

from cachedit_yaml.api import AUTO, handle_of
from cachedit_yaml.engines.door import report, stays_with_the_engine
from cachedit_yaml.engines.request import ENGINE
from cachedit_yaml.engines.sglang.begin import (
    WATCHED,
    Inner,
    cached_or_watched,
    enable,
    ranks_of,
    watch,
)
from cachedit_yaml.engines.sglang.settings import (
    NAME,
    Asked,
    check_request,
    read,
    split_request,
)
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.matching import Match
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.runtime.masks import preset_mask

logger = logging.getLogger("sglang.multimodal_gen.cachedit_yaml")


def enable_cache_on_transformer(inner: Inner, *args: Any, **kwargs: Any) -> Any:
    """Cache a transformer as its adapter says.

    Raises:
        CacheditYamlError: the request or the server names an adapter that does not fit.
    """
    return _enable_any(inner, args, kwargs, {"transformer": "config"})


def enable_cache_on_dual_transformer(inner: Inner, *args: Any, **kwargs: Any) -> Any:
    """Cache two transformers, each with its own settings and its own count of steps.

    Raises:
        CacheditYamlError: the request or the server names an adapter that does not fit.
    """
    names = {"transformer": "primary_config", "transformer_2": "secondary_config"}
    return _enable_any(inner, args, kwargs, names)


def _enable_any(inner: Inner, args: Any, kwargs: Any, names: Mapping[str, str]) -> Any:
    """Cache transformers that the engine gives with their configs, by the names of both."""
    given = inspect.signature(inner).bind(*args, **kwargs).arguments
    pairs = [(given[module], given[config]) for module, config in names.items()]
    if not pairs[0][1].enabled or not _serve(inner, pairs, given):
        return inner(*args, **kwargs)
    modules = tuple(module for module, _ in pairs)
    return modules if len(modules) > 1 else modules[0]


def refresh_context_on_transformer(inner: Inner, *args: Any, **kwargs: Any) -> Any:
    """Begin a generation."""
    return _refresh_any(inner, args, kwargs, {"transformer": "num_inference_steps"})


def refresh_context_on_dual_transformer(inner: Inner, *args: Any, **kwargs: Any) -> Any:
    """Begin a generation of two transformers, which the engine tells the steps of each."""
    names = {"transformer": "num_high_noise_steps", "transformer_2": "num_low_noise_steps"}
    return _refresh_any(inner, args, kwargs, names)


def _refresh_any(inner: Inner, args: Any, kwargs: Any, names: Mapping[str, str]) -> Any:
    """Begin a generation of transformers that the engine gives with their numbers of steps."""
    given = inspect.signature(inner).bind(*args, **kwargs).arguments
    handles = [(cached_or_watched(given[module]), given[steps]) for module, steps in names.items()]
    for handle, steps in handles:
        if handle is None:  # the transformers are the engine's
            return inner(*args, **kwargs)
        report(logger, handle)
        handle.refresh(steps or None)
    return None


def disable_cache_on_transformer(inner: Inner, transformer: Any) -> Any:
    """Restore a transformer."""
    handle = cached_or_watched(transformer)
    if handle is None:
        return inner(transformer)
    report(logger, handle)
    handle.disable()
    WATCHED.pop(transformer, None)
    return transformer


def get_scm_mask(inner: Inner, *args: Any, **kwargs: Any) -> Any:
    """The mask of a preset for any number of steps; cache-dit asserts that it knows the number.

    The engine asks for one before it asks who caches the transformer.
    """
    try:
        return inner(*args, **kwargs)
    except AssertionError:
        given = inspect.signature(inner).bind(*args, **kwargs).arguments
        if given.get("compute_bins") and given.get("cache_bins"):
            raise
        return preset_mask(given["preset"], given["num_inference_steps"])


def call_stage(inner: Inner, stage: Any, *args: Any, **kwargs: Any) -> Any:
    """Around a denoising stage: what is left of a generation ends with it, raised or not."""
    why = "its call raised"
    try:
        output = inner(stage, *args, **kwargs)
        why = "its call ended"
        return output
    finally:
        for name in ("transformer", "transformer_2"):
            module = getattr(stage, name, None)
            handle = None if module is None else handle_of(module)
            if handle is not None:
                handle.finish(why)


def resolve_cache_dit_request_overrides(inner: Inner, raw: Any) -> Any:
    """Let ``cache_dit_params`` name an adapter, a profile and every setting of the language.

    Raises:
        RequestError: a key that nobody knows, or a value that it cannot have.
    """
    if not isinstance(raw, Mapping):
        return inner(raw)
    # The engine's module is imported: its function was called.
    module = sys.modules[inner.__module__]
    known = module.CACHE_DIT_REQUEST_PARAM_KEYS, module.CACHE_DIT_REQUEST_KNOB_KEYS
    check_request(raw, *known)
    theirs, ours = split_request(raw, *known)
    found = {**inner(theirs), **ours}
    if isinstance(raw.get("secondary"), Mapping):
        found["secondary"] = dict(raw["secondary"])
    return found


def _serve(inner: Inner, pairs: list[tuple[Any, Any]], given: Mapping[str, Any]) -> bool:
    """Cache transformers; False where the engine's own code is to do it."""
    name = type(pairs[0][0]).__name__
    asked = [read(config) for _, config in pairs]
    named = False
    try:
        named, spec = _adapter_for(pairs[0][0], asked[0])
        if spec is None and not named:
            reason = None
        else:
            reason = _left_to_the_engine(asked[0])
            if reason is None:
                ranks = ranks_of(inner, given)
                if spec is None:
                    watch(pairs, asked, given, ranks)
                else:
                    enable(pairs, asked, spec, given, ranks)
                return True
    except Exception as error:
        if not stays_with_the_engine(error, named=named or asked[0].adapter is not None):
            raise
        # Nobody asked for us: the model runs as it would without this package.
        if not isinstance(error, CacheditYamlError):
            logger.exception("cachedit-yaml could not cache %s", name)
        reason = str(error)
    if reason is not None:
        logger.warning("SGLang's own cache code serves %s: %s", name, reason)
    if asked[0].only_ours and asked[0].adapter != ENGINE:
        keys = ", ".join(asked[0].only_ours)
        logger.warning("SGLang's own cache code, which serves %s, ignores %s", name, keys)
    return False


def _adapter_for(module: Any, asked: Asked) -> tuple[bool, AdapterSpec | None]:
    """The adapter that was asked for, or the one that names the transformer's class.

    Returns:
        Whether somebody asked for it, and the adapter; None where the engine is to do it, or where
        somebody asked for ``auto`` and there is none.
    """
    registry = Registry.load()
    if asked.adapter == ENGINE:
        return False, None
    auto = asked.adapter == AUTO
    if asked.adapter is not None and not auto:
        return True, registry.get(asked.adapter, NAME)
    if asked.file is not None:
        return True, asked.file
    try:
        match = registry.match_transformer(type(module), NAME)
    except AdapterNotFoundError:
        return auto, None
    return auto, match.spec if _is_ours(match, module) else None


def _is_ours(match: Match, module: Any) -> bool:
    """Whether an adapter may serve a transformer that nobody asked it to.

    A shipped adapter for diffusers' class of the same name was not tried on SGLang's class, nor one
    for a base class on a class with a forward of its own (FSDP makes subclasses without one).
    """
    mro = type(module).__mro__
    derived = [cls.__name__ for cls in mro].index(match.matched_name) if match.how == "base" else 0
    if any("forward" in vars(cls) for cls in mro[:derived]):
        return False
    entry = match.entry
    own_class = any(cls.__module__.partition(".")[0] == NAME for cls in mro)
    return NAME in entry.engines or (entry.home and (entry.kind != "shipped" or not own_class))


def _left_to_the_engine(asked: Asked) -> str | None:
    """Why the engine has to cache a transformer that an adapter serves, or None."""
    if asked.compiles:
        return (
            "--enable-torch-compile makes one graph of the whole transformer, where no block can "
            "be skipped; add --regional-compile"
        )
    return None
