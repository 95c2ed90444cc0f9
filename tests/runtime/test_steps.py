"""Requests that run step by step: the caller counts, and others run in between."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cachedit_yaml import enable_transformer
from cachedit_yaml.compiler.compile import compile_adapter
from cachedit_yaml.errors import CacheRuntimeError, ConfigError
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.runtime.choice import Choice
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.steps import Stepwise
from tests.runtime import models
from tests.runtime.models import ALWAYS, NEVER, small


def start(**settings: Any) -> tuple[Any, Handle]:
    model = small()
    handle = enable_transformer(model, models.adapter(), cache_config={**ALWAYS, **settings})
    return model, handle


def steps(
    model: Any, handle: Handle | None, total: int, seed: int = 0, name: str = "", fails: int = -1
) -> Iterator[torch.Tensor]:
    """One request: what it has after each step."""
    state = models.noise(seed, 1, 4)
    stepwise = None if handle is None else handle.stepwise(total, name=name)
    for step in range(total):
        if stepwise is None:
            state = forward(model, state, step, total)
        else:
            with stepwise.step():
                if step == fails:
                    raise RuntimeError("over")
                state = forward(model, state, step, total)
        yield state


def forward(model: Any, state: torch.Tensor, step: int, total: int) -> torch.Tensor:
    with torch.no_grad():
        return state + model(state, torch.tensor(1000.0 * (1 - step / total))) / total


def last(items: Iterator[torch.Tensor]) -> torch.Tensor:
    return list(items)[-1]


def in_turns(*requests: Iterator[torch.Tensor]) -> list[torch.Tensor]:
    """Step by step, one after the other, until all of them are done."""
    states: list[Any] = [None] * len(requests)
    left = dict(enumerate(requests))
    while left:
        for index, request in list(left.items()):
            found = next(request, None)
            if found is None:
                del left[index]
            else:
                states[index] = found
    return states


def test_exact_with_no_hit() -> None:
    plain = [last(steps(small(), None, total, seed)) for seed, total in enumerate((6, 9, 4))]
    model, handle = start(**NEVER)
    found = in_turns(*(steps(model, handle, total, n) for n, total in enumerate((6, 9, 4))))
    assert all(map(torch.equal, found, plain))


def test_each_is_as_if_it_were_alone() -> None:
    model, handle = start()
    alone = [last(steps(model, handle, total, n)) for n, total in enumerate((6, 9, 4))]
    names = ("a", "b", "c")
    requests = (
        steps(model, handle, total, n, name)
        for n, (total, name) in enumerate(zip((6, 9, 4), names, strict=True))
    )
    found = in_turns(*requests)
    assert all(map(torch.equal, found, alone))
    for name, total, stats in zip(names, (6, 9, 4), handle.history[-3:], strict=True):
        assert (stats.what, stats.num_steps, stats.ended) == (name, total, "finished")
        (row,) = stats.branches
        assert row.executed_steps == tuple(range(total))
        assert row.cached_steps[0] == 1


def test_what_else_runs_belongs_to_none_of_them() -> None:
    model, handle = start()
    alone = last(steps(model, handle, 6))
    request = steps(model, handle, 6)
    for _ in range(3):
        next(request)
        for step in range(2):  # as a newcomer's preparation does
            forward(model, models.noise(9, 1, 4), step, 2)
    assert torch.equal(last(request), alone)


def test_one_that_raises_leaves_the_others_alone() -> None:
    model, handle = start()
    alone = last(steps(model, handle, 6))
    good, bad = steps(model, handle, 6), steps(model, handle, 6, 1, "bad", fails=3)
    for _ in range(3):
        next(good)
        next(bad)
    with pytest.raises(RuntimeError, match="over"):
        next(bad)
    assert torch.equal(last(good), alone)
    assert handle.history[-1].ended == "failed"


def held() -> int:
    """Tensors of the latents' shape; those of graphs that torch keeps are no memory."""
    gc.collect()
    return sum(x.shape == (1, 4, models.DIM) for x in gc.get_objects() if type(x) is torch.Tensor)


def test_one_that_is_forgotten_keeps_nothing() -> None:
    model, handle = start()
    before = held()
    request = steps(model, handle, 6)
    next(request)
    next(request)
    assert held() > before + 1
    del request
    assert held() == before
    assert handle.history[-1].ended == "its request is gone"


def test_release_and_disable_reach_them() -> None:
    model, handle = start()
    plain = last(steps(small(), None, 6))
    one, other = handle.stepwise(6, name="one"), handle.stepwise(6, name="other")
    state = models.noise(0, 1, 4)
    for item in (one, other):
        with item.step():
            forward(model, state, 0, 6)
    handle.release("one")
    for item, cached in ((one, ()), (other, (1,))):
        with item.step():
            forward(model, state, 1, 6)
        (row,) = handle.stats_of(item.generation).branches
        assert row.cached_steps == cached
    handle.disable()
    assert other.generation.ended == "caching was disabled"
    assert torch.equal(last(steps(model, None, 6)), plain)
    with pytest.raises(CacheRuntimeError, match="was disabled"):
        handle.stepwise(6)


def test_an_end_by_hand() -> None:
    model, handle = start()
    item: Stepwise = handle.stepwise(6)
    with item.step():
        forward(model, models.noise(0, 1, 4), 0, 6)
    item.end("interrupted")
    assert handle.stats().ended == "interrupted"


def test_each_may_choose_its_settings() -> None:
    model, handle = start()
    plain = last(steps(small(), None, 8))
    cached = last(steps(model, handle, 8))
    wish = parse_settings({"max_cached_steps": 1})
    choice = Choice.of(
        compile_adapter(
            handle.plan.spec, None, transformer=model,
            cache_config=parse_settings({**ALWAYS, "max_cached_steps": wish.max_cached_steps}),
        )
    )  # fmt: skip
    requests = []
    for item in (None, choice, Choice(off=True)):
        handle.choice = item
        request = steps(model, handle, 8)
        next(request)
        requests.append(request)
    handle.choice = None
    everybody, one_hit, none = in_turns(*requests)
    assert torch.equal(everybody, cached)
    assert torch.equal(none, plain)
    assert not torch.equal(one_hit, plain)
    rows = [[row.cached_steps for row in stats.branches] for stats in handle.history[-3:]]
    assert rows == [[(1, 2, 3, 4, 5, 6, 7)], [(1,)], []]


def test_only_the_loop_lets_a_request_choose() -> None:
    handle = enable_transformer(
        small(), models.adapter(), cache_config=dict(ALWAYS), execution="native"
    )
    with pytest.raises(ConfigError, match="only 'loop'"):
        handle.choice = Choice(off=True)
    handle.disable()
