"""What cache-dit does silently cannot happen here: one test for each fact that can reach a user.

Each docstring gives the gist of a row of the measurements of cache-dit 1.5.3. Rows without a test:

- Sana and Sana ControlNet, Chroma, Cosmos, ConsisID, Bria, LTX-2, HunyuanDiT and the other classes
  without an adapter here. What went wrong there (work in the loop's body, skip connections, another
  order of arguments or of outputs) is tested in ``test_odd_loops.py`` for any transformer.
- The counts over all pipelines of diffusers: the zoo tests run every adapter that is shipped.
- Overhead: that is what ``benchmarks/`` measures.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import threading
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, ForwardPattern
from cache_dit.caching.block_adapters import FakeDiffusionPipeline
from diffusers import WanVACETransformer3DModel

from cachedit_yaml import (
    AdapterNotFoundError,
    CacheditYamlError,
    CompileError,
    ConfigError,
    RefusedError,
    compile_adapter,
    enable,
)
from cachedit_yaml.errors import CacheRuntimeError
from cachedit_yaml.language.spec import Guidance
from cachedit_yaml.runtime.masks import preset_mask
from tests import tiny
from tests.runtime import models, odd_models
from tests.runtime.models import (
    ALWAYS,
    MASKED,
    NEVER,
    SmallPipeline,
    adapter,
    noise,
    row,
    rows,
    small,
    start,
)


def check_never_hit(pipe: Any, *cases: str, steps: int = 3) -> None:
    """With no hit the output equals the uncached one bit for bit."""
    for case in cases:
        plain = tiny.run(pipe, case, steps=steps)
        with start(pipe, None, **NEVER) as handle:
            assert torch.equal(tiny.run(pipe, case, steps=steps), plain), case
            assert handle.stats().computed_fraction == 1
        assert torch.equal(tiny.run(pipe, case, steps=steps), plain), case


def check_steady(model: torch.nn.Module, pipeline: str, **inputs: Any) -> None:
    """With equal inputs in every step, a hit returns what the blocks would have."""
    spec = compile_adapter(None, tiny.build(pipeline)).spec
    # The timestep stays as it is, so it must not be the clock: an argument without one is named.
    without = next(
        name
        for name in ("joint_attention_kwargs", "cap_feats")
        if name in inspect.signature(model.forward).parameters
    )
    untimed = dataclasses.replace(spec.transformers["transformer"], timestep=without)
    spec = dataclasses.replace(
        spec, transformers={"transformer": untimed}, guidance=Guidance(mode="fused")
    )
    arguments = {**tiny.forward_kwargs(model), **inputs, "return_dict": False}
    settings = {**ALWAYS, "max_continuous_cached_steps": -1}
    with torch.no_grad():
        plain = model(**arguments)[0]
        with start(model, spec, **NEVER) as handle:
            handle.refresh(1)
            assert equal(model(**arguments)[0], plain)
        for fn, bn in ((1, 0), (1, 1), (2, 1)):
            settings |= {"Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
            with start(model, spec, **settings) as handle:
                handle.refresh(3)
                for _ in range(3):
                    for one, other in zip(model(**arguments)[0], plain, strict=True):
                        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
                left = set(range(fn, 4 - bn)) - set(inputs.get("skip_layers", ()))
                for item in handle.stats().branches:
                    assert item.cached_steps == ((1, 2) if left else ())


def equal(one: Any, other: Any) -> bool:
    """Whether two outputs, or lists of them, are the same."""
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


# Block loops


def test_flux_controlnet() -> None:
    """Flux ControlNet (double x4 / x2 / single x4): err .058 / .088 / .056 with no hit."""
    check_never_hit(tiny.build("FluxControlNetPipeline"), "plain", "half_controlled")
    model = tiny.transformer("FluxTransformer2DModel")
    residuals = [noise(seed, tokens=16).repeat(1, 1, 4) for seed in range(4)]
    for samples in (
        {"controlnet_block_samples": residuals},
        {"controlnet_block_samples": residuals[:2]},
        {"controlnet_single_block_samples": residuals},
    ):
        check_steady(model, "FluxPipeline", **samples)


def test_sd3_skip_layers() -> None:
    """SD3 with skip_layers: err .40 / .89; the whole pipeline with skip-layer guidance .139."""
    check_never_hit(tiny.build("StableDiffusion3Pipeline"), "skip_layers", "skip_last_layer")
    model = tiny.transformer("SD3Transformer2DModel")
    for layers in ([1, 2], [3], [1]):
        check_steady(model, "StableDiffusion3Pipeline", skip_layers=layers)


def test_sd3_controlnet() -> None:
    """SD3 ControlNet raises AttributeError context_pre_only."""
    check_never_hit(tiny.build("StableDiffusion3ControlNetPipeline"), "plain", "half_controlled")
    residuals = [noise(seed, 2, 16).repeat(1, 1, 4) for seed in range(2)]
    model = tiny.transformer("SD3Transformer2DModel")
    check_steady(model, "StableDiffusion3Pipeline", block_controlnet_hidden_states=residuals)


def test_flux2_klein_kv() -> None:
    """Flux2 Klein KV (per-layer key-value cache): err .506."""
    if "Flux2KleinKVPipeline" not in tiny.names():
        pytest.skip("this release of diffusers has no such pipeline")
    check_never_hit(tiny.build("Flux2KleinKVPipeline"), "plain", "two_images")


def test_zimage_controlnet_argument() -> None:
    """The ControlNet argument of Z-Image, on a pipeline without .controlnet: err .60."""
    model = tiny.transformer("ZImageTransformer2DModel")
    samples = tiny.forward_kwargs(model)
    with torch.no_grad():
        tokens: list[torch.Tensor] = []
        handle = model.layers[0].register_forward_pre_hook(
            lambda module, args, kwargs: tokens.append(args[0]), with_kwargs=True
        )
        plain = model(**samples, return_dict=False)[0]
        handle.remove()
    residuals = {0: 0.5 * torch.ones_like(tokens[0]), 2: -0.5 * torch.ones_like(tokens[0])}
    with torch.no_grad():
        changed = model(**samples, controlnet_block_samples=residuals, return_dict=False)[0]
    assert not equal(changed, plain)
    check_steady(model, "ZImagePipeline", controlnet_block_samples=residuals)


@pytest.mark.parametrize(
    "name",
    [
        "QwenImageControlNetPipeline",
        "QwenImageControlNetInpaintPipeline",
        "ZImageControlNetPipeline",
        "ZImageControlNetInpaintPipeline",
    ],
)
def test_controlnets_with_outdated_functors(name: str) -> None:
    """Qwen-Image and Z-Image ControlNets: TypeError (outdated functors), also after disable."""
    if name not in tiny.names():
        pytest.skip("this release of diffusers has no such pipeline")
    check_never_hit(tiny.build(name), "plain", "guided")


class OwnVACE(WanVACETransformer3DModel):
    """A transformer of an engine's own."""


