"""A notebook as a page: its text, its code, and what it printed and drew when it last ran."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def markdown(text: str, folder: Path) -> str:
    """A notebook as Markdown.

    Args:
        text: the notebook, JSON of nbformat 4.
        folder: its pictures are written into it.
    """
    return "\n".join(_parts(json.loads(text)["cells"], folder))


def _parts(cells: list[Mapping[str, Any]], folder: Path) -> Iterator[str]:
    number = 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{source}\n"
            continue
        yield f"```python\n{source}\n```\n"
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                number += 1
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}.png").write_bytes(base64.b64decode(data["image/png"]))
                yield f"![What the code above drew]({folder.name}/{number}.png)\n"
            else:
                yield "```text\n" + "".join(data["text/plain"]).rstrip("\n") + "\n```\n"
