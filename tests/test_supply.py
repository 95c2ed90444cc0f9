"""What this package loads, trusts and brings along."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "cachedit_yaml").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"),
           *(ROOT / "fuzz").rglob("*.py")]  # fmt: skip
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
#: Arguments of which one value trusts what a file says.
TRUSTING = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def trusts(tree: ast.AST) -> Iterator[str]:
    """Where code loads a pickle, or lets another library do so."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [item.name for item in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name for name in names if name.partition(".")[0] in PICKLES)
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "yaml", "torch.hub"):
                yield from (item.name for item in node.names if "load" in item.name)
        elif isinstance(node, ast.Constant) and node.value in ("__import__", "__reduce__"):
            yield str(node.value)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("torch.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "eval"):
                yield called
            for item in node.keywords:
                value = item.value.value if isinstance(item.value, ast.Constant) else None
                if item.arg in TRUSTING and value is TRUSTING[item.arg]:
                    yield f"{called}({item.arg}={value})"
            if called.endswith("DiffusionPipeline.from_pretrained"):
                safe = {item.arg for item in node.keywords}
                if "use_safetensors" not in safe:
                    yield called


def test_no_pickle_is_loaded_anywhere() -> None:
    assert len(SOURCES) > 200
    for path in SOURCES:
        assert list(trusts(ast.parse(path.read_text(encoding="utf-8")))) == [], path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import joblib.x", "torch.load(path)",
        "np.load(path, allow_pickle=True)", "f(trust_remote_code=True)", "g(weights_only=False)",
        "diffusers.DiffusionPipeline.from_pretrained(folder)", "from torch import load",
        "getattr(builtins, '__import__')",
    ],
)  # fmt: skip
def test_the_scan_finds_one(code: str) -> None:
    assert list(trusts(ast.parse(code)))


def test_all_data_of_the_wheel_has_a_licence_that_is_named() -> None:
    package = ROOT / "cachedit_yaml"
    models = [package / "generating" / "demo" / name for name in ("model", "model_flux")]
    own = {"probe/library.yaml", "py.typed"}
    own |= {f"generating/demo/{name}-demo.yaml" for name in ("dit", "flux")}
    own |= {f"engines/{name}/cache_config.schema.json" for name in ("cache_dit", "vllm_omni")}
    for path in package.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            of_model = any(model in path.parents for model in models)
            assert of_model or path.relative_to(package).as_posix() in own
    pickles = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz"}
    assert [path for path in package.rglob("*") if path.suffix in pickles] == []
    said = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert "Fluent Emoji artwork (MIT" in said
    pinned = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for model in models:
        assert "MIT License" in (model / "NOTICE").read_text(encoding="utf-8")
        assert f'"{(model / "NOTICE").relative_to(ROOT).as_posix()}"' in pinned
        size = sum(path.stat().st_size for path in model.rglob("*.safetensors"))
        assert size <= 12_000_000, model


def test_security_points_to_the_promises() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
