"""The pages of this repository: where their links lead, and what they say of versions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import cachedit_yaml
from cachedit_yaml.cli.diagnosis import LIBRARIES
from cachedit_yaml.engines import engines
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
FORMS = ROOT / ".github"


def prose(text: str) -> str:
    """A page without its code."""
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "code", text)


def links(text: str) -> Iterator[str]:
    """Where the links and pictures of a page lead."""
    yield from re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", prose(text))
    yield from re.findall(r"^\[[^\]]+\]: *(\S+)", prose(text), re.MULTILINE)
    yield from re.findall(r"(?:href|src)=\"([^\"]+)\"", prose(text))


def anchors(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them of headings, and those that are set by hand."""
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.*?) *#* *$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead to no file or heading of this repository."""
    for link in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not (target.exists() and target.is_relative_to(ROOT)):
            yield f"{link}: no such file"
        elif anchor and target.suffix == ".md":
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                yield f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_or_heading(page: Path) -> None:
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_a_broken_link_is_found() -> None:
    text = (
        "# Here `it` is!\n[a](docs/nowhere.md) [b](#here-it-is) [c](#there)\n`[d](e)`\n"
        "```\n# there\n[f](g)\n```\n[h](docs/rules.md#cy110) [i](docs/rules.md#cy999)\n[j](../x)"
    )
    found = [item.partition(":")[0] for item in broken(ROOT / "README.md", text)]
    assert found == ["docs/nowhere.md", "#there", "docs/rules.md#cy999", "../x"]


def test_pages_are_reached_from_the_readme() -> None:
    """Each page of docs/, by links from page to page."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        for link in links(page.read_text(encoding="utf-8")):
            if "://" not in link and link[0] != "#":
                waiting.append((page.parent / unquote(link).partition("#")[0]).resolve())
    assert set(ROOT.glob("docs/*.md")) - reached == set()


def test_the_table_of_versions_says_what_doctor_says() -> None:
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    section = page.split("## Supported versions")[1].split("##")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    said = {name: (supported, tested) for name, supported, tested in rows}
    known = {item.title: (item.supported, item.tested) for item in engines()}
    known |= {name: known[:2] for name, known in LIBRARIES.items()}
    for name, (supported, tested) in known.items():
        assert said[name][1] == ", ".join(tested), name
        lower = re.match(r">=([\d.]+?)(?:\.0)?(,<.*)?$", supported)
        assert said[name][0].split(" ")[0] == (lower[1] if lower else "any"), name
        assert ("and later" in said[name][0]) == bool(lower and not lower[2]), name


def test_the_citation_is_of_this_version() -> None:
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["version"] == cachedit_yaml.__version__
    assert told["cff-version"] == "1.2.0"
    assert told["license"] == "Apache-2.0"


@pytest.mark.libraries
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("citation-file-format", [ROOT / "CITATION.cff"]),
        ("github-workflows", sorted(FORMS.glob("workflows/*.yml"))),
        ("github-actions", [ROOT / "action.yml"]),
        ("github-issue-config", [FORMS / "ISSUE_TEMPLATE" / "config.yml"]),
        (
            "github-issue-forms",
            [FORMS / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "new-model.yml")],
        ),
        ("dependabot", [FORMS / "dependabot.yml"]),
    ],
)
def test_files_for_github_are_of_its_form(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = processes.run([*command, *map(str, files)])
    assert done.returncode == 0, done.stdout + done.stderr
