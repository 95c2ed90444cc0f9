"""Documents that the tests of the language share: good ones, and bad ones with what to say."""

from __future__ import annotations

from typing import NamedTuple

#: Three lines that make a whole adapter; what is added begins on line 4.
HEAD = """\
schema: 1
pipelines: [APipeline]
transformers: {transformer: {blocks: {blocks: Pattern_1}}}
"""


class Bad(NamedTuple):
    """A wrong document, and the one diagnostic that it must lead to."""

    name: str
    text: str
    code: str
    line: int
    column: int
    says: str


def _more(name: str, body: str, code: str, line: int, column: int, says: str) -> Bad:
    return Bad(name, HEAD + body, code, line + 3, column, says)


def _cache(name: str, setting: str, code: str, column: int, says: str) -> Bad:
    return _more(name, f"cache:\n  {setting}\n", code, 2, column, says)


#: What is wrong before the language comes in: YAML, and what of YAML is not used.
BAD_YAML = [
    Bad("tab", "schema: 1\ncache:\n\tscm: fast\n", "syntax", 3, 1, "a tab in the indentation"),
    Bad("no-colon", "schema: 1\npipelines\nname: a\n", "syntax", 2, 1, "has no colon"),
    Bad("no-space-after-colon", "schema:1\nname: a\n", "syntax", 1, 7, "write 'schema: 1'"),
    Bad(
        "no-space-nested",
        "cache:\n  scm:fast\n  Fn_compute_blocks: 1\n",
        "syntax",
        2,
        6,
        "write 'scm: fast'",
    ),
    Bad("no-space-after-dash", "pipelines:\n-APipeline\n", "syntax", 2, 1, "write '- APipeline'"),
    Bad("too-deep", "schema: 1\n   name: a\n", "syntax", 2, 4, "indented deeper"),
    Bad("too-shallow", "cache:\n    scm: fast\n  name: a\n", "syntax", 3, 3, "indentation"),
    Bad("key-in-list", "pipelines:\n  - A\n  name: a\n", "syntax", 3, 3, "indentation"),
    Bad("open-quote", "schema: 1\nname: 'a\nrefuse: x\n", "syntax", 2, 7, "never closed"),
    Bad("open-double-quote", 'name: "a\nrefuse: x\n', "syntax", 1, 7, "never closed"),
    Bad("escape", 'name: "C:\\models"\n', "syntax", 1, 10, "single quotes"),
    Bad("open-bracket", "pipelines: [A, B\nname: a\n", "syntax", 1, 12, "end with ']'"),
    Bad("open-brace", "cache: {scm: fast\nname: a\n", "syntax", 1, 8, "end with '}'"),
    Bad("stray-brace", "name: a\n}\n", "syntax", 2, 1, "closes nothing"),
    Bad("two-colons", "description: FLUX: the model\n", "syntax", 1, 18, "in quotes"),
    Bad("at-sign", "name: @a\n", "syntax", 1, 7, "'@' cannot begin a value"),
    Bad("text-behind-quote", "name: 'a' b\n", "syntax", 1, 11, "already ended"),
    Bad("full-width-colon", "schema\uff1a1\nname: a\n", "syntax", 1, 7, "full-width colon"),
    Bad("curly-quotes", "name: \u201ca: b\u201d\n", "syntax", 1, 7, "curly quote"),
    Bad("percent", "%x\nschema: 1\n", "directive", 1, 1, "YAML directive"),
    Bad("yaml-directive", "%YAML 1.1\n---\nschema: 1\n", "directive", 1, 1, "remove it"),
    Bad(
        "two-documents",
        "schema: 1\n---\nschema: 1\n",
        "multiple-documents",
        2,
        1,
        "file of its own",
    ),
    Bad("python-tag", "name: !!python/object/apply:os.system [id]\n", "tag", 1, 7, "never runs"),
    Bad("own-tag", "name: !env HOME\n", "tag", 1, 7, "!env"),
    Bad("str-tag", "name: !!str 1\n", "tag", 1, 7, "!!str"),
    Bad("unquoted-star", "pipelines: [*Pipeline]\n", "anchor", 1, 13, "in quotes"),
    Bad("star-alone", "name: *\n", "anchor", 1, 8, "in quotes"),
    Bad("alias-of-itself", "pipelines: &a [*a]\n", "anchor", 1, 16, "inside of what it repeats"),
    Bad("merge-key", "cache:\n  <<: {scm: fast}\n", "merge-key", 2, 3, "extends"),
    Bad("number-as-key", "profiles:\n  8: {}\n", "non-string-key", 2, 3, "in quotes"),
    Bad("boolean-as-key", "true: 1\n", "non-string-key", 1, 1, "not text"),
    Bad("list-as-key", "? [a]\n: 1\n", "non-string-key", 1, 3, "cannot be a key"),
    Bad("duplicate", "name: a\nrefuse: x\nname: b\n", "duplicate-key", 3, 1, "1:1: first here"),
    Bad(
        "duplicate-nested",
        "cache:\n  scm: fast\n  'scm': slow\n",
        "duplicate-key",
        3,
        3,
        "second time",
    ),
    Bad("empty", "", "empty", 1, 1, "schema: 1"),
    Bad("comments-only", "# nothing\n\n", "empty", 1, 1, "empty"),
    Bad("list", "- a\n- b\n", "not-a-mapping", 1, 1, "a list"),
    Bad("scalar", "'hello'\n", "not-a-mapping", 1, 1, "'hello'"),
    Bad("text", "hello\n", "not-yaml", 1, 1, "text, not YAML"),
    Bad("merge-conflict", "<<<<<<< HEAD\nschema: 1\n=======\n", "syntax", 1, 1, "of a merge"),
    Bad("nul", "name: a\0\n", "control-character", 1, 8, "NUL"),
    Bad("escape-character", "schema: 1\nname: \x1b[31m\n", "control-character", 2, 7, "U+001B"),
    Bad("line-separator", "name: a\u2028b\n", "control-character", 1, 8, "U+2028"),
    Bad("right-to-left", "name: a\u202eb\n", "control-character", 1, 8, "U+202E"),
    Bad("too-deeply-nested", "name: " + "[" * 40 + "]" * 40 + "\n", "too-large", 1, 38, "deeper"),
    Bad(
        "too-many-values",
        "models: [" + "a," * 21_000 + "]\n",
        "too-large",
        1,
        40_004,
        "more than 20000",
    ),
    Bad("too-many-aliases", "a: &a 1\nb: [" + "*a," * 70 + "]\n", "anchor", 2, 197, "64"),
]

