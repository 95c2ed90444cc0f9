"""``run``: pictures from a small random pipeline, and what is said where it does not go."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from cachedit_yaml.cli import main
from cachedit_yaml.generating.calling import Wishes, build_call, values_of
from cachedit_yaml.generating.loading import UsageError
from tests.demo.pages import read
from tests.tiny import build

# What diffusers and numpy say to each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

LABELS = {"0": "red fox", "1": "panda", "2": "frog"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build("DiTPipeline").save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "id2label": LABELS}))
    return folder


@pytest.fixture
def command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    return ["run", "--model", str(model), "--steps", "6", "--out", str(tmp_path)]


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


def test_pictures_and_numbers(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timeline = tmp_path / "more" / "timeline.png"
    more = ["--label", "Red Fox", "1", "--seed", "5", "--compare", "--timeline", str(timeline)]
    assert main([*command, *more, "--set", "residual_diff_threshold=0.9"]) == 0
    captured = capsys.readouterr()
    names = ["red-fox-5.png", "1-6.png", "compare.png"]
    report = tmp_path / "report.html"
    assert f"wrote {report}" in captured.out
    page = read(report.read_text(encoding="utf-8"))
    assert [row[0] for row in page.rows] == ["uncached", "cached"]
    assert (len(page.pictures), page.charts) == (4, 1)
    for path in [*(tmp_path / name for name in names), timeline]:
        assert f"wrote {path}" in captured.out
        assert len(pixels(path)) >= 16 * 16 * 3
    assert "dit (loop): 6 steps" in captured.out
    assert "x speed-up" in captured.out
    assert "PSNR" in captured.out
    assert "Loading" in captured.err


def test_whatever_comes_out_is_compared(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers from 0 to 1 are pictures; a report needs none."""
    more = ["--label", "1", "--arg", "output_type=np", "--compare"]
    assert main([*command, *more]) == 0
    captured = capsys.readouterr()
    assert "1 picture of 16 x 16 beside the uncached ones: PSNR in dB (peak 255)" in captured.out
    assert "LPIPS not measured: it needs 32 pixels in width and height" in captured.out
    assert sorted(item.name for item in tmp_path.iterdir()) == ["output.safetensors", "report.html"]
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "LPIPS not measured" in page.text
    assert not page.pictures


