"""``python -m benchmarks.drafting``: adapters drafted from a run alone, beside those that ship.

For every pipeline that a shipped adapter's probe makes, the adapter is hidden, one call is watched
(four steps), and the draft is compared with the shipped adapter in meaning: the same lists of the
same transformers, what a block takes and returns, the timestep, the scheduler and the split.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

import cachedit_yaml
from cachedit_yaml.compiler.plan import ListPlan, Plan
from cachedit_yaml.engines import find_engine
from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.confine import uncompiled
from cachedit_yaml.probe.recipe import PLAIN, Recipe, recipes
from cachedit_yaml.probe.workers import Died, side_by_side
from cachedit_yaml.registry.registry import Registry


@dataclass(frozen=True)
class Outcome:
    """What came of one pipeline.

    Attributes:
        adapter: the shipped adapter.
        pipeline: the class, and the make of it.
        result: ``same``, ``differs``, ``no draft`` or ``untried``.
        differences: one sentence each.
        proof: ``proved``, ``failed`` or ``-``.
        seconds: processor time of drafting beyond the run itself.
        better: which of the two is, where they differ.
        theirs: what cache-dit's own detection finds, given the right pattern: the ``same`` lists,
            ``some`` of them, ``others``, or it ``refuses``; ``-`` where it was not asked.
    """

    adapter: str
    pipeline: str
    result: str
    differences: tuple[str, ...] = ()
    proof: str = "-"
    seconds: float = 0.0
    theirs: str = "-"
    better: str = ""


#: Which of the two is better, where they differ: what somebody has found out.
_BETTER: Mapping[str, str] = yaml.safe_load(
    Path(__file__).with_name("better.yaml").read_text(encoding="utf-8")
)


def outcome(spec: AdapterSpec, recipe: Recipe, *, proof: bool = True) -> Outcome:
    """Draft one pipeline's adapter, compare it and prove it."""
    name = recipe.pipeline + (f" [{recipe.variant}]" if recipe.variant else "")
    engine = find_engine(recipe.engine)
    with patch.object(torch, "compile", uncompiled):  # as in `check`: small models gain nothing
        try:
            built = engine.build(spec, recipe)
        except (NotInstalledError, ProbeError) as error:
            return Outcome(spec.name, name, "untried", (str(error),))
        try:
            return _outcome(spec, name, built, proof)
        finally:
            engine.close()


def _outcome(spec: AdapterSpec, name: str, built: Any, proof: bool) -> Outcome:
    def call() -> Any:
        return built.run(PLAIN)

    begin = time.process_time()
    call()
    alone, begin = time.process_time() - begin, time.process_time()
    try:
        draft = cachedit_yaml.infer(built.target, call)
    except CacheditYamlError as error:
        return Outcome(spec.name, name, "no draft", (str(error).splitlines()[0],))
    seconds = max(0.0, time.process_time() - begin - alone)
    if draft.refused is not None:
        refuses = spec.refuse is not None
        return Outcome(spec.name, name, "same" if refuses else "differs", (draft.refused,))
    if spec.refuse is not None:
        return Outcome(spec.name, name, "differs", (f"shipped: {spec.refuse}",))
    try:
        mine = cachedit_yaml.compile_adapter(draft.data, built.target)
    except CacheditYamlError as error:
        return Outcome(spec.name, name, "differs", (str(error),), "failed", seconds)
    shipped = cachedit_yaml.compile_adapter(spec, built.target)
    theirs = detected(built.target, shipped) if built.recipe.pipeline else "-"
    differences = tuple(compare(mine, shipped))
    result = "differs" if differences else "same"
    shown = "-"
    if proof:
        found = draft.check()
        shown = "failed" if found.broken else "proved"
        differences += tuple(f"{item.name}: {item.detail}" for item in found.failed)
    return Outcome(spec.name, name, result, differences, shown, seconds, theirs)


def detected(pipeline: Any, shipped: Plan) -> str:
    """What cache-dit's ``BlockAdapter(auto=True)`` finds; it has to be told the pattern."""
    from cache_dit import BlockAdapter, ForwardPattern

    first = shipped.transformers[0].lists[0]
    try:
        asked = BlockAdapter(
            pipe=pipeline, auto=True, forward_pattern=ForwardPattern[first.pattern.name]
        )
        found = BlockAdapter.auto_block_adapter(asked)
    except Exception:  # it asserts and raises what it likes
        return "refuses"
    blocks = found.blocks if isinstance(found.blocks, list) else [found.blocks]
    holders, wanted = {id(item) for item in blocks}, {*_lists(shipped)}
    if holders == wanted:
        return "same"
    return "some" if holders & wanted else "others"


