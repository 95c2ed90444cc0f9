"""``tune``: from prompts to profiles in a file, and what is said where that does not go."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cachedit_yaml
from cachedit_yaml import CacheRuntimeError, ConfigError
from cachedit_yaml.cli import main
from cachedit_yaml.generating.likeness import likeness
from cachedit_yaml.tuning import residuals, trace
from cachedit_yaml.tuning.calls import name_of
from cachedit_yaml.tuning.outputs import SHOWN, worst_picture
from cachedit_yaml.tuning.session import Session
from cachedit_yaml.tuning.targets import Measured, Target, choose
from tests import tiny
from tests.demo.pages import read
from tests.permissions import modes_hold

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

STEPS = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small-dit"
    tiny.build("DiTPipeline").save_pretrained(folder)
    return folder


@pytest.fixture
def command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    out = str(tmp_path / "work")
    return ["tune", "--model", str(model), "--steps", str(STEPS), "--budget", "6", "--out", out]


MINE = """\
# Mine.
schema: 1
extends: dit
pipelines: [DiTPipeline]
profiles:   # for everybody
  # The careful one.
  careful: {residual_diff_threshold: 0.01}   # stays
  fast:
    residual_diff_threshold: 0.5   # goes
models: [somebody/something]   # the last line
"""


def test_profiles_go_into_ones_own_file(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE, encoding="utf-8")
    more = [*command, "--adapter", str(path), "--label", "1", "2"]
    assert main([*more, "--dry-run"]) == 0
    assert path.read_text(encoding="utf-8") == MINE
    captured = capsys.readouterr()
    assert "(fast before)" in captured.out
    # What would be written is said, and which speeds were not measured in turns.
    assert f"nothing was written into {path} (--dry-run); it would get:\n" in captured.out
    assert "  quality: new, " in captured.out
    assert "\nprofiles:\n  quality:\n    Fn_compute_blocks: " in captured.out
    rows = [row.split() for row in captured.out.splitlines() if "%" in row and "~" in row]
    assert rows
    assert all(row[0] == "-" or row[0].startswith("(") for row in rows)
    assert "SPEED-UP: ~ of a run by itself" in captured.out
    assert "2 pictures of 16 x 16 beside the uncached ones: PSNR in dB (peak 255)" in captured.out
    assert "trace, 16 steps ..." in captured.err

    # What was measured is not measured again.
    assert main([*more, "--resume"]) == 2
    captured = capsys.readouterr()
    assert "has the profiles fast already; pass --force" in captured.err
    assert "trace" not in captured.err
    assert "check 1," not in captured.err
    assert main([*more, "--resume", "--force"]) == 0
    captured = capsys.readouterr()
    assert "fast: was not measured; now" in captured.out
    again = [*more, "--resume", "--force"]
    assert main(again) == 0
    was = r"fast: was [\d.]+% of blocks, PSNR [\d.]+ dB, 8 steps, 20"
    assert re.search(was, capsys.readouterr().out)

    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Mine.\nschema: 1\nextends: dit\n")
    assert "profiles:   # for everybody\n  # The careful one.\n" in text
    assert "  careful: {residual_diff_threshold: 0.01}   # stays\n  fast:\n" in text
    assert text.endswith("models: [somebody/something]   # the last line\n")
    assert max(map(len, text.splitlines())) <= 100
    assert main(["validate", str(path)]) == 0
    spec = cachedit_yaml.load_adapter(path)
    assert spec.profiles is not None
    measured = spec.profiles["fast"].measured
    assert measured is not None
    assert (measured.model, measured.steps, measured.prompts) == ("small-dit", STEPS, 2)
    assert {item.name for item in (tmp_path / "work").iterdir()} == {
        "README.txt",
        "tuning.json",
        "trace.npz",
        "uncached.npz",
        "worst.npz",
        "frontier.png",
        "report.html",
    }
    # What was measured before the interruption has its picture still.
    kept = json.loads((tmp_path / "work" / "tuning.json").read_text())["measured"]
    text = (tmp_path / "work" / "report.html").read_text(encoding="utf-8")
    assert "<title>DiTPipeline, 8 steps</title>" in text
    page = read(text)
    assert "2 pictures of 16 x 16 beside the uncached ones" in page.text
    assert len(page.points) == len(kept) > 3
    assert len(page.pictures) == 2 * len(kept)
    settings = {row[-1] for row in page.rows}
    assert {item["told"] for item in kept if item["name"]} <= settings - {""}
    assert {item["key"] for item in kept if not item["name"]} <= settings
    assert {f"({item['name']} before)" for item in kept if item["name"]} <= {
        row[0] for row in page.rows
    }
    assert page.charts > 1
    with Image.open(io.BytesIO(page.pictures[0])) as picture:
        assert picture.size == (16, 16)


def test_a_shipped_adapter_gets_a_file_beside_it(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--label", "1", "2", "--masks", "--target", "half:blocks=0.5", "--format", "json"]
    assert main([*command, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profiles"]["half"]["blocks"] <= 0.505
    path = tmp_path / "work" / "dit.yaml"
    assert main(["validate", str(path)]) == 0
    spec = cachedit_yaml.load_adapter(path)
    pipe = tiny.build("DiTPipeline")
    with cachedit_yaml.enable(pipe, spec, profile="half") as handle:
        tiny.run(pipe, steps=STEPS)
        assert handle.stats().computed_fraction <= 0.505


def test_what_was_measured_is_kept(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C in the second check, and on from there."""
    more = [
        *command,
        "--label",
        "1",
        "2",
        "--dry-run",
        "--masks",
        "--target",
        "a:blocks=0.65",
        "--target",
        "b:blocks=0.8",
    ]
    measure = Session.measure

    def interrupted(self: Session, *args: Any, **kwargs: Any) -> Measured:
        if len(self.measured) == 4:
            raise KeyboardInterrupt
        return measure(self, *args, **kwargs)

    monkeypatch.setattr(Session, "measure", interrupted)
    assert main(more) == 130
    assert f"what was measured is in {tmp_path / 'work'}; go on" in capsys.readouterr().err
    kept = json.loads((tmp_path / "work" / "tuning.json").read_text())["measured"]
    assert len(kept) == 4
    monkeypatch.undo()
    assert main([*more, "--resume"]) == 0
    err = capsys.readouterr().err
    assert "trace" not in err
    assert "check 1," not in err
    assert "check 2," in err
    now = json.loads((tmp_path / "work" / "tuning.json").read_text())["measured"]
    assert now[:4] == kept
    assert len(now) > 4


