"""What ``cachedit-yaml doctor`` finds out. Imports neither torch nor an engine unless it has to."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cachedit_yaml import __version__
from cachedit_yaml.cli.facts import measured
from cachedit_yaml.compiler.own import find_own
from cachedit_yaml.compiler.versions import installed_version
from cachedit_yaml.engines import engines, find_engine
from cachedit_yaml.engines.protocol import Engine, Plugin
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.generating.loading import check_folder
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.patterns import fits
from cachedit_yaml.registry.matching import Match, class_names
from cachedit_yaml.registry.registry import Entry, Registry
from cachedit_yaml.rules import classes

#: What is supported of other libraries, the versions that the tests run with, and whether caching
#: needs them.
LIBRARIES: Final = {
    "torch": (">=2.7.1", ("2.13.0",), True),
    "transformers": (">=4.55.2", ("5.14.1", "5.23.0"), False),
}
PLUGIN: Final = "cachedit_yaml"


@dataclass
class Package:
    """One installed package.

    Attributes:
        state: ``tested``, ``newer than tested``, ``not tested``, ``not supported`` or
            ``not installed``.
    """

    name: str
    version: str | None
    state: str
    problem: str | None = None


@dataclass
class Choice:
    """Which adapter serves a pipeline class, and why the others do not.

    Attributes:
        settings: where its settings come from.
        modes: what the engine's other ways of running it do with a cache.
    """

    pipeline: str
    adapter: str | None = None
    file: str | None = None
    why: str = ""
    settings: str = ""
    modes: str = ""
    others: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Diagnosis:
    """Everything that the doctor says.

    Attributes:
        adapters: how many adapters load, by where they come from.
        plugin: what is to say about the plugin; empty where the engine has none.
        snippet: the config for the engine; empty where nothing serves the pipeline.
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
        engine: the name of what runs the pipeline.
        pipeline: a pipeline class.
        model: the folder of a model, which names its pipeline class.
        adapters: more folders and files to look in.

    Raises:
        ConfigError: the folder does not say which pipeline it holds.
    """
    registry = Registry.load(adapters)
    runs = find_engine(engine)
    packages = list(installed())
    problems = [item.problem for item in packages if item.problem is not None]
    if not runs.needed and installed_version(runs.distribution) is None:
        problems.append(f"{runs.distribution} is not installed in this environment")
    counted: Counter[str] = Counter()
    for entry in registry.adapters():
        errors = [item for item in entry.diagnostics if item.severity == "error"]
        if errors:
            problems.append(f"{entry.shown} does not load: {errors[0]}")
        else:
            counted[f"{entry.kind}: {entry.source.root}"] += 1
    problems += [str(item) for item in registry.source_problems]
    if model is not None:
        pipeline = check_folder(Path(model))["_class_name"]
    choice, match, adapter = None, None, None
    if pipeline is not None:
        choice, match = choose(registry, pipeline, runs)
        if match is None:
            problems.append(choice.why)
        elif match.how != "held":  # which no name finds, and everybody who gives none
            # No name finds what only this call was told of.
            given = match.entry.kind == "argument"
            adapter = str(match.entry.path.resolve()) if given else match.entry.label
    # An engine of its own may still serve it by its own code.
    unserved = choice is not None and match is None and runs.needed
    plugin = ""
    if runs.plugin is not None:
        plugin, problem = look_at_plugin(runs.plugin)
        problems += [problem] if problem else []
    return Diagnosis(
        engine=engine,
        python=platform.python_version(),
        itself=__version__,
        packages=packages,
        adapters=sorted(counted.items()),
        choice=choice,
        plugin=plugin,
        snippet="" if unserved else runs.snippet(model or "MODEL", adapter, match),
        problems=problems,
    )


def installed() -> Iterator[Package]:
    """torch, transformers and every engine, against what is supported and tested."""
    for name, known in LIBRARIES.items():
        yield package(name, *known)
    for item in sorted(engines(), key=lambda item: not item.needed):
        yield package(item.distribution, item.supported, item.tested, item.needed)


def package(name: str, supported: str, tested: Sequence[str], needed: bool) -> Package:
    """One package against what is supported and tested."""
    version = installed_version(name)
    if version is None:
        problem = f"{name} is not installed: pip install 'cachedit-yaml[run]'" if needed else None
        return Package(name, None, "not installed", problem)
    shown = Version(version.public)  # without the label of a build, such as +cpu
    if not SpecifierSet(supported).contains(shown, prereleases=True):
        problem = f"{name} {version} is not supported; it takes {supported}"
        return Package(name, str(version), "not supported", problem)
    state = "tested" if str(shown) in tested else "not tested"
    if tested and shown > max(map(Version, tested)):
        state = "newer than tested"
    return Package(name, str(version), state)


def choose(registry: Registry, pipeline: str, engine: Engine) -> tuple[Choice, Match | None]:
    """Find the adapter as the engine's door does, and say why the others are not taken."""
    choice = Choice(pipeline)
    match: Match | None = None
    chain: Sequence[str] = [pipeline]
    try:
        try:
            match = registry.match_pipeline(pipeline, engine.name)
        except AdapterNotFoundError:
            # One for a base class may serve it, or for what it holds, which only the class tells.
            cls = _find_class(pipeline)
            chain = class_names(cls or pipeline)
            match = _by_class(registry, cls or pipeline, engine.name)
    except CacheditYamlError as error:
        choice.why = str(error)
    taken = match.entry if match is not None else None
    if match is not None and (reason := engine.why_not(match, pipeline)) is not None:
        choice.why = reason
        choice.others.append((match.entry.label, "made for diffusers' class of this name"))
        match = None
    if match is not None:
        choice.adapter, choice.file = match.entry.label, match.entry.shown
        choice.why = "it names the class"
        if match.how == "held":
            choice.why = match.held
        elif match.how != "exact":
            what = "its base class" if match.how == "base" else "the pattern"
            choice.why = f"{what} {match.matched_name!r} fits"
        choice.why += engine.remark(match)
        if match.spec.refuse is not None:
            choice.why += f"; it refuses to be cached: {match.spec.refuse}"
        else:
            choice.settings = measured(match.spec)
            choice.modes = engine.modes(pipeline)
    for entry in registry.adapters():
        if entry is not taken and (why := _why_not(entry, taken, chain, engine.name)) is not None:
            choice.others.append((entry.label, why))
    return choice, match


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


