"""What an adapter says that the live model contradicts, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from cachedit_yaml.compiler.cache_dit_source import cache_dit_version
from cachedit_yaml.compiler.calibrators import has_calibrator
from cachedit_yaml.compiler.loops import runs_after
from cachedit_yaml.compiler.paths import MISSING, explain_missing, follow
from cachedit_yaml.compiler.plan import ListPlan
from cachedit_yaml.compiler.settings import Resolved
from cachedit_yaml.compiler.signature import Pattern, parameters_of, plain_forward
from cachedit_yaml.language.spec import Transformer
from cachedit_yaml.yaml.diagnostics import or_near


def wrong_scheduler(pipeline: Any, path: str) -> list[str]:
    """What is wrong with a scheduler that the adapter names.

    Args:
        pipeline: the pipeline.
        path: where it is said to hold the scheduler.
    """
    found = follow(pipeline, path)
    if found is MISSING:
        return [explain_missing(pipeline, path, "pipeline")]
    if not callable(follow(found, "step")):
        return [f"pipeline.{path} is a {type(found).__name__}, not a scheduler: it has no step()"]
    return []


def wrong_ratio(pipeline: Any, declared: float | str) -> list[str]:
    """What is wrong with a boundary's ratio, which is read anew for each generation.

    Args:
        pipeline: the pipeline.
        declared: the ratio, or where the pipeline is said to hold it; None there is right.
    """
    if not isinstance(declared, str):
        return []
    path = declared.removeprefix("pipeline.")
    value = follow(pipeline, path)
    if value is MISSING:
        return [explain_missing(pipeline, path, "pipeline")]
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return [f"step_split: {declared} is a {type(value).__name__}; the ratio is a number"]
    return []


def shared_blocks(lists: Iterable[ListPlan]) -> list[str]:
    """Block lists of a transformer that hold a block of another one."""
    problems = []
    seen: dict[int, str] = {}
    for plan in lists:
        for block in plan.blocks:
            if seen.setdefault(id(block), plan.path) != plan.path:
                problems.append(
                    f"{plan.where} and {seen[id(block)]} share a block; declare it once"
                )
                break
    return problems


def unknown_arguments(where: str, module: torch.nn.Module, declared: Transformer) -> list[str]:
    """Arguments of the transformer's forward that the adapter names and that are not there.

    Without them no call would be a denoising step, or nothing would tell the steps.

    Args:
        where: the transformer, for messages.
        module: the transformer.
        declared: what the adapter says of it.
    """
    parameters = parameters_of(plain_forward(module))
    if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        return []
    named: dict[str, str] = {}
    if declared.denoising is not None:
        named |= dict.fromkeys(declared.denoising.when or (), "denoising.when")
        named |= dict.fromkeys(declared.denoising.unless or (), "denoising.unless")
    if declared.timestep is not None:
        named[declared.timestep] = "timestep"
    problems = []
    for name, rule in named.items():
        if name not in parameters:
            hint = or_near(name, parameters)
            problems.append(
                f"{where}: {rule} names {name!r}, and forward has no such argument{hint}"
            )
    return problems


def follows_too_early(module: torch.nn.Module, blocks: ListPlan) -> list[str]:
    """Whether the transformer's forward runs a list before the one that decides for it."""
    leader = blocks.follows
    if leader is None or not runs_after(module, leader, blocks.path):
        return []
    return [
        f"{blocks.where} follows {leader}, which forward runs after it; let {leader} follow "
        f"{blocks.path} instead"
    ]


def settings_that_do_not_fit(blocks: ListPlan) -> list[str]:
    """The first setting that a block list of this length and pattern cannot have."""
    where, count, pattern = blocks.where, len(blocks.blocks), blocks.pattern
    for resolved in blocks.layers.cases():
        calibrator = resolved.values["calibrator"]
        kind = calibrator.type if calibrator is not None else "none"
        if kind != "none" and not has_calibrator(kind):
            return [
                f"{where}: cache-dit {cache_dit_version()} has no calibrator {kind!r} "
                f"({resolved.origins['calibrator']}); install a newer one"
            ]
        if resolved.fn + resolved.bn > count:
            return [
                f"{where} has {count} blocks, but Fn_compute_blocks {resolved.fn} "
                f"({resolved.origins['Fn_compute_blocks']}) + Bn_compute_blocks {resolved.bn} "
                f"({resolved.origins['Bn_compute_blocks']}) is {resolved.fn + resolved.bn}; "
                f"write at most {count} together"
            ]
        if resolved.fn == 0:
            problem = _no_first_block(resolved, pattern, blocks.follows)
            if problem is not None:
                return [f"{where}: {problem}"]
        if resolved.prune and not pattern.takes_encoder:
            return [f"{where}: cache-dit's DBPrune fails with patterns 3, 4 and 5; use DBCache"]
    return []


def _no_first_block(resolved: Resolved, pattern: Pattern, follows: str | None) -> str | None:
    """Why a list cannot do with F = 0."""
    if follows is None and not resolved.static:
        return (
            f"with Fn_compute_blocks 0 ({resolved.origins['Fn_compute_blocks']}) no block has run "
            "whose residual could decide; write scm: {preset: ..., policy: static}, or "
            "Fn_compute_blocks: 1"
        )
    if resolved.prune:
        return "DBPrune needs a first block; write Fn_compute_blocks: 1"
    if pattern.returns_encoder and not pattern.takes_encoder:
        advice = "write Fn_compute_blocks: 1" if follows is None else "let it follow no other list"
        return (
            f"{pattern.name}: its first block makes the encoder hidden states, so it has to run; "
            f"{advice}"
        )
    return None
