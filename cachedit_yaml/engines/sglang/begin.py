"""Cache the transformers of one request, or watch them in it."""

from __future__ import annotations

import dataclasses
import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.api import handle_of, load_adapter
from cachedit_yaml.engines.door import compile_for
from cachedit_yaml.engines.sglang.settings import NAME, Asked, RequestError
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.runtime.execution import start

if TYPE_CHECKING:
    from cachedit_yaml.compiler.parallel import Ranks
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.runtime.handle import Handle

logger = logging.getLogger("sglang.multimodal_gen.cachedit_yaml")

Inner = Callable[..., Any]

#: What ``auto`` watches, also where it has said why it caches nothing.
WATCHED: Final[weakref.WeakKeyDictionary[Any, Handle]] = weakref.WeakKeyDictionary()


def cached_or_watched(module: Any) -> Handle | None:
    """The handle of a transformer that is ours, cached or watched; None for the engine's."""
    return WATCHED.get(module) or handle_of(module)


def ranks_of(inner: Inner, given: Mapping[str, Any]) -> Ranks | None:
    """The ranks that run each forward together; None where this one runs it alone."""
    import torch.distributed as dist

    from cachedit_yaml.compiler.parallel import Ranks

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    groups = [given.get(name) for name in ("sp_group", "tp_group")]
    divided = [item for item in groups if item is not None and dist.get_world_size(item) > 1]
    engine = sys.modules[inner.__module__]
    joint = bool(given.get("joint_cfg_decision"))
    if len(divided) > 1 or (joint and engine.get_classifier_free_guidance_world_size() > 1):
        return Ranks(engine.get_dit_group())
    # Else guidance branches are on ranks of their own, each with its own decisions.
    return Ranks(divided[0]) if divided else None


def watch(
    pairs: list[tuple[Any, Any]],
    asked: list[Asked],
    given: Mapping[str, Any],
    ranks: Ranks | None,
) -> None:
    """Draft an adapter for each transformer from its first generation, and cache it then."""
    from cachedit_yaml.drafting.auto import automatic

    handles: list[Handle] = []
    try:
        for (module, config), wish in zip(pairs, asked, strict=True):

            def begin(target: Any, data: Mapping[str, Any], wish: Asked = wish) -> Handle:
                plan = _plan(load_adapter(data, engine=NAME), target, wish, given, ranks)
                return start(plan, wish.execution)

            options = {"cache_config": wish.settings, "profile": wish.profile}
            more = {**options, "execution": wish.execution}
            handles.append(automatic(module, more, begin, told=True))
            handles[-1].refresh(config.num_inference_steps or None)
            WATCHED[module] = handles[-1]
            logger.info("%s is watched in its first request", type(module).__name__)
    except BaseException:
        for handle in handles:
            handle.disable()
        raise


def _plan(
    spec: AdapterSpec, module: Any, wish: Asked, given: Mapping[str, Any], ranks: Ranks | None
) -> Plan:
    """The plan of one transformer.

    Raises:
        CacheditYamlError: the adapter does not fit, or what was asked for does not.
    """
    try:
        plan = compile_for(
            spec,
            None,
            transformer=module,
            profile=wish.profile,
            settings=wish.settings,
            where="cache_dit_params",
        )
    except ConfigError as error:
        raise RequestError(str(error)) from error
    separate = plan.separate_cfg
    if separate is None:
        separate = bool(given.get("has_separate_cfg"))
    return dataclasses.replace(plan, separate_cfg=separate, together=ranks)


def enable(
    pairs: list[tuple[Any, Any]],
    asked: list[Asked],
    spec: AdapterSpec,
    given: Mapping[str, Any],
    ranks: Ranks | None,
) -> None:
    """Cache all of the transformers, or none."""
    names = list(spec.transformers)
    plans = []
    for index, ((module, _), wish) in enumerate(zip(pairs, asked, strict=True)):
        # The engine divides the steps, and tells each transformer its own.
        own = dataclasses.replace(spec, step_split=None)
        if len(pairs) > 1:
            name = names[min(index, len(names) - 1)]
            own = dataclasses.replace(own, transformers={name: spec.transformers[name]})
        plans.append(_plan(own, module, wish, given, ranks))
    handles = []
    try:
        for plan, wish in zip(plans, asked, strict=True):
            handles.append(start(plan, wish.execution))
    except BaseException:
        for handle in handles:
            handle.disable()
        raise
    for handle, (module, config) in zip(handles, pairs, strict=True):
        handle.refresh(config.num_inference_steps or None)
        logger.info("%s is cached by cachedit-yaml:\n%s", type(module).__name__, handle.explain())
