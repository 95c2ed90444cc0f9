"""What SGLang's stage asks of the cache: requests, the environment, two transformers, fallbacks."""

from __future__ import annotations

import gc
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.engines.cache_dit.configs import read_config
from cachedit_yaml.errors import AdapterNotFoundError, CompileError, ConfigError
from cachedit_yaml.language.defaults import defaults_for
from cachedit_yaml.runtime.masks import preset_mask
from tests.engines.sglang.models import MODELS, STEPS
from tests.engines.sglang.stage import begin, end, stage

pytestmark = pytest.mark.engines

MINE = """\
schema: 1
transformers: {transformer: {class: [OnlyYamlKnowsMe], blocks: {layers: Pattern_3}}}
pipelines: [OnlyYamlKnowsThis]
cache: {max_warmup_steps: 3, residual_diff_threshold: 0.9}
profiles: {fast: {max_warmup_steps: 1}}
"""


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + 0.1 * self.linear(hidden_states)


class OnlyYamlKnowsMe(torch.nn.Module):
    """A transformer that neither SGLang nor cache-dit knows, whose loop does more than the call."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer() for _ in range(4))

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states) + 0.01 * index
        return hidden_states


def generate(model: torch.nn.Module, steps: int = STEPS) -> torch.Tensor:
    torch.manual_seed(1)
    state = torch.randn(1, 4, 8)
    with torch.no_grad():
        for step in range(steps):
            state = state - 0.05 * model(state, torch.tensor([1000.0 - 10 * step]))
    return state


@pytest.fixture
def model(adapters: Path) -> Iterator[Any]:
    (adapters / "mine.yaml").write_text(MINE, encoding="utf-8")
    torch.manual_seed(0)
    found = OnlyYamlKnowsMe()
    yield found
    cachedit_yaml.disable(found)


def values(model: torch.nn.Module, steps: int = STEPS) -> dict[str, Any]:
    """The settings of a cached transformer's first list."""
    handle = cachedit_yaml.handle_of(model)
    assert handle is not None
    return dict(handle.plan.transformers[0].lists[0].layers.resolve(steps).values)


def cached(model: torch.nn.Module) -> tuple[int, ...]:
    handle = cachedit_yaml.handle_of(model)
    assert handle is not None
    return tuple(handle.stats().branches[0].cached_steps)


def test_a_transformer_that_only_yaml_knows(model: Any) -> None:
    plain = generate(model)
    owner = stage(model)
    with pytest.raises(ValueError, match="not officially supported"):
        begin(owner, STEPS, {"adapter": "engine"})
    begin(owner, STEPS, {"max_warmup_steps": STEPS})
    assert torch.equal(generate(model), plain)
    begin(owner, STEPS)  # other settings: the stage takes the cache off and puts it on again
    first = generate(model)
    assert not torch.equal(first, plain)
    assert cached(model) == (3, 4, 5, 7)
    begin(owner, STEPS)  # the same: it begins a generation
    assert torch.equal(generate(model), first)
    begin(owner, 5)  # another number of steps
    generate(model, 5)
    assert cached(model) == (3, 4)
    end(owner)
    assert cachedit_yaml.handle_of(model) is None
    assert torch.equal(generate(model), plain)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 8])
def test_a_preset_for_any_number_of_steps(model: Any, steps: int) -> None:
    """cache-dit asserts that it knows the number, and SGLang asks it first."""
    plain, owner = generate(model, steps), stage(model)
    for _ in range(2):  # the second request refreshes
        params = {"scm_preset": "fast", "scm_policy": "static", "max_warmup_steps": 0}
        begin(owner, steps, params)
        result = generate(model, steps)
        mask = preset_mask("fast", steps)
        assert cached(model) == tuple(index for index, flag in enumerate(mask) if not flag)
        assert torch.equal(result, plain) == all(mask)
    krea = MODELS["krea-2"].build()
    theirs = stage(krea)
    begin(theirs, steps, {"scm_preset": "fast", "adapter": "engine"})  # SGLang's own code too
    assert cachedit_yaml.handle_of(krea) is None
    end(theirs)


