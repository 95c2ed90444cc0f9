"""Requests at different steps whose rows share a forward: each is as if it were alone."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.launches import counted
from cachedit_yaml.compiler.compile import compile_adapter
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.runtime.choice import Choice
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import Stats
from cachedit_yaml.runtime.steps import Padded, Stepwise, together
from tests import tiny
from tests.runtime.models import DIM, NEVER, adapter, noise, start

SETTINGS: dict[str, Any] = {
    "Fn_compute_blocks": 1,
    "max_warmup_steps": 1,
    "residual_diff_threshold": 0.2,
}
#: Hidden states and encoder hidden states.
BOTH = adapter({"blocks": {"pattern": "Pattern_0"}})


class Block(nn.Module):
    """Hidden states see the encoder hidden states that the mask allows; both are changed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)
        self.other = nn.Linear(DIM, DIM)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        mask: torch.Tensor,
        temb: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``[b x s x d]`` and ``[b x t x d]``, with ``[b x t x 1]`` and ``[b x 1 x 1]``."""
        seen = (encoder_hidden_states * mask).sum(1, keepdim=True)
        hidden_states = hidden_states + 0.3 * torch.tanh(self.linear(hidden_states + seen) + temb)
        encoder_hidden_states = encoder_hidden_states + 0.1 * torch.tanh(
            self.other(encoder_hidden_states) + temb
        )
        return hidden_states, encoder_hidden_states


class Model(nn.Module):
    """A transformer whose rows have timesteps of their own, and prompts of different lengths."""

    block: type[Block] = Block

    def __init__(self, count: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.block() for _ in range(count))
        tiny.randomise(self, 0)
        self.double().eval().requires_grad_(False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """``[b x s x d]``."""
        temb = timestep[:, None, None] / 4000
        for block in self.lists:
            hidden_states, encoder_hidden_states = block(
                *self.between(hidden_states, encoder_hidden_states, mask, temb)
            )
        return hidden_states + (encoder_hidden_states * mask).sum(1, keepdim=True)

    @property
    def lists(self) -> Iterable[nn.Module]:
        """The blocks, in their order."""
        return self.blocks

    def between(self, *given: torch.Tensor) -> Any:
        """What the blocks take."""
        return given


@dataclass
class Ask:
    """One request.

    Attributes:
        total: its steps.
        speed: how fast its latents move.
        words: the length of its prompt.
        arrives: the wave with which it comes.
        rows: its rows.
        guided: it makes a second forward in each step.
        choice: what it wants of the cache.
        leaves: the step before which it is aborted.
    """

    total: int
    speed: float
    words: int
    arrives: int = 0
    rows: int = 1
    guided: bool = False
    choice: Choice | None = None
    leaves: int | None = None
    stepwise: Stepwise | None = None
    made: list[torch.Tensor] = field(default_factory=list)

    def latents(self) -> torch.Tensor:
        """``[rows x s x d]``: what goes into its next step."""
        step = len(self.made)
        rows = [
            noise(self.words + row)[0] + (row + 1) * self.speed * noise(100 + step)[0]
            for row in range(self.rows)
        ]
        return torch.stack(rows).double()

    def prompt(self, width: int, turn: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """``[rows x width x d]`` and its mask."""
        made = torch.zeros(self.rows, width, DIM, dtype=torch.float64)
        made[:, : self.words] = noise(50 + self.words + turn, self.rows, self.words).double()
        mask = torch.zeros(self.rows, width, 1, dtype=torch.float64)
        mask[:, : self.words] = 1.0
        return made, mask


def wave(model: nn.Module, handle: Handle | None, asks: Sequence[Ask]) -> str | None:
    """One step of some requests, in one batch."""
    width = max(ask.words for ask in asks)
    latents = torch.cat([ask.latents() for ask in asks])
    times = [1000.0 * (1 - len(ask.made) / ask.total) for ask in asks for _ in range(ask.rows)]
    forwards, padded = [], []
    for turn in range(1 + asks[0].guided):
        prompts, masks = zip(*(ask.prompt(width, turn) for ask in asks), strict=True)
        forwards.append((torch.cat(prompts), torch.cat(masks)))
        padded.append(Padded(forwards[-1], [ask.words for ask in asks]))
    refused = None

    def output() -> torch.Tensor:
        found = [model(latents, torch.tensor(times), *given) for given in forwards]
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    with torch.no_grad():
        if handle is None:
            made = output()
        else:
            for ask in asks:
                if ask.stepwise is None:
                    handle.choice = ask.choice
                    ask.stepwise = handle.stepwise(ask.total)
            parts = [(ask.stepwise, ask.rows) for ask in asks if ask.stepwise is not None]
            with together(parts, padded) as shared:
                made = output()
            refused = shared.refused
    for ask, own in zip(asks, made.split([ask.rows for ask in asks]), strict=True):
        ask.made.append(own)
    return refused


def run(model: nn.Module, handle: Handle | None, asks: Sequence[Ask]) -> list[Ask]:
    """Requests that come and go, all that are there in one batch."""
    turn, left = 0, list(asks)
    while left:
        here = [ask for ask in left if ask.arrives <= turn]
        for ask in [ask for ask in here if ask.leaves == len(ask.made)]:
            ask.stepwise = None
            here.remove(ask)
            left.remove(ask)
        if here:
            assert wave(model, handle, here) is None
        left = [ask for ask in left if len(ask.made) < ask.total]
        turn += 1
    return list(asks)


def stats_of(handle: Handle, ask: Ask) -> Stats:
    assert ask.stepwise is not None
    return handle.stats_of(ask.stepwise.generation)


def asks(**more: Any) -> list[Ask]:
    """Requests of other lengths that come one after another, some of which move."""
    return [
        Ask(8, 0.02, 3, **more),
        Ask(12, 1.0, 5, **more),
        Ask(6, 0.03, 2, arrives=2, **more),
        Ask(9, 0.2, 7, arrives=4, rows=2, **more),
    ]


def assert_as_alone(model: nn.Module, handle: Handle, made: Sequence[Ask], **more: Any) -> None:
    for ask, lonely in zip(made, asks(**more), strict=True):
        lonely.choice, lonely.arrives = ask.choice, 0
        run(model, handle, [lonely])
        for own, other in zip(ask.made, lonely.made, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)
        pairs = zip(stats_of(handle, ask).branches, stats_of(handle, lonely).branches, strict=True)
        for row, single in pairs:
            assert row.executed_steps == single.executed_steps
            assert row.cached_steps == single.cached_steps
            assert row.partly_cached == single.partly_cached
            assert row.residual_diffs == pytest.approx(single.residual_diffs, rel=1e-9)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"calibrator": "taylorseer", "Bn_compute_blocks": 1},
        {"calibrator": {"type": "taylorseer", "calibrator_cache_type": "hidden_states"}},
        {"max_continuous_cached_steps": 1},
        {"max_cached_steps": 3, "Bn_compute_blocks": 2},
        {"max_accumulated_residual_diff_threshold": 0.1},
        {"scm": {"preset": "fast", "policy": "dynamic"}},
        {"scm": {"preset": "fast", "policy": "static"}, "Fn_compute_blocks": 0},
        {"force_refresh_step_hint": 4},
        {"batch": "worst"},
        {"batch": "mean"},
    ],
    ids=str,
)
def test_each_is_as_if_it_were_alone(settings: dict[str, Any], guided: bool) -> None:
    model = Model()
    with start(model, BOTH, **{**SETTINGS, **settings}) as handle:
        made = run(model, handle, asks(guided=guided))
        found = [stats_of(handle, ask) for ask in made]
        assert len({row.cached_steps for stats in found for row in stats.branches}) > 1
        assert_as_alone(model, handle, made, guided=guided)


def test_exact_with_no_hit() -> None:
    model = Model()
    plain = run(model, None, asks())
    with start(model, BOTH, **NEVER) as handle:
        made = run(model, handle, asks())
    for ask, other in zip(made, plain, strict=True):
        assert all(map(torch.equal, ask.made, other.made))
        assert len(stats_of(handle, ask).branches[0].executed_steps) == ask.total


def test_blocks_run_on_the_rows_that_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = Model(), []
    inner = Block.forward

    def sized(self: Block, hidden_states: torch.Tensor, *rest: Any) -> Any:
        sizes.append(len(hidden_states))
        return inner(self, hidden_states, *rest)

    monkeypatch.setattr(Block, "forward", sized)
    with start(model, BOTH, **SETTINGS) as handle:
        for _ in range(2):  # each block is proved once
            made = [Ask(8, 0.02, 3), Ask(8, 4.0, 5), Ask(8, 0.02, 4)]
            sizes.clear()
            run(model, handle, made)
        rows = [stats_of(handle, ask).branches[0] for ask in made]
    assert [len(row.cached_steps) for row in rows] == [7, 0, 7]
    # The first block in every step, the other five in the first, and on one row later.
    assert sizes == [3] * 6 + [3, 1, 1, 1, 1, 1] * 7
    assert [row.computed_blocks for row in rows] == [8 + 5, 8 + 8 * 5, 8 + 5]
    assert all(row.total_blocks == 8 * 6 for row in rows)


def test_each_has_its_own_settings() -> None:
    model = Model()
    with start(model, BOTH, **SETTINGS) as handle:

        def choice(**settings: Any) -> Choice:
            wanted = parse_settings({**SETTINGS, **settings})
            return Choice.of(compile_adapter(BOTH, None, transformer=model, cache_config=wanted))

        choices = [
            choice(residual_diff_threshold=0.0),
            choice(residual_diff_threshold=0.9),
            Choice(off=True),
            choice(calibrator="taylorseer"),
        ]
        made = asks()
        for ask, own in zip(made, choices, strict=True):
            ask.choice = own
        run(model, handle, made)
        assert_as_alone(model, handle, made)
        hits = [stats_of(handle, ask).hit_ratio for ask in made]
        assert hits[0] == hits[2] == 0
        assert hits[1] > 0
        assert hits[3] > 0
        assert stats_of(handle, made[2]).branches == ()


def test_an_aborted_one_leaves_nothing() -> None:
    model = Model()
    with start(model, BOTH, **SETTINGS) as handle:
        made = [Ask(8, 0.02, 3), Ask(8, 0.02, 5, leaves=4)]
        run(model, handle, made)
        gc.collect()
        assert [item.ended for item in handle.history] == ["finished", "its request is gone"]
        alone = Ask(8, 0.02, 3)
        run(model, handle, [alone])
        for own, other in zip(made[0].made, alone.made, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_what_raises_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = Model(), [Ask(8, 0.02, 3), Ask(8, 0.02, 5)]
    for _ in range(2):
        wave(model, None, plain)
    with start(model, BOTH, **SETTINGS) as handle:
        made = [Ask(8, 0.02, 3), Ask(8, 0.02, 5)]
        wave(model, handle, made)
        with monkeypatch.context() as patch:
            patch.setattr(Block, "forward", lambda *args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                wave(model, handle, made)
        assert [item.ended for item in handle.history] == ["failed", "failed"]
        wave(model, handle, made)
        assert torch.equal(made[1].made[-1], plain[1].made[-1])


class TwoLists(Model):
    """The first half of the blocks, and the others in a list of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.others = self.blocks[:3], self.blocks[3:]

    @property
    def lists(self) -> list[nn.Module]:
        """All blocks, in their order."""
        return [*self.blocks, *self.others]


