"""The cache settings of cache-dit, vLLM-Omni and SGLang: their schemas, and what to write instead.

The tests compare them with the dataclasses of the installed packages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cachedit_yaml.language.schemas import Schema, schema_of
from cachedit_yaml.language.spec import CacheSettings

Reader: TypeAlias = Literal["cache_dit", "vllm_omni"]

_TAYLORSEER: Final = "write 'enable_taylorseer: true'"

#: Names from elsewhere, and what to write here.
FOREIGN: Final[Mapping[Reader, Mapping[str, str]]] = {
    "cache_dit": {
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
    "vllm_omni": {
        "enable_separate_cfg": "leave it out: the run shows it",
        "steps_computation_mask": "it is called 'scm_steps_mask_policy' here",
        "steps_computation_policy": "it is called 'scm_steps_policy' here",
        "threshold": "it is called 'residual_diff_threshold' here",
        "warmup_steps": "it is called 'max_warmup_steps' here",
        "enable_encoder_taylorseer": "write 'calibrator: {type: taylorseer, "
        "enable_encoder_calibrator: true}'",
        "profiles": "pick one with 'profile: NAME'",
    },
}


@functools.cache
def settings_of(reader: Reader) -> Schema:
    """What `cache_config` may hold where an engine reads it.

    Args:
        reader: cache-dit, whose form SGLang takes too, or vLLM-Omni, with this package's keys.
    """
    path = Path(__file__).with_name(reader) / "cache_config.schema.json"
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    ours = schema_of(CacheSettings)["properties"] if reader == "vllm_omni" else {}
    return {**schema, "properties": {**ours, **schema["properties"]}}


def other_backends() -> Mapping[str, str]:
    """Settings of vLLM-Omni's other cache backends, and which one reads them."""
    properties = settings_of("vllm_omni")["properties"]
    return {name: item["$comment"] for name, item in properties.items() if "$comment" in item}
