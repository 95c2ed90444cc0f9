"""``cachedit_yaml.check`` on live pipelines."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import cachedit_yaml
from cachedit_yaml.errors import ConfigError, ProofError, RefusedError
from tests import tiny
from tests.cli import own_model
from tests.runtime import models
from tests.runtime.models import SmallPipeline, adapter, small

SPEC = adapter(cache={"Fn_compute_blocks": 1})
CLIP = {
    "schema": 1,
    "name": "clip",
    "pipelines": ["ClipPipeline"],
    "transformers": {
        "denoiser": {
            "timestep": "level",
            "blocks": {
                "stack": {
                    "pattern": "Pattern_2",
                    "roles": {"hidden_states": "clip", "encoder_hidden_states": "words"},
                }
            },
        }
    },
}


def test_ones_own_model() -> None:
    pipe = own_model.make()
    text = torch.randn(1, 3, 16)
    state = torch.get_rng_state()

    def call() -> Any:
        return pipe(text, num_inference_steps=4, generator=torch.Generator().manual_seed(1))

    proof = cachedit_yaml.check(pipe, CLIP, call)
    proof.require()
    assert [item.name for item in proof.claims] == [
        "resolves", "exact", "hits", "native", "batch", "restored", "freed",
    ]  # fmt: skip
    assert str(proof).startswith("clip: ClipPipeline\n  resolves  yes")
    assert torch.equal(torch.get_rng_state(), state)
    assert cachedit_yaml.handle_of(pipe) is None


class PromptPipeline(SmallPipeline):
    """Called as most are."""

    def __call__(self, prompt: str, num_inference_steps: int) -> torch.Tensor:  # type: ignore[override]
        return super().__call__(num_inference_steps, seed=len(prompt))


def test_the_recipe_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(cachedit_yaml.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(def test_.*?)```", text, re.DOTALL)
    made = SimpleNamespace(make_small_pipeline=lambda: PromptPipeline(small()))
    names: dict[str, Any] = {"cachedit_yaml": cachedit_yaml, "my_package": made}
    exec(recipe, names)
    monkeypatch.chdir(tmp_path)
    adapter = "pipelines: [PromptPipeline]\ntransformers: {transformer: {blocks: {blocks: %s}}}\n"
    Path("my-model.yaml").write_text("schema: 1\n" + adapter % "Pattern_3")
    names["test_caching_is_exact"]()
    Path("my-model.yaml").write_text("schema: 1\n" + adapter % "Pattern_2")
    with pytest.raises(ProofError, match=r"resolves +NO"):
        names["test_caching_is_exact"]()


def test_of_diffusers_by_its_class() -> None:
    pipe = tiny.build("DiTPipeline")
    pipe.set_progress_bar_config(disable=True)
    call = {"class_labels": [1], "num_inference_steps": 4, "output_type": "np"}
    cachedit_yaml.check(pipe, call=lambda: pipe(**call)).require()


def test_a_transformer_alone() -> None:
    model = small()

    def call() -> torch.Tensor:
        latents = models.noise()
        for step in range(5):
            latents = latents - 0.1 * model(latents, 1000 - 100 * step)
        return latents

    cachedit_yaml.check(model, SPEC, call, steps=5).require()


class Branching(models.Small):
    """Its loop changes what runs through it where no block sees that."""

    calls = 0

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        type(self).calls += 1
        return super().forward(hidden_states, timestep) + type(self).calls


def test_what_is_wrong_is_said() -> None:
    pipe = SmallPipeline(small())
    for call, text in (
        (lambda: pipe(1), r"hits +NO +no step hit.*\n.*at least two denoising steps"),
        (lambda: [torch.randn(2), pipe(4)][1] / 0, "exact +NO +the uncached output is not finite"),
        (lambda: "nothing", "exact +NO +the uncached call raised ProbeError: the output is a str"),
        (lambda: pipe("x"), "exact +NO +the uncached call raised"),
    ):
        proof = cachedit_yaml.check(pipe, SPEC, call)
        with pytest.raises(ProofError, match=text):
            proof.require()
    other = SmallPipeline(Branching())
    proof = cachedit_yaml.check(other, SPEC, lambda: other(4))
    assert "two uncached calls differ" in proof.failed[0].detail
    lists = adapter({"block": "Pattern_3"}, cache={"Fn_compute_blocks": 1})
    proof = cachedit_yaml.check(pipe, lists, lambda: pipe(4))
    assert "a block list is a torch.nn.ModuleList" in proof.failed[0].detail
    assert all(line.startswith("  ") for line in str(proof).split("\n")[1:])


def test_what_is_left_is_found() -> None:
    pipe = SmallPipeline(small())
    kept: list[torch.Tensor] = []
    proof = cachedit_yaml.check(pipe, SPEC, lambda: kept.append(pipe(4)) or kept[-1])
    assert (proof.claims[-1].name, proof.claims[-1].verdict) == ("freed", "not allowed")
    proof.require()


def test_wrong_use() -> None:
    pipe = SmallPipeline(small())
    with pytest.raises(ConfigError, match="needs a call"):
        cachedit_yaml.check(pipe, SPEC)
    with models.start(pipe, SPEC), pytest.raises(ConfigError, match="disable its handle"):
        cachedit_yaml.check(pipe, SPEC, lambda: pipe(4))
    refusing = {"schema": 1, "name": "no", "pipelines": ["SmallPipeline"], "refuse": "it cannot"}
    with pytest.raises(RefusedError, match="it cannot"):
        cachedit_yaml.check(pipe, refusing, lambda: pipe(4))
    assert isinstance(pipe.transformer, nn.Module)
