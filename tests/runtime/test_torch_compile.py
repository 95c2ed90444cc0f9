"""torch.compile of the blocks: the hooks stay outside of the graphs, which are compiled once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from cachedit_yaml.errors import CompileError
from tests import tiny
from tests.runtime.models import ALWAYS, SmallPipeline, adapter, row, small, start


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("first", ["compile", "enable"])
def test_compiled_blocks(first: str, fullgraph: bool) -> None:
    pipe = SmallPipeline(small())
    plain = pipe(6)
    with start(pipe, **ALWAYS):
        wanted = pipe(6)
    counter = CompileCounter()

    def compile_blocks() -> None:
        for block in pipe.transformer.blocks:
            block.compile(backend=counter, fullgraph=fullgraph)

    if first == "compile":
        compile_blocks()
        assert torch.equal(pipe(6), plain)
    handle = start(pipe, **ALWAYS)
    if first == "enable":
        assert torch.equal(pipe(6), wanted)
        compile_blocks()
    for steps in (6, 6, 9, 6):
        result = pipe(steps)
        assert row(handle).cached_steps == tuple(range(1, steps))
    assert torch.equal(result, wanted)
    # One graph for all blocks, steps and generations.
    assert counter.frame_count == 1
    # Compiled anew while enabled: the hooks follow.
    for block in pipe.transformer.blocks:
        block.compile(backend=counter, fullgraph=fullgraph)
    assert torch.equal(pipe(6), wanted)
    assert row(handle).cached_steps == (1, 2, 3, 4, 5)
    handle.disable()
    assert torch.equal(pipe(6), plain)
    for block in pipe.transformer.blocks:
        assert "forward" not in vars(block)
        assert not hasattr(block._compiled_call_impl, "runner")


def test_blocks_that_are_compiled_modules() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS):
        wanted = pipe(6)
    for index, block in enumerate(pipe.transformer.blocks):
        pipe.transformer.blocks[index] = torch.compile(block, backend="eager", fullgraph=True)
    with start(pipe, **ALWAYS) as handle:
        assert torch.equal(pipe(6), wanted)
        assert row(handle).cached_steps == (1, 2, 3, 4, 5)


def test_a_transformer_that_is_compiled_as_a_whole() -> None:
    pipe = SmallPipeline(small())
    pipe.transformer.compile(backend="eager")
    with pytest.raises(CompileError, match=r"compiled as a whole.*compile_repeated_blocks"):
        start(pipe, **ALWAYS)
    pipe = SmallPipeline(torch.compile(small(), backend="eager"))
    with pytest.raises(CompileError, match=r"compiled as a whole.*compile_repeated_blocks"):
        start(pipe, adapter(), **ALWAYS)


def test_compiled_as_a_whole_while_enabled() -> None:
    """The graph is that of the plain forward: exact, without hits, and it is said."""
    pipe = SmallPipeline(small())
    plain = pipe(5)
    with start(pipe, **ALWAYS) as handle:
        pipe.transformer.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(pipe(5), plain)
        assert "no generation has run" in handle.stats().warnings[0]


@pytest.mark.parametrize("name", ["QwenImagePipeline", "FluxPipeline"])
def test_a_pipeline_whose_transformer_is_compiled_while_enabled(name: str) -> None:
    """Its forward is more than one graph: what is left to Python is the plain one too."""
    pipe = tiny.build(name)
    plain = tiny.run(pipe, "plain", steps=3)
    with start(pipe, None, **ALWAYS) as handle:
        tiny.run(pipe, "plain", steps=3)
        pipe.transformer = torch.compile(pipe.transformer, backend="eager")
        torch.testing.assert_close(tiny.run(pipe, "plain", steps=3), plain, rtol=1e-4, atol=1e-5)
        assert "wrapped by torch.compile" in str(handle.stats().warnings)
