"""Step execution of other pipelines than Qwen-Image, as their probes make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cachedit_yaml
from cachedit_yaml.engines.vllm_omni import probe, register
from cachedit_yaml.engines.vllm_omni.engine import STEP_EXECUTION
from cachedit_yaml.probe import recipe as recipes
from tests.engines.steps import Ask, Result, near, run, same

pytestmark = pytest.mark.engines

STEPS = 8
#: What every request needs, and what tells the requests of one model apart.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Ask]]] = {
    "qwen-image": (
        "QwenImageDMD2Pipeline",
        {"height": 64, "width": 64},
        {
            "one": Ask("a red cat"),
            "two": Ask("a blue dog", 1, sampling={"seed": 1}),
            "longer": Ask("a bird", 2, sampling={"num_inference_steps": 12}),
        },
    ),
    "bagel": (
        "BagelPipeline",
        {"height": 64, "width": 64, "extra_args": {"cfg_text_scale": 1.0, "cfg_img_scale": 1.0}},
        {
            "one": Ask("a red cat"),
            "two": Ask("a blue dog", sampling={"seed": 1}),
            "longer": Ask("a bird", 2, sampling={"num_inference_steps": 12}),
            "guided": Ask("a bird", 3, sampling={
                "extra_args": {"cfg_text_scale": 4.0, "cfg_img_scale": 1.0}
            }),
        },
    ),
    "hunyuan-image-3": (
        "HunyuanImage3Pipeline",
        {"height": 32, "width": 32, "guidance_scale": 1.0},
        # All of one length: its layers keep the position embedding of the prompt that came last,
        # so that the engine itself mixes up others.
        {
            "one": Ask("a red cat"),
            "two": Ask("a big dog", sampling={"seed": 1}),
            "longer": Ask("a wet fox", 2, sampling={"num_inference_steps": 12}),
            "guided": Ask("a cow ate", 3, sampling={"guidance_scale": 5.0}),
        },
    ),
    "helios": (
        "HeliosPipeline",
        {"height": 32, "width": 32, "num_frames": 5},
        # The engine keeps keys and values by the address of a prompt: one prompt for all.
        {
            "one": Ask("a red cat"),
            "longer": Ask("a red cat", 2, sampling={"num_inference_steps": 12}),
            "chunks": Ask("a red cat", 3, sampling={"num_frames": 40}),
            "pyramid": Ask("a red cat", 3, sampling={
                "num_frames": 40,
                "extra_args": {
                    "is_enable_stage2": True,
                    "pyramid_num_stages": 2,
                    "pyramid_num_inference_steps_list": [6, 6],
                },
            }),
        },
    ),
}  # fmt: skip
# The engine lets requests of other guidance share its batch, and refuses the batch then.
MODELS["lance"] = (
    "LancePipeline",
    MODELS["bagel"][1],
    {key: ask for key, ask in MODELS["bagel"][2].items() if key != "guided"},
)


GENERATIONS = {"chunks": 2, "pyramid": 4}


@contextmanager
def made(name: str) -> Iterator[Any]:
    """The runner of a small pipeline, for step execution."""
    from vllm_omni.diffusion.interaction.coordinator import InteractionCoordinator

    register()
    pipeline, _, _ = MODELS[name]
    (spec,) = (
        entry.with_probe("vllm_omni")
        for entry in cachedit_yaml.list_adapters()
        if entry.kind == "shipped" and entry.name == name
    )
    # Its scheduler serves both.
    variant = "pyramid" if name == "helios" else None
    recipe = recipes.recipe(spec, pipeline, variant)
    # What a whole forward cannot, step by step may.
    built = probe.build(spec, dataclasses.replace(recipe, skip=None))
    assert isinstance(built, probe.Omni)
    runner = built._worker.model_runner
    runner.od_config.step_execution = True
    if name == "helios":
        runner.od_config.streaming_output = True
        runner._interaction_coordinator = InteractionCoordinator.build(
            built.target, runner.od_config
        )
        runner.pipeline._interaction_coordinator = runner._interaction_coordinator
    try:
        yield runner
    finally:
        probe.close()


@contextmanager
def cached(runner: Any, **config: Any) -> Iterator[None]:
    from vllm_omni.diffusion.cache.cachedit import CacheDiTBackend

    backend = CacheDiTBackend(config)
    backend.enable(runner.pipeline)
    runner.od_config.cache_backend = "cache_dit"
    try:
        yield
    finally:
        runner.od_config.cache_backend = None
        backend.disable(runner.pipeline)


@pytest.mark.parametrize("name", MODELS)
def test_each_request_is_as_if_it_were_alone(name: str) -> None:
    _, common, asks = MODELS[name]
    asks = {key: ask._replace(sampling={**common, **ask.sampling}) for key, ask in asks.items()}
    with made(name) as runner:

        def alone() -> dict[str, Result]:
            return {key: run(runner, {key: ask})[key] for key, ask in asks.items()}

        plain = alone()
        assert all(item.error is None for item in plain.values()), plain
        together = 1 if name == "helios" else 4
        # A batch of rows rounds otherwise than one row; packed ones have a forward each.
        equal = near if name == "qwen-image" else same
        with cached(runner, residual_diff_threshold=0.0, max_warmup_steps=1):
            for key, result in run(runner, asks, together=together).items():
                assert equal(result.output, plain[key].output), key
        static = {"preset": "fast", "policy": "static"}
        with cached(runner, scm=static, max_warmup_steps=1):
            lonely = alone()
            for key, result in run(runner, asks, together=together).items():
                assert equal(result.output, lonely[key].output), key
                assert not near(result.output, plain[key].output), key
                assert all(stats.ended == "finished" for stats in result.stats)
                assert all(stats.hit_ratio > 0 for stats in result.stats)
                # A chunk, and a resolution of a pyramid, is a generation.
                assert len(result.stats) == GENERATIONS.get(key, 1), key
        assert same(alone()["one"].output, plain["one"].output)


def test_every_pipeline_that_has_it_is_named() -> None:
    """By ``doctor`` and on the page, whichever of them is cached."""
    from vllm_omni.diffusion.registry import DiffusionModelRegistry

    names = {model.class_name for model in DiffusionModelRegistry.models.values() if steps(model)}
    assert names == set(STEP_EXECUTION)
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    for name, text in STEP_EXECUTION.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert text in row.replace("`", "")


def steps(model: Any) -> bool:
    """Whether a class has the methods; some modules import what is not installed."""
    try:
        cls = model.load_model_cls()
    except (ImportError, OSError, RuntimeError):
        return False
    methods = ("prepare_encode", "denoise_step", "step_scheduler", "post_decode")
    return bool(getattr(cls, "supports_step_execution", False)) and all(
        callable(getattr(cls, name, None)) for name in methods
    )
