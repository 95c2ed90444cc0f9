"""Coverage: rows from adapters, from what diffusers has, and from what was proved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.cli import main
from cachedit_yaml.engines.diffusers.against import compare
from cachedit_yaml.probe.check import Checked
from cachedit_yaml.probe.coverage import Denoiser, coverage, markdown, merge
from cachedit_yaml.probe.prove import Claim
from cachedit_yaml.probe.recipe import recipe
from cachedit_yaml.probe.rival import Rival
from cachedit_yaml.registry.registry import Registry

FOUND = [
    Denoiser("PixArtAlphaPipeline", (("transformer", "PixArtTransformer2DModel"),)),
    Denoiser("NobodysPipeline", (("transformer", "NobodysTransformer"),)),
]


def rows(*results: Checked) -> dict[str, Any]:
    entries = [
        entry
        for entry in Registry.load(environ={}).adapters()
        if entry.name in ("pixart", "anyflow-far")
    ]
    return {row.pipeline: row for row in coverage(entries, FOUND, results)}


def result(status: Any, *, rival: Rival | None = None, **more: Any) -> Checked:
    return Checked("pixart", "PixArtAlphaPipeline", None, "plain", status, rival=rival, **more)


def test_what_is_named_and_what_is_not() -> None:
    found = rows()
    assert found["PixArtAlphaPipeline"].status == "cached"
    assert found["PixArtAlphaPipeline"].lists == {"transformer.transformer_blocks": "Pattern_3"}
    assert found["PixArtAlphaPipeline"].exact is None
    assert found["AnyFlowFARPipeline"].status == "refused"
    assert found["AnyFlowFARPipeline"].detail
    nobody = found["NobodysPipeline"]
    assert (nobody.status, nobody.adapter, nobody.transformer) == (
        "none",
        None,
        "NobodysTransformer",
    )


def test_what_was_proved() -> None:
    good = result("proved", rival=Rival("equal"))
    bad = result("failed", proofs=(Claim("exact", "failed", "it differs"),))
    worse = result("proved", rival=Rival("wrong", "guided: mean error 0.1 with no hit"))
    skipped = result("skipped", detail="no OpenCV")
    assert rows(good)["PixArtAlphaPipeline"].exact is True
    assert rows(good)["PixArtAlphaPipeline"].cache_dit == "equal"
    assert rows(good, bad)["PixArtAlphaPipeline"].exact is False
    assert "it differs" in rows(good, bad)["PixArtAlphaPipeline"].detail
    # The make on which cache-dit does worst tells.
    assert rows(good, worse)["PixArtAlphaPipeline"].cache_dit == "wrong"
    assert rows(skipped)["PixArtAlphaPipeline"].exact is None
    assert rows(skipped)["PixArtAlphaPipeline"].detail == "no OpenCV"


def test_a_family_shows_the_layout_of_each_class() -> None:
    entries = [item for item in Registry.load(environ={}).adapters() if item.name == "bria"]
    found = [
        Denoiser(f"{name}Pipeline", (("transformer", f"{name}Transformer2DModel"),))
        for name in ("Bria", "BriaFibo2")
    ]
    lists = {row.pipeline: row.lists for row in coverage(entries, found, [])}
    two = {"transformer.transformer_blocks", "transformer.single_transformer_blocks"}
    assert lists["BriaPipeline"] == dict.fromkeys(two, "Pattern_1")
    assert lists["BriaFibo2Pipeline"] == {"transformer.layers": "Pattern_3"}
    assert set(lists["BriaFiboPipeline"]) == {*two, "transformer.layers"}  # nobody says its class


def test_a_refused_pipeline_shows_no_transformer_of_another_engine() -> None:
    entries = [item for item in Registry.load(environ={}).adapters() if item.name == "helios"]
    (row,) = (
        row for row in coverage(entries, [], [], ("sglang",)) if row.pipeline == "HeliosPipeline"
    )
    assert (row.status, row.transformer) == ("refused", "")


def test_the_page_says_what_was_measured() -> None:
    """Of each adapter once, whatever engines serve it."""
    entries = [
        item for item in Registry.load(environ={}).adapters() if item.name in ("dit", "sana")
    ]
    found = coverage(entries, [], [])
    page = markdown(found)
    engines = {row.engine for row in found}
    assert len(engines) > 1
    assert f"{len(found)} cached by 2 adapters" in page
    assert "measured for dit on the demo's DiT. The others are not measured" in page
    assert "measured for no adapter. " in markdown([row for row in found if row.adapter != "dit"])


def test_an_engines_row_is_proved_on_the_engine() -> None:
    entries = [item for item in Registry.load(environ={}).adapters() if item.name == "flux"]
    here = Checked("flux", "FluxPipeline", None, "plain", "proved")
    there = Checked("vllm_omni/flux", "FluxPipeline", None, "plain", "failed", detail="it differs")
    found = {row.engine: row for row in coverage(entries, [], [here, there])}
    assert found["diffusers"].exact is not False
    assert found["vllm_omni"].exact is False
    assert found["vllm_omni"].detail == "it differs"
    # A transformer alone stands for a pipeline that cannot be made small, and only then.
    skipped = replace(there, status="skipped", detail="too large")
    alone = Checked("vllm_omni/flux", "", None, "plain", "proved")
    found = {row.engine: row for row in coverage(entries, [], [skipped, alone])}
    assert found["vllm_omni"].exact is True
    found = {row.engine: row for row in coverage(entries, [], [there, alone])}
    assert found["vllm_omni"].exact is False


def test_what_was_tried_elsewhere() -> None:
    untried = list(rows().values())
    there = [row.as_dict() for row in rows(result("proved", rival=Rival("equal"))).values()]
    found = {row.pipeline: row for row in merge(untried, there)}
    assert (found["PixArtAlphaPipeline"].exact, found["PixArtAlphaPipeline"].cache_dit) == (
        True,
        "equal",
    )
    assert found["PixArtSigmaPipeline"].exact is None
    # What was tried here counts.
    failed = list(rows(result("failed", detail="it differs")).values())
    found = {row.pipeline: row for row in merge(failed, there)}
    assert found["PixArtAlphaPipeline"].exact is False


def test_the_page() -> None:
    page = markdown(list(rows(result("proved", rival=Rival("equal"))).values()))
    assert "| PixArtAlphaPipeline | PixArtTransformer2DModel | pixart | `transformer." in page
    assert "| yes | equal |" in page
    assert "refused: " in page
    wrong = result("proved", rival=Rival("wrong", "skip_layers: mean error 0.1 with no hit"))
    page = markdown(list(rows(wrong).values()))
    assert "- PixArtAlphaPipeline: cache-dit: skip\\_layers: mean error 0.1 with no hit" in page
    assert "4 pipeline" in page or "5 pipeline" in page


def test_cache_dit_beside_ours() -> None:
    """Its own adapters: right, silently wrong, raising, and none."""
    outcomes = {}
    for name, pipeline in (
        ("pixart", "PixArtSigmaPipeline"),
        ("stable-diffusion-3", "StableDiffusion3Pipeline"),
        ("stable-diffusion-3", "StableDiffusion3ControlNetPipeline"),
        ("latte", "LattePipeline"),
    ):
        spec = Registry.load(environ={}).find(name).with_probe()
        outcomes[pipeline] = compare(spec, recipe(spec, pipeline))
    assert outcomes["PixArtSigmaPipeline"].outcome == "equal"
    assert outcomes["StableDiffusion3Pipeline"].outcome == "wrong"
    assert "skip_l" in outcomes["StableDiffusion3Pipeline"].detail
    assert outcomes["StableDiffusion3ControlNetPipeline"].outcome == "refuses"
    assert outcomes["LattePipeline"].outcome == "absent"
    # What it patches stays in the process that it was tried in.
    from diffusers import PixArtSigmaPipeline

    assert not hasattr(PixArtSigmaPipeline, "_is_cached")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "--no-proof", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"pipeline", "transformer", "adapter", "status", "exact", "cache_dit"} <= set(found[0])
    assert {row["status"] for row in found} == {"cached", "refused"}
    assert main(["coverage", "--no-proof"]) == 0
    assert " cached, " in capsys.readouterr().out


def test_one_engine_and_what_was_tried_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["coverage", "--no-proof", "--format", "json"]
    assert main([*command, "--engine", "vllm_omni"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["engine"] for row in found} == {"vllm_omni"}
    file = tmp_path / "omni.json"
    file.write_text(json.dumps([row | {"exact": True} for row in found]), encoding="utf-8")
    assert main([*command, "--merge", str(file)]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert all(row["exact"] is (True if row["engine"] == "vllm_omni" else None) for row in merged)
    for wrong in ("{}", "[1]", "no JSON"):
        file.write_text(wrong, encoding="utf-8")
        assert main([*command, "--merge", str(file)]) != 0
        assert "omni.json" in capsys.readouterr().err
    assert main([*command, "--merge", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.endswith("none.json: No such file or directory\n")


def test_loops_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "stable-diffusion-3", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "SD3Transformer2DModel.transformer_blocks" in out
    assert "more where these are given: block_controlnet_hidden_states" in out
    assert main(["check", "pixart", "--explain", "--format", "json"]) == 0
    (loop,) = json.loads(capsys.readouterr().out)["loops"]
    assert loop["found"] is True


def test_real_weights(capsys: pytest.CaptureFixture[str]) -> None:
    from cachedit_yaml.generating.demo.models import DIT

    arguments = ["check", "--pipeline", str(DIT.folder), "--label", "frog", "--steps", "5"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "DiTPipeline" in out
    assert "1 case proved, 0 failed" in out
    assert main(["check", "--pipeline", "/no/such/folder"]) == 2