def _find_class(pipeline: str) -> type | None:
    """A pipeline class: the user's own, or diffusers'; None where there is none."""
    found: Any = find_own(pipeline)
    # Importing takes seconds, and whether it has the class its index tells.
    named = any(pipeline in item.exported for item in classes.installed() if item.engine in HOME)
    if found is None and named:
        import diffusers

        found = getattr(diffusers, pipeline, None)
    return found if isinstance(found, type) else None


def _by_class(registry: Registry, pipeline: type | str, engine: str) -> Match:
    """What serves a class by its bases, or by what it holds."""
    try:
        return registry.match_pipeline(pipeline, engine)
    except AdapterNotFoundError:
        if isinstance(pipeline, str):
            raise
        from cachedit_yaml.registry.held import match_held

        match = match_held(registry, pipeline, engine)
        if match is None:
            raise
        return match


def look_at_plugin(plugin: Plugin) -> tuple[str, str | None]:
    """Whether an engine loads us: what there is to say, and what is wrong."""
    variable = plugin.variable
    missing = [
        group
        for group in plugin.groups
        if all(item.name != PLUGIN for item in metadata.entry_points(group=group))
    ]
    if missing:
        problem = f"no entry point {PLUGIN} in {', '.join(missing)}: install cachedit-yaml anew"
        return f"not registered in {', '.join(missing)}", problem
    allowed = os.environ.get(variable)
    if not allowed and (allowed is None or plugin.empty_is_all):
        return f"registered; {variable} is not set, so every plugin is loaded", None
    if PLUGIN in [name.strip() for name in (allowed or "").split(",")]:
        return f"registered, and allowed by {variable}={allowed}", None
    problem = f"{variable}={allowed} keeps the plugin out; add {PLUGIN}"
    return f"registered, and not allowed by {variable}={allowed}", problem
