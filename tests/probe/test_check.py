"""`check` proves what is right, and finds what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.engines.diffusers.probe import build
from cachedit_yaml.probe.check import Checked, check
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError, find_dataclass, find_part
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.pipelines import tensor_of
from cachedit_yaml.probe.recipe import recipe, recipes, unused
from cachedit_yaml.probe.values import Maker

PIXART: dict[str, Any] = {
    "schema": 1,
    "name": "mine",
    "pipelines": ["PixArtAlphaPipeline"],
    "cache": {"Fn_compute_blocks": 1, "residual_diff_threshold": 0.12},
    "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_3"}}},
    "probe": {
        "parts": {
            "transformer": {
                "part": "PixArtTransformer2DModel",
                "config": {
                    "num_attention_heads": 3,
                    "attention_head_dim": 16,
                    "in_channels": 4,
                    "out_channels": 8,
                    "num_layers": 4,
                    "cross_attention_dim": 48,
                    "caption_channels": 24,
                    "sample_size": 8,
                    "use_additional_conditions": False,
                },
            },
            "vae": "kl-plain",
            "scheduler": "dpm-v",
        },
        "inputs": {
            "prompt_embeds": {"randn": [1, 7, "caption_channels"]},
            "prompt_attention_mask": {"ones": [1, 7]},
            "negative_prompt": None,
            "guidance_scale": 1.0,
            "use_resolution_binning": False,
            "height": 16,
            "width": 16,
        },
    },
}


def adapter(**changes: Any) -> Any:
    """The adapter above with parts of its probe replaced."""
    probe = {**PIXART["probe"]}
    for name, value in changes.items():
        probe[name] = {**probe.get(name, {}), **value} if isinstance(value, dict) else value
    return cachedit_yaml.load_adapter({**PIXART, "probe": probe})


def only(spec: Any) -> Checked:
    """The result for the one case there is."""
    (found,) = check([spec])
    return found


def test_a_right_adapter_is_proved() -> None:
    found = only(adapter())
    assert found.status == "proved"
    assert [(proof.name, proof.verdict) for proof in found.proofs] == [
        ("resolves", "proved"),
        ("exact", "proved"),
        ("hits", "proved"),
        ("native", "proved"),
        ("batch", "proved"),
        ("restored", "proved"),
    ]
    assert str(found) == "PixArtAlphaPipeline, plain"


@pytest.mark.parametrize(
    ("transformers", "expected"),
    [
        ({"transformer": {"blocks": {"blocks": "Pattern_3"}}}, "resolves: .*has no attribute"),
        (
            {"transformer": {"blocks": {"transformer_blocks": "Pattern_0"}}},
            "exact: CacheRuntimeError|resolves: .*returns|hits: CacheRuntimeError|statistics",
        ),
        (
            {"transformer": {"timestep": "timestep", "blocks": {"transformer_blocks": "Pattern_3"},
                             "denoising": {"when": {"timestep": -1}}}},
            "exact: the call ran no block",
        ),
    ],
)  # fmt: skip
def test_a_wrong_adapter_is_found(transformers: dict[str, Any], expected: str) -> None:
    spec = cachedit_yaml.load_adapter({**PIXART, "transformers": transformers})
    found = only(spec)
    assert found.status == "failed"
    lines = [" ".join(line.split()) for line in found.failures()]
    assert any(re.search(expected, line) for line in lines), lines


def test_a_loop_that_caching_would_change_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof itself can fail: what a hook gets wrong shows."""
    from cachedit_yaml.runtime.blocks import BlockHook

    original = BlockHook.__call__

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        running = self.runner.running is not None
        return output * 1.0000001 if running and isinstance(output, torch.Tensor) else output

    monkeypatch.setattr(BlockHook, "__call__", wrong)
    found = only(adapter())
    assert any("exact: with no hit the output differs" in line for line in found.failures())


def test_a_hit_that_runs_too_many_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from cachedit_yaml.runtime.passes import ListPass

    original = ListPass._middle

    def wasteful(self: Any, index: int, inner: Any, args: Any, kwargs: Any) -> Any:
        if self.hit:
            inner(*args, **kwargs)
        return original(self, index, inner, args, kwargs)

    monkeypatch.setattr(ListPass, "_middle", wasteful)
    found = only(adapter())
    assert any(line.startswith("hits: ") for line in found.failures())


