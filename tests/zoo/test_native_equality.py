"""The hooked loop against cache-dit itself: the same pictures and the same cached steps."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import cache_dit
import diffusers
import pytest
import torch
from cache_dit import BlockAdapter, DBCacheConfig, ForwardPattern, TaylorSeerCalibratorConfig
from cache_dit.caching.cache_contexts.calibrators import Calibrator
from diffusers import DiffusionPipeline

import cachedit_yaml
from cachedit_yaml import CacheRuntimeError, CompileError
from tests import tiny
from tests.zoo.lists import apart

STEPS = 8
#: 1 1 0 1 0 0 1 0, and computed from then on, for any number of executed steps.
BINS = {"compute_bins": [2, 1, 1, 50], "cache_bins": [1, 2, 1]}
STATIC = {"scm": {**BINS, "policy": "static"}, "max_continuous_cached_steps": -1}
FB = ((1, 0), (1, 1), (2, 0), (2, 1))
CALIBRATORS: dict[str, Any] = {
    "none": "none",
    "taylor1": {"type": "taylorseer", "taylorseer_order": 1},
    "taylor2": {"type": "taylorseer", "taylorseer_order": 2},
}
#: The whole matrix: one list and two, two transformers, guidance in one forward and in two.
THOROUGH = ("PixArtSigma-plain", "Flux-guided", "QwenImage-guided", "Wan-two-guided")
#: Where the differences between steps are small enough for a threshold to separate them.
DYNAMIC = (
    "PixArtSigma-plain",
    "VisualClozeGeneration-plain",
    "StableDiffusion3-plain",
    "QwenImageEditPlus-zero_cond_t-guided",
    "ZImageOmni-plain",
    "Wan-guided",
    "Wan-two-guided",
)
OTHERS = (
    "PixArtAlpha-sized-unguided",
    "Flux-plain",
    "FluxImg2Img-guided",
    "FluxKontext-guided",
    "Flux2-plain",
    "Flux2Klein-guided",
    "StableDiffusion3-plain",
    "StableDiffusion3-dual-unguided",
    "StableDiffusion3PAG-plain",
    "QwenImage-plain",
    "QwenImageEditPlus-zero_cond_t-two_images",
    "ZImage-plain",
    "ZImage-guided_unequal",
    "ZImageOmni-plain",
    "LongCatImage-guided",
    "Wan-plain",
    "Wan-low_only-guided",
    "WanImageToVideo-first_last-plain",
    "WanVideoToVideo-guided",
)


@functools.lru_cache(maxsize=2)
def pipeline_of(name: str) -> DiffusionPipeline:
    """A pipeline that several tests share; each leaves it as it was.

    Its name is that of the class, of the make where there are several, and of the case.
    """
    first, *variant, _ = name.split("-")
    if f"{first}Pipeline" not in tiny.names() and diffusers.__version__ != "0.42.1":
        pytest.skip(f"diffusers {diffusers.__version__} has no {first}Pipeline")
    return tiny.build(f"{first}Pipeline", **dict.fromkeys(variant, True))


def plain_run(pipe: DiffusionPipeline, name: str, steps: int = 4) -> torch.Tensor:
    """The output of the case that the name ends with."""
    return tiny.run(pipe, name.rsplit("-", 1)[1], steps=steps)


def run(name: str, execution: str, config: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """The output and the statistics; each list decides, as cache-dit's do."""
    pipe = pipeline_of(name)
    spec = apart(cachedit_yaml.find_adapter(pipe))
    with cachedit_yaml.enable(pipe, spec, cache_config=config, execution=execution) as handle:
        return plain_run(pipe, name, STEPS), handle.stats()


def rows(stats: Any) -> list[tuple[Any, ...]]:
    """What must agree; the two name the branches in different ways."""
    return [
        (
            row.transformer,
            row.blocks,
            row.executed_steps,
            row.cached_steps,
            row.residual_diffs,
            row.computed_blocks,
            row.total_blocks,
        )
        for row in stats.branches
    ]


