"""``cache_config``: from the engine's arguments to the settings of every block list."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cachedit_yaml.engines.vllm_omni.files import SETTINGS
from cachedit_yaml.language.defaults import defaults_for
from tests.engines import checkpoints
from tests.engines.engine import running

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.build("flux", tmp_path_factory.mktemp("checkpoints"))


def values(engine: Any) -> dict[str, Any]:
    """The settings of the first list for a generation of 8 steps."""
    layers = engine.handle.plan.transformers[0].lists[0].layers
    return dict(layers.resolve(8).values)


def test_the_engines_arguments_win_over_profile_and_adapter(model: Path) -> None:
    # max_warmup_steps is the engine's own default, given on purpose; the profile says nothing of
    # it, the adapter of diffusers 2. The threshold is the profile's unless it is given.
    config = {"adapter": "flux", "profile": "fast", "max_continuous_cached_steps": 2}
    with running("flux", model, cache_backend="cache_dit", cache_config=config) as engine:
        found = values(engine)
        assert engine.handle.plan.profile == "fast"
        assert engine.handle.plan.spec.engine == "vllm_omni"
        assert found["residual_diff_threshold"] == 0.24
        assert found["calibrator"].type == "taylorseer"
        assert found["max_continuous_cached_steps"] == 2
        engine.generate()
        assert engine.handle.stats().num_steps == 8


def test_an_engine_default_given_on_purpose_counts(model: Path, tmp_path: Path) -> None:
    """The engine's config object cannot tell; the plugin remembers what was given."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: 1\nextends: flux\npipelines: [FluxPipeline]\nsteps: []\n"
        "cache: {max_warmup_steps: 3, residual_diff_threshold: 0.5}\n",
        encoding="utf-8",
    )
    config = {"adapter": str(path), "max_warmup_steps": 4}  # 4 is the engine's default
    with running("flux", model, cache_backend="cache_dit", cache_config=config) as engine:
        found = values(engine)
        assert found["max_warmup_steps"] == 4
        assert found["residual_diff_threshold"] == 0.5
        assert engine.handle.plan.spec.source == path
        # Settings of the language that the engine has no field for, and its own spelling.
        more = {**config, "calibrator": {"type": "dmd", "dmd_rank": 2}, "warmup_interval": 2}
        for fields, name, value in (
            (more, "warmup_interval", 2),
            ({"enable_taylorseer": False, "profile": "fast"}, "calibrator", None),
            ({"force_refresh_step_hint": 3}, "force_refresh_step_hint", 3),
        ):
            engine.backend.disable(engine.pipeline)
            with engine.cached(fields):
                assert values(engine)[name] == value
            engine.backend.enable(engine.pipeline)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_defaults_under_every_adapter_are_the_engines(kind: str) -> None:
    from vllm_omni.diffusion.data import DiffusionCacheConfig

    ours = defaults_for(kind, "vllm_omni").data or {}
    assert ours["cache"] == {name: getattr(DiffusionCacheConfig(), name) for name in ours["cache"]}
    assert ours["steps"] == []


