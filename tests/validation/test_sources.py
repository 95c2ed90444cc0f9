"""Classes read from their sources: what attributes hold, and what is not claimed."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from cachedit_yaml.engines import engines
from cachedit_yaml.rules.sources.code import Class
from cachedit_yaml.rules.sources.packages import Code
from cachedit_yaml.rules.sources.reader import Reader
from cachedit_yaml.rules.sources.values import NONE, UNKNOWN, Instance, Items, Other, Value
from tests.golden import cases

MODELS = """\
    from functools import partial
    import torch
    from torch import nn
    from .blocks import Block as Kind, make, stack
    from . import blocks
    from elsewhere import Mystery

    raise RuntimeError("never imported")

    class Base(nn.Module):
        block_cls = Kind

        def __init__(self, depth):
            super().__init__()
            self.inherited = nn.ModuleList([self.block_cls() for _ in range(depth)])

    class Model(Base):
        def __init__(self, depth, given, wide=False):
            super().__init__(depth)
            self.plain = nn.ModuleList([Kind() for _ in range(depth)])
            self.grown = nn.ModuleList()
            for _ in range(depth):
                self.grown.append(blocks.Other())
            layers = []
            layers.append(Kind())
            self.local = torch.nn.ModuleList(layers)
            cls = Kind if wide else partial(blocks.Other, depth)
            self.either = nn.ModuleList(cls() for _ in range(depth))
            self.by_function = make(depth)
            self.first, self.by_maker = stack(depth, lambda prefix: Kind(prefix))
            self.listed = [Kind() for _ in range(depth)]
            self.norm = nn.LayerNorm(depth)
            self.maybe = None
            if wide:
                self.maybe = Kind()
            self.given = given
            self.foreign = nn.ModuleList([Mystery() for _ in range(depth)])
            self.wrapped = nn.ModuleList([Kind()])
            self.wrapped[0] = torch.compile(self.wrapped[0])
            self.inner = Inner()
            setattr(self, "by_name", Inner())

        @property
        def asked(self):
            return self.inner.layers

    class Inner(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList([Kind() for _ in range(2)])

    class Dynamic(nn.Module):
        def __init__(self, names):
            for name in names:
                setattr(self, name, Kind())

    class Unknown(Mystery):
        pass

    def fill(model):
        model.outside = nn.ModuleList([Kind()])
"""
BLOCKS = """\
    from torch import nn

    class Block(nn.Module):
        pass

    class Other(nn.Module):
        pass

    def make(depth):
        if not depth:
            return nn.ModuleList()
        return nn.ModuleList([Block() for _ in range(depth)])

    def stack(depth, maker):
        return 0, nn.ModuleList([maker(str(i)) for i in range(depth)])
"""


@pytest.fixture
def code(tmp_path: Path) -> Code:
    folder = tmp_path / "their_models" / "dits"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("dits/__init__", ""), ("dits/model", MODELS),
                       ("dits/blocks", BLOCKS)):  # fmt: skip
        (tmp_path / "their_models" / f"{name}.py").write_text(textwrap.dedent(text))
    return Code([tmp_path])


def find(code: Code, name: str) -> Class:
    (found,) = code.classes("their_models", ("dits",), name)
    return found


def shown(value: Value) -> str:
    if isinstance(value, Items):
        return (
            f"{'ModuleList' if value.modules else 'list'} of {' '.join(map(shown, value.values))}"
        )
    if isinstance(value, Instance):
        return value.cls.name
    return value.name if isinstance(value, Other) else "reference"


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("plain", {"ModuleList of Block"}),
        ("inherited", {"ModuleList of Block"}),
        ("grown", {"ModuleList of Other"}),
        ("local", {"ModuleList of Block"}),
        ("by_function", {"ModuleList of ", "ModuleList of Block"}),
        ("by_maker", {"ModuleList of Block"}),
        ("first", {UNKNOWN.name}),
        ("listed", {"list of Block"}),
        ("norm", {"LayerNorm"}),
        ("maybe", {NONE.name, "Block"}),
        ("inner.layers", {"ModuleList of Block"}),
        ("by_name.layers", {"ModuleList of Block"}),
        ("asked", {"ModuleList of Block"}),
        ("plain.0", {"Block"}),
        # What may be anything.
        ("given", {UNKNOWN.name}),
        ("foreign", {f"ModuleList of {UNKNOWN.name}"}),
        ("outside", {UNKNOWN.name}),
        # What is not there.
        ("plian", set()),
        ("inner.layer", set()),
    ],
)
def test_what_a_path_leads_to(code: Code, path: str, values: set[str]) -> None:
    found = Reader({"stack": 1}).follow(find(code, "Model"), path)
    assert {shown(item) for item in found} == values


def test_one_of_two_classes(code: Code) -> None:
    reader = Reader({})
    (found,) = reader.attribute(find(code, "Model"), "either")
    assert isinstance(found, Items)
    assert {shown(item) for item in found.values} == {"Block", "Other"}
    (wrapped,) = reader.attribute(find(code, "Model"), "wrapped")
    assert isinstance(wrapped, Items)
    assert UNKNOWN in wrapped.values


@pytest.mark.parametrize("name", ["Dynamic", "Unknown"])
def test_of_what_is_not_wholly_read_nothing_is_missing(code: Code, name: str) -> None:
    assert Reader({}).attribute(find(code, name), "blocks") == {UNKNOWN}


def test_names_and_block_lists(code: Code) -> None:
    reader, model = Reader({"stack": 1}), find(code, "Model")
    assert model.names == ("Model", "Base", "Module")
    assert {"plain", "grown", "by_maker"} <= set(reader.block_lists(model))
    assert not {"listed", "norm", "inner"} & set(reader.block_lists(model))
    assert code.classes("their_models", ("dits",), "Nobody") == []
    assert code.classes("no_such_package", ("dits",), "Model") == []
    assert "their_models" not in sys.modules


@pytest.mark.libraries
def test_an_engine_that_is_not_installed_is_said_once() -> None:
    engine = next(item for item in engines() if item.transformers_alone)
    text = (
        f"schema: 1\nengines: {{{engine.name}: {{pipelines: [FluxPipeline]}}}}\n"
        "transformers: {transformer: {class: [A], blocks: {b: Pattern_3}}}\n"
    )
    case = cases.Case(
        files={"a.yaml": text.encode(), "b.yaml": text.replace("Flux", "Wan").encode()},
        args=["--deep"],
    )
    messages = [item["message"] for item in cases.findings(case) if item["code"] == "not-checked"]
    assert messages == [
        f"{engine.title} is not installed, so its classes were not looked at",
    ]


@pytest.mark.libraries
def test_sources_of_an_engine_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout with the package in `python/`, named by the variable."""
    engine = next(item for item in engines() if item.transformers_alone)
    package = tmp_path / "python" / engine.packages[0]
    folder = package / engine.class_sources[0]
    folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / engine.class_index).write_text("")
    (folder / "tiny.py").write_text(
        "from torch import nn\n"
        "class Block(nn.Module):\n    def forward(self, hidden_states): return hidden_states\n"
        "class Tiny(nn.Module):\n    def __init__(self):\n"
        "        self.blocks = nn.ModuleList([Block() for _ in range(4)])\n"
        "class TinyPipeline:\n    _required_config_modules = ['transformer']\n"
    )
    monkeypatch.setenv("CACHEDIT_YAML_SOURCES", str(tmp_path))
    text = (
        f"schema: 1\nengines: {{{engine.name}: {{pipelines: [TinyPipeline]}}}}\n"
        "transformers: {transformer: {class: [Tiny], blocks: {blocks: Pattern_3}}}\n"
    )
    for content, message in (
        (text, ""),
        (text.replace("Pattern_3", "Pattern_2"), "has no argument 'encoder_hidden_states'"),
        (text.replace("{blocks:", "{block:"), "has no 'block'; did you mean 'blocks'?"),
    ):
        case = cases.Case(files={"a.yaml": content.encode()}, args=["--deep"])
        found = cases.findings(case)
        assert len(found) == bool(message)
        assert all(message in item["message"] for item in found)