def check(name: str, config: dict[str, Any]) -> Any:
    """Run both and compare."""
    loop, loop_stats = run(name, "loop", config)
    native, native_stats = run(name, "native", config)
    assert rows(loop_stats) == rows(native_stats)
    assert loop_stats.hit_ratio > 0
    assert torch.equal(loop, native)
    return loop_stats


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize(("fn", "bn"), FB)
@pytest.mark.parametrize("name", THOROUGH)
def test_static_mask(name: str, fn: int, bn: int, calibrator: str) -> None:
    check(
        name,
        {
            "Fn_compute_blocks": fn,
            "Bn_compute_blocks": bn,
            **STATIC,
            "calibrator": CALIBRATORS[calibrator],
        },
    )


@pytest.mark.parametrize("name", OTHERS)
def test_every_family(name: str) -> None:
    """With a calibrator; ``test_proofs`` of the adapters tries every pipeline without one."""
    test_static_mask(name, 2, 1, "taylor1")


@pytest.mark.parametrize("calibrator", ["foca", "dmd"])
@pytest.mark.parametrize("name", ["Flux-guided", "Wan-plain"])
def test_other_calibrators(name: str, calibrator: str) -> None:
    if calibrator not in Calibrator._supported_calibrators:
        pytest.skip(f"the installed cache-dit has the config of {calibrator}, not the calibrator")
    check(name, {**STATIC, "Bn_compute_blocks": 1, "calibrator": calibrator})


@pytest.mark.parametrize("limits", ["mask", "warmup", "accumulated"])
@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic(name: str, limits: str) -> None:
    """A threshold in the middle of the differences: some steps hit, others do not."""
    # As cache-dit has it: guidance's branches in one batch decide by their mean.
    free = {"max_warmup_steps": 1, "max_continuous_cached_steps": -1, "batch": "mean"}
    _, stats = run(name, "loop", {**free, "residual_diff_threshold": 1e-9})
    seen = [diff for row in stats.branches for diff in row.residual_diffs.values()]
    threshold = min(0.99, statistics.quantiles(seen, n=3)[1])
    config: dict[str, Any] = {
        **free,
        "residual_diff_threshold": threshold,
        # cache-dit's encoder calibrator fails with SD3, whose last block returns no text.
        "calibrator": {"type": "taylorseer", "enable_encoder_calibrator": "Diff" not in name},
    }
    if limits == "mask":
        config["scm"] = {**BINS, "policy": "dynamic"}
    elif limits == "warmup":
        config |= {"max_warmup_steps": 3, "warmup_interval": 2, "max_cached_steps": 3}
    else:
        config["max_accumulated_residual_diff_threshold"] = 2.5 * threshold
    stats = check(name, config)
    assert any(row.residual_diffs for row in stats.branches)
    assert stats.hit_ratio < 1


def test_last_block_without_encoder() -> None:
    """SD3's last block returns no text; the encoder calibrator, on by default, has none to keep."""
    output, stats = run("StableDiffusion3-plain", "loop", {**STATIC, "calibrator": "taylorseer"})
    assert output.isfinite().all()
    assert stats.branches[0].cached_steps == (2, 4, 5, 7)


REFUSED_AT_ONCE = {
    "DiT-plain": "self.transformer_blocks",
    "QwenImage21-plain": "for block in self.transformer_blocks",
    "WanVACE-plain": "vace_layers",
    "WanAnimate-plain": "inject_face_latents_blocks",
}
REFUSED_IN_THE_RUN = {
    "FluxControlNet-plain": "controlnet_block_samples",
    "FluxControlNet-guided": "controlnet_block_samples",
    "Flux2KleinKV-plain": "kv_cache",
    "StableDiffusion3-skip_layers": "skip_layers",
    "StableDiffusion3ControlNet-plain": "block_controlnet_hidden_states",
    "QwenImageControlNet-plain": "controlnet_block_samples",
    "ZImageControlNet-plain": "controlnet_block_samples",
}


@pytest.mark.parametrize("name", REFUSED_AT_ONCE)
def test_refused_at_once(name: str) -> None:
    """Where the loop always does more than call the block, native execution does not start."""
    pipe = pipeline_of(name)
    before = dict(vars(pipe.transformer))
    with pytest.raises(CompileError, match=REFUSED_AT_ONCE[name]):
        cachedit_yaml.enable(pipe, execution="native")
    assert vars(pipe.transformer) == before


