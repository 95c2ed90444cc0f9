"""The notebooks of docs/ run, and print what stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


def printed(cells: list[Any]) -> Iterator[str]:
    """What cells printed, without their numbers: times and pictures differ between machines."""
    for cell in cells:
        for item in cell.get("outputs", ()):
            text = "".join(item.get("text", "picture" if "data" in item else item["output_type"]))
            yield re.sub(r"\d+(\.\d+)?", "0", text)


@pytest.mark.libraries
@pytest.mark.parametrize("name", ["quickstart", "add-a-model-live"])
def test_a_notebook_runs_and_prints_what_it_shows(name: str) -> None:
    from docs.site.run_notebooks import run

    path = DOCS / f"{name}.ipynb"
    kept = json.loads(path.read_text(encoding="utf-8"))
    shown = list(printed(kept["cells"]))
    assert len(shown) >= 3
    assert list(printed(run(path).cells)) == shown


def test_pictures_in_notebooks_are_small() -> None:
    texts = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.ipynb")]
    pictures = [p for text in texts for p in re.findall(r'"image/png": "([^"]+)"', text)]
    assert len(pictures) == 2
    assert sum(len(item) * 3 / 4 for item in pictures) < 300_000
    assert all("image/jpeg" not in text for text in texts)
