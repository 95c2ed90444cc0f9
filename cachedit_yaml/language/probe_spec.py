"""The probe of an adapter: how to make a small model and inputs for it, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cachedit_yaml.language.keys import ATTRIBUTE_PATH, CLASS_NAME, key

#: An argument of a call.
ARGUMENT: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
#: A public attribute.
ATTRIBUTE: Final = r"^[A-Za-z][A-Za-z0-9_]*$"
#: A part of the library (``kl``), a class of diffusers or transformers, or its whole path in one of
#: the packages that probes may use.
PART: Final = r"^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_]*){0,8}$"
#: A Python package, by the name under which it is imported.
PACKAGE: Final = r"^[A-Za-z][A-Za-z0-9_]*$"
#: A file of a checkpoint, at most one folder deep.
FILE: Final = r"^[A-Za-z][A-Za-z0-9_.-]*(/[A-Za-z][A-Za-z0-9_.-]*)?\.(json|safetensors)$"
#: A folder of a checkpoint, at most one folder deep; a dot is the checkpoint itself.
FOLDER: Final = r"^(\.|[A-Za-z][A-Za-z0-9_.-]*(/[A-Za-z][A-Za-z0-9_.-]*)?)$"
#: The name of a case or a variant.
CASE: Final = r"^[a-z0-9][a-z0-9_-]*$"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of a pipeline, made small and with random weights. Shorthand: its `part`."""

    part: str | None = key(
        "A part of the library such as `kl`, a class of diffusers or transformers, or the whole "
        "path of a class (`vllm_omni.diffusion....`). Needed unless the part is given further "
        "out.",
        pattern=PART,
    )
    like: str | None = key(
        "Another component whose part and config it takes, as they are given further out.",
        pattern=ATTRIBUTE,
    )
    config: Mapping[str, Any] | None = key(
        "Fields of its config, on top of those that are given further out.",
        key_pattern=ARGUMENT,
        max_items=200,
    )
    extra: Mapping[str, Any] | None = key(
        "Fields of its config that its constructor does not take; released config files may have "
        "such, and diffusers keeps them.",
        key_pattern=ARGUMENT,
        max_items=32,
    )
    dtype: Literal["float32", "float16", "bfloat16"] | None = key("Its dtype. Default: float32.")
    folder: str | None = key(
        "The folder of an engine's checkpoint that holds it, `.` for the checkpoint itself; also "
        "one that the engine would download (`google/gemma-2-2b-it`); or one file for its weights, "
        "`auk.safetensors`. Default: the name of the component.",
        pattern=FOLDER,
    )
    prefix: str | None = key(
        "What stands in front of the names of its weights in such a file.",
        pattern=r"^[A-Za-z][A-Za-z0-9_.]*$",
    )


@dataclass(frozen=True, kw_only=True)
class ProbeVariant:
    """Another make of a pipeline, on top of the plain one."""

    parts: Mapping[str, Part | None] | None = key(
        "Components that differ; null for none. For an engine also what it makes by itself, by its "
        "path from the pipeline.",
        key_pattern=ATTRIBUTE_PATH,
        shorthand="part",
        max_items=32,
    )
    config: Mapping[str, Any] | None = key(
        "Other arguments of the pipeline's constructor.", key_pattern=ARGUMENT, max_items=32
    )
    attributes: Mapping[str, Any] | None = key(
        "Attributes to set on the pipeline that was made.", key_pattern=ATTRIBUTE, max_items=32
    )
    inputs: Mapping[str, Any] | None = key(
        "Arguments of the pipeline's call: plain values, or what stands for a tensor, such as "
        "`{randn: [1, 7, joint_attention_dim]}`; names in a shape are fields of the transformer's "
        "config.",
        key_pattern=ARGUMENT,
        max_items=64,
    )
    cases: Mapping[str, Mapping[str, Any]] | None = key(
        "Calls with other arguments, by name; `plain` is the one without.",
        key_pattern=CASE,
        max_items=32,
    )
    files: Mapping[str, Any] | None = key(
        "More files of an engine's checkpoint, by name: `config.json`, "
        "`scheduler/scheduler_config.json`; in one that ends in `.safetensors`, tensors by name. "
        "Their fields are set on top of those that are given further out.",
        key_pattern=FILE,
        max_items=16,
    )
    without: tuple[str, ...] | None = key(
        "Cases that it does not have.", pattern=CASE, max_items=32
    )
    needs: tuple[str, ...] | None = key(
        "Packages that diffusers needs for it, by the name of their import; skipped where one is "
        "not installed.",
        pattern=PACKAGE,
        max_items=8,
    )


@dataclass(frozen=True, kw_only=True)
class ProbePipeline(ProbeVariant):
    """How one pipeline class differs from what the probe says for all."""

    variants: Mapping[str, ProbeVariant] | None = key(
        "Other makes of the pipeline, by name.", key_pattern=CASE, max_items=16
    )
    steps: str | None = key(
        "The argument of the call that takes the number of steps. Default: `num_inference_steps`.",
        pattern=ARGUMENT,
    )
    skip: str | None = key("Why this pipeline cannot be made small, in one sentence.")
    forward: Mapping[str, Any] | None = key(
        "Arguments of the transformer's forward, to try it without a pipeline.",
        key_pattern=ARGUMENT,
        max_items=64,
    )


@dataclass(frozen=True, kw_only=True)
class Probe(ProbePipeline):
    """How to make a small pipeline and inputs without weights, so that `check` can try it.

    What stands here holds for every pipeline of the adapter that takes it: a component, an input or
    a case whose arguments a pipeline does not have is left out there. `pipelines` adds to it.
    """

    pipelines: Mapping[str, ProbePipeline] | None = key(
        "What differs by pipeline class.", key_pattern=CLASS_NAME, max_items=64
    )
    engine: Literal["vllm_omni", "sglang"] | None = key(
        "The engine whose pipelines these are. For vLLM-Omni, the components become a checkpoint "
        "that the engine loads by itself, and the inputs are its request: `prompt`, "
        "`negative_prompt`, `image`, and its sampling parameters. For SGLang, `forward` tries its "
        "transformer alone.",
    )
