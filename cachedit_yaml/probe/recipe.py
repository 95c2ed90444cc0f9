"""One make of one pipeline as a probe says it: its layers merged into one recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cachedit_yaml.engines import find_engine
from cachedit_yaml.engines.protocol import Engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.probe_spec import Part, Probe, ProbePipeline, ProbeVariant
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError, refuse_settings
from cachedit_yaml.probe.limits import bound_numbers, budget
from cachedit_yaml.probe.parts import on_top

#: The case that calls a pipeline with the inputs as they are.
PLAIN = "plain"
#: The case of transformers alone that calls them twice a step, as guidance does.
GUIDED = "guided"


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one small pipeline and its calls.

    Attributes:
        pipeline: the pipeline's class; empty for the transformer alone.
        variant: the make, or None for the plain one.
        parts: its components; None for those that are absent.
        config: other arguments of its constructor.
        attributes: set on it after it was made.
        inputs: arguments of its call.
        cases: what differs, by the name of the case.
        steps: the argument that takes the number of steps.
        skip: why it cannot be made, or None.
        needs: packages to import.
        engine: whose pipeline it is.
        twice: the cases that call the transformer twice a step.
        files: more files of the checkpoint, for an engine.
        stage: the only part of the pipeline that is tried; None for the whole.
    """

    pipeline: str
    variant: str | None
    parts: Mapping[str, Part | None]
    config: Mapping[str, Any]
    attributes: Mapping[str, Any]
    inputs: Mapping[str, Any]
    cases: Mapping[str, Mapping[str, Any]]
    steps: str
    skip: str | None
    needs: tuple[str, ...]
    engine: str = "diffusers"
    files: Mapping[str, Any] = field(default_factory=dict)
    twice: tuple[str, ...] = ()
    stage: str | None = None

    def branches(self, case: str) -> int:
        """How many forwards a step of a transformer alone has."""
        return 2 if case in self.twice else 1


def recipe(
    spec: AdapterSpec, pipeline: str, variant: str | None = None, *, alone: bool = False
) -> Recipe:
    """Merge the layers of an adapter's probe for one pipeline class and one make of it.

    Args:
        spec: the adapter; it has a probe.
        pipeline: one of its pipeline classes; empty for the transformer alone.
        variant: one of :func:`variants`, or None.
        alone: only the transformer of that pipeline class.

    Raises:
        KeyError: the probe has no such variant.
    """
    probe = spec.probe or Probe()
    own = (probe.pipelines or {}).get(pipeline, ProbePipeline())
    layers = [_accepted(spec, pipeline), own]
    if variant is not None:
        layers.append(_variants(probe, own)[variant])
    parts: dict[str, Part | None] = {}
    cases: dict[str, Mapping[str, Any]] = {PLAIN: {}}
    config: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    files: dict[str, Any] = {}
    needs: tuple[str, ...] = ()
    without: set[str] = set()
    for layer in layers:
        needs += layer.needs or ()
        without |= {*(layer.without or ())}
        outer = dict(parts)
        for name, part in (layer.parts or {}).items():
            like = part.like if part is not None else None
            parts[name] = on_top(part, outer.get(like or name))
        config |= layer.config or {}
        attributes |= layer.attributes or {}
        inputs |= layer.inputs or {}
        cases |= layer.cases or {}
        for name, content in (layer.files or {}).items():
            both = isinstance(content, Mapping) and isinstance(files.get(name), Mapping)
            files[name] = {**files[name], **content} if both else content
        for name in layer.without or ():
            cases.pop(name, None)
    only_transformers = _engine(spec).transformers_alone
    if only_transformers:
        # Everything is about the transformer.
        inputs = {**(probe.forward or {}), **inputs}
        if spec.guidance.mode != "fused" and GUIDED not in without:
            cases.setdefault(GUIDED, {})
    elif alone or not pipeline:
        inputs, cases = dict(own.forward or probe.forward or {}), {PLAIN: {}}
    return Recipe(
        pipeline="" if alone else pipeline,
        variant=pipeline if alone else variant,
        parts=parts,
        config=config,
        attributes=attributes,
        inputs=inputs,
        cases=cases,
        steps=own.steps or probe.steps or "num_inference_steps",
        skip=own.skip or probe.skip,
        needs=needs,
        engine=_engine(spec).name,
        files=files,
        twice=(GUIDED,) if only_transformers else (),
    )


