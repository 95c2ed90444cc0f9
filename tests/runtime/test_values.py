"""Loops that make their embeddings anew for each forward: values tell whose place a forward has."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch.multiprocessing.reductions import StorageWeakRef

from benchmarks.launches import counted
from cachedit_yaml.runtime.doubts import Doubt
from cachedit_yaml.runtime.stats import Stats
from tests import tiny
from tests.runtime import models
from tests.runtime.models import ALWAYS, DIM, adapter, row, small, start
from tests.runtime.requests_at_once import Conditioned

STEPS = 10
MASK = {"mask": [1, 1, 1, 1, 0, 0, 1, 0, 0, 1], "policy": "static"}
HITS = {**ALWAYS, "max_continuous_cached_steps": -1}
SETTINGS: dict[str, dict[str, Any]] = {
    "differences": HITS,
    "a limit": {**ALWAYS, "max_continuous_cached_steps": 2},
    "a forecast": {**HITS, "calibrator": "taylorseer"},
    "a mask": {"Fn_compute_blocks": 1, "scm": MASK},
    "a mask, F=0": {"Fn_compute_blocks": 0, "scm": MASK},
    "a mask and a forecast": {"Fn_compute_blocks": 1, "scm": MASK, "calibrator": "taylorseer"},
}

#: Which prompts run in a step.
ORDERS: dict[str, Callable[[int], list[int]]] = {
    "as ever": lambda step: [0, 1],
    "alone": lambda step: [0],
    "inserted before": lambda step: [2, 0, 1] if step >= 4 else [0, 1],
    "inserted between": lambda step: [0, 2, 1] if step >= 4 else [0, 1],
    "inserted in the second step": lambda step: [2, 0, 1] if step else [0, 1],
    "dropped": lambda step: [1] if step >= 4 else [0, 1],
    "guidance on an interval": lambda step: [1, 0] if 3 <= step < 7 else [0],
    "swapped in order": lambda step: [1, 0] if step % 2 else [0, 1],
    "swapped once": lambda step: [1, 0] if step >= 5 else [0, 1],
    "replaced": lambda step: [2, 1] if step >= 4 else [0, 1],
    "replaced and back": lambda step: [2, 1] if step in (4, 5) else [0, 1],
    "one for another": lambda step: [step >= 5],
    "one after another": lambda step: [step % 2],
}

POOL = torch.randn(4, 4, DIM, generator=torch.Generator().manual_seed(3))


def again(prompt: int) -> torch.Tensor:
    """An encoder, run once more."""
    return torch.randn(4, DIM, generator=torch.Generator().manual_seed(prompt + 1))


#: How a loop makes its embeddings.
WAYS: dict[str, Callable[[int], torch.Tensor]] = {
    "clone": lambda prompt: POOL[prompt].clone(),
    "cat": lambda prompt: torch.cat([POOL[prompt], POOL[prompt] / 2]),
    "to": lambda prompt: POOL[prompt].to(torch.float64),
    "index": lambda prompt: POOL.clone()[prompt : prompt + 1].squeeze(0),
    "again": again,
}


#: A mask computes whatever it is told to, so that nobody looks then.
LATE = "a mask and a forecast"


class Rows(Conditioned):
    """A prompt for each row."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, timestep: Any = None, prompt: Any = None
    ) -> torch.Tensor:
        """``[b x s x d]`` and ``[b x p x d]`` to ``[b x s x d]``."""
        shift = models.shift_of(timestep) + prompt.mean((1, 2))[:, None, None]
        for block in self.blocks:
            hidden_states = block(hidden_states, shift)
        return 0.2 * self.proj_out(hidden_states)


class Oracle:
    """Names for forwards: one prompt's while it keeps a place, and another one's after that."""

    def __init__(self) -> None:
        self.there: dict[int, tuple[int, str]] = {}
        self.count = 0

    def name(self, place: int, prompt: int) -> str:
        if self.there.get(place, (None, ""))[0] != prompt:
            self.count += 1
            self.there[place] = prompt, f"run {self.count}"
        return self.there[place][1]


