"""When the call of a pipeline has ended, whatever was left of its generation.

A callback may stop it, a step may raise, a scheduler may end early. Pipelines of diffusers run
their loop inside of ``progress_bar()``, and end each call with ``maybe_free_model_hooks()``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from cachedit_yaml.runtime.patching import Patch


class _Bar:
    """A progress bar that says when the loop inside of it has raised."""

    def __init__(self, bar: Any, raised: Callable[[], None]) -> None:
        self._bar = bar
        self._raised = raised

    def __enter__(self) -> Any:
        return self._bar.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        if kind is not None:
            self._raised()
        return self._bar.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._bar)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)


class _ProgressBar(Patch):
    ended: Callable[[str], None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bar = self.inner(*args, **kwargs)
        return _Bar(bar, lambda: self.ended("its call raised")) if self.active else bar


class _EndOfCall(Patch):
    ended: Callable[[str], None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.active:
            self.ended("its call ended")
        return self.inner(*args, **kwargs)


class Calls:
    """The pipelines whose calls are watched.

    Args:
        ended: called with a pipeline and the reason, in the thread of the call.
    """

    def __init__(self, ended: Callable[[Any, str], None]) -> None:
        self._ended = ended
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._patches: list[weakref.ref[Patch]] = []

    def watch(self, pipeline: Any) -> None:
        """Watch a pipeline, if it is one of diffusers."""
        known = self._seen.get(id(pipeline))
        if pipeline is None or (known is not None and known() is pipeline):
            return
        reference = weakref.ref(pipeline)
        self._seen[id(pipeline)] = reference

        def ended(why: str) -> None:
            found = reference()
            if found is not None:
                self._ended(found, why)

        kinds: dict[str, type[_ProgressBar | _EndOfCall]] = {
            "progress_bar": _ProgressBar,
            "maybe_free_model_hooks": _EndOfCall,
        }
        for name, kind in kinds.items():
            if callable(getattr(type(pipeline), name, None)):
                patch = kind(pipeline, name)
                patch.ended = ended
                patch.install()
                self._patches.append(weakref.ref(patch))

    def remove(self) -> None:
        """Restore every pipeline."""
        for reference in reversed(self._patches):
            patch = reference()
            if patch is not None:
                patch.remove()
        self._patches = []
        self._seen = {}
