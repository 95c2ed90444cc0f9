"""The adapter language, version 1, as frozen dataclasses.

These classes are the single source of the language: the reader builds them, the JSON Schema in
``schemas/`` is generated from them, and the compiler takes nothing else. Each field says in its
metadata what it means and which values are allowed (see :func:`key`). Nothing here imports torch.
"""

# `key` makes dataclass fields, which is what this rule looks for.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

#: The version of the language that this package reads.
LANGUAGE_VERSION: Final = 1

#: A pipeline or transformer class: a name, or a pattern with ``*``.
CLASS_NAME: Final = r"^[A-Za-z_*][A-Za-z0-9_*]*$"
#: One adapter, profile or package name.
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
#: Dotted attributes, none of which begins with an underscore; at most eight.
ATTRIBUTE_PATH: Final = r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9][A-Za-z0-9_]*){0,7}$"
#: An attribute path from ``pipeline`` or ``transformer``, optionally negated.
CONDITION: Final = r"^(not )?(pipeline|transformer)(\.[A-Za-z][A-Za-z0-9_]*){1,8}$"
#: Version specifiers as in PEP 440, separated by commas.
VERSION_RANGE: Final = (
    r"^ *(~=|==|!=|<=|>=|<|>) *[0-9][A-Za-z0-9.*+!-]*"
    r"( *, *(~=|==|!=|<=|>=|<|>) *[0-9][A-Za-z0-9.*+!-]*)* *$"
)
#: The only attributes with a leading underscore that an adapter may set.
CACHE_FLAG: Final = r"^_cache_dit_[a-z][a-z0-9_]*$"

ForwardPatternName = Literal[
    "Pattern_0", "Pattern_1", "Pattern_2", "Pattern_3", "Pattern_4", "Pattern_5"
]
MaskPreset = Literal["slow", "medium", "fast", "ultra"]
MaskPolicy = Literal["dynamic", "static"]


class Unset(Enum):
    """The type of :data:`UNSET`: a setting that a layer does not mention.

    It differs from ``None``, which is a value (``null`` in YAML) that sets a field back.
    """

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


def key(
    doc: str,
    default: Any = None,
    *,
    required: bool = False,
    factory: Callable[[], Any] | None = None,
    **rules: Any,
) -> Any:
    """Declare one key of the language.

    Args:
        doc: what the key means; becomes the description in the JSON Schema.
        default: the value when the key is absent.
        required: whether the key must be present.
        factory: makes the value when the key is absent, for mutable ones.
        **rules: ``name`` (spelling in YAML where it differs from the attribute), ``pattern``
            (a string, or each item of a collection), ``key_pattern`` (each key of a mapping),
            ``minimum``, ``maximum``, ``below`` (exclusive maximum), ``above`` (exclusive
            minimum), ``min_items``, ``max_items``, ``const``, ``examples``, ``nullable``
            (accepts YAML null), ``shorthand`` (the key that a bare string stands for),
            ``atomic`` (`extends` replaces this mapping as a whole instead of merging it).
    """
    metadata = {"doc": doc, "required": required, **rules}
    if required:
        return field(metadata=metadata)
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class StepMask:
    """Step computation mask (SCM): the steps that must be computed.

    Shorthand: a preset's name. Exactly one of ``preset``, ``mask`` or the two bins is given.
    """

    ONE_OF: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("preset",), ("mask",), ("compute_bins", "cache_bins"),
    )

    preset: MaskPreset | None = key("A preset of cache-dit, made for any number of steps.")
    compute_bins: tuple[int, ...] | None = key(
        "Lengths of the runs of computed steps, taken in turn with `cache_bins`.",
        minimum=1, min_items=1, max_items=256,
    )
    cache_bins: tuple[int, ...] | None = key(
        "Lengths of the runs of cached steps, taken in turn with `compute_bins`.",
        minimum=1, min_items=1, max_items=256,
    )
    mask: tuple[Literal[0, 1], ...] | None = key(
        "One number for each step: 1 computes the step, 0 may serve it from the cache.",
        min_items=1, max_items=1000,
    )
    policy: MaskPolicy = key(
        "`dynamic` asks the residual difference on the cached steps, `static` always hits.",
        default="dynamic",
    )


