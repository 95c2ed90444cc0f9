"""Everything that `benchmarks.frontier` holds against each other, each with a sweep of settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cache_dit
from cache_dit import DBCacheConfig, TaylorSeerCalibratorConfig

import cachedit_yaml
from benchmarks.peers import Peers, Switch
from benchmarks.subjects import twin
from cachedit_yaml.generating.demo.models import Model

#: Adapters that :mod:`benchmarks.tuned` wrote.
TUNED = Path(__file__).with_name("tuned")
#: What profiles were before anything was measured: those of the defaults alone.
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "dit": {
        "schema": 1,
        "pipelines": ["DiTPipeline"],
        "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_3"}}},
    },
    "flux": {"extends": "flux"},
}
#: FLUX's second list decides for itself.
APART: Mapping[str, Any] = {
    "transformers": {"transformer": {"blocks": {"single_transformer_blocks": {"follows": None}}}}
}


def contenders(
    model: Model, pipeline: Any, steps: int, run: Callable[[], Any]
) -> Iterator[tuple[str, str, Switch]]:
    """What is held against each other: its kind, its settings, and what switches it on.

    Args:
        model: one of the demo's.
        pipeline: it, loaded.
        steps: of a generation.
        run: runs one uncached generation, for what is to be fitted.
    """
    transformer = pipeline.transformer
    branches = 2 if model.name == "flux" else 1

    def ours(adapter: Any, **options: Any) -> Switch:
        return lambda: enabled(pipeline, adapter, options)

    shipped = {"dit": "dit", "flux": "flux"}[model.name]
    sources = {"defaults": PLAIN[model.name], shipped: shipped, model.adapter.stem: model.adapter}
    for source, adapter in sources.items():
        if isinstance(adapter, Path) and not adapter.is_file():
            continue
        spec = cachedit_yaml.load_adapter(named(adapter, model))
        for profile in spec.profiles or ():
            yield source, profile, ours(spec, profile=profile)
    for kind in ("settings", "masks"):
        path = TUNED / f"{model.name}-{steps}-{kind}.yaml"
        if path.is_file():
            spec = cachedit_yaml.load_adapter(path)
            for profile in spec.profiles or ():
                if profile[1:].isdigit():  # not those of the adapter below
                    yield f"tuned {kind}", profile, ours(spec, profile=profile)
    if model.name == "flux":
        yield from deciding(ours)
    for warmup in (1, 4, 8):
        for order in (0, 1):
            for threshold in (0.06, 0.09, 0.12, 0.16, 0.24, 0.35)[warmup // 8 :: 1 + warmup // 8]:
                name = f"warm-up {warmup}, threshold {threshold}, order {order}"
                yield (
                    "cache-dit DBCache",
                    name,
                    lambda w=warmup, t=threshold, o=order: db_cache(
                        pipeline, steps, branches, w, t, o
                    ),
                )
    for name, switch in Peers(transformer, steps, branches, run).all():
        kind, _, settings = name.partition(" ")
        yield kind, settings, switch


def defaults(model: Model, pipeline: Any) -> Iterator[tuple[str, str, Switch]]:
    """Settings that defaults may have, by warm-up, cached steps in a row and order."""
    spec = cachedit_yaml.load_adapter(named(PLAIN[model.name], model))

    def line(kind: str, name: str, order: int, **settings: Any) -> tuple[str, str, Switch]:
        forecast = {"type": "taylorseer", "taylorseer_order": order} if order else "none"
        config = {**settings, "calibrator": forecast}
        return kind, name, lambda: enabled(pipeline, spec, {"cache_config": config})

    grid = [*itertools.product((3, 6), (0, 1), (1, 4, 8)), (6, 2, 1)]
    grid += itertools.product((3, 4, 5), (1,), (2,))
    for most, order, warmup in grid:
        kind = f"at most {most}, order {order}, warm-up {warmup}"
        for threshold in (0.09, 0.15, 0.25):
            yield line(
                kind,
                f"threshold {threshold}",
                order,
                max_warmup_steps=warmup,
                residual_diff_threshold=threshold,
                max_continuous_cached_steps=most,
            )
    for warmup in (1, 4, 8):
        kind = f"scm preset, order 1, warm-up {warmup}"
        for preset in ("medium", "fast", "ultra"):
            scm = {"preset": preset, "policy": "static"}
            yield line(kind, preset, 1, max_warmup_steps=warmup, scm=scm)


def named(adapter: Any, model: Model) -> Any:
    """An adapter of this module as one that can be loaded."""
    if isinstance(adapter, Mapping) and "extends" in adapter:
        return {"schema": 1, "name": "benchmark", "pipelines": ["FluxPipeline"], **adapter}
    return adapter


def deciding(ours: Callable[..., Switch]) -> Iterator[tuple[str, str, Switch]]:
    """FLUX's two lists, each with a decision of its own, or the second following the first."""
    base = {"schema": 1, "name": "benchmark", "pipelines": ["FluxPipeline"], "extends": "flux"}
    for kind, more in (("each list decides", APART), ("one follows", {})):
        spec = cachedit_yaml.load_adapter({**base, **more})
        for threshold in (0.04, 0.06, 0.08, 0.1, 0.13, 0.18, 0.25, 0.35):
            settings = {
                "max_warmup_steps": 1,
                "residual_diff_threshold": threshold,
                "max_continuous_cached_steps": 6,
                "calibrator": "taylorseer",
            }
            yield kind, f"threshold {threshold}", ours(spec, cache_config=settings)


@contextmanager
def enabled(pipeline: Any, adapter: Any, options: Mapping[str, Any]) -> Iterator[Any]:
    """Ours; a generation begins by itself.

    The pictures of a batch decide by their mean, as they do with all the others.
    """
    config = {**(options.get("cache_config") or {}), "batch": "mean"}
    with cachedit_yaml.enable(pipeline, adapter, **{**options, "cache_config": config}):
        yield lambda: None


@contextmanager
def db_cache(
    pipeline: Any, steps: int, branches: int, warmup: int, threshold: float, order: int
) -> Iterator[Callable[[], None]]:
    """cache-dit alone, with its own adapters; its DiT changes for good, so a twin takes its place.

    Hooks that count are copied with it.
    """
    transformer = pipeline.transformer
    pipeline.transformer = twin(transformer)
    config = DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        max_warmup_steps=warmup,
        residual_diff_threshold=threshold,
        max_continuous_cached_steps=-1,
        enable_separate_cfg=branches == 2,
    )
    calibrator = TaylorSeerCalibratorConfig(taylorseer_order=order) if order else None
    cache_dit.enable_cache(pipeline.transformer, cache_config=config, calibrator_config=calibrator)
    try:
        yield lambda: cache_dit.refresh_context(pipeline.transformer, num_inference_steps=steps)
    finally:
        pipeline.transformer = transformer
