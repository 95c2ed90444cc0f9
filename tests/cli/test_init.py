"""``cachedit-yaml init``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.cli.main import main

# The models are those of torch and diffusers.
pytestmark = pytest.mark.libraries

TEXT = ["--arg", "text={randn: [1, 3, 16]}"]
MORE = """
import torch

def call(pipe):
    generator = torch.Generator().manual_seed(0)
    return pipe(torch.ones(1, 3, 16), num_inference_steps=3, generator=generator)

def alone():
    return make().denoiser

def broken():
    raise ValueError("no luck")

class Heads(ClipDenoiser):
    def forward(self, noisy, level, text):
        when, total = self.clock(level[:, None] / 1000), 0
        for block in self.stack:
            noisy = block(noisy, text, when)
            total = total + noisy.mean()
        return self.out(noisy) + total

def heads():
    pipe = make()
    pipe.denoiser.__class__ = Heads
    return pipe
"""


@pytest.fixture(autouse=True)
def folder(own_folder: Path) -> Path:
    """A folder with a model of one's own and more beside it, as the current one."""
    with (own_folder / "clip_model.py").open("a") as file:
        file.write(MORE)
    (own_folder / "dangling").symlink_to("nowhere")
    (own_folder / "out").symlink_to(__file__)
    return own_folder


def test_a_saved_folder_and_a_call_of_ones_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.insert(0, str(folder))
    import clip_model  # type: ignore[import-not-found]

    clip_model.make().save_pretrained(folder / "saved")
    assert main(["init", "saved", "--import", "clip_model", *TEXT, "-o", "a.yaml"]) == 0
    assert "exact     yes" in capsys.readouterr().out
    assert main(["init", "clip_model:make", "--call", "clip_model:call", "-o", "b.yaml"]) == 0
    first, second = ((folder / name).read_text() for name in ("a.yaml", "b.yaml"))
    assert first.replace("4 steps", "3 steps") == second
    assert main(["validate", "a.yaml"]) == 0


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "clip_model:make", *TEXT, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["adapter"]["transformers"]["denoiser"]["timestep"] == "level"
    assert found["proved"]
    assert found["refused"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip_model:mak", *TEXT], "clip_model has no 'mak'; did you mean 'make'?"),
        (["clip_model:"], "write module:callable"),
        (["clip_model:broken"], "clip_model:broken raised ValueError: no luck"),
        (["os:getcwd"], "TARGET os:getcwd gives a str, which cannot be called; name a function"),
        (["clip_model:alone"], "makes a ClipDenoiser, a transformer alone: say how it is run"),
        (["clip_model:make"], "ClipPipeline needs text; give it with --arg NAME=VALUE"),
        (["FluxPipelin"], "FluxPipeline"),
        (["no/such/folder"], "TARGET no/such/folder does not exist"),
        (["clip_model:make", *TEXT, "-o", "no/such.yaml"], "there is no folder no"),
        (["clip_model:make", *TEXT, "-o", "clip_model.py"], "-o: clip_model.py exists; --force"),
        (["clip_model:make", *TEXT, "--output", "."], "--output: cannot write .: it is a folder"),
        (["clip_model:make", *TEXT, "-o", "x" * 300], "File name too long"),
        (["clip_model:make", *TEXT, "-o", "dangling"], "a link to nowhere, which does not exist"),
        (["clip_model:make", *TEXT, "-o", "out", "--force"], "is a link out of its folder"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", *arguments]) in (2, 3)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_what_is_not_proved_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "clip_model:heads", *TEXT, "-o", "heads.yaml"]) == 1
    said = capsys.readouterr().out
    assert "NOT PROVED: values; do not use it as it stands" in said
    first = (folder / "heads.yaml").read_text().split("\n")[0]
    assert first.startswith("# NOT PROVED: values: denoiser: a cached step differs from the comput")