@dataclass(frozen=True, kw_only=True)
class Calibrator:
    """How a skipped step is forecast instead of repeated. Shorthand: the calibrator's name."""

    type: Literal["taylorseer", "foca", "dmd", "none"] = key(
        "TaylorSeer (arXiv:2503.06923), FoCa (arXiv:2508.16211), DMD (dynamic mode "
        "decomposition), or none.",
        required=True,
    )
    enable_calibrator: bool = key("Forecast hidden_states.", default=True)
    enable_encoder_calibrator: bool = key("Forecast encoder_hidden_states.", default=True)
    calibrator_cache_type: Literal["residual", "hidden_states"] = key(
        "What is forecast: the residual of the skipped blocks, or their output.",
        default="residual",
    )
    taylorseer_order: int = key("Order of the Taylor expansion.", default=1, minimum=1, maximum=4)
    dmd_history: int = key("Computed steps that DMD remembers.", default=6, minimum=2, maximum=64)
    dmd_rank: int = key("Rank of the DMD; 0 chooses it.", default=0, minimum=0, maximum=64)
    dmd_ridge: float = key("Tikhonov term of the DMD.", default=1e-8, minimum=0)
    dmd_svd_precision: Literal["low", "medium", "high"] = key(
        "Precision of the DMD's SVD.", default="medium"
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Settings of the cache: cache-dit's DBCache and DBPrune fields, the mask, the calibrator.

    A field that a layer does not mention is :data:`UNSET`; ``null`` sets a field back to none.
    """

    cache_type: Literal["DBCache", "DBPrune"] | Unset = key(
        "DBCache skips the middle blocks of a step together, DBPrune decides block by block "
        "(native execution only).",
        default=UNSET,
    )
    Fn_compute_blocks: int | Unset = key(
        "F: first blocks of a list that always run; their residual decides whether to hit.",
        default=UNSET, minimum=1, maximum=1000,
    )
    Bn_compute_blocks: int | Unset = key(
        "B: last blocks of a list that always run.", default=UNSET, minimum=0, maximum=1000
    )
    residual_diff_threshold: float | Unset = key(
        "Hit when the relative difference of the residual after F blocks is below this. "
        "0 never hits; 1 and above would always hit and are refused.",
        default=UNSET, minimum=0, below=1,
    )
    max_accumulated_residual_diff_threshold: float | Unset | None = key(
        "Stop hitting once the differences of a generation add up to this.",
        default=UNSET, above=0, nullable=True,
    )
    max_warmup_steps: int | Unset = key(
        "Computed steps at the start of each transformer's share of a generation.",
        default=UNSET, minimum=0, maximum=10000,
    )
    warmup_interval: int | Unset = key(
        "Within the warm-up, compute only every so many steps.",
        default=UNSET, minimum=1, maximum=1000,
    )
    max_cached_steps: int | Unset = key(
        "At most this many cached steps a generation; -1 for no limit.",
        default=UNSET, minimum=-1, maximum=10000,
    )
    max_continuous_cached_steps: int | Unset = key(
        "At most this many cached steps in a row; -1 for no limit.",
        default=UNSET, minimum=-1, maximum=10000,
    )
    cfg_compute_first: bool | Unset = key(
        "Native execution: the guidance branch runs before the main one.", default=UNSET
    )
    cfg_diff_compute_separate: bool | Unset = key(
        "Each guidance branch decides by its own difference; false: by the first branch's.",
        default=UNSET,
    )
    force_refresh_step_hint: int | Unset | None = key(
        "Start the cache anew at this step, because the input changes there.",
        default=UNSET, minimum=1, maximum=10000, nullable=True,
    )
    force_refresh_step_policy: Literal["once", "repeat"] | Unset = key(
        "Refresh at that step only, or every so many steps.", default=UNSET
    )
    enable_dynamic_prune_threshold: bool | Unset = key(
        "DBPrune: derive the threshold from the differences of this step.", default=UNSET
    )
    max_dynamic_prune_threshold: float | Unset | None = key(
        "DBPrune: upper bound of the derived threshold.",
        default=UNSET, minimum=0, nullable=True,
    )
    dynamic_prune_threshold_relax_ratio: float | Unset = key(
        "DBPrune: the derived threshold is the mean difference times this.",
        default=UNSET, above=0,
    )
    non_prune_block_ids: tuple[int, ...] | Unset = key(
        "DBPrune: indices of blocks that always run.", default=UNSET, minimum=0, max_items=1000
    )
    force_reduce_calibrator_vram: bool | Unset = key(
        "DBPrune: keep smaller buffers for the calibrator.", default=UNSET
    )
    scm: StepMask | Unset | None = key(
        "Step computation mask: a preset's name, or a mapping.",
        default=UNSET, nullable=True, shorthand="preset", atomic=True,
    )
    calibrator: Calibrator | Unset | None = key(
        "Forecast skipped steps: a calibrator's name, or a mapping.",
        default=UNSET, nullable=True, shorthand="type", atomic=True,
    )

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each setting that this layer mentions."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not UNSET:
                yield item.name, value


@dataclass(frozen=True, kw_only=True)
class Profile(CacheSettings):
    """A named set of settings that a user picks by name."""

    description: str | None = key("What this profile trades for what.")
    lists: Mapping[str, CacheSettings] | None = key(
        "Settings for single block lists, by `transformer.list` or, where that is clear, `list`.",
        key_pattern=ATTRIBUTE_PATH,
    )


@dataclass(frozen=True, kw_only=True)
class StepDefaults(CacheSettings):
    """Settings for generations of at most ``max_steps`` steps (distilled models)."""

    max_steps: int = key(
        "Applies to generations of at most this many steps.", required=True, minimum=1
    )


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
        pattern=CLASS_NAME, min_items=1, max_items=16, name="class",
    )
    optional: bool = key("The list may be absent or empty.", default=False)
    params: CacheSettings | None = key("Settings for this list alone.")
    roles: Roles | None = key("Names of the block's arguments.")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An alternative layout, taken by class or attribute; the first that matches wins."""

    ANY_OF: ClassVar[tuple[str, ...]] = ("class", "when")

    transformer_class: tuple[str, ...] | None = key(
        "Taken when the transformer's class has one of these names.",
        pattern=CLASS_NAME, min_items=1, max_items=16, name="class",
    )
    when: str | None = key(
        "Taken when this attribute is true, for example `transformer.config.guidance_embeds` or "
        "`not pipeline.is_distilled`.",
        pattern=CONDITION,
    )
    blocks: Mapping[str, BlockList] = key(
        "The block lists, by attribute path from the transformer.",
        required=True, key_pattern=ATTRIBUTE_PATH, shorthand="pattern", min_items=1,
        max_items=32,
    )


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Which calls of a transformer are denoising steps at all; others run uncached."""

    when: Mapping[str, str | int | float | bool | None] = key(
        "Arguments of the transformer's forward and the values that they must have.",
        required=True, key_pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_items=1, max_items=8,
    )


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """One transformer of the pipeline and its block lists."""

    transformer_class: tuple[str, ...] | None = key(
        "Class names; any other class is an error. Also the key for engines that hold no "
        "pipeline.",
        pattern=CLASS_NAME, min_items=1, max_items=16, name="class",
    )
    optional: bool = key("The pipeline may have none (the attribute is absent or None).",
                         default=False)
    blocks: Mapping[str, BlockList] | None = key(
        "The block lists, by attribute path from the transformer: a forward pattern, or a "
        "mapping.",
        key_pattern=ATTRIBUTE_PATH, shorthand="pattern", min_items=1, max_items=32,
    )
    variants: tuple[Variant, ...] | None = key(
        "Layouts by class or attribute, tried in order before `blocks`.",
        min_items=1, max_items=16,
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
        required=True, minimum=0, maximum=1, pattern=r"^pipeline(\.[A-Za-z][A-Za-z0-9_]*){1,8}$",
    )
    default: float | None = key(
        "The ratio where that attribute holds none.", minimum=0, maximum=1
    )
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
        key_pattern=ATTRIBUTE_PATH, above=0, maximum=1, min_items=2, max_items=8,
    )
    count: Mapping[str, int] | None = key(
        "By numbers of steps, in order; -1 takes the rest.",
        key_pattern=ATTRIBUTE_PATH, minimum=-1, maximum=10000, min_items=2, max_items=8,
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
class AdapterSpec:
    """One adapter: everything that one YAML file says."""

    schema: int = key("Version of the language: 1.", required=True, const=LANGUAGE_VERSION)
    name: str = key("Name of the adapter. Default: the file's name.", default="",
                    pattern=NAME)
    description: str | None = key("One sentence on the model.")
    extends: str | None = key(
        "An adapter to start from, by name or by path relative to this file: mappings merge, "
        "everything else is replaced. schema, name, description, pipelines, models and extends "
        "are not inherited.",
    )
    pipelines: tuple[str, ...] = key(
        "Class names of the pipelines; `*` matches any part of a name.",
        default=(), pattern=CLASS_NAME, max_items=256,
    )
    models: tuple[str, ...] = key("Model ids that this was made for.", default=(), max_items=256)
    requires: Mapping[str, str] | None = key(
        "Versions that this needs, by distribution: `cache-dit: '>=1.5'`.",
        key_pattern=NAME, pattern=VERSION_RANGE,
    )
    refuse: str | None = key(
        "These pipelines must not be cached: the reason, in one sentence."
    )
    cache: CacheSettings = key(
        "Settings that a profile, the engine and the request may override.",
        default=CacheSettings(),
    )
    steps: tuple[StepDefaults, ...] = key(
        "Settings by number of steps; the smallest `max_steps` that holds the run wins.",
        default=(), max_items=16,
    )
    transformers: Mapping[str, Transformer] = key(
        "The transformers, by attribute path from the pipeline.",
        factory=dict, key_pattern=ATTRIBUTE_PATH, max_items=16,
    )
    step_split: StepSplit | None = key(
        "How the steps divide among the transformers.", atomic=True
    )
    guidance: Guidance = key(
        "How guidance runs.", default=Guidance(), shorthand="mode", atomic=True
    )
    set: Mapping[str, str | int | float | bool] | None = key(
        "Cache flags to set on the pipeline while caching is on.", key_pattern=CACHE_FLAG
    )
    profiles: Mapping[str, Profile] = key(
        "Named settings to pick from.", factory=dict, key_pattern=NAME
    )
    #: Not a key of the language: where the adapter was read from, for messages.
    source: Path | None = field(default=None, metadata={"internal": True}, compare=False)
    #: Not a key of the language: ``(path of keys) -> line`` for `explain`.
    lines: Mapping[tuple[str | int, ...], int] = field(
        default_factory=dict, metadata={"internal": True}, compare=False, repr=False
    )
