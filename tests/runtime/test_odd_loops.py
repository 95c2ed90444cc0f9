"""Loops and blocks that do what ordinary ones do not: exact with no hit, and right with hits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cachedit_yaml.compiler.calibrators import has_calibrator
from cachedit_yaml.errors import CacheRuntimeError, CompileError
from tests.runtime import models, odd_models
from tests.runtime.models import ALWAYS, NEVER, SmallPipeline, adapter, calls, row, rows, start
from tests.runtime.odd_models import STEADY, Double, Fickle, GivesEncoder, Interleaved, Odd, Skips

STEPS = 5
#: Two steps are computed, and the others served from the cache.
FIRST = {"max_warmup_steps": 1, "scm": {"mask": [1, 1, 0, 0, 0], "policy": "static"}}


def spec_of(cls: type[Odd], **more: Any) -> Any:
    """The adapter that a transformer above calls for."""
    lists = cls.SPEC if isinstance(cls.SPEC, dict) and "blocks" in cls.SPEC else None
    return adapter(lists or {"blocks": cls.SPEC}, **more)


def forwards(model: torch.nn.Module, *, inference: bool = False) -> list[torch.Tensor]:
    """The outputs of a generation whose inputs do not change."""
    with torch.inference_mode() if inference else torch.no_grad():
        latents = models.noise()
        return [model(latents, 1000.0 - 100 * step) for step in range(STEPS)]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("cls", STEADY)
def test_exact_with_no_hit(cls: type[Odd], inference: bool) -> None:
    pipe = SmallPipeline(cls())
    plain = pipe(4)
    plain_forwards = forwards(pipe.transformer)
    for fn, bn in ((1, 0), (2, 1), (1, 3), (3, 3)):
        settings = {**NEVER, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
        with start(pipe, spec_of(cls), **settings) as handle:
            assert torch.equal(pipe(4), plain)
            assert all(item.cached_steps == () for item in handle.stats().branches)
        with start(pipe.transformer, spec_of(cls), **settings):
            again = forwards(pipe.transformer, inference=inference)
            assert all(torch.equal(*pair) for pair in zip(again, plain_forwards, strict=True))


CALIBRATORS: list[Any] = [
    None,
    "taylorseer",
    {"type": "foca"},
    {"type": "taylorseer", "calibrator_cache_type": "hidden_states"},
    {"type": "taylorseer", "enable_calibrator": False},
]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("cls", STEADY)
def test_right_with_hits(cls: type[Odd], inference: bool) -> None:
    """With equal inputs a hit returns what the blocks would have, up to rounding."""
    model = cls()
    plain = forwards(model)[0]
    for fn, bn in ((1, 0), (2, 0), (2, 1), (3, 2)):
        for calibrator in CALIBRATORS:
            if calibrator == {"type": "foca"} and not has_calibrator("foca"):
                continue  # the oldest cache-dit has its config only
            settings = {**ALWAYS, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
            with start(model, spec_of(cls), **settings, calibrator=calibrator) as handle:
                outputs = forwards(model, inference=inference)
                for item in handle.stats().branches:
                    # Where blocks turn out to write over their input, one step is lost on it.
                    assert item.cached_steps[-2:] == (3, 4), (fn, bn, calibrator)
            assert torch.equal(outputs[0], plain)
            for output in outputs:
                torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("bn", [0, 2])
@pytest.mark.parametrize("cls", [cls for cls in STEADY if cls is not GivesEncoder])
def test_no_block_runs_under_a_mask(cls: type[Odd], bn: int, inference: bool) -> None:
    """With F = 0 a static mask decides: exact where it computes, and B blocks run where it hits."""
    if bn and cls is Skips:
        return  # the last B blocks take what the first have returned
    model = cls()
    plain = forwards(model)[0]
    with calls(*model.blocks) as seen:
        forwards(model)
        each = len(seen) // (STEPS * len(model.blocks))
        for calibrator in CALIBRATORS:
            if calibrator == {"type": "foca"} and not has_calibrator("foca"):
                continue
            settings = {**FIRST, "Fn_compute_blocks": 0, "Bn_compute_blocks": bn}
            with start(model, spec_of(cls), **settings, calibrator=calibrator) as handle:
                handle.refresh(num_inference_steps=STEPS)
                forwards(model, inference=inference)  # may show that blocks write over their input
                handle.refresh(num_inference_steps=STEPS)
                seen.clear()
                outputs = forwards(model, inference=inference)
                assert [item.cached_steps for item in handle.stats().branches] == [(2, 3, 4)] * each
                assert len(seen) == each * (2 * len(model.blocks) + 3 * bn)
            assert torch.equal(outputs[0], plain)
            assert torch.equal(outputs[1], plain)
            for output in outputs:
                torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "no block has run whose residual could decide"),
        ({"scm": "fast"}, "no block has run whose residual could decide"),
        ({"scm": {"preset": "fast", "policy": "static"}, "cache_type": "DBPrune"}, "DBPrune needs"),
    ],
)
def test_no_first_block_and_nothing_that_decides(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(CompileError, match=text):
        start(models.small(), adapter(), Fn_compute_blocks=0, **settings)
    mask = {"scm": {"preset": "fast", "policy": "static"}}
    with pytest.raises(CompileError, match="its first block makes the encoder hidden states"):
        start(GivesEncoder(), spec_of(GivesEncoder), Fn_compute_blocks=0, **mask)
    with pytest.raises(CompileError, match="cache-dit always runs a first block"):
        start(models.small(), adapter(), Fn_compute_blocks=0, **mask, execution="native")


@pytest.mark.parametrize("cls", STEADY)
def test_a_hit_skips_blocks(cls: type[Odd]) -> None:
    model = cls()
    with calls(*model.blocks) as seen:
        forwards(model)
        each = len(seen) // (STEPS * len(model.blocks))
        with start(model, spec_of(cls), **ALWAYS, Bn_compute_blocks=1) as handle:
            seen.clear()
            forwards(model)
            cached = {item.branch: item.cached_steps for item in handle.stats().branches}
            assert len(cached) == each
            hits = sum(len(steps) for steps in cached.values())
            assert hits >= 2 * each
            assert len(seen) == each * STEPS * 6 - hits * 4


def test_in_place_is_noticed_once() -> None:
    """The step that shows it is not stored; from then on the input is kept."""
    model = odd_models.InPlace()
    with start(model, spec_of(odd_models.InPlace), **ALWAYS) as handle:
        forwards(model)
        first = row(handle).cached_steps
        assert 1 not in first
        forwards(model)
        assert row(handle).cached_steps == (1, 2, 3, 4)


def test_skip_connections_across_the_cached_range() -> None:
    """The last B blocks take what the first have returned: B may not exceed F."""
    model = Skips()
    plain = forwards(model)[0]
    for fn, bn in ((1, 2), (1, 3)):
        with start(model, spec_of(Skips), **{**ALWAYS, "Fn_compute_blocks": fn},
                   Bn_compute_blocks=bn) as handle:  # fmt: skip
            for output in forwards(model):
                assert torch.equal(output, plain)
            assert row(handle).cached_steps == ()
            (warning,) = handle.stats().warnings
            assert "cannot hit: its last blocks take what skipped ones return" in warning


def test_a_list_that_runs_twice() -> None:
    model = odd_models.Twice()
    with start(model, spec_of(odd_models.Twice), **ALWAYS) as handle:
        forwards(model)
        assert set(rows(handle)) == {"blocks [forward 1]", "blocks [forward 1, round 2]"}
        for item in rows(handle).values():
            assert item.executed_steps == tuple(range(STEPS))
            assert item.total_blocks == 6 * STEPS


@pytest.mark.parametrize("cls", [Interleaved, odd_models.Backwards])
def test_loops_in_another_order_never_hit(cls: type[Odd]) -> None:
    model = cls()
    pipe = SmallPipeline(model)
    plain = pipe(STEPS)
    with start(pipe, spec_of(cls), **ALWAYS) as handle:
        assert torch.equal(pipe(STEPS), plain)
        assert all(item.cached_steps == () for item in handle.stats().branches)
        assert handle.stats().warnings
    if cls is Interleaved:
        with start(pipe, spec_of(cls), **ALWAYS) as handle:
            pipe(STEPS)
            for warning in handle.stats().warnings:
                assert "blocks of another declared list run between its own" in warning
        with start(pipe, adapter("Pattern_3"), **ALWAYS) as handle:
            pipe(STEPS)
            assert row(handle).cached_steps == (1, 2, 3, 4)


def test_two_lists_with_params_of_their_own() -> None:
    model = Double()
    lists = {
        "blocks": {"pattern": "Pattern_3", "params": {"Fn_compute_blocks": 2}},
        "single_blocks": {"pattern": "Pattern_3", "params": {"max_warmup_steps": 3}},
    }
    spec = adapter(lists, cache={**ALWAYS, "Bn_compute_blocks": 1})
    with start(model, spec) as handle:
        forwards(model)
        assert row(handle, "blocks").cached_steps == (1, 2, 3, 4)
        assert row(handle, "blocks").computed_blocks == 4 + 4 * 3
        assert row(handle, "single_blocks").cached_steps == (3, 4)
        assert row(handle, "single_blocks").computed_blocks == 3 * 4 + 2 * 2


def test_another_set_of_blocks_on_a_hit() -> None:
    """The loop leaves out other blocks than on the stored step: the forward runs again."""
    model = Fickle()
    plain: dict[tuple[int, ...], torch.Tensor] = {}
    for leave_out in ((), (3,), (2, 3), (5,), (0,), (4, 5)):
        model.leave_out = leave_out
        plain[leave_out] = forwards(model)[0]
    latents = models.noise()
    # As many blocks left out as not; the first or the last of the middle among them.
    run = [(), (), (3,), (3,), (3,), (), (2, 3), (5,), (5,), (), (4, 5), (4, 5)]
    with start(model, adapter(), **ALWAYS) as handle, torch.no_grad():
        for step, leave_out in enumerate(run):
            model.leave_out = leave_out
            output = model(latents, 1000.0 - step)
            torch.testing.assert_close(output, plain[leave_out], rtol=1e-5, atol=1e-6)
        stats = handle.stats()
        reruns = [text for text in stats.warnings if "forwards ran twice" in text]
        assert len(reruns) == 1
        # What ran twice was not served from the cache, and is not said to have been.
        (item,) = stats.branches
        assert set(item.cached_steps) == {1, 4, 11}
        for step in item.cached_steps:
            assert run[step] == run[step - 1]


def test_limits_hold_across_a_rerun() -> None:
    model = Fickle()
    latents = models.noise()
    with start(model, adapter(), **ALWAYS, max_cached_steps=3) as handle, torch.no_grad():
        for step in range(12):
            model.leave_out = (3,) if step == 4 else ()
            model(latents, 1000.0 - step)
        assert len(row(handle).cached_steps) == 3


def test_first_block_left_out() -> None:
    model = Fickle()
    model.leave_out = (0,)
    plain = forwards(model)[0]
    with start(model, adapter(), **ALWAYS) as handle:
        for output in forwards(model):
            assert torch.equal(output, plain)
        assert row(handle).cached_steps == ()


def test_last_of_the_first_blocks_left_out() -> None:
    """Block F-1 is left out in every step: the one before it decides."""
    model = Fickle()
    model.leave_out = (1,)
    plain = forwards(model)[0]
    with start(model, adapter(), **{**ALWAYS, "Fn_compute_blocks": 2}) as handle:
        for output in forwards(model):
            torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
        assert row(handle).cached_steps == (1, 2, 3, 4)


def test_state_passes_through() -> None:
    model = odd_models.State()
    with start(model, spec_of(odd_models.State), **ALWAYS, Bn_compute_blocks=2) as handle:
        forwards(model)
        assert row(handle).cached_steps == (1, 2, 3, 4)
        # The object is the caller's own, and only blocks that ran have touched it.
        assert model.last_state == {"calls": 3}


def test_state_that_is_a_tensor_passes_through() -> None:
    model = odd_models.Growing()
    plain = forwards(model)[0]
    with start(model, spec_of(odd_models.Growing), **ALWAYS) as handle:
        for output in forwards(model):
            torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
        assert row(handle).cached_steps == (1, 2, 3, 4)


def test_what_is_returned_has_the_form_of_the_blocks() -> None:
    seen: list[Any] = []

    class Watching(odd_models.Lists):
        def loop(self, hidden: torch.Tensor) -> torch.Tensor:
            text = hidden[:, :3] * 2
            for block in self.blocks:
                output = block(hidden, text)
                seen.append(type(output))
                text, hidden = output
            return hidden

    model = Watching()
    with start(model, spec_of(Watching), **ALWAYS):
        forwards(model)
    assert set(seen) == {list}


@pytest.mark.parametrize(
    ("cls", "declared", "returned"),
    [
        (odd_models.Lists, "Pattern_2", r"list\(0: \[[\d, ]+\], 1: \[[\d, ]+\]\)"),
        (odd_models.Nones, "Pattern_1", r"tuple\(0: \[[\d, ]+\], 1: NoneType\)"),
        (odd_models.GivesEncoder, "Pattern_3", r"tuple\(0: \[[\d, ]+\], 1: \[[\d, ]+\]\)"),
    ],
)
def test_another_form_than_the_pattern_says(cls: type[Odd], declared: str, returned: str) -> None:
    model = cls()
    plain = forwards(model)[0]
    with start(model, adapter(declared), **ALWAYS):
        said = rf"pipeline\.transformer\.blocks: a block returned {returned}, which is not "
        with pytest.raises(CacheRuntimeError, match=said):
            forwards(model)
    assert torch.equal(forwards(model)[0], plain)


def test_blocks_of_two_kinds_in_one_list() -> None:
    """Their arguments are read off each kind, not off the first block alone."""
    model = odd_models.Odd()
    model.blocks[3] = odd_models.RolesBlock().requires_grad_(False)
    with pytest.raises(CompileError, match=r"blocks\[3\]: forward has no argument 'hidden_states'"):
        start(model, adapter(), **ALWAYS)

    class Reordered(models.Block):
        def forward(self, temb: float, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states, temb)

    model.blocks[3] = Reordered().requires_grad_(False)
    with pytest.raises(CompileError, match="take their arguments in another order"):
        start(model, adapter(), **ALWAYS)


def test_a_wrapper_that_hides_the_arguments() -> None:
    """Whoever wraps a block without saying its signature: its class knows better."""
    model = odd_models.OtherNames()
    plain = forwards(model)[0]
    for block in model.blocks:
        block.forward = lambda *args, inner=block.forward, **kwargs: inner(*args, **kwargs)
    with start(model, spec_of(odd_models.OtherNames), **ALWAYS) as handle:
        for output in forwards(model):
            torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
        assert row(handle).cached_steps == (1, 2, 3, 4)


def test_denoising_when() -> None:
    """Only calls with these arguments are denoising steps; others neither count nor hit."""

    class Chatty(Odd):
        def forward(  # type: ignore[override]
            self,
            hidden_states: torch.Tensor,
            timestep: Any = None,
            *,
            mode: str = "image",
            update_cache: bool = False,
        ) -> torch.Tensor:
            return super().forward(hidden_states, timestep) + (mode == "text") + update_cache

    model = Chatty()
    when = {"mode": "image", "update_cache": False}
    spec = adapter(transformer={"denoising": {"when": when}})
    latents, other = models.noise(), models.noise(1)
    with torch.no_grad():
        plain = model(latents)
        text = model(other, mode="text")
    with start(model, spec, **ALWAYS) as handle, torch.no_grad():
        for step in range(4):
            torch.testing.assert_close(model(latents, 900.0 - step), plain)
            assert torch.equal(model(other, 900.0 - step, mode="text"), text)
            assert torch.equal(model(other, mode="text", update_cache=True), text + 1)
        assert row(handle).executed_steps == (0, 1, 2, 3)
        assert row(handle).cached_steps == (1, 2, 3)


def test_denoising_unless() -> None:
    """Calls that leave an argument out are no denoising steps."""

    class Acting(Odd):
        def forward(  # type: ignore[override]
            self, hidden_states: torch.Tensor, timestep: Any = None, *, action: Any = None
        ) -> torch.Tensor:
            return super().forward(hidden_states, timestep)

    model = Acting()
    spec = adapter(transformer={"denoising": {"unless": {"action": None}}})
    latents, other, action = models.noise(), models.noise(1), models.noise(2)
    with torch.no_grad():
        plain, seen = model(latents), model(other)
    with start(model, spec, **ALWAYS) as handle, torch.no_grad():
        for step in range(4):
            torch.testing.assert_close(model(latents, 900.0 - step, action=action), plain)
            assert torch.equal(model(other, 0.0), seen)
        assert row(handle).executed_steps == (0, 1, 2, 3)
        assert row(handle).cached_steps == (1, 2, 3)


def test_variants() -> None:
    class Other(Double):
        pass

    variants = [
        {"class": ["Other"], "blocks": {"single_blocks": "Pattern_3"}},
        {"when": "transformer.both", "blocks": Double.SPEC},
        {"when": "not pipeline.plain", "blocks": {"single_blocks": "Pattern_3"}},
    ]
    spec = adapter("Pattern_3", transformer={"variants": variants})
    for cls, both, plain, lists in (
        (Other, True, True, {"single_blocks"}),
        (Double, True, False, {"blocks", "single_blocks"}),
        (Double, False, False, {"single_blocks"}),
        (Double, False, True, {"blocks"}),
    ):
        pipe = SmallPipeline(cls())
        pipe.transformer.both, pipe.plain = both, plain
        with start(pipe, spec, **ALWAYS) as handle:
            pipe(4)
            assert {item.blocks for item in handle.stats().branches} == lists


def test_dotted_paths() -> None:
    pipe = SmallPipeline(torch.nn.Module())
    pipe.inner = SmallPipeline(odd_models.Wrapped())
    plain = pipe.inner(5)
    spec = adapter(
        transformers={"inner.transformer": {"blocks": {"model.inner.blocks": "Pattern_3"}}}
    )
    with start(pipe, spec, **ALWAYS) as handle:
        # This pipeline's own scheduler never runs: the timesteps are the clock.
        pipe.inner(5)
        (item,) = handle.stats().branches
        assert (item.transformer, item.blocks) == ("inner.transformer", "model.inner.blocks")
        assert item.cached_steps == (1, 2, 3, 4)
    assert torch.equal(pipe.inner(5), plain)


def test_optional_transformers_and_lists() -> None:
    lists = {"blocks": "Pattern_3", "more": {"pattern": "Pattern_3", "optional": True}}
    spec = adapter(
        transformers={
            "transformer": {"blocks": lists},
            "transformer_2": {"optional": True, "blocks": {"blocks": "Pattern_3"}},
        }
    )
    pipe = SmallPipeline(Odd())
    for absent in ("attribute", "none"):
        if absent == "none":
            pipe.transformer_2 = None
            pipe.transformer.more = torch.nn.ModuleList()
        with start(pipe, spec, **ALWAYS) as handle:
            pipe(5)
            assert [item.blocks for item in handle.stats().branches] == ["blocks"]
            assert not handle.stats().warnings
            text = handle.explain()
            assert "transformer_2: absent" in text
            assert "pipeline.transformer.more is absent" in text


def test_flags() -> None:
    """Attributes of the pipeline that the adapter sets are there while caching is on."""
    pipe = SmallPipeline(Odd())
    pipe._cache_dit_old = "before"
    spec = adapter(set={"_cache_dit_old": True, "_cache_dit_new": 3})
    handle = start(pipe, spec, **ALWAYS)
    assert (pipe._cache_dit_old, pipe._cache_dit_new) == (True, 3)
    assert "sets pipeline._cache_dit_new = 3" in handle.explain()
    handle.disable()
    assert pipe._cache_dit_old == "before"
    assert not hasattr(pipe, "_cache_dit_new")


def test_nothing_left_to_skip() -> None:
    pipe = SmallPipeline(Odd())
    plain = pipe(5)
    with start(
        pipe, adapter(), **{**ALWAYS, "Fn_compute_blocks": 4}, Bn_compute_blocks=2
    ) as handle:
        assert torch.equal(pipe(5), plain)
        (warning,) = handle.stats().warnings
        assert "leave no block to skip" in warning


def test_blocks_that_change_the_shape() -> None:
    model = odd_models.Merging()
    plain = forwards(model)[0]
    with start(model, adapter(), **ALWAYS) as handle:
        for output in forwards(model):
            assert torch.equal(output, plain)
        (warning,) = handle.stats().warnings
        assert "its blocks change the shape of what runs through them" in warning


@pytest.mark.parametrize("inference", [False, True])
def test_a_loop_that_replaces_the_encoder_hidden_states(inference: bool) -> None:
    """They pass through as the loop gives them; the hidden states are served from the cache."""
    model = odd_models.Replaces()
    plain = forwards(model)[0]
    with start(model, adapter("Pattern_1"), **NEVER):
        assert all(torch.equal(output, plain) for output in forwards(model, inference=inference))
    with calls(*model.blocks) as seen, start(model, adapter("Pattern_1"), **ALWAYS) as handle:
        outputs = forwards(model, inference=inference)
        (item,) = handle.stats().branches
        assert item.cached_steps == (1, 2, 3, 4)
        assert not handle.stats().warnings
        assert len(seen) == len(model.blocks) + STEPS - 1
    for output in outputs:
        torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
    # The last blocks would take what the skipped ones have not made.
    with start(model, adapter("Pattern_1"), **ALWAYS, Bn_compute_blocks=1) as handle:
        assert all(torch.equal(output, plain) for output in forwards(model, inference=inference))
        (warning,) = handle.stats().warnings
        assert "set Bn_compute_blocks to 0" in warning


def test_blocks_that_change_the_shape_of_the_encoder_hidden_states() -> None:
    """Its last block keeps it, so that only the first hit shows that the others do not."""
    model = odd_models.MergingEncoder()
    plain = forwards(model)[0]
    with start(model, adapter("Pattern_1"), **ALWAYS) as handle:
        assert all(torch.equal(output, plain) for output in forwards(model))
        (item,) = handle.stats().branches
        assert item.cached_steps == ()
        assert any("change the shape" in warning for warning in handle.stats().warnings)


def test_differences_that_are_not_numbers() -> None:
    """NaN never hits, and the reason is said."""

    class Broken(models.Block):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) * float("nan")

    class BrokenModel(Odd):
        block = Broken

    with start(model := BrokenModel(), adapter(), **ALWAYS) as handle:
        forwards(model)
        assert row(handle).cached_steps == ()
        (warning,) = handle.stats().warnings
        assert "the residual difference is not a number" in warning


def test_force_refresh() -> None:
    model = Odd()
    for hint, policy, cached in (
        (3, "once", (1, 2, 4, 5, 6, 7, 8, 9)),
        (3, "repeat", (1, 2, 4, 5, 7, 8)),
        (1, "repeat", ()),
        (20, "once", (1, 2, 3, 4, 5, 6, 7, 8, 9)),
    ):
        settings = {**ALWAYS, "force_refresh_step_hint": hint, "force_refresh_step_policy": policy}
        pipe = SmallPipeline(model)
        with start(pipe, adapter(), **settings) as handle:
            for _ in range(2):
                pipe(10)
                assert row(handle).cached_steps == cached


def test_one_difference_for_all_branches() -> None:
    """cfg_diff_compute_separate: false: the first branch's difference decides for the others."""
    pipe = SmallPipeline(models.small())
    settings = {**ALWAYS, "cfg_diff_compute_separate": False}
    with start(pipe, **settings) as handle:
        pipe(8, forwards=lambda step: 2)
        main, guided = row(handle), row(handle, branch="forward 2")
        assert main.residual_diffs == guided.residual_diffs
        assert main.cached_steps == guided.cached_steps
        threshold = sorted(main.residual_diffs.values())[3]
    with start(pipe, **{**settings, "residual_diff_threshold": threshold}) as handle:
        pipe(8, forwards=lambda step: 2)
        assert row(handle).cached_steps == row(handle, branch="forward 2").cached_steps
        assert 0 < len(row(handle).cached_steps) < 7
    with start(pipe, **{**settings, "max_cached_steps": 2}) as handle:
        pipe(8, forwards=lambda step: 2)
        assert len(row(handle, branch="forward 2").cached_steps) == 2
