"""Try adapters on the small pipelines of their probes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from cachedit_yaml.engines import find_engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.prove import Proof, prove
from cachedit_yaml.probe.recipe import PLAIN, Recipe, recipes, unused
from cachedit_yaml.probe.rival import Rival
from cachedit_yaml.probe.workers import Died, can_fork, side_by_side

Status = Literal["proved", "failed", "skipped"]
_Work: TypeAlias = tuple[AdapterSpec, "Recipe | None", bool]


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
    proofs: tuple[Proof, ...] = field(default=())
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
) -> Iterator[Checked]:
    """Build what adapters' probes describe and prove every case.

    Args:
        specs: the adapters.
        pipelines: only these pipeline classes; default: all.
        against: also try cache-dit's own adapters on the same pipelines.
        jobs: processes that work side by side, where the system can fork. They end with the
            iterator; one that dies is a failed result, and the others go on.

    Yields:
        One result for each case, in the order of the adapters, and one for each adapter or
        pipeline of which nothing can be made.
    """
    work: list[_Work] = []
    for spec in specs:
        if spec.refuse is not None or spec.probe is None or (unused(spec) and not pipelines):
            work.append((spec, None, against))
        if spec.refuse is None:
            wanted = [item for item in recipes(spec) if item.pipeline in pipelines or not pipelines]
            work += [(spec, recipe, against) for recipe in wanted]
    if jobs > 1 and can_fork():
        for results in side_by_side(_check, work, jobs):
            yield from [_died(results)] if isinstance(results, Died) else results
    else:
        for item in work:
            yield from _check(item)


def label(spec: AdapterSpec) -> str:
    """An adapter as it is called in an engine; by its name alone for diffusers."""
    return spec.name if spec.engine in HOME else f"{spec.engine}/{spec.name}"


def _died(died: Died[_Work]) -> Checked:
    spec, recipe, _ = died.item
    pipeline, variant = (recipe.pipeline, recipe.variant) if recipe is not None else ("", None)
    return Checked(label(spec), pipeline, variant, "", "failed", died.why)


def _check(work: _Work) -> list[Checked]:
    spec, recipe, against = work
    if recipe is not None:
        results = list(check_recipe(spec, recipe))
        if against:
            results[0] = replace(results[0], rival=_rival(spec, recipe))
        gc.collect()
        return results
    nothing = Checked(label(spec), "", None, "", "skipped", "it has no probe")
    if spec.refuse is not None:
        return [replace(nothing, detail=f"refuses: {spec.refuse}")]
    if spec.probe is None:
        return [nothing]
    text = f"no pipeline of the adapter takes {', '.join(unused(spec))}"
    return [replace(nothing, status="failed", detail=text)]


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
        built = engine.build(spec, recipe)
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
