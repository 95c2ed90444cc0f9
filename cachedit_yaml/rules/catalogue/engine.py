"""CY5xx: cache settings in the configs of engines."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import Rule

RULES: Final = (
    Rule(
        "CY501",
        "config-unknown-key",
        "error",
        "The engine knows no such cache setting.",
        "Engines set any name as an attribute, or keep unknown names aside: the misspelt setting "
        "is lost without a word.",
        "Write the name that the message gives. `--fix` corrects the spelling.",
        "cache_config:\n  Fn_compute_blocks: 1\n  enable_sperate_cfg: true\n",
        "cache_config:\n  Fn_compute_blocks: 1\n  enable_separate_cfg: true\n",
    ),
    Rule(
        "CY502",
        "config-wrong-type",
        "error",
        "A cache setting is of another kind than the engine needs.",
        "It fails in the middle of a generation, or compares as something else.",
        "Write a value of the kind that the message names.",
        "cache_config:\n  Fn_compute_blocks: one\n",
        "cache_config:\n  Fn_compute_blocks: 1\n",
    ),
    Rule(
        "CY503",
        "config-wrong-value",
        "error",
        "A cache setting has a value that cannot work.",
        "For example, with a threshold of 1 or more every step would hit, whatever the model does.",
        "Choose a value that the message names.",
        "cache_config:\n  Fn_compute_blocks: 0\n",
        "cache_config:\n  Fn_compute_blocks: 1\n",
    ),
    Rule(
        "CY504",
        "two-calibrators",
        "error",
        "Two calibrators are switched on at once.",
        "cache-dit refuses them together.",
        "Keep one of them.",
        "cache_config:\n  enable_taylorseer: true\n  enable_foca: true\n",
        "cache_config:\n  enable_taylorseer: true\n",
    ),
    Rule(
        "CY505",
        "config-ignored",
        "warning",
        "A cache setting has no effect next to the others.",
        "Somebody who tunes it will see no change and wonder.",
        "Remove it, or switch on what it belongs to.",
        "cache_config:\n  Fn_compute_blocks: 1\n  taylorseer_order: 2\n",
        "cache_config:\n  enable_taylorseer: true\n  taylorseer_order: 2\n",
    ),
    Rule(
        "CY506",
        "config-never-hits",
        "warning",
        "With these settings no step is ever served from the cache.",
        "The model would run at full cost with caching switched on.",
        "Raise the limit, or shorten the warm-up.",
        "cache_config:\n  max_warmup_steps: 8\n  num_inference_steps: 8\n",
        "cache_config:\n  max_warmup_steps: 2\n  num_inference_steps: 8\n",
    ),
    Rule(
        "CY507",
        "config-unknown-adapter",
        "error",
        "The config names an adapter or a profile that does not exist.",
        "The engine would not start, or run another profile.",
        "Write one of those that the message names.",
        "cache_backend: cache_dit\ncache_config:\n  adapter: fluks\n",
        "cache_backend: cache_dit\ncache_config:\n  adapter: flux\n",
    ),
    Rule(
        "CY508",
        "config-not-reached",
        "error",
        "A cache setting stands where the engine does not read it.",
        "It has no effect: the cache would run with the defaults.",
        "Move it under `cache_config`.",
        "cache_config:\n  Fn_compute_blocks: 1\nresidual_diff_threshold: 0.1\n",
        "cache_config:\n  Fn_compute_blocks: 1\n  residual_diff_threshold: 0.1\n",
    ),
)