def test_a_request_that_fails_between_two_forwards_keeps_no_buffer(model: Any) -> None:
    owner = stage(model, enable_layerwise_nvtx_marker=False, comfyui_mode=False)

    def held() -> int:
        gc.collect()
        tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
        return sum(x.shape == (1, 4, 8) for x in tensors)

    begin(owner, STEPS)
    before = held()
    wanted = generate(model).tolist()
    handle = cachedit_yaml.handle_of(model)
    assert handle is not None
    begin(owner, STEPS)

    def forward(batch: Any, server_args: Any) -> Any:
        generate(model, 3)
        assert held() > before
        raise RuntimeError("over")

    # A loop of its own, whose batch holds nothing that could be verified.
    base = type(owner).__mro__[1]
    check = {"verify_input": base.verify_input, "verify_output": base.verify_output}
    owner.__class__ = type("Own", (type(owner),), {**check, "forward": lambda _, *x: forward(*x)})
    batch = SimpleNamespace(is_warmup=False, metrics=None, perf_dump_path=None)
    with pytest.raises(RuntimeError, match="over"):
        owner(batch, owner.server_args)
    assert held() == before
    assert handle.stats().ended == "its call raised"
    begin(owner, STEPS)
    assert generate(model).tolist() == wanted


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_defaults_under_every_adapter_are_the_engines(kind: str) -> None:
    from sglang.multimodal_gen.runtime.cache.cache_dit_integration import CacheDitConfig

    ours = defaults_for(kind, "sglang").data or {}
    assert ours["cache"] == {name: getattr(CacheDitConfig(), name) for name in ours["cache"]}
    assert ours["steps"] == []


def test_request_over_environment_over_adapter_over_the_engines_defaults(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = stage(model)
    begin(owner, STEPS)
    found = values(model)
    assert (found["max_warmup_steps"], found["residual_diff_threshold"]) == (3, 0.9)  # the adapter
    assert (found["Fn_compute_blocks"], found["max_continuous_cached_steps"]) == (1, 3)  # SGLang
    end(owner)
    # A default of SGLang's, given on purpose, wins over the adapter.
    monkeypatch.setenv("SGLANG_CACHE_DIT_WARMUP", "4")
    monkeypatch.setenv("SGLANG_CACHE_DIT_TAYLORSEER", "true")
    monkeypatch.setenv("SGLANG_CACHE_DIT_SCM_PRESET", "fast")
    begin(owner, STEPS)
    found = values(model)
    assert found["max_warmup_steps"] == 4
    assert found["calibrator"].type == "taylorseer"
    assert found["scm"].preset == "fast"
    begin(owner, STEPS, {"max_warmup_steps": 2, "enable_taylorseer": False, "scm_preset": "none"})
    found = values(model)
    assert (found["max_warmup_steps"], found["calibrator"], found["scm"]) == (2, None, None)
    begin(owner, STEPS, {"profile": "fast", "calibrator": {"type": "foca"}})
    found = values(model)
    assert found["calibrator"].type == "foca"
    assert found["max_warmup_steps"] == 4  # the environment wins over a profile
    monkeypatch.delenv("SGLANG_CACHE_DIT_WARMUP")
    monkeypatch.setenv("CACHEDIT_YAML_PROFILE", "fast")
    begin(owner, STEPS)
    assert values(model)["max_warmup_steps"] == 1


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"residual_diff_treshold": 0.1}, "did you mean 'residual_diff_threshold'"),
        ({"secondary": {"max_warmup": 1}}, r"cache_dit_params\['secondary'\] has no key"),
        ({"max_cached_steps": "many"}, "max_cached_steps"),
        ({"adapter": 3}, "adapter must be text"),
        ({"enable_taylorseer": True, "enable_dmd": True}, "only one of them"),
    ],
)
def test_what_is_wrong_in_a_request_fails_it(model: Any, params: Any, text: str) -> None:
    owner = stage(model)
    with pytest.raises(ConfigError, match=text) as caught:
        begin(owner, STEPS, params)
    assert isinstance(caught.value, ValueError)  # which SGLang takes as the client's
    assert cachedit_yaml.handle_of(model) is None