def variants(spec: AdapterSpec, pipeline: str) -> list[str]:
    """The makes of a pipeline class besides the plain one."""
    probe = spec.probe or Probe()
    return list(_variants(probe, (probe.pipelines or {}).get(pipeline, ProbePipeline())))


def recipes(spec: AdapterSpec) -> Iterator[Recipe]:
    """Every make of every pipeline class that an adapter names, and its transformers alone.

    Patterns among the names are left out: they name no class.
    """
    if spec.probe is None:
        return
    if _engine(spec).transformers_alone:
        for variant in (None, *variants(spec, "")):
            yield recipe(spec, "", variant)
        return
    for pipeline in spec.pipelines:
        if "*" not in pipeline:
            for variant in (None, *variants(spec, pipeline)):
                yield recipe(spec, pipeline, variant)
            plain = recipe(spec, pipeline)
            for stage in _engine(spec).stages(pipeline):
                yield replace(plain, variant=stage, stage=stage)
    if spec.probe.forward is not None:
        yield recipe(spec, "")
    for pipeline, own in (spec.probe.pipelines or {}).items():
        if own.forward is not None:
            yield recipe(spec, pipeline, alone=True)


def config_of(spec: AdapterSpec, path: str) -> Mapping[str, Any] | None:
    """The config that a probe has for the transformer at a path.

    None where it has none, or one that `check` would refuse.
    """
    if spec.probe is None:
        return None
    for pipeline in [name for name in spec.pipelines if "*" not in name] or [""]:
        part = recipe(spec, pipeline).parts.get(path)
        if part is not None and part.config:
            try:
                refuse_settings(part.config, path)
                bound_numbers(budget(), "number", part.config, path)
            except ProbeError:
                return None
            return part.config
    return None


def unused(spec: AdapterSpec) -> list[str]:
    """Names on the probe's outer level that no pipeline takes: misspelled, or left over."""
    probe = spec.probe or Probe()
    takes = _engine(spec).takes
    pairs = [found for name in spec.pipelines if (found := takes(name)) is not None]
    if not pairs:
        return []  # an engine that does not say it refuses by itself what it does not take
    made = set[str]().union(*(taken for taken, _ in pairs))
    called = set[str]().union(*(taken for _, taken in pairs))
    wrong = [f"probe.parts.{name}" for name in probe.parts or {} if name not in made]
    wrong += [f"probe.inputs.{name}" for name in probe.inputs or {} if name not in called]
    for case, changes in (probe.cases or {}).items():
        if not any(set(changes) <= taken for _, taken in pairs):
            wrong.append(f"probe.cases.{case}")
    return wrong


def _engine(spec: AdapterSpec) -> Engine:
    """The engine whose pipelines an adapter's probe makes."""
    return find_engine(HOME[0] if spec.engine in HOME else spec.engine)


def _accepted(spec: AdapterSpec, pipeline: str) -> ProbeVariant:
    """What of the probe's outer level one pipeline takes."""
    probe = spec.probe or Probe()
    found = _engine(spec).takes(pipeline) if pipeline else None
    if found is None:
        return probe
    made, called = found
    return ProbeVariant(
        parts={name: part for name, part in (probe.parts or {}).items() if name in made},
        config=probe.config,
        attributes=probe.attributes,
        inputs={name: value for name, value in (probe.inputs or {}).items() if name in called},
        cases={
            name: changes for name, changes in (probe.cases or {}).items() if set(changes) <= called
        },
        files=probe.files,
        without=probe.without,
        needs=probe.needs,
    )


def _variants(probe: Probe, own: ProbePipeline) -> dict[str, ProbeVariant]:
    return {**(probe.variants or {}), **(own.variants or {})}
