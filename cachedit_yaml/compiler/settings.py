"""Cache settings: layers merged by precedence, with the origin of every value.

From weak to strong: cache-dit's defaults, the adapter's ``cache``, its transformer's and list's
``params``, its ``steps``, the profile, the profile's ``lists``, and ``cache_config`` (the engine's
or the request's). What lies under an adapter is part of it by then.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.compiler.cache_dit_source import cache_dit_version, config_fields
from cachedit_yaml.compiler.calibrators import calibrator_config
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.cache_spec import OWN
from cachedit_yaml.language.spec import (
    AdapterSpec,
    CacheSettings,
    Profile,
    StepMask,
)
from cachedit_yaml.yaml.diagnostics import KeyPath, or_near

if TYPE_CHECKING:
    from cache_dit import DBCacheConfig, DBPruneConfig
    from cache_dit.caching.cache_contexts.calibrators import CalibratorConfig

#: Fields of cache-dit's configs that the language says in its own way, and where.
EXPRESSED_ELSEWHERE: Mapping[str, str] = {
    "cache_type": "cache_type",
    "num_inference_steps": "the run",
    "enable_separate_cfg": "guidance",
    "steps_computation_mask": "scm",
    "steps_computation_policy": "scm.policy",
}

#: Limits of how many steps are served from the cache.
LIMITS: Final = ("max_cached_steps", "max_continuous_cached_steps")


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
        file: where they came from, for people: the adapter's file, or ``cache_config``.
        settings: the settings themselves.
        label: the part of the file: ``profile fast``.
        path: the keys that lead to them.
        max_steps: applies to generations of at most this many steps; None applies always.
        places: ``file:line`` by the path of a key.
    """

    file: str
    settings: CacheSettings
    label: str = ""
    path: KeyPath = ()
    max_steps: int | None = None
    places: Mapping[KeyPath, str] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        """Where one setting came from: ``flux.yaml:27: profile fast``."""
        place = self.places.get((*self.path, name), self.file)
        return f"{place}: {self.label}" if self.label else place

    def of_defaults(self, name: str) -> bool:
        """Whether one setting is a default of every adapter."""
        return self.places.get((*self.path, name), self.file).startswith("defaults.yaml:")


@dataclass(frozen=True)
class Resolved:
    """The settings of one block list for one number of steps.

    Attributes:
        values: every setting of the language by name.
        origins: where each value came from.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    @property
    def fn(self) -> int:
        """F: first blocks that always run."""
        return int(self.values["Fn_compute_blocks"])

    @property
    def bn(self) -> int:
        """B: last blocks that always run."""
        return int(self.values["Bn_compute_blocks"])

    @property
    def prune(self) -> bool:
        """Whether this list is pruned block by block."""
        return bool(self.values.get("cache_type") == "DBPrune")

    @property
    def scm(self) -> StepMask | None:
        """The step computation mask, as declared."""
        mask: StepMask | None = self.values.get("scm")
        return mask

    @property
    def static(self) -> bool:
        """Whether a mask alone decides, so that no difference is looked at."""
        return self.scm is not None and self.scm.policy == "static"

    def cache_config(
        self,
        num_inference_steps: int | None,
        mask: list[int] | None,
        *,
        separate_cfg: bool = False,
        owns_refresh: bool = True,
    ) -> DBCacheConfig | DBPruneConfig:
        """Build cache-dit's config, always from a ``reset`` one.

        Args:
            num_inference_steps: executed steps of this transformer, or None where unknown.
            mask: one number a step, 1 to compute; or None.
            separate_cfg: whether two forwards make one step of this context.
            owns_refresh: leave ``force_refresh_step_hint`` to the loop execution.
        """
        from cache_dit import CacheType, DBCacheConfig, DBPruneConfig

        cls = DBPruneConfig if self.prune else DBCacheConfig
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in self.values.items() if name in known}
        values.pop("cache_type", None)
        if owns_refresh:
            values.pop("force_refresh_step_hint", None)
        config = cls().reset(
            **copy.deepcopy(values),
            cache_type=CacheType.DBPrune if self.prune else CacheType.DBCache,
            enable_separate_cfg=separate_cfg,
            steps_computation_policy=self.scm.policy if self.scm is not None else "dynamic",
        )
        config.num_inference_steps = num_inference_steps
        config.steps_computation_mask = list(mask) if mask is not None else None
        if config.force_refresh_step_policy is None:
            config.force_refresh_step_policy = "once"
        return config

    def calibrator_config(self) -> CalibratorConfig | None:
        """Build cache-dit's calibrator config, or None."""
        return calibrator_config(self.values["calibrator"])


@functools.cache
def cache_dit_defaults() -> Mapping[str, Any]:
    """The installed cache-dit's own defaults, in the language's names; none where it is not."""
    values = {
        name: value
        for fields in config_fields().values()
        for name, value in fields.items()
        if name not in EXPRESSED_ELSEWHERE
    }
    own = dict.fromkeys(("scm", "calibrator", "batch"))
    return values and {**values, "cache_type": "DBCache", **own}


