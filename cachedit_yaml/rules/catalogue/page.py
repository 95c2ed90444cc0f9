"""``docs/rules.md``, made from the catalogue.

``python -m cachedit_yaml.rules.catalogue.page`` writes it; ``--check`` only says whether it is
up to date.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cachedit_yaml.engines import engines
from cachedit_yaml.rules.catalogue import RETIRED, RULES, Level, Rule
from cachedit_yaml.yaml.diagnostics import all_of

_TITLES: Final[dict[Level, tuple[str, str]]] = {
    "file": ("The file", "What can be wrong before the language comes in."),
    "schema": ("Keys and values", "What the language knows in each place."),
    "meaning": ("Meaning", "What the keys of one adapter say together. No model is looked at."),
    "names": (
        "Names",
        "Classes and adapters, across files and installed packages. Nothing is imported.",
    ),
    "deep": (
        "The classes themselves",
        "Only with `--deep`: the classes are imported, the models "
        "built without weights, their source is read.",
    ),
    "engine": (
        "Engine configs",
        "The cache part of " + all_of([x.configs for x in engines() if x.configs]) + ".",
    ),
    "ignores": ("Ignores", "Comments that silence findings."),
}
_INTRODUCTION: Final = """\
# Rules

What `cachedit-yaml validate` finds. Every finding has a code and a name, both of which never change
their meaning. `cachedit-yaml validate --explain CODE` prints the same text.

An **error** makes the file unusable, a **warning** is surely not meant, a **hint** is worth a look.
The command fails on errors, with `--strict` on warnings too.

A warning or a hint (and any finding of `--deep`) can be silenced by a comment that says why, behind
the line, on a line of its own above it, or for a whole file:

```yaml
cache: {max_cached_steps: 0}  # cachedit-yaml: ignore[CY205] a baseline to compare with
# cachedit-yaml: ignore-file[CY302] the class is in a package of ours
```

This page is made from the catalogue in `cachedit_yaml/rules/catalogue/` by `make rules`; the
examples are run by the tests.
"""


def text() -> str:
    """The page as it stands in the file."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "\n| Code | Name | Severity | What is wrong |\n|---|---|---|---|\n"
    for rule in RULES.values():
        cells = (f"[{rule.id}](#{rule.id.lower()})", rule.name, rule.severity, rule.title)
        yield f"| {' | '.join(cells)} |\n"
    level: Level | None = None
    for rule in RULES.values():
        if rule.level != level:
            level = rule.level
            title, words = _TITLES[level]
            yield f"\n## {title}\n{words}\n"
        yield from _section(rule)
    if RETIRED:
        yield "\n## No longer used\n"
        for code, name in RETIRED.items():
            yield f"- {code} {name}\n"


def _section(rule: Rule) -> Iterator[str]:
    yield f'\n<a id="{rule.id.lower()}"></a>\n### {rule.id} {rule.name} ({rule.severity})\n'
    yield f"{rule.title} {rule.why}\n\n**What to do:** {rule.fix}\n"
    for word, example in (("Wrong", rule.bad), ("Right", rule.good)):
        if example:
            shown = example.replace("\u2028", "<U+2028>")
            note = (
                f" (saved as {rule.encoding})"
                if rule.encoding != "utf-8" and word == "Wrong"
                else ""
            )
            yield f"\n{word}{note}:\n```yaml\n{shown}```\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or check it.

    Returns:
        0, or 1 when the check finds another text.
    """
    parser = argparse.ArgumentParser(prog="python -m cachedit_yaml.rules.catalogue.page")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if outdated")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).resolve().parents[3] / "docs" / "rules.md"
    )
    args = parser.parse_args(argv)
    wanted = text()
    if args.check:
        current = args.output.read_text(encoding="utf-8") if args.output.is_file() else ""
        if current != wanted:
            print(f"{args.output} is out of date; run python -m cachedit_yaml.rules.catalogue.page")
            return 1
        return 0
    args.output.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
