"""Many requests on one cached transformer, in turns and in threads, each beside itself alone."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from cachedit_yaml.runtime.handle import Handle
from tests.runtime import models
from tests.runtime.models import DIM, Small

#: Decided by differences, by a forecast, and by a mask.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"residual_diff_threshold": 0.3, "max_warmup_steps": 1, "max_continuous_cached_steps": 2},
    {"residual_diff_threshold": 0.9, "max_warmup_steps": 2, "calibrator": "taylorseer"},
    {"scm": {"preset": "fast", "policy": "static"}, "max_warmup_steps": 1},
)


class Conditioned(Small):
    """A transformer that takes a prompt: a tensor that stays the same from step to step."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, timestep: Any = None, prompt: Any = None
    ) -> torch.Tensor:
        """``[b x s x d]`` and ``[p x d]`` to ``[b x s x d]``."""
        shift = models.shift_of(timestep) + prompt.mean()
        for block in self.blocks:
            hidden_states = block(hidden_states, shift)
        return 0.2 * self.proj_out(hidden_states)


class Pipeline:
    """A loop that gives one preview a step; siblings share the transformer."""

    def __init__(self, transformer: torch.nn.Module, scheduler: Any) -> None:
        self.transformer = transformer
        self.scheduler = scheduler

    def stream(self, request: Request) -> Iterator[torch.Tensor]:
        """Generate, and yield the latents ``[b x s x d]`` of each step."""
        latents = models.noise(request.seed, tokens=request.tokens)
        prompts = request.prompts()
        self.scheduler.set_timesteps(request.steps)
        for step, timestep in enumerate(self.scheduler.timesteps):
            with torch.no_grad():
                parts = []
                for turn in request.turns(step):
                    parts.append(self.transformer(latents, timestep, prompts[turn]))
                update = parts[0] + sum(0.3 * (part - parts[0]) for part in parts[1:])
                latents = self.scheduler.step(update, timestep, latents)[0]
            if step == request.fails_at:
                raise InterruptedError
            yield latents


@dataclass(frozen=True)
class Request:
    """What somebody asks for.

    Attributes:
        seed: of the noise and the prompts.
        steps: of the schedule.
        tokens: of the latents.
        guided: forwards of a step.
        late: from this step on another prompt joins in, before the others.
        stops_at: the caller stops listening after this step; None never.
        fails_at: a step after which the loop raises; None never.
        kind: of the scheduler.
    """

    seed: int
    steps: int
    tokens: int
    guided: int
    late: int | None
    stops_at: int | None
    fails_at: int | None
    kind: type

    @classmethod
    def of(cls, chance: random.Random) -> Request:
        """A random one."""
        steps = chance.randrange(2, 10)
        return cls(
            seed=chance.randrange(10_000),
            steps=steps,
            tokens=chance.choice((3, 4, 5)),
            guided=chance.choice((1, 2, 3)),
            late=chance.choice((None, None, 2)),
            stops_at=chance.choice((None,) * 6 + (chance.randrange(steps),)),
            fails_at=chance.choice((None,) * 6 + (chance.randrange(steps),)),
            kind=chance.choice((FlowMatchEulerDiscreteScheduler, DDIMScheduler)),
        )

    def prompts(self) -> list[torch.Tensor]:
        """Tensors ``[p x d]`` of its own, one for each branch."""
        make = torch.Generator().manual_seed(self.seed)
        return [torch.randn(2, DIM, generator=make) for _ in range(self.guided + 1)]

    def turns(self, step: int) -> list[int]:
        """The prompts of a step, in their order."""
        usual = list(range(self.guided))
        return usual if self.late is None or step < self.late else [self.guided, *usual]


def run(pipeline: Pipeline, request: Request) -> Iterator[torch.Tensor]:
    """The previews of a request, until its caller stops."""
    stream = pipeline.stream(request)
    try:
        for step, latents in enumerate(stream):
            yield latents
            if step == request.stops_at:
                return
    except InterruptedError:
        return
    finally:
        stream.close()  # type: ignore[attr-defined]


def start(settings: dict[str, Any]) -> tuple[Small, Handle]:
    """A transformer with a pipeline for which caching is on."""
    model = models.small(Conditioned)
    pipeline = Pipeline(model, FlowMatchEulerDiscreteScheduler())
    handle = models.enable(
        pipeline, models.adapter(), cache_config={"Fn_compute_blocks": 1, **settings}
    )
    return model, handle


def stress(count: int, seed: int, *, at_once: int = 4) -> int:
    """Run random requests at once, and each of them alone.

    Args:
        count: requests.
        seed: of everything.
        at_once: requests that are under way.

    Returns:
        How many steps were served from the cache.
    """
    chance = random.Random(seed)
    settings = SETTINGS[seed % len(SETTINGS)]
    shared, handle = start(settings)
    alone, other = start(settings)
    pools = [ThreadPoolExecutor(1) for _ in range(2)]
    served: list[int] = []
    left = count
    going: list[tuple[Request, Iterator[torch.Tensor], list[torch.Tensor]]] = []
    try:
        while left or going:
            if left and len(going) < at_once:
                left -= 1
                request = Request.of(chance)
                going.append((request, run(Pipeline(shared, request.kind()), request), []))
                continue
            item = chance.choice(going)
            request, stream, seen = item
            where = chance.choice([None, *pools])
            step = (
                next(stream, None) if where is None else where.submit(next, stream, None).result()
            )
            if step is not None:
                seen.append(step)
                continue
            going.remove(item)
            wanted = list(run(Pipeline(alone, request.kind()), request))
            assert len(seen) == len(wanted), request
            assert all(map(torch.equal, seen, wanted)), request
            served += [len(row.cached_steps) for row in other.stats().branches]
    finally:
        for pool in pools:
            pool.shutdown()
        handle.disable()
        other.disable()
    return sum(served)


def in_threads(count: int, seed: int, *, workers: int = 4) -> None:
    """Run whole requests in several threads at the same time, and each of them alone."""
    chance = random.Random(seed)
    settings = SETTINGS[seed % len(SETTINGS)]
    shared, handle = start(settings)
    alone, other = start(settings)
    requests = [Request.of(chance) for _ in range(count)]
    wanted = [list(run(Pipeline(alone, item.kind()), item)) for item in requests]
    lock = threading.Lock()
    todo = list(enumerate(requests))
    found: dict[int, list[torch.Tensor]] = {}

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                index, request = todo.pop()
            found[index] = list(run(Pipeline(shared, request.kind()), copy.copy(request)))

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work) for _ in range(workers)]:
            future.result()
    handle.disable()
    other.disable()
    for index, expected in enumerate(wanted):
        assert len(found[index]) == len(expected), requests[index]
        assert all(map(torch.equal, found[index], expected)), requests[index]
