"""CY2xx: what the keys of one adapter say together, without looking at any model."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import ADAPTER, ENGINE, Rule

_TWO: Final = """\
schema: 1
pipelines: [MyPipeline]
transformers:
  transformer: {blocks: {blocks: Pattern_1}}
  transformer_2: {blocks: {blocks: Pattern_1}}
"""
_VARIANTS: Final = """\
schema: 1
pipelines: [MyPipeline]
transformers:
  transformer:
    variants:
      - {class: [MyModel], blocks: {blocks: Pattern_1}}
"""
_LISTS: Final = """\
schema: 1
pipelines: [MyPipeline]
transformers:
  transformer:
    blocks:
      blocks: Pattern_1
      single_blocks: Pattern_1
"""

RULES: Final = (
    Rule(
        "CY201",
        "unusable",
        "error",
        "Keys that exclude or need each other.",
        "The adapter says two things that cannot both be done.",
        "Keep the one that is meant.",
        ADAPTER + "guidance: {mode: fused, separate_when: pipeline.do_true_cfg}\n",
        ADAPTER + "guidance: {separate_when: pipeline.do_true_cfg}\n",
    ),
    Rule(
        "CY202",
        "unknown-name",
        "error",
        "A name refers to something that the adapter does not declare.",
        "Settings for a list or transformer that nobody declared would reach nothing.",
        "Write one of the names that the message lists. `--fix` corrects the spelling.",
        ADAPTER + "profiles: {fast: {lists: {transformer.block: {scm: fast}}}}\n",
        ADAPTER + "profiles: {fast: {lists: {transformer.blocks: {scm: fast}}}}\n",
    ),
    Rule(
        "CY203",
        "ignored",
        "warning",
        "A setting has no effect next to another one.",
        "Somebody who tunes it will see no change and wonder.",
        "Remove it, or the setting that takes its effect away.",
        ADAPTER + "cache: {scm: {preset: fast, policy: static}, "
        "max_accumulated_residual_diff_threshold: 4.0}\n",
        ADAPTER + "cache: {scm: {preset: fast, policy: dynamic}, "
        "max_accumulated_residual_diff_threshold: 4.0}\n",
    ),
    Rule(
        "CY204",
        "unreachable-variant",
        "warning",
        "A layout is never taken, because an earlier one takes all that it would.",
        "Variants are tried in order: what stands behind a wider one is dead.",
        "Put the narrower one first, or remove it.",
        _VARIANTS + "      - {class: [MyModel], blocks: {layers: Pattern_2}}\n",
        _VARIANTS + "      - {class: [MyModel2], blocks: {layers: Pattern_2}}\n",
    ),
    Rule(
        "CY205",
        "never-hits",
        "warning",
        "With this setting no step is ever served from the cache.",
        "The model would run at full cost with caching switched on, and no message at run time "
        "would look wrong.",
        "Raise the limit, or remove the setting (-1 is no limit).",
        ADAPTER + "cache: {max_cached_steps: 0}\n",
        ADAPTER + "cache: {max_cached_steps: 10}\n",
    ),
    Rule(
        "CY206",
        "warmup-too-long",
        "warning",
        "The warm-up takes all steps of the runs that these settings are for.",
        "Distilled models run 4 or 8 steps; a warm-up made for 50 leaves nothing to cache there.",
        "Write a shorter `max_warmup_steps` in the same entry of `steps`.",
        ADAPTER + "cache: {max_warmup_steps: 10}\nsteps: [{max_steps: 8, scm: fast}]\n",
        ADAPTER + "cache: {max_warmup_steps: 10}\n"
        "steps: [{max_steps: 8, max_warmup_steps: 2, scm: fast}]\n",
    ),
    Rule(
        "CY207",
        "mask-length",
        "error",
        "A mask is longer than any run that it is for.",
        "A mask has exactly one number for each step; a run of another length is refused.",
        "Give it one number for each step, or use a preset, which fits any number.",
        ADAPTER + "steps: [{max_steps: 4, max_warmup_steps: 1, scm: {mask: [1, 1, 0, 1, 0]}}]\n",
        ADAPTER + "steps: [{max_steps: 4, max_warmup_steps: 1, scm: {mask: [1, 1, 0, 1]}}]\n",
    ),
    Rule(
        "CY208",
        "bins-mismatch",
        "warning",
        "The bins of a mask do not add up.",
        "Bins are taken in turn, so runs without a partner join into one long run; and a run that "
        "is longer than the bins together is refused.",
        "Give as many compute bins as cache bins (or one more), enough for all steps.",
        ADAPTER + "cache: {scm: {compute_bins: [4, 1], cache_bins: [2, 3, 4]}}\n",
        ADAPTER + "cache: {scm: {compute_bins: [4, 1, 1], cache_bins: [2, 3, 4]}}\n",
    ),
    Rule(
        "CY209",
        "blocks-never-fit",
        "error",
        "F and B together are more blocks than any model has.",
        "F first blocks and B last blocks always run; when they cover the list there is nothing "
        "between them to skip, and enabling is refused.",
        "1 to 8 first blocks and 0 to 8 last blocks are usual. `--deep` compares with the real "
        "number of blocks.",
        ADAPTER + "cache: {Fn_compute_blocks: 400, Bn_compute_blocks: 200}\n",
        ADAPTER + "cache: {Fn_compute_blocks: 4, Bn_compute_blocks: 2}\n",
    ),
    Rule(
        "CY210",
        "redundant-name",
        "hint",
        "A pattern in the same list matches this name already.",
        "Two entries for one class make it unclear which of them is meant to be kept.",
        "Remove the name, or the pattern.",
        ADAPTER.replace("[MyPipeline]", "['My*Pipeline', MyEditPipeline]"),
        ADAPTER.replace("[MyPipeline]", "['My*Pipeline']"),
    ),
    Rule(
        "CY211",
        "left-out",
        "warning",
        "A step split leaves a transformer out.",
        "It is taken to run in every step, so its masks and limits are made for too many steps "
        "if it runs in a share of them.",
        "Give it a share; or silence this with a comment if it does run in every step.",
        _TWO.replace("transformer_2:", "other: {blocks: {blocks: Pattern_1}}\n  transformer_2:")
        + "step_split: {fraction: {transformer: 0.5, transformer_2: 0.5}}\n",
        _TWO + "step_split: {fraction: {transformer: 0.5, transformer_2: 0.5}}\n",
    ),
    Rule(
        "CY212",
        "empty-profile",
        "warning",
        "A profile changes nothing.",
        "Whoever picks it gets what they would get without it.",
        "Say what it changes, or remove it.",
        ADAPTER + "profiles: {slow: {}}\n",
        ADAPTER + "profiles: {slow: {scm: slow}}\n",
    ),
    Rule(
        "CY213",
        "no-version",
        "error",
        "No version can satisfy this requirement.",
        "The adapter would be refused everywhere.",
        "Turn the bounds around.",
        ADAPTER + "requires: {cache-dit: '>=2, <1.5'}\n",
        ADAPTER + "requires: {cache-dit: '>=1.5, <2'}\n",
    ),
    Rule(
        "CY214",
        "misspelled-package",
        "warning",
        "A requirement names a package that looks misspelled.",
        "A package that is not installed makes the adapter unusable everywhere.",
        "Write the name as the package index has it. `--fix` corrects the spelling.",
        ADAPTER + "requires: {difusers: '>=0.40'}\n",
        ADAPTER + "requires: {diffusers: '>=0.40'}\n",
    ),
    Rule(
        "CY215",
        "never-runs",
        "warning",
        "A step split gives a transformer no steps.",
        "Its blocks would never be called, so the split or the number is a mistake.",
        "Give it a share, or remove the split.",
        _TWO + "step_split: {boundary: {ratio: 1, high: transformer, low: transformer_2}}\n",
        _TWO + "step_split: {boundary: {ratio: 0.9, high: transformer, low: transformer_2}}\n",
    ),
    Rule(
        "CY216",
        "thin-warmup",
        "hint",
        "The warm-up computes its first step only.",
        "Within the warm-up every `warmup_interval`-th step is computed; an interval as long as "
        "the warm-up leaves one.",
        "Choose a smaller interval, or a warm-up of one step.",
        ADAPTER + "cache: {max_warmup_steps: 4, warmup_interval: 4}\n",
        ADAPTER + "cache: {max_warmup_steps: 4, warmup_interval: 2}\n",
    ),
    Rule(
        "CY217",
        "idle-role",
        "warning",
        "A role names an argument that the forward pattern does not use.",
        "Patterns 3, 4 and 5 take only the hidden states, so a name for another argument has no "
        "effect: the pattern or the role is wrong.",
        "Remove the role, or choose the pattern that takes the argument.",
        ADAPTER.replace(
            "blocks: Pattern_1",
            "blocks: {pattern: Pattern_3, roles: {encoder_hidden_states: context}}",
        ),
        ADAPTER.replace(
            "blocks: Pattern_1",
            "blocks: {pattern: Pattern_2, roles: {encoder_hidden_states: context}}",
        ),
    ),
    Rule(
        "CY218",
        "repeats-default",
        "warning",
        "A setting repeats what holds without it.",
        "What stands in an adapter has a reason; a copy of the defaults hides which values have "
        "one, and stays behind when the defaults change.",
        "Remove it: `--fix` does. Where it was measured on this model, say so in `measured`.",
        ADAPTER + "cache: {Fn_compute_blocks: 1, residual_diff_threshold: 0.08}\n",
        ADAPTER + "cache: {residual_diff_threshold: 0.08}\n",
    ),
    Rule(
        "CY219",
        "idle-section",
        "warning",
        "A section for an engine changes nothing.",
        "Whoever reads it looks for a difference that is not there.",
        "Write `{}`, which says that the engine is served as it is; `--fix` does.",
        ADAPTER + f"engines: {{{ENGINE}: {{pipelines: [MyPipeline]}}}}\n",
        ADAPTER + f"engines: {{{ENGINE}: {{}}}}\n",
    ),
    Rule(
        "CY220",
        "measured-impossible",
        "error",
        "What was measured contradicts itself.",
        "Whoever picks a profile trusts these numbers; a worst picture that is better than all "
        "together is a mistake of writing.",
        "Measure again, or write what was measured.",
        ADAPTER + "profiles: {fast: {residual_diff_threshold: 0.3, "
        "measured: {model: org/name, steps: 50, psnr: {pooled: 31.0, worst: 35.5}}}}\n",
        ADAPTER + "profiles: {fast: {residual_diff_threshold: 0.3, "
        "measured: {model: org/name, steps: 50, psnr: {pooled: 35.5, worst: 31.0}}}}\n",
    ),
    Rule(
        "CY221",
        "decided-by-nothing",
        "error",
        "No first block runs, and no static mask decides.",
        "A step is served from the cache where the residual of the first F blocks has changed "
        "little. With F = 0 there is none, so a mask has to say which steps are computed.",
        "Give it a static mask, or a first block.",
        ADAPTER + "cache: {Fn_compute_blocks: 0, scm: fast}\n",
        ADAPTER + "cache: {Fn_compute_blocks: 0, scm: {preset: fast, policy: static}}\n",
    ),
    Rule(
        "CY222",
        "follows-nothing",
        "error",
        "A list follows one that has not decided when it begins.",
        "A list that follows takes the decision of a list that runs before it in the same forward. "
        "One that runs later has not decided yet, and lists in a circle wait for each other.",
        "Declare the lists in the order in which the forward runs them, and let each follow one "
        "further up.",
        _LISTS.replace(
            " blocks: Pattern_1", " blocks: {pattern: Pattern_1, follows: single_blocks}"
        ),
        _LISTS.replace("_blocks: Pattern_1", "_blocks: {pattern: Pattern_1, follows: blocks}"),
    ),
)