#: What one key or value can have wrong.
BAD_VALUES = [
    _more("unknown-key", "piplines: [A]\n", "unknown-key", 1, 1, "did you mean 'pipelines'?"),
    _more("nothing-near", "zzz: 1\n", "unknown-key", 1, 1, "one of schema, name"),
    _more(
        "setting-at-the-top",
        "residual_diff_threshold: 0.1\n",
        "unknown-key",
        1,
        1,
        "belongs under 'cache:'",
    ),
    _more(
        "misspelt-setting-at-the-top",
        "residual_diff_treshold: 0.1\n",
        "unknown-key",
        1,
        1,
        "did you mean 'residual_diff_threshold'? It belongs under 'cache:'",
    ),
    _more(
        "blocks-at-the-top",
        "blocks: {a: Pattern_1}\n",
        "unknown-key",
        1,
        1,
        "belongs under 'transformers.NAME:'",
    ),
    _more("boundary-at-the-top", "boundary: {}\n", "unknown-key", 1, 1, "under 'step_split:'"),
    _more("separate-cfg", "enable_separate_cfg: true\n", "unknown-key", 1, 1, "guidance: separate"),
    _more(
        "steps-of-the-run", "num_inference_steps: 28\n", "unknown-key", 1, 1, "comes from the run"
    ),
    _cache(
        "mask-of-cache-dit",
        "steps_computation_mask: [1, 0]",
        "unknown-key",
        3,
        "scm: {mask: [1, 1, 0, ...]}",
    ),
    _cache("policy-of-cache-dit", "steps_computation_policy: static", "unknown-key", 3, "policy"),
    _cache(
        "taylorseer-of-vllm-omni",
        "enable_taylorseer: true",
        "unknown-key",
        3,
        "calibrator: taylorseer",
    ),
    _cache("warmup-of-others", "warmup_steps: 4", "unknown-key", 3, "max_warmup_steps"),
    _cache("profiles-in-cache", "profiles: {}", "unknown-key", 3, "top level"),
    _cache(
        "order-without-calibrator", "taylorseer_order: 1", "unknown-key", 3, "under 'calibrator:'"
    ),
    _cache("no-break-space", "\u00a0scm: fast", "unknown-key", 3, "ordinary spaces"),
    _cache("another-case", "fn_compute_blocks: 1", "unknown-key", 3, "'Fn_compute_blocks'"),
    _cache("threshold-too-high", "residual_diff_threshold: 1", "out-of-range", 28, "below 1"),
    _cache("threshold-negative", "residual_diff_threshold: -0.1", "out-of-range", 28, "at least 0"),
    _cache("nan", "residual_diff_threshold: .nan", "out-of-range", 28, "nan"),
    _cache("inf", "max_accumulated_residual_diff_threshold: .inf", "out-of-range", 44, "above 0"),
    _cache("no-first-blocks", "Fn_compute_blocks: -1", "out-of-range", 22, "from 0 to 1000"),
    _cache("number-in-quotes", "max_warmup_steps: '4'", "wrong-type", 21, "write 4 without quotes"),
    _cache("underscores", "max_warmup_steps: 1_000", "wrong-type", 21, "write 1000"),
    _cache("fraction-of-a-step", "max_warmup_steps: 2.5", "wrong-type", 21, "a whole number"),
    _cache("boolean-for-number", "max_warmup_steps: true", "wrong-type", 21, "is true"),
    _cache("yes", "cfg_compute_first: yes", "wrong-type", 22, "write true or false"),
    _cache("boolean-in-quotes", "cfg_compute_first: 'true'", "wrong-type", 22, "without quotes"),
    _cache("one-for-true", "cfg_compute_first: 1", "wrong-type", 22, "true or false"),
    _cache("null-where-none", "max_warmup_steps:", "wrong-type", 20, "has no value"),
    _cache("preset", "scm: fst", "wrong-value", 8, "did you mean 'fast'?"),
    _cache("mask-of-twos", "scm: {mask: [1, 2]}", "wrong-type", 19, "0 or 1"),
    _cache("mask-of-booleans", "scm: {mask: [true]}", "wrong-type", 16, "item 1 of 'mask'"),
    _cache("mask-empty", "scm: {mask: []}", "wrong-length", 15, "at least 1"),
    _cache("mask-and-preset", "scm: {preset: fast, mask: [1]}", "exactly-one", 23, "only one"),
    _cache("half-of-the-bins", "scm: {compute_bins: [1]}", "missing-key", 3, "cache_bins"),
    _cache("policy-alone", "scm: {policy: static}", "exactly-one", 3, "preset, mask"),
    _cache("calibrator", "calibrator: taylor", "wrong-value", 15, "taylorseer"),
    _cache("calibrator-list", "calibrator: [taylorseer]", "wrong-type", 15, "a list"),
    _cache(
        "calibrator-without-type", "calibrator: {taylorseer_order: 1}", "missing-key", 3, "'type'"
    ),
    _more("name", "name: my adapter\n", "wrong-format", 1, 7, "letters, digits"),
    _more("models-as-text", "models: a/b\n", "wrong-type", 1, 9, "write [a/b]"),
    _more("number-for-text", "description: 2\n", "wrong-type", 1, 14, "in quotes"),
    _more("profile-name", "profiles:\n  very fast: {}\n", "wrong-format", 2, 3, "key of"),
    _more("guidance", "guidance: seperate\n", "wrong-value", 1, 11, "'separate'"),
    _more(
        "guidance-condition",
        "guidance: {separate_when: is_distilled}\n",
        "wrong-format",
        1,
        27,
        "pipeline.is_distilled",
    ),
    _more(
        "condition-with-code",
        "guidance: {separate_when: 'pipeline.f()'}\n",
        "wrong-format",
        1,
        27,
        "an attribute",
    ),
    _more("flag", "set: {vae: true}\n", "wrong-format", 1, 7, "_cache_dit_"),
    _more("version-range", "requires: {cache-dit: 1.5 or so}\n", "wrong-format", 1, 23, ">=1.5"),
    _more("max-steps", "steps: [{scm: fast}]\n", "missing-key", 1, 9, "'max_steps'"),
    _more("split-without-key", "step_split: {}\n", "exactly-one", 1, 1, "boundary, fraction"),
    Bad(
        "class-with-space",
        "schema: 1\npipelines: [A Pipeline]\nrefuse: x\n",
        "wrong-format",
        2,
        13,
        "a class name",
    ),
    Bad(
        "pattern",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    blocks: {b: Pattern_6}\n",
        "wrong-value",
        5,
        17,
        "Pattern_5",
    ),
    Bad(
        "pattern-in-mapping",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    blocks:\n"
        "      b: {pattern: Pattern-1}\n",
        "wrong-value",
        6,
        20,
        "did you mean 'Pattern_1'?",
    ),
    Bad(
        "no-pattern",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    blocks:\n      b: {}\n",
        "missing-key",
        6,
        7,
        "'pattern'",
    ),
    Bad(
        "private-path",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    blocks:\n      _b: Pattern_1\n",
        "wrong-format",
        6,
        7,
        "dots",
    ),
    Bad(
        "no-blocks",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    blocks: {}\n",
        "wrong-length",
        5,
        13,
        "at least 1",
    ),
    Bad(
        "transformer-is-list",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    - blocks\n",
        "wrong-type",
        4,
        3,
        "without dashes",
    ),
    Bad(
        "variant-without-choice",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    variants:\n"
        "      - blocks: {b: Pattern_1}\n",
        "missing-key",
        6,
        9,
        "class or when",
    ),
]

