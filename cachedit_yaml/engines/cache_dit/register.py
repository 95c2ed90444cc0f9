"""Put the adapters into cache-dit's own table, so that ``cache_dit.enable_cache(pipe)`` finds them.

cache-dit looks a class up by the prefix of its name, in the order of the table. Ours are whole
names and come first; whatever they do not serve goes on to cache-dit's own adapters.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.engines.cache_dit.settings import PLAN, with_settings
from cachedit_yaml.engines.cache_dit.unnamed import Unnamed
from cachedit_yaml.errors import AdapterNotFoundError, CacheRuntimeError, CompileError, RefusedError

if TYPE_CHECKING:
    from cache_dit import BlockAdapter

    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.registry.registry import Registry

logger = logging.getLogger(__name__)

Factory = Callable[..., Any]
Say = Callable[..., None]
#: Adapters of other engines describe other classes of the same name.
_ENGINES: Final = ("cache_dit", "sglang")
#: How pipelines announce a guidance branch.
_ANNOUNCED: Final = re.compile(r"cache_context\(\s*[\"'](\w+)")

_installed: _Table | None = None


def install(
    *, adapters: Sequence[str | Path] = (), profile: str | None = None, auto: bool = False
) -> tuple[str, ...]:
    """Register every adapter with cache-dit. Calling it again reads the adapters anew.

    A plain ``cache_dit.enable_cache(pipe)`` then builds its BlockAdapter from YAML. cache-dit runs
    it in its own way (``execution: native``): what that would get wrong is left to cache-dit's own
    adapter for the class, with a warning, and is an error where it has none. Steps and guidance
    are declared there, not read off the run: :func:`cachedit_yaml.enable` does more.

    Args:
        adapters: more folders or files to take adapters from.
        profile: the profile of whichever adapter serves; one that cannot be used is an error, and
            is not left to cache-dit's own adapter.
        auto: what neither an adapter nor cache-dit itself knows is watched in its first generation
            and cached from the second on, as ``enable(pipe, "auto")`` does it.

    Returns:
        The names of the pipeline and transformer classes that are registered.

    Raises:
        CacheRuntimeError: cache-dit is not installed.
        AdapterNotFoundError: a folder or file of `adapters` does not exist.
    """
    global _installed
    from cachedit_yaml.registry.registry import Registry

    registry = Registry.load(extra=adapters)
    try:
        from cache_dit import BlockAdapterRegister
        from cache_dit.caching.cache_adapters.cache_adapter import CachedAdapter
    except ModuleNotFoundError as error:
        raise CacheRuntimeError.not_installed("install()", error) from error
    uninstall()
    _installed = _Table(registry, BlockAdapterRegister, CachedAdapter, profile)
    if auto:
        _installed.unnamed = Unnamed(_installed.knows)
        _installed.unnamed.install()
    return _installed.names


def uninstall() -> bool:
    """Give cache-dit its own table back, exactly as it was.

    What others have registered in the meantime stays. Pipelines that are cached stay cached.

    Returns:
        Whether anything was installed.
    """
    global _installed
    if _installed is None:
        return False
    _installed.remove()
    _installed = None
    return True


class _Table:
    """Our entries in cache-dit's table, and how it was before."""

    def __init__(
        self, registry: Registry, register: Any, adapter: Any, profile: str | None
    ) -> None:
        self.registry = registry
        self.profile = profile
        self.names = _class_names(registry)
        self._register, self._adapter = register, adapter
        self._before: dict[str, Factory] = dict(register._adapters)
        self._factory: Factory = self.build
        # The longest name first: the first one that a class's name begins with is taken.
        ours = dict.fromkeys(sorted(self.names, key=len, reverse=True), self._factory)
        _refill(
            register._adapters, {**ours, **{n: f for n, f in self._before.items() if n not in ours}}
        )
        self.unnamed: Unnamed | None = None
        self._create_context = vars(adapter)["create_context"]
        adapter.create_context = classmethod(with_settings(self._create_context.__func__))

    def remove(self) -> None:
        """Restore the table and cache-dit's functions."""
        if self.unnamed is not None:
            self.unnamed.remove()
        now = self._register._adapters
        added = {
            name: factory
            for name, factory in now.items()
            if factory is not self._factory and self._before.get(name) is not factory
        }
        _refill(now, {**self._before, **added})
        self._adapter.create_context = self._create_context

    def knows(self, target: Any) -> bool:
        """Whether something in the table is for a pipeline or a transformer."""
        name = type(target).__name__
        return any(name.startswith(prefix) for prefix in self._register._adapters)

    def build(self, pipe: Any, **kwargs: Any) -> Any:
        """Build the BlockAdapter of a pipeline; cache-dit calls this.

        Args:
            pipe: a pipeline, or cache-dit's stand-in for one that holds a transformer alone.
            kwargs: for ``BlockAdapter``.

        Raises:
            CacheditYamlError: cache-dit would get it wrong and has no adapter of its own, or the
                adapter refuses.
        """
        from cache_dit.caching.block_adapters import FakeDiffusionPipeline

        alone = pipe.transformer if isinstance(pipe, FakeDiffusionPipeline) else None
        own = self._own(pipe if alone is None else alone)
        # cache-dit asks twice, the second time for the layout alone.
        say = logger.debug if kwargs.get("skip_post_init") else logger.warning
        try:
            plan = self._plan(pipe, alone)
            return _block_adapter(plan, pipe if alone is None else None, own, say, kwargs)
        except AdapterNotFoundError:
            # A longer name that begins like one of ours.
            if own is None:
                raise
        except Exception as error:
            if own is None or self.profile is not None or isinstance(error, RefusedError):
                raise
            say("left to cache-dit's own adapter: %s", error)
        return own(pipe, **kwargs)

    def _own(self, target: Any) -> Factory | None:
        """cache-dit's own factory for a class."""
        name = type(target).__name__
        return next((f for prefix, f in self._before.items() if name.startswith(prefix)), None)

    def _plan(self, pipe: Any, alone: Any) -> Plan:
        from cachedit_yaml.compiler.chains import chains
        from cachedit_yaml.compiler.compile import compile_adapter
        from cachedit_yaml.runtime.clock import Clock
        from cachedit_yaml.runtime.native import NativeExecution

        if alone is not None:
            # SGLang's own transformers come from its package, some with the name of diffusers'.
            ours = type(alone).__module__.partition(".")[0] == "sglang"
            match = self.registry.match_transformer(type(alone), "sglang" if ours else "cache_dit")
            if ours and "sglang" not in match.entry.engines and match.entry.kind == "shipped":
                raise AdapterNotFoundError(
                    f"{match.entry.shown} is made for diffusers' {type(alone).__name__}, not for "
                    "SGLang's; put an adapter of your own into CACHEDIT_YAML_PATH"
                )
            plan = compile_adapter(match.spec, None, transformer=alone, profile=self.profile)
        else:
            match = self.registry.match_pipeline(type(pipe), "cache_dit")
            plan = compile_adapter(match.spec, pipe, profile=self.profile)
        NativeExecution(plan, Clock(plan))  # refuses what would go wrong natively
        if len({len(chains(item)) for item in plan.transformers}) > 1:
            raise CompileError(
                "cache-dit needs the same number of block lists in every transformer; "
                "use cachedit_yaml.enable(pipe)"
            )
        return plan