def test_transformer_outside_of_diffusers() -> None:
    """A subclass of WanVACE outside the diffusers package: functor skipped, err .73."""
    pipe = tiny.build("WanVACEPipeline")
    own = OwnVACE.from_config(pipe.transformer.config).requires_grad_(False)
    own.load_state_dict(pipe.transformer.state_dict())
    pipe.transformer = own
    check_never_hit(pipe, "plain")


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_more_first_and_last_blocks_than_there_are(execution: str) -> None:
    """Fn + Bn > number of blocks: blocks run twice, err .18 to .41, even with no hit."""
    pipe = SmallPipeline(small(count=4))
    with pytest.raises(CompileError, match="write at most 4 together"):
        start(pipe, execution=execution, Fn_compute_blocks=3, Bn_compute_blocks=2)


def test_order_of_outputs() -> None:
    """The pattern check compares names only (return order never); wrong streams are mixed."""
    pipe = tiny.build("FluxPipeline")
    lists = {"transformer_blocks": "Pattern_0", "single_transformer_blocks": "Pattern_2"}
    with pytest.raises(CompileError) as caught:
        start(pipe, adapter(lists), **ALWAYS)
    assert [problem.split("; ")[1] for problem in caught.value.problems] == [
        "that is Pattern_1"
    ] * 2
    assert "forward returns (encoder_hidden_states, hidden_states), which is not Pattern_0" in str(
        caught.value
    )


def test_pipelines_that_match_no_adapter() -> None:
    """A prefix decides which classes are served, and with what: some fail, some fit by accident."""

    class FluxLookalikePipeline(SmallPipeline):
        pass

    with pytest.raises(AdapterNotFoundError, match="FluxLookalikePipeline"):
        enable(FluxLookalikePipeline(small()))


