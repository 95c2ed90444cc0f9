"""What a forward costs with caching on: when no step hits, and when every step does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks import stubs, subjects
from benchmarks.contest import Contest, mask_that_hits
from benchmarks.measure import (
    ClockName,
    Spread,
    Timings,
    added,
    milliseconds,
    numbers_of,
    percent,
    time_call,
)
from benchmarks.subjects import Size
from benchmarks.table import Row, is_met

#: The size at which overheads drown, and the one at which they show.
LARGE = Size(layers=24, width=512, tokens=256)
SMALL = Size(layers=12, width=192, tokens=64)
STEPS = 8


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Attributes:
        size: of the transformer.
        series: generations of :data:`STEPS` steps, the first of which does not count.
        clock: which time counts.
        device: where it runs.
    """

    size: Size
    series: int
    clock: ClockName = "cpu"
    device: str = "cpu"


def no_hit(setup: Setup, *, against_cache_dit: bool, threshold: float = 0.0) -> Row:
    """Every block runs: what is left is what caching itself costs.

    Args:
        setup: how to measure.
        against_cache_dit: hold it against what cache-dit costs; else against 1 %.
        threshold: 0 decides without a look; a tiny one has the residual difference computed in
            every step, as in earnest.
    """
    kind = "no hit" if threshold == 0 else "no hit, difference computed"
    timings = _contest(setup, subjects.settings(threshold, None), kind)
    ours = timings.ratio("ours", "uncached")
    theirs = timings.ratio("cache-dit", "uncached")
    duel = timings.ratio("ours", "cache-dit")
    judged = duel if against_cache_dit else ours
    return Row(
        name=f"{kind}, {setup.size}: overhead",
        uncached=milliseconds(timings.spread("uncached")),
        cache_dit=percent(theirs.median),
        ours=percent(ours.median),
        ratio=f"{judged.median:.4f} of {'cache-dit' if against_cache_dit else 'uncached'}",
        quartiles=f"{judged.low:.4f} to {judged.high:.4f}",
        target="at most 1" if against_cache_dit else "at most 1.01",
        met=is_met(judged, at_most=1 if against_cache_dit else 1.01),
        numbers={
            "ours over uncached": vars(ours),
            "cache-dit over uncached": vars(theirs),
            "ours over cache-dit": vars(duel),
            "seconds": numbers_of(timings),
        },
    )


def every_step_hits(setup: Setup) -> list[Row]:
    """All steps but the first are served from the cache, by a static mask, with F=1.

    The ideal is the same transformer with its first block only: nothing can be left out but the
    other blocks.
    """
    values = subjects.settings(0.08, list(mask_that_hits(STEPS)))
    timings = _contest(setup, values, "every step hits", ideal=True)
    names = ("one block", "cache-dit", "ours")
    gain = {name: timings.ratio("uncached", name) for name in names}
    share = {name: timings.ratio("one block", name) for name in names}
    duel = timings.ratio("cache-dit", "ours")
    numbers = {
        "speed-up": {name: vars(gain[name]) for name in names},
        "share of the ideal": {name: vars(share[name]) for name in names},
        "cache-dit over ours": vars(duel),
        "seconds": numbers_of(timings),
    }
    return [
        Row(
            name=f"every step hits, {setup.size}: speed-up",
            uncached=milliseconds(timings.spread("uncached")),
            cache_dit=_times(gain["cache-dit"]),
            ours=_times(gain["ours"]),
            ratio=f"{duel.median:.3f} of cache-dit",
            quartiles=f"{duel.low:.3f} to {duel.high:.3f}",
            target="at least 1",
            met=is_met(duel, at_least=1),
            numbers=numbers,
        ),
        Row(
            name=f"every step hits, {setup.size}: of the ideal, {_times(gain['one block'])}",
            uncached=milliseconds(timings.spread("one block")),
            cache_dit=f"{share['cache-dit'].median:.3f}",
            ours=f"{share['ours'].median:.3f}",
            ratio=f"{share['ours'].median:.3f} of the ideal",
            quartiles=f"{share['ours'].low:.3f} to {share['ours'].high:.3f}",
            target="at least 0.95",
            met=is_met(share["ours"], at_least=0.95),
        ),
    ]


def bookkeeping(setup: Setup, *, hit: bool) -> Row:
    """What caching adds to a forward, seen on blocks that do nothing.

    Shapes, and with them the residuals, are as in the transformer of this size. The result is
    small against the noise of a real forward, and here nothing hides it.
    """
    size = setup.size
    values = subjects.settings(0.08, list(mask_that_hits(STEPS)) if hit else None)
    if not hit:
        values["residual_diff_threshold"] = 0.0
    contest = Contest(stubs.StubTransformer(size), stubs.inputs(size, STEPS), values)
    kind = "every step hits" if hit else "no hit"
    name = f"{kind}, {size}: time added"
    timings = contest.run(setup.series * 10, clock="wall", exact=False, label=name)
    ours, theirs = added(timings, "ours", "uncached"), added(timings, "cache-dit", "uncached")
    duel = Spread.of(
        [
            above / below
            for above, below in zip(
                _differences(timings, "ours"), _differences(timings, "cache-dit"), strict=True
            )
            if below > 0
        ]
    )
    real = _forward_seconds(setup, hit)
    return Row(
        name=name,
        uncached=f"{real * 1e3:.3g} ms",
        cache_dit=f"+{theirs.median * 1e6:.0f} us ({theirs.median / real:.2%})",
        ours=f"+{ours.median * 1e6:.0f} us ({ours.median / real:.2%})",
        ratio=f"{duel.median:.3f} of cache-dit",
        quartiles=f"{duel.low:.3f} to {duel.high:.3f}",
        target="at most 1",
        met=is_met(duel, at_most=1),
        numbers={"ours": vars(ours), "cache-dit": vars(theirs), "real forward": real},
    )


def _differences(timings: Timings, name: str) -> list[float]:
    pairs = zip(timings.of(name), timings.of("uncached"), strict=True)
    return [with_cache - without for with_cache, without in pairs]


def _forward_seconds(setup: Setup, hit: bool) -> float:
    """The best of a few plain forwards: of the first block alone, where the others are skipped."""
    model = subjects.build(setup.size)
    model = subjects.first_block_only(model) if hit else model
    arguments = subjects.inputs(setup.size, 1)[0]
    return min(time_call(lambda _: model(**arguments), 0, "cpu").cpu for _ in range(4))


def _contest(setup: Setup, values: dict[str, Any], kind: str, *, ideal: bool = False) -> Timings:
    model = subjects.build(setup.size, setup.device)
    more = {"one block": subjects.first_block_only(model)} if ideal else None
    arguments = subjects.inputs(setup.size, STEPS, setup.device)
    return Contest(model, arguments, values, more=more).run(
        setup.series,
        clock=setup.clock,
        device=setup.device,
        label=f"{kind}, {setup.size}",
    )


def _times(spread: Spread) -> str:
    return f"x{spread.median:.2f}"
