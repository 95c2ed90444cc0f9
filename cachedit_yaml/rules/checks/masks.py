"""Step computation masks and warm-ups against the number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachedit_yaml.rules.checks.context import Context, is_count, items, mapping
from cachedit_yaml.yaml.diagnostics import KeyPath


def check(context: Context) -> None:
    """What `steps` entries make of the warm-up that they inherit."""
    _nothing_decides(context)
    for index, step in enumerate(items(context.data.get("steps"))):
        bound = mapping(step).get("max_steps")
        if is_count(bound) and bound > 1 and "max_warmup_steps" not in mapping(step):
            _inherited_warmup(context, ("steps", index), bound)


def _nothing_decides(context: Context) -> None:
    """F = 0 without a static mask, as far as one file tells."""
    common = mapping(context.data.get("cache"))
    following = [block for block in context.lists() if "follows" in mapping(block.content)]
    elsewhere: set[KeyPath] = {(*block.path, "params") for block in following}
    named = {name for block in following for name in block.names}
    for path, settings in context.layers():
        if path in elsewhere or (path[-2:-1] == ("lists",) and path[-1] in named):
            continue  # another list decides
        outer = common
        if path[0] == "transformers" and path[2:] != ("params",):
            own = mapping(context.named[str(path[1])].get("params"))
            outer = {**common, **own}
        elif path[-2:-1] == ("lists",):
            outer = {**common, **mapping(mapping(context.data["profiles"]).get(str(path[1])))}
        both = {**outer, **settings}
        mask = both.get("scm")
        static = isinstance(mask, Mapping) and mask.get("policy") == "static"
        name = next((n for n in ("Fn_compute_blocks", "scm") if n in settings), None)
        if name is None or both.get("Fn_compute_blocks") != 0 or static:
            continue
        context.report(
            "decided-by-nothing",
            "with F = 0 no block has run whose residual could decide, and there is no static mask",
            (*path, name),
            hint="write 'scm: {preset: medium, policy: static}', or 'Fn_compute_blocks: 1'",
        )


def _inherited_warmup(context: Context, path: KeyPath, bound: int) -> None:
    found = [context.standing(block, "max_warmup_steps") for block in context.lists()]
    given = [item for item in found if item is not None and is_count(item[0])]
    long = [item for item in given if item[0] >= bound]
    # Only where no list has anything left to cache is it a mistake for sure.
    if long and len(long) == len(found):
        warmup, where = long[0]
        context.report(
            "warmup-too-long",
            f"runs of at most {bound} steps are all warm-up, which takes {warmup}",
            (*path, "max_steps"),
            related=("the warm-up", where),
            hint="add a shorter 'max_warmup_steps' to this entry",
        )


def check_one(context: Context, data: Mapping[str, Any], path: KeyPath) -> None:
    """The mask, the warm-up and the limits of one mapping of settings."""
    scm = mapping(data.get("scm"))
    here: KeyPath = (*path, "scm")
    if scm.get("policy") == "static":
        name = "max_accumulated_residual_diff_threshold"
        if data.get(name) is not None:
            context.report(
                "ignored",
                f"{name!r} has no effect beside a static mask",
                (*path, name),
                key=True,
                related=("the mask", (*here, "policy")),
            )
    bound = data.get("max_steps") if is_count(data.get("max_steps")) else None
    mask = items(scm.get("mask"))
    if mask:
        _mask(context, mask, bound, here)
    if "compute_bins" in scm and "cache_bins" in scm:
        _bins(context, scm, bound, here)
    warmup = data.get("max_warmup_steps")
    steps, what, where = bound, "runs of at most {} steps are", (*path, "max_steps")
    if steps is None and mask:
        steps, what, where = len(mask), "the {} steps of the mask are", (*here, "mask")
    if steps is not None and steps > 1 and is_count(warmup) and warmup >= steps:
        context.report(
            "warmup-too-long",
            f"{what.format(steps)} all warm-up, which takes {warmup}",
            (*path, "max_warmup_steps"),
            related=("the steps", where),
            expected=f"less than {steps}",
        )


def _mask(context: Context, mask: Any, bound: int | None, here: KeyPath) -> None:
    if mask[0] == 0 and mask[0] is not False:
        context.report(
            "ignored",
            "the first step has nothing to be served from, so it is computed",
            (*here, "mask", 0),
            hint="begin the mask with 1",
        )
    if bound is not None and len(mask) > bound:
        context.report(
            "mask-length",
            f"the mask has {len(mask)} entries, and these settings are for at most {bound} steps",
            (*here, "mask"),
            related=("the steps", (*here[:-1], "max_steps")),
            expected=f"at most {bound} entries, one for each step of the run",
        )
    if len(mask) > 1 and all(item == 1 and item is not True for item in mask):
        context.report(
            "never-hits",
            "the mask computes every step",
            (*here, "mask"),
            hint="write 0 for the steps that may be served from the cache",
        )


def _bins(context: Context, scm: Mapping[str, Any], bound: int | None, here: KeyPath) -> None:
    computed, cached = items(scm["compute_bins"]), items(scm["cache_bins"])
    if not computed or not cached or not all(is_count(n) and n > 0 for n in (*computed, *cached)):
        return
    total = sum(computed) + sum(cached)
    surplus = len(cached) - len(computed)
    if surplus > 0:
        context.report(
            "bins-mismatch",
            f"{len(cached)} cache bins and {len(computed)} compute bins: the "
            f"last {surplus + 1} cache bins join into a run of {sum(cached[-surplus - 1 :])} "
            "cached steps",
            (*here, "cache_bins"),
            related=("compute bins", (*here, "compute_bins")),
            expected=f"at most {len(computed)} cache bins",
        )
    elif surplus < -1:
        context.report(
            "bins-mismatch",
            f"{len(computed)} compute bins and {len(cached)} cache bins: the "
            f"last {-surplus} compute bins join into a run of {sum(computed[surplus:])} computed "
            "steps",
            (*here, "compute_bins"),
            related=("cache bins", (*here, "cache_bins")),
            expected=f"at most {len(cached) + 1} compute bins",
        )
    elif bound is not None and total < bound:
        context.report(
            "bins-mismatch",
            f"the bins cover {total} steps, and a run of {bound} is refused",
            (*here, "compute_bins"),
            related=("the steps", (*here[:-1], "max_steps")),
            expected=f"bins of {bound} steps together",
        )
