"""``--deep``: what it reads off classes, beyond the golden files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.compiler.signature import PATTERNS, Binding, bind
from cachedit_yaml.rules.deep.guidance import call_sites
from cachedit_yaml.rules.deep.models import build, components, find_class, may_be_none
from cachedit_yaml.rules.deep.unpacking import contradiction
from tests.golden import cases

ROOT = Path(cachedit_yaml.__file__).parents[1]


class Block(torch.nn.Module):
    def forward(self, hidden_states: Any, encoder_hidden_states: Any, temb: Any = None) -> Any:
        return encoder_hidden_states, hidden_states


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "second", "alone", "mixed", "odd", "other"):
            setattr(self, name, torch.nn.ModuleList([Block()]))

    def forward(self, x: Any, c: Any) -> Any:
        for block in self.first:
            x, c = block(x, c)
        for index, block in enumerate(self.second):
            c, x = block(hidden_states=x, encoder_hidden_states=c, temb=index)
        for block in self.alone:
            if self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, x, c)
            else:
                x = block(x, encoder_hidden_states=c)
        for block in self.mixed:
            if c is None:
                x, c = block(x, c)
            else:
                c, x = block(x, c)
        for block in self.odd:
            x, c = block(x + 1, c)
        for block in self.other:
            result = block(x, c)
            x = result[0]
        return x


def binding(pattern: str) -> Binding:
    found = bind(Block().forward, PATTERNS[pattern], None, "here")
    assert isinstance(found, Binding)
    return found


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("first", {"Pattern_0"}),
        ("second", {"Pattern_1"}),
        ("alone", {"Pattern_2"}),
        # What is not understood in every place contradicts nothing.
        ("mixed", {"Pattern_0", "Pattern_1", "Pattern_2"}),
        ("odd", {"Pattern_0", "Pattern_1", "Pattern_2"}),
        ("other", {"Pattern_0", "Pattern_1", "Pattern_2"}),
        ("absent", {"Pattern_0", "Pattern_1", "Pattern_2"}),
    ],
)
def test_the_order_in_which_a_loop_unpacks(name: str, fitting: set[str]) -> None:
    model = Model()
    for pattern in ("Pattern_0", "Pattern_1", "Pattern_2"):
        problem = contradiction(model, name, PATTERNS[pattern], binding(pattern))
        assert (problem is None) == (pattern in fitting)
        if problem is not None:
            assert problem.endswith(f"that is {next(iter(fitting))}")


class Once:
    def __call__(self) -> None:
        self.transformer(0)
        for step in range(4):
            self.transformer(step)


class Twice:
    def __call__(self) -> None:
        for step in range(4):
            model = self.transformer
            with model.cache_context("cond"):
                model(step)
            if step:
                with model.cache_context("uncond"):
                    model(step)


def test_call_sites() -> None:
    assert call_sites(Once, "transformer") == 1
    assert call_sites(Twice, "transformer") == 2
    assert call_sites(Once, "transformer_2") is None
    assert call_sites(int, "transformer") is None


def test_models_take_no_memory() -> None:
    cls = find_class("FluxTransformer2DModel")
    assert cls is not None
    model = build(cls)
    assert isinstance(model, torch.nn.Module)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) > 10**10
    assert build(cls) is model


def test_what_cannot_be_made_says_why() -> None:
    assert "it cannot be made" in str(build(find_class("HiDreamImageTransformer2DModel") or int))
    assert "no torch.nn.Module" in str(build(int))
    assert find_class("NoSuchClass") is None
    assert find_class("__version__") is None


def test_parts_of_a_pipeline() -> None:
    wan = find_class("WanPipeline")
    assert wan is not None
    (transformer,) = components(wan)["transformer"]
    assert transformer.__name__ == "WanTransformer3DModel"
    assert may_be_none(wan, "transformer_2")
    assert not may_be_none(wan, "vae")
    modular = find_class("FluxModularPipeline")
    (transformer,) = components(modular)["transformer"]
    assert transformer.__name__ == "FluxTransformer2DModel"


def test_shipped_adapters_hold_no_error() -> None:
    names = ["flux", "wan", "qwen-image", "stable-diffusion-3", "pixart", "z-image"]
    case = cases.Case(
        files={f"{n}.yaml": (ROOT / "adapters" / f"{n}.yaml").read_bytes() for n in names},
        args=["--deep"],
    )
    found = [item for item in cases.findings(case) if item["severity"] != "hint"]
    assert found == []


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    (tmp_path / "a.yaml").write_text("schema: 1\npipelines: [A]\nrefuse: for an example\n")
    done = subprocess.run(
        [sys.executable, "-m", "cachedit_yaml", "validate", "--deep", "a.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 3
    assert "'validate' cannot run: no torch here" in done.stderr
    assert "pip install 'cachedit-yaml[run]'" in done.stderr


def test_a_wrong_adapter_and_a_refusal_are_not_looked_at() -> None:
    for text, codes in (
        ("schema: 1\npipelines: [NoPipeline]\nrefuse: for an example\n", []),
        ("schema: 1\npipelines: [NoPipeline]\noops: 1\nrefuse: x\n", ["unknown-key"]),
    ):
        case = cases.parse(text.encode(), "a.yaml")
        case.args.append("--deep")
        assert [item["code"] for item in cases.findings(case)] == codes
