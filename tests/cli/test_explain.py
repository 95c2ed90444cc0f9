"""``explain``: every setting with its origin, the steps, and the plan for a live pipeline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.cli import main
from cachedit_yaml.compiler.cache_dit_source import cache_dit_version
from tests import processes
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NOT_MEASURED = "not measured on this model: `cachedit-yaml tune`"
MINE = """\
schema: 1
name: mine
pipelines: [MyPipeline]
requires: {cache-dit: '>=1', torch: '>=99'}
cache: {max_warmup_steps: 3, max_cached_steps: 30}
transformers:
  transformer:
    class: [MyTransformer]
    params: {max_cached_steps: 20}
    variants:
      - {class: [MyOtherTransformer], when: transformer.flag, blocks: {layers: Pattern_3}}
    blocks:
      blocks: {pattern: Pattern_2, params: {Fn_compute_blocks: 2}, class: [MyBlock]}
  transformer_2:
    optional: true
    blocks: {blocks: Pattern_0}
steps:
  - {max_steps: 8, max_warmup_steps: 1}
step_split: {fraction: {transformer: 0.25, transformer_2: 0.75}}
guidance: {separate_when: not pipeline.is_distilled}
set: {_cache_dit_paired: true}
profiles:
  fast: {residual_diff_threshold: 0.3, lists: {transformer_2.blocks: {Bn_compute_blocks: 1}}}
"""


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "no.yaml").write_text("schema: 1\npipelines: [NoPipeline]\nrefuse: useless\n")
    (tmp_path / "next.yaml").write_text(
        "schema: 1\nextends: mine\npipelines: [NextPipeline]\ncache: {max_cached_steps: 9}\n"
    )
    return tmp_path


def explain(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    assert main(["explain", "--format", "json", *map(str, arguments)]) == code
    return json.loads(capsys.readouterr().out)


def test_every_setting_has_its_origin(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(
        capsys,
        adapters / "mine.yaml",
        "--profile",
        "fast",
        "--steps",
        "8",
        "--set",
        "calibrator.type=taylorseer",
        "--set",
        "calibrator.taylorseer_order=2",
    )
    first, second = found["transformers"]
    variant, blocks = first["lists"]
    assert variant["when"] == "MyOtherTransformer and transformer.flag"
    assert (blocks["when"], blocks["class"]) == ("otherwise", "MyBlock")
    settings = blocks["settings"]

    def origin(name: str) -> tuple[Any, str]:
        return settings[name]["value"], settings[name]["origin"]

    assert origin("max_cached_steps") == (20, "mine.yaml:9: transformers.transformer.params")
    assert origin("Fn_compute_blocks") == (2, "mine.yaml:13: params of blocks")
    assert origin("max_warmup_steps") == (1, "mine.yaml:18: steps up to 8")
    assert origin("residual_diff_threshold") == (0.3, "mine.yaml:23: profile fast")
    assert origin("calibrator") == ({"type": "taylorseer", "taylorseer_order": 2}, "command line")
    assert origin("batch") == (
        "per_sample",
        "default of cachedit-yaml (mean where execution is native)",
    )
    assert origin("warmup_interval") == (1, f"default of cache-dit {cache_dit_version()}")
    assert "non_prune_block_ids" not in settings
    settings = second["lists"][0]["settings"]
    assert origin("Bn_compute_blocks") == (
        1,
        "mine.yaml:23: profile fast, list transformer_2.blocks",
    )
    assert origin("max_cached_steps") == (30, "mine.yaml:5: cache")
    # A quarter of the steps, of which the first is warm-up.
    assert (first["steps"], blocks["strip"]) == (2, "1.")
    assert (second["steps"], second["lists"][0]["strip"]) == (6, "1.....")
    assert found["requires"]["unmet"] != []


def test_lines_are_those_of_the_file_that_says_it(
    adapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explain(capsys, "next", "--adapters", adapters)
    settings = found["transformers"][1]["lists"][0]["settings"]
    assert settings["max_cached_steps"] == {"value": 9, "origin": "next.yaml:4: cache"}


def test_for_people(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(adapters / "mine.yaml"), "--steps", "12"]) == 0
    out = capsys.readouterr().out
    for line in (
        "transformer = MyTransformer, 3 steps",
        "transformer_2, optional, 9 steps",
        "  when MyOtherTransformer and transformer.flag:",
        "  blocks  Pattern_2: (h, e) -> h, MyBlock",
        "  steps  111......",
        "step split  fraction {transformer: 0.25, transformer_2: 0.75}",
        "guidance    two forwards a step where not pipeline.is_distilled, else one",
        "sets        pipeline._cache_dit_paired = true",
        "  profile    none (it has: quality, balanced, fast)",
    ):
        assert line in out.splitlines()
    assert "warning: it requires torch >=99" in out


def test_lists_that_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of their own settings they show what is theirs; the others are those of the other list."""
    (tmp_path / "mine.yaml").write_text(
        "schema: 1\npipelines: [FluxPipeline]\ntransformers:\n  transformer:\n    blocks:\n"
        "      transformer_blocks: Pattern_1\n"
        "      single_transformer_blocks: {pattern: Pattern_1, follows: transformer_blocks}\n"
        "cache: {Bn_compute_blocks: 2}\n"
    )
    build("FluxPipeline").save_pretrained(tmp_path / "model")
    for model in ((), ("--model", tmp_path / "model")):
        found = explain(capsys, tmp_path / "mine.yaml", "--steps", "9", *model)
        first, second = found["transformers"][0]["lists"]
        assert (first["follows"], second["follows"]) == (None, "transformer_blocks")
        assert first["settings"]["Bn_compute_blocks"] == {
            "value": 0,
            "origin": "they are the last of single_transformer_blocks",
        }
        assert {name: item["value"] for name, item in second["settings"].items()} == {
            "Fn_compute_blocks": 0,
            "Bn_compute_blocks": 2,
            "calibrator": None,
        }
        assert second["settings"]["Fn_compute_blocks"]["origin"] == "follows transformer_blocks"
        assert first["strip"] == second["strip"]
    assert main(["explain", str(tmp_path / "mine.yaml")]) == 0
    assert "(h, e) -> (e, h), follows transformer_blocks" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "mine.yaml")]) == 0
    assert "Pattern_1, follows transformer_blocks" in capsys.readouterr().out


