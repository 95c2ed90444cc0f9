"""Which adapters serve the engine's pipelines without being asked to."""

from __future__ import annotations

from typing import Final

from cachedit_yaml.registry.registry import Entry

NAME: Final = "vllm_omni"


def is_ours(entry: Entry) -> bool:
    """Whether an adapter may serve a pipeline that nobody asked it to.

    A shipped adapter for diffusers' class of the same name was not tried on the engine's class; it
    serves it where ``adapter`` names it.
    """
    return NAME in entry.engines or (entry.home and entry.kind != "shipped")
