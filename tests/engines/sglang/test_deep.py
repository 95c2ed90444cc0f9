"""``validate --deep`` reads SGLang's classes from their sources, without importing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import deep

pytestmark = pytest.mark.engines

IDEOGRAM = """\
schema: 1
engines: {sglang: {pipelines: [Ideogram4Pipeline]}}
transformers:
  transformer:
    class: [Ideogram4Transformer2DModel]
    timestep: t
    blocks: {layers: {pattern: Pattern_3, roles: {hidden_states: x}}}
  unconditional_transformer:
    optional: true
    timestep: t
    class: [Ideogram4Transformer2DModel]
    blocks: {layers: {pattern: Pattern_3, roles: {hidden_states: x}}}
"""
#: What of the shipped adapters the sources do not say: a function inside a function makes it, or
#: the engine has it not.
UNREAD = {"llada-image": "LLaDAImageTransformer2DModel.layers", "wan": "WanVACETransformer3DModel"}


def test_every_shipped_adapter_fits() -> None:
    found = deep.shipped("sglang")
    assert len(found) == 28
    assert deep.unread(found) == UNREAD


def test_nothing_is_imported(tmp_path: Path) -> None:
    assert deep.imported(tmp_path, IDEOGRAM, ["sglang", "torch"]) == ["torch"]


def test_what_fits_has_no_finding() -> None:
    assert deep.findings(IDEOGRAM) == []


@pytest.mark.parametrize(
    ("old", "new", "code", "message", "line"),
    [
        pytest.param(
            "  transformer:",
            "  transfomer:",
            "missing-attribute",
            "SGLang's Ideogram4Pipeline has no 'transfomer'; did you mean 'transformer'?",
            4,
            id="module",
        ),
        pytest.param(
            "layers",
            "layer",
            "missing-attribute",
            "SGLang's Ideogram4Transformer2DModel has no 'layer'; did you mean 'layers'?",
            7,
            id="block-list",
        ),
        pytest.param(
            "layers",
            "final_layer",
            "not-a-block-list",
            "SGLang's Ideogram4Transformer2DModel: 'final_layer' is a ",
            7,
            id="no-block-list",
        ),
        pytest.param(
            "hidden_states: x",
            "hidden_states: y",
            "wrong-pattern",
            "SGLang's Ideogram4Transformer2DModel.layers: Ideogram4TransformerBlock: forward has "
            "no argument 'y' (Pattern_3 needs it)",
            7,
            id="argument",
        ),
        pytest.param(
            "[Ideogram4Transformer2DModel]",
            "[Ideogram4Trasformer2DModel]",
            "misspelled-class",
            "no class is called 'Ideogram4Trasformer2DModel' in ",
            5,
            id="class",
        ),
    ],
)
def test_what_does_not_fit(old: str, new: str, code: str, message: str, line: int) -> None:
    assert old in IDEOGRAM
    (found,) = deep.findings(IDEOGRAM.replace(old, new, 1))
    assert (found[0], found[2]) == (code, line)
    assert found[1].startswith(message)
