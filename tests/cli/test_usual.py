"""Arguments of a call that nobody gave: `run` takes them from a probe, and says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cachedit_yaml.cli.main import main

pytestmark = pytest.mark.libraries

ADAPTER = Path(__file__).with_name("own_model.yaml").read_text()
PROBE = "probe: {inputs: {text: {randn: [1, 3, 16]}}}\n"


@pytest.fixture(autouse=True)
def saved(own_folder: Path) -> Path:
    """A saved model of one's own, and its adapter in a folder."""
    sys.path.insert(0, str(own_folder))
    import clip_model  # type: ignore[import-not-found]

    clip_model.make().save_pretrained(own_folder / "saved")
    (own_folder / "mine").mkdir()
    (own_folder / "mine" / "clip.yaml").write_text(ADAPTER)
    return own_folder


MODEL = ["--model", "saved", "--adapter", "mine/clip.yaml", "--import", "clip_model"]
RUN = ["run", *MODEL, "--steps", "4", "--out", "out"]


@pytest.mark.parametrize("name", ["clip.yaml", "with_probe.yaml"])
def test_the_probe_of_the_adapter_or_of_a_file_beside_it(
    name: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "mine" / "broken.yaml").write_text("schema: [\n")  # nobody asked for that one
    (saved / "mine" / name).write_text(ADAPTER + PROBE)
    assert main(RUN) == 0
    said = capsys.readouterr().err
    assert f"ClipPipeline needs text: as the probe of mine/{name} has it" in said


def test_what_no_probe_has_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 2
    assert "ClipPipeline needs text; give it with --arg NAME=VALUE" in capsys.readouterr().err