def compare(mine: Plan, shipped: Plan) -> Iterator[str]:
    """In what two plans for one pipeline differ in meaning, a sentence each."""
    ours, theirs = _lists(mine), _lists(shipped)
    for key in theirs.keys() - ours.keys():
        yield f"without {theirs[key].where}"
    for key in ours.keys() - theirs.keys():
        yield f"also {ours[key].where} ({len(ours[key].blocks)} blocks)"
    for key in ours.keys() & theirs.keys():
        if _form(ours[key]) != _form(theirs[key]):
            yield f"{theirs[key].where}: {_form(ours[key])}, shipped {_form(theirs[key])}"
    for path, item in {id(x.module): x for x in shipped.transformers}.items():
        same = next((x for x in mine.transformers if id(x.module) == path), None)
        if same is None:
            continue
        if same.timestep != item.timestep and item.timestep != "timestep":
            yield f"{item.path}: timestep {same.timestep}, shipped {item.timestep}"
        if mine.at(same.scheduler) is not shipped.at(item.scheduler):
            yield f"{item.path}: scheduler {same.scheduler}, shipped {item.scheduler}"
        if same.denoising != item.denoising:
            yield f"{item.path}: denoising {same.denoising}, shipped {item.denoising}"
    if (mine.split and mine.ratio) != (shipped.split and shipped.ratio):
        yield f"split {mine.split}, shipped {shipped.split}"


def _lists(plan: Plan) -> dict[int, ListPlan]:
    return {id(item.holder): item for each in plan.transformers for item in each.lists}


def _form(item: ListPlan) -> tuple[str, ...]:
    """What a block takes and returns; patterns 2 and 3 differ in nothing that caching does."""
    pattern, binding = item.pattern, item.binding
    if not pattern.returns_encoder:
        return ("returns the hidden states", binding.hidden.name)
    order = "first" if pattern.hidden_first else "last"
    other = binding.encoder.name if binding.encoder is not None else "new"
    return (f"returns a pair, hidden states {order}", binding.hidden.name, other)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draft all, and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drafting", description=__doc__)
    parser.add_argument("adapters", nargs="*", help="only these; default: all that ship")
    parser.add_argument("--engine", default="diffusers", help="whose pipelines; default: diffusers")
    parser.add_argument("--no-proof", action="store_true", help="compare only")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # small tensors gain nothing from more
    registry = Registry.load()
    work = []
    for entry in registry.adapters():
        if (
            given.adapters and entry.name not in given.adapters
        ) or given.engine not in entry.engines:
            continue
        spec = entry.with_probe(given.engine)
        if spec.probe is not None:
            work += [(spec, item, not given.no_proof) for item in recipes(spec)]
    results: list[Outcome] = []
    for found in side_by_side(_one, work, given.jobs):
        if isinstance(found, Died):
            spec, recipe, _ = found.item
            found = Outcome(spec.name, recipe.pipeline, "no draft", (found.why,))
        if found.result in ("differs", "no draft") or found.proof == "failed":
            key = f"{given.engine}/{found.adapter}"
            make = f"{key} [{found.pipeline.partition(' [')[2]}"
            found = replace(found, better=_BETTER.get(make, _BETTER.get(key, "not looked at")))
        results.append(found)
        print(*_lines(found), sep="\n    ", file=sys.stderr, flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(item) for item in results], indent=1))
    print(summary(results))
    for found in results:
        if found.result not in ("same", "untried") or found.proof == "failed":
            print(*_lines(found), sep="\n    ")
    return 0


def _lines(found: Outcome) -> list[str]:
    """What came of one pipeline, with what differs and which of the two is better."""
    first = f"{found.adapter}: {found.pipeline}: {found.result}, {found.proof}"
    better = [f"better: {found.better}"] if found.better else []
    return [first, *found.differences, *better]


def _one(item: tuple[AdapterSpec, Recipe, bool]) -> Outcome:
    spec, recipe, proof = item
    return outcome(spec, recipe, proof=proof)


def summary(results: Sequence[Outcome]) -> str:
    """The counts as text."""
    tried = [item for item in results if item.result != "untried"]
    counts = Counter(item.result for item in tried)
    proved = Counter(item.proof for item in tried if item.proof != "-")
    slowest = max(tried, key=lambda item: item.seconds, default=None)
    lines = [f"{len(tried)} pipelines: " + ", ".join(f"{n} {word}" for word, n in counts.items())]
    lines.append(f"proofs of drafts: {proved['proved']} hold, {proved['failed']} do not")
    asked = Counter(item.theirs for item in tried if item.theirs != "-")
    lines.append(
        "cache-dit's detection, told the pattern: "
        + ", ".join(f"{n} {word}" for word, n in asked.items())
    )
    if slowest is not None:
        lines.append(f"longest: {slowest.seconds:.1f} s ({slowest.pipeline})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
