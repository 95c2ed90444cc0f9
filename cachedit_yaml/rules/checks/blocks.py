"""What a block list's pattern allows: pruning, roles, first and last blocks."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.rules.checks.context import (
    BlockListAt,
    Context,
    is_count,
    mapping,
    pattern_of,
)
from cachedit_yaml.yaml.diagnostics import KeyPath

#: Patterns whose blocks do not take and return what DBPrune needs.
_NOT_PRUNABLE: Final = frozenset({"Pattern_3", "Pattern_4", "Pattern_5"})
#: No diffusion transformer comes near this many blocks in one list (the largest have about 60).
_MOST_BLOCKS: Final = 512
_PRUNE_ONLY: Final = (
    "enable_dynamic_prune_threshold",
    "max_dynamic_prune_threshold",
    "dynamic_prune_threshold_relax_ratio",
    "non_prune_block_ids",
    "force_reduce_calibrator_vram",
)


#: Patterns whose blocks return encoder hidden states.
_GIVE_ENCODER: Final = ("Pattern_0", "Pattern_1", "Pattern_4", "Pattern_5")


def check(context: Context) -> None:
    """DBPrune, roles, and F + B of each list."""
    _pruning(context)
    _prune_only(context)
    for block in context.lists():
        _roles(context, block)
        _returns(context, block)
    _first_and_last(context)


def _pruning(context: Context) -> None:
    wrong: dict[KeyPath, tuple[str, KeyPath]] = {}
    shared = [(path, settings) for path, settings in context.layers() if path[0] != "transformers"]
    for block in context.lists():
        pattern = pattern_of(block.content)
        if pattern is None or pattern not in _NOT_PRUNABLE:
            continue
        own = mapping(mapping(block.content).get("params"))
        outer = mapping(context.named[block.transformer].get("params"))
        # The innermost layer that names a type decides.
        if "cache_type" in own:
            layers = [((*block.path, "params"), own)]
        elif "cache_type" in outer:
            layers = [(("transformers", block.transformer, "params"), outer)]
        else:
            layers, shared = shared, []  # once for all lists that leave it to them
        for path, settings in layers:
            if settings.get("cache_type") == "DBPrune":
                wrong.setdefault(path, (pattern, block.path))
    for path, (pattern, where) in wrong.items():
        context.report(
            "unusable",
            f"DBPrune cannot prune blocks of {pattern}",
            (*path, "cache_type"),
            expected="Pattern_0, Pattern_1 or Pattern_2",
            hint="use DBCache",
            related=("the block list", where),
        )


def _prune_only(context: Context) -> None:
    layers = list(context.layers())
    if any(settings.get("cache_type") == "DBPrune" for _, settings in layers):
        return
    for path, settings in layers:
        for name in _PRUNE_ONLY:
            if name in settings:
                context.report(
                    "ignored",
                    f"{name!r} has no effect without DBPrune",
                    (*path, name),
                    key=True,
                    hint="add 'cache_type: DBPrune', or remove it",
                )


def _roles(context: Context, block: BlockListAt) -> None:
    roles = mapping(mapping(block.content).get("roles"))
    path: KeyPath = (*block.path, "roles")
    pattern = pattern_of(block.content)
    if pattern in _NOT_PRUNABLE:
        for name in ("encoder_hidden_states", "state"):
            if name in roles:
                context.report(
                    "idle-role",
                    f"a block of {pattern} takes only the hidden states",
                    (*path, name),
                    key=True,
                    related=("the pattern", (*block.path, "pattern")),
                )
    elif "state" in roles and "encoder_hidden_states" in roles:
        context.report(
            "ignored",
            "a state stands in place of encoder_hidden_states, so this name has no effect",
            (*path, "encoder_hidden_states"),
            key=True,
            related=("the state", (*path, "state")),
            hint="keep one of them",
        )
    hidden = roles.get("hidden_states", "hidden_states")
    for name in ("encoder_hidden_states", "state"):
        if isinstance(hidden, str) and roles.get(name) == hidden:
            context.report(
                "unusable", f"one argument cannot be both hidden_states and {name}", (*path, name)
            )


def _returns(context: Context, block: BlockListAt) -> None:
    returns, pattern = mapping(mapping(block.content).get("returns")), pattern_of(block.content)
    if not returns or pattern is None:
        return
    path: KeyPath = (*block.path, "returns")
    hidden, encoder = returns.get("hidden_states"), returns.get("encoder_hidden_states")
    gives = pattern in _GIVE_ENCODER
    if encoder is not None and not gives:
        context.report(
            "unusable",
            f"a block of {pattern} returns only the hidden states",
            (*path, "encoder_hidden_states"),
            key=True,
            related=("the pattern", (*block.path, "pattern")),
        )
    if encoder is None and gives:
        context.report(
            "unusable",
            f"a block of {pattern} returns encoder_hidden_states too, and this does not say where",
            path,
            key=True,
            related=("the pattern", (*block.path, "pattern")),
            hint="add 'encoder_hidden_states: NAME'",
        )
    if encoder is not None and encoder == hidden:
        context.report(
            "unusable",
            "one entry cannot be both hidden_states and encoder_hidden_states",
            (*path, "encoder_hidden_states"),
        )


def _first_and_last(context: Context) -> None:
    """F and B as they come together in one list, before steps and profiles."""
    reported: set[KeyPath] = set()
    for block in context.lists():
        found = [context.standing(block, n) for n in ("Fn_compute_blocks", "Bn_compute_blocks")]
        given = [item for item in found if item is not None and is_count(item[0])]
        total = sum(value for value, _ in given)
        if total >= _MOST_BLOCKS and given[0][1] not in reported:
            reported.add(given[0][1])
            context.report(
                "blocks-never-fit",
                f"{' + '.join(str(value) for value, _ in given)} blocks "
                "that always run are more than any model has",
                given[0][1],
                related=("the list", block.path),
                hint="usual are 1 to 8 first blocks and 0 to 8 last blocks",
            )
