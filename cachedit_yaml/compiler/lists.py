"""Find a block list on a live transformer."""

from __future__ import annotations

import torch

from cachedit_yaml.compiler.matching import class_matches
from cachedit_yaml.compiler.paths import MISSING, explain_missing, follow
from cachedit_yaml.language.spec import BlockList


def find_list(
    module: torch.nn.Module, path: str, list_path: str, declared: BlockList
) -> torch.nn.ModuleList | str | None:
    """The list that an adapter names.

    Args:
        module: the transformer.
        path: its path from the pipeline, for messages.
        list_path: the list's path from the transformer.
        declared: what the adapter says of it.

    Returns:
        The list; what is wrong with it, in one sentence; None where it is absent and may be.
    """
    where = f"pipeline.{path}.{list_path}"
    found = follow(module, list_path)
    empty = isinstance(found, torch.nn.ModuleList) and not len(found)
    if found is MISSING or found is None or empty:
        if declared.optional:
            return None
        if found is MISSING:
            return explain_missing(module, list_path, f"pipeline.{path}")
        return f"{where} is empty; if that may be, write optional: true"
    if not isinstance(found, torch.nn.ModuleList):
        return f"{where} is a {type(found).__name__}; a block list is a torch.nn.ModuleList"
    if len({id(block) for block in found}) != len(found):
        return f"{where} holds the same block more than once"
    for index, block in enumerate(found if declared.block_class is not None else ()):
        if not class_matches(block, declared.block_class or ()):
            return (
                f"{where}[{index}] is a {type(block).__name__}; the adapter is for "
                f"{', '.join(declared.block_class or ())}"
            )
    return found
