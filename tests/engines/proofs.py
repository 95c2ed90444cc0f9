"""What an adapter's probe has to show on an engine."""

from __future__ import annotations

import pytest

from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.check import check_recipe
from cachedit_yaml.probe.recipe import Recipe


def assert_proved(spec: AdapterSpec, recipe: Recipe) -> None:
    """Every case of one make is proved; one that cannot be made is skipped, with its reason."""
    results = list(check_recipe(spec, recipe))
    assert [line for item in results for line in item.failures()] == []
    if recipe.skip is not None:
        pytest.skip(recipe.skip)
    for item in results:
        assert item.status == "proved", item.detail
        names = [proof.name for proof in item.proofs]
        assert names[:3] == ["resolves", "exact", "hits"]
        assert names[-1] == "restored"