@pytest.mark.parametrize("name", ["QwenImage21Pipeline", "WanAnimatePipeline"])
def test_pipelines_that_fail_at_enable(name: str) -> None:
    """Classes whose name starts like a registered prefix fail: WanAnimate, QwenImage21 and more."""
    if name not in tiny.names():
        pytest.skip("this release of diffusers has no such pipeline")
    check_never_hit(tiny.build(name), "plain")


def test_a_pipeline_that_must_not_be_cached() -> None:
    """AnyFlowFAR is accepted without a warning, and its docstring says the output is corrupt."""
    refusal = {"schema": 1, "name": "far", "pipelines": ["SmallPipeline"],
               "refuse": "its steps are not steps of one denoising"}  # fmt: skip
    with pytest.raises(RefusedError, match="must not be cached: its steps are not"):
        enable(SmallPipeline(small()), refusal)


# ParamsModifier


def test_params_reach_every_list() -> None:
    """`[m]` with two block lists changes list 0 only; the LongCat example has this bug."""
    pipe = tiny.build("LongCatImagePipeline")
    plan = compile_adapter(None, pipe, cache_config={"max_warmup_steps": 3})
    for blocks in plan.block_adapters(20):
        for modifier in blocks.params_modifiers[0]:
            assert modifier._context_kwargs["cache_config"].max_warmup_steps == 3
    with start(pipe, None, **{**MASKED, "scm": None, **ALWAYS, "max_warmup_steps": 3}) as handle:
        tiny.run(pipe, steps=6)
        assert len(handle.stats().branches) == 2
        for item in handle.stats().branches:
            assert all(step >= 3 for step in item.cached_steps)


def test_params_of_one_list_change_nothing_else() -> None:
    """A modifier without reset() overwrites every base value: Fn 2 -> 8, max_cached 7 -> -1."""
    lists = {
        "blocks": {"pattern": "Pattern_3", "params": {"residual_diff_threshold": 0.5}},
        "single_blocks": "Pattern_3",
    }
    cache = {"Fn_compute_blocks": 2, "max_warmup_steps": 2, "max_cached_steps": 7}
    (built,) = compile_adapter(
        adapter(lists, cache=cache), SmallPipeline(odd_models.Double())
    ).block_adapters(20)
    configs = [item._context_kwargs["cache_config"] for item in built.params_modifiers[0]]
    assert [config.residual_diff_threshold for config in configs] == [0.5, 0.08]
    for config in configs:
        assert config.Fn_compute_blocks == config.max_warmup_steps == 2
        assert config.max_cached_steps == 7


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_the_callers_config(execution: str) -> None:
    """enable_cache mutates the caller's config: it carries one model's CFG flag to the next."""
    config = DBCacheConfig(Fn_compute_blocks=1, max_warmup_steps=2)
    before = copy.deepcopy(config)
    for name, case in (("QwenImagePipeline", "guided"), ("FluxPipeline", "plain")):
        pipe = tiny.build(name)
        with enable(pipe, cache_config=config, execution=execution):  # type: ignore[arg-type]
            tiny.run(pipe, case, steps=3)
        assert config == before
        assert config.enable_separate_cfg is None


class TwoDoubles(SmallPipeline):
    """Two transformers with two lists each, which differ in length."""

    def __init__(self) -> None:
        super().__init__(odd_models.Double(3))
        self.transformer_2 = odd_models.Double(5, seed=1)

    def forward_at(self, step: int, turn: int) -> Any:
        return self.transformer_2 if step % 2 else self.transformer


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_lists_of_several_transformers(execution: str) -> None:
    """Weights of one transformer's list land in another's; unequal numbers: IndexError."""
    pipe = TwoDoubles()
    plain = pipe(6)
    for lists in (odd_models.Double.SPEC, {"single_blocks": "Pattern_3"}):
        spec = adapter(
            transformers={
                "transformer": {"blocks": odd_models.Double.SPEC},
                "transformer_2": {"blocks": lists},
            }
        )
        if execution == "native":
            # Its loops are in a method of their own, which cannot be read.
            with pytest.raises(CompileError, match="cannot be read from the transformer's source"):
                start(pipe, spec, execution=execution, **NEVER)
            continue
        with start(pipe, spec, **NEVER) as handle:
            assert torch.equal(pipe(6), plain)
            assert len(handle.stats().branches) == 2 + len(lists)
        for built, module in zip(
            compile_adapter(spec, pipe, cache_config=NEVER).block_adapters(6),
            (pipe.transformer, pipe.transformer_2),
            strict=True,
        ):
            assert built.transformer == [module]
            for name, blocks in zip(built.blocks_name[0], built.blocks[0], strict=True):
                assert blocks is getattr(module, name)


