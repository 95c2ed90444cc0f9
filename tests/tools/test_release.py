"""What is released and the workflows that do it: build, twine, zizmor and actionlint."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import cachedit_yaml
from tests import processes

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*command: str | Path, cwd: Path = ROOT) -> tuple[int, str]:
    done = processes.run([str(item) for item in command], cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def tracked(*folders: str) -> set[str]:
    """The files of git in folders, or all of them."""
    code, out = run("git", "ls-files", "-z", "--", *folders)
    assert code == 0, out
    return {name for name in out.split("\0") if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    pinned = {**os.environ, "PIP_CONSTRAINT": str(ROOT / ".ci" / "constraints.txt")}
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = processes.run(command, env=pinned)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_package_the_adapters_and_the_schemas(built: Path) -> None:
    (path,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    about = f"cachedit_yaml-{cachedit_yaml.__version__}.dist-info/"
    held = {name for name in names if not name.startswith(about)}
    beside = {f"cachedit_yaml/{name}" for name in tracked("adapters", "schemas")}
    assert held == tracked("cachedit_yaml") | beside
    assert len(beside) > 100
    notices = [f"cachedit_yaml/generating/demo/{name}/NOTICE" for name in ("model", "model_flux")]
    for licence in ("LICENSE", *notices):
        assert f"{about}licenses/{licence}" in names
    told = message_from_string(zipfile.ZipFile(path).read(f"{about}METADATA").decode())
    assert told["Version"] == cachedit_yaml.__version__
    assert told["License-Expression"] == "Apache-2.0"
    needed = [item for item in told.get_all("Requires-Dist", []) if "extra ==" not in item]
    assert sorted(item.split(">")[0] for item in needed) == ["jsonschema", "packaging", "pyyaml"]


def test_the_sdist_holds_the_sources_the_tests_and_the_pages(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {item.name.partition("/")[2] for item in archive if item.isfile()}
    folders = tracked("cachedit_yaml", "adapters", "schemas", "tests", "docs")
    files = {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CITATION.cff"}
    made = {"PKG-INFO", "pyproject.toml", ".gitignore"}
    assert names == folders | files | made


def test_twine_finds_nothing(built: Path) -> None:
    code, out = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
    assert code == 0, out
    assert out.count("PASSED") == 2


def test_zizmor_finds_nothing_in_workflows_and_action() -> None:
    assert len(WORKFLOWS) == 3
    code, out = run("zizmor", "--offline", "--no-progress", ".")
    assert code == 0, out
    assert "No findings to report" in out


def actionlint(*files: Path) -> tuple[int, str]:
    found = shutil.which("yaml-language-server")
    assert found is not None
    package = Path(found).parents[1] / "actionlint"
    return run("node", Path(__file__).parent / "workflow_lint.cjs", package, *files)


def test_actionlint_finds_nothing() -> None:
    assert actionlint(*WORKFLOWS) == (0, "")


def test_both_find_what_is_wrong(tmp_path: Path) -> None:
    """A release that waits for a job that there is not, with an action that may change."""
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    bad = tmp_path / ".github" / "workflows" / "release.yml"
    bad.parent.mkdir(parents=True)
    head, _, tail = release.replace("[ci, build]", "[ci, bild]").partition("pypi-publish@")
    bad.write_text(head + "pypi-publish@release/v1" + tail[40:], encoding="utf-8")
    code, out = actionlint(bad)
    assert code == 1
    assert 'needs job "bild" which does not exist' in out
    code, out = run("zizmor", "--offline", "--no-progress", ".", cwd=tmp_path)
    assert code != 0
    assert "error[unpinned-uses]" in out
