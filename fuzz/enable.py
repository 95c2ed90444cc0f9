"""Fuzz target: an adapter in which nothing is wrong is compiled, enabled, run and disabled again.

Most inputs are mutated by what they say, so that about half of them have no error. Each of those
meets a small pipeline of which some attributes raise, and one that is made to fit it: attributes
and block lists where the adapter says. Nothing raises but the project's own errors, and
disabling leaves everything as it was.

``python fuzz/enable.py -max_total_time=60`` with atheris and cache-dit installed (``make fuzz``).
"""

from __future__ import annotations

import contextlib
import gc
import resource
import zlib
from collections import Counter
from typing import Any

import atheris

# What is sound is what leads into these: nothing else is worth to be mutated further.
COVERED = ["cachedit_yaml.api", "cachedit_yaml.compiler", "cachedit_yaml.runtime"]

with atheris.instrument_imports(include=COVERED):
    from cachedit_yaml.cli.output import quiet_libraries

    quiet_libraries()
    # At once, so that time and memory of an input are its own.
    import cache_dit.caching.cache_contexts.calibrators  # noqa: F401
    import models
    import target
    import torch

    from cachedit_yaml.cli.explanation import Explainer
    from cachedit_yaml.compiler.compile import compile_adapter
    from cachedit_yaml.errors import CacheditYamlError
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.registry.entry import TextEntry
    from cachedit_yaml.registry.registry import Registry
    from cachedit_yaml.runtime import loop, native  # noqa: F401
    from cachedit_yaml.runtime.execution import start

REGISTRY = Registry([])
#: Memory that all inputs together may add to what the imports take, in MiB.
MEMORY = 100
#: Steps of a generation.
STEPS = 4
COUNTS: Counter[str] = Counter()
_BEFORE: list[int] = []


def one_input(data: bytes) -> None:
    """Do all of it, in no more processor time than anybody waits for, and little memory."""
    target.in_time(use_file, data)
    COUNTS["files"] += 1
    if COUNTS["files"] % 2000 == 0:
        gc.collect()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        _BEFORE.append(peak)
        print(dict(COUNTS), f"peak {peak} MiB, {peak - _BEFORE[0]} more than at first", flush=True)
        assert peak - _BEFORE[0] < MEMORY


def use_file(data: bytes) -> None:
    """Use an adapter, if the file is one in which nothing is wrong."""
    entry = TextEntry(data, "a.yaml", REGISTRY.resolve)
    spec = entry.checked_spec
    if spec is None:
        return
    COUNTS["sound"] += 1
    turn = zlib.crc32(data)
    profiles = [None, *spec.profiles]
    profile = profiles[turn % len(profiles)]
    with contextlib.suppress(CacheditYamlError):
        plan = compile_adapter(spec, models.Odd(), profile=profile)
        plan.describe(STEPS)
        COUNTS["fit the odd one"] += 1
    pipeline = models.fitting(spec)
    if pipeline is not None:
        with contextlib.suppress(CacheditYamlError):
            generate(spec, pipeline, profile, "native" if turn % 4 == 0 else "loop")


def generate(spec: AdapterSpec, pipeline: Any, profile: str | None, execution: str) -> None:
    """Enable, run a few steps, look at everything, and disable."""
    plan = compile_adapter(spec, pipeline, profile=profile)
    COUNTS["compiled"] += 1
    Explainer(spec, plan, profile=profile, steps=STEPS, settings=None).explain()
    before = models.state(pipeline)
    try:
        handle = start(plan, execution)
    except CacheditYamlError:
        assert models.state(pipeline) == before
        raise
    COUNTS[f"enabled, {execution}"] += 1
    try:
        with torch.no_grad():
            models.run(pipeline, STEPS)
        COUNTS["ran"] += 1
        str(handle.stats())
        str(handle.explain())
    finally:
        handle.disable()
        assert models.state(pipeline) == before


if __name__ == "__main__":
    torch.set_num_threads(1)
    target.run(one_input, shares=(0.85, 0.1), harm=(0.0, 0.0, 0.1))
