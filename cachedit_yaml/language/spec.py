"""The adapter language, version 1, as frozen dataclasses.

These classes are the single source of the language: the reader builds them, the JSON Schema in
``schemas/`` is generated from them, and the compiler takes nothing else. Each field says in its
metadata what it means and which values are allowed (see :func:`~cachedit_yaml.language.keys.key`).
Nothing here imports torch.
"""

# `key` makes dataclass fields, which is what this rule looks for.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from cachedit_yaml.language.cache_spec import (
    CacheSettings,
    Calibrator,
    MaskPolicy,
    MaskPreset,
    Measured,
    MeasuredSettings,
    Profile,
    StepDefaults,
    StepMask,
)
from cachedit_yaml.language.keys import (
    ATTRIBUTE_PATH,
    CACHE_FLAG,
    CLASS_NAME,
    CONDITION,
    ENGINE,
    LANGUAGE_VERSION,
    NAME,
    UNSET,
    VERSION_RANGE,
    Unset,
    key,
)
from cachedit_yaml.language.probe_spec import Probe

ForwardPatternName = Literal[
    "Pattern_0", "Pattern_1", "Pattern_2", "Pattern_3", "Pattern_4", "Pattern_5"
]

__all__ = [
    "ATTRIBUTE_PATH",
    "CACHE_FLAG",
    "CLASS_NAME",
    "CONDITION",
    "LANGUAGE_VERSION",
    "NAME",
    "UNSET",
    "VERSION_RANGE",
    "AdapterSpec",
    "BlockList",
    "Boundary",
    "CacheSettings",
    "Calibrator",
    "DefaultSettings",
    "Defaults",
    "Denoising",
    "ForwardPatternName",
    "Guidance",
    "MaskPolicy",
    "MaskPreset",
    "Measured",
    "MeasuredSettings",
    "Probe",
    "Probes",
    "Profile",
    "Roles",
    "Section",
    "StepDefaults",
    "StepMask",
    "StepSplit",
    "Transformer",
    "Unset",
    "Variant",
    "key",
]


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Names of the block's arguments where they differ from cache-dit's usual ones."""

    hidden_states: str | None = key(
        "The argument that holds the hidden states.", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"
    )
    encoder_hidden_states: str | None = key(
        "The argument that holds the encoder hidden states.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
    )
    state: str | None = key(
        "An argument that the block updates and returns in place of encoder_hidden_states and "
        "that is not a tensor (a key-value cache): it passes through unchanged.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
    )


@dataclass(frozen=True, kw_only=True)
class BlockList:
    """One list of blocks. Shorthand: the name of its forward pattern."""

    pattern: ForwardPatternName = key(
        "What a block takes and returns, in cache-dit's terms: Pattern_0 (h, e) -> (h, e); "
        "1 (h, e) -> (e, h); 2 (h, e) -> h; 3 h -> h; 4 h -> (h, e); 5 h -> (e, h), where h is "
        "hidden_states and e encoder_hidden_states.",
        required=True,
    )
    block_class: tuple[str, ...] | None = key(
        "Class names of the blocks; anything else is an error.",
        pattern=CLASS_NAME,
        min_items=1,
        max_items=16,
        name="class",
    )
    optional: bool = key("The list may be absent or empty.", default=False)
    params: CacheSettings | None = key("Settings for this list alone.")
    roles: Roles | None = key("Names of the block's arguments.")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An alternative layout, taken by class or attribute; the first that matches wins."""

    ANY_OF: ClassVar[tuple[str, ...]] = ("class", "when")

    transformer_class: tuple[str, ...] | None = key(
        "Taken when the transformer's class has one of these names; beside `when`, both must hold.",
        pattern=CLASS_NAME,
        min_items=1,
        max_items=16,
        name="class",
    )
    when: str | None = key(
        "Taken when this attribute is true, for example `transformer.config.guidance_embeds` or "
        "`not pipeline.is_distilled`.",
        pattern=CONDITION,
    )
    blocks: Mapping[str, BlockList] = key(
        "The block lists, by attribute path from the transformer.",
        required=True,
        key_pattern=ATTRIBUTE_PATH,
        shorthand="pattern",
        min_items=1,
        max_items=32,
    )


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Which calls of a transformer are denoising steps at all; others run uncached."""

    when: Mapping[str, str | int | float | bool | None] | None = key(
        "Arguments of the transformer's forward and the values that they must have.",
        key_pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        min_items=1,
        max_items=8,
    )
    unless: Mapping[str, str | int | float | bool | None] | None = key(
        "Arguments of the transformer's forward and values that none of them may have; null for "
        "calls that leave the argument out.",
        key_pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        min_items=1,
        max_items=8,
    )


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """One transformer of the pipeline and its block lists."""

    transformer_class: tuple[str, ...] | None = key(
        "Class names; any other class is an error. Also the key for engines that hold no pipeline.",
        pattern=CLASS_NAME,
        min_items=1,
        max_items=16,
        name="class",
    )
    optional: bool = key(
        "The pipeline may have none (the attribute is absent or None).", default=False
    )
    blocks: Mapping[str, BlockList] | None = key(
        "The block lists, by attribute path from the transformer: a forward pattern, or a mapping.",
        key_pattern=ATTRIBUTE_PATH,
        shorthand="pattern",
        min_items=1,
        max_items=32,
    )
    variants: tuple[Variant, ...] | None = key(
        "Layouts by class or attribute, tried in order before `blocks`.",
        min_items=1,
        max_items=16,
    )
    params: CacheSettings | None = key("Settings for this transformer alone.")
    denoising: Denoising | None = key("Which calls are denoising steps. Default: all.")
    timestep: str | None = key(
        "The argument of forward that carries the timestep, where it is not `timestep`.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
    )


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Steps at or above a boundary timestep belong to one transformer, the others to another."""

    ratio: float | str = key(
        "Boundary as a share of the scheduler's num_train_timesteps: a number, or the attribute "
        "that holds it (none there, and no `default`: all steps belong to `high`).",
        required=True,
        minimum=0,
        maximum=1,
        pattern=r"^pipeline(\.[A-Za-z][A-Za-z0-9_]*){1,8}$",
    )
    default: float | None = key("The ratio where that attribute holds none.", minimum=0, maximum=1)
    high: str = key("The transformer of the noisy steps.", required=True, pattern=ATTRIBUTE_PATH)
    low: str = key("The transformer of the others.", required=True, pattern=ATTRIBUTE_PATH)


