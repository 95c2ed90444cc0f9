"""What a small pipeline proves about its adapter.

- ``exact``: with caching on and no hit, the output is the uncached one bit for bit, and every block
  runs as often as without.
- ``hits``: on a step that is served from the cache exactly F + B blocks of each list run, the steps
  that may hit do, and the output stays finite.
- ``values``: on a hit a transformer returns what it would compute from the same arguments.
- ``native``: where cache-dit's own execution is allowed, it gives the same output with the same
  steps cached.
- ``batch``: the samples of a batch are served from the cache each for itself, and each gets what it
  gets alone; not where the transformer cannot do to a part of a batch what it does to all of it.
- ``restored``: after disabling, every attribute and the output are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import torch

import cachedit_yaml
from cachedit_yaml.api import ExecutionName
from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.errors import CacheditYamlError, CacheRuntimeError, CompileError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.attributes import attributes, left_behind
from cachedit_yaml.probe.batch import SETTINGS, Batch, NoBatchError, as_one
from cachedit_yaml.probe.hits import MASK, Hits
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.replay import Replay
from cachedit_yaml.probe.watch import Watch
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import Stats

Verdict = Literal["proved", "failed", "not allowed"]

PROOFS: Final = ("resolves", "exact", "hits", "values", "native", "batch", "restored")
#: Mean error that adding up in another order makes, with much to spare.
_ROUNDING: Final = 1e-4
NO_HIT: Final[Mapping[str, Any]] = {"residual_diff_threshold": 0, "scm": None}


@dataclass(frozen=True)
class Claim:
    """One thing that was tried.

    Attributes:
        name: one of :data:`PROOFS`.
        verdict: whether it holds; ``not allowed`` where native execution refuses, nothing can be
            compared, or the samples of a batch decide together.
        detail: what is otherwise than it should be, in one sentence, or why it is not allowed.
    """

    name: str
    verdict: Verdict
    detail: str = ""


class Subject(Protocol):
    """What can be tried: a small pipeline, or one with its real weights."""

    spec: AdapterSpec
    recipe: Recipe
    target: Any

    def begin(self, handle: Handle, steps: int = ...) -> None:
        """Tell a handle of the generations to come, where no scheduler tells it."""

    def run(self, case: str, steps: int = ...) -> torch.Tensor:
        """Run one case from the same random numbers; its whole output as one tensor."""


def prove(
    built: Subject, case: str, *, fn: int = 1, bn: int = 0, native: bool = True
) -> list[Claim]:
    """Try one case of a small pipeline.

    Args:
        built: the pipeline.
        case: one of its recipe's cases.
        fn: F, the first blocks that always run.
        bn: B, the last blocks that always run; 0 where fewer than F + B + 1 blocks are there.
        native: try cache-dit's own execution and a batch too, and run once more after disabling;
            without it only the attributes are compared.

    Returns:
        The proofs in the order of :data:`PROOFS`; those after one that failed may be missing.
    """
    try:
        plan = cachedit_yaml.compile_adapter(built.spec, built.target)
    except CacheditYamlError as error:
        return [Claim("resolves", "failed", str(error))]
    return [Claim("resolves", "proved"), *_Trial(built, case, plan, fn, bn).proofs(native)]


class _Trial:
    def __init__(self, built: Subject, case: str, plan: Plan, fn: int, bn: int) -> None:
        self.built = built
        self.case = case
        self.plan = plan
        shortest = min(len(blocks.blocks) for _, blocks in plan.block_lists)
        self.fn, self.bn = (fn, bn) if fn + bn < shortest else (1, 0)
        self.watch = Watch(plan)

    def proofs(self, native: bool) -> Iterator[Claim]:
        with self.watch:
            wrong = self._uncached()
            if wrong is not None:
                yield Claim("exact", "failed", wrong)
                return
            before = attributes(self.built.target, self.plan)
            yield self._judge("exact", self._exact)
            yield (hits := self._judge("hits", self._hits))
            if hits.verdict == "proved":
                yield self._judge("values", self._values)
            if native and hits.verdict == "proved":
                yield self._judge("native", self._native)
                yield self._judge("batch", self._batch)
            yield self._judge("restored", lambda: self._restored(before, run=native))

    def _judge(self, name: str, attempt: Callable[[], Claim | str | None]) -> Claim:
        try:
            found = attempt()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if isinstance(found, Claim):
            return found
        return Claim(name, "failed", found) if found else Claim(name, "proved")

    def _uncached(self) -> str | None:
        """Run without caching; what is wrong with that, or None."""
        try:
            self.plain = self._run()
            if not self.watch.forwards:
                self.watch.by_name()
                self.plain = self._run()
        except Exception as error:
            return f"the uncached call raised {type(error).__name__}: {error}"
        self.forwards, self.calls = dict(self.watch.forwards), dict(self.watch.calls)
        self.whole = dict(self.watch.whole)
        self.outputs = {path: list(sums) for path, sums in self.watch.outputs.items()}
        # With hits the first block of a list that follows another one may not run.
        self.shapes = {where: list(shapes) for where, shapes in self.watch.shapes.items()}
        for transformer, blocks in self.plan.block_lists:
            keys = [(transformer.path, blocks.path, index) for index in range(len(blocks.blocks))]
            if len({self.calls.get(key, 0) for key in keys}) > 1:
                # The loop leaves blocks out by itself; with F + B > 1 there may be none to skip.
                self.fn, self.bn = 1, 0
        if not self.plain.isfinite().all():
            return "the uncached output is not finite, so nothing can be compared with it"
        return None if sum(self.calls.values()) else "the call ran no block of the adapter's lists"

    def _run(self) -> torch.Tensor:
        self.watch.clear()
        return self.built.run(self.case)

    def _enable(self, settings: Mapping[str, Any], execution: ExecutionName = "loop") -> Handle:
        handle = cachedit_yaml.enable(
            self.built.target, self.built.spec, cache_config=settings, execution=execution
        )
        self.built.begin(handle)
        return handle

    # --- the proofs: None, or what is wrong ---

    def _exact(self) -> str | None:
        with self._enable({**NO_HIT, "Fn_compute_blocks": self.fn, "Bn_compute_blocks": self.bn}):
            output = self._run()
        if not torch.equal(output, self.plain):
            return (
                f"with no hit the output differs from the uncached one{_apart(output, self.plain)}"
            )
        if dict(self.watch.calls) != self.calls:
            return "with no hit other blocks ran than without caching"
        return None

    def _hits(self) -> str | None:
        found = self._try_hits()
        if found is not None and self.bn and "set Bn_compute_blocks to 0" in found:
            # It says that its last blocks depend on skipped ones, and is proved without them.
            self.bn = 0
            found = self._try_hits()
        return found

    def _try_hits(self) -> str | None:
        with self._enable(self._forced) as handle:
            self.cached = self._run()
            self.stats: Stats = handle.stats()
            plan = handle.plan
        if not self.cached.isfinite().all():
            return "with hits the output is not finite"
        if dict(self.watch.forwards) != self.forwards:
            return "with hits the transformer ran another number of times"
        if not self.stats.hit_ratio:
            return ": ".join(["no step hit", *self.stats.warnings[:1]])
        if self.stats.warnings:
            return self.stats.warnings[0]
        # Not the pipeline's output: it may be tokens, or pictures that were given.
        if self.watch.outputs == self.outputs:
            return "with hits every forward returns the uncached output: the blocks do nothing"
        return Hits(self.stats, self.watch.calls, self.calls, self.shapes).wrong(plan)

    @property
    def _forced(self) -> dict[str, Any]:
        return {
            **MASK,
            "Fn_compute_blocks": self.fn,
            "Bn_compute_blocks": self.bn,
            "calibrator": None,
        }

    def _values(self) -> Claim | str | None:
        plan = cachedit_yaml.compile_adapter(
            self.built.spec, self.built.target, cache_config=self._forced
        )
        with Replay(plan, self.whole) as replay:
            self._run()
        if replay.wrong:
            return "; ".join(replay.wrong.values())
        untold = "; ".join(replay.untold.values())
        return Claim("values", "not allowed", untold) if untold else None

    def _native(self) -> Claim | str | None:
        steps = {
            (row.transformer, row.blocks): row.cached_steps for row in reversed(self.stats.branches)
        }
        try:
            with self._enable(self._forced, "native") as handle:
                output = self._run()
                native = handle.stats()
        except CompileError as error:
            reason = error.problems[0] if error.problems else str(error)
            return Claim("native", "not allowed", reason)
        except CacheRuntimeError as error:
            return Claim("native", "not allowed", str(error))
        for row in native.branches:
            if row.cached_steps != steps.get((row.transformer, row.blocks)):
                return f"{row.transformer}.{row.blocks}: other steps cached natively"
        # Lists that follow one are run there as one: what they add is added up in another order.
        together = any(row.follows is not None for row in native.branches)
        rounded = together and _error(output, self.cached) < _ROUNDING
        if rounded or torch.equal(output, self.cached):
            return None
        return f"the native output differs{_apart(output, self.cached)}"

    def _batch(self) -> Claim | str | None:
        why = None
        for transformer in self.plan.transformers:
            call = self.watch.first.get(transformer.path)
            if call is None:
                continue
            try:
                batch = Batch(transformer.module, call)
            except NoBatchError as error:
                why = f"{transformer.path} does not run two samples together: {error}"
                continue
            settings = {**SETTINGS, "Fn_compute_blocks": self.fn, "Bn_compute_blocks": self.bn}
            with self._enable(settings) as handle:
                wrong, rows = batch.try_hits(handle)
            if wrong is not None:
                return f"{transformer.path}: {wrong}"
            for row in rows:
                packed = "its samples run as one sequence, and decide together"
                why = next(iter(row.together.values()), row.unfit) or (
                    packed if as_one(row) else why
                )
        return Claim("batch", "not allowed", why) if why is not None else None

    def _restored(self, before: list[Any], run: bool) -> str | None:
        after = attributes(self.built.target, self.plan)
        if after != before:
            self._run()
            if left_behind(before, after, attributes(self.built.target, self.plan)):
                return "disabling left attributes behind"
        if run and not torch.equal(self._run(), self.plain):
            return "after disabling, the output differs"
        return None


def _apart(one: torch.Tensor, other: torch.Tensor) -> str:
    if one.shape != other.shape:
        return f": shape {tuple(one.shape)} instead of {tuple(other.shape)}"
    return f" (mean error {_error(one, other):.2g})"


def _error(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean error of one tensor against another one; infinite where their shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float((one.double() - other.double()).abs().mean() / other.double().abs().mean())
