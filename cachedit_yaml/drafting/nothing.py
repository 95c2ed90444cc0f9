"""Why a call shows nothing that denoises, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

from cachedit_yaml.drafting.parts import other_containers
from cachedit_yaml.drafting.watch import Watch

#: Paths that are named at most.
_SHOWN: Final = 5


def why_nothing(target: Any, watch: Watch) -> str:
    """One sentence on a call in which nothing denoises.

    Args:
        target: the pipeline or transformer that was watched.
        watch: what was seen.
    """
    name = type(target).__name__
    ran = {path for item in watch.run.forwards for path in item.calls}
    paths = [item.path for item in watch.candidates if item.path in ran]
    others = [
        f"{path} is a {type(item).__name__} of {len(item)}"
        for path, item in other_containers(target)
    ]
    if not paths and others:
        return (
            f"{name} runs no list of blocks: {', '.join(others[:_SHOWN])}, and only the blocks of "
            "a torch.nn.ModuleList can be cached one by one; hold them in one, and loop over it"
        )
    if not watch.candidates:
        return (
            f"{name} holds no list of blocks: no model of it has a torch.nn.ModuleList of modules"
        )
    if not paths:
        shown = ", ".join(item.path for item in watch.candidates[:_SHOWN])
        return f"the call of {name} runs none of its block lists ({shown})"
    shown = ", ".join(paths[:_SHOWN])
    often = _called_often(watch, ran)
    if often is not None:
        path, count = often
        return (
            f"nothing tells the steps of {name}: {path} runs {shown} in {count} calls, no "
            "scheduler is stepped, and no argument moves like a timestep; draft the model alone, "
            f"where each call counts as a step: cachedit_yaml.infer(pipeline.{path}, call)"
        )
    return (
        f"nothing of {name} denoises in the call: {shown} run, in no module that is called in "
        "several steps with a timestep that moves; give a call of at least two steps"
    )


def _called_often(watch: Watch, ran: set[str]) -> tuple[str, int] | None:
    """A model that is called several times, though nothing steps, and how often."""
    if watch.run.stepped:
        return None
    for item in watch.candidates:
        path = item.around[0][0]
        count = len(watch.run.of(path))
        if item.path in ran and path and count > 1:
            return path, count
    return None