@pytest.mark.parametrize("name", REFUSED_IN_THE_RUN)
def test_refused_in_the_run(name: str) -> None:
    """Where an argument brings more work into the loop, the call that gives it is refused."""
    pipe = pipeline_of(name)
    plain = plain_run(pipe, name)
    handle = cachedit_yaml.enable(pipe, execution="native")
    with pytest.raises(CacheRuntimeError, match=REFUSED_IN_THE_RUN[name]):
        plain_run(pipe, name)
    handle.disable()
    assert torch.equal(plain_run(pipe, name), plain)


def by_hand(pipe: DiffusionPipeline, lists: dict[str, ForwardPattern], guided: bool) -> None:
    """Enable caching as cache-dit's documentation says, with the settings of `test_by_hand`."""
    cache_dit.enable_cache(
        BlockAdapter(
            pipe=pipe,
            transformer=pipe.transformer,
            blocks=[getattr(pipe.transformer, name) for name in lists],
            forward_pattern=list(lists.values()),
            has_separate_cfg=guided,
        ),
        cache_config=DBCacheConfig(
            Fn_compute_blocks=1,
            Bn_compute_blocks=1,
            max_warmup_steps=1,
            residual_diff_threshold=0.99,
            max_continuous_cached_steps=2,
            enable_separate_cfg=guided,
        ),
        calibrator_config=TaylorSeerCalibratorConfig(
            enable_calibrator=True, enable_encoder_calibrator=True, taylorseer_order=1
        ),
    )


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        (
            "Flux-plain",
            {
                "transformer_blocks": ForwardPattern.Pattern_1,
                "single_transformer_blocks": ForwardPattern.Pattern_1,
            },
        ),
        ("QwenImage-guided", {"transformer_blocks": ForwardPattern.Pattern_1}),
        ("Wan-guided", {"blocks": ForwardPattern.Pattern_2}),
    ],
)
def test_by_hand(name: str, lists: dict[str, ForwardPattern]) -> None:
    """Both executions agree with what a user of cache-dit writes by hand."""
    pipe = pipeline_of.__wrapped__(name)  # cache-dit leaves its traces on it
    guided = name.endswith("guided")
    config = {
        "Bn_compute_blocks": 1,
        "max_warmup_steps": 1,
        "residual_diff_threshold": 0.99,
        "max_continuous_cached_steps": 2,
        "calibrator": "taylorseer",
    }
    found = {}
    for execution in ("loop", "native"):
        found[execution] = run(name, execution, config)
    # cache-dit patches the class of the pipeline: it gets one of its own.
    cls = type(pipe)
    pipe.__class__ = type(cls.__name__, (cls,), {"__module__": cls.__module__})
    by_hand(pipe, lists, guided)
    output = plain_run(pipe, name, STEPS)
    contexts = pipe.transformer._context_manager._cached_context_manager
    steps = [
        tuple(cached)
        for context in contexts.values()
        for cached in (context.cached_steps, *((context.cfg_cached_steps,) if guided else ()))
    ]
    assert sum(map(len, steps)) > 0
    for result, stats in found.values():
        assert [row.cached_steps for row in stats.branches] == steps
        assert torch.equal(result, output)


class ToyBlock(torch.nn.Module):
    """A block of any pattern that takes encoder_hidden_states."""

    order: tuple[int, ...] = (0, 1)

    def __init__(self, index: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(index)
        self.weight = torch.nn.Parameter(torch.randn(16, 16, generator=generator) / 8)

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        mean = encoder_hidden_states.mean(dim=1, keepdim=True)
        pair = (
            hidden_states + torch.tanh((hidden_states + mean) @ self.weight),
            encoder_hidden_states + 0.1 * torch.tanh(encoder_hidden_states @ self.weight),
        )
        return tuple(pair[index] for index in self.order)


class ReversedToyBlock(ToyBlock):
    """The same, which returns encoder_hidden_states first."""

    order = (1, 0)


class Toy(torch.nn.Module):
    """A transformer of such blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(ToyBlock(index) for index in range(5))

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, timestep: float
    ) -> torch.Tensor:
        hidden_states = hidden_states + timestep
        for block in self.blocks:
            hidden_states, encoder_hidden_states = block(hidden_states, encoder_hidden_states)
        return hidden_states + encoder_hidden_states.mean()


class ReversedToy(torch.nn.Module):
    """The same, of blocks that return encoder_hidden_states first."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(ReversedToyBlock(index) for index in range(5))

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, timestep: float
    ) -> torch.Tensor:
        hidden_states = hidden_states + timestep
        for block in self.blocks:
            encoder_hidden_states, hidden_states = block(hidden_states, encoder_hidden_states)
        return hidden_states + encoder_hidden_states.mean()


