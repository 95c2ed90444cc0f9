"""cache-dit's config files: ``load_configs`` files, and the older flat form.

The tests compare the settings with the dataclasses of the installed package.
"""

# `key` makes dataclass fields, which is what this rule looks for.

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from cachedit_yaml.engines.configs import ADAPTER_KEYS, ConfigFiles, Part, recognise
from cachedit_yaml.language.keys import key
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest
from cachedit_yaml.yaml.document import Document

#: Sections of a `load_configs` file.
SECTIONS: Final = ("cache_config", "parallelism_config", "attention_backend", "quantize_config")
_TAYLORSEER: Final = "write 'enable_taylorseer: true'"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`cache_config` of a `load_configs` file, or the older flat form."""

    #: Names from elsewhere, and what to write here.
    FOREIGN: ClassVar[Mapping[str, str]] = {
        "scm_steps_mask_policy": "it is called 'steps_computation_mask' here",
        "scm_steps_policy": "it is called 'steps_computation_policy' here",
        "has_separate_cfg": "it is called 'enable_separate_cfg' here",
        "scm": "write 'steps_computation_mask: medium' and 'num_inference_steps'",
        "calibrator": _TAYLORSEER,
        "calibrator_config": _TAYLORSEER,
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "rel_l1_thresh": "it is called 'residual_diff_threshold' here",
    }

    Fn_compute_blocks: int = key("F.", default=8, minimum=1, maximum=1000)
    Bn_compute_blocks: int = key("B.", default=0, minimum=0, maximum=1000)
    residual_diff_threshold: float = key("Threshold.", default=0.08, minimum=0, below=1)
    max_warmup_steps: int = key("Warm-up.", default=8, minimum=0, maximum=10000)
    max_cached_steps: int = key("Limit.", default=-1, minimum=-1, maximum=10000)
    max_continuous_cached_steps: int = key("Limit in a row.", default=-1, minimum=-1, maximum=10000)
    enable_taylorseer: bool = key("Forecast with TaylorSeer.", default=False)
    taylorseer_order: int = key("Order.", default=1, minimum=1, maximum=4)
    num_inference_steps: int | None = key("Steps.", minimum=1, maximum=10000, nullable=True)
    force_refresh_step_hint: int | None = key("Refresh.", minimum=1, maximum=10000, nullable=True)
    force_refresh_step_policy: Literal["once", "repeat"] = key("How often.", default="once")
    cache_type: Literal["DBCache", "DBPrune"] = key("Kind.", default="DBCache")
    max_accumulated_residual_diff_threshold: float | None = key("Sum.", above=0, nullable=True)
    warmup_interval: int = key("Interval.", default=1, minimum=1, maximum=1000)
    enable_separate_cfg: bool | None = key("Two forwards a step.", nullable=True)
    cfg_compute_first: bool = key("Order of the branches.", default=False)
    cfg_diff_compute_separate: bool = key("A difference for each branch.", default=True)
    steps_computation_mask: (
        Literal["slow", "medium", "fast", "ultra"] | tuple[Literal[0, 1], ...] | None
    ) = key("Mask.", min_items=1, max_items=1000, nullable=True)
    steps_computation_policy: Literal["dynamic", "static"] = key("Policy.", default="dynamic")
    enable_encoder_taylorseer: bool = key("For the encoder too.", default=False)
    taylorseer_cache_type: Literal["residual", "hidden_states"] = key("What.", default="residual")
    calibrator_cache_type: Literal["residual", "hidden_states"] = key("What.", default="residual")
    enable_dmd: bool = key("Forecast with DMD.", default=False)
    enable_encoder_dmd: bool = key("For the encoder too.", default=False)
    dmd_history: int = key("Steps.", default=6, minimum=2, maximum=64)
    dmd_rank: int = key("Rank.", default=0, minimum=0, maximum=64)
    dmd_ridge: float = key("Ridge.", default=1e-8, minimum=0)
    dmd_svd_precision: Literal["low", "medium", "high"] = key("Precision.", default="medium")
    enable_foca: bool = key("Forecast with FoCa.", default=False)
    enable_encoder_foca: bool = key("For the encoder too.", default=False)
    enable_dynamic_prune_threshold: bool = key("DBPrune.", default=False)
    max_dynamic_prune_threshold: float | None = key("DBPrune.", minimum=0, nullable=True)
    dynamic_prune_threshold_relax_ratio: float = key("DBPrune.", default=1.25, above=0)
    non_prune_block_ids: tuple[int, ...] = key("DBPrune.", default=(), minimum=0, max_items=1000)
    force_reduce_calibrator_vram: bool = key("DBPrune.", default=False)


class Files(ConfigFiles):
    """A file with any of :data:`SECTIONS`, or of settings alone."""

    settings = Settings

    def has(self, data: Mapping[str, Any]) -> bool:
        """Whether it has a section."""
        return any(name in data for name in SECTIONS)

    def parts(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """The only one."""
        yield from parts_in((), data)

    def remarks(self, data: Mapping[str, Any], document: Document) -> list[Diagnostic]:
        """Sections whose name looks misspelled; cache-dit reads those that it knows, no other."""
        found = []
        for name in data if self.has(data) else ():
            near = nearest(name, SECTIONS) if name not in SECTIONS else []
            if near:
                fix = document.replacement((name,), near[0], key=True)
                found.append(Diagnostic(
                    "config-unknown-key", f"unknown key {name!r}", (name,),
                    document.key_span((name,)), hint=f"did you mean {near[0]!r}?",
                    fix=fix if near[0] not in data else (),
                ))  # fmt: skip
        return found


FILES: Final = Files()


def parts_in(path: KeyPath, data: Mapping[str, Any]) -> Iterator[Part]:
    """The cache settings in a file, or in a part of an engine's file that is like one."""
    if "cache_config" in data:
        yield Part((*path, "cache_config"), Settings, "cache_dit", path)
    elif not any(name in data for name in SECTIONS):
        yield Part(path, Settings)


def split_sections(document: Document) -> tuple[Document | None, Document] | None:
    """Take a file apart that holds sections of cache-dit, and perhaps an adapter.

    Returns:
        The adapter (None where there is none) and the sections; None for any other file.
    """
    data = document.data
    if not data:
        return None
    if recognise(data) == "cache_dit":
        return None, document
    sections = {name: value for name, value in data.items() if name in SECTIONS}
    if not sections or not ADAPTER_KEYS & data.keys():
        return None
    adapter = {name: value for name, value in data.items() if name not in SECTIONS}
    return dataclasses.replace(document, data=adapter), dataclasses.replace(document, data=sections)