def test_unknown_settings() -> None:
    """Unknown config keys are ignored; a key named `update` overwrites the method."""
    for key in ("treshold", "update", "residual_threshold"):
        with pytest.raises(CacheditYamlError, match=key):
            start(SmallPipeline(small()), **{**ALWAYS, key: 1})


# Classifier-free guidance


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_guidance_declared_and_not_run(execution: str) -> None:
    """separate_cfg=True, run without CFG: 10 forwards counted as 5 steps, 0 hits instead of 4."""
    pipe = SmallPipeline(small())
    with start(pipe, adapter(guidance="separate"), execution=execution, **ALWAYS) as handle:
        pipe(10)
        (branch,) = handle.stats().branches
        assert branch.cached_steps == tuple(range(1, 10))


def test_the_order_of_guidance_declared_and_not_run() -> None:
    """What has to be known before the first forward cannot be corrected: it is refused."""
    pipe = SmallPipeline(small())
    spec = adapter(guidance="separate")
    order = {"cfg_compute_first": True, "cfg_diff_compute_separate": False}
    with start(pipe, spec, execution="native", **ALWAYS, **order) as handle:
        with pytest.raises(CacheRuntimeError, match="cfg_compute_first needs two forwards a step"):
            pipe(10)
        pipe(10, forwards=lambda step: 2)
        assert {row.branch for row in handle.stats().branches} == {"main", "guidance"}


def test_guidance_run_and_not_declared() -> None:
    """separate_cfg=False, two forwards a step share a buffer: .455 against .271, 8 of 24 calls."""
    pipe = tiny.build("FluxPipeline")
    last = pipe.transformer.single_transformer_blocks[-1]
    with models.calls(last) as seen, start(pipe, None, **MASKED):
        tiny.run(pipe, "guided", steps=12)
        assert len(seen) == 2 * sum(preset_mask("ultra", 12))
    spec = adapter(guidance="fused")
    pipe = SmallPipeline(small())
    with start(pipe, spec, **ALWAYS) as handle:
        pipe(6, forwards=lambda step: 2)
        assert set(rows(handle)) == {"blocks [forward 1]", "blocks [forward 2]"}


def test_guidance_interval() -> None:
    """Guidance on some steps only flips the parity in the middle of a run."""
    pipe = SmallPipeline(small())
    with start(pipe, **MASKED) as handle:
        pipe(9, forwards=lambda step: 2 if step < 3 else 1)
        assert row(handle).executed_steps == tuple(range(9))
        assert row(handle, branch="forward 2").executed_steps == (0, 1, 2)
        cached = row(handle).cached_steps
        pipe(9)
        assert row(handle).cached_steps == cached


GUIDED = ["FluxImg2ImgPipeline", "FluxKontextPipeline", "FluxControlNetPipeline",
          "Flux2KleinPipeline", "LongCatImagePipeline", "WanPipeline"]  # fmt: skip


@pytest.mark.parametrize("name", GUIDED)
def test_every_pipeline_with_two_forwards(name: str) -> None:
    """Pipelines with the flag False and two call sites: Flux and its kin, Flux2Klein and more."""
    pipe = tiny.build(name)
    with start(pipe, None, **ALWAYS) as handle:
        for case, branches in (("guided", 2), ("plain", None)):
            tiny.run(pipe, case, steps=4)
            found = handle.stats().branches
            lists = {(item.transformer, item.blocks) for item in found}
            if branches is not None:
                assert len(found) == branches * len(lists)
            for item in found:
                assert item.executed_steps == tuple(range(handle.stats().num_steps or 0))


def test_announced_branches() -> None:
    """Many pipelines announce the branch with cache_context("cond"); cache-dit ignores that."""
    pipe = tiny.build("QwenImagePipeline")
    with start(pipe, None, **ALWAYS) as handle:
        tiny.run(pipe, "guided", steps=3)
        assert {item.branch for item in handle.stats().branches} == {"cond", "uncond"}


# Steps and refresh


