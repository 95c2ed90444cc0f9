"""From what somebody names to a live pipeline, and to what runs it once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cachedit_yaml.compiler.own import import_modules
from cachedit_yaml.engines import find_engine
from cachedit_yaml.errors import AdapterNotFoundError, ConfigError
from cachedit_yaml.generating.calling import Wishes, build_call
from cachedit_yaml.generating.loading import CouldNotRunError, load_pipeline, one_line
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.recipe import PLAIN, recipes
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.diagnostics import or_near


def live(
    text: str, registry: Registry, wishes: Wishes, *, call: str | None, device: str | None
) -> tuple[Any, Callable[[], Any]]:
    """Make what a text names.

    Args:
        text: the folder of a saved pipeline; ``module:callable``, which returns a pipeline or a
            transformer; or the class of a pipeline that the probe of an adapter makes.
        registry: where probes are looked for.
        wishes: what to call it with, where no ``call`` is given.
        call: ``module:callable`` that runs what it is given once.
        device: where a saved pipeline runs.

    Returns:
        The pipeline or transformer, and what runs it once.

    Raises:
        ConfigError: the text names nothing, or it cannot be called like this.
        CouldNotRunError: what it names fails.
    """
    runs = _callable("--call", call) if call is not None else None
    if ":" in text and not os.path.exists(text):
        target = _called(text, _callable("TARGET", text))
    elif os.path.exists(text) or os.sep in text:
        target = load_pipeline(Path(text), device, option="TARGET")
    else:
        target, usual = _small(text, registry)
        return target, usual if runs is None else lambda: runs(target)
    if runs is not None:
        return target, lambda: runs(target)
    if isinstance(target, torch.nn.Module):
        raise ConfigError(
            f"{text} makes a {type(target).__name__}, a transformer alone: say how it is run, "
            "with --call module:callable"
        )
    if not callable(target):
        raise ConfigError(
            f"TARGET {text} gives a {type(target).__name__}, which cannot be called; "
            "name a function that returns a pipeline or a transformer"
        )
    made = build_call(target, wishes)
    return target, lambda: target(**made.with_generators())


def _callable(option: str, text: str) -> Callable[..., Any]:
    found: Any
    module, _, name = text.rpartition(":")
    if not module or not name:
        raise ConfigError(f"{option} {text}: write module:callable")
    (found,) = import_modules([module])
    for part in name.split("."):
        have = [item for item in vars(found) if not item.startswith("_")]
        found = getattr(found, part, None)
        if found is None:
            raise ConfigError(f"{option} {text}: {module} has no {part!r}{or_near(part, have)}")
    if not callable(found):
        raise ConfigError(f"{option} {text}: it is a {type(found).__name__}, which is not callable")
    made: Callable[..., Any] = found
    return made


def _called(text: str, function: Callable[..., Any]) -> Any:
    try:
        return function()
    except Exception as error:  # anything that it raises
        raise CouldNotRunError(f"{text} raised {one_line(error)}") from error


def _small(name: str, registry: Registry) -> tuple[Any, Callable[[], Any]]:
    """The small pipeline that an adapter's probe makes of a class."""
    what = f"{name} is no folder, no module:callable, and no class that a probe makes"
    try:
        entry = registry.match_pipeline(name).entry
    except AdapterNotFoundError as error:
        raise ConfigError(f"{what}: {error}") from None
    for spec in entry.to_prove(None):
        for recipe in recipes(spec):
            if recipe.pipeline == name:
                try:
                    built: Any = find_engine(recipe.engine).build(spec, recipe)
                except (NotInstalledError, ProbeError) as error:
                    raise CouldNotRunError(f"{name}: {error}") from None
                return built.target, functools.partial(built.run, PLAIN)
    raise ConfigError(f"{what}: the probe of {entry.name} leaves it out")
