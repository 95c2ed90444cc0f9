"""The small pipelines that other tests run: whole, deterministic, and through every block."""

from __future__ import annotations

import diffusers
import pytest
import torch

from tests import tiny

STEPS = 2


def test_names() -> None:
    assert len(tiny.names()) >= (53 if diffusers.__version__ == "0.42.1" else 25)
    assert len(set(tiny.names())) == len(tiny.names())


def test_build_twice() -> None:
    results = [tiny.run(tiny.build("FluxControlNetPipeline"), steps=STEPS) for _ in range(2)]
    assert torch.equal(*results)
    other = tiny.run(tiny.build("FluxControlNetPipeline", seed=1), steps=STEPS)
    assert not torch.equal(results[0], other)


@pytest.mark.parametrize("name", tiny.transformers())
def test_transformers(name: str) -> None:
    """The same for a seed; and other weights in any one block change the output."""
    model, same, other = (tiny.transformer(name, seed=seed) for seed in (0, 0, 1))
    theirs, others = same.state_dict(), dict(other.named_parameters())
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, theirs[key]), key
        assert not torch.equal(parameter, others[key]), key
    inputs = tiny.forward_kwargs(model)
    whole = tiny.call(model, inputs)
    assert whole.isfinite().all()
    assert torch.equal(tiny.call(same, inputs), whole)
    for list_name, blocks in model.named_children():
        if not isinstance(blocks, torch.nn.ModuleList):
            continue
        for index, block in enumerate(blocks):
            kept = {key: value.clone() for key, value in block.state_dict().items()}
            tiny.randomise(block, "other")
            changed = tiny.call(model, inputs)
            block.load_state_dict(kept)
            difference = (changed - whole).abs().max() / whole.abs().max()
            assert difference > 1e-3, (list_name, index, difference)


def test_overrides() -> None:
    pipe = tiny.build("FluxPipeline", transformer={"num_layers": 6})
    assert len(pipe.transformer.transformer_blocks) == 6
    assert len(pipe.transformer.single_transformer_blocks) == 4
    assert tiny.run(pipe, steps=STEPS).isfinite().all()
    same = tiny.build("FluxPipeline").transformer.state_dict()
    more = pipe.transformer.state_dict()
    assert all(torch.equal(same[key], more[key]) for key in same)
    model = tiny.transformer("FluxTransformer2DModel")
    assert tiny.build("FluxPipeline", transformer=model).transformer is model
    pipe = tiny.build("WanPipeline", two=True, boundary_ratio=0.5)
    assert pipe.config.boundary_ratio == 0.5
    assert pipe.transformer_2 is not None
