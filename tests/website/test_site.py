"""The site in out/site, as ``make site`` built it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from cachedit_yaml.rules.catalogue import RULES
from docs.site.__main__ import OUT, adapters, build, configure
from docs.site.families import IN_HAND, engines_of, path_of, read_proofs
from docs.site.pages import PARTS, ROOT, Stage, place
from tests.website.html import PARTS as ELEMENTS
from tests.website.html import Page, read, read_file

SITE = OUT / "site"
MARKDOWN = [name for part in PARTS.values() for name in part.values() if name.endswith(".md")]


def address(name: str) -> str:
    """The file of the site that shows a file of the repository."""
    target = place(name)
    if target.endswith("index.md"):
        return target.removesuffix("md") + "html"
    return f"{target.removesuffix('.md')}/index.html"


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    found = {path.relative_to(SITE).as_posix(): read_file(path) for path in SITE.rglob("*.html")}
    assert len(found) > 120
    return found


def lost(pages: Mapping[str, Page], name: str) -> Iterator[str]:
    """Links of a page that lead to no file or anchor of the site."""
    for link in {*pages[name].links, *pages[name].loads}:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        base = "" if parts.path.startswith("/") else posixpath.dirname(name)
        path = posixpath.normpath(posixpath.join(base, unquote(parts.path).lstrip("/")))
        if parts.path.endswith("/") or path == ".":
            path = posixpath.normpath(f"{path}/index.html")
        target = path if parts.path else name
        if not (SITE / target).is_file():
            yield f"{link}: no such file"
        elif parts.fragment and target in pages and not _anchored(pages[target], parts.fragment):
            yield f"{link}: no such anchor"


def _anchored(page: Page, fragment: str) -> bool:
    return unquote(fragment) in page.anchors


def test_every_link_leads_to_a_file_and_an_anchor(pages: dict[str, Page]) -> None:
    found = {name: list(lost(pages, name)) for name in pages if name != "404.html"}
    assert {name: links for name, links in found.items() if links} == {}
    assert sum(len(page.links) for page in pages.values()) > 5000


def test_a_lost_link_is_found(pages: dict[str, Page]) -> None:
    text = '<a href="../rules/#cy101">a</a><a href="#here">b</a><a href="../rules/#cy999">c</a>'
    page = read(f'{text}<a href="../nowhere/">d</a><img src="x.png">', article=False)
    found = lost({**pages, "tune/index.html": page}, "tune/index.html")
    assert {item.partition(":")[0] for item in found} == {
        "#here", "../rules/#cy999", "../nowhere/", "x.png",
    }  # fmt: skip


def test_a_lost_link_fails_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "site-pages"
    pages.mkdir()
    (pages / "index.md").write_text("# A\n[here](#a) [there](#b) [nowhere](nowhere.md)\n")
    configure(tmp_path / "zensical.toml", [{"A": "index.md"}])
    assert sorted(build(tmp_path / "zensical.toml")) == [
        "index.md:2:21: anchor does not exist",
        "index.md:2:34: page does not exist",
    ]


def test_what_a_page_links_to_comes_along(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    text = "[a](benchmarks/results/) [b](adapters/flux.yaml) `[c](d)`\n```\n[e](f)\n```\n"
    stage.write("index.md", text + "one\n- two [docs/tune.md](docs/tune.md#memory)\n", "README.md")
    assert (tmp_path / "index.md").read_text() == (
        "[a](files/benchmarks/results.md) [b](families/flux.md) `[c](d)`\n```\n[e](f)\n```\n"
        "one\n\n- two [Measure settings](tune.md#memory)\n"
    )
    listed = (tmp_path / "files" / "benchmarks" / "results.md").read_text()
    assert "(../../project/2026-11-24-cpu.md)" in listed
    assert (tmp_path / "project" / "2026-11-24-cpu.md").is_file()
    assert (tmp_path / "pictures" / "docs" / "report.png").is_file()


def test_nothing_is_fetched_from_elsewhere(pages: dict[str, Page]) -> None:
    loads = {link for page in pages.values() for link in page.loads}
    assert [link for link in loads if urlsplit(link).netloc] == []


def test_the_address_of_every_finding_is_one_anchor(pages: dict[str, Page]) -> None:
    for rule in RULES.values():
        file, _, anchor = rule.address.partition("#")
        page = pages[address(file)]
        assert page.anchors[anchor] == 1, rule.address
        assert rule.title.replace("`", "") in page.text


def test_there_is_a_page_for_every_adapter_with_all_its_classes(pages: dict[str, Page]) -> None:
    entries = adapters()
    assert {path.stem for path in (ROOT / "adapters").glob("*.yaml")} - {"defaults"} <= {
        entry.path.stem for entry in entries
    }
    proofs = read_proofs((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    exact = set()
    for entry in entries:
        page = pages[address(path_of(entry))]
        assert entry.text.strip() in page.text, entry.name
        for engine in engines_of(entry):
            spec = entry.spec_for(engine)
            for name in spec.pipelines:
                assert name in page.text
                if (engine, name) in proofs and proofs[engine, name].exact == "yes":
                    exact.add((engine, name))
            if spec.refuse:
                assert spec.refuse[1:] in page.text
            else:
                lists = [x for t in spec.transformers.values() for x in t.blocks or ()]
                assert all(name in page.text for name in lists)
    (said,) = re.findall(
        r"; (\d+) of them proved exact", (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    )
    assert len(exact) == int(said)


def test_what_an_engine_never_caches_is_not_shown_as_a_command(pages: dict[str, Page]) -> None:
    told = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert "vLLM-Omni allows Boogu-Image and Anima no cache at all" in told
    for engine, name in IN_HAND:
        assert engine == "vllm_omni"
        assert "--cache-backend" not in pages[address(f"adapters/{name}.yaml")].text
    assert "--cache-backend" in pages[address("adapters/flux.yaml")].text


@pytest.mark.parametrize("name", MARKDOWN)
def test_a_page_is_what_github_shows(name: str, pages: dict[str, Page]) -> None:
    """As many headings, items, rows and blocks of code as CommonMark sees in it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    wanted = read(MarkdownIt("commonmark").enable("table").render(text), article=False)
    found = pages[address(name)].parts
    assert {part: found[part] for part in ELEMENTS} == {
        part: wanted.parts[part] for part in ELEMENTS
    }


def test_the_search_finds_families_rules_and_settings() -> None:
    text = (SITE / "search.json").read_text(encoding="utf-8")
    found = json.dumps(json.loads(text))
    for word in ("FluxKontextPipeline", "residual_diff_threshold", "CY205", "step_split"):
        assert word in found


def test_the_quickstart_shows_pictures(pages: dict[str, Page]) -> None:
    page = pages[address("docs/quickstart.ipynb")]
    assert page.parts["img"] >= 2
    assert "cachedit_yaml.enable" in page.text
    assert Path(SITE / "quickstart" / "1.png").read_bytes().startswith(b"\x89PNG")