def test_in_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(capsys, "flux", "--engine", "vllm-omni", "--profile", "fast")
    assert found["engine"] == "vllm_omni"
    assert found["engines"] == ["diffusers", "cache_dit", "vllm_omni", "sglang"]
    assert "FluxDMD2Pipeline" in found["pipelines"]
    settings = found["transformers"][0]["lists"][0]["settings"]
    assert re.fullmatch(
        r"defaults\.yaml:\d+: profile fast", settings["residual_diff_threshold"]["origin"]
    )
    assert re.fullmatch(r"defaults\.yaml:\d+: profile fast", settings["max_warmup_steps"]["origin"])
    assert re.fullmatch(r"defaults\.yaml:\d+: cache", settings["Fn_compute_blocks"]["origin"])
    assert found["measured"] == NOT_MEASURED


def test_measured(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = (
        "{model: org/my, steps: 28, prompts: 16, blocks: 0.41, psnr: {pooled: 27.34, worst: 21.0}, "
        "ssim: 0.9, device: H100, versions: {cache-dit: 1.5.3}, date: '2026-11-28'}"
    )
    (adapters / "mine.yaml").write_text(
        MINE.replace("residual_diff_threshold: 0.3,", f"scm: slow, measured: {about},")
    )
    found = explain(capsys, adapters / "mine.yaml", "--profile", "fast")
    says = (
        "measured on org/my, 28 steps, 16 prompts: PSNR 27.3 dB, worst 21.0 dB, SSIM 0.900, "
        "41 % of the blocks computed (H100, cache-dit 1.5.3, 2026-11-28)"
    )
    assert found["measured"] == says
    more = ("--set", "max_warmup_steps=1")
    found = explain(capsys, adapters / "mine.yaml", "--profile", "fast", *more)
    assert found["measured"] == f"not measured with these settings, without them {says}"
    assert explain(capsys, adapters / "mine.yaml")["measured"] == NOT_MEASURED
    assert main(["list", str(adapters / "mine.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[3] == "fast"
    assert main(["show", str(adapters / "mine.yaml")]) == 0
    assert "  measured:   fast" in capsys.readouterr().out


def test_masks(capsys: pytest.CaptureFixture[str]) -> None:
    def strip(*settings: str) -> Any:
        more = [part for item in settings for part in ("--set", item)]
        found = explain(capsys, "flux", "--steps", "8", *more)
        return found["transformers"][0]["lists"][0]["strip"]

    assert strip("scm.mask=[1, 1, 0, 0, 1, 0, 0, 1]") == "11001001"
    assert strip("scm={compute_bins: [3, 1], cache_bins: [2, 2]}") == "11100100"
    assert set(strip("scm=fast")) == {"0", "1"}
    assert strip("max_warmup_steps=4", "warmup_interval=2") == "1.1....."
    assert main(["explain", "flux", "--steps", "8", "--set", "scm.mask=[1, 0]"]) == 2
    assert "scm.mask has 2 entries" in capsys.readouterr().err


def test_prune_has_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(capsys, "flux", "--set", "cache_type=DBPrune")
    assert "non_prune_block_ids" in found["transformers"][0]["lists"][0]["settings"]


def test_refusal(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(adapters / "no.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  refuses    useless"


def test_by_class(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(capsys, "--pipeline", "FluxPipeline")["adapter"] == "flux"
    assert explain(capsys, "FluxPipeline")["adapter"] == "flux"
    assert explain(capsys, "FluxTransformer2DModel")["adapter"] == "flux"
    found = explain(capsys, "flux", "--pipeline", "FluxPipeline")
    assert found["serves"] == {"class": "FluxPipeline", "served": True, "how": "by its own name"}
    found = explain(capsys, "flux", "--pipeline", "WanPipeline", code=1)
    assert "the one for it is wan" in found["serves"]["how"]
    found = explain(capsys, "flux", "--pipeline", "OddPipeline", code=1)
    assert not found["serves"]["served"]
    found = explain(capsys, adapters / "mine.yaml", "--pipeline", "MyPipeline")
    assert found["serves"]["served"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "explain needs an adapter"),
        (["fluxx"], 2, "no adapter is called 'fluxx'"),
        (["qqq"], 2, "cachedit-yaml list prints the names"),
        (["--pipeline", "NoSuchPipeline"], 2, "no adapter for the pipeline class"),
        (["flux", "--profile", "best"], 2, "no profile 'best'"),
        (["flux", "--model", "/nowhere/at/all"], 2, "does not exist"),
        (["flux", "--set", "scm=faster"], 2, "'faster'"),
    ],
)
def test_wrong_use(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == code
    assert says in capsys.readouterr().err


def test_live_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build("DiTPipeline").save_pretrained(tmp_path)
    # The weights are not needed.
    for weights in tmp_path.rglob("*.safetensors"):
        weights.write_bytes(b"")
    found = explain(capsys, "--model", tmp_path, "--steps", "5")
    assert found["model"]["pipeline"] == "DiTPipeline"
    (transformer,) = found["transformers"]
    assert transformer["class"] == ["DiTTransformer2DModel"]
    (blocks,) = transformer["lists"]
    assert (blocks["blocks"], blocks["class"]) == (4, "BasicTransformerBlock")
    assert len(blocks["strip"]) == 5
    assert main(["explain", "flux", "--model", str(tmp_path)]) == 1
    assert "does not fit DiTPipeline" in capsys.readouterr().err


def test_live_step_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build("WanPipeline", two=True, boundary_ratio=0.875).save_pretrained(tmp_path)
    capsys.readouterr()
    found = explain(capsys, "--model", tmp_path, "--steps", "10", "--set", "scm=fast")
    high, low = found["transformers"]
    assert high["steps"] + low["steps"] == 10
    assert 0 < high["steps"] < low["steps"]
    assert len(high["lists"][0]["strip"]) == high["steps"]
    assert found["boundary_ratio"] == 0.875
    static = explain(capsys, "wan", "--steps", "10")
    assert [item["steps"] for item in static["transformers"]] == [None, None]
    assert main(["explain", "wan", "--steps", "10"]) == 0
    assert "as many of the 10 steps as the timesteps say" in capsys.readouterr().out


def test_without_cache_dit() -> None:
    code = (
        "import sys\n"
        "sys.modules['cache_dit'] = sys.modules['torch'] = None\n"
        "from cachedit_yaml.cli import main\n"
        "sys.exit(main(['explain', 'flux', '--profile', 'fast', '--set', 'scm=slow']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "  transformer_blocks         Pattern_1: (h, e) -> (e, h)" in done.stdout
    origin = r"residual_diff_threshold +0\.\d+ +defaults\.yaml:\d+: profile fast"
    assert re.search(origin, done.stdout)
    assert re.search(r"scm +\{preset: slow\} +command line", done.stdout)
    assert "note        cache-dit is not installed, so its defaults are left out" in done.stdout


def test_it_imports_nothing_heavy() -> None:
    arguments = ["explain", "flux", "--profile", "fast", "--steps", "28", "--set", "scm=fast"]
    out, imported = processes.heavy(f"from cachedit_yaml.cli import main; main({arguments})")
    assert "profile fast" in out
    assert imported == []
