"""Resolve an adapter against a live pipeline or transformer.

Every problem is collected and raised at once, before anything is touched.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from cachedit_yaml.compiler.checks import (
    follows_too_early,
    settings_that_do_not_fit,
    shared_blocks,
    unknown_arguments,
    wrong_ratio,
    wrong_scheduler,
)
from cachedit_yaml.compiler.groups import grouped, leaders
from cachedit_yaml.compiler.lists import find_list
from cachedit_yaml.compiler.matching import class_matches, classes_of, split_names
from cachedit_yaml.compiler.modules import find_transformer, path_for
from cachedit_yaml.compiler.paths import MISSING, condition_holds, explain_missing, follow
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.compiler.returns import contradiction
from cachedit_yaml.compiler.settings import find_profile, layers_for
from cachedit_yaml.compiler.signature import PATTERNS, bind_all
from cachedit_yaml.compiler.versions import unmet_requirements
from cachedit_yaml.compiler.wrappers import explain_wrapper, see_through, unwrap
from cachedit_yaml.errors import CompileError, RefusedError
from cachedit_yaml.language.spec import AdapterSpec, BlockList, CacheSettings, Transformer
from cachedit_yaml.yaml.diagnostics import KeyPath


def compile_adapter(
    spec: AdapterSpec,
    pipeline: Any,
    *,
    profile: str | None = None,
    cache_config: CacheSettings | None = None,
    transformer: torch.nn.Module | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Compile an adapter for a pipeline, or for one transformer of it.

    Args:
        spec: the adapter.
        pipeline: a live pipeline; None where only ``transformer`` is there.
        profile: one of the adapter's profiles.
        cache_config: settings that win over profile and adapter.
        transformer: serve this transformer alone.
        notes: remarks for people that the plan keeps.

    Raises:
        RefusedError: the adapter says that this pipeline must not be cached.
        CompileError: it does not fit; carries every reason.
        ConfigError: the profile does not exist.
    """
    target = type(pipeline if transformer is None else transformer).__name__
    if spec.refuse is not None:
        raise RefusedError(f"{target} must not be cached: {spec.refuse}")
    if profile is not None:
        find_profile(spec, profile)
    compiler = _Compiler(spec, pipeline, profile, cache_config)
    compiler.notes += notes
    try:
        plan = compiler.run(transformer)
    except CompileError as error:  # an attribute that cannot be read
        compiler.problems.append(str(error))
    if compiler.problems:
        source = f" ({spec.source})" if spec.source is not None else ""
        raise CompileError(
            f"adapter {spec.name!r}{source} does not fit {target}:", compiler.problems
        )
    return plan


