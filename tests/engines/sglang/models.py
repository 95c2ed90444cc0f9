"""Every small model, by the name of its adapter."""

from __future__ import annotations

from tests.engines.sglang import images, others
from tests.engines.sglang.model import STEPS, Model

__all__ = ["MODELS", "STEPS"]

MODELS: dict[str, Model] = {**images.MODELS, **others.MODELS}
