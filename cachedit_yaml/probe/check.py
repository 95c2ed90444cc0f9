"""Try adapters on the small pipelines of their probes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.pipelines import build
from cachedit_yaml.probe.prove import Proof, prove
from cachedit_yaml.probe.recipe import PLAIN, Recipe, recipes, unused

Status = Literal["proved", "failed", "skipped"]


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
    """

    adapter: str
    pipeline: str
    variant: str | None
    case: str
    status: Status
    detail: str = ""
    proofs: tuple[Proof, ...] = field(default=())

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


def check(spec: AdapterSpec, *, pipelines: Sequence[str] = ()) -> Iterator[Checked]:
    """Build what an adapter's probe describes and prove every case.

    Args:
        spec: the adapter.
        pipelines: only these pipeline classes; default: all.

    Yields:
        One result for each case, in the order of the adapter, and one for each pipeline that
        cannot be made.
    """
    if spec.refuse is not None:
        yield Checked(spec.name, "", None, "", "skipped", f"refuses: {spec.refuse}")
        return
    if spec.probe is None:
        yield Checked(spec.name, "", None, "", "skipped", "it has no probe")
        return
    leftover = unused(spec)
    if leftover and not pipelines:
        text = f"no pipeline of the adapter takes {', '.join(leftover)}"
        yield Checked(spec.name, "", None, "", "failed", text)
    for recipe in recipes(spec):
        if not pipelines or recipe.pipeline in pipelines:
            yield from check_recipe(spec, recipe)
            gc.collect()


def check_recipe(spec: AdapterSpec, recipe: Recipe) -> Iterator[Checked]:
    """Prove every case of one make of one pipeline."""
    names = spec.name, recipe.pipeline, recipe.variant
    try:
        built = build(spec, recipe)
    except NotInstalledError as error:
        yield Checked(*names, "", "skipped", str(error))
        return
    except ProbeError as error:
        yield Checked(*names, "", "failed", str(error))
        return
    # F and B change from make to make, so that each combination is tried somewhere.
    fn, bn = ((1, 0), (1, 1), (2, 1))[len(recipe.pipeline + (recipe.variant or "")) % 3]
    for case in recipe.cases:
        proofs = prove(built, case, fn=fn, bn=bn, native=case == PLAIN)
        failed = any(item.verdict == "failed" for item in proofs)
        yield Checked(*names, case, "failed" if failed else "proved", proofs=tuple(proofs))
