"""The adapter language, version 1, as frozen dataclasses.

What each key means and which values it may have is said in ``schemas/adapter.v1.schema.json``
alone; data that passed it becomes these classes (:mod:`cachedit_yaml.language.build`), and the
compiler takes nothing else. Nothing here imports torch.
"""

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
from cachedit_yaml.language.keys import LANGUAGE_VERSION, UNSET, Unset
from cachedit_yaml.language.probe_spec import Probe

ForwardPatternName = Literal[
    "Pattern_0", "Pattern_1", "Pattern_2", "Pattern_3", "Pattern_4", "Pattern_5"
]

__all__ = [
    "LANGUAGE_VERSION",
    "UNSET",
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
    "Profile",
    "Returns",
    "Roles",
    "Section",
    "StepDefaults",
    "StepMask",
    "StepSplit",
    "Transformer",
    "Unset",
    "Variant",
]


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Names of the block's arguments where they differ from cache-dit's usual ones."""

    hidden_states: str | None = None
    encoder_hidden_states: str | None = None
    state: str | None = None


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Where a block's output holds what, if it is no tensor and no pair: keys, names or places."""

    hidden_states: str | int
    encoder_hidden_states: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class BlockList:
    """One list of blocks. Shorthand: the name of its forward pattern."""

    SHORTHAND: ClassVar[str] = "pattern"

    pattern: ForwardPatternName
    block_class: tuple[str, ...] | None = None
    optional: bool = False
    params: CacheSettings | None = None
    roles: Roles | None = None
    returns: Returns | None = None
    follows: str | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An alternative layout, taken by class or attribute; the first that matches wins."""

    transformer_class: tuple[str, ...] | None = None
    when: str | None = None
    blocks: Mapping[str, BlockList]


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Which calls of a transformer are denoising steps at all; others run uncached."""

    when: Mapping[str, str | int | float | bool | None] | None = None
    unless: Mapping[str, str | int | float | bool | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """One transformer of the pipeline and its block lists."""

    transformer_class: tuple[str, ...] | None = None
    optional: bool = False
    blocks: Mapping[str, BlockList] | None = None
    variants: tuple[Variant, ...] | None = None
    params: CacheSettings | None = None
    denoising: Denoising | None = None
    timestep: str | None = None
    scheduler: str | None = None


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Steps at or above a boundary timestep belong to one transformer, the others to another."""

    ratio: float | str
    default: float | None = None
    high: str
    low: str


@dataclass(frozen=True, kw_only=True)
class StepSplit:
    """How the steps of a generation divide among the transformers. Exactly one key is given.

    Without a split every transformer runs in every step.
    """

    ATOMIC: ClassVar[bool] = True

    boundary: Boundary | None = None
    fraction: Mapping[str, float] | None = None
    count: Mapping[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How many forwards make a step. Shorthand: the mode.

    The loop execution reads this from the run and needs it only where nothing can be read.
    """

    SHORTHAND: ClassVar[str] = "mode"
    ATOMIC: ClassVar[bool] = True

    mode: Literal["observed", "fused", "separate"] = "observed"
    separate_when: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What only a file as a whole can say, not its section for an engine."""

    schema: int
    name: str = ""
    extends: str | None = None
    kind: Literal["image", "video", "audio", "3d", "text", "other"] = "image"


@dataclass(frozen=True, kw_only=True)
class Section:
    """What an adapter says, for all engines or in its section for one."""

    description: str | None = None
    pipelines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    requires: Mapping[str, str] | None = None
    refuse: str | None = None
    cache: MeasuredSettings = field(default_factory=MeasuredSettings)
    steps: tuple[StepDefaults, ...] = ()
    transformers: Mapping[str, Transformer] = field(default_factory=dict)
    scheduler: str | None = None
    step_split: StepSplit | None = None
    guidance: Guidance = Guidance()
    set: Mapping[str, str | int | float | bool] | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    probe: Probe | None = None


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(Section, Heading):
    """One adapter: everything that one YAML file says, as one engine sees it."""

    engines: Mapping[str, Section] | None = None
    # What is not compared is no key of the language.
    #: The engine for which the adapter was resolved.
    engine: str = field(default="diffusers", compare=False)
    #: Where the adapter was read from, for messages.
    source: Path | None = field(default=None, compare=False)
    #: ``(path of keys) -> file:line`` for `explain`.
    places: Mapping[tuple[str | int, ...], str] = field(
        default_factory=dict, compare=False, repr=False
    )


@dataclass(frozen=True, kw_only=True)
class DefaultSettings:
    """Settings that hold where no adapter says another thing."""

    cache: CacheSettings = field(default_factory=CacheSettings)
    steps: tuple[StepDefaults, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Defaults(DefaultSettings):
    """``adapters/defaults.yaml``: what lies under every adapter, until something else is known."""

    schema: int
    kinds: Mapping[str, DefaultSettings] = field(default_factory=dict)
    engines: Mapping[str, DefaultSettings] = field(default_factory=dict)