def test_json(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--label", "2", "--format", "json", "--profile", "fast"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert found["adapter"] == "dit"
    assert found["profile"] == "fast"
    assert found["files"] == [str(tmp_path / "2-0.png")]
    assert found["stats"]["branches"][0]["executed_steps"] == list(range(6))
    assert "compare" not in found


def test_no_hit_is_exact(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--label", "panda", "frog", "--set", "residual_diff_threshold=0"]
    assert main([*command, *more, "--compare", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compare"]["psnr"] is None
    assert found["compare"]["ssim"] == 1.0
    assert found["computed_fraction"] == 1.0


def test_native_is_refused_before_any_picture(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--label", "panda", "--execution", "native", "--compare"]) == 1
    captured = capsys.readouterr()
    assert "native execution would get this wrong" in captured.err
    assert "uncached" not in captured.err
    assert not list(tmp_path.glob("*.png"))


def test_a_picture_does_not_depend_on_those_beside_it(command: list[str], tmp_path: Path) -> None:
    threshold = ["--set", "residual_diff_threshold=0"]
    out = str(tmp_path / "x.png")
    assert main([*command, *threshold, "--label", "0", "1", "--out", out]) == 0
    assert main([*command, *threshold, "--label", "1", "--seed", "1", "--out", out]) == 0
    beside, alone = (pixels(tmp_path / name) for name in ("x-2.png", "x.png"))
    difference = max(abs(a - b) for a, b in zip(beside, alone, strict=True))
    assert difference <= 1  # another batch size may round otherwise


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--label", "fix"], 2, "the model has no class 'fix'; nearest: red fox"),
        (["--label", "xyz"], 2, "some of its 3: "),
        (["--label", "7"], 2, "no class 7; its classes are numbered 0 to 2"),
        ([], 2, "DiTPipeline needs --label"),
        (["--prompt", "a cat"], 2, "takes no prompt, so --prompt does not go with it"),
        (["--label", "1", "--height", "64"], 2, "takes no height, so --height does not"),
        (["--label", "1", "--arg", "guidence_scale=2"], 2, "did you mean guidance_scale?"),
        # Said before the weights are loaded, so first.
        (["--device", "toaster", "--arg", "guidance_scale"], 2, "write KEY=VALUE"),
        (["--label", "1", "--profile", "best"], 2, "no profile 'best'; it has: "),
        (["--label", "1", "--set", "residual=1"], 2, "unknown key 'residual'"),
        (["--label", "1", "--set", "residual_diff_threshold=[1"], 2, "--set"),
        (["--label", "1", "--adapter", "ditt"], 2, "no adapter is called 'ditt'"),
        (["--label", "1", "--adapter", "no.yaml"], 2, "no such file or folder: no.yaml"),
        (["--label", "1", "--adapter", "flux"], 1, "does not fit DiTPipeline"),
        (["--label", "1", "--set", "Fn_compute_blocks=9"], 1, "Fn_compute_blocks 9"),
        (["--label", "1", "--device", "toaster"], 2, "no such device: toaster"),
        (["--label", "1", "--steps", "0"], 2, "a whole number from 1 on, not '0'"),
    ],
)
def test_what_does_not_go(
    command: list[str], more: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *more]) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_what_is_no_picture_is_saved_as_numbers(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--label", "1", "--arg", "output_type=np"]) == 0
    (written,) = re.findall(r"wrote (\S+\.safetensors)", capsys.readouterr().out)
    output = load_file(written)["output"]
    assert output.ndim == 4
    assert output.isfinite().all()


def test_folders_that_hold_no_pipeline(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "model_index.json").write_text("{nonsense")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    cases = {
        tmp_path / "missing": (2, "does not exist"),
        model / "model_index.json": (2, "is a file, not a folder"),
        model / "vae": (2, f"no model_index.json; did you mean {model}?"),
        tmp_path: (2, "no diffusers pipeline"),
        tmp_path / "index": (2, "is not valid JSON"),
        tmp_path / "other": (2, "name its module with --import"),
    }
    for folder, (code, says) in cases.items():
        out = ["--out", str(tmp_path / "out")]
        assert main(["run", "--model", str(folder), "--label", "1", *out]) == code
        assert says in capsys.readouterr().err


def test_no_adapter_for_the_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    capsys.readouterr()
    out = ["--out", str(tmp_path / "out")]
    assert main(["run", "--model", str(tmp_path / "ddpm"), *out]) == 2
    assert "no adapter for the pipeline class 'DDPMPipeline'" in capsys.readouterr().err


def test_out_that_cannot_be_written(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    command = ["run", "--model", str(model), "--label", "1", "--out"]
    for option, says in (
        (["file"], "--out: cannot write to file: file is a file, not a folder"),
        (["file/deeper"], "--out: cannot write to file/deeper: file/deeper is a file"),
        (["new", "--timeline", "folder.png"], "--timeline: cannot write folder.png: it is a fol"),
        (["new", "--timeline", "x.txt"], "--timeline x.txt: a picture ends in .png"),
    ):
        assert main([*command, *option]) == 2
        assert says in capsys.readouterr().err


def test_interruption(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cachedit_yaml.generating.generate.generate", interrupt)
    assert main([*command, "--label", "1"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cachedit-yaml: interrupted"


class _TextPipeline:
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        num_inference_steps: int = 28,
        true_cfg_scale: float = 4.0,
        generator: Any = None,
        output_type: str = "pil",
    ) -> None: ...


class _EditPipeline:
    def __call__(self, image: Any, prompt: str, **more: Any) -> None: ...


def test_calls_of_other_pipelines() -> None:
    wishes = Wishes(prompts=["a cat", "a dog"], guidance=2.5, seed=3, height=64, steps=9)
    call = build_call(_TextPipeline(), wishes)
    assert call.arguments == {
        "prompt": ["a cat", "a dog"],
        "height": 64,
        "num_inference_steps": 9,
        "true_cfg_scale": 2.5,
        "output_type": "pil",
    }
    assert call.seeds == [3, 4]
    assert call.names == ["a cat", "a dog"]
    assert build_call(_TextPipeline(), Wishes(prompts=["x"])).arguments["prompt"] == "x"
    with pytest.raises(UsageError, match="_TextPipeline needs --prompt"):
        build_call(_TextPipeline(), Wishes())
    with pytest.raises(UsageError, match="needs image; give it with --arg"):
        build_call(_EditPipeline(), Wishes(prompts=["x"]))
    call = build_call(_EditPipeline(), Wishes(prompts=["x"], more={"image": 1, "extra": 2}))
    assert call.arguments == {"image": 1, "prompt": "x", "extra": 2}
    assert call.seeds == []
    with pytest.raises(UsageError, match="names no classes; give a number instead of 'fox'"):
        build_call(SimpleNamespace(), Wishes(labels=["fox"]))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            ["a=1", "b=0.5", "c=true", "d=null", "e=x y"],
            {"a": 1, "b": 0.5, "c": True, "d": None, "e": "x y"},
        ),
        (["a={b: [1, 2]}"], {"a": {"b": [1, 2]}}),
        (["a.b=1", "a.c=2"], {"a": {"b": 1, "c": 2}}),
        (["a=x=y"], {"a": "x=y"}),
    ],
)
def test_values(pairs: Sequence[str], expected: dict[str, Any]) -> None:
    assert values_of(pairs, "--set") == expected


@pytest.mark.parametrize("pair", ["a", "=1", "a.=1", "a=1\nb: 2", "a={", "a=!!int 3"])
def test_values_that_cannot_be_read(pair: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        values_of([pair], "--set")
    with pytest.raises(UsageError, match="a has a value already"):
        values_of(["a=1", "a.b=2"], "--set")
