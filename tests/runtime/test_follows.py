"""Lists that follow another one: one decision a forward, and as exact as a list of its own."""

from __future__ import annotations

import re
import statistics
from typing import Any

import pytest
import torch
from torch import nn

from cachedit_yaml.compiler.calibrators import has_calibrator
from cachedit_yaml.errors import AdapterError, CompileError
from tests.runtime import models, odd_models
from tests.runtime.models import ALWAYS, NEVER, SmallPipeline, adapter, calls, row, rows, start
from tests.runtime.odd_models import STEADY, Double, Fickle, GivesEncoder, Odd

STEPS = 5
CALIBRATORS: list[Any] = [
    None,
    "taylorseer",
    {"type": "foca"},
    {"type": "taylorseer", "calibrator_cache_type": "hidden_states"},
]
#: Two steps are computed, and the others served from the cache.
FIRST = {"max_warmup_steps": 1, "scm": {"mask": [1, 1, 0, 0, 0], "policy": "static"}}


class Chain(nn.Module):
    """Loops of one kind, one after the other, each over a list of its own."""

    def __init__(self, cls: type[Odd], count: int = 2) -> None:
        super().__init__()
        self.parts = nn.ModuleList(cls(seed=seed) for seed in range(count))
        self.eval().requires_grad_(False)

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks, in their order."""
        return [block for part in self.parts for block in part.blocks]

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        for part in self.parts:
            hidden_states = part.loop(hidden_states)
        return self.parts[0].proj_out(hidden_states)


class Joined(models.Small):
    """One list of the blocks of several, which see the timestep."""

    def __init__(self, count: int = 9, seed: int = 0) -> None:
        super().__init__(count, seed)


class Apart(nn.Module):
    """The same blocks in lists of their own."""

    def __init__(self, whole: Joined, lengths: tuple[int, ...]) -> None:
        super().__init__()
        blocks = list(whole.blocks)
        for index, length in enumerate(lengths):
            setattr(self, f"list{index}", nn.ModuleList(blocks[:length]))
            del blocks[:length]
        self.count, self.proj_out = len(lengths), whole.proj_out

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        temb = models.shift_of(timestep)
        for index in range(self.count):
            for block in getattr(self, f"list{index}"):
                hidden_states = block(hidden_states, temb)
        return 0.2 * self.proj_out(hidden_states)


def chain(cls: type[Odd], count: int = 2, **more: Any) -> Any:
    """An adapter in which each list follows the one before it."""
    spec = cls.SPEC if isinstance(cls.SPEC, dict) else {"pattern": cls.SPEC}
    return following([f"parts.{index}.blocks" for index in range(count)], spec, **more)


def following(paths: list[str], spec: dict[str, Any], *, star: bool = False, **more: Any) -> Any:
    """An adapter in which lists follow the one before them, or all of them the first."""
    lists = {
        path: {**spec, **({"follows": paths[0] if star else paths[index - 1]} if index else {})}
        for index, path in enumerate(paths)
    }
    return adapter(lists, **more)


PAIR = {"blocks": "Pattern_3", "single_blocks": {"pattern": "Pattern_3", "follows": "blocks"}}


def forwards(model: nn.Module, *, inference: bool = False) -> list[torch.Tensor]:
    """The outputs of a generation whose inputs do not change."""
    with torch.inference_mode() if inference else torch.no_grad():
        latents = models.noise()
        return [model(latents, 1000.0 - 100 * step) for step in range(STEPS)]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("cls", [cls for cls in STEADY if cls is not GivesEncoder])
def test_exact_with_no_hit(cls: type[Odd], inference: bool) -> None:
    model = Chain(cls)
    plain = forwards(model)
    for fn, bn in ((1, 0), (2, 1), (6, 0), (3, 3), (1, 6)):
        settings = {**NEVER, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
        with start(model, chain(cls), **settings) as handle, calls(*model.blocks) as seen:
            again = forwards(model, inference=inference)
            assert all(torch.equal(*pair) for pair in zip(again, plain, strict=True))
            assert all(item.cached_steps == () for item in handle.stats().branches)
        del seen


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("cls", [cls for cls in STEADY if cls is not GivesEncoder])
def test_right_with_hits(cls: type[Odd], inference: bool) -> None:
    """With equal inputs a hit returns what the blocks would have; F + B blocks run, together."""
    model = Chain(cls)
    plain = forwards(model)[0]
    with calls(*model.blocks) as seen:
        forwards(model)
        each = len(seen) // (STEPS * len(model.blocks))
        for fn, bn in ((1, 0), (2, 1), (6, 0), (2, 6)):
            if bn and cls is odd_models.Skips:
                continue  # the last B blocks take what the first of their list have returned
            for calibrator in CALIBRATORS:
                if calibrator == {"type": "foca"} and not has_calibrator("foca"):
                    continue
                settings = {**ALWAYS, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
                with start(model, chain(cls), **settings, calibrator=calibrator) as handle:
                    forwards(model, inference=inference)  # may show that blocks write over input
                    handle.refresh()
                    seen.clear()
                    outputs = forwards(model, inference=inference)
                    found = rows(handle)
                assert torch.equal(outputs[0], plain)
                for output in outputs:
                    torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
                for name, item in found.items():
                    hit = () if bn == 6 and name.startswith("parts.1") else (1, 2, 3, 4)
                    assert item.cached_steps == hit, (name, fn, bn, calibrator)
                assert len(seen) == each * (12 + 4 * (fn + bn))
                assert len(seen) == sum(item.computed_blocks for item in found.values())


@pytest.mark.parametrize("bn", [0, 2])
@pytest.mark.parametrize("cls", [cls for cls in STEADY if cls is not GivesEncoder])
def test_no_block_runs_under_a_mask(cls: type[Odd], bn: int) -> None:
    """With F = 0 a static mask decides for all."""
    if bn and cls is odd_models.Skips:
        return
    model = Chain(cls, 3)
    plain = forwards(model)[0]
    settings = {**FIRST, "Fn_compute_blocks": 0, "Bn_compute_blocks": bn}
    with calls(*model.blocks) as seen, start(model, chain(cls, 3), **settings) as handle:
        handle.refresh(STEPS)
        forwards(model)
        handle.refresh(STEPS)
        seen.clear()
        outputs = forwards(model)
        each = len(handle.stats().branches)
        assert [item.cached_steps for item in handle.stats().branches] == [(2, 3, 4)] * each
        assert len(seen) == each // 3 * (2 * len(model.blocks) + 3 * bn)
    for output in outputs:
        torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)


def thresholds(pipe: SmallPipeline, **call: Any) -> list[float]:
    """From below every difference of a generation to above."""
    settings = {**ALWAYS, "residual_diff_threshold": 1e-9}
    with start(pipe, **settings) as handle:
        pipe(10, **call)
        seen = [value for item in handle.stats().branches for value in item.residual_diffs.values()]
    return [1e-9, *(min(0.99, cut) for cut in statistics.quantiles(seen, n=4)), 0.99]


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("lengths", [(4, 5), (1, 8), (2, 3, 4), (1, 1, 2, 2, 2, 1)])
def test_as_one_list_of_all_blocks(lengths: tuple[int, ...], star: bool) -> None:
    """Lists that follow do what one list of all of their blocks does, up to rounding."""
    whole = Joined()
    one, several = SmallPipeline(whole), SmallPipeline(Apart(whole, lengths))
    spec = following([f"list{i}" for i in range(len(lengths))], {"pattern": "Pattern_3"}, star=star)
    cases: list[dict[str, Any]] = [
        {"Bn_compute_blocks": bn, "calibrator": calibrator, "residual_diff_threshold": threshold}
        for threshold in thresholds(one, forwards=lambda step: 2)
        for bn, calibrator in ((0, None), (0, "taylorseer"), (1, "taylorseer"))
    ]
    middle = cases[6]["residual_diff_threshold"]
    bins = {"compute_bins": [2, 1, 1], "cache_bins": [3, 3]}
    mask = {"preset": "fast", "policy": "static"}
    cases += [
        {"max_warmup_steps": 3, "warmup_interval": 2, "max_cached_steps": 4},
        {"max_continuous_cached_steps": 2, "scm": bins},
        {"force_refresh_step_hint": 3, "force_refresh_step_policy": "repeat"},
        {"cfg_diff_compute_separate": False, "residual_diff_threshold": middle},
        {"Fn_compute_blocks": 0, "scm": mask, "calibrator": "taylorseer"},
    ]
    hits = 0
    for settings in cases:
        found = {}
        for name, pipe, adapter_of in (("one", one, None), ("several", several, spec)):
            with start(pipe, adapter_of or adapter(), **{**ALWAYS, **settings}) as handle:
                # Guidance stops in the middle: the second branch pauses.
                output = pipe(10, forwards=lambda step: 2 if step != 5 else 1)
                found[name] = output, handle.stats()
        (expected, alone), (output, stats) = found["one"], found["several"]
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        if not alone.hit_ratio:
            assert torch.equal(output, expected)
        for item in alone.branches:
            own = [other for other in stats.branches if other.branch == item.branch]
            assert len(own) == len(lengths)
            for other in own:
                if other.total_blocks == len(item.executed_steps) and settings.get(
                    "Bn_compute_blocks"
                ):
                    continue  # one block, which is the last
                assert other.cached_steps == item.cached_steps, settings
            assert sum(other.computed_blocks for other in own) == item.computed_blocks
            assert own[0].residual_diffs == pytest.approx(item.residual_diffs, rel=1e-4)
            assert all(not other.residual_diffs for other in own[1:])
            hits += len(item.cached_steps)
    assert hits > 100


def test_branches_decide_apart() -> None:
    """Each guidance branch takes its own decision, and the lists that follow take that one."""
    pipe = SmallPipeline(Apart(Joined(), (3, 3, 3)))
    spec = following(["list0", "list1", "list2"], {"pattern": "Pattern_3"})
    differ = 0
    for threshold in thresholds(SmallPipeline(Joined()), forwards=lambda step: 2):
        with start(pipe, spec, **{**ALWAYS, "residual_diff_threshold": threshold}) as handle:
            pipe(10, forwards=lambda step: 2)
            found = rows(handle)
        own = [found[f"list0 [forward {turn}]"].cached_steps for turn in (1, 2)]
        differ += own[0] != own[1]
        for turn in (1, 2):
            for name in ("list1", "list2"):
                item = found[f"{name} [forward {turn}]"]
                assert item.cached_steps == own[turn - 1]
                assert item.follows == "list0"
    assert differ


def test_what_stands_between_the_lists_goes_on() -> None:
    """The loop changes what leaves one list before it enters the next, on hits too."""

    class Between(Double):
        def loop(self, hidden: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                hidden = block(hidden)
            hidden = torch.cat([hidden, 2 * hidden.flip(1)], dim=1)
            for block in self.single_blocks:
                hidden = block(hidden)
            return hidden[:, : hidden.shape[1] // 2]

    pipe = SmallPipeline(model := Between())
    plain, outputs = pipe(STEPS), forwards(model)
    with start(pipe, adapter(PAIR), **NEVER):
        assert torch.equal(pipe(STEPS), plain)
    with start(model, adapter(PAIR), **ALWAYS) as handle:
        for output in forwards(model):
            torch.testing.assert_close(output, outputs[0], rtol=1e-5, atol=1e-6)
        assert {item.cached_steps for item in handle.stats().branches} == {(1, 2, 3, 4)}


def test_another_batch_and_shape() -> None:
    """What one list has stored does not fit any more: it computes, whatever the other one does."""

    class Grows(Double):
        more = 0

        def loop(self, hidden: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                hidden = block(hidden)
            hidden = torch.cat([hidden, hidden[:, : self.more]], dim=1)
            for block in self.single_blocks:
                hidden = block(hidden)
            return hidden[:, : hidden.shape[1] - self.more]

    model = Grows()
    with start(model, adapter(PAIR), **ALWAYS) as handle, torch.no_grad():
        for step, more in enumerate((0, 0, 2, 2, 0)):
            model.more = more
            output = model(models.noise(), 1000.0 - step)
            assert output.isfinite().all()
        assert row(handle).cached_steps == (1, 2, 3, 4)
        assert row(handle, "single_blocks").cached_steps == (1, 3)
    pipe = SmallPipeline(model)
    for batch in (1, 2, 1):
        plain = pipe(4, batch=batch)
        with start(pipe, adapter(PAIR), **NEVER):
            assert torch.equal(pipe(4, batch=batch), plain)


def test_no_numbers_in_a_list_that_follows() -> None:
    """They show in the next difference of the list that decides, and nothing of them is used."""

    class Breaks(models.Block):
        broken = False

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            hidden = super().forward(hidden_states)
            return hidden * float("nan") if self.broken else hidden

    for settings in (ALWAYS, {**FIRST, "Fn_compute_blocks": 1}):
        for calibrator in (None, "taylorseer"):
            model = Double()
            model.single_blocks[2] = Breaks().requires_grad_(False)
            plain = forwards(model)[0]
            with start(model, adapter(PAIR), **settings, calibrator=calibrator) as handle:
                handle.refresh(STEPS)
                with torch.no_grad():
                    outputs = []
                    for step in range(STEPS):
                        model.single_blocks[2].broken = step == 0
                        outputs.append(model(models.noise(), 1000.0 - step))
                assert not outputs[0].isfinite().all()
                for output in outputs[1:]:
                    torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
                assert 1 not in row(handle, "single_blocks").cached_steps
                assert 3 in row(handle, "single_blocks").cached_steps


def test_blocks_left_out_of_a_list_that_follows() -> None:
    """Another set of blocks on a hit: the whole forward runs again, and nothing of it is kept."""
    model = Chain(Fickle)
    second = model.parts[1]
    plain = {}
    for leave_out in ((), (2,)):
        second.leave_out = leave_out
        plain[leave_out] = forwards(model)[0]
    with start(model, chain(Fickle), **ALWAYS) as handle, torch.no_grad():
        run = [(), (), (2,), (2,), (2,), ()]
        for step, leave_out in enumerate(run):
            second.leave_out = leave_out
            output = model(models.noise(), 1000.0 - step)
            torch.testing.assert_close(output, plain[leave_out], rtol=1e-5, atol=1e-6)
        stats = handle.stats()
        assert any("forwards ran twice" in text for text in stats.warnings)
        assert [item.cached_steps for item in stats.branches] == [(1, 4)] * 2


class Reversed(Double):
    """Runs the second list first; the source of `forward` does not show it."""

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.single_blocks:
            hidden = block(hidden)
        return super(Double, self).loop(hidden)


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Reversed, "the loop runs it before the list that it follows"),
        (odd_models.Interleaved, "blocks of another declared list run between its own"),
    ],
)
def test_a_list_that_cannot_follow(cls: type[Double], says: str) -> None:
    pipe = SmallPipeline(cls())
    plain = pipe(STEPS)
    with start(pipe, adapter(PAIR), **ALWAYS) as handle:
        output = pipe(STEPS)
        assert row(handle, "single_blocks").cached_steps == ()
        assert any(says in warning for warning in handle.stats().warnings)
        if cls is odd_models.Interleaved:
            assert torch.equal(output, plain)


def test_a_list_that_decides_and_cannot_hit() -> None:
    """The list that follows says why."""

    class Broken(Double):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(odd_models.MergingBlock() for _ in range(2))
            self.requires_grad_(False)

    model = Broken()
    plain = forwards(model)[0]
    with start(model, adapter(PAIR), **ALWAYS) as handle:
        for output in forwards(model):
            assert torch.equal(output, plain)
        first, second = handle.stats().warnings
        assert "its blocks change the shape" in first
        assert (
            "single_blocks [forward 1] cannot hit: blocks, which it follows, cannot hit" in second
        )


def test_the_source_says_that_it_runs_too_early() -> None:
    class Early(Double):
        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            for block in self.single_blocks:
                hidden_states = block(hidden_states)
            for block in self.blocks:
                hidden_states = block(hidden_states)
            return hidden_states

    with pytest.raises(
        CompileError, match="single_blocks follows blocks, which forward runs after"
    ):
        start(Early(), adapter(PAIR))
    lists = {
        "single_blocks": "Pattern_3",
        "blocks": {"pattern": "Pattern_3", "follows": "single_blocks"},
    }
    with start(Early(), adapter(lists), **ALWAYS) as handle:
        forwards(model := handle.plan.transformers[0].module)
        assert model is not None
        assert {item.cached_steps for item in handle.stats().branches} == {(1, 2, 3, 4)}


def test_the_list_that_is_followed_is_absent() -> None:
    """The next one up the chain decides, or the list itself."""
    lists = {
        "blocks": "Pattern_3",
        "more": {"pattern": "Pattern_3", "optional": True, "follows": "blocks"},
        "single_blocks": {"pattern": "Pattern_3", "follows": "more"},
    }
    with start(Double(), adapter(lists), **ALWAYS) as handle:
        forwards(handle.plan.transformers[0].module)
        assert row(handle, "single_blocks").follows == "blocks"
    lists["more"] = {"pattern": "Pattern_3", "optional": True}
    with start(Double(), adapter(lists), **ALWAYS) as handle:
        forwards(handle.plan.transformers[0].module)
        item = row(handle, "single_blocks")
        assert item.follows is None
        assert item.computed_blocks == 4 + 4
        assert "single_blocks decides itself: more is absent" in handle.explain()


def test_what_cannot_follow_is_refused() -> None:
    with pytest.raises(AdapterError, match="the first block of Pattern_4 makes the encoder"):
        chain(GivesEncoder)
    with pytest.raises(CompileError, match=r"single_blocks has 4 blocks.*write at most 4 together"):
        start(Double(), adapter(PAIR), **ALWAYS, Bn_compute_blocks=5)


def test_settings_of_its_own() -> None:
    """Its calibrator, and the last blocks; everything else is the other list's."""
    lists = {
        "blocks": {
            "pattern": "Pattern_3",
            "params": {"max_warmup_steps": 3, "Bn_compute_blocks": 2},
        },
        "single_blocks": {
            "pattern": "Pattern_3",
            "follows": "blocks",
            "params": {"calibrator": "taylorseer", "Bn_compute_blocks": 1, "max_warmup_steps": 1},
        },
    }
    with start(Double(), adapter(lists, cache=ALWAYS)) as handle:
        forwards(handle.plan.transformers[0].module)
        first, second = handle.plan.transformers[0].lists
        assert (first.layers.resolve(8).bn, second.layers.resolve(8).bn) == (0, 1)
        assert first.layers.resolve(8).calibrator_config() is None
        assert second.layers.resolve(8).calibrator_config() is not None
        assert row(handle, "blocks").cached_steps == (3, 4)
        assert row(handle, "single_blocks").cached_steps == (3, 4)
        assert row(handle, "single_blocks").computed_blocks == 3 * 4 + 2 * 1
        assert row(handle, "blocks").computed_blocks == 3 * 4 + 2 * 1
        text = handle.explain()
        assert "single_blocks: 4 x Block, Pattern_3, follows blocks" in text
        assert re.search(r"Fn_compute_blocks +0 +\(follows blocks\)", text)
        assert "(they are the last of single_blocks)" in text
        assert "follows blocks" in str(handle.stats())


