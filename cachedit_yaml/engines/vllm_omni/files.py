"""vLLM-Omni's configs: deploy YAML, its arguments, and the JSON of ``--cache-config``.

The tests compare the settings with the dataclass of the installed package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachedit_yaml.engines.configs import ConfigFiles, Part, Settings
from cachedit_yaml.rules.checks.context import items, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath

#: `cache_config` of a stage or the command line, with this package's keys.
SETTINGS: Final = Settings(
    __file__,
    {
        "enable_separate_cfg": "leave it out: the run shows it",
        "steps_computation_mask": "it is called 'scm_steps_mask_policy' here",
        "steps_computation_policy": "it is called 'scm_steps_policy' here",
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "enable_encoder_taylorseer": "write 'calibrator: {type: taylorseer, "
        "enable_encoder_calibrator: true}'",
        "profiles": "pick one with 'profile: NAME'",
    },
    ours=True,
)


class Files(ConfigFiles):
    """A file with ``stages:`` or ``cache_backend:``, or of settings alone."""

    settings = SETTINGS
    only = frozenset(
        {"adapter", "profile", "execution", "scm_steps_mask_policy", "scm_steps_policy"}
    )

    def has(self, data: Mapping[str, Any]) -> bool:
        """Whether it names a backend, or has stages that are this engine's."""
        marks = ("cache_backend", "cache_config", "stage_id")
        stages = [mapping(stage) for stage in items(data.get("stages"))]
        return "cache_backend" in data or any(name in stage for stage in stages for name in marks)

    def parts(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """Those of its stages, of all stages, or the whole of it."""
        if "stages" not in data and "cache_backend" not in data:
            yield Part((), SETTINGS)
            return
        if "cache_config" in data or "cache_backend" in data:
            yield Part(("cache_config",), SETTINGS, data.get("cache_backend"), ())
        for index, stage in enumerate(items(data.get("stages"))):
            path: KeyPath = ("stages", index)
            if "cache_config" in mapping(stage):
                backend = mapping(stage).get("cache_backend")
                yield Part((*path, "cache_config"), SETTINGS, backend, path)


FILES: Final = Files()