def test_without_a_config_the_engines_defaults_hold(model: Path) -> None:
    with running("flux", model, cache_backend="cache_dit") as engine:
        found = values(engine)
        wanted = {
            "Fn_compute_blocks": 1, "Bn_compute_blocks": 0, "max_warmup_steps": 4,
            "residual_diff_threshold": 0.24, "max_continuous_cached_steps": 3, "calibrator": None,
        }  # fmt: skip
        assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"adaptor": "flux"}, "did you mean 'adapter'"),
        ({"residual_dif_threshold": 0.2}, "did you mean 'residual_diff_threshold'"),
        ({"adapter": "flx"}, "nearest: flux"),
        ({"adapter": "flux", "profile": "fastest"}, "it has: balanced, fast, quality"),
        ({"adapter": "missing.yaml"}, "no such file or folder"),
        ({"residual_diff_threshold": 1.5}, "residual_diff_threshold"),
        ({"execution": "quick"}, "execution must be 'loop' or 'native'"),
        ({"adapter": "wan"}, "does not fit FluxPipeline"),
    ],
)
def test_what_is_wrong_stops_the_start_and_says_what(
    model: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        running("flux", model, cache_backend="cache_dit", cache_config=config).__enter__()
    text = str(caught.value)
    cause = caught.value.__cause__ or caught.value.__context__
    assert message in text or message in str(cause)


OUTSIDE = """\
schema: 1
pipelines: [OutsidePipeline]
cache: {max_warmup_steps: 2, residual_diff_threshold: 0.9, max_continuous_cached_steps: 2}
transformers:
  denoiser:
    timestep: sigma
    blocks: {stack: {pattern: Pattern_3, roles: {hidden_states: tokens}}}
"""


def outside(model: Path) -> None:
    """A checkpoint of a pipeline that the engine gets to know here."""
    from vllm_omni.diffusion.registry import register_diffusion_model

    register_diffusion_model(
        "OutsidePipeline", "tests.engines.outside", "OutsidePipeline",
        post_process_func_name="post_process",
    )  # fmt: skip
    checkpoints.index(model, "OutsidePipeline")


def test_a_model_that_the_engine_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One YAML file, dropped into a folder, and nothing else."""
    model = tmp_path / "model"
    model.mkdir()
    outside(model)
    with running("outside", model) as engine:
        plain = engine.generate(num_inference_steps=12)
        (latents,) = engine.latents
        # Not served: the engine's own code, which has no adapter for it either.
        with pytest.raises((ValueError, AttributeError)), engine.cached():
            pass
        # Drafted from its first request, where somebody asks for that.
        with engine.cached({"adapter": "auto", "profile": "fast"}, residual_diff_threshold=0.0):
            for turn in range(3):
                assert (engine.generate(num_inference_steps=12) == plain).all()
                assert torch.equal(engine.latents[0], latents)
                assert bool(engine.cached_steps()) == (turn > 0)
            assert engine.handle.plan.spec.name == "OutsidePipeline"
            assert engine.handle.plan.profile == "fast"
            assert {row.blocks for row in engine.handle.stats().branches} == {"stack"}
        with engine.cached({"adapter": "auto"}, residual_diff_threshold=0.9):
            engine.generate(num_inference_steps=12)  # what was drafted before is known
            assert engine.handle.stats().hit_ratio > 0
            assert engine.cached_steps()
        folder = tmp_path / "adapters"
        folder.mkdir()
        (folder / "outside.yaml").write_text(OUTSIDE, encoding="utf-8")
        monkeypatch.setenv("CACHEDIT_YAML_PATH", str(folder))
        with engine.cached(residual_diff_threshold=0.0):
            assert (engine.generate(num_inference_steps=12) == plain).all()
            assert torch.equal(engine.latents[0], latents)
            assert len(engine.handle.stats().branches) == 2
    with running("outside", model, cache_backend="cache_dit") as engine:
        cached = engine.generate(num_inference_steps=12)
        for row in engine.handle.stats().branches:
            assert row.executed_steps == tuple(range(12))
            assert row.cached_steps == (2, 3, 5, 6, 8, 9, 11)
        assert not (cached == plain).all()
        assert np.abs(cached.astype(int) - plain).mean() < 10
        # No scheduler and no step count: the timesteps tell.
        assert engine.generate(num_inference_steps=None).shape == plain.shape
        assert all(row.executed_steps == tuple(range(10)) for row in engine.handle.stats().branches)


def test_a_class_derived_from_a_known_one_is_served(model: Path) -> None:
    """Its name is in nobody's table."""
    with running("flux", model) as engine:
        with engine.cached({"adapter": "auto"}):  # drafts nothing that there is
            assert engine.handle.plan.spec.name == "flux"
        cls = type(engine.pipeline)
        engine.pipeline.__class__ = type("MyFluxPipeline", (cls,), {})
        with engine.cached(residual_diff_threshold=0.9):
            engine.generate()
            assert engine.handle.stats().hit_ratio > 0


def test_an_adapter_made_for_diffusers_serves_where_it_is_named(model: Path) -> None:
    """Its class has the same name only: nobody has tried it on the engine's."""
    with running("flux", model) as engine:
        engine.pipeline.__class__ = type(
            "AllegroPipeline", (torch.nn.Module,), dict(vars(type(engine.pipeline)))
        )
        with engine.cached():
            assert not hasattr(engine.pipeline._cache_dit_targets[0], "handle")
        with engine.cached(adapter="flux"):
            assert engine.handle.plan.spec.name == "flux"


def test_a_model_without_an_adapter_starts_as_without_us(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running("flux", model) as engine:
        engine.pipeline.__class__ = type(
            "Unheard", (torch.nn.Module,), dict(vars(type(engine.pipeline)))
        )
        caplog.set_level(logging.WARNING, logger="vllm_omni")
        with engine.cached(adaptr="x"):
            assert not hasattr(engine.pipeline._cache_dit_targets[0], "handle")


def test_config_objects_remember_what_was_given() -> None:
    """A default given on purpose, however the object was made, and in whatever copies it."""
    from vllm_omni.diffusion.data import DiffusionCacheConfig

    from cachedit_yaml.engines.vllm_omni.settings import given_fields, read

    given = {"max_warmup_steps": 4, "Fn_compute_blocks": 2}
    assert given_fields(DiffusionCacheConfig(**given)) == given
    made = DiffusionCacheConfig.from_dict(json.loads('{"max_warmup_steps": 4, "adapter": "a"}'))
    assert given_fields(made) == {"max_warmup_steps": 4, "adapter": "a"}
    for same in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), dataclasses.replace(made)):
        assert given_fields(same) == {"max_warmup_steps": 4, "adapter": "a"}
    changed = dataclasses.replace(made, force_refresh_step_hint=3)
    assert given_fields(changed) == {**given_fields(made), "force_refresh_step_hint": 3}
    assert given_fields(dataclasses.replace(changed)) == given_fields(changed)
    request = read(DiffusionCacheConfig.from_dict({"rel_l1_thresh": 0.1, "nonsense": 1}))
    assert (request.others, request.unknown) == (("rel_l1_thresh",), ("nonsense",))


