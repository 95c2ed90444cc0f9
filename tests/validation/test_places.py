"""Where `validate` runs: in a workflow, before a commit, in an editor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cachedit_yaml.language.schemas import schema_path
from cachedit_yaml.registry.search_path import kind_of

ROOT = Path(__file__).parents[2]
GOOD = "schema: 1\npipelines: [MyPipeline]\ntransformers: {t: {blocks: {b: Pattern_1}}}\n"
WARNING = GOOD + "cache: {max_cached_steps: 0}\n"
ADAPTERS = sorted((ROOT / "adapters").rglob("*.yaml"))


def action() -> dict[str, Any]:
    data = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def run_step(name: str, folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run one step of the action as a runner does: `bash -eo pipefail`, inputs put in."""
    data = action()
    step = next(item for item in data["runs"]["steps"] if item["name"] == name)
    values = {key: item.get("default", "") for key, item in data["inputs"].items()}
    values |= {"python": sys.executable, **inputs}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GITHUB_ACTIONS": "true"}
    for key, value in step["env"].items():
        filled = re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: values[match[1]], value)
        env[key] = filled.replace("${{ github.action_path }}", str(ROOT))
    # Nothing of the inputs may stand in the script itself: that would run it.
    assert "${{" not in step["run"]
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        capture_output=True, text=True, cwd=folder, env=env,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "good.yaml").write_text(GOOD)
    (tmp_path / "odd one.yaml").write_text(WARNING.replace("MyP", "YourP"))
    (tmp_path / "bad.yaml").write_text(GOOD.replace("MyP", "TheirP") + "oops: 1\n")
    return tmp_path


def test_the_action_validates(folder: Path) -> None:
    done = run_step("Validate", folder)
    assert (done.returncode, done.stdout) == (0, "1 file, no problems\n"), done.stderr
    done = run_step("Validate", folder, paths="adapters\nbad.yaml\n")
    assert done.returncode == 1
    assert "::error file=bad.yaml,line=4" in done.stdout
    done = run_step("Validate", folder, paths="*.yaml adapters")
    assert done.stdout.endswith("3 files, 1 error, 1 warning\n")
    assert run_step("Validate", folder, paths="odd*.yaml").returncode == 0
    assert run_step("Validate", folder, paths="odd*.yaml", strict="true").returncode == 1
    assert run_step("Validate", folder, paths="nowhere").returncode == 2


def test_the_action_writes_sarif(folder: Path) -> None:
    done = run_step("Write SARIF", folder, paths="bad.yaml", sarif="out.sarif")
    assert done.returncode == 0, done.stderr
    data = json.loads((folder / "out.sarif").read_text())
    assert data["runs"][0]["results"][0]["ruleId"] == "CY101"
    assert run_step("Write SARIF", folder, paths="nowhere", sarif="x.sarif").returncode == 2


def test_what_an_input_holds_is_not_run(folder: Path) -> None:
    for paths in ("$(touch owned)", "; touch owned", "`touch owned`", "--output=owned"):
        assert run_step("Validate", folder, paths=paths).returncode == 2
        assert run_step("Write SARIF", folder, paths=paths, sarif="x").returncode == 2
    for text in ("$(touch owned)", "; touch owned", "`touch owned`", "--fix", "' ; touch owned; '"):
        run_step("Write SARIF", folder, paths="bad.yaml", sarif=text)
        run_step("Validate", folder, paths="bad.yaml", strict=text)
    assert (folder / "bad.yaml").read_text().endswith("oops: 1\n")
    assert not (folder / "owned").exists()


def test_the_hooks_of_pre_commit_are_commands_of_ours() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["cachedit-yaml", "cachedit-yaml-fix"]
    for hook in hooks:
        command, *arguments = hook["entry"].split()
        assert command == "cachedit-yaml"
        pattern = re.compile(hook["files"])
        assert pattern.search("adapters/vllm_omni/bagel.yaml")
        assert not pattern.search("docs/a.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "cachedit_yaml", *arguments, str(ADAPTERS[0])],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_a_file_is_no_option_of_a_hook(folder: Path) -> None:
    """As pre-commit calls it: the entry, the user's arguments, then names of files."""
    text = GOOD.replace("MyP", "OtherP")
    (folder / "--output=x").mkdir()
    names = ["--output=owned.yaml", "--output=x/a.yaml", "--fix", "-"]
    for name in names[:2]:
        (folder / name).write_text(text.replace("OtherP", "A" + "x"[: len(name) % 2] + "P"))
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        _, *arguments = [*hook["entry"].split(), *hook.get("args", [])]
        done = subprocess.run(
            [sys.executable, "-m", "cachedit_yaml", *arguments, *names[:2], "adapters/good.yaml"],
            capture_output=True, text=True, check=False, cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.stdout == "3 files, no problems\n", done.stdout + done.stderr
    assert not (folder / "owned.yaml").exists()


def test_an_editor_knows_the_schema_of_every_shipped_file() -> None:
    said = json.loads((ROOT / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    kinds = set()
    for path in ADAPTERS:
        file = path.relative_to(ROOT)
        found = []
        for schema, patterns in said.items():
            each = [patterns] if isinstance(patterns, str) else patterns
            if any(file.match(item) for item in each if not item.startswith("!")) and not any(
                file.match(item[1:]) for item in each if item.startswith("!")
            ):
                found.append((ROOT / schema).resolve())
        assert found == [schema_path(kind_of(path))], path
        kinds.add(kind_of(path))
    assert kinds == {"adapter", "defaults", "probe"}


def test_the_entry_for_the_catalogue_of_schemas() -> None:
    entry = json.loads((ROOT / "schemas" / "schemastore.json").read_text())
    assert set(entry) == {"name", "description", "fileMatch", "url"}
    assert entry["url"].endswith(f"cachedit-yaml-{schema_path().name}")
    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    for name in ("title", "description", "examples"):
        assert schema[name]
