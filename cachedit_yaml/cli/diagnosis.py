"""What ``cachedit-yaml doctor`` finds out. Imports neither torch nor an engine unless it has to."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cachedit_yaml import __version__
from cachedit_yaml.compiler.versions import installed_version
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError, ConfigError
from cachedit_yaml.registry.matching import Match, class_names, fits
from cachedit_yaml.registry.registry import Entry, Registry

#: Distribution: what is supported, the versions that the tests run with, needed to cache.
VERSIONS: Final[dict[str, tuple[str, tuple[str, ...], bool]]] = {
    "torch": (">=2.7.1", ("2.13.0",), True),
    "cache-dit": (">=1.5.0,<1.6", ("1.5.0", "1.5.1", "1.5.3"), True),
    "diffusers": (">=0.40", ("0.40.0", "0.41.0", "0.42.1"), True),
    "vllm-omni": ("", ("0.30.0",), False),
    "sglang": ("", ("0.5.23",), False),
}
PLUGIN: Final = "cachedit_yaml"
#: Entry-point groups of an engine, and the variable that names the plugins it may load.
PLUGINS: Final = {
    "vllm-omni": (
        ("vllm_omni.general_plugins", "vllm_omni.platform_plugins"),
        "VLLM_PLUGINS",
    ),
    "sglang": (("sglang.multimodal_gen.plugins",), "SGLANG_PLUGINS"),
}


@dataclass
class Package:
    """One installed package.

    Attributes:
        state: ``tested``, ``not tested``, ``not supported`` or ``not installed``.
    """

    name: str
    version: str | None
    state: str
    problem: str | None = None


@dataclass
class Choice:
    """Which adapter serves a pipeline class, and why the others do not."""

    pipeline: str
    adapter: str | None = None
    file: str | None = None
    why: str = ""
    others: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Diagnosis:
    """Everything that the doctor says.

    Attributes:
        adapters: how many adapters load, by where they come from.
        plugin: what is to say about the plugin; empty where the engine has none.
        snippet: the config for the engine.
        problems: what has to be mended; the exit code is 1 if there is any.
    """

    engine: str
    python: str
    itself: str
    packages: list[Package]
    adapters: list[tuple[str, int]]
    choice: Choice | None
    plugin: str
    snippet: str
    problems: list[str]


def diagnose(
    engine: str, pipeline: str | None, model: str | None, adapters: Sequence[str] = ()
) -> Diagnosis:
    """Look at the installation, the adapters, and what serves one pipeline.

    Args:
        engine: ``diffusers``, ``vllm-omni`` or ``sglang``.
        pipeline: a pipeline class.
        model: the folder of a model, which names its pipeline class.
        adapters: more folders and files to look in.

    Raises:
        ConfigError: the folder does not say which pipeline it holds.
    """
    registry = Registry.load(adapters)
    packages = [package(name) for name in VERSIONS]
    problems = [item.problem for item in packages if item.problem is not None]
    if engine != "diffusers" and installed_version(engine) is None:
        problems.append(f"{engine} is not installed in this environment")
    counted: Counter[str] = Counter()
    for entry in registry.adapters():
        errors = [item for item in entry.diagnostics if item.severity == "error"]
        if errors:
            problems.append(f"{entry.shown} does not load: {errors[0]}")
        else:
            counted[f"{entry.kind}: {entry.source.root}"] += 1
    problems += [str(item) for item in registry.source_problems]
    if model is not None:
        pipeline = class_of(model)
    choice = None
    if pipeline is not None:
        choice = choose(registry, pipeline, engine)
        if choice.adapter is None:
            problems.append(choice.why)
    plugin = ""
    if engine in PLUGINS:
        plugin, problem = look_at_plugin(engine)
        problems += [problem] if problem else []
    from cachedit_yaml.cli.snippets import snippet

    return Diagnosis(
        engine=engine,
        python=platform.python_version(),
        itself=__version__,
        packages=packages,
        adapters=sorted(counted.items()),
        choice=choice,
        plugin=plugin,
        snippet=snippet(engine, model, choice.adapter if choice is not None else None),
        problems=problems,
    )


def package(name: str) -> Package:
    """One package against what is supported and tested."""
    supported, tested, needed = VERSIONS[name]
    version = installed_version(name)
    if version is None:
        problem = f"{name} is not installed: pip install 'cachedit-yaml[run]'" if needed else None
        return Package(name, None, "not installed", problem)
    shown = Version(version.public)  # without the label of a build, such as +cpu
    if not SpecifierSet(supported).contains(shown, prereleases=True):
        problem = f"{name} {version} is not supported; it takes {supported}"
        return Package(name, str(version), "not supported", problem)
    state = "tested" if str(shown) in tested else "not tested"
    return Package(name, str(version), state)


def class_of(model: str) -> str:
    """The pipeline class that a model's folder names.

    Raises:
        ConfigError: it names none.
    """
    index = Path(model, "model_index.json")
    if not index.is_file():
        what = "has no model_index.json" if index.parent.is_dir() else "is no folder"
        raise ConfigError(f"--model {model} {what}; give the folder of a pipeline, or --pipeline")
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{index} is not valid JSON: {error}") from None
    name = content.get("_class_name") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{index} does not say which pipeline it is for: no _class_name")
    return name


def choose(registry: Registry, pipeline: str, engine: str) -> Choice:
    """Find the adapter as the engine's door does, and say why the others are not taken."""
    from cachedit_yaml.engines.vllm_omni.own import is_ours

    folder = engine.replace("-", "_")
    choice = Choice(pipeline)
    match: Match | None = None
    chain: Sequence[str] = [pipeline]
    try:
        try:
            match = registry.match_pipeline(pipeline, folder)
        except AdapterNotFoundError:
            # One for a base class may serve it, which only the class tells.
            chain = _bases(pipeline)
            match = registry.match_pipeline(chain, folder)
    except CacheditYamlError as error:
        choice.why = str(error)
    taken = match.entry if match is not None else None
    if taken is not None and engine == "vllm-omni" and not is_ours(taken):
        choice.why = (
            f"no adapter for vLLM-Omni's {pipeline}; the engine's own code serves it, unless "
            f"cache_config names one: adapter: {taken.label}"
        )
        choice.others.append((taken.label, "made for diffusers' class of this name"))
        match = None
    if match is not None and taken is not None:
        choice.adapter, choice.file = taken.label, taken.shown
        how = "it names the class"
        if match.how != "exact":
            how = f"{'its base class' if match.how == 'base' else 'the pattern'} "
            how += f"{match.matched_name!r} fits"
        if engine == "sglang" and engine not in taken.engines and taken.kind == "shipped":
            how += " of diffusers, for SGLang's diffusers back end; its own class is left to SGLang"
        choice.why = how
        if match.spec.refuse is not None:
            choice.why += f"; it refuses to be cached: {match.spec.refuse}"
    for entry in registry.adapters():
        if entry is not taken and (why := _why_not(entry, taken, chain, folder)) is not None:
            choice.others.append((entry.label, why))
    return choice