def run_toy(toy: torch.nn.Module, pattern: str, **options: Any) -> tuple[torch.Tensor, Any]:
    """Five steps of a generation."""
    adapter = {
        "schema": 1,
        "name": "toy",
        "transformers": {"transformer": {"blocks": {"blocks": pattern}}},
    }
    with (
        torch.no_grad(),
        cachedit_yaml.enable_transformer(toy, adapter, **options) as handle,
    ):
        handle.refresh(5)
        hidden, encoder = torch.ones(1, 3, 16), torch.ones(1, 2, 16)
        for step in range(5):
            hidden = toy(hidden, encoder, timestep=1.0 - step / 5) / 4
        return hidden, handle.stats()


@pytest.mark.parametrize(("kind", "pattern"), [(Toy, "Pattern_0"), (ReversedToy, "Pattern_1")])
def test_outside_diffusers(kind: type[torch.nn.Module], pattern: str) -> None:
    """A transformer that no library knows, in both orders of what a block returns."""
    for fn, bn in FB:
        config = {**STATIC, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
        loop, loop_stats = run_toy(kind(), pattern, cache_config=config)
        native, native_stats = run_toy(kind(), pattern, cache_config=config, execution="native")
        assert loop_stats.branches[0].cached_steps == (2, 4)
        assert rows(loop_stats) == rows(native_stats)
        assert torch.equal(loop, native)


PRUNE = {
    "cache_type": "DBPrune",
    "max_warmup_steps": 1,
    "residual_diff_threshold": 0.9,
    "Fn_compute_blocks": 1,
}


@pytest.mark.parametrize("name", ["Flux-plain", "QwenImage-guided", "Wan-guided"])
def test_prune(name: str) -> None:
    """DBPrune runs natively with patterns 1 and 2, and is refused by the loop."""
    pipe = pipeline_of(name)
    plain = plain_run(pipe, name, STEPS)
    pruned, stats = run(name, "native", PRUNE)
    assert pruned.isfinite().all()
    assert stats.computed_fraction < 1
    assert not torch.equal(pruned, plain)
    never, stats = run(name, "native", {**PRUNE, "residual_diff_threshold": 0})
    assert torch.equal(never, plain)
    assert stats.computed_fraction == 1
    with pytest.raises(CompileError, match="DBPrune runs natively only"):
        run(name, "loop", PRUNE)
    # As it ships one list may follow another one: DBPrune decides for each block whatever follows.
    with cachedit_yaml.enable(pipe, cache_config=PRUNE, execution="native") as handle:
        assert torch.equal(plain_run(pipe, name, STEPS), pruned)
        assert not any(item.follows for item in handle.stats().branches)
        said = "single_transformer_blocks decides itself: DBPrune decides for each block"
        assert (said in handle.explain()) == name.startswith("Flux")
    assert torch.equal(plain_run(pipe, name, STEPS), plain)


def test_prune_pattern_0() -> None:
    output, stats = run_toy(Toy(), "Pattern_0", cache_config=PRUNE, execution="native")
    assert output.isfinite().all()
    assert stats.computed_fraction < 1
    with pytest.raises(CompileError, match="DBPrune runs natively only"):
        run_toy(Toy(), "Pattern_0", cache_config=PRUNE)


@pytest.mark.parametrize("pattern", ["Pattern_3", "Pattern_4", "Pattern_5"])
@pytest.mark.parametrize("execution", ["loop", "native"])
def test_prune_refused(pattern: str, execution: str) -> None:
    with pytest.raises(CompileError, match="DBPrune fails with patterns 3, 4 and 5"):
        run_toy(Toy(), pattern, cache_config=PRUNE, execution=execution)


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_too_many_blocks(execution: str) -> None:
    """F + B beyond the list's length, where cache-dit runs blocks twice."""
    config = {"Fn_compute_blocks": 3, "Bn_compute_blocks": 2}
    for name in ("Flux-plain", "Wan-two-guided"):
        with pytest.raises(CompileError, match="write at most 4 together"):
            run(name, execution, config)
