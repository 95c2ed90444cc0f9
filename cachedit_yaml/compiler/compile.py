"""Resolve an adapter against a live pipeline or transformer.

Every problem is collected and raised at once, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cachedit_yaml.compiler.matching import class_matches, classes_of, split_names
from cachedit_yaml.compiler.paths import MISSING, condition_holds, explain_missing, follow
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.compiler.returns import contradiction
from cachedit_yaml.compiler.settings import Layer, Layers, find_profile, layers_for
from cachedit_yaml.compiler.signature import PATTERNS, bind_all
from cachedit_yaml.compiler.versions import unmet_requirements
from cachedit_yaml.errors import CompileError, RefusedError
from cachedit_yaml.language.spec import (
    AdapterSpec,
    BlockList,
    CacheSettings,
    Transformer,
)


def compile_adapter(
    spec: AdapterSpec,
    pipeline: Any,
    *,
    profile: str | None = None,
    cache_config: CacheSettings | None = None,
    transformer: torch.nn.Module | None = None,
    defaults: Layer | None = None,
) -> Plan:
    """Compile an adapter for a pipeline, or for one transformer of it.

    Args:
        spec: the adapter.
        pipeline: a live pipeline; None where only ``transformer`` is there.
        profile: one of the adapter's profiles.
        cache_config: settings that win over profile and adapter.
        transformer: serve this transformer alone.
        defaults: an engine's own defaults, which come before cache-dit's.

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
    compiler = _Compiler(spec, pipeline, profile, cache_config, defaults)
    plan = compiler.run(transformer)
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
        defaults: Layer | None,
    ) -> None:
        self.spec = spec
        self.pipeline = pipeline
        self.profile = profile
        self.cache_config = cache_config
        self.defaults = defaults
        self.problems: list[str] = []
        self.notes: list[str] = []

    def run(self, alone: torch.nn.Module | None) -> Plan:
        spec = self.spec
        self.problems += unmet_requirements(spec.requires or {})
        found: dict[str, TransformerPlan] = {}
        absent: list[str] = []
        modules = self._modules(alone, absent)
        for path, module in modules.items():
            found[path] = self._transformer(path, module, spec.transformers[path])
        if not found and not self.problems:
            self.problems.append(
                "none of its transformers is there: " + ", ".join(spec.transformers)
            )
        ratio = None
        split = spec.step_split if alone is None else None
        if split is not None and any(name in absent for name in split_names(self.spec)):
            self.notes.append(f"{', '.join(absent)} is absent, so every step belongs to the others")
            split = None
        if split is not None and split.boundary is not None:
            ratio = self._ratio(split.boundary.ratio)
            ratio = split.boundary.default if ratio is None else ratio
        return Plan(
            spec=spec,
            pipeline=self.pipeline,
            transformers=tuple(found.values()),
            absent=tuple(absent),
            split=split,
            ratio=ratio,
            separate_cfg=self._separate(found),
            flags=dict(spec.set or {}),
            profile=self.profile,
            notes=tuple(self.notes),
        )

    def _modules(
        self, alone: torch.nn.Module | None, absent: list[str]
    ) -> dict[str, torch.nn.Module]:
        """The transformers by path."""
        if alone is not None:
            return {self._path_for(alone): alone}
        modules: dict[str, torch.nn.Module] = {}
        for path, declared in self.spec.transformers.items():
            module = follow(self.pipeline, path)
            if module is None or module is MISSING:
                if declared.optional:
                    absent.append(path)
                elif module is None:
                    self.problems.append(
                        f"pipeline.{path} is None; if the pipeline may have none, write "
                        "optional: true"
                    )
                else:
                    self.problems.append(explain_missing(self.pipeline, path, "pipeline"))
            elif not isinstance(module, torch.nn.Module):
                self.problems.append(
                    f"pipeline.{path} is a {type(module).__name__}, not a torch.nn.Module"
                )
            else:
                modules[path] = module
        return modules

    def _path_for(self, module: torch.nn.Module) -> str:
        """Which of the adapter's transformers a transformer without a pipeline is."""
        for path, declared in self.spec.transformers.items():
            if class_matches(module, classes_of(declared)):
                return path
        return next(iter(self.spec.transformers))

    def _transformer(
        self, path: str, module: torch.nn.Module, declared: Transformer
    ) -> TransformerPlan:
        where = f"pipeline.{path}"
        classes = classes_of(declared)
        if declared.transformer_class is not None and not class_matches(module, classes):
            self.problems.append(
                f"{where} is a {type(module).__name__}; the adapter is for {', '.join(classes)}"
            )
        blocks, variant = self._layout(where, module, declared)
        lists = [
            plan
            for list_path, block_list in blocks.items()
            if (plan := self._list(path, module, list_path, block_list)) is not None
        ]
        if not lists and not self.problems:
            self.problems.append(f"{where}: all of its block lists are absent")
        seen: dict[int, str] = {}
        for plan in lists:
            for block in plan.blocks:
                if seen.setdefault(id(block), plan.path) != plan.path:
                    self.problems.append(
                        f"{plan.where} and {seen[id(block)]} share a block; declare it once"
                    )
                    break
        return TransformerPlan(
            path=path,
            module=module,
            lists=tuple(lists),
            variant=variant,
            timestep=declared.timestep or "timestep",
            denoising=declared.denoising,
        )

    def _layout(
        self, where: str, module: torch.nn.Module, declared: Transformer
    ) -> tuple[Mapping[str, BlockList], str]:
        """The block lists of the variant that fits."""
        for index, variant in enumerate(declared.variants or ()):
            if variant.transformer_class is not None:
                if class_matches(module, variant.transformer_class):
                    return variant.blocks, f"variant {index + 1} (class {type(module).__name__})"
            elif variant.when is not None and condition_holds(
                variant.when, pipeline=self.pipeline, transformer=module
            ):
                return variant.blocks, f"variant {index + 1} ({variant.when})"
        if declared.blocks is None:
            self.problems.append(
                f"{where} ({type(module).__name__}) fits none of the adapter's variants"
            )
            return {}, "none"
        return declared.blocks, "blocks"

    def _list(
        self, path: str, module: torch.nn.Module, list_path: str, declared: BlockList
    ) -> ListPlan | None:
        where = f"pipeline.{path}.{list_path}"
        holder = follow(module, list_path)
        if (
            holder is MISSING
            or holder is None
            or (isinstance(holder, torch.nn.ModuleList) and len(holder) == 0)
        ):
            if declared.optional:
                self.notes.append(f"{where} is absent")
                return None
            if holder is MISSING:
                self.problems.append(explain_missing(module, list_path, f"pipeline.{path}"))
            else:
                self.problems.append(f"{where} is empty; if that may be, write optional: true")
            return None
        if not isinstance(holder, torch.nn.ModuleList):
            self.problems.append(
                f"{where} is a {type(holder).__name__}; a block list is a torch.nn.ModuleList"
            )
            return None
        blocks = tuple(holder)
        if len({id(block) for block in blocks}) != len(blocks):
            self.problems.append(f"{where} holds the same block more than once")
            return None
        if declared.block_class is not None:
            for index, block in enumerate(blocks):
                if not class_matches(block, declared.block_class):
                    self.problems.append(
                        f"{where}[{index}] is a {type(block).__name__}; the adapter is for "
                        f"{', '.join(declared.block_class)}"
                    )
                    return None
        pattern = PATTERNS[declared.pattern]
        binding = bind_all(blocks, pattern, declared.roles, where)
        if isinstance(binding, str):
            self.problems.append(binding)
            return None
        problem = contradiction(blocks[0], pattern, binding, f"{where}[0]")
        if problem is not None:
            self.problems.append(problem)
            return None
        layers = layers_for(
            self.spec,
            path,
            list_path,
            declared.params,
            profile=self.profile,
            cache_config=self.cache_config,
            defaults=self.defaults,
        )
        self._check_settings(where, len(blocks), pattern.takes_encoder, layers)
        return ListPlan(list_path, where, blocks, holder, pattern, binding, layers)

    def _check_settings(self, where: str, count: int, takes_encoder: bool, layers: Layers) -> None:
        for resolved in layers.cases():
            if resolved.fn + resolved.bn > count:
                self.problems.append(
                    f"{where} has {count} blocks, but Fn_compute_blocks {resolved.fn} "
                    f"({resolved.origins['Fn_compute_blocks']}) + Bn_compute_blocks {resolved.bn} "
                    f"({resolved.origins['Bn_compute_blocks']}) is {resolved.fn + resolved.bn}; "
                    f"write at most {count} together"
                )
                return
            if resolved.prune and not takes_encoder:
                self.problems.append(
                    f"{where}: cache-dit's DBPrune fails with patterns 3, 4 and 5; use DBCache"
                )
                return

    def _ratio(self, declared: float | str) -> float | None:
        if not isinstance(declared, str):
            return float(declared)
        value = follow(self.pipeline, declared.removeprefix("pipeline."))
        if value is MISSING:
            self.problems.append(
                explain_missing(self.pipeline, declared.removeprefix("pipeline."), "pipeline")
            )
            return None
        return None if value is None else float(value)

    def _separate(self, found: Mapping[str, TransformerPlan]) -> bool | None:
        guidance = self.spec.guidance
        if guidance.separate_when is not None:
            first = next(iter(found.values())).module if found else None
            return condition_holds(
                guidance.separate_when, pipeline=self.pipeline, transformer=first
            )
        return {"observed": None, "fused": False, "separate": True}[guidance.mode]