def generate(model: torch.nn.Module, steps: int, seed: int = 0, *, timed: bool = True) -> Any:
    """A loop without a pipeline."""
    latents = noise(seed)
    with torch.no_grad():
        for step in range(steps):
            latents = latents - 0.1 * model(latents, *((1000.0 - step,) if timed else ()))
    return latents


@pytest.mark.parametrize("told", [False, True])
def test_generations_without_refresh(told: bool) -> None:
    """N=10 without refresh: the second generation starts at step 10, the third at 9, ..."""
    model = small()
    with start(model, **ALWAYS, max_continuous_cached_steps=2) as handle:
        if told:
            handle.refresh(10)
        results = []
        for _ in range(4):
            results.append(generate(model, 10))
            assert row(handle).executed_steps == tuple(range(10))
        assert all(torch.equal(item, results[0]) for item in results)


def test_warm_up_of_later_generations() -> None:
    """Never refreshed, N unset: no warm-up after the first generation (.038 -> .073 -> .092)."""
    model = small()
    with start(model, **{**ALWAYS, "max_warmup_steps": 3}) as handle:
        for _ in range(3):
            generate(model, 8)
            assert row(handle).cached_steps == (3, 4, 5, 6, 7)


def test_batch_without_refresh() -> None:
    """Batch 1 -> 2 without refresh: the stale residual is broadcast, err .60."""
    model = small()
    inputs = noise(1, batch=2)
    with torch.no_grad():
        plain = model(inputs, 100.0)
        with start(model, **ALWAYS):
            generate(model, 6)
            assert torch.equal(model(inputs, 100.0), plain)


def test_told_more_steps_than_are_executed() -> None:
    """refresh(20), 12 executed (img2img strength): err .190 against .059 with the true count."""
    pipe = tiny.build("FluxImg2ImgPipeline")
    with start(pipe, None, **MASKED) as handle:
        handle.refresh(20)
        tiny.run(pipe, steps=20, strength=0.6)
        assert handle.stats().num_steps == 12
        mask = preset_mask("ultra", 12)
        for item in handle.stats().branches:
            assert item.cached_steps == tuple(s for s in range(12) if not mask[s])


def test_a_mask_that_is_shorter_than_the_run() -> None:
    """A mask shorter than the run: every later step cached (err .29)."""
    pipe = SmallPipeline(small())
    for scm in ({"mask": [1] * 4}, {"compute_bins": [2, 1], "cache_bins": [1]}):
        with start(pipe, Fn_compute_blocks=1, scm={**scm, "policy": "static"}) as handle:
            with pytest.raises(ConfigError, match="executes 6"):
                pipe(6)
            assert all(not item.cached_steps for item in handle.stats().branches)


def test_refresh_with_another_number_of_steps() -> None:
    """refresh(num_inference_steps) does not change the mask."""
    model = small()
    with start(model, **MASKED) as handle:
        for steps in (8, 15, 28):
            handle.refresh(steps)
            generate(model, steps)
            mask = preset_mask("ultra", steps)
            assert row(handle).cached_steps == tuple(s for s in range(steps) if not mask[s])


def test_settings_that_are_set_back() -> None:
    """refresh(cache_config=...) wipes what lists have of their own; nothing goes back to None."""
    cache = {**ALWAYS, "scm": "fast", "calibrator": "taylorseer", "force_refresh_step_hint": 3,
             "max_accumulated_residual_diff_threshold": 0.01}  # fmt: skip
    back = dict.fromkeys(
        ("scm", "calibrator", "force_refresh_step_hint", "max_accumulated_residual_diff_threshold")
    )
    params = {"Fn_compute_blocks": 2}
    spec = adapter({"blocks": {"pattern": "Pattern_3", "params": params}}, cache=cache)
    pipe = SmallPipeline(small())
    with start(pipe, spec, **back) as handle:
        pipe(8)
        assert row(handle).cached_steps == (1, 2, 3, 4, 5, 6, 7)
        handle.refresh()
        pipe(8)
        assert row(handle).computed_blocks == 6 + 7 * 2


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 16])
def test_numbers_of_steps_that_have_no_preset(steps: int) -> None:
    """steps_mask raises for 1, 2, 3, 5, 7 steps; N=16 ultra computes 3 of 16, N=15 computes 6."""
    pipe = SmallPipeline(small())
    with start(pipe, **MASKED) as handle:
        pipe(steps)
        computed = steps - len(row(handle).cached_steps)
        assert computed >= min(steps, 3)
        assert computed / steps >= 0.28


