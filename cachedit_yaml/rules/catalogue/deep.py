"""CY4xx: the classes themselves, with `--deep`: built without weights, or their source read."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.catalogue.rule import Rule

_FLUX: Final = """\
schema: 1
pipelines: [FluxPipeline]
transformers:
  transformer:
    class: [FluxTransformer2DModel]
    blocks:
      transformer_blocks: Pattern_1
      single_transformer_blocks: Pattern_1
"""
_PIXART: Final = """\
schema: 1
pipelines: [PixArtAlphaPipeline]
transformers:
  transformer:
    class: [PixArtTransformer2DModel]
    blocks: {transformer_blocks: Pattern_3}
"""
_AURA: Final = """\
schema: 1
pipelines: [AuraFlowPipeline]
transformers:
  transformer:
    class: [AuraFlowTransformer2DModel]
    blocks: {joint_transformer_blocks: Pattern_1, single_transformer_blocks: Pattern_3}
cache: {Fn_compute_blocks: 2}
"""
_DIT: Final = """\
schema: 1
pipelines: [DiTPipeline]
transformers:
  transformer:
    class: [DiTTransformer2DModel]
    blocks: {transformer_blocks: Pattern_3}
"""
_WAN: Final = """\
schema: 1
pipelines: [WanPipeline]
transformers:
  transformer: {optional: true, class: [WanTransformer3DModel], blocks: {blocks: Pattern_2}}
  transformer_2: {optional: true, class: [WanTransformer3DModel], blocks: {blocks: Pattern_2}}
"""

RULES: Final = (
    Rule(
        "CY401",
        "not-checked",
        "hint",
        "A class could not be looked at.",
        "Nothing is known about whether the adapter fits it: the class is not in an installed "
        "package, it cannot be built from its defaults, or an engine's sources do not say enough.",
        "Install the package that has it, let `CACHEDIT_YAML_SOURCES` name a folder that holds it, "
        "or try the adapter on the real pipeline with `cachedit-yaml explain`.",
        _FLUX.replace("FluxTransformer2DModel", "MyTransformer2DModel").replace(
            "FluxPipeline", "MyPipeline"
        ),
        _FLUX,
    ),
    Rule(
        "CY402",
        "missing-attribute",
        "error",
        "The class has no attribute of this path.",
        "Enabling the adapter would be refused.",
        "Write one of the paths that the message names.",
        _FLUX.replace("      single_transformer_blocks", "      single_blocks"),
        _FLUX,
    ),
    Rule(
        "CY403",
        "not-a-block-list",
        "error",
        "The attribute is not a list of blocks.",
        "Only the blocks of a `ModuleList` can be cached one by one.",
        "Name the ModuleList that the transformer's forward loops over.",
        _PIXART.replace("{transformer_blocks: Pattern_3}", "{pos_embed: Pattern_3}"),
        _PIXART,
    ),
    Rule(
        "CY404",
        "wrong-pattern",
        "error",
        "The forward pattern does not fit the block's arguments or what it returns.",
        "The cache would keep and return the wrong tensors.",
        "Choose the pattern that the message names, or name the arguments with `roles`.",
        _AURA.replace("Pattern_3", "Pattern_2"),
        _AURA,
    ),
    Rule(
        "CY405",
        "return-order",
        "error",
        "The transformer's loop unpacks the block's result in another order than the pattern says.",
        "Hidden states and encoder hidden states would change places: no error, wrong pictures. "
        "cache-dit's own check compares names of parameters only.",
        "Choose the pattern of the same arguments with the other order.",
        _FLUX.replace("      transformer_blocks: Pattern_1", "      transformer_blocks: Pattern_0"),
        _FLUX,
    ),
    Rule(
        "CY406",
        "too-few-blocks",
        "error",
        "F and B together are more blocks than the list has.",
        "There would be nothing between them to skip, and enabling is refused.",
        "Choose smaller numbers for this list with `params`.",
        _PIXART + "cache: {Fn_compute_blocks: 20, Bn_compute_blocks: 20}\n",
        _PIXART + "cache: {Fn_compute_blocks: 2, Bn_compute_blocks: 2}\n",
    ),
    Rule(
        "CY407",
        "native-drops-work",
        "hint",
        "The transformer's loop does more than call its blocks.",
        "cache-dit's own (`native`) execution replaces the loop, so this work would be lost. The "
        "default execution keeps it.",
        "Nothing, with the default execution. Silence it with a comment if you have read it.",
        _DIT,
        _DIT.rstrip() + "  # cachedit-yaml: ignore[CY407] run with the default execution\n",
    ),
    Rule(
        "CY408",
        "renamed-keyword",
        "hint",
        "The transformer's loop passes an argument of another name by keyword.",
        "cache-dit's own (`native`) execution knows the usual names only and would fail. The "
        "default execution takes any.",
        "Nothing, with the default execution. Silence it with a comment if you have read it.",
        _PIXART.replace(
            "{transformer_blocks: Pattern_3}",
            "{transformer_blocks: {pattern: Pattern_2, roles: {encoder_hidden_states: "
            "attention_mask}}}",
        ),
        _PIXART.replace("Pattern_3", "Pattern_2"),
    ),
    Rule(
        "CY409",
        "guidance-mismatch",
        "warning",
        "The guidance mode disagrees with how often the pipeline calls the transformer in a step.",
        "With the wrong mode two branches share one cache, or one branch is counted as two.",
        "Leave `guidance` out: it is observed in the run.",
        _FLUX.replace("FluxPipeline", "QwenImagePipeline")
        .replace("FluxTransformer2DModel", "QwenImageTransformer2DModel")
        .replace("      single_transformer_blocks: Pattern_1\n", "")
        + "guidance: fused\n",
        _FLUX,
    ),
    Rule(
        "CY410",
        "not-optional",
        "warning",
        "The pipeline may be built without this transformer.",
        "A pipeline whose attribute is None would be refused.",
        "Add `optional: true`. `--fix` does not: say so only if caching the others is right.",
        _WAN.replace("transformer_2: {optional: true, ", "transformer_2: {"),
        _WAN,
    ),
    Rule(
        "CY411",
        "wrong-class",
        "error",
        "The class is another one than the adapter says.",
        "Enabling the adapter would be refused.",
        "Write the name of the class that is there.",
        _PIXART.replace(
            "{transformer_blocks: Pattern_3}",
            "{transformer_blocks: {pattern: Pattern_3, class: [FluxTransformerBlock]}}",
        ),
        _PIXART,
    ),
)
