"""What an adapter means, as plain data: lists, settings with their origins, steps.

Works on the adapter alone, or on its plan for a live pipeline.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cachedit_yaml.compiler.cache_dit_source import config_fields
from cachedit_yaml.compiler.groups import grouped, leaders
from cachedit_yaml.compiler.settings import (
    Layers,
    Resolved,
    cache_dit_defaults,
    find_profile,
    layers_for,
)
from cachedit_yaml.language.build import to_data
from cachedit_yaml.language.cache_spec import OWN
from cachedit_yaml.language.spec import AdapterSpec, BlockList, CacheSettings
from cachedit_yaml.runtime.generation import share_steps
from cachedit_yaml.runtime.masks import build_mask
from cachedit_yaml.yaml.diagnostics import KeyPath

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan, TransformerPlan


class Explainer:
    """Collects what is to be said of one adapter.

    Args:
        spec: the adapter.
        plan: what it was compiled into for a live pipeline, or None.
        profile: one of its profiles.
        steps: executed steps of a generation, or None.
        settings: settings of the command line.
    """

    def __init__(
        self,
        spec: AdapterSpec,
        plan: Plan | None = None,
        *,
        profile: str | None = None,
        steps: int | None = None,
        settings: CacheSettings | None = None,
    ) -> None:
        self.spec, self.plan, self.profile = spec, plan, profile
        self.steps, self.settings = steps, settings
        self.notes = list(plan.notes) if plan is not None else []
        self.shares: Mapping[str, int | None] = {}

    def explain(self) -> dict[str, Any]:
        """Everything, as plain data.

        Raises:
            ConfigError: there is no such profile, or a mask does not cover the steps.
        """
        if not cache_dit_defaults():
            self.notes.append("cache-dit is not installed, so its defaults are left out")
        if self.profile is not None:
            find_profile(self.spec, self.profile)
        self.shares = self._shares()
        spec = self.spec
        split: Any = to_data(spec.step_split) if spec.step_split is not None else None
        guidance: dict[str, Any] = {"mode": "observed", **to_data(spec.guidance)}
        if self.plan is not None:
            split = split if self.plan.split is not None else None
            guidance["mode"] = {None: "observed", True: "separate", False: "fused"}[
                self.plan.separate_cfg
            ]
        return {
            "transformers": [self._transformer(path) for path in spec.transformers],
            "step_split": split,
            "boundary_ratio": self.plan.ratio if self.plan is not None else None,
            "guidance": guidance,
            "sets": dict(spec.set or {}),
            "notes": self.notes,
        }

    def _shares(self) -> Mapping[str, int | None]:
        """Steps of each transformer; None where only the run can tell."""
        plan: Any = self.plan
        if plan is not None:
            return share_steps(plan, self._timesteps(), self.steps, plan.ratio)
        split = self.spec.step_split
        plan = SimpleNamespace(
            transformers=[SimpleNamespace(path=path) for path in self.spec.transformers],
            split=split,
            # Whatever it is, a boundary says nothing without the timesteps.
            ratio=0.0 if split is not None and split.boundary is not None else None,
            pipeline=None,
        )
        return share_steps(plan, None, self.steps, plan.ratio)

    def _timesteps(self) -> Any:
        """The timesteps of the live scheduler, or None where it needs more than a number."""
        scheduler = copy.deepcopy(self.plan.scheduler if self.plan else None)
        if scheduler is None or self.steps is None:
            return None
        try:
            scheduler.set_timesteps(self.steps)
        except Exception:
            return None
        return scheduler.timesteps

    def _transformer(self, path: str) -> dict[str, Any]:
        declared = self.spec.transformers[path]
        live: TransformerPlan | None = None
        if self.plan is not None:
            live = next((item for item in self.plan.transformers if item.path == path), None)
        classes = list(declared.transformer_class or ())
        return {
            "path": path,
            "class": [type(live.module).__name__] if live else classes,
            "optional": declared.optional,
            "absent": self.plan is not None and live is None,
            "steps": self.shares.get(path, self.steps),
            "lists": list(self._declared(path) if self.plan is None else self._live(live)),
        }

    def _live(self, live: TransformerPlan | None) -> Iterator[dict[str, Any]]:
        for item in live.lists if live is not None else ():
            yield {
                "path": item.path,
                "pattern": item.pattern.name,
                "when": live.variant if live is not None and live.variant != "blocks" else None,
                "class": type(item.blocks[0]).__name__,
                "blocks": len(item.blocks),
                "optional": False,
                "follows": item.follows,
                **self._settings(live.path if live else "", item.path, item.layers),
            }

    def _declared(self, path: str) -> Iterator[dict[str, Any]]:
        declared = self.spec.transformers[path]
        layouts: list[tuple[str | None, KeyPath, Mapping[str, BlockList]]] = []
        for index, variant in enumerate(declared.variants or ()):
            by = [" or ".join(variant.transformer_class or ()), variant.when or ""]
            when = " and ".join(text for text in by if text)
            layouts.append((when, ("variants", index, "blocks"), variant.blocks))
        if declared.blocks is not None:
            layouts.append(("otherwise" if layouts else None, ("blocks",), declared.blocks))
        for shown, keys, blocks in layouts:
            own = {
                name: layers_for(
                    self.spec,
                    path,
                    name,
                    content.params,
                    layout=("transformers", path, *keys),
                    profile=self.profile,
                    cache_config=self.settings,
                )
                for name, content in blocks.items()
            }
            layers = grouped(own, leaders(blocks, blocks))
            for name, content in blocks.items():
                yield {
                    "path": name,
                    "pattern": content.pattern,
                    "when": shown,
                    "class": ", ".join(content.block_class or ()) or None,
                    "blocks": None,
                    "optional": content.optional,
                    "follows": layers[name].follows,
                    **self._settings(path, name, layers[name]),
                }

    def _settings(self, transformer: str, path: str, layers: Layers) -> dict[str, Any]:
        resolved = layers.resolve(self.steps)
        steps = self.shares.get(transformer, self.steps)
        return {
            "settings": {
                name: _setting(name, value, resolved.origins[name])
                for name, value in resolved.values.items()
                if (resolved.prune or name not in _prune_only())
                and (layers.follows is None or name in ("Fn_compute_blocks", *OWN))
            },
            "strip": _strip(resolved, steps, f"{transformer}.{path}") if steps else None,
        }


def _setting(name: str, value: Any, origin: str) -> dict[str, Any]:
    if name == "batch" and value is None:
        # No setting of cache-dit's, which knows the mean alone.
        return {
            "value": "per_sample",
            "origin": "default of cachedit-yaml (mean where execution is native)",
        }
    return {"value": to_data(value), "origin": _origin(origin)}


def _origin(origin: str) -> str:
    """Where a value came from, as the person at the prompt would call it."""
    if origin == "cache_config":
        return "command line"
    return f"default of {origin}" if origin.startswith("cache-dit") else origin


def _strip(resolved: Resolved, steps: int, where: str) -> str:
    """One character a step: computed (1), may be cached (0), decided in the run (.)."""
    mask = build_mask(resolved.scm, steps, where)
    if mask is not None:
        return "".join(map(str, mask))
    values = {"max_warmup_steps": 0, "warmup_interval": 1, **resolved.values}
    warm = range(0, values["max_warmup_steps"], values["warmup_interval"])
    return "".join("1" if step in warm else "." for step in range(steps))


def _prune_only() -> set[str]:
    """Settings that DBCache does not have."""
    fields = config_fields()
    return set(fields.get("DBPruneConfig", ())) - set(fields.get("DBCacheConfig", ()))
