"""Which pipelines of the installed diffusers hold a transformer that denoises: by inspection.

Modular pipelines, too: their blocks say which components they expect.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import torch

from cachedit_yaml.engines.diffusers import modular
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
        found = tuple(
            (part, of.__name__)
            for part, of in components(cls)
            if (_TRANSFORMER.search(of.__name__) or "Prior" in of.__name__)
            and not _OTHER_NAMES.search(of.__name__)
        )
        if found:
            yield Denoiser(name, found)


def components(cls: Any) -> Iterator[tuple[str, type]]:
    """The components of a pipeline's class that are models: names, each with a class it may have.

    Of a Modular pipeline those of its own blocks; of any other what its constructor says.
    """
    import diffusers

    if not inspect.isclass(cls):
        return
    if modular.is_modular(cls):
        yield from modular.components(cls)
    elif issubclass(cls, diffusers.DiffusionPipeline):
        for name, parameter in inspect.signature(cls).parameters.items():
            annotation = parameter.annotation
            text = annotation.__name__ if inspect.isclass(annotation) else str(annotation)
            for word in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)):
                part = _attribute(diffusers, word)
                if inspect.isclass(part) and issubclass(part, torch.nn.Module):
                    yield name, part


def _attribute(module: Any, name: str) -> Any:
    """An attribute of a package that imports lazily, or None where that fails."""
    try:
        return getattr(module, name, None)
    except Exception:  # a class whose own needs are not installed
        return None
