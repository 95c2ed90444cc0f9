"""What the code written by hand does on the same small pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

import torch

import cachedit_yaml
from cachedit_yaml.probe.prove import Subject
from cachedit_yaml.probe.watch import Watch

#: Steps of a call under an engine's own code: some engines have no masks for fewer.
STEPS: Final = 8
#: Switches an engine's own code on for a case and off again. It gets the same steps to serve from
#: the cache as ours; without hits, none.
OwnCode: TypeAlias = Callable[[str, bool], AbstractContextManager[None]]

Outcome = Literal["equal", "wrong", "refuses", "absent", "untried"]


@dataclass(frozen=True)
class Rival:
    """What that code does on one make of one pipeline.

    Attributes:
        outcome: ``equal``: exact in every case; ``wrong``: silently another output in some case;
            ``refuses``: it raises when enabled or when run; ``absent``: it knows no adapter for the
            class; ``untried``: the pipeline cannot be made here.
        detail: the case and the mean error, or what was raised.
    """

    outcome: Outcome
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def error_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean difference of two outputs, over the mean size of the second."""
    if one.shape != other.shape:
        return float("inf")
    difference = (one.double() - other.double()).abs().mean()
    return float(difference / other.double().abs().mean())


def beside(built: Subject, ours: Mapping[str, Any], own_code: OwnCode) -> Rival:
    """Run every case without a cache, under ours, and under an engine's own code.

    Both get the same steps to serve from the cache, whatever the differences: where fewer or other
    blocks run then, or the output differs, that code takes other steps or other buffers than the
    request has.

    Args:
        built: the small model; what the other code leaves behind stays on it.
        ours: settings of ours.
        own_code: that code.
    """
    plan = cachedit_yaml.compile_adapter(built.spec, built.target)
    wrong: list[tuple[float, str]] = []
    with Watch(plan) as watch:

        def run(case: str) -> tuple[torch.Tensor, int]:
            watch.clear()
            output = built.run(case, STEPS)
            return output, sum(watch.calls.values())

        expected: dict[str, tuple[torch.Tensor, int, torch.Tensor, int]] = {}
        for case in built.recipe.cases:
            plain = run(case)
            with cachedit_yaml.enable(built.target, built.spec, cache_config=ours) as handle:
                built.begin(handle, STEPS)
                expected[case] = (*plain, *run(case))
        for case, (plain_output, all_blocks, output, blocks) in expected.items():
            try:
                with _unmarked(), own_code(case, False):
                    untouched, _ = run(case)
                with _unmarked(), own_code(case, True):
                    theirs, ran = run(case)
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                if "is not officially supported by cache-dit" in text:
                    return Rival("absent", "its table has no such class, unless a stage adds it")
                return Rival("refuses", f"{case}: {text[:200]}")
            if not torch.equal(untouched, plain_output):
                apart = error_of(untouched, plain_output)
                wrong.append((1 + apart, f"{case}: mean error {apart:.2g} with no hit"))
            elif ran != blocks:
                what = "it never hits" if ran == all_blocks else f"{ran} blocks run, not {blocks}"
                wrong.append((1, f"{case}: {what}"))
            elif not torch.equal(theirs, output):
                apart = error_of(theirs, output)
                what = "as many blocks run, at other steps or from other buffers"
                wrong.append((apart, f"{case}: {what} ({apart:.2g} apart)"))
    return Rival("wrong", max(wrong)[1]) if wrong else Rival("equal")


@contextmanager
def _unmarked() -> Iterator[None]:
    """Without the mark that cache-dit leaves on a class of its own, where it refuses the next."""
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline

    def forget() -> None:
        if "_is_cached" in vars(FakeDiffusionPipeline):
            del FakeDiffusionPipeline._is_cached

    forget()
    try:
        yield
    finally:
        forget()
