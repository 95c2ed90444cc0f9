"""Names of classes: looked up in sources, without an import, fast and silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachedit_yaml.engines.protocol import Engine
from cachedit_yaml.rules import classes
from cachedit_yaml.rules.classes import Package, installed, misspelled
from tests import processes


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "their_package"
    (folder / "models" / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        'raise RuntimeError("never imported")\n_names = ["QwenImagePipeline", "Flux2Pipeline", '
        '"WanPipeline", '
        '"QwenImageTransformer2DModel"]\n'
    )
    (folder / "models" / "deep" / "a.py").write_text(
        "class QwenImageTransformerBlock(nn.Module):\n    class Inner:\n        pass\n"
        "class QuenImagePipeline:\n    pass\n"
    )
    return Package("their_package", "theirs", folder, "__init__.py", ("models",))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("QwenImagePipeline", None),
        ("QwenImagPipeline", "QwenImagePipeline"),
        ("QwenImgaePipeline", "QwenImagePipeline"),
        ("QwenimagePipeline", "QwenImagePipeline"),
        ("QwenImagePipelin", "QwenImagePipeline"),
        ("FooPipelin", None),
        ("WanPipelin", "WanPipeline"),
        ("QwenImageTransformer3DModel", None),
        ("FluxPipeline", None),
        ("MyPipeline", None),
        ("QuenImagePipeline", None),
        ("SomethingElsePipeline", None),
    ],
)
def test_misspelled(package: Package, name: str, near: str | None) -> None:
    assert misspelled(name, [package]) == near


def test_blocks_are_exported_nowhere(package: Package) -> None:
    assert misspelled("QwenImageTransformerBlok", [package], exported=False) == (
        "QwenImageTransformerBlock"
    )
    assert misspelled("QwenImageTransformerBlock", [package], exported=False) is None
    assert misspelled("QwenImageTransformerBlok", [], exported=False) is None


def test_what_was_read_is_kept_until_a_file_changes(package: Package, tmp_path: Path) -> None:
    assert "QwenImageTransformerBlock" in package.defined
    kept = list((tmp_path / "cache" / "cachedit-yaml").iterdir())
    assert len(kept) == 1

    def again() -> frozenset[str]:
        return Package("p", "theirs", package.folder, "__init__.py", ("models",)).defined

    before = kept[0].stat().st_mtime_ns
    assert again() == package.defined
    assert kept[0].stat().st_mtime_ns == before
    (package.folder / "models" / "b.py").write_text("class New: ...\n")
    assert again() == package.defined | {"New"}
    kept[0].write_text("no json")
    assert again() == package.defined | {"New"}
    kept[0].write_text("[]")
    assert again() == package.defined | {"New"}


def test_a_cache_that_cannot_be_written_is_no_problem(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "QwenImageTransformerBlock" in package.defined


def test_an_index_that_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    package = Package("p", "theirs", tmp_path, "none.py", ("models",))
    assert package.exported == package.defined == frozenset()


@pytest.mark.libraries
def test_the_real_diffusers_is_found_and_not_imported() -> None:
    names = {package.name for package in installed()}
    assert "diffusers" in names
    diffusers = next(package for package in installed() if package.name == "diffusers")
    assert {"FluxPipeline", "FluxTransformer2DModel"} <= diffusers.exported
    assert "FluxTransformerBlock" in diffusers.defined


@pytest.mark.libraries
def test_validate_imports_neither_torch_nor_diffusers(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "schema: 1\npipelines: [QwenImagPipeline]\ntransformers:\n  transformer:\n"
        "    blocks: {b: {pattern: Pattern_1, class: [FluxTransformerBlok]}}\n"
    )
    code = f"from cachedit_yaml.cli import main; main(['validate', {str(path)!r}])"
    out, imported = processes.heavy(code)
    assert out.count("misspelled-class") == 2
    assert imported == []


class NoSuchEngine(Engine):
    name = title = "x"
    packages = ("no_such_package",)
    class_index = "__init__.py"


def test_without_the_packages_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cachedit_yaml.cli import main

    monkeypatch.setattr(classes, "engines", lambda: (NoSuchEngine(),))
    classes._installed.cache_clear()
    try:
        path = tmp_path / "a.yaml"
        path.write_text("schema: 1\npipelines: [QwenImagPipeline]\nrefuse: for an example\n")
        assert main(["validate", str(path)]) == 0
        assert capsys.readouterr().out == "1 file, no problems\n"
    finally:
        classes._installed.cache_clear()


def test_sections_are_silent_where_the_engine_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cachedit_yaml.cli import main

    packages = tuple(package for package in installed() if package.name == "diffusers")
    monkeypatch.setattr("cachedit_yaml.rules.class_names.installed", lambda: packages)
    section = "engines: {vllm_omni: {pipelines: [QwenImagPipeline]}}\n"
    (tmp_path / "a.yaml").write_text("schema: 1\nrefuse: x\n" + section)
    assert main(["validate", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 file, no problems\n"