def test_capital_policy() -> None:
    """policy="Static" (capital) silently means dynamic."""
    config = DBCacheConfig(steps_computation_mask=[1, 1, 0, 1], steps_computation_policy="Static")
    for settings in (config, {"scm": {"preset": "fast", "policy": "Static"}}):
        with pytest.raises(CacheditYamlError, match="static"):
            enable(SmallPipeline(small()), adapter(), cache_config=settings)


def test_a_static_mask_and_limits() -> None:
    """Static policy ignores max_continuous and max_cached."""
    pipe = SmallPipeline(small())
    settings = {**MASKED, "max_continuous_cached_steps": 1}
    with start(pipe, **settings) as handle:
        pipe(28)
        cached = row(handle).cached_steps
        assert cached
        assert not any(step + 1 in cached for step in cached)


def test_thresholds_that_always_hit() -> None:
    """A threshold >= 1.0 always hits."""
    for threshold in (1.0, 1.5):
        for settings in (
            {"residual_diff_threshold": threshold},
            DBCacheConfig(residual_diff_threshold=threshold),
        ):
            with pytest.raises(CacheditYamlError, match="residual_diff_threshold"):
                enable(SmallPipeline(small()), adapter(), cache_config=settings)


def test_a_difference_of_zero() -> None:
    """A residual difference of exactly 0 hits at any threshold > 0; a threshold of 0 never does."""
    model = odd_models.Odd()
    with torch.no_grad():
        plain = model(noise())
        for threshold, hits in ((0.0, ()), (1e-9, (1, 2))):
            settings = {**ALWAYS, "residual_diff_threshold": threshold}
            with start(model, adapter(), **settings) as handle:
                for timestep in (900, 800, 700):
                    torch.testing.assert_close(model(noise(), timestep), plain)
                assert row(handle).cached_steps == hits


# State that leaks


def test_two_instances_of_one_class() -> None:
    """Pipeline mode patches the CLASS: disable one, and every instance raises, new ones too."""
    one, other = (tiny.build("FluxPipeline", seed=seed) for seed in (0, 1))
    plain = [tiny.run(pipe) for pipe in (one, other)]
    before = dict(vars(type(one)))
    first, second = (start(pipe, None, **ALWAYS) for pipe in (one, other))
    cached = tiny.run(other)
    first.disable()
    assert torch.equal(tiny.run(one), plain[0])
    assert torch.equal(tiny.run(other), cached)
    assert torch.equal(tiny.run(tiny.build("FluxPipeline")), plain[0])
    second.disable()
    assert torch.equal(tiny.run(other), plain[1])
    assert dict(vars(type(one))) == before


def test_disabling_what_was_never_enabled() -> None:
    """disable on a never-enabled instance un-patches the enabled one."""
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS) as handle:
        wanted = pipe(5)
        with pytest.raises(CompileError, match="cached already"):
            start(pipe, **ALWAYS)
        other = start(SmallPipeline(small(seed=1)), **ALWAYS)
        other.disable()
        other.disable()
        assert torch.equal(pipe(5), wanted)
        assert row(handle).cached_steps == (1, 2, 3, 4)


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_transformers_of_any_name(execution: str) -> None:
    """disable_cache only knows `transformer` and `transformer_2`: others stay wrapped."""
    pipe = SmallPipeline(torch.nn.Module())
    pipe.prior, pipe.stage_c = small(), SmallPipeline(small(seed=1))
    lists = {"blocks": {"blocks": "Pattern_3"}}
    spec = adapter(transformers={"prior": lists, "stage_c.transformer": lists})
    modules = [pipe.prior, pipe.stage_c.transformer]
    before = [dict(vars(module)) for module in modules]
    for _ in range(2):
        with start(pipe, spec, execution=execution, **ALWAYS) as handle:
            for module in modules:
                generate(module, 4)
            assert handle.stats().branches
        assert [dict(vars(module)) for module in modules] == before