_TWO = """\
schema: 1
pipelines: [A]
transformers:
  transformer: {blocks: {blocks: Pattern_1}}
  transformer_2: {blocks: {blocks: Pattern_3}}
"""


def _two(name: str, body: str, code: str, line: int, column: int, says: str) -> Bad:
    return Bad(name, _TWO + body, code, line + 5, column, says)


#: What is wrong between keys.
BAD_RULES = [
    Bad("no-schema", HEAD.removeprefix("schema: 1\n"), "missing-key", 1, 1, "schema: 1"),
    Bad("newer", "schema: 2\nnot_yet_known: 1\n", "schema-version", 1, 9, "reads version 1"),
    Bad("schema-as-text", HEAD.replace("1\n", "'1'\n", 1), "wrong-type", 1, 9, "without quotes"),
    Bad("schema-zero", HEAD.replace("1\n", "0\n", 1), "out-of-range", 1, 9, "expected 1"),
    Bad("no-transformers", "schema: 1\npipelines: [A]\n", "missing-key", 1, 1, "refuse: REASON"),
    Bad(
        "empty-transformers",
        "schema: 1\npipelines: [A]\ntransformers: {}\n",
        "missing-key",
        3,
        1,
        "no transformers",
    ),
    Bad(
        "for-nobody",
        "schema: 1\ntransformers: {t: {blocks: {b: Pattern_1}}}\n",
        "missing-key",
        1,
        1,
        "pipelines: [ClassName]",
    ),
    _more("refuse-and-transformers", "refuse: never\n", "unusable", 1, 1, "3:1: declared here"),
    Bad(
        "refuse-without-reason",
        "schema: 1\npipelines: [A]\nrefuse: ' '\n",
        "wrong-format",
        3,
        9,
        "say in one sentence",
    ),
    Bad(
        "no-lists",
        "schema: 1\npipelines: [A]\ntransformers:\n  t: {optional: true}\n",
        "missing-key",
        4,
        3,
        "no block lists",
    ),
    Bad(
        "pipeline-twice",
        "schema: 1\npipelines: [A, B, A]\nrefuse: x\n",
        "duplicate-item",
        2,
        19,
        "2:13: first here",
    ),
    _two(
        "split-unknown-high",
        "step_split:\n  boundary: {ratio: 0.9, high: transformer, low: transfomer_2}\n",
        "unknown-name",
        2,
        50,
        "did you mean 'transformer_2'?",
    ),
    _two(
        "split-same",
        "step_split:\n  boundary: {ratio: 0.9, high: transformer, low: transformer}\n",
        "unusable",
        2,
        50,
        "same transformer",
    ),
    _two(
        "split-unknown-share",
        "step_split:\n  fraction: {transformer: 0.4, other: 0.6}\n",
        "unknown-name",
        2,
        32,
        "transformer or transformer_2",
    ),
    _two(
        "split-shares",
        "step_split:\n  fraction: {transformer: 0.6, transformer_2: 0.6}\n",
        "out-of-range",
        2,
        3,
        "add up to 1.2",
    ),
    _two(
        "split-rests",
        "step_split:\n  count: {transformer: -1, transformer_2: -1}\n",
        "unusable",
        2,
        43,
        "only one transformer",
    ),
    _two(
        "split-ratio",
        "step_split:\n  boundary: {ratio: 1.5, high: transformer, low: transformer_2}\n",
        "out-of-range",
        2,
        21,
        "from 0 to 1",
    ),
    _two(
        "split-ratio-path",
        "step_split:\n  boundary: {ratio: boundary, high: transformer, low: transformer_2}\n",
        "wrong-format",
        2,
        21,
        "pipeline.config.boundary_ratio",
    ),
    _two(
        "two-splits",
        "step_split:\n  fraction: {transformer: 0.6, transformer_2: 0.4}\n"
        "  count: {transformer: 6, transformer_2: -1}\n",
        "exactly-one",
        3,
        3,
        "only one of",
    ),
    _two(
        "profile-unknown-list",
        "profiles:\n  p:\n    lists: {transformer.block: {scm: fast}}\n",
        "unknown-name",
        3,
        13,
        "did you mean 'transformer.blocks'?",
    ),
    _two(
        "profile-ambiguous-list",
        "profiles:\n  p:\n    lists: {blocks: {scm: fast}}\n",
        "unknown-name",
        3,
        13,
        "transformer.blocks or transformer_2.blocks",
    ),
    _two("prune-wrong-pattern", "cache: {cache_type: DBPrune}\n", "unusable", 1, 21, "Pattern_3"),
    _two(
        "prune-in-profile",
        "profiles:\n  p: {cache_type: DBPrune}\n",
        "unusable",
        2,
        19,
        "use DBCache",
    ),
    _cache(
        "option-of-another",
        "calibrator: {type: taylorseer, dmd_history: 4}",
        "unusable",
        34,
        "an option of dmd",
    ),
    _cache(
        "order-of-foca",
        "calibrator: {type: foca, taylorseer_order: 2}",
        "unusable",
        28,
        "remove it",
    ),
    _more(
        "mode-and-condition",
        "guidance: {mode: fused, separate_when: pipeline.x}\n",
        "unusable",
        1,
        25,
        "keep one",
    ),
    _more(
        "same-max-steps",
        "steps: [{max_steps: 4}, {max_steps: 4}]\n",
        "duplicate-item",
        1,
        37,
        "max_steps: 4",
    ),
]

