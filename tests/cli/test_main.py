"""The command itself: help, wrong use, exit codes, interruptions, completion."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.cli.main import COMMANDS
from cachedit_yaml.errors import CacheRuntimeError, ConfigError, RefusedError
from tests import processes

ROOT = Path(cachedit_yaml.__file__).parents[1]


def run_process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cachedit_yaml", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        **more,
    )


def fake(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `demo` be a command that raises."""
    module = types.ModuleType("fake")
    vars(module).update(DESCRIPTION="", EPILOG="", add_arguments=lambda parser: None)

    def run(args: Any) -> int:
        raise error

    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "cachedit_yaml.cli.demo", module)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert "examples:" in out
    assert "exit codes: 0 clean, 1 problems found, 2 wrong use, 3 could not run" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"cachedit-yaml {command}" in capsys.readouterr().out.split("examples:")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cachedit-yaml {cachedit_yaml.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "usage: cachedit-yaml"),
        (["vaildate"], "unknown command 'vaildate'; did you mean 'validate'?"),
        (["xyz"], "the commands are validate, list"),
        (["validate", "--fromat", "json"], "arguments: --fromat; did you mean '--format'?"),
        (["validate", "--format", "xml"], "invalid choice: 'xml'"),
        (["list", "--format", "jsn"], "did you mean 'json'?"),
        (["show", "flux", "--engine", "difusers"], "did you mean 'diffusers'?"),
        (["--unknown"], "--unknown"),
        (["--adapters"], "expected one argument"),
        (["show"], "required: ADAPTER_OR_PATH"),
    ],
)
def test_wrong_use(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError("no such profile"), 2, "error: no such profile"),
        (RefusedError("not this one"), 1, "error: not this one"),
        (CacheRuntimeError("lost the clock"), 3, "error: lost the clock"),
        (OSError(28, "No space left"), 3, "No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModuleNotFoundError("No module named 'torch'"), 3, "cachedit-yaml[demo]"),
        (SystemExit("stop it"), 3, "stop it"),
        (SystemExit(None), 0, ""),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(monkeypatch, error)
    assert main(["demo"]) == code
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) <= 2


def test_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert main(["demo"]) == 3
    assert "pip install 'cachedit-yaml[demo]'" in capsys.readouterr().err
    assert main(["--help"]) == 0
    fake(monkeypatch, ModuleNotFoundError("No module", name="cachedit_yaml.none"))
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_adapters_before_and_behind_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"my-{name}.yaml").write_text(
            f"schema: 1\npipelines: [My{name}]\nrefuse: because\n"
        )
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert main(["--adapters", one, "list", "--adapters", two]) == 0
    out = capsys.readouterr().out
    assert "my-one" in out
    assert "my-two" in out
    assert main(["--adapters", str(tmp_path / "none"), "list"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    out = capsys.readouterr().out
    assert "validate" in out
    assert "cachedit-yaml list --format names" in out
    assert "quality balanced fast" in out
    assert "vllm_omni" in out


def test_names_complete_in_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    command = tmp_path / "cachedit-yaml"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cachedit_yaml "$@"\n')
    command.chmod(0o755)
    (tmp_path / "flags").touch()
    done = subprocess.run(
        ["bash", "-c", "source ./script; _cachedit_yaml_adapters fl; _cachedit_yaml_profiles q"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )
    assert {"flux", "flux2", "flags", "quality"} <= set(done.stdout.split())
    assert "wan" not in done.stdout.split()


def test_completion_without_shtab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 3
    err = capsys.readouterr().err
    assert "'--print-completion' cannot run" in err
    assert "cachedit-yaml[cli]" in err


def test_as_a_process(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("schema: 1\npiplines: [A]\n")
    done = run_process("validate", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "bad.yaml:2:1: error[unknown-key]: unknown key 'piplines'" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for index in range(60):
        (tmp_path / f"{index}.yaml").write_text("zzz: 1\n" * 40)
    command = f'"{sys.executable}" -m cachedit_yaml validate "{tmp_path}" | head -n 1'
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_an_ascii_terminal_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schema: 1\n模型: 1\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "cachedit_yaml", "validate", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 1
    assert "\\u6a21" in done.stdout
    assert done.stderr == ""


def test_validate_imports_nothing_heavy() -> None:
    out, imported = processes.heavy("from cachedit_yaml.cli import main; main(['validate'])")
    assert "no problems" in out
    assert imported == []
