"""Two processes that work on one forward decide alike; each works in its own way otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.work import decisions, needs_ranks, ranks, ulysses


def cached(found: dict[str, Any]) -> dict[str, list[int]]:
    return {name: row["cached"] for name, row in found.items()}


@needs_ranks
def test_ranks_that_share_a_forward_decide_alike(tmp_path: Path) -> None:
    """Their differences lie on two sides of the threshold; what counts is the mean."""
    one, two = ranks(decisions, 2, tmp_path)
    # Ranks with prompts of their own decide for themselves; so this test can fail.
    assert cached(one["unmarked"]) != cached(two["unmarked"])
    assert one["marked"] == two["marked"]


@needs_ranks
@pytest.mark.parametrize("name", ["FluxPipeline", "WanPipeline"])
def test_context_parallelism_of_cache_dit(tmp_path: Path, name: str) -> None:
    one, two = ranks(lambda: ulysses(name, tmp_path), 2, tmp_path)
    for case in ("no hit", "hits"):
        assert cached(one[case]["together"]) == cached(two[case]["together"])
        assert cached(one[case]["together"]) == cached(one[case]["alone"])
        assert any(cached(one[case]["together"]).values()) == (case == "hits")
        for rank in (one, two):
            assert rank[case]["error"] < 1e-5
            assert rank[case]["finite"]
        assert cached(one[case]["after"]) == cached(two[case]["after"])


def test_a_forward_that_a_wrapper_hides() -> None:
    """cache-dit's hooks for context parallelism show ``(module, *args, **kwargs)``."""
    import functools

    from cachedit_yaml.compiler.signature import plain_forward

    class Block(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
            return hidden_states + temb

    def hides(module: Any, *args: Any, **kwargs: Any) -> Any:
        return type(module).forward(module, *args, **kwargs)

    def names_some(hidden_states: torch.Tensor, *args: Any) -> Any: ...

    block = Block()
    assert plain_forward(block) == block.forward
    block.forward = functools.update_wrapper(functools.partial(hides, block), hides)
    assert plain_forward(block) == Block.forward.__get__(block)
    block.forward = names_some
    assert plain_forward(block) is names_some