def test_every_field_of_the_engine_is_known() -> None:
    from vllm_omni.diffusion.data import DiffusionCacheConfig

    fields = {item.name for item in dataclasses.fields(DiffusionCacheConfig)}
    public = {name for name in fields if not name.startswith("_")}
    assert len(public) >= 20
    assert public <= set(SETTINGS.schema["properties"])
    assert set(SETTINGS.others) <= public


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pipelines whose weights the engine has begun to load."""
    from vllm_omni.diffusion.model_loader.diffusers_loader import DiffusersPipelineLoader

    found: list[str] = []
    inner = DiffusersPipelineLoader.load_weights

    def load_weights(self: Any, model: Any, **more: Any) -> None:
        found.append(type(model).__name__)
        inner(self, model, **more)

    monkeypatch.setattr(DiffusersPipelineLoader, "load_weights", load_weights)
    return found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Fn_compute_blocks": 99}, "write at most 4 together"),
        ({"adapter": "wan"}, "does not fit FluxPipeline"),
        ({"residual_dif_threshold": 0.2}, "did you mean 'residual_diff_threshold'"),
        ('{"profile": "fast"', "cache_config is no JSON"),
        ('["fast"]', "cache_config is no mapping"),
    ],
)
def test_what_is_wrong_is_said_before_the_weights_are_loaded(
    model: Path, loads: list[str], config: Any, message: str
) -> None:
    with pytest.raises(Exception, match=r"(?s).") as caught:
        running("flux", model, cache_backend="cache_dit", cache_config=config).__enter__()
    text = f"{caught.value} {caught.value.__cause__ or caught.value.__context__}"
    assert message in text
    assert loads == []


def test_one_cache_for_all_requests_is_none_for_step_execution(
    tmp_path: Path, loads: list[str]
) -> None:
    model = checkpoints.build("qwen_image", tmp_path)
    native = {"cache_backend": "cache_dit", "cache_config": {"execution": "native"}}
    with pytest.raises(RuntimeError, match="with step_execution each needs its own"):
        running("qwen_image", model, step_execution=True, **native).__enter__()
    assert loads == []


def test_nothing_is_drafted_under_step_execution(tmp_path: Path, loads: list[str]) -> None:
    """What `auto` watches is one generation; a model that has an adapter needs none of it."""
    auto = {"cache_backend": "cache_dit", "cache_config": {"adapter": "auto"}}
    model = tmp_path / "model"
    model.mkdir()
    outside(model)
    with pytest.raises(RuntimeError, match="'auto' watches one generation, and with step_exec"):
        running("outside", model, step_execution=True, **auto).__enter__()
    assert loads == []
    with running("outside", model, **auto) as engine:
        engine.generate()
    known = checkpoints.build("qwen_image", tmp_path)
    with running("qwen_image", known, step_execution=True, **auto) as engine:
        assert engine.handle.plan.spec.name == "qwen-image"
        engine.generate()
        assert engine.handle.stats().num_steps == 8


def test_one_graph_of_the_whole_transformer(
    model: Path,
    loads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No block of it can be skipped; the server starts as it would without this package."""
    from vllm_omni.platforms import current_omni_platform

    monkeypatch.setattr(type(current_omni_platform), "supports_torch_inductor", lambda _: True)
    compiled = {
        "enforce_eager": False,
        "diffusion_compile_granularity": "full",
        "cache_backend": "cache_dit",
    }
    logging.getLogger("vllm_omni").propagate = True
    caplog.set_level(logging.ERROR, logger="vllm_omni")
    with running("flux", model, **compiled) as engine:
        assert loads == ["FluxPipeline"]
        assert not hasattr(engine.pipeline._cache_dit_targets[0], "handle")
        engine.generate()
    assert "compiled as a whole" in caplog.text
    assert "own cache code serves it instead" in caplog.text
    loads.clear()
    with pytest.raises(RuntimeError, match="diffusion_compile_granularity='full' makes one graph"):
        running("flux", model, **compiled, cache_config={"adapter": "flux"}).__enter__()
    assert loads == []


