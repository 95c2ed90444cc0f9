"""The adapter of a pipeline that no adapter names: told by the transformers that it holds.

A community pipeline, a Modular one, or a pipeline of pipelines runs the models of others. What
adapters say of the classes of its transformers holds for it too: their block lists, and the
scheduler and the step split where the pipeline has these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cachedit_yaml.compiler.matching import classes_of, layouts_of, split_names
from cachedit_yaml.compiler.paths import MISSING, follow
from cachedit_yaml.compiler.wrappers import see_through, unwrap
from cachedit_yaml.engines import find_engine
from cachedit_yaml.errors import AdapterConflictError, CacheditYamlError
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.patterns import names_of
from cachedit_yaml.language.spec import AdapterSpec, StepSplit, Transformer
from cachedit_yaml.registry.matching import Match
from cachedit_yaml.registry.registry import Registry


class Held(NamedTuple):
    """One model that a pipeline holds, of a class that an adapter is for.

    Attributes:
        path: the attribute path from the pipeline.
        cls: its class.
        match: the adapter.
        name: the transformer of that adapter that it is like.
        loaded: whether it is there; of a class alone nothing is.
        lacks: a block list of the adapter that it does not have; None where it has all.
    """

    path: str
    cls: type
    match: Match
    name: str
    loaded: bool
    lacks: str | None

    @property
    def declared(self) -> Transformer:
        """What the adapter says of it."""
        return self.match.spec.transformers[self.name]

    def __str__(self) -> str:
        return f"its {self.path} is a {self.cls.__name__}"


def match_held(registry: Registry, target: Any, engine: str | None) -> Match | None:
    """Find what serves a pipeline by what it holds; None where that is not enough.

    Args:
        registry: where to look.
        target: a live pipeline, or the class of one.
        engine: the engine that asks; default: diffusers.

    Raises:
        AdapterConflictError: several adapters are for its transformer, with the same right.
        AdapterError: the adapter that is for it is wrong.
    """
    found = [item for item in held(registry, target, engine) if item.lacks is None]
    served = [item for item in found if item.match.spec.refuse is None]
    if any(item.loaded for item in served):  # of those that a workflow does not need
        served = [item for item in served if item.loaded or not item.declared.optional]
    if not served:
        return found[0].match if found else None
    spec, remarks = _spec(target, served)
    cls = target if isinstance(target, type) else type(target)
    parts = (f"{item} ({item.match.entry.shown})" for item in served)
    said = f"no adapter names {cls.__name__}, which is served by what it holds: {', '.join(parts)}"
    first = served[0].match
    return dataclasses.replace(
        first,
        spec=spec,
        how="held",
        matched_name=served[0].cls.__name__,
        held="; ".join([said, *remarks]),
    )


def held(registry: Registry, target: Any, engine: str | None) -> Iterator[Held]:
    """The models of a pipeline that adapters are for by their classes.

    Args:
        registry: where to look.
        target: a live pipeline, or the class of one.
        engine: the engine that asks.

    Raises:
        AdapterConflictError: several adapters are for one of them, and none is for another.
        AdapterError: the adapter that is for one is wrong.
    """
    conflict: AdapterConflictError | None = None
    several = True
    for path, cls, module in parts_of(target, engine):
        try:
            match = registry.find_transformer(cls, engine)
        except AdapterConflictError as error:
            conflict = error
            continue
        if match is None:
            continue
        several = False
        name = _like(match.spec, path, cls)
        lacks = _lacking(match.spec.transformers[name], module)
        yield Held(path, cls, match, name, module is not None, lacks)
    if conflict is not None and several:
        raise conflict


def parts_of(target: Any, engine: str | None) -> Iterator[tuple[str, type, Any]]:
    """The models of a pipeline: path, class, and the module; None where it is not loaded.

    Args:
        target: a live pipeline, or the class of one.
        engine: the engine whose class it is; default: diffusers.
    """
    if isinstance(target, type):
        for name, cls in find_engine(engine or HOME[0]).components(target):
            yield name, cls, None
        return
    yield from _parts(target)


def _parts(target: Any, prefix: str = "") -> Iterator[tuple[str, type, Any]]:
    specs = getattr(target, "_component_specs", None) or {}
    for name, part in _components(target).items():
        if name.startswith("_"):
            continue
        cls = type(unwrap(part)) if part is not None else None
        cls = cls or getattr(specs.get(name), "type_hint", None)
        if isinstance(cls, type) and is_module(cls):
            yield prefix + name, cls, None if part is None else see_through(part)
        elif not prefix and hasattr(cls, "components") and part is not None:
            yield from _parts(part, f"{name}.")


def _components(target: Any) -> Mapping[str, Any]:
    """The components of a pipeline by name; else what it and its modules are attributes of."""
    try:
        parts = getattr(target, "components", None)
    except Exception:  # diffusers' own raises where a constructor is not as it expects
        parts = None
    if isinstance(parts, Mapping):
        return parts
    own = getattr(target, "__dict__", {})
    return {**own, **own.get("_modules", {})}


def is_module(cls: type) -> bool:
    """Whether a class is one of ``torch.nn.Module``; imports no torch."""
    return any(base.__name__ == "Module" for base in cls.__mro__)


def _like(spec: AdapterSpec, path: str, cls: type) -> str:
    """Which of an adapter's transformers a model is: that of its own name, if its class fits."""
    names = {*names_of(cls)}
    fit = [name for name, item in spec.transformers.items() if names & {*classes_of(item)}]
    leaf = path.rpartition(".")[2]
    return next((name for name in (path, leaf) if name in fit), fit[0])