@dataclass(frozen=True, kw_only=True)
class StepSplit:
    """How the steps of a generation divide among the transformers. Exactly one key is given.

    Without a split every transformer runs in every step.
    """

    ONE_OF: ClassVar[tuple[tuple[str, ...], ...]] = (("boundary",), ("fraction",), ("count",))

    boundary: Boundary | None = key("By a timestep.")
    fraction: Mapping[str, float] | None = key(
        "By shares of the steps, in order; the last transformer takes the rest.",
        key_pattern=ATTRIBUTE_PATH,
        above=0,
        maximum=1,
        min_items=2,
        max_items=8,
    )
    count: Mapping[str, int] | None = key(
        "By numbers of steps, in order; -1 takes the rest.",
        key_pattern=ATTRIBUTE_PATH,
        minimum=-1,
        maximum=10000,
        min_items=2,
        max_items=8,
    )


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How many forwards make a step. Shorthand: the mode.

    The loop execution reads this from the run and needs it only where nothing can be read.
    """

    mode: Literal["observed", "fused", "separate"] = key(
        "observed (default): counted in the run; fused: one forward a step; separate: two.",
        default="observed",
    )
    separate_when: str | None = key(
        "separate where this attribute is true, else fused.", pattern=CONDITION
    )


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What only a file as a whole can say, not its section for an engine."""

    schema: int = key("Version of the language: 1.", required=True, const=LANGUAGE_VERSION)
    name: str = key("Name of the adapter. Default: the file's name.", default="", pattern=NAME)
    extends: str | None = key(
        "An adapter to start from, by name or by path relative to this file: mappings merge, "
        "everything else is replaced, null takes away. schema, name, description, pipelines, "
        "models, probe and extends are not inherited.",
    )
    kind: Literal["image", "video", "audio", "3d", "text", "other"] = key(
        "What the model makes; the defaults of settings may differ by it.", default="image"
    )


