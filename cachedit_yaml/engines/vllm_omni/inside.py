"""What an engine makes by itself: made small, cast, and put in the place of its own.

Some modules of an engine take their size from no config. A part whose class is given by its whole
path replaces one in the pipeline that was made, before the weights are filled.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.classes import find_part
from cachedit_yaml.probe.values import Maker


def is_inside(part: Part) -> bool:
    """Whether it is nothing to load, but changes what the engine makes by itself."""
    if part.part:
        # With a folder, it lies in the checkpoint like any other.
        return part.part.startswith("vllm_omni.") and part.folder is None
    return part.dtype is not None


def make_inside(config: Any, part: Part) -> torch.nn.Module:
    """Make a module of the engine.

    Args:
        config: the engine's; it takes a transformer's config from there.
        part: names the class, by its whole path, and its arguments.
    """
    from vllm_omni.diffusion.data import TransformerConfig

    cls = find_part(part.part or "")
    # A config may hold objects of the engine's.
    given: dict[str, Any] = Maker({}, 0).make(dict(part.config or {}), ("config",))
    names = inspect.signature(cls).parameters
    if "od_config" in names:
        config.set_tf_model_config(TransformerConfig.from_dict(given))
        given = {name: value for name, value in given.items() if name in names}
        given["od_config"] = config
    made: torch.nn.Module = cls(**given)
    return made


def put_inside(model: torch.nn.Module, config: Any, parts: Mapping[str, Part | None]) -> None:
    """Replace and cast modules of a pipeline as parts say it.

    Args:
        model: the pipeline.
        config: the engine's.
        parts: by their paths from the pipeline; others than those of the engine do nothing.
    """
    for path, part in parts.items():
        if part is None or not is_inside(part):
            continue
        if part.part:
            holder, _, name = path.rpartition(".")
            setattr(model.get_submodule(holder), name, make_inside(config, part))
        if part.dtype:
            model.get_submodule(path).to(getattr(torch, part.dtype))


_FILLING: Final = (
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    init.uniform_,
    init.normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
)


class Untouched(TorchFunctionMode):
    """Leaves new weights as they lie in memory.

    They are filled later, and large ones are replaced before the system has to find room for them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, unless it only fills new weights."""
        given = kwargs or {}
        if func in _FILLING:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
