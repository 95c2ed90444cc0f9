"""Fuzz target: whatever bytes a file holds, nothing raises but the project's own errors, and soon.

Each input is checked as `validate` does it, written in every format, mended, and where nothing is
wrong with it described as `show` and `explain` do. Neither torch nor cache-dit is imported.

``python fuzz/validate.py -max_total_time=60`` with atheris installed (``make fuzz``). A
failure is written to ``crash-*``; turn it into a golden file or a case of tests/validation.
"""

from __future__ import annotations

import contextlib
import io
import re
import zlib

import atheris

# What is read and judged; how it is written shows no more of a file.
COVERED = ["cachedit_yaml.yaml", "cachedit_yaml.language", "cachedit_yaml.rules"]

with atheris.instrument_imports(include=COVERED):
    import target

    from cachedit_yaml.cli import explain, show
    from cachedit_yaml.cli.explanation import Explainer
    from cachedit_yaml.cli.named import Named
    from cachedit_yaml.cli.output import say, to_json
    from cachedit_yaml.cli.validation.formats import (
        github_report,
        human,
        json_report,
        junit_report,
        sarif_report,
    )
    from cachedit_yaml.cli.validation.report import Report
    from cachedit_yaml.cli.validation.run import _Run
    from cachedit_yaml.errors import CacheditYamlError
    from cachedit_yaml.language.build import to_data
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.registry.entry import TextEntry
    from cachedit_yaml.registry.registry import Registry
    from cachedit_yaml.rules.beside import check_beside
    from cachedit_yaml.rules.fix import apply_edits, edits_for
    from cachedit_yaml.yaml.reader import read_text

REGISTRY = Registry([])
#: One of them for each input, beside what people and GitHub read: they cost the most.
OTHERS = (json_report, sarif_report, junit_report)
_COMMAND = re.compile(r"^ *::", re.MULTILINE)


def one_input(data: bytes) -> None:
    """Do all of it, in no more processor time than anybody waits for."""
    target.in_time(use_file, data)


def use_file(data: bytes) -> None:
    """Check one file as the command does, and use everything that it found."""
    report = Report()
    run = _Run(REGISTRY, report, deep=False)
    run.stdin(data)
    found = list(report.everything())
    turn = zlib.crc32(data)
    if turn % 8 == 0:  # most of it is said of the adapter already
        document, reading = read_text(data, "<stdin>")
        for kind in ("probe", "defaults"):
            run.add("<stdin>", kind, None, check_beside(kind, document, list(reading)), document)
    for form in (human, github_report, OTHERS[turn % len(OTHERS)]):
        stream = io.StringIO()
        form.write(report, stream)
        harmless(stream.getvalue(), report if form is github_report else None)
    for item in found:
        harmless(item.summary())
    edits, _ = edits_for("<stdin>", found)
    if edits:
        read_text(apply_edits(report.texts["<stdin>"], edits), "<stdin>")
    if all(item.severity != "error" for item in found):
        entry = TextEntry(data, "a.yaml", REGISTRY.resolve)
        if entry.valid:
            use(entry, entry.engines[turn % len(entry.engines)])


def use(entry: TextEntry, engine: str) -> None:
    """What the commands do with an adapter in which nothing is wrong."""
    spec = entry.spec_for(engine)
    shown = io.StringIO()
    say(*show._describe(Named(entry, engine), spec), stream=shown)
    shown.write(to_json({"engine": spec.engine, **to_data(spec)}))
    with contextlib.suppress(CacheditYamlError):
        say(*explained(entry, spec), stream=shown)
    harmless(shown.getvalue())


def explained(entry: TextEntry, spec: AdapterSpec) -> list[str]:
    """What `explain` prints."""
    profile = next(iter(spec.profiles), None)
    rest = {}
    if not spec.refuse:
        rest = Explainer(spec, None, profile=profile, steps=8, settings=None).explain()
    found = {
        "adapter": spec.name, "description": spec.description, "engine": spec.engine,
        "engines": list(entry.engines), "source": "a.yaml", "hub": None, "note": None,
        "pipelines": list(spec.pipelines), "serves": None, "refuses": spec.refuse,
        "requires": None, "profile": profile, "profiles": list(spec.profiles), "steps": 8,
        "model": None, **rest,
    }  # fmt: skip
    return list(explain._render(found))


def harmless(text: str, commands: Report | None = None) -> None:
    """Nothing that was printed moves a cursor or is a command of GitHub's but those of ours."""
    if not text.replace("\n", "").isprintable():
        raise AssertionError([c for c in text if not c.isprintable() and c != "\n"])
    assert "##[" not in text
    allowed = 0 if commands is None else sum(1 for _ in commands.everything())
    assert len(_COMMAND.findall(text)) == allowed, text


if __name__ == "__main__":
    target.run(one_input, shares=(0.35, 0.35), harm=(0.0, 0.1, 0.3))
