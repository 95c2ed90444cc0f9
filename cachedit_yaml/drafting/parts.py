"""What a pipeline holds: its models with their block lists, and its schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from cachedit_yaml.compiler.signature import parameters_of, plain_forward
from cachedit_yaml.compiler.wrappers import see_through

#: A list of fewer modules is no stack of blocks.
_LEAST: Final = 2


@dataclass(frozen=True)
class Candidate:
    """A list of modules that may be a stack of blocks.

    Attributes:
        path: from what is watched, through the model that holds it.
        holder: the list.
        around: the modules that hold it, the outermost first, by path.
    """

    path: str
    holder: torch.nn.ModuleList
    around: tuple[tuple[str, torch.nn.Module], ...]


def models(target: Any) -> dict[str, torch.nn.Module]:
    """The models of a pipeline by attribute path; the target itself, under "", if it is one."""
    if isinstance(target, torch.nn.Module):
        return {"": see_through(target)}
    found: dict[str, torch.nn.Module] = {}
    seen: set[int] = set()
    for path, item in _reachable(target):
        if isinstance(item, torch.nn.Module) and id(item) not in seen:
            seen.add(id(item))
            found[path] = see_through(item)
    return found


def parameters(module: torch.nn.Module) -> Mapping[str, inspect.Parameter]:
    """What a module's forward takes; empty where it cannot be read."""
    try:
        return parameters_of(plain_forward(module))
    except (TypeError, ValueError):
        return {}


def schedulers(target: Any) -> dict[str, Any]:
    """What a pipeline steps its latents with, by attribute path."""
    return {
        path: item
        for path, item in _reachable(target)
        if not isinstance(item, torch.nn.Module)
        and hasattr(item, "__dict__")  # or nothing can be put into its place
        and callable(getattr(item, "step", None))
        and (callable(getattr(item, "set_timesteps", None)) or hasattr(item, "timesteps"))
    }


def candidates(target: Any) -> list[Candidate]:
    """Every list of modules of which each has parts of its own."""
    found: list[Candidate] = []
    for root, model in models(target).items():
        for name, module in model.named_modules():
            if not isinstance(module, torch.nn.ModuleList) or len(module) < _LEAST:
                continue
            if any(item is None or next(item.children(), None) is None for item in module):
                continue
            if name:
                found.append(Candidate(_join(root, name), module, tuple(_above(root, model, name))))
    return found


def other_containers(
    target: Any,
) -> Iterator[tuple[str, torch.nn.Sequential | torch.nn.ModuleDict]]:
    """What holds several modules, each with parts of its own, and is no list; by path."""
    for root, model in models(target).items():
        for name, module in model.named_modules():
            if isinstance(module, (torch.nn.Sequential, torch.nn.ModuleDict)):
                held = [*module.children()]
                if len(held) >= _LEAST and all(next(x.children(), None) is not None for x in held):
                    yield _join(root, name), module


def _above(root: str, model: torch.nn.Module, name: str) -> Iterator[tuple[str, torch.nn.Module]]:
    yield root, model
    parts = name.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        inner = ".".join(parts[:end])
        module = model.get_submodule(inner)
        if not isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield _join(root, inner), module


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _reachable(target: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of a pipeline, and of the pipelines that it holds."""
    own = dict(_attributes(target))
    yield from own.items()
    for name, item in own.items():
        if _holds_models(item):
            yield from ((f"{name}.{inner}", value) for inner, value in _attributes(item))


def _holds_models(item: Any) -> bool:
    """Whether it is a pipeline in a pipeline: no model itself, and callable."""
    if isinstance(item, (torch.nn.Module, type)) or not hasattr(item, "__dict__"):
        return False
    held = any(isinstance(value, torch.nn.Module) for value in vars(item).values())
    return held and callable(item)


def _attributes(target: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(target, torch.nn.Module):
        yield from target.named_children()
    for name, value in getattr(target, "__dict__", {}).items():
        if not name.startswith("_") and value is not None:
            yield name, value
