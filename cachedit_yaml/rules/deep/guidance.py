"""How often a pipeline calls its transformer in a step, read from the source."""

from __future__ import annotations

import ast
import functools
from typing import Any

from cachedit_yaml.compiler.source import source_of


@functools.cache
def call_sites(pipeline: Any, transformer: str) -> int | None:
    """How many places of the denoising loop call a transformer; None where none is found.

    Args:
        pipeline: the pipeline's class.
        transformer: its attribute.
    """
    tree = source_of(pipeline.__call__)
    if tree is None:
        return None
    wanted = f"self.{transformer}"
    names = {wanted}
    for node in ast.walk(tree):
        # `current_model = self.transformer`, as the pipelines with two transformers do.
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == wanted:
            names |= {ast.unparse(target) for target in node.targets}
    sites: set[int] = set()
    for loop in ast.walk(tree):
        if isinstance(loop, (ast.For, ast.While)):
            sites |= {
                node.lineno for node in ast.walk(loop)
                if isinstance(node, ast.Call) and ast.unparse(node.func) in names
            }  # fmt: skip
    return len(sites) or None