Named = Callable[[int, int], Any]


def silent(place: int, prompt: int) -> Any:
    """Nobody says a name."""
    return contextlib.nullcontext()


class Announcing(Conditioned):
    """As diffusers' models do."""

    @contextlib.contextmanager
    def cache_context(self, name: str) -> Iterator[None]:
        """Say which branch the forwards are."""
        yield


@torch.no_grad()
def loop(
    model: Any,
    order: Callable[[int], Sequence[int]],
    way: Callable[[int], torch.Tensor],
    named: Named = silent,
    steps: int = STEPS,
) -> torch.Tensor:
    """A loop of one's own with a scheduler of diffusers."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    latents = models.noise()
    for step, timestep in enumerate(scheduler.timesteps):
        parts = []
        for place, prompt in enumerate(order(step)):
            with named(place, int(prompt)):
                parts.append(model(latents, timestep, way(int(prompt))))
        update = parts[0] + sum(0.3 * (part - parts[0]) for part in parts[1:])
        latents = scheduler.step(update, timestep, latents)[0]
    return latents


def told(model: Any, *args: Any) -> torch.Tensor:
    """The same, with names that are right."""
    oracle = Oracle()
    return loop(model, *args, lambda place, prompt: model.cache_context(oracle.name(place, prompt)))


def both(
    order: Any, way: Any, settings: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, Stats, Stats]:
    """A loop without names and one with names: what came out, and what they did."""
    found: list[Any] = []
    for run in (loop, told):
        model = small(Announcing)
        with start(models.SmallPipeline(model), adapter(), **settings) as handle:
            found.append(run(model, order, way))
            found.append(handle.stats())
    return found[0], found[2], found[1], found[3]


@pytest.mark.parametrize("settings", [name for name in SETTINGS if name != LATE])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ORDERS)
def test_nobody_takes_what_another_prompt_has_stored(order: str, way: str, settings: str) -> None:
    mine, right, stats, _ = both(ORDERS[order], WAYS[way], SETTINGS[settings])
    assert torch.equal(mine, right), stats


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_forecast_has_gathered_of_another_prompt_goes(order: str) -> None:
    """Where a mask computed when the prompt changed, one more step is computed to begin anew."""
    mine, right, stats, wanted = both(ORDERS[order], WAYS["clone"], SETTINGS[LATE])
    counts = [sum(len(row.cached_steps) for row in item.branches) for item in (stats, wanted)]
    assert counts[0] <= counts[1]
    assert torch.equal(mine, right) is (counts[0] == counts[1])


@pytest.mark.parametrize("settings", [name for name in SETTINGS if name != LATE])
@pytest.mark.parametrize("seed", range(6))
def test_random_loops(seed: int, settings: str) -> None:
    """Prompts join in, leave, change places and replace each other; each made in some way."""
    chance = random.Random(f"{seed} {settings}")
    for _ in range(4):
        orders, now = [], chance.sample(range(4), chance.randrange(1, 4))
        for _ in range(STEPS):
            if chance.random() < 0.35:
                now = chance.sample(range(4), chance.randrange(1, 4))
            orders.append(now)
        way = WAYS[chance.choice(list(WAYS))]
        mine, right, stats, _ = both(orders.__getitem__, way, SETTINGS[settings])
        assert torch.equal(mine, right), (orders, stats)


def test_it_is_said() -> None:
    _, _, stats, _ = both(ORDERS["inserted before"], WAYS["clone"], HITS)
    (warning,) = stats.warnings
    assert warning.startswith("transformer: 2 forwards were computed, because another prompt")
    _, _, stats, _ = both(ORDERS["as ever"], WAYS["clone"], HITS)
    assert not stats.warnings


@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
def test_what_changes_in_each_step_is_no_prompt(warmup: int) -> None:
    """Three steps show that it does."""
    model = small(Conditioned)
    settings = {**HITS, "max_warmup_steps": warmup}
    with start(models.SmallPipeline(model), adapter(), **settings) as handle:
        count = itertools.count()
        loop(model, ORDERS["alone"], lambda prompt: POOL[0] + 0.01 * next(count))
        assert row(handle).cached_steps == tuple(range(max(warmup, 3), STEPS))


def test_one_batch_for_both_prompts() -> None:
    """`torch.cat` of the negative and the positive one, in each step; each sample for itself."""
    model = small(Rows)
    with start(models.SmallPipeline(model), adapter(), **HITS) as handle, torch.no_grad():
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(STEPS)
        latents = models.noise(batch=2)
        for step, timestep in enumerate(scheduler.timesteps):
            both = torch.stack([POOL[0], POOL[1 if step < 5 else 2]])
            update = model(latents, timestep, both)
            latents = scheduler.step(update, timestep, latents)[0]
        assert row(handle).cached_steps == (1, 2, 3, 4, 6, 7, 8, 9)


def test_two_transformers() -> None:
    """Each has its own prompts, and a prompt that joins in at one of them is none of the other."""
    found = []
    for named in (False, True):
        pipe = models.SmallPipeline(small(Announcing))
        pipe.transformer_2 = small(Announcing, seed=1)  # type: ignore[attr-defined]
        lists = {"blocks": {"blocks": "Pattern_3"}}
        spec = adapter(transformers={"transformer": lists, "transformer_2": lists})
        pair = [pipe.transformer, pipe.transformer_2]  # type: ignore[attr-defined]
        names = [Oracle(), Oracle()]
        with start(pipe, spec, **HITS), torch.no_grad():
            pipe.scheduler.set_timesteps(STEPS)
            latents = models.noise()
            for step, timestep in enumerate(pipe.scheduler.timesteps):
                orders = [ORDERS["inserted before"](step), ORDERS["dropped"](step)]
                parts = []
                for model, oracle, order in zip(pair, names, orders, strict=True):
                    for place, prompt in enumerate(order):
                        name = oracle.name(place, prompt)
                        with model.cache_context(name) if named else contextlib.nullcontext():
                            parts.append(model(latents, timestep, POOL[prompt].clone()))
                latents = pipe.step(sum(parts) / len(parts), timestep, latents)
        found.append(latents)
    assert torch.equal(*found)


# --- a transformer of diffusers ---


@torch.no_grad()
def flux(transformer: Any, order: Any, named: Named = silent) -> torch.Tensor:
    """Its positions stay the same tensors, and its pooled prompt does for all branches."""
    make = torch.Generator().manual_seed(1)
    given = tiny.forward_kwargs(transformer)
    shape = given["encoder_hidden_states"].shape
    pool = [3 * torch.randn(shape, generator=make) for _ in range(3)]
    latents = given.pop("hidden_states")
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    for step, timestep in enumerate(scheduler.timesteps):
        parts = []
        for place, prompt in enumerate(order(step)):
            now = {"encoder_hidden_states": pool[int(prompt)].clone(), "return_dict": False}
            now["timestep"] = timestep.expand(len(latents)) / 1000
            with named(place, int(prompt)):
                parts.append(transformer(latents, **{**given, **now})[0])
        latents = scheduler.step(sum(parts) / len(parts), timestep, latents)[0]
    return latents


@pytest.mark.parametrize("settings", ["differences", "a mask", "a mask, F=0"])
@pytest.mark.parametrize("order", ["inserted before", "dropped", "one for another", "as ever"])
def test_flux(order: str, settings: str) -> None:
    found = []
    for right in (False, True):
        pipe, oracle = tiny.build("FluxPipeline"), Oracle()
        model = pipe.transformer

        def named(place: int, prompt: int, model: Any = model, oracle: Any = oracle) -> Any:
            return model.cache_context(oracle.name(place, prompt))

        with start(pipe, None, **SETTINGS[settings]) as handle:
            found.append(flux(model, ORDERS[order], named if right else silent))
            cached = sum(len(item.cached_steps) for item in handle.stats().branches)
            assert cached > 0
    assert torch.equal(*found)


# --- what it costs ---


@pytest.mark.parametrize("settings", ["differences", "a mask"])
def test_what_is_read(settings: str) -> None:
    """With the difference, so no more often; where nothing is read, the forwards that would hit."""
    counts = []
    for way in (WAYS["clone"], POOL.__getitem__):
        model = small(Conditioned)
        with start(models.SmallPipeline(model), adapter(), **SETTINGS[settings]) as handle:
            with counted() as count:
                loop(model, ORDERS["as ever"], way)
            hits = sum(len(item.cached_steps) for item in handle.stats().branches)
        counts.append(count.waits)
    assert counts[0] - counts[1] == (hits if settings == "a mask" else 0)


def test_nothing_is_held_longer_than_two_steps() -> None:
    made: list[StorageWeakRef] = []
    most = 0

    def way(prompt: int) -> torch.Tensor:
        nonlocal most
        tensor = POOL[prompt].clone()
        most = max(most, sum(not item.expired() for item in made))  # type: ignore[no-untyped-call]
        made.append(StorageWeakRef(tensor.untyped_storage()))  # type: ignore[no-untyped-call]
        return tensor

    model = small(Conditioned)
    with start(models.SmallPipeline(model), adapter(), **HITS):
        loop(model, ORDERS["as ever"], way)
        assert 0 < most <= 5  # two of each branch, and the loop's own
        assert all(item.expired() for item in made)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "name",
    [
        "FluxControlNetPipeline", "SanaControlNetPipeline", "StableDiffusion3ControlNetPipeline",
        "LuminaPipeline", "AceStepPipeline", "WanPipeline", "QwenImagePipeline",
        "HunyuanDiTControlNetPipeline", "AnyFlowPipeline", "CogView4ControlPipeline",
    ],
)  # fmt: skip
def test_pipelines_that_keep_their_embeddings_are_not_in_doubt(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else they make anew for each step, such as control residuals, is no prompt."""
    asked: list[Doubt] = []
    settle = Doubt.settle
    monkeypatch.setattr(Doubt, "settle", lambda doubt: (asked.append(doubt), settle(doubt))[1])
    pipe = tiny.build(name)
    with start(pipe, None, **HITS):
        tiny.run(pipe, steps=4)
    assert all(not doubt.compares for doubt in asked)