#: What is odd but harmless.
ODD = [
    _cache(
        "static-and-limit",
        "{scm: {preset: fast, policy: static}, max_accumulated_residual_diff_threshold: 3.0}",
        "ignored",
        41,
        "no effect",
    ),
    _cache("mask-begins-with-zero", "scm: {mask: [0, 1]}", "ignored", 16, "begin the mask with 1"),
    _cache(
        "policy-without-hint",
        "{force_refresh_step_hint: ~, force_refresh_step_policy: once}",
        "ignored",
        32,
        "without a hint",
    ),
    Bad(
        "unreachable-variant",
        "schema: 1\npipelines: [A]\ntransformers:\n  t:\n    variants:\n"
        "      - {class: [T], blocks: {b: Pattern_1}}\n"
        "      - {class: [T], blocks: {c: Pattern_1}}\n",
        "unreachable-variant",
        7,
        9,
        "never taken",
    ),
]

BAD = BAD_YAML + BAD_VALUES + BAD_RULES

#: One document for each part of the language.
GOOD = {
    "shortest": HEAD,
    "settings": HEAD
    + """\
cache:
  cache_type: DBCache
  Fn_compute_blocks: 8
  Bn_compute_blocks: 0
  residual_diff_threshold: 0.1
  max_accumulated_residual_diff_threshold: ~
  max_warmup_steps: 6
  warmup_interval: 2
  max_cached_steps: -1
  max_continuous_cached_steps: 4
  cfg_compute_first: false
  cfg_diff_compute_separate: true
  force_refresh_step_hint: 10
  force_refresh_step_policy: repeat
  scm: {compute_bins: [6, 1, 1], cache_bins: [1, 2, 5], policy: dynamic}
  calibrator: {type: dmd, dmd_history: 8, dmd_rank: 2, dmd_ridge: 1e-6, dmd_svd_precision: high}
  batch: worst
""",
    "pruning": HEAD
    + """\
cache:
  cache_type: DBPrune
  enable_dynamic_prune_threshold: true
  max_dynamic_prune_threshold: 0.5
  dynamic_prune_threshold_relax_ratio: 1.25
  non_prune_block_ids: [0, 1]
  force_reduce_calibrator_vram: true
""",
    "wan": """\
schema: 1
name: wan2.2
pipelines: [WanPipeline, WanImageToVideoPipeline, Wan22Pipeline, Wan22I2VPipeline]
models: [Wan-AI/Wan2.2-T2V-A14B-Diffusers]
cache: {max_warmup_steps: 4, residual_diff_threshold: 0.24}
transformers:
  transformer:
    class: [WanTransformer3DModel]
    blocks: {blocks: Pattern_2}
  transformer_2:
    optional: true
    blocks:
      blocks: {pattern: Pattern_2, params: {max_warmup_steps: 2, max_cached_steps: 20}}
step_split:
  boundary: {ratio: pipeline.config.boundary_ratio, high: transformer, low: transformer_2}
profiles:
  fast: {scm: fast, residual_diff_threshold: 0.3}
  by-list:
    description: one list goes further
    scm: ~
    lists: {transformer_2.blocks: {residual_diff_threshold: 0.4}}
""",
    "variants": """\
schema: 1
description: layouts by class and attribute
requires: {cache-dit: '>=1.5', diffusers: '>=0.40, <0.43'}
transformers:
  dit.model:
    variants:
      - class: [FluxTransformer2DModel]
        blocks: {transformer_blocks: Pattern_1, single_transformer_blocks: Pattern_3}
      - when: not transformer.config.guidance_embeds
        blocks: {layers.0: Pattern_2}
    params: {Fn_compute_blocks: 2}
    timestep: t
    denoising: {when: {update_cache: false, mode: gen, step: 1, scale: 1.5, past: ~}}
""",
    "roles": """\
schema: 1
pipelines: ['*Pipeline']
transformers:
  transformer:
    blocks:
      layers:
        pattern: Pattern_0
        class: [Block]
        optional: true
        roles: {hidden_states: x, state: past_key_values}
guidance: {separate_when: not pipeline.is_distilled}
set: {_cache_dit_requires_paired_cfg: true, _cache_dit_word: x, _cache_dit_n: 2.5}
steps:
  - {max_steps: 4, max_warmup_steps: 1}
  - {max_steps: 8, max_warmup_steps: 2, scm: {mask: [1, 1, 0, 1, 0, 1, 0, 1]}}
""",
    "split-by-share": """\
schema: 1
pipelines: [A]
guidance: separate
transformers: &t
  a: {blocks: {b: Pattern_5}}
  b: {blocks: {b: Pattern_4}}
step_split: {fraction: {a: 0.25, b: 0.75}}
profiles: {taylor: {calibrator: taylorseer}}
""",
    "split-by-count": """\
schema: 1
pipelines: [A]
guidance: {mode: fused}
transformers: {a: {blocks: {b: Pattern_5}}, b: {blocks: {b: Pattern_4}}}
step_split: {count: {a: 4, b: -1}}
""",
    "refusal": "schema: 1\npipelines: [AnyFlowFARPipeline]\nrefuse: too few steps in each chunk\n",
}
