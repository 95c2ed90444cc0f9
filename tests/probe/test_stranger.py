"""A probe is data from a stranger: what it may name, what it may ask for, what it may do."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from cachedit_yaml.cli import main
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.check import Checked, check
from cachedit_yaml.probe.classes import ProbeError, find_dataclass, find_part
from cachedit_yaml.probe.confine import RefusedError, confined
from cachedit_yaml.probe.limits import LimitError, Limits
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.values import Maker
from cachedit_yaml.probe.workers import can_fork
from tests.probe.test_check import PIXART, adapter, only

forks = pytest.mark.skipif(not can_fork(), reason="needs fork and /proc")
SMALL = PIXART["probe"]["parts"]["transformer"]["config"]


def limits_of(found: Checked) -> list[str]:
    """The limits that a result says are broken."""
    return [proof.name for proof in found.proofs if proof.name.startswith("limit ")]


def transformer(**config: Any) -> dict[str, Any]:
    """The probe's parts with another config of the transformer."""
    part = {"part": "PixArtTransformer2DModel", "config": {**SMALL, **config}}
    return {"parts": {"transformer": part}}


# --- what it may name ---


@pytest.mark.parametrize(
    "name",
    [
        "FluxModularPipeline",
        "ModularPipeline",
        "FluxAutoBlocks",
        "AutoModel",
        "AutoPipelineForText2Image",
        "FluxPipeline",
        "VaeImageProcessor",
        "transformers.models.auto.AutoTokenizer",
        "transformers.models.auto.AutoModel",
        "CLIPTokenizer",
        "CLIPProcessor",
        "RagRetriever",
        "TrainingArguments",
        "transformers.training_args.TrainingArguments",
        "transformers.commands.serving.ServeCommand",
        "diffusers.utils.logging",
        "diffusers.hooks.HookRegistry",
        "diffusers.models.modeling_utils.torch.nn.Linear",
        "torch.hub.load",
        "builtins.eval",
    ],
)
def test_what_is_no_part(name: str) -> None:
    with pytest.raises(ProbeError):
        find_part(name)


@pytest.mark.parametrize(
    "name",
    [
        "transformers.training_args.TrainingArguments",
        "transformers.models.clip.CLIPConfig",
        "diffusers.models.autoencoders.vae.DecoderOutput",
        "diffusers.quantizers.quantization_config.BitsAndBytesConfig",
    ],
)
def test_what_is_no_input(name: str) -> None:
    with pytest.raises(ProbeError):
        find_dataclass(name)


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"pretrained_model_name_or_path": "a"}),
        ("CLIPTextModel", {"cache_dir": "here"}),
        ("CLIPTextModel", {"_name_or_path": "a"}),
        ("CLIPTextModel", {"Cache_Dir": "here"}),
        ("CLIPTextModel", {"trust_remote_code": True}),
        ("CLIPTextModel", {"auto_map": {"AutoModel": "a.b"}}),
        ("CLIPTextModel", {"attn_implementation": "kernels-community/flash"}),
        ("CLIPTextModel", {"hidden_act": "somebody/kernel"}),
        ("CLIPTextModel", {"text_config": {"vocab_file": "vocab.json"}}),
        ("CLIPTextModel", {"layers": [{"checkpoint": "a"}]}),
        ("DetrModel", {"use_pretrained_backbone": True, "backbone": "resnet50"}),
        ("CLIPImageProcessor", {"image_processor_file": "a.json"}),
        ("tokenizer", {"tokenizer_file": "t.json"}),
        ("tokenizer", {"name_or_path": "a"}),
        ("gemma-letters", {"vocab_file": "v"}),
        ("language-model", {"name": "LlamaForCausalLM", "name_or_path": "a"}),
        ("language-model", {"name": "AutoModel"}),
        ("pixtral-processor", {"name": "Auto"}),
        ("pixtral-processor", {"image": "Auto"}),
        ("t5", {"extra_path": "C:\\models"}),
    ],
)
def test_settings_that_name_code_or_places(part: str, config: dict[str, Any]) -> None:
    with pytest.raises(ProbeError):
        build_part(Part(part=part, config=config), "encoder")


def test_code_of_a_repository_is_refused_wherever_a_file_asks_for_it() -> None:
    for changes in (
        {"config": {"trust_remote_code": True}},
        {"inputs": {"negative_prompt": {"trust_remote_code": True}}},
        {"parts": {"vae": {"part": "kl", "extra": {"trust_remote_code": True}}}},
        {"cases": {"a": {"height": [{"trust_remote_code": True}]}}},
    ):
        for found in check([adapter(**changes)]):
            assert found.status == "failed"
            assert "trust_remote_code" in found.detail


def test_a_pipeline_that_loads_by_itself_is_no_pipeline_of_a_probe(tmp_path: Path) -> None:
    probe = {"config": {"pretrained_model_name_or_path": "a", "cache_dir": str(tmp_path / "c")}}
    spec = {**PIXART, "pipelines": ["FluxModularPipeline"], "probe": probe}
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    assert main(["check", str(path)]) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["a.yaml"]


