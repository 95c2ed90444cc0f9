"""One block list of a transformer that was made: is it there, and does it fit?"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cachedit_yaml.compiler.groups import grouped, leaders
from cachedit_yaml.compiler.loops import inspect_loop, runs_after
from cachedit_yaml.compiler.matching import class_matches
from cachedit_yaml.compiler.paths import MISSING, explain_missing, follow
from cachedit_yaml.compiler.returns import contradiction as contradicts_block
from cachedit_yaml.compiler.settings import Resolved, layers_for
from cachedit_yaml.compiler.signature import PATTERNS, Binding, Pattern, bind_all
from cachedit_yaml.errors import CompileError
from cachedit_yaml.language.spec import AdapterSpec, BlockList
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.rules.deep.unpacking import contradiction as contradicts_loop
from cachedit_yaml.yaml.diagnostics import KeyPath


class ListChecker:
    """Checks block lists and reports into a context."""

    def __init__(self, spec: AdapterSpec, context: Context) -> None:
        self.spec = spec
        self.context = context

    def check(
        self, path: str, name: str, layout: Mapping[str, BlockList], model: torch.nn.Module,
        here: KeyPath, whole: bool,
    ) -> None:  # fmt: skip
        """One block list.

        Args:
            path: the transformer.
            name: the list, from the transformer.
            layout: what the adapter says about it and those beside it.
            model: the transformer, made.
            here: the keys that lead to it.
            whole: whether it has as many blocks as the class makes by default.
        """
        cls, declared = type(model).__name__, layout[name]
        try:
            holder = follow(model, name)
        except CompileError as error:
            self.context.report("missing-attribute", f"{cls}: {error}", here, key=True)
            return
        if holder is MISSING or holder is None:
            if not declared.optional:
                where = explain_missing(model, name, f"pipeline.{path}")
                self.context.report("missing-attribute", where, here, key=True)
            return
        if not isinstance(holder, torch.nn.ModuleList):
            self.context.report(
                "not-a-block-list", f"{cls}.{name} is a {type(holder).__name__}", here, key=True,
                expected="a torch.nn.ModuleList",
            )  # fmt: skip
            return
        blocks = list(holder)
        if not blocks:
            return  # Of another size in the defaults than in any checkpoint.
        if declared.block_class is not None:
            other = next((b for b in blocks if not class_matches(b, declared.block_class)), None)
            if other is not None:
                self.context.report(
                    "wrong-class", f"{cls}.{name} has blocks of {type(other).__name__}",
                    (*here, "class"), key=True,
                )  # fmt: skip
                return
        pattern = PATTERNS[declared.pattern]
        binding = bind_all(blocks, pattern, declared.roles, f"{cls}.{name}")
        if isinstance(binding, str):
            self.context.report("wrong-pattern", binding, here, key=True)
            return
        if self._order(name, model, blocks[0], pattern, binding, here):
            return
        leader = leaders(layout, layout)[name]
        if leader is not None and runs_after(model, leader, name):
            self.context.report(
                "follows-nothing", f"{cls} runs {leader!r} after {name!r}, which follows it",
                (*here, "follows"), hint=f"let {leader!r} follow {name!r} instead",
            )  # fmt: skip
        if whole:
            self._settings(path, name, layout, len(blocks), f"{cls}.{name}", here)
        self._native(name, model, binding, here)

    def _order(
        self, name: str, model: torch.nn.Module, block: torch.nn.Module, pattern: Pattern,
        binding: Binding, here: KeyPath,
    ) -> bool:  # fmt: skip
        """Whether what the block returns contradicts the pattern, by the loop or by the block."""
        where = f"{type(model).__name__}.{name}"
        problem = contradicts_loop(model, name, pattern, binding)
        if problem is not None:
            self.context.report("return-order", f"{where}: {problem}", here, key=True)
            return True
        problem = contradicts_block(block, pattern, binding, where)
        if problem is not None:
            self.context.report("wrong-pattern", problem, here, key=True)
            return True
        return False

    def _settings(
        self, path: str, name: str, layout: Mapping[str, BlockList], count: int, where: str,
        here: KeyPath,
    ) -> None:  # fmt: skip
        """F and B of every profile and number of steps against the number of blocks."""
        for profile in (None, *self.spec.profiles):
            own = {
                each: layers_for(self.spec, path, each, declared.params, profile=profile,
                                 cache_config=None)
                for each, declared in layout.items()
            }  # fmt: skip
            for resolved in grouped(own, leaders(layout, layout))[name].cases():
                if resolved.fn + resolved.bn > count:
                    self.context.report(
                        "too-few-blocks", f"{where} has {count} blocks, and F + B is "
                        f"{resolved.fn} + {resolved.bn}", here, key=True,
                        hint=f"F: {_origin(resolved, 'Fn_compute_blocks')}; B: "
                        f"{_origin(resolved, 'Bn_compute_blocks')}",
                    )  # fmt: skip
                    return

    def _native(self, name: str, model: torch.nn.Module, binding: Binding, here: KeyPath) -> None:
        """What cache-dit's own execution would lose or call wrongly."""
        report = inspect_loop(model, name)
        where = f"{type(model).__name__}.{name}"
        if report.always:
            self.context.report(
                "native-drops-work", f"{where}: forward also does `{report.always[0]}`", here,
                key=True, hint="native execution refuses this list",
            )  # fmt: skip
        names = {binding.hidden.name} | ({binding.encoder.name} if binding.encoder else set())
        renamed = sorted((names & report.keywords) - {"hidden_states", "encoder_hidden_states"})
        if renamed:
            self.context.report(
                "renamed-keyword", f"{where}: the loop passes {renamed[0]!r} by keyword", here,
                key=True, hint="native execution refuses this list",
            )  # fmt: skip


def _origin(resolved: Resolved, name: str) -> str:
    origin = resolved.origins[name]
    return "cache-dit's default" if origin.startswith("cache-dit ") else origin
