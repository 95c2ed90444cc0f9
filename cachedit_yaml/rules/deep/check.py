"""The checks of ``--deep``, one transformer after another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from cachedit_yaml.compiler.matching import class_matches
from cachedit_yaml.compiler.paths import condition_holds
from cachedit_yaml.errors import CompileError
from cachedit_yaml.language.patterns import fits_one, names_of
from cachedit_yaml.language.spec import AdapterSpec, BlockList, Transformer
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.rules.deep.guidance import call_sites
from cachedit_yaml.rules.deep.lists import ListChecker
from cachedit_yaml.rules.deep.models import (
    build,
    classes_named,
    components,
    find_class,
    may_be_none,
)
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest, one_of
from cachedit_yaml.yaml.document import Document

#: The config that makes a small model of the class at a path, where anybody knows one.
Config: TypeAlias = Callable[[AdapterSpec, str], Mapping[str, Any] | None]


def check_deep(spec: AdapterSpec | None, document: Document, small: Config) -> list[Diagnostic]:
    """Check an adapter against the classes that it names.

    Args:
        spec: the adapter; None where it is wrong, so that there is nothing to check.
        document: the adapter together with what it extends.
        small: for classes that cannot be made from their defaults.
    """
    if spec is None or spec.refuse is not None:
        return []
    checker = _Checker(spec, document, small)
    checker.run()
    # Several pipelines or classes may lead to the same remark in one place.
    return list(dict.fromkeys(checker.context.diagnostics))


class _Checker:
    def __init__(self, spec: AdapterSpec, document: Document, small: Config) -> None:
        self.spec = spec
        self.small = small
        self.context = Context(document.data or {}, document)
        self.lists = ListChecker(spec, self.context)
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
        said = False  # Once is enough, whichever pipeline it is.
        for where, pipeline in self.pipelines.items():
            taken = components(pipeline)
            if not taken:
                continue
            # A dotted path, or an attribute that is made later, cannot be told from here.
            if first not in taken:
                if "." not in path and not declared.optional:
                    models = [name for name, classes in taken.items() if classes]
                    self.context.report(
                        "missing-attribute", f"{pipeline.__name__} has no part {path!r}", here,
                        key=True, related=("the pipeline", where),
                        expected=one_of(models) if models else None,
                        near=nearest(path, taken),
                    )  # fmt: skip
                continue
            optional = declared.optional or "." in path or said
            if not optional and may_be_none(pipeline, path):
                said = True
                self.context.report(
                    "not-optional", f"{pipeline.__name__} may be built without {path!r}", here,
                    key=True, related=("the pipeline", where), hint="add 'optional: true'",
                )  # fmt: skip
            allowed = declared.transformer_class
            classes = taken[first] if "." not in path else ()
            if allowed and classes and not any(fits_one(allowed, names_of(cls)) for cls in classes):
                self.context.report(
                    "wrong-class", f"{pipeline.__name__} has {_some([c.__name__ for c in classes])}"
                    f" there, and the adapter is for {_some(list(allowed))}", (*here, "class"),
                    key=True, related=("the pipeline", where),
                )  # fmt: skip

    def classes(self, path: str, declared: Transformer) -> dict[type, KeyPath]:
        """The classes of a transformer: those that are declared, else those of the pipelines."""
        named = classes_named(path, declared)
        found: dict[type, KeyPath] = {}
        for name, where in named.items():
            cls = find_class(name) if "*" not in name else None
            if cls is not None:
                found[cls] = where
            elif "*" not in name:
                self.unknown.setdefault(name, where)
        if not named and "." not in path:
            for pipeline in self.pipelines.values():
                found |= dict.fromkeys(components(pipeline).get(path, ()), ("transformers", path))
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
        model, whole = build(cls), True
        if isinstance(model, str):
            # A small one has the same attributes.
            config = self.small(self.spec, path)
            model, whole = build(cls, config) if config else model, False
        if isinstance(model, str):
            self.unknown.setdefault(cls.__name__, where)
            return
        for base, blocks in _layouts(path, declared, model):
            for name in blocks:
                self.lists.check(path, name, blocks, model, (*base, name), whole)


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
            with contextlib.suppress(CompileError):  # it is told where there is a pipeline
                holds = condition_holds(variant.when, pipeline=None, transformer=model)
            if holds is None and "transformer." in variant.when:
                holds = False
        if holds is not False:
            yield (*base, "variants", index, "blocks"), variant.blocks
        if holds is True:
            return
    if declared.blocks is not None:
        yield (*base, "blocks"), declared.blocks


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