def test_an_adapter_by_name_or_path(model: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(MINE.replace("max_warmup_steps: 3", "max_warmup_steps: 5"), encoding="utf-8")
    owner = stage(model)
    begin(owner, STEPS, {"adapter": str(other)})
    assert values(model)["max_warmup_steps"] == 5
    with pytest.raises(AdapterNotFoundError, match="nearest: flux"):
        begin(owner, STEPS, {"adapter": "fluxx"})
    with pytest.raises(CompileError, match="does not fit"):
        begin(owner, STEPS, {"adapter": "flux"})
    assert cachedit_yaml.handle_of(model) is None
    # The server's --cache-dit-config, with settings of cache-dit's beside the adapter.
    other.write_text(other.read_text() + "cache_config: {Bn_compute_blocks: 1}\n", encoding="utf-8")
    begin(stage(model, cache_dit_config=str(other)), STEPS)
    assert (values(model)["max_warmup_steps"], values(model)["Bn_compute_blocks"]) == (5, 1)


def test_a_class_of_sglangs_with_a_forward_of_its_own_is_not_its_base() -> None:
    """FSDP makes a subclass without one, which is served."""
    from sglang.multimodal_gen.runtime.models.dits.krea2 import Krea2Transformer2DModel

    for space, served in (({}, True), ({"forward": lambda self, x: x}, False)):
        model = MODELS["krea-2"].build()
        model.__class__ = type(f"Odd{served}", (Krea2Transformer2DModel,), space)
        owner = stage(model)
        if served:
            begin(owner, STEPS)
            assert cachedit_yaml.handle_of(model) is not None
            end(owner)
        else:
            begin(owner, STEPS)  # SGLang's own table goes by base classes too
            assert cachedit_yaml.handle_of(model) is None
            end(owner)


def test_what_does_not_fit_is_left_to_the_engine(
    adapters: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = MINE.replace("OnlyYamlKnowsMe", "Krea2Transformer2DModel")
    (adapters / "krea-2.yaml").write_text(wrong, encoding="utf-8")
    model = MODELS["krea-2"].build()
    owner = stage(model)
    logging.getLogger("sglang").propagate = True
    with caplog.at_level(logging.WARNING):
        begin(owner, STEPS, {"max_warmup_steps": 2, "max_cached_steps": 3})
    assert cachedit_yaml.handle_of(model) is None
    assert model._sglang_cache_dit_adapter is not None  # the engine's own
    assert "'layers'" in caplog.text
    assert "ignores max_cached_steps" in caplog.text
    end(owner)


def test_a_graph_of_the_whole_transformer_is_left_to_the_engine() -> None:
    model = MODELS["krea-2"].build()
    for regional, served in ((True, True), (False, False)):
        owner = stage(model, enable_torch_compile=True, regional_compile=regional)
        begin(owner, STEPS)
        assert (cachedit_yaml.handle_of(model) is not None) == served
        end(owner)


def test_two_transformers_that_divide_the_steps() -> None:
    """Wan 2.2: the engine counts the steps of each off the true timesteps."""
    wan = MODELS["wan"]
    high, low = wan.build(), wan.build()
    with torch.no_grad():
        for value in low.parameters():
            value.mul_(0.9)

    def run(steps: tuple[int, int]) -> torch.Tensor:
        models = [high] * steps[0] + [low] * steps[1]
        calls = [(model, at, branch) for at, model in enumerate(models) for branch in (0, 1)]
        return torch.stack([wan.step(*call[:2], len(models), call[2]) for call in calls])

    plain = {steps: run(steps) for steps in ((3, 7), (0, 6), (6, 0))}
    owner = stage(high, low)
    for steps, expected in plain.items():
        begin(owner, steps, {"max_warmup_steps": 10}, guided=True)
        assert torch.equal(run(steps), expected)
    end(owner)
    for steps in plain:
        second = {"max_warmup_steps": 3, "max_continuous_cached_steps": 9}
        params = {"max_warmup_steps": 2, "residual_diff_threshold": 0.99, "secondary": second}
        begin(owner, steps, params, guided=True)
        run(steps)
        for model, number, warm_up in ((high, steps[0], 2), (low, steps[1], 3)):
            if number:
                for branch in cachedit_yaml.handle_of(model).stats().branches:
                    assert branch.executed_steps == tuple(range(number))
                    assert min(branch.cached_steps, default=number) == min(warm_up, number)
    assert values(low)["max_continuous_cached_steps"] == 9
    assert values(high)["max_continuous_cached_steps"] == 3
    end(owner)
    assert torch.equal(run((3, 7)), plain[3, 7])


def test_two_transformers_in_every_step() -> None:
    """Ideogram 4: one with the prompt, one without."""
    from sglang.multimodal_gen.runtime.pipelines_core.stages.model_specific_stages import ideogram

    one = MODELS["ideogram-4"]
    models = one.build(), one.build()
    owner = stage(*models)
    owner.__class__ = ideogram.Ideogram4DenoisingStage
    owner.unconditional_transformer = models[1]

    def run() -> torch.Tensor:
        # The first of a hundred steps differ little, so that later ones hit.
        return torch.stack([one.step(m, at, 100) for at in range(STEPS) for m in models])

    plain = run()
    for warm_up in (STEPS, 2):
        params = {"max_warmup_steps": warm_up, "residual_diff_threshold": 0.99}
        owner.transformer_2 = models[1]
        begin(owner, STEPS, params)
        assert torch.equal(run(), plain) == (warm_up == STEPS)
        for model in models:
            (branch,) = cachedit_yaml.handle_of(model).stats().branches
            assert bool(branch.cached_steps) == (warm_up == 2)
    end(owner)
    assert torch.equal(run(), plain)


def test_the_snippets_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
    part = page.partition("## SGLang diffusion")[2].partition("\n## ")[0]
    snippets = dict(re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL))
    wan = MODELS["wan"].build(), MODELS["wan"].build()
    owner = stage(*wan)
    begin(owner, (3, 5), json.loads(snippets["json"]), guided=True)
    assert [values(model)["max_warmup_steps"] for model in wan] == [4, 1]
    assert [values(model)["residual_diff_threshold"] for model in wan] == [0.15, 0.15]
    end(owner)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in re.findall(r"(\w+)=(\w+)", snippets["sh"]):
            patch.setenv(name, value)
        begin(owner, (3, 5), enable=None)
        assert cachedit_yaml.handle_of(wan[0]).plan.profile == "fast"
        end(owner)
    path = tmp_path / "file.yaml"
    path.write_text(snippets["yaml"], encoding="utf-8")
    config = read_config(path)
    assert config is not None
    assert config.adapter is not None
    assert config.settings.residual_diff_threshold == 0.2


@pytest.mark.parametrize("server", [False, True])
def test_how_the_samples_of_a_batch_decide(model: Any, tmp_path: Path, server: bool) -> None:
    """As a request says, or the server's file: one sample stands still, and one moves."""

    def stats(**params: Any) -> Any:
        given: dict[str, Any] = {"residual_diff_threshold": 0.1, "max_warmup_steps": 1, **params}
        path = tmp_path / "mine.yaml"
        settings = "\n".join(f"  {key}: {value}" for key, value in given.items())
        path.write_text(f"{MINE.split('cache:')[0]}cache:\n{settings}\n", encoding="utf-8")
        owner = stage(model, cache_dit_config=str(path) if server else None)
        begin(owner, STEPS, {} if server else given)
        with torch.no_grad():
            for step in range(STEPS):
                torch.manual_seed(0)
                state = torch.randn(2, 4, 8)
                state[1] *= 1 + 0.5 * step
                model(state, torch.tensor([1000.0 - 10 * step]))
        handle = cachedit_yaml.handle_of(model)
        assert handle is not None
        (row,) = handle.stats().branches
        end(owner)
        return row

    each = stats()
    assert each.samples[0].cached_steps[:3] == (1, 2, 3)
    assert 1 not in each.samples[1].cached_steps
    assert stats(batch="per_sample") == each
    worst = stats(batch="worst")
    assert [item.cached_steps for item in worst.samples] == [worst.cached_steps] * 2
    assert 1 not in worst.cached_steps
    assert not worst.partly_cached
    mean = stats(batch="mean")
    assert not mean.samples
