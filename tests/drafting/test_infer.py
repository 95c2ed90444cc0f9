"""Adapters drafted from a watched call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import cachedit_yaml
from benchmarks.drafting import outcome
from cachedit_yaml.drafting.writing import text_of
from cachedit_yaml.errors import AdapterError, ConfigError, DraftError, RefusedError
from cachedit_yaml.probe.recipe import recipes
from cachedit_yaml.registry.registry import Registry
from tests.cli import own_model
from tests.drafting import odd

X = {"hidden_states": "x"}


@pytest.mark.parametrize(
    ("cls", "block", "expected"),
    [
        (odd.Plain, odd.Block, {"pattern": "Pattern_3", "roles": X}),
        (odd.Plain, odd.InPlace, {"pattern": "Pattern_3", "roles": X}),
        (odd.Hoarding, odd.Block, {"pattern": "Pattern_3", "roles": X}),
        (odd.Adding, odd.Block, {"pattern": "Pattern_3", "roles": X}),
        (odd.Skips, odd.SkipBlock, {"pattern": "Pattern_3", "roles": X}),
        (
            odd.Streams,
            odd.Pair,
            {
                "pattern": "Pattern_1",
                "roles": {"hidden_states": "img", "encoder_hidden_states": "txt"},
            },
        ),
        (
            odd.Unpacking,
            odd.Experts,
            {"pattern": "Pattern_3", "roles": X, "returns": {"hidden_states": "tokens"}},
        ),
        (
            odd.Unpacking,
            odd.ExpertsInFields,
            {"pattern": "Pattern_3", "roles": X, "returns": {"hidden_states": "tokens"}},
        ),
        (
            odd.Passing,
            odd.Stateful,
            {"pattern": "Pattern_0", "roles": {**X, "state": "past"}},
        ),
    ],
)
def test_what_a_block_takes_and_returns(
    cls: type[odd.Stacked], block: type[nn.Module], expected: dict[str, Any]
) -> None:
    pipe = odd.make(cls, block)
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["transformers"]["transformer"]["blocks"] == {"blocks": expected}
    assert not draft.doubts
    draft.check().require()


@pytest.mark.parametrize(
    ("cls", "block", "why"),
    [
        (odd.Autoregressive, odd.Writing, "write to past while they denoise"),
        (odd.Plain, odd.Remembering, "write to its own mean while they denoise"),
        (odd.Plain, odd.Counting, "write to its own calls while they denoise"),
        (odd.Plain, odd.Hiding, "write to its own _kept while they denoise"),
        (odd.Collecting, odd.Block, "is kept and read later"),
        (odd.Stashing, odd.Block, "is still held when the transformer has returned"),
        (odd.Backwards, odd.Block, "in this order: 3, 2, 1, 0"),
    ],
)
def test_what_must_not_be_cached(cls: type[odd.Stacked], block: type[nn.Module], why: str) -> None:
    pipe = odd.make(cls, block)
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.refused is not None
    assert why in draft.refused
    assert "refuse: " in draft.yaml
    with pytest.raises(RefusedError, match="must not be cached"):
        draft.check()


def test_which_stream_is_the_picture_under_guidance() -> None:
    pipe = odd.Guided(odd.make(odd.TextFirst, odd.Turned))
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["transformers"]["transformer"]["blocks"] == {
        "blocks": {
            "pattern": "Pattern_0",
            "roles": {"hidden_states": "x", "encoder_hidden_states": "cond"},
        }
    }
    draft.check().require()


def test_a_compiled_model() -> None:
    pipe = odd.make(odd.Plain)
    for block in pipe.__dict__["transformer"].blocks:
        block.compile(backend="eager")
    assert cachedit_yaml.infer(pipe, pipe).refused is None


@pytest.mark.parametrize("target", [None, 7, [1], object()])
def test_what_is_no_pipeline(target: Any) -> None:
    with pytest.raises(DraftError, match="holds no list of blocks"):
        cachedit_yaml.infer(target, lambda: None)


@pytest.mark.parametrize(
    "text", ["a\nb", "abc:", "0x10", "x ", "\u2028", "null", "1e3", "plain text"]
)
def test_every_text_is_read_back(text: str) -> None:
    data = {"schema": 1, "description": text}
    assert yaml.safe_load(text_of(data, {}, (), 4)) == data


def test_the_text_and_short_lists_are_left_out() -> None:
    pipe = odd.make(odd.Refined)
    draft = cachedit_yaml.infer(pipe, pipe)
    assert [*draft.data["transformers"]["transformer"]["blocks"]] == ["blocks"]
    assert "the same in every step" in draft.evidence["transformer.refiner"][0]
    assert "too few" in draft.evidence["transformer.short"][0]
    assert "# refiner: left out: what goes into it is the same in every step." in draft.yaml
    draft.check().require()


def test_skip_connections_are_said() -> None:
    pipe = odd.make(odd.Skips, odd.SkipBlock)
    assert (
        "keep Bn_compute_blocks at most Fn_compute_blocks" in cachedit_yaml.infer(pipe, pipe).yaml
    )


def test_two_transformers_and_where_one_ends() -> None:
    pipe = odd.make(odd.Plain, odd.Block, 1)
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["step_split"] == {
        "boundary": {
            "ratio": "pipeline.boundary_ratio",
            "high": "transformer",
            "low": "transformer_2",
        }
    }
    draft.check().require()


def test_a_split_that_nothing_explains_is_a_doubt() -> None:
    pipe = odd.make(odd.Plain, odd.Block, 1)
    call = pipe.__call__
    ratio = pipe.__dict__.pop("boundary_ratio")
    odd.Pipeline.boundary_ratio = ratio  # type: ignore[attr-defined]
    try:
        draft = cachedit_yaml.infer(pipe, call)
    finally:
        del odd.Pipeline.boundary_ratio  # type: ignore[attr-defined]
    assert [*draft.data["step_split"]["fraction"]] == ["transformer", "transformer_2"]
    assert "no attribute says why" in draft.doubts[0]
    assert f"# To decide: {draft.doubts[0]}" in draft.yaml


def test_another_scheduler() -> None:
    pipe = odd.make(odd.Plain, odd.Block, scheduler="sampler")
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["scheduler"] == "sampler"
    draft.check().require()


def test_calls_that_are_no_steps() -> None:
    class Prefilled(odd.Plain):
        def forward(self, latents: Any, timestep: Any, text: Any, update: bool = False) -> Any:
            return super().forward(latents, timestep, text)

    class Twice(odd.Pipeline):
        def __call__(self, steps: int = 4, seed: int = 0) -> torch.Tensor:
            scheduler: Any = self.__dict__["scheduler"]
            scheduler.set_timesteps(steps)
            text = torch.ones(1, 3, odd.WIDTH)
            self.__dict__["transformer"](text, scheduler.timesteps[0], text, update=True)
            model = self.__dict__["transformer"]
            latents = torch.ones(1, 5, odd.WIDTH)
            for timestep in scheduler.timesteps:
                output = model(latents, timestep, text, update=False)
                latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
            return latents

    pipe = Twice(Prefilled(odd.Block))
    draft = cachedit_yaml.infer(pipe, pipe)
    assert draft.data["transformers"]["transformer"]["denoising"] == {"when": {"update": False}}


def test_everything_is_as_before_and_the_output_too() -> None:
    pipe = odd.make(odd.Streams, odd.Pair)
    plain, seen = pipe(), []
    holders = [*pipe.__dict__["transformer"].modules(), pipe.__dict__["scheduler"]]
    names = [{*vars(item)} for item in holders]
    cachedit_yaml.infer(pipe, lambda: seen.append(pipe()))
    assert torch.equal(plain, seen[0])
    assert [{*vars(item)} for item in holders] == names


def test_the_file_says_what_the_draft_says(tmp_path: Path) -> None:
    clip, text = own_model.make(), torch.randn(1, 3, 16)
    calls: dict[Any, Callable[[], Any]] = {
        clip: lambda: clip(text, num_inference_steps=3),
        (two := odd.make(odd.Streams, odd.Pair)): two,
        (refused := odd.make(odd.Backwards)): refused,
    }
    for pipe, call in calls.items():
        draft = cachedit_yaml.infer(pipe, call)
        assert yaml.safe_load(draft.yaml) == draft.data
        path = tmp_path / "draft.yaml"
        path.write_text(draft.yaml)
        try:
            assert cachedit_yaml.load_adapter(path).transformers == draft.spec.transformers
        except AdapterError as error:
            pytest.fail(str(error))


def test_wrong_use() -> None:
    pipe = odd.make(odd.Plain)

    def broken() -> Any:
        raise ValueError("no luck")

    with pytest.raises(ConfigError, match="the call raised ValueError: no luck"):
        cachedit_yaml.infer(pipe, broken)
    with pytest.raises(DraftError, match="at least two steps"):
        cachedit_yaml.infer(
            pipe, lambda: pipe.__dict__["transformer"](torch.ones(1, 5, 8), 1, torch.ones(1, 3, 8))
        )
    with pytest.raises(DraftError, match="runs none of its block lists"):
        cachedit_yaml.infer(pipe, lambda: None)
    with pytest.raises(DraftError, match="holds no list of blocks"):
        cachedit_yaml.infer(odd.Pipeline(nn.Linear(2, 2)), lambda: None)
    spec = cachedit_yaml.infer(pipe, pipe).spec
    with cachedit_yaml.enable(pipe, spec), pytest.raises(ConfigError, match="disable its handle"):
        cachedit_yaml.infer(pipe, pipe)
    assert "forward" not in vars(pipe.__dict__["transformer"])


@pytest.mark.parametrize(
    ("adapter", "makes"),
    [
        ("flux", ["FluxPipeline", "FluxControlNetPipeline", ""]),
        ("wan", ["WanPipeline"]),
        ("hunyuan-dit", ["HunyuanDiTControlNetPipeline"]),
        ("kandinsky-combined", ["KandinskyCombinedPipeline"]),
        ("hidream-image", ["HiDreamImagePipeline"]),
    ],
)
def test_as_people_have_written_it(adapter: str, makes: list[str]) -> None:
    spec = Registry.load().find(adapter).with_probe("diffusers")
    tried = [item for item in recipes(spec) if item.pipeline in makes]
    assert {item.pipeline for item in tried} == {*makes}
    for item in tried:
        found = outcome(spec, item)
        assert (found.result, found.differences, found.proof) == ("same", (), "proved")


@pytest.mark.parametrize("cls", [odd.Heads, odd.Joined, odd.Supervised])
def test_a_loop_that_takes_more_from_its_blocks_is_found(cls: type[odd.Stacked]) -> None:
    """Nothing of it shows by identity: the values on a hit do."""
    pipe = odd.make(cls)
    (failed,) = cachedit_yaml.infer(pipe, pipe).check().failed
    assert failed.name == "values"
    assert "a cached step differs from the computed one" in failed.detail
    assert "the loop takes more from its blocks (blocks)" in failed.detail


def test_what_cannot_be_compared_is_said() -> None:
    pipe = odd.make(odd.Noisy)
    draft = cachedit_yaml.infer(pipe, pipe)
    (values,) = [item for item in draft.check().claims if item.name == "values"]
    assert values.verdict == "not allowed"
    assert "it draws random numbers (dropout, noise)" in values.detail


def test_a_model_that_keeps_something_is_found() -> None:
    pipe = odd.make(odd.Drifting)
    failed = cachedit_yaml.infer(pipe, pipe).check().failed
    assert any("keeps something from call to call" in item.detail for item in failed)