def test_blocks_that_do_nothing_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention import BasicTransformerBlock

    def idle(self: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states.clone()

    monkeypatch.setattr(BasicTransformerBlock, "forward", idle)
    found = only(adapter())
    assert any("do nothing" in line or "no block" in line for line in found.failures())


def test_what_cannot_be_made_is_said() -> None:
    for changes, expected in (
        ({"parts": {"vae": "AutoencoderKLL"}}, "neither diffusers nor transformers has"),
        ({"parts": {"vae": "os.path"}}, "may name classes of diffusers"),
        ({"parts": {"vae": {"config": {"latents": 4}}}}, "has no 'part'"),
        ({"parts": {"vae": {"part": "kl", "config": {"no_such_field": 4}}}}, "cannot be made"),
        ({"inputs": {"prompt_embeds": {"randn": [1, 7, "caption_chanels"]}}}, "has no field"),
        ({"inputs": {"prompt_embeds": {"randn": [99999, 99999]}}}, "limit elements"),
        ({"inputs": {"prompt_embedz": 1}}, "no pipeline of the adapter takes probe.inputs"),
    ):
        results = list(check([adapter(**changes)]))
        lines = [line for item in results for line in [*item.failures(), item.detail]]
        assert any(expected in line for line in lines), (expected, lines)


def test_what_is_not_installed_is_skipped() -> None:
    spec = cachedit_yaml.load_adapter({**PIXART, "pipelines": ["NoSuchPipeline"]})
    found = only(spec)
    assert (found.status, found.detail) == (
        "skipped",
        "the installed diffusers has no NoSuchPipeline; if it is your own, name its module with "
        "--import",
    )
    refused = cachedit_yaml.load_adapter(
        {"schema": 1, "pipelines": ["PixArtAlphaPipeline"], "refuse": "it does not denoise"}
    )
    assert only(refused).status == "skipped"


@pytest.mark.parametrize(
    "name", ["os.system", "torch.nn.Linear", "diffusers._x.Y", "diffusers.pipelines", "subprocess"]
)
def test_only_parts_of_allowed_packages(name: str) -> None:
    with pytest.raises(ProbeError):
        find_part(name)


def test_functions_and_pipelines_are_no_parts() -> None:
    for name in ("DiffusionPipeline", "AutoPipelineForText2Image", "logging"):
        with pytest.raises(ProbeError):
            find_part(name)
    with pytest.raises(ProbeError, match="is no dataclass"):
        find_dataclass("diffusers.AutoencoderKL")
    with pytest.raises(NotInstalledError):
        find_part("vllm_omni.no.Such")


def test_parts_that_would_fill_the_memory() -> None:
    spec = adapter(parts={"transformer": {"part": "PixArtTransformer2DModel",
                                          "config": {"attention_head_dim": 60000,
                                                     "num_attention_heads": 60000}}})  # fmt: skip
    with pytest.raises(ProbeError, match=r"limit parameters|cannot be made"):
        build(spec, recipe(spec, "PixArtAlphaPipeline"))


def test_layers_of_a_probe() -> None:
    spec = adapter(
        variants={
            "large": {
                "parts": {"transformer": {"config": {"num_layers": 6}}},
                "inputs": {"height": 32},
            },
            "twin": {"parts": {"vae": {"like": "transformer", "config": {"num_layers": 2}}}},
            "bare": {"parts": {"vae": None}, "without": ["guided"]},
        },
        cases={"guided": {"guidance_scale": 4.0}, "with_pag": {"pag_scale": 3.0}},
    )
    plain, large, twin, bare = recipes(spec)
    assert set(plain.cases) == {"plain", "guided"}  # this pipeline has no pag_scale
    assert unused(spec) == ["probe.cases.with_pag"]
    config = large.parts["transformer"].config
    assert (config["num_layers"], config["caption_channels"]) == (6, 24)
    assert (large.inputs["height"], plain.inputs["height"]) == (32, 16)
    assert twin.parts["vae"].part == "PixArtTransformer2DModel"
    assert twin.parts["vae"].config["num_layers"] == 2
    assert bare.parts["vae"] is None
    assert set(bare.cases) == {"plain"}


def test_values() -> None:
    maker = Maker({"width": 3, "none": None}, steps=8)

    def made(spec: Any) -> Any:
        return maker.make(spec, ("x",))

    assert made({"randn": [2, "width"]}).shape == (2, 3)
    assert torch.equal(made({"randn": [4]}), made({"randn": [4]}))
    assert made({"randn": ["none"]}) is None
    assert made({"ones": [1, 4], "tail": 1}).tolist() == [[1, 1, 1, 0]]
    assert made({"mask": [4]}).tolist() == [0, 0, 1, 1]
    assert made({"full": [1], "value": 5, "dtype": "int64"}).dtype == torch.int64
    assert made({"tensor": [[0, 1]], "dtype": "bool"}).tolist() == [[False, True]]
    assert made({"count": 3}).tolist() == [0, 1, 2]
    assert made({"randint": [9], "below": 2}).max() <= 1
    assert made({"picture": [4, 2], "mode": "RGBA"}).size == (4, 2)
    assert len(made({"repeat": {"randn": [1]}, "times": 3})) == 3
    assert made({"steps": 0.5}) == 4
    later = Maker({}, steps=8, step=3)
    assert later.make({"each": ["a", "b"]}, ("x",)) == "b"
    assert made({"each": [{"count": 1}, None]}).tolist() == [0]
    assert made([{"count": 1}, None])[1] is None
    assert made({"a": {"count": 1}})["a"].tolist() == [0]
    with pytest.raises(ProbeError, match=r"x: .*is no dtype"):
        made({"full": [1], "value": 1, "dtype": "float99"})


def test_values_for_rotary_embeddings() -> None:
    maker = Maker({"tokens": 5}, steps=8)

    def made(spec: Any) -> Any:
        return maker.make(spec, ("x",))

    assert made({"tuple": [1, {"count": 2}, [3]]})[::2] == (1, [3])
    cosines, sines = made({"rope": ["tokens", 4]})
    assert torch.allclose(cosines**2 + sines**2, torch.ones(5, 4))
    joined = made({"rope": ["tokens", 4], "as": "joined"})
    assert torch.equal(joined, torch.cat([cosines, sines], dim=-1))
    turned = made({"rope": ["tokens", 4], "as": "complex"})
    assert torch.allclose(torch.view_as_real(turned), torch.stack([cosines, sines], dim=-1))
    assert made({"cat": [{"ones": [1, 2]}, {"full": [1, 1], "value": 7}]}).tolist() == [[1, 1, 7]]
    assert made({"cat": [{"ones": [1, 2]}, {"ones": [2, 2]}], "dim": 0}).shape == (3, 2)
    with pytest.raises(ProbeError, match="'as' is pair, joined or complex, not 'polar'"):
        made({"rope": [5, 4], "as": "polar"})


def test_everything_that_an_output_holds_counts() -> None:
    one, two = torch.ones(2), torch.zeros(3)
    assert tensor_of((one,)) is one
    assert tensor_of({"a": [one], "b": two}).tolist() == [1, 1, 0, 0, 0]
    with pytest.raises(ProbeError, match="without tensors or pictures"):
        tensor_of("text")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "pixart", "--only", "PixArtSigmaPipeline"]) == 0
    out = capsys.readouterr().out
    assert "PixArtSigmaPipeline" in out
    assert "2 cases proved, 0 failed" in out
    wrong = {**PIXART, "transformers": {"transformer": {"blocks": {"blocks": "Pattern_3"}}}}
    path = tmp_path / "wrong.yaml"
    path.write_text(json.dumps(wrong), encoding="utf-8")
    assert main(["check", str(path), "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["summary"] == {"proved": 0, "failed": 1, "skipped": 0}
    assert main(["check", str(tmp_path)]) == 1
    assert "FAILED" not in (out := capsys.readouterr().out) or "wrong" in out
    assert main(["check", "nosuch"]) == 2


def test_parts_are_the_same_in_every_process() -> None:
    spec = adapter()
    part = spec.probe.parts["transformer"]
    one, other = (build_part(part, "transformer", seed=0) for _ in range(2))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
