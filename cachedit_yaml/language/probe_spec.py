"""The probe of an adapter: how to make a small model and inputs for it, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of a pipeline, made small and with random weights. Shorthand: its `part`."""

    SHORTHAND: ClassVar[str] = "part"

    part: str | None = None
    like: str | None = None
    config: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] | None = None
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    folder: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeVariant:
    """Another make of a pipeline, on top of the plain one."""

    parts: Mapping[str, Part | None] | None = None
    config: Mapping[str, Any] | None = None
    attributes: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] | None = None
    cases: Mapping[str, Mapping[str, Any]] | None = None
    files: Mapping[str, Any] | None = None
    without: tuple[str, ...] | None = None
    needs: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ProbePipeline(ProbeVariant):
    """How one pipeline class differs from what the probe says for all."""

    variants: Mapping[str, ProbeVariant] | None = None
    steps: str | None = None
    skip: str | None = None
    forward: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Probe(ProbePipeline):
    """How to make a small pipeline and inputs without weights, so that `check` can try it.

    What stands here holds for every pipeline of the adapter that takes it: a component, an input or
    a case whose arguments a pipeline does not have is left out there. `pipelines` adds to it.
    """

    pipelines: Mapping[str, ProbePipeline] | None = None
