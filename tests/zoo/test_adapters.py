"""Every shipped adapter, tried on every pipeline that it names: as its probe says, by itself."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import diffusers
import pytest
from diffusers import ModelMixin
from diffusers.models import transformers

import cachedit_yaml
from cachedit_yaml.engines.diffusers import modular
from cachedit_yaml.engines.diffusers.denoisers import denoisers
from cachedit_yaml.engines.diffusers.probe import build, find_pipeline
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.check import check_recipe
from cachedit_yaml.probe.coverage import coverage
from cachedit_yaml.probe.recipe import Recipe, recipes, unused
from cachedit_yaml.registry.held import match_held
from cachedit_yaml.registry.matching import class_names
from cachedit_yaml.registry.registry import Registry
from tests import tiny

ADAPTERS = 79
PIPELINES = 228
MODULAR = 40
RECIPES = 420
INSTALLED = diffusers.__version__
NEWEST = INSTALLED == "0.42.1"

#: The adapters for diffusers, with their probes; ``make test-engines`` tries those of engines.
SHIPPED = {
    entry.name: entry.with_probe("diffusers")
    for entry in cachedit_yaml.list_adapters()
    if entry.kind == "shipped" and "diffusers" in entry.engines
}
#: Adapter and pipeline class, for every class that an adapter names.
DECLARED = [(name, pipeline) for name, spec in SHIPPED.items() for pipeline in spec.pipelines]
CACHED = [name for name, spec in SHIPPED.items() if spec.refuse is None]
MADE = [(name, recipe) for name, spec in SHIPPED.items() for recipe in recipes(spec)]


def _id(value: object) -> str:
    if isinstance(value, Recipe):
        shown = value.pipeline.removesuffix("Pipeline") or "alone"
        return f"{shown}-{value.variant}" if value.variant else shown
    return str(value)


@pytest.mark.parametrize(("adapter", "recipe"), MADE, ids=_id)
def test_proofs(adapter: str, recipe: Recipe) -> None:
    results = list(check_recipe(SHIPPED[adapter], recipe))
    wrong = [line for item in results for line in item.failures()]
    if not NEWEST:
        # Some pipelines of older releases cannot run at all, cached or not.
        wrong = [line for line in wrong if "the uncached call raised" not in line]
    assert not wrong
    if all(item.status == "skipped" for item in results):
        # A class that is not installed, or a pipeline that the probe says cannot be made small.
        assert recipe.skip or lacking(recipe) or not NEWEST
        pytest.skip(results[0].detail)
    for item in results:
        if item.status == "failed":
            continue
        names = [proof.name for proof in item.proofs]
        assert names[:3] == ["resolves", "exact", "hits"]
        assert names[-1] == "restored"


def lacking(recipe: Recipe) -> bool:
    """Whether something that its classes need is not installed here, such as OpenCV."""
    if any(importlib.util.find_spec(package) is None for package in recipe.needs):
        return True
    # What diffusers has in place of a class whose needs are not installed.
    return hasattr(getattr(diffusers, recipe.pipeline, None), "_backends")


@pytest.mark.parametrize("adapter", CACHED)
def test_every_adapter_has_a_probe_that_says_nothing_in_vain(adapter: str) -> None:
    spec = SHIPPED[adapter]
    assert spec.probe is not None
    assert unused(spec) == []
    assert set(spec.probe.pipelines or {}) <= set(spec.pipelines)


@pytest.mark.parametrize("adapter", CACHED)
def test_profiles(adapter: str) -> None:
    """Each profile, and the settings for few steps, fit the small models and can run."""
    spec = SHIPPED[adapter]
    assert list(spec.profiles) == ["quality", "balanced", "fast"]
    assert spec.steps
    made = next(
        (
            item
            for item in recipes(spec)
            if item.pipeline and not item.skip and _installed(item) and not lacking(item)
        ),
        None,
    )
    if made is None:
        assert not NEWEST or any(map(lacking, recipes(spec)))
        pytest.skip(f"diffusers {INSTALLED} has no pipeline of {adapter} that can be made small")
    built = build(spec, made)
    for profile in (None, *spec.profiles):
        with cachedit_yaml.enable(built.target, spec, profile=profile) as handle:
            if profile != "quality":  # in which only numbers differ from those of balanced
                steps = 12 if profile == "balanced" else 4
                assert built.run(steps=steps).isfinite().all()
                assert handle.stats().num_steps is not None
            assert f"{adapter}.yaml" in handle.explain()
            assert "defaults.yaml" in handle.explain()


def _installed(recipe: Recipe) -> bool:
    return find_pipeline(recipe.pipeline) is not None


def test_number_of_adapters() -> None:
    assert len(SHIPPED) == ADAPTERS
    assert len(DECLARED) == PIPELINES
    # Which blocks there are to be tried alone, the installed diffusers says.
    assert len(MADE) == RECIPES if NEWEST else len(MADE) > RECIPES - 60


@pytest.mark.parametrize(("adapter", "pipeline"), DECLARED)
def test_found_by_class(adapter: str, pipeline: str) -> None:
    if not hasattr(diffusers, pipeline):
        assert not NEWEST or any(lacking(item) for name, item in MADE if name == adapter)
        assert Registry.load().match_pipeline(pipeline).entry.name == adapter
        pytest.skip(f"diffusers {INSTALLED} has no {pipeline}")
    cls = getattr(diffusers, pipeline)
    match = Registry.load().match_pipeline(cls)
    assert (match.entry.name, match.how) == (adapter, "exact")
    assert cachedit_yaml.find_adapter(cls).name == adapter
    assert match.entry.path.stem == adapter
    assert any(recipe.pipeline == pipeline for _, recipe in MADE) or match.spec.refuse


@pytest.mark.parametrize("adapter", CACHED)
def test_found_by_transformer(adapter: str) -> None:
    """Engines without a pipeline find the adapter by the transformer's class alone."""
    for name in transformer_classes(adapter):
        cls = model_class(adapter, name)
        if cls is None:
            pytest.skip(f"diffusers {INSTALLED} has no {name}")
        match = Registry.load().match_transformer(cls)
        # Several pipelines may have it, and any of their adapters does the same to it.
        alike = {match.entry.name, *(entry.name for entry in match.alike)}
        assert alike == {other for other in CACHED if name in transformer_classes(other)}
        if name in tiny.transformers():
            model = tiny.transformer(name)
            with cachedit_yaml.enable_transformer(model, adapter) as handle:
                assert [item.module for item in handle.plan.transformers] == [model]


