"""Every adapter for SGLang, proved as its probe says on the engine's own transformers.

Nobody lists adapters here: they are found in the folder of adapters.
"""

from __future__ import annotations

import pytest

from cachedit_yaml.probe.recipe import Recipe, recipes
from tests.engines.proofs import assert_proved
from tests.engines.sglang.models import SHIPPED

pytestmark = pytest.mark.engines

ADAPTERS = 36
RECIPES = 28
REFUSED = 8

MADE = [(entry.name, recipe) for entry in SHIPPED for recipe in recipes(entry.with_probe("sglang"))]


def _id(value: object) -> str:
    return (value.variant or "plain") if isinstance(value, Recipe) else str(value)


@pytest.mark.parametrize(("adapter", "recipe"), MADE, ids=_id)
def test_proofs(adapter: str, recipe: Recipe) -> None:
    spec = next(entry for entry in SHIPPED if entry.name == adapter).with_probe("sglang")
    assert_proved(spec, recipe)


def test_number_of_adapters() -> None:
    assert len(SHIPPED) == ADAPTERS
    assert len(MADE) == RECIPES
    assert sum(entry.spec_for("sglang").refuse is not None for entry in SHIPPED) == REFUSED
    # Every other one has a probe, and none is skipped.
    assert {name for name, _ in MADE} == {
        entry.name for entry in SHIPPED if entry.spec_for("sglang").refuse is None
    }
    assert not [recipe.skip for _, recipe in MADE if recipe.skip is not None]
    assert all(recipe.engine == "sglang" for _, recipe in MADE)
