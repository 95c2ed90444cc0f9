"""Step execution: the engine's own scheduler and runner, with requests that come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from vllm_omni.diffusion.registry import get_diffusion_pre_process_func
from vllm_omni.diffusion.request import OmniDiffusionRequest
from vllm_omni.diffusion.sched.interface import DiffusionRequestStatus
from vllm_omni.diffusion.sched.step_scheduler import StepScheduler
from vllm_omni.inputs.data import OmniDiffusionSamplingParams

from cachedit_yaml import handle_of
from cachedit_yaml.runtime.stats import Stats


class Ask(NamedTuple):
    """One request.

    Attributes:
        prompt: what is asked for.
        arrives: the wave of steps with which it comes.
        leaves: the wave before which it is aborted; None where it stays.
        sampling: its sampling parameters.
    """

    prompt: Any
    arrives: int = 0
    leaves: int | None = None
    sampling: Mapping[str, Any] = {}


class Result(NamedTuple):
    """What became of a request.

    Attributes:
        output: its tensors, one by one, those of every chunk; None without any.
        error: why it failed.
        stats: what was cached of each of its generations.
        waves: how many requests shared each of its steps.
    """

    output: list[torch.Tensor] | None
    error: str | None
    stats: list[Stats]
    waves: list[int]


def request_of(ask: Ask, name: str, prepare: Callable[[Any], Any] | None) -> Any:
    """The engine's request, as it is admitted."""
    given = {"num_inference_steps": 8, "height": 64, "width": 64, "seed": 0, **ask.sampling}
    request = OmniDiffusionRequest(
        prompt=ask.prompt,
        request_id=name,
        sampling_params=OmniDiffusionSamplingParams(**given),
    )
    return request if prepare is None else prepare(request)


def run(runner: Any, asks: Mapping[str, Ask], *, together: int = 4) -> dict[str, Result]:
    """Run requests step by step until all of them are done.

    Args:
        runner: the engine's model runner.
        asks: the requests, by name.
        together: as many as may share a batch.
    """
    handle = handle_of(runner.pipeline)
    if handle is not None:
        handle._clock.history.clear()
    scheduler = StepScheduler()
    scheduler.initialize(runner.od_config)
    scheduler.max_num_running_reqs = together
    prepare = get_diffusion_pre_process_func(runner.od_config)
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in asks}
    errors: dict[str, str | None] = dict.fromkeys(asks)
    waves: dict[str, list[int]] = {name: [] for name in asks}
    left, wave = dict(asks), 0
    while left or scheduler.has_requests():
        for name, ask in list(left.items()):
            if ask.arrives <= wave:
                scheduler.add_request(request_of(left.pop(name), name, prepare))
        for name, ask in asks.items():
            if ask.leaves == wave:
                scheduler.finish_requests(name, DiffusionRequestStatus.FINISHED_ABORTED)
        planned = scheduler.schedule()
        for name in planned.scheduled_request_ids:
            waves[name].append(len(planned.scheduled_request_ids))
        found = runner.execute_stepwise(planned) if planned.num_scheduled_reqs else None
        for item in found.runner_outputs if found is not None else ():
            if item.result is not None and item.result.error is not None:
                errors[item.request_id] = item.result.error
            elif item.result is not None:
                outputs[item.request_id] += tensors_of(item.result)
        if found is not None:
            scheduler.update_from_output(planned, found)
        wave += 1
    history = () if handle is None else handle.history
    return {
        name: Result(
            outputs[name] or None,
            errors[name],
            [item for item in history if item.what == name],
            waves[name],
        )
        for name in asks
    }


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Every tensor of what the engine returns for a request."""
    found = []
    queue = [output.output if output.media is None else output.media]
    while queue:
        item = queue.pop(0)
        if isinstance(item, torch.Tensor):
            found.append(item.clone())
        elif isinstance(item, Image.Image):
            found.append(torch.from_numpy(np.array(item)))
        elif isinstance(item, Mapping):
            queue += item.values()
        elif isinstance(item, (list, tuple)):
            queue += item
        elif hasattr(item, "__dict__"):
            queue += vars(item).values()
    return found


def same(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> bool:
    """Whether two results are equal bit for bit, and are results."""
    if not one or not other or len(one) != len(other):
        return False
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def near(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> bool:
    """Whether two results differ by no more than a batch rounds otherwise than one row alone."""
    if not one or not other or len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, rtol=1e-3, atol=5e-4) for a, b in pairs)
