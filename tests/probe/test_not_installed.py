"""Pipelines that a probe cannot try here are skipped, with a word on what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers.utils import DummyObject

import cachedit_yaml
from cachedit_yaml.engines.diffusers.probe import find_pipeline
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.check import Checked, check


def spec(**probe: Any) -> AdapterSpec:
    """An adapter for one small pipeline with a probe."""
    return cachedit_yaml.load_adapter(
        {
            "schema": 1,
            "name": "probed",
            "pipelines": ["DiTPipeline"],
            "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_3"}}},
            "probe": {"parts": {"scheduler": "ddim"}, **probe},
        }
    )


def only(found: Any) -> Checked:
    (one,) = found
    return one


def test_a_package_that_is_missing() -> None:
    found = only(check([spec(needs=["no_such_package"])]))
    assert (found.status, found.detail) == (
        "skipped",
        "no_such_package is not installed, and this pipeline needs it",
    )


def test_a_variant_that_needs_a_missing_package() -> None:
    found = list(check([spec(variants={"other": {"needs": ["no_such_package"]}})]))
    assert [(item.variant, item.status) for item in found][1] == ("other", "skipped")


def test_a_package_is_a_name() -> None:
    with pytest.raises(cachedit_yaml.AdapterError, match="needs"):
        spec(needs=["torch.nn"])


def test_a_class_in_whose_place_diffusers_has_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import diffusers

    empty = DummyObject("DiTPipeline", (), {"_backends": ["torch", "no_such_package"]})
    monkeypatch.setattr(diffusers, "DiTPipeline", empty, raising=False)
    assert find_pipeline("DiTPipeline") is None
    found = only(check([spec()]))
    wanted = "DiTPipeline needs no_such_package, which is not installed"
    assert (found.status, found.detail) == ("skipped", wanted)
