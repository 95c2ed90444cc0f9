"""Every shipped adapter, tried on every pipeline that it names."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

import cachedit_yaml
from cachedit_yaml.registry import Registry
from tests import tiny
from tests.zoo.pipelines import DECLARED, SHIPPED, SUBJECTS, Subject

ADAPTERS = 12
PIPELINES = 53
#: Steps 1 and 2 may be served from the cache, whatever the number of executed steps.
HITS = {
    "scm": {"compute_bins": [1, 50], "cache_bins": [2], "policy": "static"},
    "max_continuous_cached_steps": -1,
}
TRANSFORMERS = ("transformer", "transformer_2")
INSTALLED = diffusers.__version__
NEWEST = INSTALLED == "0.42.1"


class Watch:
    """Counts what really runs in the last generation, below everything that caching installs.

    Attributes:
        forwards: forwards by transformer.
        calls: runs of each block's own forward, by transformer, list and index.
        shapes: of the hidden states that reach the first block of each list, forward by forward.
    """

    def __init__(self, pipe: DiffusionPipeline, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forwards: Counter[str] = Counter()
        self.calls: Counter[tuple[str, str, int]] = Counter()
        self.shapes: dict[tuple[str, str], list[torch.Size]] = {}
        self._fresh = True
        self._keys: dict[int, tuple[str, str, int]] = {}
        classes = set()
        for transformer in plan.transformers:
            transformer.module.register_forward_pre_hook(
                functools.partial(self._on_forward, transformer.path)
            )
            for blocks in transformer.lists:
                for index, block in enumerate(blocks.blocks):
                    self._keys[id(block)] = (transformer.path, blocks.path, index)
                    classes.add(type(block))
        for cls in classes:
            monkeypatch.setattr(cls, "forward", self._counted(cls.forward))
        scheduler = type(pipe.scheduler)
        monkeypatch.setattr(scheduler, "set_timesteps", self._renewed(scheduler.set_timesteps))

    def _renewed(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def set_timesteps(*args: Any, **kwargs: Any) -> Any:
            self._fresh = True
            return inner(*args, **kwargs)

        return set_timesteps

    def _counted(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def forward(block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            key = self._keys.get(id(block))
            if key is not None:
                self.calls[key] += 1
                if key[2] == 0:
                    hidden = args[0] if args else kwargs["hidden_states"]
                    self.shapes.setdefault(key[:2], []).append(hidden.shape)
            return inner(block, *args, **kwargs)

        return forward

    def _on_forward(self, path: str, *_: Any) -> None:
        if self._fresh:
            self._fresh = False
            self.forwards.clear()
            self.calls.clear()
            self.shapes.clear()
        self.forwards[path] += 1

    def take(self) -> tuple[Counter[str], Counter[tuple[str, str, int]]]:
        """The counts so far, as copies; the next run counts anew."""
        taken = Counter(self.forwards), Counter(self.calls)
        self._fresh = True
        return taken


def attributes(pipe: DiffusionPipeline, plan: Any) -> list[Any]:
    """What is on the pipeline, its scheduler, the transformers, the block lists and the blocks."""
    owners: list[Any] = []
    for transformer in plan.transformers:
        owners.append(transformer.module)
        for blocks in transformer.lists:
            owners += [blocks.holder, *blocks.blocks]
    return [
        # A call changes values here, such as the timesteps.
        list(vars(pipe)),
        list(vars(pipe.scheduler)),
        # The very same objects, in the same order.
        *({name: id(value) for name, value in vars(owner).items()} for owner in owners),
    ]


def expected_hits(executed: tuple[int, ...], shapes: list[torch.Size]) -> tuple[int, ...]:
    """Steps served from the cache: where the mask allows it and the shape is that of the last one.

    Args:
        executed: the steps in which one guidance branch ran.
        shapes: of its hidden states in each of them.
    """
    hits, stored = [], None
    for step, shape in zip(executed, shapes, strict=True):
        if step in (1, 2) and shape == stored:
            hits.append(step)
        else:
            stored = shape
    return tuple(hits)


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_pipeline(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = subject.build()
    plan = cachedit_yaml.compile_adapter(subject.adapter, pipe)
    watch = Watch(pipe, plan, monkeypatch)
    plain = subject.run(pipe)
    forwards, calls = watch.take()
    assert plain.isfinite().all()
    assert sum(calls.values()) > 0
    before = attributes(pipe, plan)

    # (a) With no hit, the output is the uncached one and every block runs.
    with cachedit_yaml.enable(pipe, cache_config={"residual_diff_threshold": 0}) as handle:
        assert torch.equal(subject.run(pipe), plain)
    assert watch.take() == (forwards, calls)
    stats = handle.stats()
    assert stats.branches
    assert not [text for text in stats.warnings if "never hit" not in text]
    for transformer in plan.transformers:
        for blocks in transformer.lists:
            rows = [
                row
                for row in stats.branches
                if (row.transformer, row.blocks) == (transformer.path, blocks.path)
            ]
            runs = [
                calls[transformer.path, blocks.path, index] for index in range(len(blocks.blocks))
            ]
            assert sum(len(row.executed_steps) for row in rows) == forwards[transformer.path]
            assert not any(row.cached_steps for row in rows)
            assert sum(row.computed_blocks for row in rows) == sum(runs)
            assert sum(row.total_blocks for row in rows) == sum(runs)
            if not subject.case.startswith("skip_"):
                assert set(runs) == {forwards[transformer.path]}

    # (c) A hit computes exactly F + B blocks of each list.
    fn, bn = ((1, 0), (1, 1), (2, 1))[SUBJECTS.index(subject) % 3]
    if subject.case.startswith("skip_"):
        fn, bn = 1, 0  # the skipped layers leave no block between F and B otherwise
    config = {**HITS, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
    with cachedit_yaml.enable(pipe, cache_config=config) as handle:
        assert subject.run(pipe).isfinite().all()
    check_hits(subject, plan, handle.stats(), fn, bn, watch, forwards, calls)

    # (b) Disabling restores everything.
    assert attributes(pipe, plan) == before
    assert torch.equal(subject.run(pipe), plain)


def check_hits(
    subject: Subject,
    plan: Any,
    stats: Any,
    fn: int,
    bn: int,
    watch: Watch,
    forwards: Counter[str],
    calls: Counter[tuple[str, str, int]],
) -> None:
    """Compare what ran with the steps that had to hit and with what the handle says."""
    shapes = dict(watch.shapes)
    assert stats.warnings == ()
    assert stats.hit_ratio > 0
    hit_forwards, hit_calls = watch.take()
    assert hit_forwards == forwards
    for transformer in plan.transformers:
        for blocks in transformer.lists:
            where = (transformer.path, blocks.path)
            count = len(blocks.blocks)
            rows = [row for row in stats.branches if (row.transformer, row.blocks) == where]
            ran = [hit_calls[(*where, index)] for index in range(count)]
            whole = [calls[(*where, index)] for index in range(count)]
            assert sum(row.computed_blocks for row in rows) == sum(ran)
            assert sum(row.total_blocks for row in rows) == sum(whole)
            # The branches of a step run in turn; not all of them run in every step.
            seen = iter(shapes.get(where, ()))
            own: dict[str, list[torch.Size]] = {row.branch: [] for row in rows}
            for step in range(max((max(row.executed_steps) + 1 for row in rows), default=0)):
                for row in rows:
                    if step in row.executed_steps:
                        own[row.branch].append(next(seen))
            for row in rows:
                assert row.cached_steps == expected_hits(row.executed_steps, own[row.branch])
            cached = sum(len(row.cached_steps) for row in rows)
            always = {*range(fn), *range(count - bn, count)}
            assert [ran[index] for index in always] == [whole[index] for index in always]
            if not subject.case.startswith("skip_"):
                middle = [ran[index] for index in range(count) if index not in always]
                assert set(middle) == {forwards[transformer.path] - cached}
                for row in rows:
                    hits = len(row.cached_steps)
                    computed = count * (len(row.executed_steps) - hits) + (fn + bn) * hits
                    assert row.computed_blocks == computed


@pytest.mark.parametrize("adapter", [entry.name for entry in SHIPPED])
def test_profiles(adapter: str) -> None:
    """Each profile, and the settings for few steps, fit the small models and can run."""
    spec = cachedit_yaml.load_adapter(adapter)
    assert list(spec.profiles) == ["quality", "balanced", "fast"]
    assert spec.steps
    subject = next((item for item in SUBJECTS if item.adapter == adapter), None)
    if subject is None:
        assert not NEWEST
        pytest.skip(f"diffusers {INSTALLED} has no pipeline of {adapter}")
    pipe = subject.build()
    for profile in (None, *spec.profiles):
        with cachedit_yaml.enable(pipe, profile=profile) as handle:
            for steps in (4, 12) if profile == "balanced" else (4,):
                assert subject.run(pipe, steps).isfinite().all()
                assert handle.stats().num_steps == steps
            assert f"{adapter}.yaml" in handle.explain()


def test_number_of_adapters() -> None:
    assert len(SHIPPED) == ADAPTERS
    assert len(DECLARED) == PIPELINES
    if NEWEST:
        assert len(SUBJECTS) == 248


@pytest.mark.parametrize(("adapter", "pipeline"), DECLARED)
def test_found_by_class(adapter: str, pipeline: str) -> None:
    if not hasattr(diffusers, pipeline):
        assert not NEWEST
        pytest.skip(f"diffusers {INSTALLED} has no {pipeline}")
    cls = getattr(diffusers, pipeline)
    match = Registry.load().match_pipeline(cls)
    assert (match.entry.name, match.how) == (adapter, "exact")
    assert cachedit_yaml.find_adapter(cls).name == adapter
    assert match.entry.path.stem == adapter
    tried = any(item.pipeline == pipeline for item in SUBJECTS)
    assert tried or tiny.NOT_BUILT[pipeline]


@pytest.mark.parametrize("adapter", [entry.name for entry in SHIPPED])
def test_found_by_transformer(adapter: str) -> None:
    """Engines without a pipeline find the adapter by the transformer's class alone."""
    for transformer in cachedit_yaml.load_adapter(adapter).transformers.values():
        assert transformer.transformer_class
        for name in transformer.transformer_class:
            if not hasattr(diffusers, name):
                assert not NEWEST
                pytest.skip(f"diffusers {INSTALLED} has no {name}")
            cls = getattr(diffusers, name)
            assert cachedit_yaml.find_adapter(cls).name == adapter
            if name in tiny.transformers():
                model = tiny.transformer(name)
                with cachedit_yaml.enable_transformer(model, adapter) as handle:
                    assert [item.module for item in handle.plan.transformers] == [model]


def annotated_pipelines(classes: set[str]) -> set[str]:
    """Pipelines whose transformers are annotated with one of the classes, read from the sources."""
    found = set()
    public = set(dir(diffusers))
    for path in sorted(Path(diffusers.__file__).parent.glob("pipelines/**/*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(name in text for name in classes):
            continue
        for node in ast.parse(text).body:
            if not isinstance(node, ast.ClassDef) or node.name not in public:
                continue
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    for argument in item.args.args:
                        if argument.arg.startswith("transformer") and argument.annotation:
                            words = re.findall(r"\w+", ast.unparse(argument.annotation))
                            if classes & set(words):
                                found.add(node.name)
    return found


def test_no_pipeline_is_left_out() -> None:
    """All pipelines of diffusers that hold one of these transformers have an adapter."""
    served = {
        name
        for entry in SHIPPED
        for transformer in entry.spec.transformers.values()
        for name in transformer.transformer_class or ()
    }
    of_family = annotated_pipelines(served)
    assert len(of_family) >= (PIPELINES if NEWEST else 40)
    assert of_family <= {pipeline for _, pipeline in DECLARED}
