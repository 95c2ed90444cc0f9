"""``cachedit.yaml`` in a saved model's folder: found, said, checked, and exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

import cachedit_yaml
from cachedit_yaml import AdapterError
from cachedit_yaml.cli import main
from tests import tiny

# What diffusers and numpy say to each other.
pytestmark = [
    pytest.mark.libraries,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

OWN = """\
schema: 1
name: beside
pipelines: [DiTPipeline]
cache: {residual_diff_threshold: 0.99, max_warmup_steps: 2, max_continuous_cached_steps: -1}
transformers:
  transformer:
    class: [DiTTransformer2DModel]
    blocks: {transformer_blocks: Pattern_3}
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    folder = tmp_path / "model"
    tiny.build("DiTPipeline").save_pretrained(folder)
    (folder / "cachedit.yaml").write_text(OWN)
    return folder


def picture(pipe: DiffusionPipeline) -> torch.Tensor:
    with torch.no_grad():
        return tiny.run(pipe, steps=6)


def test_from_pretrained(model: Path) -> None:
    plain = picture(DiffusionPipeline.from_pretrained(model))
    loaded = cachedit_yaml.from_pretrained(model, cache_config={"residual_diff_threshold": 0})
    handle = cachedit_yaml.handle_of(loaded)
    assert handle is not None
    assert handle.plan.spec.name == "beside"
    note = f"{model / 'cachedit.yaml'} lies in the model's folder, and wins over other adapters"
    assert note in handle.plan.notes
    assert torch.equal(picture(loaded), plain)
    assert handle.stats().hit_ratio == 0
    handle.disable()
    assert torch.equal(picture(loaded), plain)
    # One that is named wins, and without the file all is as before.
    named = cachedit_yaml.from_pretrained(model, "dit")
    (model / "cachedit.yaml").unlink()
    for pipe in (named, cachedit_yaml.from_pretrained(model)):
        found = cachedit_yaml.handle_of(pipe)
        assert found is not None
        assert found.plan.spec.name == "dit"
        assert note not in found.plan.notes


def test_run_and_explain(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--model", str(model), "--steps", "6", "--out", str(tmp_path / "out")]
    command += ["--label", "1", "--format", "json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["adapter"] == "beside"
    assert found["stats"]["hit_ratio"] > 0
    assert f"note: {model / 'cachedit.yaml'} lies in the model's folder" in captured.err
    assert main([*command, "--adapter", "dit"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["adapter"] == "dit"
    assert captured.err == ""
    assert main(["explain", "--model", str(model)]) == 0
    assert "lies in the model's folder" in capsys.readouterr().out


def test_check_and_tune(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--pipeline", str(model), "--steps", "6", "--label", "1", "--format", "json"]
    for adapter, name in (([], "beside"), (["dit"], "dit")):
        assert main(["check", *adapter, *command]) == 0
        captured = capsys.readouterr()
        assert [item["adapter"] for item in json.loads(captured.out)["results"]] == [name]
        assert ("lies in the model's folder" in captured.err) == (name == "beside")
    # The name of a shipped one leads to it no more than any other would.
    (model / "cachedit.yaml").write_text(OWN.replace("name: beside", "name: dit"))
    out = tmp_path / "tuned"
    command = ["tune", "--model", str(model), "--steps", "6", "--budget", "4", "--out", str(out)]
    assert main([*command, "--label", "1", "--masks", "--target", "half:blocks=0.7"]) == 0
    assert "lies in the model's folder" in capsys.readouterr().err
    assert (model / "cachedit.yaml").read_text() == OWN.replace("name: beside", "name: dit")
    spec = cachedit_yaml.load_adapter(out / "dit.yaml")
    assert spec.cache.residual_diff_threshold == 0.99  # of the model's folder
    assert "half" in spec.profiles


def test_what_is_wrong_is_said_before_anything_is_loaded(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in model.rglob("*.safetensors"):
        path.unlink()  # so that loading would fail, with another error
    secret = tmp_path / "secret.yaml"
    secret.write_text("schema: 1\npipelines: [SecretPipeline]\n")
    for text, says in (
        (OWN + "profles: {}\n", "cachedit.yaml:9:1"),
        (OWN + "extends: ../secret.yaml\n", "cannot extend '../secret.yaml'"),
        (OWN + "extends: nobody\n", "cannot extend 'nobody'"),
    ):
        (model / "cachedit.yaml").write_text(text)
        with pytest.raises(AdapterError) as caught:
            cachedit_yaml.from_pretrained(model)
        assert says in str(caught.value)
        assert len(caught.value.diagnostics) == 1
        assert main(["run", "--model", str(model), "--label", "1", "--out", str(tmp_path)]) == 1
        said = capsys.readouterr()
        assert says in said.out + said.err
        assert "Secret" not in said.out + said.err
