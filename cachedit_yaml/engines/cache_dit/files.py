"""cache-dit's config files: ``load_configs`` files, and the older flat form.

The tests compare the settings with the dataclasses of the installed package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachedit_yaml.engines.configs import ADAPTER_KEYS, ConfigFiles, Part, Settings, recognise
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest
from cachedit_yaml.yaml.document import Document

#: Sections of a `load_configs` file.
SECTIONS: Final = ("cache_config", "parallelism_config", "attention_backend", "quantize_config")
_TAYLORSEER: Final = "write 'enable_taylorseer: true'"

#: `cache_config` of a `load_configs` file, or the older flat form.
SETTINGS: Final = Settings(
    __file__,
    # Names from elsewhere, and what to write here.
    {
        "scm_steps_mask_policy": "it is called 'steps_computation_mask' here",
        "scm_steps_policy": "it is called 'steps_computation_policy' here",
        "has_separate_cfg": "it is called 'enable_separate_cfg' here",
        "scm": "write 'steps_computation_mask: medium' and 'num_inference_steps'",
        "calibrator": _TAYLORSEER,
        "calibrator_config": _TAYLORSEER,
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "rel_l1_thresh": "it is called 'residual_diff_threshold' here",
    },
)


class Files(ConfigFiles):
    """A file with any of :data:`SECTIONS`, or of settings alone."""

    settings = SETTINGS

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
        yield Part((*path, "cache_config"), SETTINGS, "cache_dit", path)
    elif not any(name in data for name in SECTIONS):
        yield Part(path, SETTINGS)


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