@pytest.mark.parametrize("follows", [{}, {"follows": "blocks"}])
@pytest.mark.parametrize(
    "settings",
    [{}, {"calibrator": "taylorseer"}, {"scm": {"preset": "fast", "policy": "static"}}],
    ids=str,
)
def test_several_lists(follows: dict[str, str], settings: dict[str, Any]) -> None:
    model = TwoLists()
    spec = adapter({"blocks": "Pattern_0", "others": {"pattern": "Pattern_0", **follows}})
    with start(model, spec, **{**SETTINGS, **settings}) as handle:
        made = run(model, handle, asks())
        assert all(len(stats_of(handle, ask).branches) == 2 for ask in made)
        assert len({stats_of(handle, ask).branches[1].cached_steps for ask in made}) > 1
        assert_as_alone(model, handle, made)


def test_no_number_in_one_request() -> None:
    """Only that one computes; the others hit as if it was not there."""

    class Breaks(Model):
        step = 0

        def between(self, hidden: torch.Tensor, *rest: Any) -> Any:
            """What the blocks take."""
            self.step += 1
            if self.step == 4 and len(hidden) > 1:
                hidden = hidden.clone()
                hidden[1] = math.nan
            return hidden, *rest

    model = Breaks()
    with start(model, BOTH, **SETTINGS) as handle:
        made = run(model, handle, [Ask(8, 0.02, 3), Ask(8, 0.02, 5), Ask(8, 0.02, 4)])
        steps = [stats_of(handle, ask).branches[0].cached_steps[0] for ask in made]
        assert steps == [1, 2, 1]
        assert not made[1].made[0].isfinite().all()
        assert all(item.isfinite().all() for ask in (made[0], made[2]) for item in ask.made)
        assert any("NaN" in text for text in stats_of(handle, made[1]).warnings)
        assert not stats_of(handle, made[0]).warnings


