"""The enabler: from the engine's pipeline and config to a cached pipeline."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.api import AUTO
from cachedit_yaml.engines.door import compile_for, stays_with_the_engine
from cachedit_yaml.engines.late import wrap
from cachedit_yaml.engines.request import ENGINE
from cachedit_yaml.engines.vllm_omni.settings import Request, read
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.registry import Entry, Registry

if TYPE_CHECKING:
    from cachedit_yaml.runtime.handle import Handle
    from cachedit_yaml.runtime.patching import Patch

logger = logging.getLogger("vllm_omni.cachedit_yaml")

NAME: Final = "vllm_omni"
_table_lock = threading.RLock()


def install(package: ModuleType) -> list[str]:
    """Register an enabler for every class that an adapter names.

    What no name tells (a class derived from one, a pattern, an adapter given by its path) is found
    when the engine enables its cache.

    Args:
        package: ``vllm_omni.diffusion.cache.cachedit``, imported.

    Returns:
        The names of the pipeline classes.
    """
    table: dict[str, Any] = package.CUSTOM_DIT_ENABLERS
    enabler = functools.partial(enable, result=package.CacheDiTEnableResult)
    names = sorted(
        {
            name
            for entry in Registry.load().entries
            if is_ours(entry)
            for name, *_ in entry.claims("pipeline", NAME)
            if "*" not in name
        }
    )
    own = {name: table.get(name) for name in names}
    table.update(dict.fromkeys(names, enabler))

    def enable_backend(inner: Callable[..., None], self: Any, pipeline: Any) -> None:
        name = type(pipeline).__name__
        without_us = own[name] if name in own else table.get(name)
        request, served = read(self.config), True
        try:
            served = serves(pipeline, request)
            with _entry(table, name, enabler if served else without_us):
                inner(self, pipeline)
            return
        except Exception as error:
            if not served or not stays_with_the_engine(error, named=request.named):
                raise
            if not isinstance(error, CacheditYamlError):
                logger.exception("cachedit-yaml could not cache %s", name)
            logger.error("%s\nThe engine's own cache code serves it instead.", error)
        with _entry(table, name, without_us):
            inner(self, pipeline)

    wrap(package.CacheDiTBackend, "enable", enable_backend)
    wrap(package.RequestScopedCacheDiTRuntime, "prepare", prepare)
    return names


#: The handles that pipelines switched on for a request. The others are the server's.
_by_request: weakref.WeakSet[Handle] = weakref.WeakSet()
_switching = threading.local()


def prepare(inner: Callable[..., None], self: Any, spec: Any) -> None:
    """Around ``RequestScopedCacheDiTRuntime.prepare``: a pipeline wants this cache, or none.

    Pipelines ask for none where cache-dit would count forwards wrongly, such as without guidance.
    Here nothing is counted, so what the server has switched on stays on. A request of lossless
    quality is not cached all the same.
    """
    from cachedit_yaml.api import handle_of

    handle = handle_of(self._pipeline)
    if spec is None and handle is not None and handle not in _by_request:
        return
    _switching.on = True
    try:
        inner(self, spec)
    finally:
        _switching.on = False


def is_ours(entry: Entry) -> bool:
    """Whether an adapter may serve a pipeline that nobody asked it to.

    A shipped adapter for diffusers' class of the same name was not tried on the engine's class; it
    serves it where ``adapter`` names it.
    """
    return NAME in entry.engines or (entry.home and entry.kind != "shipped")


@contextmanager
def _entry(table: dict[str, Any], name: str, enabler: Any) -> Iterator[None]:
    """Hold an entry of the engine's table for the time of one enable."""
    with _table_lock:
        before = table.pop(name, None)
        if enabler is not None:
            table[name] = enabler
        try:
            yield
        finally:
            table.pop(name, None)
            if before is not None:
                table[name] = before