@dataclass(frozen=True, kw_only=True)
class Section:
    """What an adapter says, for all engines or in its section for one."""

    description: str | None = key("One sentence on the model.")
    pipelines: tuple[str, ...] = key(
        "Class names of the pipelines; `*` matches any part of a name.",
        default=(),
        pattern=CLASS_NAME,
        max_items=256,
    )
    models: tuple[str, ...] = key("Model ids that this was made for.", default=(), max_items=256)
    requires: Mapping[str, str] | None = key(
        "Versions that this needs, by distribution: `cache-dit: '>=1.5'`.",
        key_pattern=NAME,
        pattern=VERSION_RANGE,
    )
    refuse: str | None = key("These pipelines must not be cached: the reason, in one sentence.")
    cache: MeasuredSettings = key(
        "Settings that a profile, the engine and the request may override.",
        default=MeasuredSettings(),
    )
    steps: tuple[StepDefaults, ...] = key(
        "Settings by number of steps; the smallest `max_steps` that holds the run wins.",
        default=(),
        max_items=16,
    )
    transformers: Mapping[str, Transformer] = key(
        "The transformers, by attribute path from the pipeline.",
        factory=dict,
        key_pattern=ATTRIBUTE_PATH,
        max_items=16,
    )
    scheduler: str | None = key(
        "The scheduler whose steps are the denoising steps, by attribute path from the pipeline. "
        "Default: `scheduler`.",
        pattern=ATTRIBUTE_PATH,
    )
    step_split: StepSplit | None = key("How the steps divide among the transformers.", atomic=True)
    guidance: Guidance = key(
        "How guidance runs.", default=Guidance(), shorthand="mode", atomic=True
    )
    set: Mapping[str, str | int | float | bool] | None = key(
        "Cache flags to set on the pipeline while caching is on.", key_pattern=CACHE_FLAG
    )
    profiles: Mapping[str, Profile] = key(
        "Named settings to pick from.", factory=dict, key_pattern=NAME
    )
    probe: Probe | None = key(
        "How to make a small model without weights, so that `cachedit-yaml check` can try this."
    )


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(Section, Heading):
    """One adapter: everything that one YAML file says, as one engine sees it."""

    engines: Mapping[str, Section] | None = key(
        "What differs for an engine, laid over the rest as `extends` does it: diffusers, "
        "cache_dit, vllm_omni or sglang. `{}`: served there too, as it is.",
        key_pattern=ENGINE,
    )
    #: Not a key of the language: the engine for which the adapter was resolved.
    engine: str = field(default="diffusers", metadata={"internal": True}, compare=False)
    #: Not a key of the language: where the adapter was read from, for messages.
    source: Path | None = field(default=None, metadata={"internal": True}, compare=False)
    #: Not a key of the language: ``(path of keys) -> file:line`` for `explain`.
    places: Mapping[tuple[str | int, ...], str] = field(
        default_factory=dict, metadata={"internal": True}, compare=False, repr=False
    )


@dataclass(frozen=True, kw_only=True)
class DefaultSettings:
    """Settings that hold where no adapter says another thing."""

    cache: CacheSettings = key("Settings of every list.", default=CacheSettings())
    steps: tuple[StepDefaults, ...] = key("Settings by number of steps.", default=(), max_items=16)
    profiles: Mapping[str, Profile] = key(
        "Named settings to pick from.", factory=dict, key_pattern=NAME
    )


@dataclass(frozen=True, kw_only=True)
class Defaults(DefaultSettings):
    """``adapters/defaults.yaml``: what lies under every adapter, until something else is known."""

    schema: int = key("Version of the language: 1.", required=True, const=LANGUAGE_VERSION)
    kinds: Mapping[str, DefaultSettings] = key(
        "What differs by the kind of model.", factory=dict, key_pattern=NAME
    )
    engines: Mapping[str, DefaultSettings] = key(
        "What differs by the engine.", factory=dict, key_pattern=ENGINE
    )


@dataclass(frozen=True, kw_only=True)
class Probes:
    """``probes/NAME.yaml``: the probes of the adapter NAME beside it, by engine."""

    schema: int = key("Version of the language: 1.", required=True, const=LANGUAGE_VERSION)
    diffusers: Probe | None = key("For the pipelines of diffusers.")
    vllm_omni: Probe | None = key("For vLLM-Omni's pipelines.")
    sglang: Probe | None = key("For SGLang's transformers.")