class Tokens(Conditioned):
    """Latents by a name that says nothing, behind the prompt."""

    def forward(  # type: ignore[override]
        self, prompt: torch.Tensor, z: torch.Tensor, timestep: Any = None
    ) -> torch.Tensor:
        """``[b x p x d]`` and ``[b x s x d]`` to ``[b x s x d]``."""
        shift = models.shift_of(timestep) + prompt.mean()
        for block in self.blocks:
            z = block(z, shift)
        return 0.2 * self.proj_out(z)


@pytest.mark.parametrize("way", ["kept", *WAYS])
def test_latents_that_branches_share_are_no_prompt_whatever_their_name(way: str) -> None:
    model = small(Tokens)
    kept = [POOL[:1].clone(), POOL[1:2].clone()]
    with start(model, adapter(), **HITS) as handle, torch.no_grad():
        x = torch.randn(1, 12, DIM, generator=torch.Generator().manual_seed(0))
        for step in range(STEPS):
            made = [kept[i] if way == "kept" else WAYS[way](i)[None].float() for i in (0, 1)]
            timestep = torch.tensor([1000.0 - 100 * step])
            one, two = (model(prompt, x, timestep) for prompt in made)
            x = x - 0.1 * (two + 2 * (one - two))
        handle.release()
        rows = [item for done in handle.history for item in done.branches]
        assert len(rows) == 2
        assert all(len(item.cached_steps) >= STEPS - 5 for item in rows), rows
