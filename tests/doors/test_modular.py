"""Pipelines that no adapter names: Modular ones, community ones, pipelines of pipelines.

They are served by what they hold; where that is not enough, the error says what fits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusionPipeline

import cachedit_yaml
from cachedit_yaml import (
    AdapterConflictError,
    AdapterNotFoundError,
    CompileError,
    RefusedError,
    enable,
    find_adapter,
)
from cachedit_yaml.cli import main
from cachedit_yaml.compiler import own
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

HITS = {
    "residual_diff_threshold": 0.99,
    "max_warmup_steps": 1,
    "max_continuous_cached_steps": -1,
    "Fn_compute_blocks": 1,
}


def modular() -> Any:
    from diffusers import FluxAutoBlocks

    return FluxAutoBlocks().sub_blocks["denoise"].init_pipeline()


class Mine:
    """A pipeline of nobody's."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


def test_a_denoise_block_with_components() -> None:
    parts = build("FluxPipeline").components
    pipe = modular()
    # The class of its transformer is known before it is loaded.
    assert find_adapter(pipe).name == "flux"
    with pytest.raises(CompileError, match="transformer is not loaded; call"):
        enable(pipe)
    pipe.update_components(transformer=parts["transformer"], scheduler=parts["scheduler"])
    for adapter in (None, "flux"):
        with enable(pipe, adapter, cache_config={"Fn_compute_blocks": 1}) as handle:
            assert handle.plan.transformers[0].module is parts["transformer"]
            assert handle.plan.notes == ()


def test_blocks_are_no_pipeline() -> None:
    from diffusers import FluxAutoBlocks

    for target in (FluxAutoBlocks(), FluxAutoBlocks):
        with pytest.raises(AdapterNotFoundError, match=r"are blocks; .* init_pipeline\(\) makes"):
            enable(target)
    with pytest.raises(AdapterNotFoundError):
        find_adapter(FluxAutoBlocks)


def test_a_community_pipeline_is_exact_and_hits() -> None:
    class CommunityPipeline(DiffusionPipeline):  # type: ignore[misc]
        """FLUX by another name, whose parts have other names too."""

        def __init__(self, dit: Any, timer: Any) -> None:
            super().__init__()
            self.register_modules(dit=dit, timer=timer)

        @torch.no_grad()
        def __call__(self, steps: int) -> torch.Tensor:
            made = torch.Generator().manual_seed(0)
            latents, text = (torch.randn(1, n, d, generator=made) for n, d in ((16, 16), (7, 32)))
            pooled = torch.randn(1, 24, generator=made)
            self.timer.set_timesteps(steps)
            for t in self.timer.timesteps:
                noise = self.dit(
                    latents,
                    encoder_hidden_states=text,
                    pooled_projections=pooled,
                    timestep=t.expand(1) / 1000,
                    guidance=torch.full([1], 3.5),
                    img_ids=torch.zeros(16, 3),
                    txt_ids=torch.zeros(7, 3),
                    return_dict=False,
                )[0]
                latents = self.timer.step(noise, t, latents, return_dict=False)[0]
            return latents

    parts = build("FluxPipeline").components
    pipe = CommunityPipeline(dit=parts["transformer"], timer=parts["scheduler"])
    cachedit_yaml.check(pipe, call=lambda: pipe(4)).require()
    with enable(pipe, cache_config=HITS) as handle:
        pipe(5)
        assert all(row.cached_steps == (1, 2, 3, 4) for row in handle.stats().branches)
        (note,) = handle.plan.notes
        assert note.startswith("no adapter names CommunityPipeline, which is served by what it ")
        assert "its dit is a FluxTransformer2DModel (" in note
        assert handle.plan.transformers[0].scheduler == "timer"
        assert note in handle.explain()


def test_a_pipeline_of_pipelines() -> None:
    inner = build("FluxPipeline")
    with enable(Mine(maker=inner, other=None)) as handle:
        (transformer,) = handle.plan.transformers
        assert (transformer.path, transformer.scheduler) == (
            "maker.transformer",
            "maker.scheduler",
        )
        assert transformer.module is inner.transformer


def test_a_subclass_of_another_name() -> None:
    class Other(FluxPipeline):  # type: ignore[misc]
        pass

    with enable(Other(**build("FluxPipeline").components)) as handle:
        assert handle.plan.notes == ("matched by its base class 'FluxPipeline'",)


def test_steps_divide_where_the_pipeline_says_how() -> None:
    wan = build("WanPipeline", two=True)
    parts = {name: getattr(wan, name) for name in ("transformer", "transformer_2", "scheduler")}
    with enable(Mine(config={"boundary_ratio": 0.875}, **parts)) as handle:
        assert handle.plan.split is not None
    with enable(Mine(**parts)) as handle:
        assert handle.plan.split is None
        assert "it has no pipeline.config.boundary_ratio, so each of" in handle.plan.notes[0]
    renamed = Mine(high=wan.transformer, low=wan.transformer_2, scheduler=wan.scheduler)
    with enable(renamed) as handle:
        assert {item.path for item in handle.plan.transformers} == {"high", "low"}
        assert "not called transformer and transformer_2" in handle.plan.notes[0]


def test_transformers_of_two_adapters() -> None:
    flux, dit = build("FluxPipeline"), build("DiTPipeline")
    both = Mine(transformer=flux.transformer, refiner=dit.transformer, scheduler=flux.scheduler)
    with enable(both) as handle:
        assert [item.path for item in handle.plan.transformers] == ["transformer", "refiner"]
        assert "the settings are those of flux" in handle.plan.notes[0]


def test_where_it_is_not_enough() -> None:
    transformer = build("FluxPipeline").transformer
    with pytest.raises(AdapterNotFoundError) as found:
        enable(Mine(other=transformer.proj_out))
    assert "served by" not in str(found.value)
    # A U-Net of another make than Stable Diffusion XL's.
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    with pytest.raises(AdapterNotFoundError, match="lacks its block list 'down_blo"):
        enable(Mine(unet=unet))
    with pytest.raises(AdapterNotFoundError, match="may not have its block list 'dow"):
        find_adapter(StableDiffusionPipeline)


def test_what_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = build("DiTPipeline").transformer
    text = "schema: 1\ntransformers: {transformer: {class: [DiTTransformer2DModel]"
    (tmp_path / "no.yaml").write_text(f"{text}}}}}\npipelines: [N]\nrefuse: for fun\n")
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    with pytest.raises(RefusedError, match="for fun"):
        enable(Mine(transformer=transformer))
    for name, pattern in (("a", "Pattern_3"), ("b", "Pattern_2")):
        content = f"{text}, blocks: {{transformer_blocks: {pattern}}}}}}}\npipelines: [{name}]\n"
        (tmp_path / f"{name}.yaml").write_text(content)
    (tmp_path / "no.yaml").unlink()
    with pytest.raises(AdapterConflictError, match="ask for an adapter by its path"):
        enable(Mine(transformer=transformer))


def test_doctor_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_modules", {})
    (tmp_path / "held_by_doctor.py").write_text(
        "from diffusers import DiffusionPipeline, FluxTransformer2DModel\n"
        "class HeldByDoctorPipeline(DiffusionPipeline):\n"
        "    def __init__(self, transformer: FluxTransformer2DModel):\n"
        "        super().__init__()\n"
    )
    module = str(tmp_path / "held_by_doctor.py")
    assert main(["doctor", "--import", module, "--pipeline", "HeldByDoctorPipeline"]) == 0
    out = capsys.readouterr().out
    assert "flux serves it: no adapter names HeldByDoctorPipeline" in out
    assert "its transformer is a FluxTransformer2DModel" in out
