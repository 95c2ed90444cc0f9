"""The checks of ``--deep``, one transformer after another."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from cachedit_yaml.compiler.loops import inspect_loop
from cachedit_yaml.compiler.matching import class_matches
from cachedit_yaml.compiler.paths import MISSING, condition_holds, explain_missing, follow
from cachedit_yaml.compiler.returns import contradiction as contradicts_block
from cachedit_yaml.compiler.settings import Resolved, layers_for
from cachedit_yaml.compiler.signature import PATTERNS, Binding, Pattern, bind_all
from cachedit_yaml.language.diagnostics import Diagnostic, KeyPath, nearest, one_of
from cachedit_yaml.language.document import Document
from cachedit_yaml.language.rules.context import Context
from cachedit_yaml.language.spec import AdapterSpec, BlockList, Transformer
from cachedit_yaml.validation.deep.guidance import call_sites
from cachedit_yaml.validation.deep.models import build, components, find_class, may_be_none
from cachedit_yaml.validation.deep.unpacking import contradiction as contradicts_loop


def check_deep(
    spec: AdapterSpec | None, document: Document, engine: str | None
) -> list[Diagnostic]:
    """Check an adapter against the classes that it names.

    Args:
        spec: the adapter; None where it is wrong, so that there is nothing to check.
        document: the adapter together with what it extends.
        engine: the engine whose folder it lies in; only the classes of diffusers are looked at.
    """
    if spec is None or spec.refuse is not None:
        return []
    checker = _Checker(spec, document)
    checker.run()
    # Several pipelines or classes may lead to the same remark in one place.
    return list(dict.fromkeys(checker.context.diagnostics))


class _Checker:
    def __init__(self, spec: AdapterSpec, document: Document) -> None:
        self.spec = spec
        self.context = Context(document.data or {}, document)
        self.unknown: dict[str, KeyPath] = {}
        self.pipelines: dict[KeyPath, type] = {}

    def run(self) -> None:
        for index, name in enumerate(self.spec.pipelines):
            found = find_class(name) if "*" not in name else None
            if found is not None:
                self.pipelines[("pipelines", index)] = found
            elif "*" not in name:
                self.unknown[name] = ("pipelines", index)
        for path, declared in self.spec.transformers.items():
            self.parts(path, declared)
            for cls, where in self.classes(path, declared).items():
                self.transformer(path, declared, cls, where)
        self.guidance()
        if self.unknown:
            names = list(self.unknown)
            self.context.report(
                "not-checked", f"not looked at: {_some(names)}", self.unknown[names[0]],
                hint="no class of the installed diffusers, or one that cannot be made from its "
                "defaults",
            )  # fmt: skip

    # --- pipelines ---

    def parts(self, path: str, declared: Transformer) -> None:
        """Whether the pipelines have such a transformer, of such a class, and always."""
        first, here = path.split(".")[0], ("transformers", path)
        for where, pipeline in self.pipelines.items():
            taken = components(pipeline)
            # A dotted path, or an attribute that is made later, cannot be told from here.
            if first not in taken:
                if "." not in path and not declared.optional:
                    models = [name for name, classes in taken.items() if classes]
                    near = nearest(path, taken)
                    self.context.report(
                        "missing-attribute", f"{pipeline.__name__} has no part {path!r}", here,
                        key=True, related=("the pipeline", where),
                        expected=one_of(models) if models else None,
                        hint=f"did you mean {near[0]!r}?" if near else None,
                        replace=near[0] if near else None,
                    )  # fmt: skip
                continue
            if "." not in path and not declared.optional and may_be_none(pipeline, path):
                self.context.report(
                    "not-optional", f"{pipeline.__name__} may be built without {path!r}", here,
                    key=True, related=("the pipeline", where), hint="add 'optional: true'",
                )  # fmt: skip
            allowed = declared.transformer_class
            classes = taken[first] if "." not in path else ()
            if allowed and classes and not any(_named(cls, allowed) for cls in classes):
                self.context.report(
                    "wrong-class", f"{pipeline.__name__} has {_some([c.__name__ for c in classes])}"
                    f" there, and the adapter is for {_some(list(allowed))}", (*here, "class"),
                    key=True, related=("the pipeline", where),
                )  # fmt: skip

    def classes(self, path: str, declared: Transformer) -> dict[type, KeyPath]:
        """The classes of a transformer: those that are declared, else those of the pipelines."""
        named: dict[str, KeyPath] = {}
        here: KeyPath = ("transformers", path)
        for index, name in enumerate(declared.transformer_class or ()):
            named.setdefault(name, (*here, "class", index))
        for number, variant in enumerate(declared.variants or ()):
            for index, name in enumerate(variant.transformer_class or ()):
                named.setdefault(name, (*here, "variants", number, "class", index))
        found: dict[type, KeyPath] = {}
        for name, where in named.items():
            cls = find_class(name) if "*" not in name else None
            if cls is not None:
                found[cls] = where
            elif "*" not in name:
                self.unknown.setdefault(name, where)
        if not named and "." not in path:
            for pipeline in self.pipelines.values():
                found |= dict.fromkeys(components(pipeline).get(path, ()), here)
        return found

    def guidance(self) -> None:
        """The declared mode against the calls in the pipelines' source."""
        mode = self.spec.guidance.mode
        if mode == "observed" or self.spec.guidance.separate_when is not None:
            return
        for where, pipeline in self.pipelines.items():
            for path in self.spec.transformers:
                sites = call_sites(pipeline, path)
                if (mode == "fused" and sites is not None and sites > 1) or (
                    mode == "separate" and sites == 1
                ):
                    times = "once in" if sites == 1 else f"in {sites} places of"
                    self.context.report(
                        "guidance-mismatch", f"{pipeline.__name__} calls {path!r} {times} its "
                        f"loop, and guidance is {mode!r}", ("guidance",), key=True,
                        related=("the pipeline", where), hint="leave it out: the run shows it",
                    )  # fmt: skip

    # --- transformers ---

    def transformer(self, path: str, declared: Transformer, cls: type, where: KeyPath) -> None:
        model = build(cls)
        if isinstance(model, str):
            self.unknown.setdefault(cls.__name__, where)
            return
        for base, blocks in _layouts(path, declared, model):
            for name, block_list in blocks.items():
                self.block_list(path, name, block_list, model, (*base, name))

    def block_list(
        self, path: str, name: str, declared: BlockList, model: torch.nn.Module, here: KeyPath
    ) -> None:
        cls = type(model).__name__
        holder = follow(model, name)
        if holder is MISSING or holder is None:
            if not declared.optional:
                self.context.report("missing-attribute", explain_missing(model, name, f"pipeline.{path}"), here,
                                    key=True)  # fmt: skip
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
        if self.order(name, model, blocks[0], pattern, binding, here):
            return
        self.settings(path, name, declared, len(blocks), f"{cls}.{name}", here)
        self.native(name, model, binding, here)

    def order(
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

    def settings(
        self, path: str, name: str, declared: BlockList, count: int, where: str, here: KeyPath
    ) -> None:
        """F and B of every profile and number of steps against the number of blocks."""
        for profile in (None, *self.spec.profiles):
            layers = layers_for(self.spec, path, name, declared.params, profile=profile,
                                cache_config=None)  # fmt: skip
            for resolved in layers.cases():
                if resolved.fn + resolved.bn > count:
                    self.context.report(
                        "too-few-blocks", f"{where} has {count} blocks, and F + B is "
                        f"{resolved.fn} + {resolved.bn}", here, key=True,
                        hint=f"F comes from {_origin(resolved, 'Fn_compute_blocks')}, B from "
                        f"{_origin(resolved, 'Bn_compute_blocks')}",
                    )  # fmt: skip
                    return

    def native(self, name: str, model: torch.nn.Module, binding: Binding, here: KeyPath) -> None:
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


def _layouts(
    path: str, declared: Transformer, model: torch.nn.Module
) -> Iterator[tuple[KeyPath, Mapping[str, BlockList]]]:
    """The layouts that a model may take, with their paths of keys.

    A condition on the pipeline cannot be told, so its layout and those behind it are looked at.
    """
    base: KeyPath = ("transformers", path)
    for index, variant in enumerate(declared.variants or ()):
        if variant.transformer_class and not class_matches(model, variant.transformer_class):
            continue
        holds: Any = True
        if variant.when is not None:
            holds = condition_holds(variant.when, pipeline=None, transformer=model)
            if holds is None and "transformer." in variant.when:
                holds = False
        if holds is not False:
            yield (*base, "variants", index, "blocks"), variant.blocks
        if holds is True:
            return
    if declared.blocks is not None:
        yield (*base, "blocks"), declared.blocks


def _named(cls: type, names: tuple[str, ...]) -> bool:
    bases = [base.__name__ for base in cls.__mro__]
    return any(fnmatch.fnmatchcase(base, name) for base in bases for name in names)


def _origin(resolved: Resolved, name: str) -> str:
    origin = resolved.origins[name]
    return "cache-dit's default" if origin.startswith("cache-dit ") else origin


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
