"""Check files: adapters and engine configs, one by one and against each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cachedit_yaml.cli.named import STDIN, files_and_folders, find_one, read_stdin
from cachedit_yaml.cli.validation.report import FileResult, Report
from cachedit_yaml.engines import find_engine
from cachedit_yaml.engines.cache_dit.files import split_sections
from cachedit_yaml.engines.configs import check_config, recognise
from cachedit_yaml.engines.protocol import Engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.registry.entry import Entry, read_own
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import (
    SUFFIXES,
    Source,
    display_path,
    files_beside,
    find_sources,
    kind_of,
)
from cachedit_yaml.registry.stranger import Stranger
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.beside import check_beside, idle_probes
from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.rules.catalogue.rule import LEVELS, Level
from cachedit_yaml.rules.class_names import check_classes
from cachedit_yaml.rules.findings import placed, too_long
from cachedit_yaml.rules.fix import fix_file
from cachedit_yaml.rules.ignores import apply_ignores
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_text

if TYPE_CHECKING:
    from cachedit_yaml.rules.sources.packages import Code

_ALWAYS: frozenset[Level] = frozenset(LEVELS) - {"deep"}
#: A fix may uncover a finding that can be fixed too; more rounds than this are a circle.
_MOST_ROUNDS = 5


def validate(
    targets: Sequence[str] = (), *, adapters: Sequence[str] = (), deep: bool = False
) -> Report:
    """Check files.

    Args:
        targets: what :func:`~cachedit_yaml.cli.named.find_all` takes; without any, every adapter
            that can be found.
        adapters: more folders and files in which `extends` looks for names.
        deep: import the classes too and look at them.

    Raises:
        AdapterNotFoundError: a target or a folder of `adapters` does not exist.
    """
    sources, problems = find_sources(adapters)
    found = Registry(sources, problems)
    paths: list[Path] = []
    named: set[Path] = set()
    strangers: list[Stranger] = []
    for target in targets:
        if target != STDIN:
            paths += (roots := files_and_folders(target))
            entry = None if roots else find_one(found, target).entry
            if isinstance(entry, Stranger):
                strangers.append(entry)
            elif entry is not None:
                named.add(entry.path)
    sources += [Source("argument", 1_000_000 + i, p, "argument") for i, p in enumerate(paths)]
    registry = Registry(sources, problems)
    chosen = sources[len(found.sources) :] if targets else sources
    report = Report(problems=list(problems))
    run = _Run(registry, report, deep)
    entries = [entry for entry in registry.entries if entry.source in chosen or entry.path in named]
    mine = [entry for entry in entries if not run.config(entry)]
    by_name: dict[str, list[Diagnostic]] = {entry.shown: [] for entry in mine}
    for conflict in registry.conflicts(mine):
        where = conflict.span.path if conflict.span is not None else ""
        by_name.get(where, report.problems).append(conflict)
    for entry in mine:
        run.adapter(entry.shown, entry.path, entry, by_name[entry.shown])
    for path in dict.fromkeys(path for source in chosen for path in files_beside(source.root)):
        run.beside(path)
    for stranger in strangers:  # of no path: nothing is mended in a cache
        run.adapter(stranger.shown, None, stranger, [])
    if STDIN in targets:
        run.stdin(read_stdin())
    return report


def fix(report: Report, left: dict[str, str]) -> int:
    """Write what can safely be mended into the files.

    Args:
        report: what was found in them.
        left: gets the files that cannot be written, each with the reason.

    Returns:
        The number of findings that were mended.
    """
    made = 0
    for file in report.files:
        if file.path is not None:
            try:
                made += fix_file(file.path, file.name, file.diagnostics)
            except OSError as error:
                left[file.name] = error.strerror or str(error)
    return made


def validate_and_fix(
    targets: Sequence[str] = (), *, adapters: Sequence[str] = (), deep: bool = False
) -> Report:
    """Check files and mend them until nothing is left that can safely be mended."""
    fixed, left = 0, dict[str, str]()
    report = validate(targets, adapters=adapters, deep=deep)
    for _ in range(_MOST_ROUNDS):
        made = fix(report, left)
        if not made:
            break
        fixed += made
        report = validate(targets, adapters=adapters, deep=deep)
    report.fixed = fixed
    report.left = left
    return report


class _Run:
    def __init__(self, registry: Registry, report: Report, deep: bool) -> None:
        self.registry = registry
        self.report = report
        self.deep = deep
        self.code: Code | None = None
        self.levels: frozenset[Level] = _ALWAYS | ({"deep"} if deep else frozenset())

    def config(self, entry: Entry) -> bool:
        """Check an engine's config; False if the file is none."""
        kind = recognise(entry.document.data)
        if kind == "adapter":
            # Such a file is named by its path; one that is found by class is an adapter alone.
            return entry.kind == "argument" and self.mixed(
                entry.shown, entry.path, entry.document, entry.reading
            )
        found = [*entry.reading, *check_config(kind, entry.document, self.registry)]
        self.add(entry.shown, kind, entry.path, found, entry.document)
        return True

    def mixed(
        self, name: str, path: Path | None, document: Document, reading: list[Diagnostic]
    ) -> bool:
        """Check an adapter with sections of cache-dit; False if the file is none."""
        adapter, sections = split_sections(document) or (None, document)
        if adapter is None:
            return False
        loaded = Adapter.of(adapter, reading, resolve=self.registry.resolve)
        found = check_config("cache_dit", sections, self.registry)
        self.adapter(name, path, loaded, found, document)
        return True

    def adapter(
        self,
        name: str,
        path: Path | None,
        adapter: Adapter,
        found: list[Diagnostic],
        document: Document | None = None,
    ) -> None:
        """Check an adapter, with what is wrong beside what it says itself."""
        found = adapter.diagnostics + found
        if not too_long(adapter.diagnostics):
            found += check_classes(adapter.document, adapter.engines)
        if self.deep and adapter.valid:
            found += self.classes(adapter)
        self.report.texts.update(adapter.sources)
        self.add(name, "adapter", path, found, document or adapter.document)

    def classes(self, adapter: Adapter) -> list[Diagnostic]:
        """Check an adapter against the classes of each engine that it serves."""
        from cachedit_yaml.probe.limits import Limits, counted, spending
        from cachedit_yaml.probe.recipe import config_of
        from cachedit_yaml.rules.deep import check_deep, check_engine
        from cachedit_yaml.rules.sources.files import source_folders
        from cachedit_yaml.rules.sources.packages import Code

        self.code = self.code or Code(source_folders())
        found: list[Diagnostic] = []
        if adapter.engines[0] in HOME:
            # Whole models of released sizes, which nothing is allocated for.
            with spending(Limits(layers=2**17, parameters=2**62)), counted():
                found += check_deep(adapter.spec_for(), adapter.merged(), config_of)
        for name in adapter.sections:
            engine = find_engine(name)
            if name in HOME or not engine.class_index:
                continue
            if self.code.folder(engine.packages[0]) is None:
                self.report.problems += self.not_installed(engine)
                continue
            found += [
                placed(item, adapter.data, name)
                for item in check_engine(
                    adapter.spec_for(name), adapter.merged(name), engine, self.code
                )
            ]
        return found

    def not_installed(self, engine: Engine) -> list[Diagnostic]:
        """That the classes of an engine were not looked at, once."""
        found = finding(
            "not-checked", f"{engine.title} is not installed, so its classes were not looked at",
            (), None, hint="or let CACHEDIT_YAML_SOURCES name a folder that holds its package "
            f"{engine.packages[0]!r}",
        )  # fmt: skip
        return [] if found in self.report.problems else [found]

    def beside(self, path: Path) -> None:
        """Check a file of probes, or of defaults."""
        kind, name = kind_of(path), display_path(path)
        document, reading = read_own(path, name)
        found = check_beside(kind, document, reading)
        if kind == "probe":
            beside = [path.parent.with_name(path.stem + suffix) for suffix in SUFFIXES]
            adapter = next(
                (self.registry.find(item) for item in beside if os.path.isfile(item)), None
            )
            known = (None, ()) if adapter is None else (adapter.name, adapter.engines)
            found = found + idle_probes(document, *known)
        self.add(name, kind, path, found, document)

    def stdin(self, content: bytes) -> None:
        """Check what comes from another program."""
        document, found = read_text(content, "<stdin>")
        kind = recognise(document.data)
        if kind != "adapter":
            found = found + check_config(kind, document, self.registry)
            self.add("<stdin>", kind, None, found, document)
        elif not self.mixed("<stdin>", None, document, found):
            adapter = Adapter.of(document, found, resolve=self.registry.resolve)
            self.adapter("<stdin>", None, adapter, [])

    def add(
        self, name: str, kind: str, path: Path | None, found: list[Diagnostic], document: Document
    ) -> None:
        self.report.texts.update(document.sources)
        found = apply_ignores(found, document, self.levels)
        self.report.files.append(FileResult(name, kind, path, found))
