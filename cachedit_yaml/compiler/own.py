"""Classes of the user's own: those of modules that the user has named, never an adapter's file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.yaml.diagnostics import nearest

_modules: dict[str, ModuleType] = {}


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import modules, so that their classes are found by name from now on.

    Args:
        names: as they are imported, from the current folder too, or paths of ``.py`` files.

    Returns:
        The modules.

    Raises:
        ConfigError: there is no such module, or importing it fails; names it.
    """
    found = []
    for name in names:
        file = name.endswith(".py") or os.sep in name
        found.append(_of_file(Path(name)) if file else _by_name(name))
        _modules[found[-1].__name__] = found[-1]
    return found


def find_own(name: str) -> type | None:
    """The class of this name in the imported modules, or None."""
    if name.startswith("_"):
        return None
    own = (vars(module).get(name.rpartition(".")[2]) for module in _modules.values())
    return next((cls for cls in own if inspect.isclass(cls) and _fits(cls, name)), None)


def own_names() -> list[str]:
    """The classes that the imported modules define."""
    return [
        name
        for module in _modules.values()
        for name, value in vars(module).items()
        if inspect.isclass(value) and is_own(value) and not name.startswith("_")
    ]


def is_own(cls: type) -> bool:
    """Whether a class is of one of the imported modules, or of a package of theirs."""
    return any(f"{cls.__module__}.".startswith(f"{name}.") for name in _modules)


def _fits(cls: type, name: str) -> bool:
    return "." not in name or f"{cls.__module__}.{cls.__qualname__}" == name


def _by_name(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        here = [item.stem for item in Path().glob("*.py")]
        here += [item.parent.name for item in Path().glob("*/__init__.py")]
        near = nearest(name, here, limit=2)
        hint = f"; nearest here: {', '.join(near)}" if near else ""
        raise ConfigError(
            f"--import {name}: there is no module {error.name!r} in the current folder or among "
            f"what is installed{hint}"
        ) from None
    except Exception as error:  # a module may raise anything
        raise _broken(name, error) from error


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ConfigError(f"--import {path}: {what}; give a module's name or its .py file")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not name.isidentifier():
        raise ConfigError(f"--import {path}: is no Python module; its name has to end with .py")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for a script: what lies beside it can be imported
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    if before is not None:
        origin = getattr(before, "__file__", None)
        if origin is not None and Path(origin).resolve() == path.resolve():
            return before
        where = "is built in" if origin is None else f"is imported already, from {origin}"
        raise ConfigError(f"--import {path}: another module {name!r} {where}; rename the file")
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a module may raise anything
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _broken(name: str, error: Exception) -> ConfigError:
    text = " ".join(str(error).split())[:200]
    place = _place(error)
    return ConfigError(
        f"--import {name}: importing it raised {type(error).__name__}: {text}{place}"
    )


def _place(error: Exception) -> str:
    trace, last = error.__traceback__, None
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and code.co_filename != __file__:
            last = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return last or ""
