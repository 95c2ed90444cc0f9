"""Try adapters on the small pipelines of their probes."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from cachedit_yaml.engines import find_engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.confine import confined, why_it_ended
from cachedit_yaml.probe.limits import LimitError, Limits, audit, spending
from cachedit_yaml.probe.prove import Claim, prove
from cachedit_yaml.probe.recipe import PLAIN, Recipe, recipes, unused
from cachedit_yaml.probe.rival import Rival
from cachedit_yaml.probe.workers import Died, can_fork, side_by_side

Status = Literal["proved", "failed", "skipped"]
_LIMITS: Final = Limits()


class _Work(NamedTuple):
    """One make of one pipeline; without a recipe, what there is to say of the adapter."""

    spec: AdapterSpec
    recipe: Recipe | None
    against: bool
    limits: Limits
    detail: str = ""

    @property
    def confined(self) -> bool:
        """Whether it is tried behind walls; an engine needs network and files of its own."""
        return self.recipe is not None and self.recipe.engine in HOME


@dataclass(frozen=True)
class Checked:
    """What was tried of one adapter.

    Attributes:
        adapter: its name.
        pipeline: the pipeline class; empty for the transformer alone.
        variant: the make of the pipeline, or None.
        case: the call; empty where none could be made.
        status: whether everything holds.
        detail: why it was skipped, or why nothing could be made.
        proofs: what was tried.
        rival: what cache-dit's own adapter does on the same make, on its first case only.
    """

    adapter: str
    pipeline: str
    variant: str | None
    case: str
    status: Status
    detail: str = ""
    proofs: tuple[Claim, ...] = field(default=())
    rival: Rival | None = None

    def __str__(self) -> str:
        shown = self.pipeline or "transformer alone"
        return ", ".join(part for part in (shown, self.variant, self.case) if part)

    def failures(self) -> list[str]:
        """One sentence for each proof that failed."""
        if self.status != "failed":
            return []
        found = [f"{item.name}: {item.detail}" for item in self.proofs if item.verdict == "failed"]
        return found or [self.detail]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def check(
    specs: Sequence[AdapterSpec],
    *,
    pipelines: Sequence[str] = (),
    against: bool = False,
    jobs: int = 1,
    limits: Limits = _LIMITS,
) -> Iterator[Checked]:
    """Build what adapters' probes describe and prove every case.

    Args:
        specs: the adapters.
        pipelines: only these pipeline classes; default: all.
        against: also try cache-dit's own adapters on the same pipelines.
        jobs: processes that work side by side, where the system can fork. They end with the
            iterator; one that dies is a failed result, and the others go on.
        limits: how much a probe may ask for.

    Yields:
        One result for each case, in the order of the adapters, and one for each adapter or
        pipeline of which nothing can be made.
    """
    work = [item for spec in specs for item in _work(spec, pipelines, against, limits)]
    apart: Iterable[tuple[bool, Iterable[_Work]]] = [(True, work)]
    if jobs == 1:
        apart = itertools.groupby(work, key=lambda item: item.confined)
    for forks, items in apart:
        if forks and can_fork():
            for results in side_by_side(_check, [*items], jobs):
                yield from [_died(results)] if isinstance(results, Died) else results
        else:
            for item in items:
                yield from _check(item)


def _work(
    spec: AdapterSpec, pipelines: Sequence[str], against: bool, limits: Limits
) -> Iterator[_Work]:
    """What is to be tried of one adapter."""
    nothing = _Work(spec, None, against, limits)
    if spec.refuse is not None:
        yield nothing._replace(detail=f"refuses: {spec.refuse}")
        return
    if spec.probe is None:
        yield nothing._replace(detail="it has no probe")
        return
    makes = cases = 0
    wanted = []
    for recipe in recipes(spec):
        makes, cases = makes + 1, cases + len(recipe.cases)
        if makes > limits.makes or cases > limits.cases:
            name = "makes" if makes > limits.makes else "cases"
            yield nothing._replace(detail=f"limit {name}: more than {getattr(limits, name)}")
            return
        if recipe.pipeline in pipelines or not pipelines:
            wanted.append(recipe)
    if not pipelines and (left := unused(spec)):
        yield nothing._replace(detail=f"no pipeline of the adapter takes {', '.join(left)}")
    yield from (_Work(spec, recipe, against, limits) for recipe in wanted)


def label(spec: AdapterSpec) -> str:
    """An adapter as it is called in an engine; by its name alone for diffusers."""
    return spec.name if spec.engine in HOME else f"{spec.engine}/{spec.name}"


def _died(died: Died[_Work]) -> Checked:
    recipe = died.item.recipe
    pipeline, variant = (recipe.pipeline, recipe.variant) if recipe is not None else ("", None)
    found = why_it_ended(died.why, died.item.limits)
    result = Checked(label(died.item.spec), pipeline, variant, "", "failed", died.why)
    return replace(result, proofs=(found,)) if found is not None else result


def _check(work: _Work) -> list[Checked]:
    spec, recipe, against, limits, detail = work
    if recipe is None:
        skipped = spec.refuse is not None or spec.probe is None
        nothing = Checked(label(spec), "", None, "", "skipped" if skipped else "failed", detail)
        return [_named(nothing, limits)]
    if not work.confined:
        with spending(limits):
            results = list(check_recipe(spec, recipe))
            rival = _rival(spec, recipe) if against else None
    else:
        with confined(limits) as walls:
            results = list(check_recipe(spec, recipe))
            attempts = tuple(walls.attempts[:1])
            rival = _rival(spec, recipe) if against else None
        if attempts:
            results = [replace(item, status="failed", proofs=attempts) for item in results]
    results[0] = replace(results[0], rival=rival)
    gc.collect()
    return [_named(item, limits) for item in results]


def _named(result: Checked, limits: Limits) -> Checked:
    """A result that says which limit is broken, if one is."""
    found = why_it_ended("; ".join(result.failures()), limits)
    return replace(result, proofs=(found,)) if found is not None else result


def _rival(spec: AdapterSpec, recipe: Recipe) -> Rival | None:
    """What the code written by hand does on the same pipeline: cache-dit's, or the engine's."""
    engine = find_engine(recipe.engine)
    try:
        return engine.compare(spec, recipe)
    except (NotInstalledError, ProbeError) as error:
        return Rival("untried", str(error))
    finally:
        engine.close()


def check_recipe(spec: AdapterSpec, recipe: Recipe) -> Iterator[Checked]:
    """Prove every case of one make of one pipeline."""
    names = label(spec), recipe.pipeline, recipe.variant
    engine = find_engine(recipe.engine)
    try:
        audit(recipe)
        built = engine.build(spec, recipe)
    except LimitError as error:
        broken = Claim(f"limit {error.name}", "failed", error.why)
        yield Checked(*names, "", "failed", str(error), (broken,))
        return
    except NotInstalledError as error:
        yield Checked(*names, "", "skipped", str(error))
        return
    except ProbeError as error:
        yield Checked(*names, "", "failed", str(error))
        return
    # F and B change from make to make, so that each combination is tried somewhere.
    fn, bn = ((1, 0), (1, 1), (2, 1))[len(recipe.pipeline + (recipe.variant or "")) % 3]
    try:
        for case in recipe.cases:
            proofs = prove(built, case, fn=fn, bn=bn, native=case == PLAIN)
            failed = any(item.verdict == "failed" for item in proofs)
            yield Checked(*names, case, "failed" if failed else "proved", proofs=tuple(proofs))
    finally:
        engine.close()
