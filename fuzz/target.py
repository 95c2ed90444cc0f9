"""How each fuzz target runs: what an input may take, and how it is changed into others."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable

import atheris
import mutations

#: Processor time that an input may take.
SECONDS = float(os.environ.get("FUZZ_LIMIT", "2"))


def in_time(use: Callable[[bytes], None], data: bytes) -> None:
    """Use an input in no more processor time than anybody waits for."""
    before = time.perf_counter()
    use(data)
    if time.perf_counter() - before >= SECONDS:  # perhaps only for others, who ran meanwhile
        before = time.process_time()
        use(data)
        spent = time.process_time() - before
        assert spent < SECONDS, f"{spent:.1f} s of processor time for {len(data)} bytes"


def run(
    one_input: Callable[[bytes], None], shares: tuple[float, float], harm: tuple[float, ...]
) -> None:
    """Fuzz a target as the command line says.

    Args:
        one_input: does all that there is to do with an input.
        shares: how often an input is changed by what it says, and how often by its lines, each from
            0 to 1; else it is changed by its bytes.
        harm: what :func:`mutations.by_tree` may take for it.
    """

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        changed = mutations.mutate(data, max_size, seed, shares, harm)
        return bytes(atheris.Mutate(data, max_size)) if changed is None else changed

    gc.freeze()  # what the imports made stays
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()
