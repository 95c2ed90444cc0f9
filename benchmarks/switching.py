"""What it costs to switch caching on, and to begin a generation.

The transformer is a stub, because a first forward is part of what is measured: our contexts are
made when a generation's first forward comes, cache-dit's when it is refreshed. Measured up to and
including that forward, both have done the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import stubs, subjects
from benchmarks.measure import ClockName, Contender, interleave, milliseconds, numbers_of
from benchmarks.stubs import StubTransformer
from benchmarks.subjects import Cached, Size
from benchmarks.table import Row, is_met, skipped
from cachedit_yaml import AdapterSpec, CacheditYamlError, find_adapter

SIZE = Size(layers=24, width=8, tokens=4)
STEPS = 8


class Switch:
    """Switches caching of a stub on, begins a generation and runs a forward; then off.

    Args:
        cache: switches on.
        kind: class of the stub.
    """

    def __init__(
        self,
        cache: Callable[[torch.nn.Module], Cached],
        kind: type[StubTransformer] = StubTransformer,
    ) -> None:
        self.cache = cache
        self.model = kind(SIZE)
        self.cached: Cached | None = None
        self.arguments = stubs.inputs(SIZE, 1)[0]

    def enable(self, step: int) -> Any:
        """Enable, refresh, and run the first forward."""
        self.cached = self.cache(self.model)
        return self.refresh(step)

    def refresh(self, step: int) -> Any:
        """Refresh, and run the first forward."""
        assert self.cached is not None
        self.cached.refresh()
        return self.model(**self.arguments)

    def disable(self) -> None:
        """Switch off."""
        assert self.cached is not None
        self.cached.off()
        self.cached = None


def enable_and_refresh(count: int, clock: ClockName) -> list[Row]:
    """Rows for enabling with a loaded adapter, with a look-up, and for refreshing."""
    values = subjects.settings(0.08, None)

    def by_hand(model: torch.nn.Module) -> Cached:
        return subjects.with_cache_dit(model, STEPS, values)

    def ours(adapter: AdapterSpec | None) -> Callable[[torch.nn.Module], Cached]:
        return lambda model: subjects.with_ours(model, STEPS, values, adapter)

    hand, loaded = Switch(by_hand), Switch(ours(subjects.own_adapter()))
    enable = f"enable, refresh and first forward, {SIZE.layers} blocks"
    return [
        _row(f"{enable}; adapter loaded before", hand, loaded, count, clock),
        _with_look_up(f"{enable}; adapter looked up", hand, ours(None), count, clock),
        _row("refresh and first forward", hand, loaded, count, clock, enable=False),
    ]


def _with_look_up(
    name: str,
    hand: Switch,
    cache: Callable[[torch.nn.Module], Cached],
    count: int,
    clock: ClockName,
) -> Row:
    """Enabling that finds the adapter by the class; cache-dit has nothing to look up."""
    # Adapters are found by the name of the class, so the stub takes that of a real one.
    named = type("QwenImageTransformer2DModel", (StubTransformer,), {})
    try:
        find_adapter(named)
    except CacheditYamlError as error:
        return skipped(name, str(error).splitlines()[0])
    return _row(name, hand, Switch(cache, named), count, clock, judged=False)


def _row(
    name: str,
    hand: Switch,
    ours: Switch,
    count: int,
    clock: ClockName,
    *,
    enable: bool = True,
    judged: bool = True,
) -> Row:
    pairs = {"cache-dit": hand, "ours": ours}
    with torch.no_grad():
        for item in pairs.values():  # fills what a process keeps
            item.enable(0)
            if enable:
                item.disable()
        contenders = [
            Contender(key, item.enable, after=item.disable)
            if enable
            else Contender(key, item.refresh)
            for key, item in pairs.items()
        ]
        timings = interleave(contenders, series=count, clock=clock, label=name)
        if not enable:
            for item in pairs.values():
                item.disable()
    ratio = timings.ratio("ours", "cache-dit")
    return Row(
        name=name,
        cache_dit=milliseconds(timings.spread("cache-dit")),
        ours=milliseconds(timings.spread("ours")),
        ratio=f"{ratio.median:.3f} of cache-dit",
        quartiles=f"{ratio.low:.3f} to {ratio.high:.3f}",
        target="at most 1" if judged else "",
        met=is_met(ratio, at_most=1) if judged else "",
        numbers={"ours over cache-dit": vars(ratio), "seconds": numbers_of(timings)},
    )