# --- what it may ask for ---


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        (transformer(num_layers=10**9), "number"),
        (transformer(num_layers=10**6), "layers"),
        (transformer(attention_head_dim=5000), "parameters"),
        ({"parts": {"scheduler": {"part": "dpm-v", "config": {"num_train_timesteps": 3 * 10**8}}}},
         "number"),
        ({"parts": {"vae": {"part": "kl", "config": {"block_out_channels": [4, 10**7]}}}},
         "number"),
        ({"attributes": {"default_sample_size": 10**9}}, "number"),
        ({"inputs": {"height": 200_000}}, "size"),
        ({"inputs": {"height": 9000, "width": 9000}}, "pixels"),
        ({"cases": {"a": {"num_images_per_prompt": 2**14, "height": 512, "width": 512}}}, "pixels"),
        ({"inputs": {"num_inference_steps": 10**8}}, "steps"),
        ({"inputs": {"timesteps": [1] * 100}}, "steps"),
        ({"cases": {"a": {"num_inference_steps": {"steps": 10**8}}}}, "steps"),
        ({"inputs": {"prompt_embeds": {"randn": [1, 2**21, "caption_channels"]}}}, "elements"),
        ({"inputs": {"prompt_embeds": {"repeat": {"randn": [4, 1000, 1000]}, "times": 1000}}},
         "elements"),
        ({"inputs": {"prompt_embeds": {"repeat": {"repeat": 1, "times": 10**4}, "times": 10**4}}},
         "elements"),
    ],
)  # fmt: skip
def test_limits_break_by_their_name(changes: dict[str, Any], limit: str) -> None:
    results = list(check([adapter(**changes)]))
    assert all(item.status == "failed" for item in results)
    assert f"limit {limit}" in {name for item in results for name in limits_of(item)}


def test_makes_and_cases_are_counted_before_any_is_made() -> None:
    many = adapter(variants={f"v{number}": {} for number in range(9)})
    for name in ("makes", "cases"):
        (found,) = check([many], limits=Limits(**{name: 9}))
        assert limits_of(found) == [f"limit {name}"]


def test_limits_hold_for_all_that_is_made_together() -> None:
    half = {"randn": [2**11, 2**12]}
    with pytest.raises(LimitError, match="limit elements"):
        Maker({}, 4).make({"a": half, "b": half, "c": half}, ("x",))


def test_nothing_gives_room_back() -> None:
    for shape in ([-(2**20), 2**20], [-1, -1]):
        with pytest.raises(ProbeError, match="cannot be made"):
            build_part(Part(part="weights", config={"a": shape}), "vae")


def test_only_the_command_line_raises_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    probe = {**PIXART["probe"], "variants": {"other": {}}}
    path.write_text(json.dumps({**PIXART, "probe": probe}), encoding="utf-8")
    assert main(["check", str(path), "--limit", "makes=1"]) == 1
    assert "limit makes: more than 1" in capsys.readouterr().out
    for wrong in ("makes", "makes=-1", "makes=x", "bytes=1", "makes=" + "9" * 5000):
        assert main(["check", str(path), "--limit", wrong]) == 2


# --- what it may do ---


def test_walls(tmp_path: Path) -> None:
    inside = tmp_path / "here"
    attempts: list[Any] = [
        lambda: socket.socket(),
        lambda: socket.create_connection(("127.0.0.1", 9)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: subprocess.run(["true"], check=True),
        lambda: os.system("true"),
        lambda: inside.write_text("x"),
        lambda: os.open(inside, os.O_WRONLY | os.O_CREAT),
        lambda: inside.mkdir(),
        lambda: os.symlink("/", inside),
        lambda: os.rename(tmp_path, inside),
        lambda: torch.load(tmp_path / "weights.bin", weights_only=False),
    ]
    torch.save({"a": [socket.socket]}, tmp_path / "weights.bin")
    with confined(Limits()) as walls:
        for number, attempt in enumerate(attempts, 1):
            with pytest.raises(RefusedError):
                attempt()
            assert len(walls.attempts) == number
        Path(walls.folder, "file").write_text("mine")
        assert (tmp_path / "weights.bin").read_bytes()
    inside.write_text("all is as before")
    socket.socket().close()


@forks
@pytest.mark.parametrize(
    ("attempt", "limit"),
    [
        (lambda: socket.create_connection(("127.0.0.1", 9)), "network"),
        (lambda: Path("/tmp/of-a-stranger").write_text("x"), "files"),
        (lambda: torch.zeros(2**30).exp(), "memory"),
    ],
)
def test_what_a_class_does_by_itself_fails_the_proof(
    attempt: Any, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the code around it catches what is raised."""
    from diffusers import PixArtTransformer2DModel

    original = PixArtTransformer2DModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(OSError):
            attempt()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PixArtTransformer2DModel, "forward", forward)
    (found,) = check([adapter()])
    assert limits_of(found) == [f"limit {limit}"]
    assert not Path("/tmp/of-a-stranger").exists()


def test_what_is_compiled_lies_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    with confined(Limits()) as walls:
        assert cache_dir().startswith(walls.folder)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "elsewhere")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    with confined(Limits()):
        pass
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


@forks
def test_what_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import PixArtTransformer2DModel

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        while True:
            pass

    monkeypatch.setattr(PixArtTransformer2DModel, "forward", forward)
    (found,) = check([adapter()], limits=Limits(seconds=1))
    assert limits_of(found) == ["limit seconds"]


def test_a_plain_probe_is_proved_behind_the_walls() -> None:
    found = only(adapter())
    assert (found.status, limits_of(found)) == ("proved", [])


def test_nothing_is_compiled() -> None:
    """A compiler is another program: what a model compiles runs as it is."""

    def double(x: int) -> int:
        return 2 * x

    with confined(Limits()) as walls:
        assert torch.compile(double) is double
        assert torch.compile(fullgraph=True)(double) is double
    assert walls.attempts == []
