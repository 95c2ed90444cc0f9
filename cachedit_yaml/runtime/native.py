"""Native execution: the compiled BlockAdapters, installed through cache-dit itself.

cache-dit then runs each block list as one big block. Where that differs from what the
transformer's loop does, or from what a run turns out to be, this refuses instead of going on: work
in the loop's body, a third guidance branch, guidance that starts or stops within a generation.
"""

from __future__ import annotations

from cachedit_yaml.compiler.chains import chains, why_apart
from cachedit_yaml.compiler.loops import LoopReport, inspect_loop
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.compiler.settings import LIMITS
from cachedit_yaml.errors import CompileError
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.native_state import NativeState
from cachedit_yaml.runtime.native_transformer import NativeTransformer
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.stats import BranchStats


class NativeExecution:
    """Runs a plan through cache-dit.

    Raises:
        CompileError: cache-dit would get it wrong; carries every reason.
    """

    name = "native"

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan = plan
        self.clock = clock
        problems: list[str] = []
        self.transformers: list[NativeTransformer] = []
        for item in plan.transformers:
            loops = {blocks.path: inspect_loop(item.module, blocks.path) for blocks in item.lists}
            problems += _problems(item, loops, plan.separate_cfg is True)
            self.transformers.append(NativeTransformer(item, plan, clock, loops))
        if problems:
            raise CompileError("native execution would get this wrong; use 'loop':", problems)

    @property
    def patches(self) -> list[Patch]:
        """The hooks that drive cache-dit's contexts, on top of what it installed."""
        return [patch for item in self.transformers for patch in item.patches]

    def install(self) -> None:
        """Enable cache-dit on every transformer."""
        for item in self.transformers:
            item.install()

    def remove(self) -> None:
        """Undo what cache-dit did."""
        for item in reversed(self.transformers):
            item.remove()

    def branch_stats(self, generation: Generation) -> tuple[BranchStats, ...]:
        """What a generation did, from cache-dit's contexts."""
        rows = []
        for item in self.transformers:
            state = generation.transformers.get(item.plan.path)
            if isinstance(state, NativeState):
                for plan in item.plan.lists:
                    rows += state.rows(item.plan.path, plan)
        return tuple(rows)

    def remarks(self, generation: Generation) -> list[str]:
        """What went otherwise than one would want."""
        return [
            f"{item.plan.path}: {count} forwards ran uncached: {reason}"
            for item in self.transformers
            if isinstance(state := generation.transformers.get(item.plan.path), NativeState)
            for reason, count in state.uncached.items()
        ]


def _problems(plan: TransformerPlan, loops: dict[str, LoopReport], separate: bool) -> list[str]:
    """Why cache-dit would get this transformer wrong, one sentence each."""
    kinds = {item.layers.resolve(None).prune for item in plan.lists}
    mixed = [f"pipeline.{plan.path}: its lists mix DBCache and DBPrune"] if len(kinds) > 1 else []
    apart = [why for chain in chains(plan) if (why := why_apart(plan.module, chain)) is not None]
    return [*mixed, *apart] + [
        text for item in plan.lists for text in _list_problems(item, loops[item.path], separate)
    ]


def _list_problems(item: ListPlan, report: LoopReport, separate: bool) -> list[str]:
    if "." in item.path:
        return [f"{item.where}: cache-dit takes lists that are direct attributes only"]
    if item.returns is not None:
        return [f"{item.where}: cache-dit takes tensors and pairs, and `returns` is given"]
    if not report.found:
        return [f"{item.where}: the loop over it cannot be read from the transformer's source"]
    if report.always:
        return [f"{item.where}: forward also does `{report.always[0]}`, which goes wrong natively"]
    usual = {"hidden_states", "encoder_hidden_states"}
    renamed = {
        argument.name
        for argument in (item.binding.hidden, item.binding.encoder)
        if argument is not None
    } & report.keywords - usual
    if renamed:
        return [f"{item.where}: cache-dit does not know the keyword {sorted(renamed)[0]!r}"]
    for place, argument in enumerate((item.binding.hidden, item.binding.encoder)):
        if argument is None or argument.name in report.keywords or argument.place == place:
            continue
        return [
            f"{item.where}: the loop hands {argument.name!r} over in another place than cache-dit "
            "takes it from"
        ]
    for resolved in item.layers.cases():
        if resolved.values["batch"] not in (None, "mean"):
            return [
                f"{item.where}: cache-dit decides by the mean of a batch, and batch is "
                f"{resolved.values['batch']!r}; set it to 'mean'"
            ]
        if resolved.fn == 0 and item.follows is None:
            return [f"{item.where}: cache-dit always runs a first block; Fn_compute_blocks is 0"]
        if resolved.values["cfg_compute_first"] and (
            not separate or resolved.values["cfg_diff_compute_separate"]
        ):
            return [
                f"{item.where}: cfg_compute_first needs guidance: separate in the adapter, and "
                "cfg_diff_compute_separate: false"
            ]
        limits = [name for name in LIMITS if resolved.values[name] >= 0]
        if resolved.static and limits:
            return [
                f"{item.where}: cache-dit ignores {limits[0]} under a static mask; set it to -1"
            ]
    return []