def test_whatever_fails_of_ours_leaves_the_model_to_the_engine(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of this package's own, after everything was checked."""
    from cachedit_yaml.runtime.pipelines import Pipelines

    def fail(self: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Pipelines, "install", fail)
    with running("flux", model, cache_backend="cache_dit") as engine:
        assert not hasattr(engine.pipeline._cache_dit_targets[0], "handle")
        engine.generate()


def test_requests_with_other_wishes_share_no_batch(model: Path) -> None:
    from vllm_omni.diffusion.request import OmniDiffusionRequest
    from vllm_omni.diffusion.sched.request_scheduler import RequestScheduler
    from vllm_omni.inputs.data import OmniDiffusionSamplingParams

    from cachedit_yaml.engines.vllm_omni import register

    register()

    def key(**extra: Any) -> Any:
        sampling = OmniDiffusionSamplingParams(extra_args=extra)
        request = OmniDiffusionRequest(prompt="a", sampling_params=sampling, request_id="r")
        return RequestScheduler()._build_sampling_params_key(request)

    fast, slow = {"profile": "fast", "scm": {"preset": "fast"}}, {"profile": "quality"}
    assert key() == key(other=1)
    assert key(cachedit=fast) == key(cachedit=dict(reversed(fast.items())))
    assert len({key(), key(cachedit=fast), key(cachedit=slow)}) == 3