def test_any_pipeline_and_any_call(tmp_path: Path) -> None:
    """Latents, two lists, and a target that nothing reaches."""
    pipe = tiny.build("FluxPipeline")
    call = {**tiny.cases("FluxPipeline")["plain"](pipe), "output_type": "latent"}
    call = {key: value for key, value in call.items() if key != "generator"}
    calls = [{**call, "num_inference_steps": 6, "guidance_scale": scale} for scale in (2.0, 4.0)]
    tiny.run(pipe, steps=2)
    before = {**vars(pipe.transformer)}
    found = cachedit_yaml.tune(
        pipe, calls, ["psnr=199", "some:speed=1.01"], budget=4, folder=tmp_path
    )
    assert vars(pipe.transformer).keys() == before.keys()
    assert cachedit_yaml.handle_of(pipe) is None
    assert found.samples == 2
    assert all(item.likeness.ssim is None for item in found.frontier)
    assert {item.profile for item in found.missed} >= {"psnr-199"}
    assert [item.blocks for item in found.frontier] == sorted(x.blocks for x in found.frontier)
    page = read(found.page())
    assert len(page.points) == len(found.frontier)
    assert not page.pictures
    assert "Nothing reached psnr=199 for the profile psnr-199." in page.text


class Odd:
    """A pipeline whose result is never the same."""

    def __init__(self, pipe: Any) -> None:
        self.__dict__.update(vars(pipe))


