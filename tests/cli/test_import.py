"""``--import``: models of one's own in every command that looks at classes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cachedit_yaml.cli.main import main

# The models are those of torch and diffusers.
pytestmark = pytest.mark.libraries

ADAPTER = Path(__file__).with_name("own_model.yaml").read_text()
PROBE = """\
probe:
  parts:
    denoiser: {part: ClipDenoiser}
    scheduler: flow
  inputs: {text: {randn: [1, 3, 16]}}
"""


@pytest.fixture(autouse=True)
def folder(own_folder: Path) -> Path:
    """A folder with the module, its adapter, and modules that cannot be imported."""
    (own_folder / "clip.yaml").write_text(ADAPTER + PROBE)
    (own_folder / "broken.py").write_text("x = 1\nraise ValueError('no\\nluck')\n")
    (own_folder / "needs.py").write_text("import no_such_package_of_anybody\n")
    return own_folder


@pytest.mark.parametrize("module", ["clip_model", "clip_model.py", "./clip_model.py"])
def test_check(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "clip.yaml", "--import", module, "--jobs", "1"]) == 0
    assert "1 case proved, 0 failed" in capsys.readouterr().out


def test_the_same_file_twice(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    command = ["validate", "--deep", "clip.yaml"]
    twice = ["--import", "clip_model.py", "--import", str(folder / "clip_model.py")]
    assert main([*command, *twice, "--import", "clip_model"]) == 0
    assert "not looked at" not in capsys.readouterr().out
    assert main([*command, "--import", "clip_model.py"]) == 0  # imported by now
    for name in ("json.py", "sys.py"):
        (folder / name).touch()
        assert main([*command, "--import", name]) == 2
        assert "another module" in capsys.readouterr().err


def test_check_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "clip.yaml"]) == 2
    assert "name its module with --import" in capsys.readouterr().err


def test_deep(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["validate", "--deep", "clip.yaml", "--import", "clip_model"]) == 0
    assert "not looked at" not in capsys.readouterr().out
    wrong = ADAPTER.replace("stack:", "stacks:").replace("denoiser:", "denoisser:")
    (folder / "wrong.yaml").write_text(wrong)
    assert main(["validate", "--deep", "wrong.yaml", "--import", "clip_model"]) == 1
    out = capsys.readouterr().out
    assert "did you mean 'denoiser'" in out
    assert "did you mean 'stack'" in out


def test_doctor(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "clip.yaml").write_text(ADAPTER.replace("ClipPipeline", "ClipBase"))
    with (folder / "clip_model.py").open("a") as file:
        file.write("\n\nclass ClipBase(ClipPipeline):\n    pass\n\n\n")
        file.write("class Derived(ClipBase):\n    pass\n")
    command = ["--adapters", "clip.yaml", "doctor", "--pipeline", "Derived"]
    assert main(command) == 1
    assert main([*command, "--import", "clip_model"]) == 0
    assert "clip.yaml" in capsys.readouterr().out


def test_a_saved_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    sys.path.insert(0, str(folder))
    import clip_model  # type: ignore[import-not-found]

    clip_model.make().save_pretrained(folder / "saved")
    # diffusers imports what the folder names, so that this need not be said again.
    assert main(["explain", "clip.yaml", "--model", "saved"]) == 0
    assert "ClipDenoiser" in capsys.readouterr().out
    call = ["--steps", "4", "--out", "pictures"]
    command = ["run", "--model", "saved", "--adapter", "clip.yaml", *call]
    assert main([*command, "--import", "clip_model"]) == 0
    assert "ClipPipeline needs text: as the probe of clip.yaml has it" in capsys.readouterr().err
    text = ["--arg", "text={randn: [1, 3, 16]}"]
    assert main([*command, *text]) == 0
    assert "wrote pictures/output.safetensors" in capsys.readouterr().out
    assert main([*command, "--arg", "text={randn: [1, width]}"]) == 2
    assert "no field 'width'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("clip_modle", "there is no module 'clip_modle' .*; nearest here: clip_model"),
        ("clip_model.nothing", "there is no module 'clip_model.nothing'"),
        ("nothing.py", "--import nothing.py: does not exist"),
        ("./", "--import .: is no file"),
        ("clip.yaml/", "is no Python module|does not exist"),
        ("broken", r"importing it raised ValueError: no luck \(.*broken.py:2\)"),
        ("broken.py", r"importing it raised ValueError: no luck \(.*broken.py:2\)"),
        ("needs", "importing it raised ModuleNotFoundError: .*no_such_package_of_anybody"),
        ("", "there is no module|Empty module name"),
    ],
)
def test_modules_that_cannot_be_imported(
    module: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "clip.yaml", "--import", module]) == 2
    found = capsys.readouterr().err
    assert re.search(text, found), found
    assert "Traceback" not in found