@pytest.mark.parametrize("name", ["DiTPipeline", "ZImagePipeline", "QwenImagePipeline"])
def test_files_after_disable(name: str, tmp_path: Path) -> None:
    """After disable a functor's forward stays; the DiT functor adds 5 keys to the state dict."""
    pipe = tiny.build(name)
    keys = list(pipe.transformer.state_dict())
    start(pipe, None, **ALWAYS).disable()
    handle = start(pipe, None, **ALWAYS)
    tiny.run(pipe, steps=2)
    assert list(pipe.transformer.state_dict()) == keys
    handle.disable()
    assert list(pipe.transformer.state_dict()) == keys
    assert "forward" not in vars(pipe.transformer)
    pipe.transformer.save_pretrained(tmp_path)


def test_exception_in_a_middle_block() -> None:
    """An exception leaves new Fn and old Bn buffers: retrying the same forward hits, err .31."""
    model = small()
    latents, other = noise(), noise(5)
    with torch.no_grad():
        plain = model(other, 700.0)
    broken = []

    def raising(*_: Any) -> None:
        if broken:
            broken.pop()
            raise RuntimeError("in a middle block")

    model.blocks[3].linear.register_forward_hook(raising)
    settings = {**ALWAYS, "max_continuous_cached_steps": 0}
    with start(model, **settings) as handle, torch.no_grad():
        model(latents, 900.0)
        model(latents, 800.0)
        broken.append(True)
        with pytest.raises(RuntimeError, match="middle block"):
            model(other, 700.0)
        assert torch.equal(model(other, 700.0), plain)
        assert row(handle).executed_steps == (0,)


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_deepcopy_runs_its_own_weights(execution: str) -> None:
    """deepcopy runs the ORIGINAL's weights; a cached forward reorders named_parameters()."""
    pipe = SmallPipeline(small())
    names = [name for name, _ in pipe.transformer.named_parameters()]
    with start(pipe, execution=execution, **ALWAYS):
        pipe(3)
        if execution == "loop":
            assert [name for name, _ in pipe.transformer.named_parameters()] == names
        twin = copy.deepcopy(pipe.transformer)
        tiny.randomise(twin, "other")
        fresh = small(seed=0)
        tiny.randomise(fresh, "other")
        with torch.no_grad():
            assert torch.equal(twin(noise(), 500), fresh(noise(), 500))
    assert [name for name, _ in pipe.transformer.named_parameters()] == names


def test_threads() -> None:
    """Two threads on one cached transformer: wrong, and the list stays replaced for good."""
    model = small()
    blocks = list(model.blocks)
    with start(model, **ALWAYS):
        wanted = [generate(model, 8, seed) for seed in (0, 1)]
    results: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    with start(model, **ALWAYS):
        threads = [
            threading.Thread(
                target=lambda seed: [
                    results[seed].append(generate(model, 8, seed)) for _ in range(6)
                ],
                args=(seed,),
            )
            for seed in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed in (0, 1):
        assert len(results[seed]) == 6
        assert all(torch.equal(item, wanted[seed]) for item in results[seed])
    assert list(model.blocks) == blocks


def test_dbprune_with_one_stream() -> None:
    """DBPrune with Pattern_3: TypeError at forward."""
    with pytest.raises(CompileError, match="DBPrune fails with patterns 3, 4 and 5; use DBCache"):
        start(SmallPipeline(small()), execution="native", cache_type="DBPrune",
              Fn_compute_blocks=1)  # fmt: skip


def test_class_flag_that_outlives_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """FakeDiffusionPipeline._is_cached outlives an engine: a later enable fails an assertion."""
    monkeypatch.setattr(FakeDiffusionPipeline, "_is_cached", False, raising=False)
    for dropped in (False, True):
        handle = start(SmallPipeline(small()), execution="native", **ALWAYS)
        if not dropped:
            handle.disable()
        del handle
    FakeDiffusionPipeline._is_cached = True  # somebody else's: of no concern to a transformer alone
    start(small(), execution="native", **ALWAYS).disable()
    FakeDiffusionPipeline._is_cached = False
    assert not getattr(FakeDiffusionPipeline, "_is_cached", False)
    model = small()
    blocks = cache_dit.BlockAdapter(
        pipe=FakeDiffusionPipeline(model),
        transformer=model,
        blocks=model.blocks,
        forward_pattern=ForwardPattern.Pattern_3,
        check_forward_pattern=False,
    )
    cache_dit.enable_cache(blocks, cache_config=DBCacheConfig(Fn_compute_blocks=1))
    cache_dit.disable_cache(model)
    FakeDiffusionPipeline._is_cached = False
