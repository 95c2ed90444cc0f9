"""``enable(pipeline, "auto")``: watch the first generation, cache from the second on."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import cachedit_yaml
from cachedit_yaml.drafting.draft import Draft, drafted
from cachedit_yaml.drafting.trial import alone, prove
from cachedit_yaml.drafting.watch import Watch
from cachedit_yaml.errors import CacheditYamlError, CacheRuntimeError, ConfigError, DraftError
from cachedit_yaml.runtime.cached import WATCHED
from cachedit_yaml.runtime.handle import Handle

#: Generations that are watched once more, because they failed or had one step only.
_MORE: Final = 2

#: Caches a pipeline with a drafted adapter.
Begin: TypeAlias = "Callable[[Any, Mapping[str, Any]], Handle]"
#: What was drafted and proved, by the pipeline or transformer.
_DRAFTS: Final[weakref.WeakKeyDictionary[Any, Mapping[str, Any]]] = weakref.WeakKeyDictionary()

_log = logging.getLogger("cachedit_yaml")


def automatic(
    target: Any,
    options: Mapping[str, Any],
    begin: Begin | None = None,
    *,
    told: bool = False,
) -> Handle:
    """Begin to watch a pipeline; one whose draft was proved before is cached at once.

    Args:
        target: a pipeline or transformer that no adapter serves.
        options: settings for when it is cached, ``cache_config`` and ``profile`` among them.
        begin: caches it with an adapter, given both; default: :func:`cachedit_yaml.enable` with the
            options.
        told: somebody calls the handle's ``refresh`` before each generation, as engines do.

    Raises:
        ConfigError: it is cached or watched already, or cannot be.
        DraftError: nothing could tell where its first generation ends.
    """
    if cachedit_yaml.handle_of(target) is not None:
        raise ConfigError(f"{type(target).__name__} is cached or watched already: disable it first")
    try:
        hash(target)
        weakref.ref(target)
    except TypeError as error:
        raise ConfigError(
            f"'auto' cannot keep track of a {type(target).__name__}: {error}"
        ) from None
    if target in _DRAFTS:
        if begin is not None:
            return begin(target, _DRAFTS[target])
        return cachedit_yaml.enable(target, _DRAFTS[target], **options)
    return cast(Handle, Automatic(target, options, begin, told=told))


class Automatic:
    """Stands for the handle of a pipeline until there is one, and then passes everything on to it.

    The first generation is watched and runs uncached. Where the next one begins (its scheduler is
    told the steps again, its engine says so, or its timestep goes back to the first one), an
    adapter is drafted, and each of its transformers is tried on the last call that was seen: the
    same output with no hit, bit for bit, and F + B blocks and the same values on a hit. What holds
    is cached from then on; else a warning is logged that says why, and the pipeline stays as it
    was.

    Attributes:
        handle: the handle, once there is one.
        why_not: why there will be none; None as long as there may be.
    """

    def __init__(
        self,
        target: Any,
        options: Mapping[str, Any],
        begin: Begin | None = None,
        *,
        told: bool = False,
    ) -> None:
        self._target = weakref.ref(target)
        self._options = dict(options)
        self._begin = begin
        self._steps: int | None = None
        self._more = _MORE
        self._lock = threading.Lock()
        self._watch: Watch | None = Watch(target)
        if not (self._watch.can_tell or told):
            raise DraftError(
                f"'auto' needs a scheduler with set_timesteps() to tell where a generation of "
                f"{type(target).__name__} ends; write its adapter with cachedit_yaml.infer() or "
                "`cachedit-yaml init`"
            )
        self.handle: Handle | None = None
        self.why_not: str | None = None
        self._watch.on_over = self._conclude
        WATCHED[target] = weakref.ref(self)
        self._watch.__enter__()

    @property
    def enabled(self) -> bool:
        """Whether it watches, or caches."""
        return self._watch is not None or (self.handle is not None and self.handle.enabled)

    def disable(self) -> None:
        """Stop watching, or switch caching off; every attribute is as before."""
        self._stop()
        if self.handle is not None:
            self.handle.disable()

    def refresh(self, num_inference_steps: int | None = None) -> None:
        """Begin a generation with the next forward, as :meth:`Handle.refresh` does."""
        if self.handle is not None:
            self.handle.refresh(num_inference_steps)
        elif self._watch is not None:
            self._watch.announced = True
            self._steps = num_inference_steps

    def finish(self, why: str = "its call ended") -> None:
        """What this thread has begun is over, as for :meth:`Handle.finish`."""
        if self.handle is not None:
            self.handle.finish(why)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        handle = self.__dict__.get("handle")
        if handle is None:
            raise CacheRuntimeError(f"nothing is cached yet: {self._state}")
        return getattr(handle, name)

    def __enter__(self) -> Automatic:
        return self

    def __exit__(self, *exception: object) -> None:
        self.disable()

    def __repr__(self) -> str:
        if self.handle is not None:
            return repr(self.handle)
        return f"<cachedit-yaml automatic handle: {self._state}>"

    @property
    def _state(self) -> str:
        """Why there is no handle."""
        if self.why_not is not None:
            return self.why_not
        return "off" if self._watch is None else "the first generation is still watched"

    def _stop(self) -> Watch | None:
        with self._lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            last = dict(watch.last)
            watch.__exit__(None, None, None)
            watch.last = last
        return watch

    def _conclude(self, why: str | None) -> None:
        """The second generation begins: draft, prove, and cache; or nothing told that it does."""
        target, watch = self._target(), self._stop()
        if watch is None or target is None:
            return
        if why is None and self._more and ended_early(watch):
            self._more -= 1
            self._watch = Watch(target)
            self._watch.on_over = self._conclude
            self._watch.__enter__()
            return
        name = type(target).__name__
        try:
            if why is not None:
                raise DraftError(why)
            with alone([item.around[0][1] for item in watch.candidates], watch):
                draft = self._begin_caching(target, watch)
        except CacheditYamlError as error:
            self.why_not = str(error)
            _log.warning("%s is not cached: %s", name, error)
        except Exception as error:  # whatever it is, the generation that begins goes on
            self.why_not = f"{type(error).__name__}: {error}"
            _log.exception("%s is not cached", name)
        else:
            _log.info("%s is cached from now on:\n%s", name, draft.yaml)

    def _begin_caching(self, target: Any, watch: Watch) -> Draft:
        """Draft, prove and cache.

        Raises:
            CacheditYamlError: it cannot be cached, or it does not hold.
        """
        draft = drafted(target, lambda: None, watch)
        if draft.refused is not None:
            raise DraftError(f"it must not be cached: {draft.refused}")
        if draft.doubts:
            raise DraftError(f"somebody has to decide: {'; '.join(draft.doubts)}")
        data = {"name": type(target).__name__, **draft.data}
        options = {key: self._options.get(key) for key in ("cache_config", "profile")}
        native = self._options.get("execution") == "native"
        plan = cachedit_yaml.compile_adapter(data, target, **options)
        prove(plan, data, watch, native=native)
        if self._begin is not None:
            self.handle = self._begin(target, data)
        else:
            self.handle = cachedit_yaml.enable(target, data, **self._options)
        _DRAFTS[target] = data
        if self._steps is not None:
            self.handle.refresh(self._steps)
        return draft


def ended_early(watch: Watch) -> bool:
    """Whether a generation failed, or had one step only: the next one shows more."""
    run = watch.run
    calls = Counter(item.module for item in run.forwards)
    steps = len(run.stepped) or max(calls.values(), default=0)
    return watch.failed or steps < 2
