"""Every adapter for SGLang, proved as its probe says on the engine's own transformers.

Nobody lists adapters here: they are found in the folder of adapters.
"""

from __future__ import annotations

import pytest

from cachedit_yaml.probe.recipe import Recipe, recipes
from tests.engines.proofs import assert_proved
from tests.engines.sglang.models import SHIPPED

pytestmark = pytest.mark.engines

ADAPTERS = 37
PIPELINES = 65
RECIPES = 28
REFUSED = 9

MADE = [(name, recipe) for name, spec in SHIPPED.items() for recipe in recipes(spec)]


def _id(value: object) -> str:
    return (value.variant or "plain") if isinstance(value, Recipe) else str(value)


@pytest.mark.parametrize(("adapter", "recipe"), MADE, ids=_id)
def test_proofs(adapter: str, recipe: Recipe) -> None:
    assert_proved(SHIPPED[adapter], recipe)


def test_number_of_adapters() -> None:
    assert len(SHIPPED) == ADAPTERS
    assert len(MADE) == RECIPES
    assert sum(len(spec.pipelines) for spec in SHIPPED.values()) == PIPELINES
    assert sum(spec.refuse is not None for spec in SHIPPED.values()) == REFUSED
    # Every other one has a probe, and none is skipped.
    assert {name for name, _ in MADE} == {
        name for name, spec in SHIPPED.items() if spec.refuse is None
    }
    assert not [recipe.skip for _, recipe in MADE if recipe.skip is not None]
    assert all(recipe.engine == "sglang" for _, recipe in MADE)
