"""What a probe says of a part beyond its config, and what a pipeline needs to be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from cachedit_yaml import load_adapter
from cachedit_yaml.engines.diffusers.probe import build
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.check import check
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.recipe import recipe

DIT = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8}


def adapter(**probe: Any) -> Any:
    """An adapter for DiT whose probe has more in it."""
    part = {"part": "DiTTransformer2DModel", "config": {**DIT, "in_channels": 4, "out_channels": 8}}
    parts = {"transformer": part, "vae": "kl-plain", "scheduler": "DDIMScheduler"}
    return load_adapter(
        {
            "schema": 1,
            "name": "dit",
            "pipelines": ["DiTPipeline"],
            "cache": {"Fn_compute_blocks": 1},
            "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_3"}}},
            "probe": {
                "parts": parts,
                "inputs": {"class_labels": [1], "output_type": "pt"},
                "forward": {
                    "hidden_states": {"randn": [1, 4, 8, 8]},
                    "timestep": {"full": [1], "value": 500, "dtype": "int64"},
                    "class_labels": {"count": 1},
                },
                **probe,
            },
        }
    )


def test_fields_that_the_constructor_does_not_take() -> None:
    part = Part(part="kl", extra={"guidance_embeds": False})
    assert build_part(part, "vae").config.guidance_embeds is False
    with pytest.raises(ProbeError, match=r"parts\.text: 'extra' is for classes of diffusers"):
        build_part(Part(part="clip-text", extra={"guidance_embeds": False}), "text")


def test_a_package_that_is_not_installed() -> None:
    spec = adapter(pipelines={"DiTPipeline": {"needs": ["no_such_package"]}})
    with pytest.raises(NotInstalledError, match="no_such_package is not installed"):
        build(spec, recipe(spec, "DiTPipeline"))
    whole, alone = check([spec])
    assert (whole.status, whole.pipeline) == ("skipped", "DiTPipeline")
    assert (alone.failures(), alone.pipeline) == ([], "")


def test_timesteps_of_a_transformer_alone_keep_their_dtype() -> None:
    spec = adapter()
    alone = build(spec, recipe(spec, ""))
    seen: list[torch.Tensor] = []
    alone.target.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    alone.run(steps=4)
    assert [item.dtype for item in seen] == [torch.int64] * 4
    assert [int(item) for item in seen] == [500, 437, 375, 312]


def test_inputs_that_differ_by_step() -> None:
    labels = {"each": [{"full": [1], "value": number, "dtype": "int64"} for number in (3, 5)]}
    spec = adapter(
        forward={
            "hidden_states": {"randn": [1, 4, 8, 8]},
            "timestep": {"full": [1], "value": 500, "dtype": "int64"},
            "class_labels": labels,
        }
    )
    alone = build(spec, recipe(spec, ""))
    seen: list[int] = []
    alone.target.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(int(kwargs["class_labels"])), with_kwargs=True
    )
    alone.run(steps=4)
    assert seen == [3, 5, 3, 5]


def test_files_of_a_variant_are_put_on_top() -> None:
    spec = adapter(
        files={"config.json": {"width": 4, "depth": 2}, "other.json": {"x": 1}},
        variants={"deep": {"files": {"config.json": {"depth": 8}, "other.json": [1]}}},
    )
    plain, deep = recipe(spec, "DiTPipeline"), recipe(spec, "DiTPipeline", "deep")
    assert plain.files == {"config.json": {"width": 4, "depth": 2}, "other.json": {"x": 1}}
    assert deep.files == {"config.json": {"width": 4, "depth": 8}, "other.json": [1]}


def test_a_part_keeps_its_folder_below_a_variant() -> None:
    spec = adapter(
        parts={"tokenizer": {"part": "bytes", "folder": "."}},
        variants={"other": {"parts": {"tokenizer": {"config": {"special": ["<x>"]}}}}},
    )
    part = recipe(spec, "", "other").parts["tokenizer"]
    assert part is not None
    assert (part.folder, part.config) == (".", {"special": ["<x>"]})


def test_a_file_of_weights(tmp_path: Path) -> None:
    made = build_part(Part(part="weights", config={"in__weight": [3, 2], "bias": [3]}), "mlp")
    made.save_pretrained(tmp_path / "mlp")
    found = load_file(tmp_path / "mlp" / "model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in found.items()} == {
        "in.weight": [3, 2],
        "bias": [3],
    }


def test_tokens_whose_ids_a_model_knows(tmp_path: Path) -> None:
    config = {"special": ["<x>"], "ids": {"<y>": 270}}
    build_part(Part(part="bytes", config=config), "tokenizer").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("<x><y>", add_special_tokens=False) == [263, 270]


def test_a_part_whose_width_is_a_product_is_refused_before_it_is_made() -> None:
    config = {**DIT, "num_attention_heads": 200, "attention_head_dim": 256}
    with pytest.raises(ProbeError, match=r"limit parameters"):
        build_part(Part(part="DiTTransformer2DModel", config=config), "transformer")