def model_class(adapter: str, name: str) -> type | None:
    """A transformer's class, which is imported with the pipelines where it is no public one."""
    for pipeline in SHIPPED[adapter].pipelines:
        getattr(diffusers, pipeline, None)
    models = [ModelMixin]
    for cls in models:
        models += cls.__subclasses__()
    named = (cls for cls in models if cls.__name__ == name and cls.__module__.startswith("diff"))
    return getattr(diffusers, name, None) or next(named, None)


def transformer_classes(adapter: str) -> list[str]:
    """The transformer classes that an adapter names."""
    transformers = SHIPPED[adapter].transformers.values()
    variants = [variant for item in transformers for variant in item.variants or ()]
    classes = [*transformers, *variants]
    names = dict.fromkeys(name for item in classes for name in item.transformer_class or ())
    assert names
    return list(names)


@pytest.mark.parametrize("pipeline", sorted({name for _, name in DECLARED if "Modular" in name}))
def test_a_denoise_block_alone_is_found(pipeline: str) -> None:
    """A Modular pipeline's denoise block can be a pipeline of its own, of what class ever."""
    if not hasattr(diffusers, pipeline):
        pytest.skip(f"diffusers {INSTALLED} has no {pipeline}")
    found = ((name, item) for name, item in MADE if item.pipeline == pipeline and item.stage)
    name, recipe = next(found, (None, None))
    if name is None or recipe is None:
        assert not NEWEST
        pytest.skip(f"diffusers {INSTALLED} has no denoise block for {pipeline}")
    if lacking(recipe):
        pytest.skip(f"{pipeline} needs {', '.join(recipe.needs)}")
    built = build(SHIPPED[name], recipe)
    assert {*built.target.blocks.sub_blocks} != {
        *modular.default_blocks(type(built.target)).sub_blocks
    }
    assert cachedit_yaml.find_adapter(built.target).name == name
    # Without its name, too: what it holds says the same.
    held = match_held(Registry.load(), built.target, "diffusers")
    assert held is not None
    assert layout(held.spec, built.target) == layout(SHIPPED[name], built.target)