def _why_not(entry: Entry, taken: Entry | None, chain: Sequence[str], engine: str) -> str | None:
    """Why an adapter that claims the class, too, is not taken; None if it does not claim it."""
    names = [claim.name for claim in entry.claims("pipeline", engine)]
    claimed = next((x for x in names if x in chain or ("*" in x and fits(x, chain[0]))), None)
    if claimed is None:
        return None
    if not entry.diagnostics or all(item.severity != "error" for item in entry.diagnostics):
        if not entry.right(engine):
            return f"made for {entry.engines[0]}"
        if taken is not None and entry.source.rank < taken.source.rank:
            return f"{taken.shown} ({taken.kind}) comes before {entry.kind}"
        if taken is not None and claimed != chain[0]:
            return f"claims {claimed!r}, which is less exact"
        if taken is not None and taken.right(engine) > entry.right(engine):
            return f"{taken.label} is made for {engine}"
        return "claims it with the same right"
    return "does not load"


def _bases(pipeline: str) -> Sequence[str]:
    """The names of a pipeline class and its bases, where diffusers has it."""
    if installed_version("diffusers") is None:
        return [pipeline]
    import diffusers

    found = getattr(diffusers, pipeline, None)
    return class_names(found) if isinstance(found, type) else [pipeline]


def look_at_plugin(engine: str) -> tuple[str, str | None]:
    """Whether an engine loads us: what there is to say, and what is wrong."""
    groups, variable = PLUGINS[engine]
    missing = [
        group
        for group in groups
        if all(item.name != PLUGIN for item in metadata.entry_points(group=group))
    ]
    if missing:
        problem = f"no entry point {PLUGIN} in {', '.join(missing)}: install cachedit-yaml anew"
        return f"not registered in {', '.join(missing)}", problem
    allowed = os.environ.get(variable)
    if not allowed and (allowed is None or engine == "sglang"):
        return f"registered; {variable} is not set, so every plugin is loaded", None
    if PLUGIN in [name.strip() for name in (allowed or "").split(",")]:
        return f"registered, and allowed by {variable}={allowed}", None
    problem = f"{variable}={allowed} keeps the plugin out; add {PLUGIN}"
    return f"registered, and not allowed by {variable}={allowed}", problem