def _refill(table: dict[str, Factory], content: dict[str, Factory]) -> None:
    table.clear()
    table.update(content)


def _class_names(registry: Registry) -> tuple[str, ...]:
    """The classes that adapters claim; of a pattern, what stands before its first ``*``."""
    found = {
        name.partition("*")[0]
        for entry in registry.adapters()
        for engine in _ENGINES
        if engine in entry.engines
        for what in ("pipeline", "transformer")
        for name, *_ in entry.claims(what, engine)
    }
    return tuple(sorted(found - {""}))


def _block_adapter(
    plan: Plan, pipe: Any, own: Factory | None, say: Say, kwargs: Any
) -> BlockAdapter:
    """One BlockAdapter for all transformers of a plan, fully nested."""
    from cache_dit import BlockAdapter

    from cachedit_yaml.compiler.adapters import nested, placeholder

    if pipe is not None:
        _look_at_arguments(plan, pipe, say)
    else:
        pipe = placeholder(plan.transformers[0].module)
    separate = plan.separate_cfg
    adapter = BlockAdapter(
        pipe=pipe,
        **nested(plan.transformers),
        check_forward_pattern=False,  # the compiler has checked names, roles and classes
        check_num_outputs=False,
        has_separate_cfg=_guess_separate(plan, pipe, own, say) if separate is None else separate,
        **kwargs,
    )
    setattr(adapter, PLAN, plan)
    return adapter


def _look_at_arguments(plan: Plan, pipe: Any, say: Say) -> None:
    """Say what cache-dit loses when the pipeline passes it.

    Raises:
        RefusedError: the pipeline always passes it, as one with a ControlNet does.
    """
    from cachedit_yaml.compiler.loops import inspect_loop

    source = _source(pipe)
    held = any("controlnet" in name and module is not None for name, module in vars(pipe).items())
    for item in plan.transformers:
        names = {name for x in item.lists for name in inspect_loop(item.module, x.path).arguments}
        for name in sorted(name for name in names if f"{name}=" in source):
            text = (
                f"pipeline.{item.path}: cache-dit loses what {name!r} brings into the loop; "
                "use cachedit_yaml.enable(pipe)"
            )
            if held and "controlnet" in name:
                raise RefusedError(text)
            say("%s where it is given", text)


def _guess_separate(plan: Plan, pipe: Any, own: Factory | None, say: Say) -> bool:
    """Whether guidance runs as forwards of its own, where the adapter leaves that to the run.

    cache-dit cannot observe it: its own answer counts, and for a model that it does not know,
    whether the pipeline calls its transformer in more than one place. Where that says two forwards
    and a run has one, cache-dit never hits; the other way round it would mix them.
    """
    from cache_dit import BlockAdapterRegister

    name = type(pipe).__name__
    if any(name.startswith(x) for x in BlockAdapterRegister._predefined_adapters_has_separate_cfg):
        return True
    if own is None:
        source = _source(pipe)
        calls = max((source.count(f"self.{x.path}(") for x in plan.transformers), default=0)
        guess = calls > 1 or len(set(_ANNOUNCED.findall(source))) > 1
        say(
            "%s: guidance is taken to run %s; if that is wrong, give enable_separate_cfg in "
            "cache_config, or use cachedit_yaml.enable(pipe), which sees it",
            name,
            "as a forward of its own" if guess else "in the same forward",
        )
        return guess
    try:
        return bool(own(pipe, skip_post_init=True).has_separate_cfg)
    except Exception:  # its adapters assert classes
        return False


def _source(pipe: Any) -> str:
    try:
        return inspect.getsource(inspect.unwrap(type(pipe).__call__))
    except (OSError, TypeError):
        return ""
