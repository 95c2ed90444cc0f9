"""Find the transformers of an adapter on a live pipeline."""

from __future__ import annotations

from typing import Any

import torch

from cachedit_yaml.compiler.matching import class_matches, classes_of
from cachedit_yaml.compiler.paths import MISSING, explain_missing, follow
from cachedit_yaml.language.spec import AdapterSpec, Transformer


def find_transformer(
    pipeline: Any, path: str, declared: Transformer
) -> torch.nn.Module | str | None:
    """The transformer that an adapter names.

    Args:
        pipeline: the pipeline.
        path: the transformer's path from it.
        declared: what the adapter says of it.

    Returns:
        The transformer; what is wrong with it, in one sentence; None where it is absent and may be.
    """
    found = follow(pipeline, path)
    if isinstance(found, torch.nn.Module):
        return found
    if found is not None and found is not MISSING:
        return f"pipeline.{path} is a {type(found).__name__}, not a torch.nn.Module"
    if declared.optional:
        return None
    if found is MISSING:
        return explain_missing(pipeline, path, "pipeline")
    if follow(pipeline, "load_components") is not MISSING:
        return f"pipeline.{path} is not loaded; call pipeline.load_components() first"
    return f"pipeline.{path} is None; if the pipeline may have none, write optional: true"


def is_transformer(spec: AdapterSpec, target: Any) -> bool:
    """Whether a target is a transformer itself: the pipelines of engines are modules too."""
    if not isinstance(target, torch.nn.Module):
        return False
    return not any(isinstance(follow(target, path), torch.nn.Module) for path in spec.transformers)


def path_for(spec: AdapterSpec, module: torch.nn.Module) -> str:
    """Which of the adapter's transformers a transformer without a pipeline is."""
    for path, declared in spec.transformers.items():
        if class_matches(module, classes_of(declared)):
            return path
    return next(iter(spec.transformers))
