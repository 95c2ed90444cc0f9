"""Files that hold cache-dit's own sections, alone or beside an adapter."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.engines.cache_dit.files import SECTIONS, split_sections
from cachedit_yaml.engines.configs import check_config
from cachedit_yaml.engines.protocol import Config
from cachedit_yaml.errors import CacheditYamlError, CacheRuntimeError, ConfigError
from cachedit_yaml.language.spec import CacheSettings
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.findings import adapter_error
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.yaml.diagnostics import Diagnostic, nearest
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan

#: What the run shows, so that no file needs to say it.
_LEFT: Final = ("enable_separate_cfg", "num_inference_steps")
#: cache-dit's flags of its calibrators, and the names of their options here and there.
_CALIBRATORS: Final[Mapping[str, Mapping[str, str]]] = {
    "taylorseer": {
        "taylorseer_order": "taylorseer_order",
        "taylorseer_cache_type": "calibrator_cache_type",
    },
    "dmd": {
        "dmd_history": "dmd_history",
        "dmd_rank": "dmd_rank",
        "dmd_ridge": "dmd_ridge",
        "dmd_svd_precision": "dmd_svd_precision",
        "calibrator_cache_type": "calibrator_cache_type",
    },
    "foca": {"calibrator_cache_type": "calibrator_cache_type"},
}
#: Short names of cache-dit's, beside the fields of its class.
_ALIASES: Final = {"ulysses": "ulysses_size", "ring": "ring_size", "tp": "tp_size"}


class CacheDitConfig(Config):
    """A file with sections of cache-dit."""

    def load(self) -> dict[str, Any]:
        """The sections as cache-dit's own objects.

        Raises:
            CacheRuntimeError: cache-dit is not installed.
            ConfigError: a key or value that the installed cache-dit does not take.
        """
        sections = self.sections
        try:
            from cache_dit import load_configs
        except ModuleNotFoundError as error:
            raise CacheRuntimeError.not_installed(", ".join(sections), error) from error
        parallelism = sections.get("parallelism_config")
        if isinstance(parallelism, Mapping) and parallelism.get("use_ray"):
            raise ConfigError(
                "parallelism_config: use_ray runs copies of the model in other processes, which "
                "this package does not reach; start the processes with torchrun instead"
            )
        try:
            loaded = load_configs(dict(sections))
        except Exception as error:
            raise ConfigError(f"{', '.join(sections)}: {error or type(error).__name__}") from error
        return {name: loaded[name] for name in sections}

    def apply(self, plan: Plan) -> None:
        """Hand the sections to cache-dit, for the transformers of a plan.

        They stay when caching is disabled: cache-dit takes none of them back.

        Raises:
            CacheRuntimeError: cache-dit cannot do it; says why.
        """
        import cache_dit
        from cache_dit import BlockAdapter

        from cachedit_yaml.compiler.adapters import nested

        options = self.load()
        adapter = BlockAdapter(pipe=plan.pipeline, **nested(plan.transformers), skip_post_init=True)
        try:
            cache_dit.enable_cache(adapter, cache_config=None, **options)
        except CacheditYamlError:
            raise
        except Exception as error:
            hint = ""
            if "No planner" in str(error) and find_spec("einops") is None:
                hint = "; its planners need the package einops, which is not installed"
            named = ", ".join(self.sections)
            raise CacheRuntimeError(
                f"cache-dit cannot apply {named}: {error or type(error).__name__}{hint}"
            ) from error


def read_config(source: object, engine: str | None = None) -> CacheDitConfig | None:
    """Read a file with sections of cache-dit.

    Args:
        source: what a caller gave as adapter.
        engine: the engine that runs the model; default: diffusers.

    Returns:
        What it says; None if it is no such file, whatever else it is.

    Raises:
        AdapterError: it is one, and wrong; carries every error.
        ConfigError: a section has a key that the installed cache-dit does not know.
    """
    from cachedit_yaml.registry.names import is_path
    from cachedit_yaml.registry.registry import Registry

    if isinstance(source, str):
        if "\n" in source or not is_path(source):
            return None
    elif not isinstance(source, os.PathLike):
        return None
    path = Path(os.path.expanduser(source))
    document, found = read_file(path) if os.path.isfile(path) else (Document(str(path)), [])
    parts = split_sections(document)
    if parts is None:
        return None
    adapter, sections = parts
    registry = Registry.load()
    spec = None
    if adapter is not None:
        loaded = Adapter.of(adapter, found, resolve=registry.resolve)
        found = loaded.diagnostics
        spec = loaded.spec_for(engine) if loaded.valid else None
    found = found + check_config("cache_dit", sections, registry) + _unknown(sections)
    found = list({(item.span, item.message): item for item in found}.values())
    if any(item.severity == "error" for item in found):
        raise adapter_error(found)
    data = dict(sections.data or {})
    flat = data if not any(name in data for name in SECTIONS) else data.pop("cache_config", None)
    settings = dict(flat or {})
    notes = [item.summary() for item in found]
    notes += [
        f"{path.name}: {name} is left to the run, which shows it"
        for name in _LEFT
        if settings.get(name) is not None
    ]
    others = {name: data[name] for name in SECTIONS if data.get(name) is not None}
    if "cache_config" in others:  # the flat form has no other sections
        others = {}
    return CacheDitConfig(spec, parse_settings(translate(settings)), others, tuple(notes))


def translate(config: Mapping[str, Any]) -> dict[str, Any]:
    """cache-dit's cache settings in the language's words."""
    known = {item.name for item in dataclasses.fields(CacheSettings)}
    found = {name: value for name, value in config.items() if name in known}
    if "steps_computation_mask" in config:
        mask = config["steps_computation_mask"]
        kind = "preset" if isinstance(mask, str) else "mask"
        policy = config.get("steps_computation_policy", "dynamic")
        found["scm"] = None if mask is None else {kind: mask, "policy": policy}
    for name, options in _CALIBRATORS.items():
        flag = config.get(f"enable_{name}")
        if flag is False:
            found.setdefault("calibrator", None)
        elif flag:
            # cache-dit forecasts the encoder with DMD unless told otherwise, else only if told.
            encoder = config.get(f"enable_encoder_{name}", name == "dmd")
            given = {here: config[there] for there, here in options.items() if there in config}
            found["calibrator"] = {"type": name, "enable_encoder_calibrator": encoder, **given}
    return found


def _unknown(document: Document) -> list[Diagnostic]:
    """Keys of the other sections that the installed cache-dit does not know, and it says nothing.

    Without an installed cache-dit nothing is known of them.
    """
    try:
        from cache_dit import ParallelismConfig, QuantizeConfig
    except ModuleNotFoundError:
        return []
    found = []
    data = document.data or {}

    def unknown(path: tuple[str, ...], known: list[str]) -> None:
        near = nearest(path[-1], known)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        found.append(Diagnostic("config-unknown-key", f"unknown key {path[-1]!r}", path,
                                document.key_span(path), hint=hint))  # fmt: skip

    if any(name in data for name in SECTIONS):
        for name in data:
            if name not in SECTIONS:
                unknown((name,), list(SECTIONS))
    for section, cls in (
        ("parallelism_config", ParallelismConfig),
        ("quantize_config", QuantizeConfig),
    ):
        value = data.get(section)
        if value is not None and not isinstance(value, Mapping):
            found.append(Diagnostic("config-wrong-type", f"{section!r} is no mapping", (section,),
                                    document.value_span((section,))))  # fmt: skip
        known = [x.name for x in dataclasses.fields(cls) if not x.name.startswith("_")]
        for name in value if isinstance(value, Mapping) else ():
            if name not in known and not (section.startswith("par") and name in _ALIASES):
                unknown((section, name), known)
    backend = data.get("attention_backend")
    if backend is not None and not isinstance(backend, str):
        path = ("attention_backend",)
        text = "'attention_backend' is no text"
        found.append(Diagnostic("config-wrong-type", text, path, document.value_span(path)))
    return found
