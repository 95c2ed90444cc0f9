"""A page of the site as the tests see it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

#: What a page must keep of what was written.
PARTS = ("h1", "h2", "h3", "h4", "li", "table", "tr", "pre", "img", "strong")


@dataclass
class Page:
    """What a page leads to, what it loads, and what it is made of.

    Attributes:
        links: where it leads.
        loads: what a browser fetches for it.
        anchors: where in it others may lead.
        parts: how many elements of each kind its article has.
        text: of its article.
    """

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    text: str = ""


class _Parser(HTMLParser):
    def __init__(self, article: bool) -> None:
        super().__init__()
        self.page, self.inside = Page(), not article

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.page.anchors[found["id"]] += 1
        if tag == "a" and "href" in found:
            self.page.links.append(found["href"])
        elif tag != "link" or found.get("rel") not in ("canonical", "prev", "next"):
            self.page.loads += [found[name] for name in ("href", "src") if name in found]
        if tag == "article":
            self.inside = True
        elif self.inside and tag in PARTS:
            self.page.parts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "article"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.page.text += data


def read(text: str, *, article: bool = True) -> Page:
    """Read a page, or a fragment that is all article."""
    parser = _Parser(article)
    parser.feed(text)
    return parser.page


def read_file(path: Path) -> Page:
    """Read a page of the site."""
    return read(path.read_text(encoding="utf-8"))
