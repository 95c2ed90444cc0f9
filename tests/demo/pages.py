"""Reads a ``report.html`` as a browser would, and holds what every one of them must keep."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html.parser import HTMLParser

#: Elements without an end.
VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}
#: Attributes that fetch something.
FETCH = {"src", "href", "xlink:href", "srcset", "data", "poster", "action"}


@dataclass
class Page:
    """What a page holds: cells of its tables, pictures as files, points of its chart, its text."""

    rows: list[list[str]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    text: str = ""

    @property
    def charts(self) -> int:
        return self.elements.count("svg")


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.page.elements.append(tag)
        for name, value in found.items():
            assert not name.startswith("on"), f"{name} of {tag}"
            if name in FETCH:
                kind, _, data = value.partition(",")
                assert kind == "data:image/png;base64", value[:80]
                self.page.pictures.append(base64.b64decode(data, validate=True))
        if "data-point" in found:
            assert found["tabindex"] == "0"
            self.page.points.append(found["data-point"])
        if tag == "tr":
            self.page.rows.append([])
        elif tag in ("td", "th"):
            self.page.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.page.text += data
        if self.open and self.open[-1] == "td":
            self.page.rows[-1][-1] += data


def read(text: str) -> Page:
    """Parse a page: what is opened is closed, and nothing is fetched but what it holds."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert not parser.open
    assert text.startswith("<!DOCTYPE html>")
    assert "url(" not in text
    assert "@import" not in text
    page = parser.page
    # The rows of names are no rows of numbers.
    page.rows = [row for row in page.rows if any(row)]
    page.points.sort(key=int)
    return page