def test_bad_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny.build("DiTPipeline")
    call = {"class_labels": [1], "num_inference_steps": STEPS}
    with pytest.raises(ConfigError, match="no calls to tune on"):
        cachedit_yaml.tune(pipe, [])
    with pytest.raises(ConfigError, match=r"other numbers of steps \(4, 8\)"):
        cachedit_yaml.tune(pipe, [call, {**call, "num_inference_steps": 4}])
    with pytest.raises(ConfigError, match="leave it out"):
        cachedit_yaml.tune(pipe, [{**call, "generator": torch.Generator()}])
    with pytest.raises(ConfigError, match=r"did you mean .psnr."):
        cachedit_yaml.tune(pipe, [call], ["pnsr=3"])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        cachedit_yaml.tune(pipe, [call], ["blocks=30"])
    with pytest.raises(ConfigError, match="same profile"):
        cachedit_yaml.tune(pipe, [call], ["a:psnr=30", "a:psnr=40"])
    with pytest.raises(CacheRuntimeError, match=r"DiTPipeline failed: .*nonsense"):
        cachedit_yaml.tune(pipe, [{**call, "nonsense": 1}])
    with pytest.raises(CacheRuntimeError, match="nothing to tune"):
        cachedit_yaml.tune(pipe, [{**call, "num_inference_steps": 1}])
    forward = pipe.transformer.forward

    def noisy(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.sample.add_(torch.randn(output.sample.shape, generator=source))
        return output

    source = torch.Generator()
    monkeypatch.setattr(pipe.transformer, "forward", noisy)
    with pytest.raises(ConfigError, match="two uncached runs of the same call"):
        cachedit_yaml.tune(pipe, [call])

    def broken(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.sample.fill_(float("nan"))
        return output

    monkeypatch.setattr(pipe.transformer, "forward", broken)
    with pytest.raises(ConfigError, match="the uncached result holds NaN or infinity"):
        cachedit_yaml.tune(pipe, [{**call, "output_type": "np"}])


def test_bad_input(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"

    def said(*more: str) -> str:
        assert main([*command, *more]) == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    assert "no prompts to tune on: give --prompts FILE" in said()
    assert "give its name" in said("--label", "1", "--adapter", "-")
    assert "prompts.txt: No such file or directory; give a text file with a prompt in each" in (
        said("--prompts", str(prompts))
    )
    prompts.write_text("# nothing\n\n")
    assert "holds none" in said("--prompts", str(prompts))
    prompts.write_text('{"class_labels": [1}\n')
    assert "prompts.txt:1: no JSON" in said("--prompts", str(prompts))
    lines = [json.dumps({"class_labels": [1], "num_inference_steps": steps}) for steps in (4, 6)]
    prompts.write_text("\n".join(lines))
    assert "other numbers of steps (4, 6); tune for one number at a time" in said(
        "--prompts", str(prompts)
    )
    assert "--budget 0.0" in said("--label", "1", "--budget", "0")
    assert "holds no tuning.json" in said("--label", "1", "--resume")
    assert main([*command, "--label", "1", "--dry-run", "--budget", "3"]) == 0
    assert "one prompt only" in capsys.readouterr().out
    assert "another calls" in said("--label", "2", "--resume")


def test_where_nothing_can_be_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found out before anything runs, and said with the option that names the file."""
    path = tmp_path / "own" / "mine.yaml"
    path.parent.mkdir()

    def said(*more: str, text: str = MINE) -> str:
        path.write_text(text, encoding="utf-8")
        assert main([*command, "--label", "1", "2", *more]) == 2
        err = capsys.readouterr().err
        assert "..." not in err.replace(f"Loading {command[2]} ...", "")  # no phase has begun
        return err

    own = "--adapter", str(path)
    one = MINE.replace("profiles:", "engines: {sglang: {profiles: &p {a: {}}}}\nprofiles: *p #")
    one = one[: one.index("#", 10)] + "\n"
    assert "profiles cannot be put in without a change to something else" in said(*own, text=one)
    with modes_hold():
        path.parent.chmod(0o500)
        try:
            assert main([*command, "--label", "1", *own, "--force"]) == 2
            assert f"--adapter: cannot write to {path.parent}: " in capsys.readouterr().err
            assert main([*command, "--label", "1", "--write", str(path)]) == 2
            assert f"--write: cannot write to {path.parent}: " in capsys.readouterr().err
        finally:
            path.parent.chmod(0o700)


def test_an_adapter_in_the_models_folder(
    command: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the one that is tuned, and it gets the profiles where that is asked for."""
    path = model / "cachedit.yaml"
    path.write_text("{schema: 1, extends: dit, pipelines: [DiTPipeline]}  # mine\n...\n")
    try:
        more = ["--label", "1", "2", "--budget", "4", "--masks", "--target", "half:blocks=0.5"]
        assert main([*command, *more, "--write", str(path)]) == 0
        captured = capsys.readouterr()
        assert f"wrote {path}" in captured.out
        assert "lies in the model's folder" in captured.err
        text = path.read_text(encoding="utf-8")
        assert text.startswith("{schema: 1, extends: dit, pipelines: [DiTPipeline],\n  profiles: {")
        assert text.endswith("  # mine\n...\n")
        assert main(["validate", str(path)]) == 0
        assert cachedit_yaml.load_adapter(path).profiles["half"].measured is not None
    finally:
        path.unlink()


def test_memory_that_does_not_suffice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The trace moves on to the CPU, to the disk, to fewer steps; else it says so."""
    tried = []
    left = 2

    def short_of(*given: Any) -> None:
        tried.append(given[1])
        if len(set(tried)) <= left:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        store(*given)

    store = trace.store
    monkeypatch.setattr(trace, "store", short_of)
    pipe = tiny.build("DiTPipeline")
    calls = [{"class_labels": [label], "num_inference_steps": STEPS} for label in (1, 2)]
    found = cachedit_yaml.tune(pipe, calls, ["a:blocks=0.6"], budget=3)
    assert tuple(dict.fromkeys(tried)) == residuals.RINGS[:3]
    assert "memory did not suffice for the trace: it lies on the disk" in found.notes
    tried.clear()
    left = 99
    with pytest.raises(CacheRuntimeError, match="DiTPipeline is out of memory: RuntimeError: Def"):
        cachedit_yaml.tune(pipe, calls, ["a:blocks=0.6"], budget=3)
    assert tuple(dict.fromkeys(tried)) == residuals.RINGS


def test_a_models_name(tmp_path: Path) -> None:
    place = tmp_path / "models--some--model" / "snapshots" / "0123abc"
    place.mkdir(parents=True)
    names = {str(place): "some/model", str(tmp_path): tmp_path.name, "some/model": "some/model"}
    for given, name in names.items():
        assert name_of(SimpleNamespace(name_or_path=given)) == name
    assert name_of(SimpleNamespace()) == "SimpleNamespace"


def test_the_worst_quarter_decides() -> None:
    def item(blocks: float, *each: float) -> Measured:
        a, b = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
        near = likeness([a], [b])
        near = type(near)(each, min(each), None)
        return Measured({}, f"{blocks}{each}", blocks, 1 / blocks, near)

    ran = [item(0.2, 30, 60), item(0.25, 35, 40), item(0.4, 50, 50), item(0.41, 49, 99)]
    assert choose(Target("a", "psnr", 34), ran) is ran[1]
    assert choose(Target("a", "blocks", 0.41), ran) is ran[2]
    assert choose(Target("a", "speed", 4), ran) is ran[1]
    assert choose(Target("a", "psnr", 51), ran) is None
    # One of eight that takes another turn is half of what counts.
    ran = [item(0.2, 20, 40, *[45] * 6), item(0.2, *[25] * 8)]
    assert choose(Target("a", "blocks", 0.2), ran) is ran[0]


def test_the_worst_picture_is_kept() -> None:
    """Of videos the worst frame of the worst one; of sound none; large ones made smaller."""
    video = np.random.default_rng(5).integers(0, 200, (3, 12, 16, 3), dtype=np.uint8)
    near, far = video.copy(), video.copy()
    near[0] += 1
    far[1] += 9
    far[2] += 50
    reference, made = [video, video], [near, far]
    pair = worst_picture(reference, made, likeness(reference, made))
    assert pair is not None
    assert np.array_equal(pair[0], video[2])
    assert np.array_equal(pair[1], far[2])
    large = np.zeros((SHOWN, 2 * SHOWN, 3), np.uint8)
    pair = worst_picture([large], [large + 1], likeness([large], [large + 1]))
    assert pair is not None
    assert pair.shape == (2, SHOWN // 2, SHOWN, 3)
    sound = [np.linspace(0, 1, 64, dtype=np.float32)]
    assert worst_picture(sound, sound, likeness(sound, sound)) is None
