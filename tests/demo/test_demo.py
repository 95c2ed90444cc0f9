"""The demo: its files, its numbers, its pictures."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from cachedit_yaml.api import load_adapter
from cachedit_yaml.cli import main
from cachedit_yaml.generating import drawing
from cachedit_yaml.generating.demo import captions, data, showcase
from cachedit_yaml.generating.demo.models import DIT, FLUX, MODELS, Model
from cachedit_yaml.generating.generate import call_pipeline, watch_steps
from cachedit_yaml.generating.page import Report, render
from cachedit_yaml.generating.progress import progress
from cachedit_yaml.generating.quality import compare
from cachedit_yaml.generating.sheet import Row, draw_sheet
from cachedit_yaml.generating.timeline import Panel, Shape, draw_timeline
from cachedit_yaml.runtime.stats import BranchStats
from tests.demo.pages import read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def noise(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("model", MODELS)
def test_demo(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "new" / "demo")
    assert main(["demo", "--model", model, "--quick", "--steps", "8", "--out", out]) == 0
    captured = capsys.readouterr()
    files = {path.name: path for path in (tmp_path / "new" / "demo").iterdir()}
    assert set(files) == {"compare.png", "timeline.png", "report.json", "report.html"}
    for path in files.values():
        assert f"wrote {path}" in captured.out
    report = json.loads(files["report.json"].read_text())
    assert report["uncached_seconds"] > 0
    assert report["model"] == model
    assert [item["name"] for item in report["profiles"]] == ["quality", "balanced", "fast"]
    for item in report["profiles"]:
        assert {"name", "seconds", "speedup", "psnr", "ssim", "computed_fraction"} <= set(item)
        assert 0 < item["computed_fraction"] <= 1
        assert item["name"] in captured.out
    page = read(files["report.html"].read_text(encoding="utf-8"))
    assert [row[0] for row in page.rows] == ["uncached", "quality", "balanced", "fast"]
    assert page.points == ["0", "1", "2"]
    # Two pictures in four rows, and the worst pair of each profile.
    assert len(page.pictures) == 2 * 4 + 2 * 3
    assert page.charts >= 1 + 3
    fractions = [item["computed_fraction"] for item in report["profiles"]]
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[-1] < 1
    with Image.open(files["compare.png"]) as picture:
        assert picture.height > 4 * 192
    with Image.open(files["timeline.png"]) as picture:
        assert picture.width > 1500
    assert "2 pictures at 8 steps" in captured.out
    assert captured.err.splitlines()[:2] == ["Loading the model ...", "uncached, 8 steps ..."]


def test_no_hit_is_exact() -> None:
    with progress(quiet=True) as start:
        demo = showcase.run_demo(
            DIT.load(),
            DIT.adapter,
            steps=4,
            labels=showcase.LABELS[:1],
            profiles=["fast"],
            cache_config={
                "residual_diff_threshold": 0,
                "scm": None,
                "Fn_compute_blocks": 1,
            },
            start=start,
        )
    (outcome,) = demo.outcomes
    assert outcome.quality.psnr is None
    assert outcome.stats.computed_fraction == 1.0
    assert demo.report()["profiles"][0]["psnr"] is None
    for first, second in zip(demo.uncached.images, outcome.generated.images, strict=True):
        assert first.tobytes() == second.tobytes()


def test_labels_are_classes_of_the_model() -> None:
    index = json.loads((DIT.folder / "model_index.json").read_text())
    assert set(showcase.LABELS) <= set(index["id2label"].values())


@pytest.mark.parametrize("model", MODELS.values())
def test_adapter_is_clean_and_has_the_profiles(model: Model) -> None:
    assert main(["validate", "--strict", str(model.adapter)]) == 0
    assert tuple(load_adapter(model.adapter).profiles) == showcase.PROFILES


def test_words_of_the_second_model() -> None:
    words = set(captions.vocabulary())
    assert set(showcase.LABELS) <= set(data.CLASSES) <= words
    assert set(captions.COLOURS) <= words
    pipeline = FLUX.load()
    assert type(pipeline).__name__ == "FluxPipeline"
    said = ["a cool smiley on pink", "", "a bogus word", "a cat " * 9]
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        found = tokenizer(
            said, padding="max_length", max_length=captions.LENGTH, truncation=True
        ).input_ids
        assert found == [captions.tokens_of(text) for text in said]
    assert len(pipeline.transformer.transformer_blocks) == 8
    assert len(pipeline.transformer.single_transformer_blocks) == 8


def test_out_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"cachedit-yaml: error: --out: cannot write to {tmp_path / 'file'}: "
        f"{tmp_path / 'file'} is a file, not a folder"
    ]


def test_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "load", lambda self: None)
    monkeypatch.setattr(showcase, "labels_of", lambda pipeline: list(showcase.LABELS))
    monkeypatch.setattr(showcase, "run_demo", interrupt)
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cachedit-yaml: interrupted"


def test_quality() -> None:
    first, second = noise(1), noise(2)
    assert compare([first], [first]).psnr is None
    assert compare([first], [first]).ssim == 1.0
    off = Image.fromarray(np.asarray(first) // 2 + 60)
    one = compare([first], [off])
    error = np.mean((np.asarray(first, float) - np.asarray(off, float)) ** 2)
    assert one.psnr == pytest.approx(10 * math.log10(255**2 / error))
    # Over all pictures: half of the pixels are equal.
    both = compare([first, second], [off, second])
    assert both.psnr == pytest.approx(one.psnr + 10 * math.log10(2))
    assert both.ssim == pytest.approx((one.ssim + 1) / 2)
    with pytest.raises(ValueError, match="same sizes"):
        compare([first], [noise(1, 16)])


def test_sheet_takes_other_shapes() -> None:
    rows = [Row("a row", ["one", "two"], [noise(1, 64, 32), noise(2, 32, 64)])]
    sheet = draw_sheet("t" * 400, ["c" * 90, "short"], rows, side=64)
    assert sheet.height > 128
    assert sheet.width < 600


def test_timeline_shows_what_ran() -> None:
    def branch(name: str, path: str = "blocks") -> BranchStats:
        return BranchStats(
            transformer="transformer_2",
            blocks=path,
            branch=name,
            executed_steps=(0, 1, 3),
            cached_steps=(1,),
            residual_diffs={1: 0.1, 3: 0.3},
            threshold=0.2,
            computed_blocks=9,
            total_blocks=12,
        )

    branches = [branch("cond"), branch("uncond"), branch("cond", "a_list_with_a_very_long_name")]
    shapes = {("transformer_2", "blocks"): Shape(4, 1, 1, 3)}
    picture = draw_timeline("title", [Panel("name", "note", 4, branches, shapes)])
    colors = {color for _, color in picture.getcolors(1 << 24) or ()}
    assert (0x2B, 0x6C, 0xB0) in colors
    assert (0xFB, 0xD3, 0x8D) in colors
    one = draw_timeline("title", [Panel("name", "note", 4, branches[:1], shapes)])
    assert one.height < picture.height
    # A list that follows another one has no differences of its own.
    follower = dataclasses.replace(branches[0], residual_diffs={}, follows="blocks")
    without = draw_timeline("title", [Panel("name", "note", 4, [follower], shapes)])
    assert without.height < one.height
    below = without.crop((0, 128, without.width, without.height))  # without the legend
    colors = {color for _, color in below.getcolors(1 << 24) or ()}
    assert tuple(bytes.fromhex(drawing.THRESHOLD[1:])) not in colors


def test_a_static_mask_has_no_differences_to_draw() -> None:
    """No threshold decides, so none is drawn, and no panel stands empty."""
    drawn = {}
    for diffs in ({1: 0.1}, {}):
        steps = (0, 1), (1,)
        branch = BranchStats("transformer", "blocks", "one", *steps, diffs, 0.2, 4, 8)
        shapes = {("transformer", "blocks"): Shape(4, 0, 0)}
        panel = Panel("name", "note", 2, [branch], shapes)
        drawn[bool(diffs)] = panel.height, draw_timeline("title", [panel])
        page = render(Report("title", "lead", panels=[panel]))
        assert ("threshold, below which" in page) == bool(diffs)
        assert ('class="threshold"' in page) == bool(diffs)
    assert drawn[False][0] < drawn[True][0] - 60
    colours = {key: set(picture.get_flattened_data()) for key, (_, picture) in drawn.items()}
    red = ImageColor.getrgb(drawing.THRESHOLD)
    assert red in colours[True]
    assert red not in colours[False]


def test_steps_are_watched() -> None:
    class Pipeline:
        def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
            raise AssertionError

    seen: list[tuple[int, int | None]] = []
    pipeline = Pipeline()
    with watch_steps(pipeline, lambda done, total: seen.append((done, total))):
        bar: Any = pipeline.progress_bar
        assert list(bar(["a", "b"])) == ["a", "b"]
        with bar(total=3) as steps:
            steps.set_postfix(loss=1)
            steps.update()
    assert seen == [(1, 2), (2, 2), (1, 3)]
    assert "progress_bar" not in vars(pipeline)
    pipeline.progress_bar = "own"  # type: ignore[assignment]
    with watch_steps(pipeline, lambda done, total: None):
        pass
    assert vars(pipeline) == {"progress_bar": "own"}


def test_times_on_a_cpu_are_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that takes the core would else make a profile 14 times as fast."""
    ticks = iter((10.0, 12.5))
    monkeypatch.setattr("time.process_time", lambda: next(ticks))
    assert call_pipeline(lambda: "made", {}) == ("made", 2.5)
