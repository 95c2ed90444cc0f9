"""Adapters in which each block list decides for itself, as the engines' own code has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: A pipeline of each adapter in which the second list of the transformer follows the first.
PIPELINES: Final = {"flux": "FluxPipeline", "longcat-image": "LongCatImagePipeline"}


def apart(adapter: str, folder: Path) -> str | None:
    """A file that extends a shipped adapter; None where its lists decide alone anyway."""
    pipeline = PIPELINES.get(adapter)
    if pipeline is None:
        return None
    path = folder / f"{adapter}-apart.yaml"
    path.write_text(
        f"schema: 1\nextends: {adapter}\npipelines: [{pipeline}]\n"
        "transformers: {transformer: {blocks: {single_transformer_blocks: {follows: null}}}}\n"
    )
    return str(path)
