"""How the steps divide, and how guidance runs."""

from __future__ import annotations

from collections.abc import Mapping

from cachedit_yaml.rules.checks.context import Context, is_number, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath, nearest, one_of


def check(context: Context) -> None:
    """Names of a step split, its shares, and the guidance mode."""
    split = mapping(context.data.get("step_split"))
    base: KeyPath = ("step_split",)
    boundary = mapping(split.get("boundary"))
    for key in ("high", "low"):
        _declared(context, boundary.get(key), (*base, "boundary", key))
    if "high" in boundary and boundary.get("high") == boundary.get("low"):
        context.report(
            "unusable", "'high' and 'low' name the same transformer", (*base, "boundary", "low")
        )
    if boundary.get("ratio") in (0, 1) and is_number(boundary.get("ratio")):
        idle = boundary.get("low" if boundary["ratio"] == 0 else "high")
        context.report(
            "never-runs",
            f"with a ratio of {boundary['ratio']:g} no step belongs to {idle!r}",
            (*base, "boundary", "ratio"),
            expected="a number between 0 and 1, or the pipeline's attribute",
        )
    for kind in ("fraction", "count"):
        for name, share in mapping(split.get(kind)).items():
            _declared(context, name, (*base, kind, name), key=True)
            if share == 0 and is_number(share) and kind == "count":
                context.report("never-runs", f"{name!r} gets no steps", (*base, kind, name))
    shares = [v for v in mapping(split.get("fraction")).values() if is_number(v)]
    if sum(shares) > 1 + 1e-9:
        context.report(
            "out-of-range",
            f"the fractions add up to {sum(shares):g}",
            (*base, "fraction"),
            key=True,
            expected="at most 1",
        )
    rests = [n for n, v in mapping(split.get("count")).items() if v == -1 and v is not True]
    if len(rests) > 1:
        context.report(
            "unusable",
            "only one transformer can take the rest of the steps",
            (*base, "count", rests[1]),
            related=("the other", (*base, "count", rests[0])),
        )
    _left_out(context)
    _schedulers(context)
    _guidance(context)


def _declared(context: Context, name: object, path: KeyPath, key: bool = False) -> None:
    if isinstance(name, str) and name not in context.named and context.named:
        context.report(
            "unknown-name",
            f"no transformer is called {name!r}",
            path,
            key=key,
            expected=one_of(list(context.named)),
            near=nearest(name, context.named),
        )


def _in_split(split: Mapping[str, object]) -> list[object]:
    """The transformers that a split names, the noisiest first."""
    boundary = mapping(split.get("boundary"))
    shared = (name for kind in ("fraction", "count") for name in mapping(split.get(kind)))
    return [*([boundary.get("high"), boundary.get("low")] if boundary else []), *shared]


def _left_out(context: Context) -> None:
    split = mapping(context.data.get("step_split"))
    for kind in ("boundary", "fraction", "count"):
        shares = mapping(split.get(kind))
        if not shares:
            continue
        given = _in_split({kind: shares})
        # What is wrong in the split itself is reported as such.
        if kind == "boundary" and given[0] == given[1]:
            continue
        if not all(isinstance(name, str) and name in context.named for name in given):
            continue
        for name in context.named:
            if name not in given:
                context.report(
                    "left-out",
                    f"{name!r} has no share of the steps, so it is taken to run in all",
                    ("transformers", name),
                    key=True,
                    related=("the split", ("step_split", kind)),
                )


def _schedulers(context: Context) -> None:
    """Transformers that share steps share the scheduler that counts them."""
    split = mapping(context.data.get("step_split"))
    together = [n for n in _in_split(split) if isinstance(n, str) and n in context.named]
    common = context.data.get("scheduler") or "scheduler"
    transformers = mapping(context.data.get("transformers"))
    for name in dict.fromkeys(together):
        own = mapping(transformers.get(name)).get("scheduler")
        if own is not None and own != common:
            context.report(
                "unusable",
                f"{name!r} has a share of the steps of {common!r}, and a scheduler of its own",
                ("transformers", name, "scheduler"),
                key=True,
                related=("the split", ("step_split",)),
                hint="keep one of them",
            )


def _guidance(context: Context) -> None:
    guidance = mapping(context.data.get("guidance"))
    if "separate_when" in guidance and guidance.get("mode") in ("fused", "separate"):
        context.report(
            "unusable",
            f"'mode: {guidance['mode']}' and 'separate_when' say different things",
            ("guidance", "separate_when"),
            key=True,
            related=("the mode", ("guidance", "mode")),
            hint="keep one of them",
        )