def _weaker(one: tuple[int, bool], other: tuple[int, bool]) -> bool:
    """Whether what was said first counts for less: a weaker layer, or a default beside none."""
    return one[0] < other[0] or one[1] < other[1]


@dataclass(frozen=True)
class Layers:
    """All layers of one block list, weakest first.

    Attributes:
        layers: them.
        follows: the list that decides for this one; None where it decides itself.
        leader: that list's layers.
        end: the last list that takes the same decision, at whose end the last B blocks count; None
            where that is this one.
    """

    layers: tuple[Layer, ...]
    follows: str | None = None
    leader: Layers | None = None
    end: str | None = None

    def cases(self) -> list[Resolved]:
        """The settings for every number of steps that makes a difference."""
        layers = (*self.layers, *(self.leader.layers if self.leader is not None else ()))
        limits = {layer.max_steps for layer in layers if layer.max_steps is not None}
        return [self.resolve(None), *(self.resolve(limit) for limit in sorted(limits))]

    def resolve(self, num_steps: int | None) -> Resolved:
        """Merge the layers for a generation of ``num_steps`` executed steps (None: unknown)."""
        own = self._merged(num_steps)
        values, origins = dict(own.values), dict(own.origins)
        if self.leader is not None:
            theirs = self.leader._merged(num_steps)
            taken = [name for name in theirs.values if name not in OWN]
            values.update((name, theirs.values[name]) for name in taken)
            origins.update((name, theirs.origins[name]) for name in taken)
            values["Fn_compute_blocks"] = 0
            origins["Fn_compute_blocks"] = f"follows {self.follows}"
        if self.end is not None and values.get("Bn_compute_blocks"):
            values["Bn_compute_blocks"] = 0
            origins["Bn_compute_blocks"] = f"they are the last of {self.end}"
        return Resolved(values, origins)

    def _merged(self, num_steps: int | None) -> Resolved:
        """What the layers themselves say."""
        known = cache_dit_defaults()
        values = dict(known)
        origins = dict.fromkeys(values, f"cache-dit {cache_dit_version()}" if known else "")
        said: dict[str, tuple[int, bool]] = {}
        for rank, layer in enumerate(self.layers):
            if layer.max_steps is not None and (num_steps is None or num_steps > layer.max_steps):
                continue
            for name, value in layer.settings.given():
                if name in known or not known:
                    values[name] = value
                    origins[name] = layer.origin(name)
                    said[name] = rank, not layer.of_defaults(name)
        resolved = Resolved(values, origins)
        for name in LIMITS:
            # What somebody wrote for decisions by difference is no limit of a mask laid over it.
            if resolved.static and name in said and _weaker(said[name], said["scm"]):
                values[name], origins[name] = known.get(name, -1), origins["scm"]
        return resolved


def layers_for(
    spec: AdapterSpec,
    transformer_path: str,
    list_path: str,
    list_params: CacheSettings | None,
    *,
    layout: KeyPath = (),
    profile: str | None,
    cache_config: CacheSettings | None,
) -> Layers:
    """Collect the layers of one block list.

    Args:
        spec: the adapter.
        transformer_path: the transformer.
        list_path: the block list.
        list_params: the list's own settings.
        layout: the keys that lead to the transformer's chosen block lists.
        profile: one of the adapter's profiles.
        cache_config: the caller's settings.

    Raises:
        ConfigError: the profile does not exist.
    """
    where = spec.source.name if spec.source is not None else f"adapter {spec.name}"

    def layer(
        settings: CacheSettings, label: str, path: KeyPath, max_steps: int | None = None
    ) -> Layer:
        return Layer(where, settings, label, path, max_steps, spec.places)

    layers = [layer(spec.cache, "cache", ("cache",))]
    transformer = spec.transformers[transformer_path]
    if transformer.params is not None:
        keys: KeyPath = ("transformers", transformer_path, "params")
        layers.append(layer(transformer.params, f"transformers.{transformer_path}.params", keys))
    if list_params is not None:
        layers.append(layer(list_params, f"params of {list_path}", (*layout, list_path, "params")))
    for index, item in sorted(enumerate(spec.steps), key=lambda pair: -pair[1].max_steps):
        label = f"steps up to {item.max_steps}"
        layers.append(layer(item, label, ("steps", index), item.max_steps))
    if profile is not None:
        chosen = find_profile(spec, profile)
        layers.append(layer(chosen, f"profile {profile}", ("profiles", profile)))
        for name, settings in (chosen.lists or {}).items():
            if name in (list_path, f"{transformer_path}.{list_path}"):
                label = f"profile {profile}, list {name}"
                layers.append(layer(settings, label, ("profiles", profile, "lists", name)))
    if cache_config is not None:
        layers.append(Layer("cache_config", cache_config))
    return Layers(tuple(layers))


def find_profile(spec: AdapterSpec, name: str) -> Profile:
    """Look a profile up by name.

    Raises:
        ConfigError: the adapter has no such profile; names those that it has.
    """
    profiles = spec.profiles or {}
    if name not in profiles:
        have = ", ".join(sorted(profiles)) or "none"
        hint = or_near(name, profiles)
        raise ConfigError(f"adapter {spec.name!r} has no profile {name!r}; it has: {have}{hint}")
    return profiles[name]