def _lacking(declared: Transformer, module: Any) -> str | None:
    """A block list that a model does not have, in the layout that it has most of.

    Of a class alone the lists are believed, but for those whose place depends on the model's make.
    """
    lacking: list[list[str]] = []
    for blocks in layouts_of(declared):
        needed = [name for name, item in blocks.items() if not item.optional]
        if module is None:
            lacking.append([x for x in needed if any(map(str.isdecimal, x.split(".")))])
        else:
            lacking.append([name for name in needed if not _has_list(module, name)])
    return next((name for names in sorted(lacking, key=len)[:1] for name in names), None)


def _has_list(module: Any, path: str) -> bool:
    try:
        return follow(module, path) not in (MISSING, None)
    except CacheditYamlError:
        return False


def _spec(target: Any, served: list[Held]) -> tuple[AdapterSpec, list[str]]:
    """The adapter for exactly what a pipeline holds, and what is to be said of it."""
    main = served[0].match.spec
    remarks: list[str] = []
    transformers = {
        item.path: dataclasses.replace(
            item.declared, scheduler=_scheduler(target, item), optional=False
        )
        for item in served
    }
    own = {item.name for item in served if item.match.spec is main and item.path == item.name}
    split = main.step_split
    if split is not None and (why := _no_split(target, main, split, own)) is not None:
        split = None
        if len(served) > 1:
            remarks.append(f"{why}, so each of its transformers counts all steps")
    others = sorted({item.match.entry.label for item in served} - {served[0].match.entry.label})
    if others:
        remarks.append(f"the settings are those of {served[0].match.entry.label}")
    flags = {name: value for name, value in (main.set or {}).items() if hasattr(target, name)}
    spec = dataclasses.replace(
        main, transformers=transformers, scheduler=None, step_split=split, set=flags or None
    )
    return spec, remarks


def _no_split(target: Any, spec: AdapterSpec, split: StepSplit, own: set[str]) -> str | None:
    """Why the steps of a pipeline do not divide as its adapter says; None where they do."""
    if not {*split_names(spec)} <= own:
        return f"its transformers are not called {' and '.join(split_names(spec))}"
    boundary = split.boundary
    if boundary is None or not isinstance(boundary.ratio, str) or isinstance(target, type):
        return None
    missing = follow(target, boundary.ratio.removeprefix("pipeline.")) is MISSING
    return f"it has no {boundary.ratio}" if missing and boundary.default is None else None


def _scheduler(target: Any, item: Held) -> str | None:
    """The path of the scheduler that counts the steps of a transformer; None for the usual one."""
    said = item.declared.scheduler or item.match.spec.scheduler
    if isinstance(target, type):
        return said
    holder = item.path.rpartition(".")[0]
    usual = "scheduler"
    paths = [f"{holder}.{name}" for name in (said, usual) if holder and name]
    paths += [name for name in (said, usual) if name]
    near = follow(target, holder) if holder else target
    steps = [
        name for name, part in _components(near).items() if callable(getattr(part, "step", None))
    ]
    if len(steps) == 1:
        paths.append(f"{holder}.{steps[0]}" if holder else steps[0])
    found = next((path for path in paths if follow(target, f"{path}.step") is not MISSING), None)
    return None if found == usual else found
