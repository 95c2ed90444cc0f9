"""``validate --deep`` reads vLLM-Omni's classes from their sources, without importing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import deep

pytestmark = pytest.mark.engines

FLUX = """\
schema: 1
engines: {vllm_omni: {pipelines: [FluxPipeline]}}
transformers:
  transformer:
    class: [FluxTransformer2DModel]
    blocks:
      transformer_blocks: Pattern_1
      single_transformer_blocks: Pattern_1
"""
#: What of the shipped adapters the sources do not say: another part makes it, or it is of another
#: version of the engine.
UNREAD = {
    "bagel": "Bagel.language_model.model.layers",
    "dreamid-omni": "DreamIDOmniPipeline, FusionModel",
    "lance": "LanceBagel.language_model.model.layers",
    "ltx-2": "LTX2DistilledPipeline, LTX2ImageToVideoPipeline, LTX23Pipeline, "
    "LTX23ImageToVideoPipeline",
    "ltx-2-two-stages": "LTX2TwoStagesPipeline, LTX2ImageToVideoTwoStagesPipeline",
}


def test_every_shipped_adapter_fits() -> None:
    found = deep.shipped("vllm_omni")
    assert len(found) == 42
    assert deep.unread(found) == UNREAD


def test_nothing_is_imported(tmp_path: Path) -> None:
    assert deep.imported(tmp_path, FLUX, ["vllm_omni", "vllm", "torch"]) == ["torch"]


def test_what_fits_has_no_finding() -> None:
    assert deep.findings(FLUX) == []


@pytest.mark.parametrize(
    ("old", "new", "code", "message", "line"),
    [
        pytest.param(
            "  transformer:",
            "  transformr:",
            "missing-attribute",
            "vLLM-Omni's FluxPipeline has no 'transformr'; did you mean 'transformer'?",
            4,
            id="attribute",
        ),
        pytest.param(
            "[FluxTransformer2DModel]",
            "[Flux2Transformer2DModel]",
            "wrong-class",
            "vLLM-Omni's FluxPipeline has FluxTransformer2DModel there, and the adapter is for "
            "Flux2Transformer2DModel",
            5,
            id="class",
        ),
        pytest.param(
            "FluxTransformer2DModel",
            "FluxTransfromer2DModel",
            "misspelled-class",
            "no class is called 'FluxTransfromer2DModel' in diffusers, vllm_omni",
            5,
            id="misspelled-class",
        ),
        pytest.param(
            "[FluxPipeline]",
            "[FluxPipelin]",
            "misspelled-class",
            "no class is called 'FluxPipelin' in diffusers, vllm_omni",
            2,
            id="misspelled-pipeline",
        ),
        pytest.param(
            "single_transformer_blocks",
            "single_blocks",
            "missing-attribute",
            "vLLM-Omni's FluxTransformer2DModel has no 'single_blocks'; it has the block lists "
            "transformer_blocks, single_transformer_blocks",
            8,
            id="block-list",
        ),
        pytest.param(
            "single_transformer_blocks",
            "norm_out",
            "not-a-block-list",
            "vLLM-Omni's FluxTransformer2DModel: 'norm_out' is a AdaLayerNormContinuous",
            8,
            id="no-block-list",
        ),
        pytest.param(
            "      transformer_blocks: Pattern_1",
            "      transformer_blocks: {pattern: Pattern_1, class: [FluxSingleTransformerBlock]}",
            "wrong-class",
            "vLLM-Omni's FluxTransformer2DModel.transformer_blocks has blocks of "
            "FluxTransformerBlock",
            7,
            id="block-class",
        ),
        pytest.param(
            "      transformer_blocks: Pattern_1",
            "      transformer_blocks: Pattern_0",
            "return-order",
            "vLLM-Omni's FluxTransformer2DModel.transformer_blocks: the loop takes encoder hidden "
            "states first from the block, and Pattern_0 is hidden states first; that is Pattern_1",
            7,
            id="order",
        ),
        pytest.param(
            "      single_transformer_blocks: Pattern_1",
            "      single_transformer_blocks: {pattern: Pattern_1, roles: {hidden_states: img}}",
            "wrong-pattern",
            "vLLM-Omni's FluxTransformer2DModel.single_transformer_blocks: "
            "FluxSingleTransformerBlock: forward has no argument 'img' (Pattern_1 needs it); its "
            "arguments are hidden_states, encoder_hidden_states, temb, image_rotary_emb, "
            "joint_attention_kwargs",
            8,
            id="argument",
        ),
    ],
)
def test_what_does_not_fit(old: str, new: str, code: str, message: str, line: int) -> None:
    assert old in FLUX
    found = deep.findings(FLUX.replace(old, new, 1))
    assert {item[2] for item in found} == {line}  # a misspelled class is another one, too
    assert any(item[0] == code and item[1].startswith(message) for item in found), found


def test_a_pattern_of_a_list_that_a_function_of_the_engine_makes() -> None:
    """``make_layers`` gives a rank of pipeline parallelism its own layers."""
    wan = """\
schema: 1
engines: {vllm_omni: {pipelines: [Wan22Pipeline]}}
transformers:
  transformer: {optional: true, class: [WanTransformer3DModel], blocks: {blocks: Pattern_2}}
"""
    assert deep.findings(wan) == []
    (found,) = deep.findings(wan.replace("Pattern_2", "Pattern_0"))
    assert found[0] == "return-order"
