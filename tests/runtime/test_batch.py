"""Every sample of a batch decides for itself, and becomes what it is alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cache_dit.caching.cache_contexts.calibrators import Calibrator
from torch import nn

from benchmarks.launches import counted
from cachedit_yaml.errors import CompileError
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import BranchStats, Stats
from tests.runtime.models import DIM, Block, Small, adapter, noise, small, start

STEPS = 8
#: How far the latents of each sample move from step to step.
SPEEDS = (0.0, 0.02, 0.3, 1.0, 0.06)
#: Calibrators that the oldest cache-dit has not.
NEWER = [name for name in ("foca",) if name in Calibrator._supported_calibrators]
SETTINGS: dict[str, Any] = {
    "Fn_compute_blocks": 1,
    "max_warmup_steps": 1,
    "residual_diff_threshold": 0.08,
}


def latents(step: int, samples: Sequence[int]) -> torch.Tensor:
    """``[b x s x d]``: what each sample is at a step, whoever else is there."""
    rows = [noise(sample + 1)[0] + SPEEDS[sample] * noise(100 + step)[0] for sample in samples]
    return torch.stack(rows).double()


def forwards(
    model: nn.Module, handle: Handle | None, samples: Sequence[int], copies: int = 1
) -> torch.Tensor:
    """Every output of one generation ``[steps x b x s x d]``."""
    if handle is not None:
        handle.refresh(STEPS)
    made = []
    for step in range(STEPS):
        with torch.no_grad():
            rows = torch.cat([latents(step, samples)] * copies)
            made.append(model(rows, 900 - 100 * step))
    return torch.stack(made)


def run(
    model: nn.Module, samples: Sequence[int], spec: Any = None, copies: int = 1, **settings: Any
) -> tuple[torch.Tensor, Stats]:
    """One cached generation."""
    with start(model, spec or adapter(), **{**SETTINGS, **settings}) as handle:
        return forwards(model, handle, samples, copies), handle.stats()


def assert_as_alone(
    model: nn.Module, samples: Sequence[int], spec: Any = None, **settings: Any
) -> BranchStats:
    """Each sample of a batch is served in the steps in which it is alone, and the same bit for bit.

    Returns:
        What the last list did.
    """
    together, stats = run(model, samples, spec, **settings)
    for place, sample in enumerate(samples):
        alone, own = run(model, [sample], spec, **settings)
        for row, single in zip(stats.branches, own.branches, strict=True):
            assert row.samples[place].cached_steps == single.cached_steps
            measured = row.samples[place].residual_diffs
            if row.follows is None:
                assert measured == pytest.approx(single.residual_diffs, rel=1e-9)
        assert torch.equal(together[:, place], alone[:, 0])
    return stats.branches[-1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"calibrator": "taylorseer"},
        {"calibrator": {"type": "taylorseer", "taylorseer_order": 2}, "Bn_compute_blocks": 1},
        {"calibrator": {"type": "taylorseer", "calibrator_cache_type": "hidden_states"}},
        *({"calibrator": name} for name in NEWER),
        {"calibrator": "dmd", "residual_diff_threshold": 0.2},
        {"max_continuous_cached_steps": 1},
        {"max_cached_steps": 3, "Bn_compute_blocks": 2},
        {"max_accumulated_residual_diff_threshold": 0.1},
        {"Fn_compute_blocks": 3, "warmup_interval": 2, "max_warmup_steps": 4},
        {"scm": {"mask": [1, 0, 0, 1, 0, 0, 0, 0]}},
        {"force_refresh_step_hint": 4},
    ],
    ids=str,
)
def test_each_sample_is_what_it_is_alone(settings: dict[str, Any]) -> None:
    row = assert_as_alone(small().double(), [0, 3, 1, 4], **settings)
    hits = {sample.cached_steps for sample in row.samples}
    assert len(hits) > 1, hits
    assert row.partly_cached
    assert row.computed_blocks < row.total_blocks + 15  # the proof runs some of them twice


def test_a_batch_with_one_miss_costs_one_row() -> None:
    """Of four samples the one that moves is computed; each block is proved once."""
    model = small().double()
    with start(model, adapter(), **{**SETTINGS, "residual_diff_threshold": 0.3}) as handle:
        forwards(model, handle, [0, 0, 3, 0])
        forwards(model, handle, [0, 0, 3, 0])
        (row,) = handle.stats().branches
        # The first block in every step, the other five in the first and for a quarter later.
        assert row.computed_blocks == STEPS + 5 + 7 * 5 / 4
        assert row.hit_ratio == pytest.approx(7 / 8 * 3 / 4)
        assert row.cached_steps == ()
        assert row.partly_cached == dict.fromkeys(range(1, STEPS), 0.75)
        assert "by sample: 7, 7, 0, 7" in str(handle.stats())
        assert handle.stats().as_dict()["branches"][0]["samples"][2]["cached_steps"] == ()


def test_one_sample_costs_nothing_and_several_one_wait() -> None:
    """Kernels and host synchronisations, counted."""
    model, counts = small().double(), {}
    for samples in ([0], [0, 1], [0, 1, 3, 4]):
        for batch in ("mean", "per_sample"):
            with start(model, adapter(), **SETTINGS, batch=batch) as handle:
                forwards(model, handle, samples)
                with counted() as count:
                    forwards(model, handle, samples)
            counts[len(samples), batch] = count
    assert counts[1, "mean"] == counts[1, "per_sample"]
    assert {count.waits for count in counts.values()} == {STEPS - 1}


def test_worst_and_mean() -> None:
    model = small().double()
    each = run(model, [0, 1, 3])[1].branches[0]
    assert [bool(item.cached_steps) for item in each.samples] == [True, True, False]
    worst = run(model, [0, 1, 3], batch="worst")[1].branches[0]
    assert [item.cached_steps for item in worst.samples] == [()] * 3
    # As cache-dit: the two that stand still pull the other one below the threshold.
    mean = run(model, [0, 0, 1, 3], batch="mean", residual_diff_threshold=0.3)[1].branches[0]
    assert mean.cached_steps
    assert not mean.samples
    fits = [run(model, [sample], residual_diff_threshold=0.3)[1].branches[0] for sample in (0, 3)]
    assert not fits[1].cached_steps
    with pytest.raises(CompileError, match="batch is 'worst'; set it to 'mean'"):
        start(model, adapter(), execution="native", **SETTINGS, batch="worst")


def test_copies_for_guidance_decide_together() -> None:
    """Two halves with the same latents are one sample each: the worse of the two decides."""

    class Guided(Small):
        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            count = len(hidden_states) // 2
            text = torch.linspace(0, 1, len(hidden_states)).double()[:, None, None] * 4
            noisy = hidden_states + text * torch.sin(hidden_states * timestep)
            return super().forward(noisy if count else hidden_states, timestep)

    model = small(Guided).double()
    stats = run(model, [0, 1, 4], copies=2, residual_diff_threshold=0.3)[1]
    (row,) = stats.branches
    assert len(row.samples) == 3
    apart = run(model, [0, 1, 4], copies=2, residual_diff_threshold=0.3, batch="worst")[1]
    assert len(apart.branches[0].samples) == 3
    alone = run(model, [0], copies=2)[1].branches[0]
    assert len(alone.samples) == 1
    assert not alone.partly_cached


class Double(Small):
    """Two lists."""

    def __init__(self) -> None:
        super().__init__(4)
        self.single_blocks = nn.ModuleList(Block() for _ in range(5))
        for item in self.single_blocks.parameters():
            nn.init.normal_(item, std=0.3, generator=torch.Generator().manual_seed(item.numel()))
        self.requires_grad_(False)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        for block in self.blocks:
            hidden_states = 0.9 * block(hidden_states)
        for block in self.single_blocks:
            hidden_states = block(hidden_states, temb=torch.ones(len(hidden_states), 1, DIM) / 9)
        return self.proj_out(hidden_states)


@pytest.mark.parametrize("follows", [{}, {"follows": "blocks"}])
@pytest.mark.parametrize("calibrator", [None, "taylorseer"])
def test_several_lists(follows: dict[str, str], calibrator: str | None) -> None:
    spec = adapter({"blocks": "Pattern_3", "single_blocks": {"pattern": "Pattern_3", **follows}})
    row = assert_as_alone(Double().double(), [1, 3, 0], spec, calibrator=calibrator)
    assert row.partly_cached


def test_no_number_in_one_sample() -> None:
    """Only that sample computes; the others hit as if it was not there."""

    class Breaks(Small):
        step = 0

        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            for index, block in enumerate(self.blocks):
                hidden_states = block(hidden_states)
                if index == 3 and len(hidden_states) > 1 and self.step == 0:
                    hidden_states = hidden_states.clone()
                    hidden_states[1] = math.nan
            self.step += 1
            return self.proj_out(hidden_states)

    for calibrator in (None, "taylorseer"):
        model = small(Breaks).double()
        settings = {"calibrator": calibrator, "residual_diff_threshold": 0.5}
        output, stats = run(model, [0, 4, 1], **settings)
        (row,) = stats.branches
        assert output[1:].isfinite().all()
        assert [item.cached_steps[0] for item in row.samples] == [1, 2, 1]
        assert math.isnan(row.samples[1].residual_diffs[1])
        assert any("NaN" in text for text in stats.warnings)


def test_a_batch_that_changes_in_mid_run() -> None:
    """Another number of samples begins with a computed step, and so do its forecasts."""
    model = small().double()
    for calibrator in (None, "taylorseer", *NEWER):
        with start(model, adapter(), **SETTINGS, calibrator=calibrator) as handle:
            handle.refresh(12)
            for step in range(12):
                samples = ([0, 3, 0], [0, 3], [3], [0, 0, 3, 1])[step // 3]
                with torch.no_grad():
                    plain_steps = step % 3 == 0
                    rows = latents(step, samples)
                    output = model(rows, 900 - 50 * step)
                if plain_steps:
                    handle_off = small().double()
                    assert torch.equal(output, handle_off(rows, 900 - 50 * step))
            (row,) = handle.stats().branches
            assert not {0, 3, 6, 9} & {*row.cached_steps, *row.partly_cached}
            assert row.partly_cached


class Mixing(Small):
    """Blocks that take something of the other rows of the batch."""

    class block(Block):  # noqa: N801
        def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
            mixed = hidden_states + 0.3 * hidden_states.mean(0, keepdim=True)
            return hidden_states + self.delta(mixed, temb)


class Remembering(Small):
    """A loop that hands its blocks an object which they write to."""

    class block(Block):  # noqa: N801
        def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
            temb["seen"].append(hidden_states)
            return hidden_states + self.delta(hidden_states)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        kept: dict[str, Any] = {"seen": []}
        for block in self.blocks:
            hidden_states = block(hidden_states, kept)
        assert all(len(item) == len(hidden_states) for item in kept["seen"])
        return self.proj_out(hidden_states)


class Ambiguous(Small):
    """A table of as many rows as the batch, that belongs to no sample."""

    class block(Block):  # noqa: N801
        def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
            return hidden_states + self.delta(hidden_states) * temb.mean(0)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        table = torch.arange(3 * DIM).reshape(3, DIM).double() ** 2 / 500
        for block in self.blocks:
            hidden_states = block(hidden_states, table)
        return self.proj_out(hidden_states)


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Mixing, "a block does something else to a part of them than to all"),
        (Remembering, "its blocks collect something in what they are given"),
        (Ambiguous, "a block does something else to a part of them than to all"),
    ],
)
def test_where_rows_cannot_be_run_apart_the_worst_decides(cls: type[Small], says: str) -> None:
    model = small(cls).double()
    plain = forwards(model, None, [0, 3, 0])
    output, stats = run(model, [0, 3, 0], residual_diff_threshold=0.25)
    assert torch.equal(output, plain)
    (row,) = stats.branches
    assert not row.partly_cached
    assert not any(item.cached_steps for item in row.samples)
    assert row.together
    assert any(says in text for text in stats.warnings)
    assert not any("ran twice" in text for text in stats.warnings)
    # Where all of them may, they hit; and another number of rows may be run apart.
    assert run(model, [0, 0, 0])[1].branches[0].cached_steps
    if cls is Ambiguous:
        assert_as_alone(model, [0, 3, 0, 1])


def test_a_mask_for_each_head_of_each_sample() -> None:
    class Heads(Small):
        class block(Block):  # noqa: N801
            def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
                folded = temb.reshape(len(hidden_states), 2, *temb.shape[1:]).sum(1)
                return hidden_states + self.delta(hidden_states) * folded

        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            mask = hidden_states.mean(dim=(1, 2), keepdim=True).repeat_interleave(2, 0)
            for block in self.blocks:
                hidden_states = block(hidden_states, mask.sigmoid())
            return self.proj_out(hidden_states)

    assert assert_as_alone(small(Heads).double(), [0, 3, 1]).partly_cached


def test_no_rows_of_a_sample_in_the_hidden_states() -> None:
    """The sequence comes first: the worst sample decides."""

    class First(Small):
        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            return super().forward(hidden_states.transpose(0, 1), timestep).transpose(0, 1)

    model = small(First).double()
    _, stats = run(model, [0, 3, 0])
    assert "the batch is the second dimension" in stats.warnings[0]
    assert not stats.branches[0].cached_steps
    assert run(model, [0, 0, 0])[1].branches[0].cached_steps


def test_branches_borrow_differences_by_sample() -> None:
    """cfg_diff_compute_separate: false: the first branch's differences decide for the others'."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small().double()

        def forward(self, rows: torch.Tensor, timestep: Any) -> torch.Tensor:
            return self.inner(rows, timestep) + self.inner(rows * 2 + 1, timestep)

    model = Twice()
    with start(model.inner, adapter(), **SETTINGS, cfg_diff_compute_separate=False) as handle:
        forwards(model, handle, [0, 3, 1])
        first, second = handle.stats().branches
        assert [item.residual_diffs for item in first.samples] == [
            item.residual_diffs for item in second.samples
        ]
        assert first.partly_cached == second.partly_cached != {}


def test_inference_mode_and_blocks_that_write_over_their_input() -> None:
    class InPlace(Small):
        class block(Block):  # noqa: N801
            def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> torch.Tensor:
                return hidden_states.add_(self.delta(hidden_states, temb))

    plain = small().double()
    expected = run(plain, [0, 3, 1])[0]
    with torch.inference_mode():
        assert torch.equal(run(plain, [0, 3, 1])[0], expected)
    row = assert_as_alone(small(InPlace).double(), [0, 3, 1])
    assert row.partly_cached


def test_the_loop_between_the_blocks() -> None:
    """What the loop adds between two blocks goes on as it is, for each row."""

    class Controlled(Small):
        def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
            control = [0.1 * torch.cos(hidden_states * place) for place in range(3)]
            for index, block in enumerate(self.blocks):
                hidden_states = block(hidden_states)
                hidden_states = hidden_states + control[index // 2]
            return self.proj_out(hidden_states)

    assert assert_as_alone(small(Controlled).double(), [0, 3, 1, 4]).partly_cached