def test_disabling_restores_everything() -> None:
    pipe = SmallPipeline(Double())
    plain, before = pipe(STEPS), {id(m): dict(vars(m)) for m in pipe.transformer.modules()}
    with start(pipe, adapter(PAIR), **ALWAYS):
        assert not torch.equal(pipe(STEPS), plain)
    assert {id(m): dict(vars(m)) for m in pipe.transformer.modules()} == before
    assert torch.equal(pipe(STEPS), plain)


class AcrossLists(Double):
    """The second list takes what the first has returned, the last first (a U-Net)."""

    def __init__(self, count: int = 4, seed: int = 0) -> None:
        super().__init__(count, seed)
        self.single_blocks = nn.ModuleList(odd_models.SkipBlock() for _ in range(count))
        self.requires_grad_(False)

    def loop(self, hidden: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.blocks:
            hidden = block(hidden)
            skips.append(hidden)
        for block in self.single_blocks:
            hidden = block(hidden, skips.pop())
        return hidden


def test_skip_connections_across_the_lists() -> None:
    """On a hit both lists are skipped; last blocks that run would take what was not computed."""
    model = AcrossLists()
    plain = forwards(model)[0]
    with start(model, adapter(PAIR), **ALWAYS) as handle:
        for output in forwards(model):
            torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
        assert {item.cached_steps for item in handle.stats().branches} == {(1, 2, 3, 4)}
    # The last block takes what the first has returned, which always runs; the one before does not.
    for bn, cached in ((1, (1, 2, 3, 4)), (2, ())):
        with start(model, adapter(PAIR), **ALWAYS, Bn_compute_blocks=bn) as handle:
            for output in forwards(model):
                torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
            assert {item.cached_steps for item in handle.stats().branches} == {cached}
            text = "its last blocks take what skipped ones return"
            assert [text in warning for warning in handle.stats().warnings] == [True] * (
                2 * (bn > 1)
            )


def test_what_one_list_lacks_all_compute() -> None:
    """Blocks that write over their input are found out in one list, and nothing of it is stored."""

    class Late(Double):
        def __init__(self) -> None:
            super().__init__()
            self.single_blocks = nn.ModuleList(odd_models.HalfInPlaceBlock() for _ in range(4))
            self.requires_grad_(False)

    for count in (4, 1):  # where the first list has one block, it has nothing to store itself
        model = Late()
        model.blocks = model.blocks[:count]
        plain = forwards(model)[0]
        with start(model, adapter(PAIR), **ALWAYS) as handle:
            for output in forwards(model):
                torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
            assert {item.cached_steps for item in handle.stats().branches} == {(2, 3, 4)}


class InARow(Double):
    """Two loops in the source of `forward`, one right after the other."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        for block in self.blocks:
            hidden_states = block(hidden_states)
        for layer in self.single_blocks:
            hidden_states = layer(hidden_states)
        return 0.2 * self.proj_out(hidden_states)


class WithMore(Double):
    """As `InARow`, with something in between."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        for block in self.blocks:
            hidden_states = block(hidden_states)
        hidden_states = 2 * hidden_states
        for block in self.single_blocks:
            hidden_states = block(hidden_states)
        return self.proj_out(hidden_states)


@pytest.mark.parametrize("calibrator", [None, "taylorseer"])
def test_native_execution_chains_the_lists(calibrator: str | None) -> None:
    pipe = SmallPipeline(InARow())
    plain = pipe(8, forwards=lambda step: 2)
    before = {id(m): dict(vars(m)) for m in pipe.transformer.modules()}
    hits = 0
    for threshold in (1e-9, 0.1, 0.2, 0.4, 0.99):
        for fn, bn in ((1, 0), (4, 0), (2, 3)):
            settings = {
                **ALWAYS,
                "Fn_compute_blocks": fn,
                "Bn_compute_blocks": bn,
                "residual_diff_threshold": threshold,
                "calibrator": calibrator,
            }
            found = []
            for execution in ("loop", "native"):
                with start(pipe, adapter(PAIR), execution=execution, **settings) as handle:
                    found.append((pipe(8, forwards=lambda step: 2), handle.stats()))
            (output, ours), (chained, native) = found
            torch.testing.assert_close(output, chained, rtol=1e-5, atol=1e-6)
            for one, other in zip(ours.branches, native.branches, strict=True):
                assert (one.blocks, one.follows) == (other.blocks, other.follows)
                assert one.cached_steps == other.cached_steps
                assert one.computed_blocks == other.computed_blocks
                hits += len(one.cached_steps)
            assert torch.equal(pipe(8, forwards=lambda step: 2), plain)
            assert {id(m): dict(vars(m)) for m in pipe.transformer.modules()} == before
    assert hits > 50


@pytest.mark.parametrize(
    ("cls", "spec", "says"),
    [
        (WithMore, {}, "forward does not go on with it right after blocks, in the same way"),
        (InARow, {"params": {"calibrator": "taylorseer"}}, "it has another calibrator"),
        (Double, {}, "forward does not go on with it right after blocks"),
        (InARow, {"pattern": "Pattern_2"}, "it has Pattern_2, and the other one Pattern_3"),
    ],
)
def test_what_native_execution_cannot_chain(
    cls: type[Double], spec: dict[str, Any], says: str
) -> None:
    model = cls()
    if "pattern" in spec:
        model.single_blocks = nn.ModuleList(odd_models.KeepsEncoderBlock() for _ in range(4))
        model.requires_grad_(False)
    lists = {**PAIR, "single_blocks": {"pattern": "Pattern_3", "follows": "blocks", **spec}}
    says = f"single_blocks: cache-dit can only chain it to blocks, and {says}"
    with pytest.raises(CompileError, match=says):
        start(model, adapter(lists), **ALWAYS, execution="native")
    with (
        start(model, adapter(lists), **ALWAYS) as handle,
        pytest.raises(CompileError, match=says),
    ):
        handle.plan.block_adapters()


def test_block_adapters_of_lists_that_follow() -> None:
    """One list for cache-dit, with the first one's settings and the last one's B."""
    model = InARow()
    with start(model, adapter(PAIR), **ALWAYS, Bn_compute_blocks=2) as handle:
        (made,) = handle.plan.block_adapters()
        assert [list(blocks) for blocks in made.blocks[0]] == [
            [*model.blocks, *model.single_blocks]
        ]
        assert made.dummy_blocks_names == [["single_blocks"]]
        config = made.params_modifiers[0][0]._context_kwargs["cache_config"]
        assert (config.Fn_compute_blocks, config.Bn_compute_blocks) == (1, 2)
