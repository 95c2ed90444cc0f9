"""Compiled blocks that run on a part of a batch: how many graphs are made for 1 to 11 rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from cachedit_yaml.compiler.compile import compile_adapter
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.runtime.choice import Choice
from cachedit_yaml.runtime.compiled import twin
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.stats import Stats
from cachedit_yaml.runtime.steps import together
from tests import tiny
from tests.runtime.models import small, start
from tests.runtime.test_batch import run

#: More than the graphs that the compiler makes of one function before it gives up.
ROWS = 11
#: How many rows are computed, step by step.
COMPUTED = (ROWS, 7, 3, 1, 10, 2, 9, 4, 5, 6, 8, ROWS, 1)
#: No length is a number of rows.
TOKENS, WORDS = 35, 19
HOW: dict[str, tuple[bool, dict[str, Any]]] = {
    "as diffusers does": (False, {"fullgraph": True}),
    "in inference mode": (True, {}),
    "as vLLM-Omni does": (True, {"dynamic": True}),
    "dynamic": (False, {"dynamic": True}),
    "static": (True, {"dynamic": False}),
    "static, whole graphs": (False, {"dynamic": False, "fullgraph": True}),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def inputs(rows: int) -> dict[str, Any]:
    """A batch of Qwen-Image's small transformer, each row another."""

    def noise(*size: int) -> torch.Tensor:
        return torch.randn(rows, *size, generator=torch.Generator().manual_seed(rows))

    return {
        "hidden_states": noise(TOKENS, 16),
        "encoder_hidden_states": noise(WORDS, 24),
        "encoder_hidden_states_mask": torch.ones(rows, WORDS),
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [[(1, 5, 7)]] * rows,
    }


def serve(
    model: Any, handle: Handle, *, inference: bool = False, refused: list[str | None] | None = None
) -> tuple[torch.Tensor, Stats]:
    """Steps in which so many rows are computed; the last output, and what was done for the first.

    Args:
        model: the transformer.
        handle: its handle.
        inference: in inference mode, as vLLM-Omni runs.
        refused: gets why each step could not be shared; that it could is asserted unless given.
    """
    parts = []
    for row in range(ROWS):
        mask = [int(row < count) for count in COMPUTED]
        settings = {
            "Fn_compute_blocks": 1, "max_warmup_steps": 0, "max_continuous_cached_steps": -1,
            "scm": {"mask": mask, "policy": "static"},
        }  # fmt: skip
        wish = parse_settings(settings)
        plan = compile_adapter(handle.plan.spec, None, transformer=model, cache_config=wish)
        handle.choice = Choice.of(plan)
        parts.append((handle.stepwise(len(COMPUTED)), 1))
    batch = inputs(ROWS)
    with torch.inference_mode() if inference else torch.no_grad():
        for _ in COMPUTED:
            with together(parts) as shared:
                output = model(**batch)[0]
            assert refused is not None or shared.refused is None
            if refused is not None:
                refused.append(shared.refused)
    return output, handle.stats_of(parts[-1][0].generation)


def transformer() -> Any:
    """Qwen-Image's, whose blocks take views, the same tensor twice, and tensors of no batch."""
    model = tiny.transformer("QwenImageTransformer2DModel", num_layers=3)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("how", HOW)
def test_no_graph_for_each_number_of_rows(how: str) -> None:
    """One for the whole batch, one for any part of it, and one for a single row."""
    model, (inference, options) = transformer(), HOW[how]
    with start(model, None) as handle:
        wanted, _ = serve(model, handle, inference=inference)
    counter = CompileCounter()
    model.compile_repeated_blocks(backend=counter, **options)
    with start(model, None) as handle:
        made, stats = serve(model, handle, inference=inference)
    assert torch.equal(made, wanted)
    (row,) = stats.branches
    assert row.cached_steps == tuple(i for i, count in enumerate(COMPUTED) if count < ROWS)
    assert counter.frame_count <= 3


def test_where_the_compiler_gives_up_no_request_fails() -> None:
    """A graph for the batch and one for a part of it, and none is left for a single row."""
    model = transformer()
    model.compile_repeated_blocks(backend="eager", dynamic=False, fullgraph=True)
    with torch._dynamo.config.patch(recompile_limit=2), start(model, None) as handle:
        with torch.no_grad():
            wanted = model(**inputs(ROWS))[0]
        refused: list[str | None] = []
        made, _ = serve(model, handle, refused=refused)
    first = COMPUTED.index(1)
    assert refused[:first] == [None] * first
    assert refused[first] == "the compiler gave up (FailOnRecompileLimitHit)"
    assert torch.equal(made, wanted)  # the last step is run for all, after it was refused


@pytest.mark.parametrize("limit", [8, 2])
def test_samples_of_one_call(limit: int) -> None:
    """As those of requests; and where no graph is left, they are computed together."""
    model, samples = small().double(), [0, 3, 1, 4]
    wanted, stats = run(model, samples)
    assert len({*stats.branches[0].partly_cached.values()}) > 1
    for block in model.blocks:
        block.compile(backend="eager", dynamic=False, fullgraph=True)
    with torch._dynamo.config.patch(recompile_limit=limit):
        made, own = run(model, samples)
    if limit == 8:
        assert torch.equal(made, wanted)
        assert own.branches == stats.branches
    else:
        assert "the compiler gave up (FailOnRecompileLimitHit)" in str(own.warnings)


@pytest.mark.parametrize("inference", [False, True])
def test_copies_are_like_what_they_are_copied_from(inference: bool) -> None:
    with torch.inference_mode(inference):
        whole = torch.arange(48.0).view(6, 8)
        torch._dynamo.maybe_mark_dynamic(whole, 0)
        given = [
            whole, whole[1:3], whole.t(), whole[::2, 3:], whole[0, 0], whole[2:2],
            torch.ones(3, 1).expand(3, 4), torch.nn.Parameter(torch.ones(2)),
            torch.eye(2).to_sparse(),
        ]  # fmt: skip
        for tensor in given:
            made = twin(tensor)
            assert torch.equal(made.to_dense(), tensor.to_dense())
            assert made.is_inference() == tensor.is_inference()
            assert vars(made) == vars(tensor)
            if type(tensor) is torch.Tensor and not tensor.is_sparse and tensor.numel():
                assert made.storage_offset() == tensor.storage_offset()
                assert made.stride() == tensor.stride()
                assert made.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()
                if not inference:
                    assert made._is_view() == tensor._is_view()