class Positions(Block):
    """A block that takes the positions of its prompt, which have no rows."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        mask: torch.Tensor,
        temb: torch.Tensor,
        positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As above, with ``[t x d]``."""
        return super().forward(hidden_states, encoder_hidden_states + positions, mask, temb)


class Positioned(Model):
    """A transformer of such blocks."""

    block = Positions

    def between(self, hidden: torch.Tensor, encoder: torch.Tensor, *rest: Any) -> Any:
        """What the blocks take."""
        positions = noise(7, 1, encoder.shape[1])[0].double()
        return hidden, encoder, *rest, positions


def test_what_cannot_be_told_apart_is_refused() -> None:
    """Prompts with as many words as there are rows: their positions look like rows."""
    model = Positioned()
    plain = run(model, None, [Ask(8, 0.02, 2), Ask(8, 4.0, 2)])
    with start(model, BOTH, **SETTINGS) as handle:
        made = [Ask(8, 0.02, 2), Ask(8, 4.0, 2)]
        refused = [wave(model, handle, made) for _ in range(8)]
        # What is refused is computed, and nothing of it stored: every second step would have hit.
        why = "a block does something else to a part of them than to all"
        assert refused == [None, why] * 4
        assert [stats_of(handle, ask).hit_ratio for ask in made] == [0, 0]
        for ask, other in zip(made, plain, strict=True):
            assert all(map(torch.equal, ask.made, other.made))
        others = [Ask(8, 0.02, 3), Ask(8, 4.0, 3)]
        assert [wave(model, handle, others) for _ in range(8)] == [None] * 8
        assert stats_of(handle, others[0]).hit_ratio > 0


def test_the_host_waits_once_for_all() -> None:
    model, waits = Model(), []
    with start(model, BOTH, **SETTINGS) as handle:
        for count in (1, 3):
            for _ in range(2):
                made = [Ask(8, 0.02, 2 + index) for index in range(count)]
                with counted() as count_of:
                    run(model, handle, made)
            waits.append(count_of.waits)
    assert waits == [7, 7]
