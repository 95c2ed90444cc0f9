"""Do something once a module has been imported, without importing it."""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

logger = logging.getLogger(__name__)

#: Attribute of an engine's config object that says what of it was given, and by whom.
GIVEN: Final = "_cachedit_yaml_given"

Callback = Callable[[ModuleType], None]


def when_imported(name: str, callback: Callback) -> None:
    """Call back with a module: now if it is imported already, else right after it has been.

    An exception of the callback is logged and goes no further: it is not the importer's fault.
    """
    module = sys.modules.get(name)
    # Half imported counts as not imported: the loader below runs after the module's own code.
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        _call(callback, module)
        return
    sys.meta_path.insert(0, _Finder(name, callback))


def wrap(holder: Any, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Put a function around one that a module or a class holds.

    Args:
        holder: the module or class.
        name: the function's name there.
        hook: gets the inner function first, then the arguments.

    Returns:
        What stands there now.
    """
    inner = getattr(holder, name)

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return hook(inner, *args, **kwargs)

    setattr(holder, name, wrapper)
    return wrapper


def around(module: ModuleType, name: str, hook: Callable[..., Any]) -> None:
    """Put a function around one of the engine's, wherever the engine holds it.

    Args:
        module: where it is defined.
        name: its name.
        hook: gets the engine's own function first, then the arguments.
    """
    inner = getattr(module, name)
    wrapper = wrap(module, name, hook)
    package = module.__name__.partition(".")[0]
    for held_by in [item for key, item in list(sys.modules.items()) if _is_in(key, package)]:
        for key, value in list(getattr(held_by, "__dict__", {}).items()):
            if value is inner:
                setattr(held_by, key, wrapper)


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _call(callback: Callback, module: ModuleType) -> None:
    try:
        callback(module)
    except Exception:
        logger.exception("cachedit-yaml could not be installed into %s", module.__name__)


class _Finder(MetaPathFinder):
    """Finds one module as Python would, and wraps its loader. Removes itself then."""

    def __init__(self, name: str, callback: Callback) -> None:
        self._name = name
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._callback)
        return spec


class _Loader(Loader):
    """The module's own loader, and a call when it is done."""

    def __init__(self, inner: Loader, callback: Callback) -> None:
        self._inner = inner
        self._callback = callback

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        _call(self._callback, module)