class _Compiler:
    def __init__(
        self,
        spec: AdapterSpec,
        pipeline: Any,
        profile: str | None,
        cache_config: CacheSettings | None,
    ) -> None:
        self.spec = spec
        self.pipeline = pipeline
        self.profile = profile
        self.cache_config = cache_config
        self.problems: list[str] = []
        self.notes: list[str] = []

    def run(self, alone: torch.nn.Module | None) -> Plan:
        spec = self.spec
        self.problems += unmet_requirements(spec.requires or {})
        if alone is None:
            named = [spec.scheduler, *(item.scheduler for item in spec.transformers.values())]
            for path in dict.fromkeys(item for item in named if item is not None):
                self.problems += wrong_scheduler(self.pipeline, path)
        found: dict[str, TransformerPlan] = {}
        absent: list[str] = []
        modules = self._modules(alone, absent)
        for path, module in modules.items():
            found[path] = self._transformer(path, module, spec.transformers[path])
        if not found and not self.problems:
            self.problems.append(
                "none of its transformers is there: " + ", ".join(spec.transformers)
            )
        split = spec.step_split if alone is None else None
        if split is not None and any(name in absent for name in split_names(self.spec)):
            self.notes.append(f"{', '.join(absent)} is absent, so every step belongs to the others")
            split = None
        if split is not None and split.boundary is not None:
            self.problems += wrong_ratio(self.pipeline, split.boundary.ratio)
        return Plan(
            spec=spec,
            pipeline=self.pipeline,
            transformers=tuple(found.values()),
            absent=tuple(absent),
            split=split,
            separate_cfg=self._separate(found),
            flags=dict(spec.set or {}),
            profile=self.profile,
            notes=tuple(self.notes),
            alone=None if alone is None else next(iter(modules.values())),
        )

    def _modules(
        self, alone: torch.nn.Module | None, absent: list[str]
    ) -> dict[str, torch.nn.Module]:
        """The transformers by path."""
        if alone is not None:
            alone = cast(torch.nn.Module, see_through(alone))
            return {path_for(self.spec, alone): alone}
        modules: dict[str, torch.nn.Module] = {}
        for path, declared in self.spec.transformers.items():
            found = find_transformer(self.pipeline, path, declared)
            if found is None:
                absent.append(path)
            elif isinstance(found, str):
                self.problems.append(found)
            else:
                modules[path] = see_through(found)
                if modules[path] is not found:
                    self.notes.append(
                        f"pipeline.{path} is wrapped by {type(found).__name__}; what is inside "
                        "is cached"
                    )
        return modules

    def _transformer(
        self, path: str, module: torch.nn.Module, declared: Transformer
    ) -> TransformerPlan:
        where = f"pipeline.{path}"
        wrapped = explain_wrapper(module, "transformer" if self.pipeline is None else where)
        before = len(self.problems)
        classes = classes_of(declared)
        if declared.transformer_class is not None and not class_matches(module, classes):
            held = (name for name, child in module.named_modules() if class_matches(child, classes))
            inside = next((f"; it holds one: {where}.{name}" for name in held), "")
            self.problems.append(
                f"{where} is a {type(module).__name__}; the adapter is for "
                f"{', '.join(classes)}{inside}"
            )
        blocks, variant, keys = self._layout(where, module, declared)
        if wrapped is not None and (
            len(self.problems) > before
            or unwrap(module) is module
            or any(follow(module, name) is MISSING for name in blocks)
        ):
            self.problems[before:] = [wrapped]  # the reason for all of them
            return TransformerPlan(path, weakref.ref(module), (), variant, "timestep", None)
        made = [
            plan
            for list_path, block_list in blocks.items()
            if (plan := self._list(path, module, list_path, block_list, keys)) is not None
        ]
        layers = grouped(
            {item.path: item.layers for item in made},
            leaders(blocks, [item.path for item in made]),
        )
        lists = [replace(item, layers=layers[item.path]) for item in made]
        for plan in lists:
            named = blocks[plan.path].follows
            if named is not None and plan.follows is None:
                there = any(item.path == named for item in lists)
                why = "DBPrune decides for each block" if there else f"{named} is absent"
                self.notes.append(f"{plan.where} decides itself: {why}")
            self.problems += follows_too_early(module, plan)
            self.problems += settings_that_do_not_fit(plan)
        if not lists and not self.problems:
            self.problems.append(f"{where}: all of its block lists are absent")
        self.problems += shared_blocks(lists)
        self.problems += unknown_arguments(where, module, declared)
        return TransformerPlan(
            path=path,
            held=weakref.ref(module),
            lists=tuple(lists),
            variant=variant,
            timestep=declared.timestep or "timestep",
            scheduler=declared.scheduler or self.spec.scheduler or "scheduler",
            denoising=declared.denoising,
        )

    def _layout(
        self, where: str, module: torch.nn.Module, declared: Transformer
    ) -> tuple[Mapping[str, BlockList], str, KeyPath]:
        """The block lists of the variant that fits, what it is, and its keys."""
        for index, variant in enumerate(declared.variants or ()):
            classes, when = variant.transformer_class, variant.when
            if classes is not None and not class_matches(module, classes):
                continue
            if when is not None and not self._holds(when, module, f"variant {index + 1}"):
                continue
            reason = when if classes is None else f"class {type(module).__name__}"
            return variant.blocks, f"variant {index + 1} ({reason})", ("variants", index, "blocks")
        if declared.blocks is not None:
            return declared.blocks, "blocks", ("blocks",)
        classes = classes_of(declared)
        if classes and not class_matches(module, classes):
            text = f"{where} is a {type(module).__name__}; the adapter is for {', '.join(classes)}"
        else:
            text = f"{where} ({type(module).__name__}) fits none of the adapter's variants"
        if text not in self.problems:
            self.problems.append(text)
        return {}, "none", ()

    def _holds(self, condition: str, module: torch.nn.Module | None, what: str) -> bool | None:
        """Whether an attribute is true; None, and a note, where it is not there."""
        try:
            found = condition_holds(condition, pipeline=self.pipeline, transformer=module)
        except CompileError as error:
            self.problems.append(f"{what}: {error}")
            return False
        if found is None:
            root_name, _, rest = condition.removeprefix("not ").partition(".")
            root = self.pipeline if root_name == "pipeline" else module
            where = explain_missing(root, rest, root_name) if root is not None else "no pipeline"
            self.notes.append(f"{what}: {condition!r} does not count: {where}")
        return found

    def _list(
        self,
        path: str,
        module: torch.nn.Module,
        list_path: str,
        declared: BlockList,
        keys: KeyPath,
    ) -> ListPlan | None:
        where = f"pipeline.{path}.{list_path}"
        holder = find_list(module, path, list_path, declared)
        if holder is None:
            self.notes.append(f"{where} is absent")
            return None
        if isinstance(holder, str):
            self.problems.append(holder)
            return None
        blocks = tuple(holder)
        pattern = PATTERNS[declared.pattern]
        binding = bind_all(blocks, pattern, declared.roles, where)
        if isinstance(binding, str):
            self.problems.append(binding)
            return None
        if declared.returns is None:
            problem = contradiction(blocks[0], pattern, binding, f"{where}[0]")
            if problem is not None:
                self.problems.append(problem)
                return None
        layers = layers_for(
            self.spec,
            path,
            list_path,
            declared.params,
            layout=("transformers", path, *keys),
            profile=self.profile,
            cache_config=self.cache_config,
        )
        held = tuple(weakref.ref(item) for item in (*blocks, holder))
        return ListPlan(list_path, where, held, pattern, binding, layers, declared.returns)

    def _separate(self, found: Mapping[str, TransformerPlan]) -> bool | None:
        guidance = self.spec.guidance
        if guidance.separate_when is not None:
            first = next(iter(found.values())).module if found else None
            return self._holds(guidance.separate_when, first, "guidance")
        return {"observed": None, "fused": False, "separate": True}[guidance.mode]
