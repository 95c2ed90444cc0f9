"""Which pipelines of the installed diffusers hold a transformer that denoises: by inspection."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import torch

from cachedit_yaml.probe.coverage import Denoiser

#: Components of transformer classes that encode or control instead of denoising.
_OTHER_NAMES: Final = re.compile(r"ControlNet|Vae|VAE|Connector|Encoder|Projection|Adapter")
_TRANSFORMER: Final = re.compile(r"Transformer|DiT|U[Vv]i[tT]")


def denoisers() -> Iterator[Denoiser]:
    """Every public pipeline class of diffusers whose constructor takes a transformer."""
    import diffusers

    for name in sorted(dir(diffusers)):
        if "Pipeline" not in name or name.startswith("_"):
            continue
        cls = _attribute(diffusers, name)
        if not (inspect.isclass(cls) and issubclass(cls, diffusers.DiffusionPipeline)):
            continue
        found = tuple(_transformers(diffusers, cls))
        if found:
            yield Denoiser(name, found)


def _transformers(diffusers: Any, cls: type) -> Iterator[tuple[str, str]]:
    for name, parameter in inspect.signature(cls).parameters.items():
        annotation = parameter.annotation
        text = annotation.__name__ if inspect.isclass(annotation) else str(annotation)
        for word in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)):
            if not _TRANSFORMER.search(word) and "Prior" not in word:
                continue
            part = _attribute(diffusers, word)
            if _OTHER_NAMES.search(word) or not inspect.isclass(part):
                continue
            if issubclass(part, torch.nn.Module):
                yield name, word


def _attribute(module: Any, name: str) -> Any:
    """An attribute of a package that imports lazily, or None where that fails."""
    try:
        return getattr(module, name, None)
    except Exception:  # a class whose own needs are not installed
        return None
