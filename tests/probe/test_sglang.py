"""What a probe for SGLang asks for; the engine itself is not needed here."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from cachedit_yaml import load_adapter
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.attributes import left_behind
from cachedit_yaml.probe.check import check
from cachedit_yaml.probe.pipelines import Built
from cachedit_yaml.probe.recipe import GUIDED, PLAIN, recipe, recipes

FLUX = "sglang.multimodal_gen.runtime.models.dits.flux.FluxTransformer2DModel"


def adapter(guidance: str = "observed", **probe: Any) -> AdapterSpec:
    """An adapter whose probe is for SGLang."""
    return load_adapter(
        {
            "schema": 1,
            "name": "mine",
            "pipelines": ["FluxPipeline", "FluxOtherPipeline"],
            "cache": {"Fn_compute_blocks": 1},
            "guidance": guidance,
            "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_1"}}},
            "engines": {
                "sglang": {
                    "probe": {
                        "parts": {"transformer": {"part": FLUX, "config": {"num_layers": 4}}},
                        "forward": {
                            "hidden_states": {"randn": [2, 3]},
                            "timestep": {"full": [1], "value": 8},
                        },
                        **probe,
                    }
                }
            },
        },
        engine="sglang",
    )


def test_one_recipe_for_the_transformer_whatever_the_pipelines() -> None:
    spec = adapter(variants={"wide": {"inputs": {"hidden_states": {"randn": [2, 9]}}}})
    plain, wide = recipes(spec)
    assert [(item.pipeline, item.variant) for item in (plain, wide)] == [("", None), ("", "wide")]
    assert plain.inputs["hidden_states"] == {"randn": [2, 3]}
    assert wide.inputs["hidden_states"] == {"randn": [2, 9]}
    assert wide.inputs["timestep"] == plain.inputs["timestep"]


def test_guidance_is_a_case_with_two_forwards_a_step() -> None:
    found = recipe(adapter(), "")
    assert {case: found.branches(case) for case in found.cases} == {PLAIN: 1, GUIDED: 2}
    assert list(recipe(adapter("fused"), "").cases) == [PLAIN]
    assert list(recipe(adapter(without=["guided"]), "").cases) == [PLAIN]
    more = recipe(adapter(cases={"long": {"hidden_states": {"randn": [4, 3]}}}), "")
    assert {case: more.branches(case) for case in more.cases} == {PLAIN: 1, "long": 1, GUIDED: 2}


class Echo(torch.nn.Module):
    """A transformer that says what it was called with."""

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden_states.mean(0), timestep])


def test_the_second_forward_of_a_step_has_other_inputs_and_the_same_timestep() -> None:
    spec = adapter(cases={"guided": {"hidden_states": {"full": [2, 3], "value": 5}}})
    output = Built(spec, recipe(spec, ""), Echo()).run(GUIDED, steps=2)
    plain = Built(spec, recipe(spec, ""), Echo()).run(PLAIN, steps=2)
    assert torch.equal(output[0::2], plain)
    assert torch.equal(output[1::2, :3], torch.full((2, 3), 5.0))
    assert output[:, 3].tolist() == [8, 8, 6, 6]
    first, second = Built(adapter(), recipe(adapter(), ""), Echo()).run(GUIDED, steps=1)
    assert not torch.equal(first[:3], second[:3])


def test_skipped_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sglang", None)  # type: ignore[arg-type]
    (found,) = check([adapter()])
    assert found.status == "skipped"
    assert found.detail.startswith("sglang is not installed")
    (found,) = check([adapter(skip="It needs a camera.")])
    assert (found.status, found.detail) == ("skipped", "It needs a camera.")


def test_a_value_that_every_call_changes_is_not_left_behind() -> None:
    before: list[Any] = [["a"], {"count": 4, "scale": 1}]
    assert not left_behind(
        before, [["a"], {"count": 8, "scale": 1}], [["a"], {"count": 12, "scale": 1}]
    )
    assert left_behind(before, [["a"], {"count": 4, "scale": 2}], [["a"], {"count": 8, "scale": 2}])
    assert left_behind(before, [["a"], {"count": 4, "new": 1}], [["a"], {"count": 8, "new": 2}])
    assert left_behind(before, [["a", "b"], before[1]], [["a", "b"], before[1]])