def layout(spec: AdapterSpec, target: object) -> list[object]:
    """What an adapter makes of a pipeline, but for its settings."""
    plan = cachedit_yaml.compile_adapter(spec, target)
    parts = [
        (item.path, [one.path for one in item.lists], item.timestep, item.denoising)
        for item in plan.transformers
    ]
    return [*sorted(parts, key=str), plan.split, plan.scheduler, plan.separate_cfg]


def test_every_modular_pipeline_is_declared() -> None:
    classes = (name for name in dir(diffusers) if name.endswith("ModularPipeline"))
    found = {name for name in classes if name != "ModularPipeline"}
    assert len(found) == MODULAR if NEWEST else len(found) > 10
    assert found <= {pipeline for _, pipeline in DECLARED}


#: Transformer classes of diffusers that denoise nothing by themselves, and why.
NO_DENOISERS = {
    "DreamLiteTransformer2DModel": "a part of DreamLite's U-Net, which has an adapter",
    "MiniMaxMusic3RVQDepthDecoder": "writes codes one after the other, before anything is denoised",
    "TransformerTemporalModel": "a part of video U-Nets, of one block",
}


def test_no_transformer_is_left_out() -> None:
    """Each transformer class of diffusers has an adapter, or a reason to have none."""
    left, found = set(), 0
    for module in pkgutil.iter_modules(transformers.__path__):
        try:
            classes = vars(importlib.import_module(f"{transformers.__name__}.{module.name}"))
        except ImportError:  # of a release that the installed transformers is too new for
            continue
        for name, cls in classes.items():
            if not (isinstance(cls, type) and issubclass(cls, ModelMixin)):
                continue
            if cls.__module__ == f"{transformers.__name__}.{module.name}":
                found += 1
                if Registry.load().find_transformer(cls) is None:
                    left.add(name)
    assert found > 60
    assert left == {*NO_DENOISERS} if NEWEST else left <= {*NO_DENOISERS}


def test_no_pipeline_is_left_out() -> None:
    """All pipelines of diffusers that hold a transformer denoiser have an adapter."""
    found = list(denoisers())
    assert len(found) == 207 if NEWEST else len(found) > 120
    named = {pipeline for _, pipeline in DECLARED}
    left = [item.pipeline for item in found if item.pipeline not in named]
    if not NEWEST:
        # Older releases have names that were given up since, for classes of other names.
        left = [name for name in left if not named & set(class_names(getattr(diffusers, name)))]
    assert left == []


def test_the_page_of_models_is_true() -> None:
    """Mend it with: make docs."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    lines = [
        line
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith("| Pipeline")
    ]
    if not NEWEST:
        pytest.skip("the page is about the newest diffusers")
    entries = [entry for entry in Registry.load(environ={}).adapters() if entry.kind == "shipped"]
    expected = coverage(entries, denoisers(), [])
    assert len(lines) == len(expected)
    tried = {recipe.pipeline for _, recipe in MADE if _installed(recipe)}
    for line, row in zip(lines, expected, strict=True):
        assert line.startswith(f"| {row.pipeline} | {row.transformer} | {row.adapter} |")
        assert all(f"`{name}` {pattern[-1]}" in line for name, pattern in row.lists.items())
        assert "**no**" not in line
        if "| yes |" in line and row.engine == "diffusers":  # the others: tests/engines
            assert row.pipeline in tried
