"""What a probe changes of a pipeline that an engine makes; the engine itself is not needed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cachedit_yaml import AdapterError, load_adapter
from cachedit_yaml.engines.vllm_omni.inside import Untouched, is_inside, put_inside
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.parts import build_part, on_top

ADAPTER: dict[str, Any] = {
    "schema": 1,
    "name": "mine",
    "pipelines": ["MyPipeline"],
    "cache": {"Fn_compute_blocks": 1},
    "transformers": {"transformer": {"blocks": {"blocks": "Pattern_3"}}},
}


def probe(**fields: Any) -> Any:
    data = {**ADAPTER, "engines": {"vllm_omni": {"probe": fields}}}
    return load_adapter(data, engine="vllm_omni").probe


def test_what_lies_in_the_checkpoint_and_what_does_not() -> None:
    parts = probe(
        parts={
            "vae": "kl",
            "model.encoder": {"part": "vllm_omni.diffusion.models.lance.wan_vae.WanVAE_"},
            "model.head": {"dtype": "float32"},
            "text_encoder": {"part": "t5", "dtype": "bfloat16"},
        }
    ).parts
    inside = {path for path, part in parts.items() if is_inside(part)}
    assert inside == {"model.encoder", "model.head"}


def test_a_dtype_casts_what_is_there() -> None:
    model = nn.ModuleDict(
        {"inner": nn.ModuleDict({"head": nn.Linear(2, 2), "body": nn.Linear(2, 2)})}
    )
    put_inside(
        model, None, {"inner.head": Part(dtype="float16"), "vae": Part(part="kl"), "x": None}
    )
    assert model.get_submodule("inner.head").weight.dtype == torch.float16
    assert model.get_submodule("inner.body").weight.dtype == torch.float32


def test_new_weights_stay_as_they_lie() -> None:
    filled = torch.full((3,), 7.0)
    with Untouched():
        assert nn.init.normal_(filled) is filled
        nn.init.kaiming_uniform_(filled.view(1, 3))
        assert torch.equal(filled, torch.full((3,), 7.0))
        assert torch.equal(nn.LayerNorm(3).weight, torch.ones(3))
    assert not torch.equal(nn.init.normal_(filled), torch.full((3,), 7.0))


def test_folders_and_files_of_a_checkpoint() -> None:
    found = probe(
        parts={
            "tokenizer": {"part": "bytes", "folder": "."},
            "audio": {"folder": "wav2vec2-large.en"},
        },
        files={"Qwen2.5-VL-ViT/config.json": {}, "config.json": {}},
    )
    assert found.parts["tokenizer"].folder == "."
    assert on_top(Part(config={"a": 1}), found.parts["tokenizer"]).folder == "."


@pytest.mark.parametrize(
    "fields",
    [
        {"parts": {"a": {"part": "kl", "folder": ".."}}},
        {"parts": {"a": {"part": "kl", "folder": "a/b/c"}}},
        {"parts": {"a": {"part": "kl", "folder": "a/.."}}},
        {"parts": {"a": {"part": "kl", "folder": "/a"}}},
        {"parts": {"_a.b": "kl"}},
        {"files": {"../config.json": {}}},
        {"files": {"a/../config.json": {}}},
        {"files": {"a/b/config.json": {}}},
    ],
)
def test_nothing_outside_of_it(fields: dict[str, Any]) -> None:
    with pytest.raises(AdapterError):
        probe(**fields)


def test_a_file_of_weights_that_holds_none(tmp_path: Path) -> None:
    made = build_part(Part(part="no-weights", config={"file": "../../VAE.pth"}), "vae_file")
    made.save_pretrained(tmp_path)
    assert torch.load(tmp_path / "VAE.pth", weights_only=True) == {}
    assert [item.name for item in tmp_path.iterdir()] == ["VAE.pth"]
