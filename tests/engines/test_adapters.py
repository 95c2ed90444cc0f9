"""Every adapter for vLLM-Omni, proved as its probe says on the engine's own pipelines.

Nobody lists adapters or pipelines here: they are found in the folder of adapters.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import cachedit_yaml
from cachedit_yaml.probe.recipe import Recipe, recipes
from tests.engines.proofs import assert_proved

pytestmark = pytest.mark.engines

ADAPTERS = 46
PIPELINES = 73
RECIPES = 110

#: The adapters as vLLM-Omni sees them, with their probes.
SHIPPED = {
    entry.name: entry.with_probe("vllm_omni")
    for entry in cachedit_yaml.list_adapters()
    if entry.kind == "shipped" and "vllm_omni" in entry.engines
}
MADE = [(name, recipe) for name, spec in SHIPPED.items() for recipe in recipes(spec)]


def _id(value: object) -> str:
    if isinstance(value, Recipe):
        shown = value.pipeline.removesuffix("Pipeline") or "alone"
        return f"{shown}-{value.variant}" if value.variant else shown
    return str(value)


@pytest.mark.parametrize(("adapter", "recipe"), MADE, ids=_id)
def test_proofs(adapter: str, recipe: Recipe) -> None:
    assert_proved(SHIPPED[adapter], recipe)


def test_number_of_adapters() -> None:
    assert len(SHIPPED) == ADAPTERS
    assert sum(len(spec.pipelines) for spec in SHIPPED.values()) == PIPELINES
    assert len(MADE) == RECIPES
    assert all(recipe.engine == "vllm_omni" for _, recipe in MADE)


def test_the_page_of_models_says_what_is_proved() -> None:
    """Mend it with: make docs."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## vllm_omni\n")
    section = section.partition("\n## ")[0]
    lines = {line.split(" | ")[0][2:]: line for line in section.splitlines() if "| " in line}
    for adapter, recipe in MADE:
        if recipe.pipeline and recipe.skip is None:
            assert f"| vllm_omni/{adapter} |" in lines[recipe.pipeline]
            assert "| yes |" in lines[recipe.pipeline]


def test_no_pipeline_is_left_out() -> None:
    """Every pipeline class of the engine has an adapter, or one that refuses it."""
    from vllm_omni.diffusion.cache.cachedit import CUSTOM_DIT_ENABLERS
    from vllm_omni.diffusion.registry import DiffusionModelRegistry

    classes = {model.class_name for model in DiffusionModelRegistry.models.values()}
    named = {name for spec in SHIPPED.values() for name in spec.pipelines}
    assert len(classes) > 60
    assert classes - named == set()
    # Names in the engine's own table for which it has no class.
    assert set(CUSTOM_DIT_ENABLERS) - named - classes <= {
        "Wan22TI2VPipeline",
        "Cosmos3OmniPipeline",
    }
