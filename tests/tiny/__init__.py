"""Small whole diffusers pipelines with deterministic random weights, for tests on a CPU."""

from .common import randomise
from .factory import (
    NOT_BUILT,
    build,
    cases,
    forward_kwargs,
    names,
    run,
    transformer,
    transformers,
    variants,
)

__all__ = [
    "NOT_BUILT",
    "build",
    "cases",
    "forward_kwargs",
    "names",
    "randomise",
    "run",
    "transformer",
    "transformers",
    "variants",
]