def serves(pipeline: Any, request: Request) -> bool:
    """Whether a pipeline is ours: it has an adapter, and is not left to the engine."""
    if request.adapter == ENGINE:
        return False
    if request.adapter is not None:
        return True  # also 'auto'
    try:
        if not is_ours(Registry.load().match_pipeline(type(pipeline), NAME).entry):
            raise AdapterNotFoundError
    except AdapterNotFoundError:
        if request.unknown:
            logger.warning(
                "no adapter serves %s, and the engine's own cache code ignores the keys %s",
                type(pipeline).__name__, ", ".join(request.unknown),
            )  # fmt: skip
        return False
    return True


def adapter_for(pipeline: Any, request: Request) -> AdapterSpec | None:
    """The adapter that was asked for, or the one that names the pipeline's class.

    Returns:
        The adapter; None where ``auto`` has to draft one.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`.
    """
    registry = Registry.load()
    if request.adapter not in (None, AUTO):
        return registry.get(request.adapter, NAME)
    try:
        match = registry.match_pipeline(type(pipeline), NAME)
        if request.adapter == AUTO and not is_ours(match.entry):
            return None
    except AdapterNotFoundError:
        if request.adapter == AUTO:
            return None
        raise
    if match.note:
        logger.info("adapter %s: %s", match.spec.name, match.note)
    return match.spec


def adopts(pipeline: Any) -> bool:
    """Whether a pipeline switches the engine's cache for each request itself."""
    from vllm_omni.diffusion.models.interface import SupportsRequestScopedCacheDiT

    return isinstance(pipeline, SupportsRequestScopedCacheDiT)


def enable(pipeline: Any, config: Any, *, result: Any) -> Any:
    """Cache a pipeline as its adapter and the engine's config say.

    Args:
        pipeline: the engine's live pipeline.
        config: its ``DiffusionCacheConfig``.
        result: the engine's ``CacheDiTEnableResult``.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`. The pipeline is then as before.
    """
    from cachedit_yaml.api import load_adapter
    from cachedit_yaml.drafting.auto import automatic
    from cachedit_yaml.engines.vllm_omni.ranks import ranks_of_one_forward
    from cachedit_yaml.engines.vllm_omni.report import Report
    from cachedit_yaml.engines.vllm_omni.stepwise import patches_for
    from cachedit_yaml.engines.vllm_omni.target import targets_of
    from cachedit_yaml.engines.vllm_omni.wishes import Wishes
    from cachedit_yaml.runtime.execution import start

    request = read(config)
    settings = request.settings()
    if request.others:
        logger.warning(
            "cache_config: %s: for another cache backend, no use here", ", ".join(request.others)
        )
    patches: list[Patch] = []

    def begin(pipeline: Any, adapter: Any) -> Handle:
        spec = load_adapter(adapter, engine=NAME)
        plan = compile_for(
            spec, pipeline, profile=request.profile, settings=settings, where="cache_config"
        )
        plan = dataclasses.replace(plan, together=ranks_of_one_forward())
        text = plan.describe()
        handle = start(plan, request.execution)
        wishes = Wishes(plan, request, own_quality=adopts(pipeline))
        patches.extend([Report(handle, wishes), *patches_for(pipeline, handle, wishes)])
        for patch in patches:
            patch.install()
        logger.info("%s is cached by cachedit-yaml:\n%s", type(pipeline).__name__, text)
        if len(patches) > 1:
            logger.info("with step execution, each request has a cache of its own")
        return handle

    spec = adapter_for(pipeline, request)
    if spec is not None:
        handle = begin(pipeline, spec)
    else:
        options = {"cache_config": settings, "profile": request.profile}
        handle = automatic(pipeline, {**options, "execution": request.execution}, begin, told=True)
        logger.info("%s is watched in its first request", type(pipeline).__name__)
    if getattr(_switching, "on", False):
        _by_request.add(handle)

    def refresh(pipeline: Any, num_inference_steps: int | None, verbose: bool = True) -> None:
        handle.refresh(num_inference_steps or None)

    def disable() -> None:
        handle.disable()
        for patch in patches:
            patch.remove()

    return result(refresh=refresh, targets=targets_of(handle, disable))
