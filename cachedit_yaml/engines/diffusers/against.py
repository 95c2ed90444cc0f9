"""The same small pipelines under cache-dit's own hand-written adapters.

Caching is switched on with every step as warm-up, so nothing may be served from the cache: where
the output then differs from the uncached one, cache-dit's adapter is wrong.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import torch

from cachedit_yaml.engines.diffusers.probe import build
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.limits import budget, spending
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.rival import Rival, error_of

#: Seconds that one pipeline may take.
_PATIENCE: Final = 300


def compare(spec: AdapterSpec, recipe: Recipe) -> Rival | None:
    """Try cache-dit's own adapter on every case of one make of a pipeline.

    It patches classes and leaves traces, so this happens in a process of its own where the system
    can fork.

    Args:
        spec: the adapter whose probe makes the pipeline.
        recipe: which pipeline, and which make of it.
    """
    if not recipe.pipeline:  # it knows no transformer alone
        return None
    return _apart(lambda: _try(spec, recipe))


def _try(spec: AdapterSpec, recipe: Recipe) -> Rival:
    import cache_dit
    from cache_dit import BlockAdapterRegister, DBCacheConfig

    logging.disable(logging.WARNING)
    try:
        plain = {}
        for case in recipe.cases:
            with _afresh():
                built = build(spec, recipe)
                plain[case] = built.run(case)
    except Exception as error:  # `check` says what is wrong with the probe
        return Rival("untried", f"{type(error).__name__}: {error}")
    if not BlockAdapterRegister.is_supported(built.target):
        return Rival("absent")
    config = DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        max_warmup_steps=10_000,
        residual_diff_threshold=1e-9,
    )
    wrong: list[tuple[float, str]] = []
    for case, expected in plain.items():
        # A fresh pipeline for each case: what one call leaves behind is not the next one's fault.
        try:
            with _afresh():
                built = build(spec, recipe)
                cache_dit.enable_cache(built.target, cache_config=config)
                output = built.run(case)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return Rival("refuses", f"{case}: {text[:200]}")
        if not torch.equal(output, expected):
            wrong.append((error_of(output, expected), case))
    if wrong:
        worst, case = max(wrong)
        return Rival("wrong", f"{case}: mean error {worst:.2g} with no hit")
    return Rival("equal")


def _afresh() -> AbstractContextManager[None]:
    """The limits of one proof, whatever was made before for the others."""
    return spending(budget().limits)


def _apart(work: Callable[[], Rival]) -> Rival:
    if "fork" not in multiprocessing.get_all_start_methods():
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    # Forked with one thread of torch, as `check` runs; nothing of the parent's is written.
    process = context.Process(target=lambda: theirs.send(work()))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(_PATIENCE) else Rival("refuses", "it did not end")
    except EOFError:
        return Rival("refuses", "the process ended without an answer")
    finally:
        process.kill()
        process.join()
