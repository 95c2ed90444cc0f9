"""Every model: exact with no hit, and beside vLLM-Omni's own cache code with hits.

The own code counts forwards and has to be told how many make a step. Where that is right, cached
steps and pictures are equal to ours; :data:`CASES` says where it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.engines import checkpoints
from tests.engines.apart import apart
from tests.engines.engine import STEPS, Engine, shrink

pytestmark = pytest.mark.engines

NEGATIVE = {"prompt": "a red cat", "negative_prompt": "a blue dog"}
#: Hits wherever a step is like the one before.
DYNAMIC = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
#: Hits at steps 3, 5 and 6 of 8, whatever the differences.
STATIC = {"max_warmup_steps": 0, "scm_steps_mask_policy": "fast", "scm_steps_policy": "static"}


class Case(NamedTuple):
    """One kind of request.

    Attributes:
        model: the checkpoint.
        prompt: what the engine is asked for.
        request: sampling parameters.
        wrong: what vLLM-Omni's own cache code does wrong with it; None where it is right.
        branches: forwards of a step.
    """

    model: str
    prompt: Any
    request: dict[str, Any]
    wrong: str | None
    branches: int


FUSED = "it takes two forwards a step for two steps with one buffer"
PAIRED = "it takes one forward a step for half a step, and never hits"
CASES = {
    "flux": Case("flux", "a red cat", {}, None, 1),
    "flux-guided": Case("flux", NEGATIVE, {"true_cfg_scale": 4.0}, FUSED, 2),
    "qwen_image": Case("qwen_image", "a red cat", {}, PAIRED, 1),
    "qwen_image-guided": Case("qwen_image", NEGATIVE, {"true_cfg_scale": 4.0}, None, 2),
    "sd3": Case("sd3", "a red cat", {}, None, 1),
    "sd3-guided": Case("sd3", NEGATIVE, {"guidance_scale": 4.0}, FUSED, 2),
    "longcat_image": Case("longcat_image", "a red cat", {}, PAIRED, 1),
    "longcat_image-guided": Case("longcat_image", NEGATIVE, {"guidance_scale": 4.0}, None, 2),
    "wan": Case("wan", "a red cat", {"guidance_scale": 1.0}, PAIRED, 1),
    "wan-guided": Case("wan", "a red cat", {}, None, 2),
    "z_image": Case("z_image", "a red cat", {}, None, 1),
    "z_image-guided": Case("z_image", NEGATIVE, {"guidance_scale": 4.0}, None, 1),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Engines by model, one after the other: each model's cases are together."""
    folder = tmp_path_factory.mktemp("checkpoints")
    current: list[Engine] = []

    def close() -> None:
        while current:
            current.pop().close()

    def get(name: str) -> Engine:
        if not current or current[0].name != name:
            close()
            current.append(Engine.on(name, checkpoints.build(name, folder)))
        return current[0]

    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield get
        close()


def latents(engine: Engine, prompt: Any, request: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    picture = engine.generate(prompt, **request)
    (found,) = engine.latents
    return picture, found


@pytest.mark.parametrize("name", CASES)
def test_exact_with_no_hit_and_equal_to_the_engines_own_with_hits(
    engines: Any, name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    lists = apart(case.model.replace("_", "-"), tmp_path)
    fields = {} if lists is None else {"adapter": lists}
    engine = engines(case.model)
    picture, plain = latents(engine, case.prompt, case.request)

    with engine.cached(residual_diff_threshold=0.0, max_warmup_steps=0):
        untouched, same = latents(engine, case.prompt, case.request)
        assert torch.equal(same, plain)
        assert (untouched == picture).all()
        rows = engine.handle.stats().branches
        assert all(row.executed_steps == tuple(range(STEPS)) for row in rows)
        assert not any(row.cached_steps for row in rows)
        assert len({row.branch for row in rows}) == case.branches

    for config in (DYNAMIC, STATIC):
        with engine.cached(config, **fields):
            _, ours = latents(engine, case.prompt, case.request)
            ours_cached = engine.cached_steps()
            stats = engine.handle.stats()
        with engine.cached(config, adapter="engine"):
            _, own = latents(engine, case.prompt, case.request)
            own_cached = engine.cached_steps()
        if config is STATIC:
            assert all(row.cached_steps == (3, 5, 6) for row in stats.branches)
        # cache-dit's summary says what our statistics say.
        assert sorted(sum(len(part) for part in pair) for pair in ours_cached.values()) == sorted(
            sum(len(row.cached_steps) for row in stats.branches if row.blocks == blocks)
            for blocks in dict.fromkeys(row.blocks for row in stats.branches)
        )
        assert not torch.equal(ours, plain) or not any(row.cached_steps for row in stats.branches)
        if case.wrong is None:
            assert torch.equal(ours, own)
            # The own summary knows one list of a transformer only: the last.
            assert all(pair in ours_cached.values() for pair in own_cached.values())
        elif case.wrong is PAIRED:
            assert not any(cached or guided for cached, guided in own_cached.values())
            assert any(row.cached_steps for row in stats.branches)
        else:
            assert not torch.equal(ours, own)
            assert all(not guided for _, guided in own_cached.values())
            if config is STATIC:
                # The same steps cached, from the right buffers: nearer to the uncached result.
                assert (ours - plain).abs().mean() < (own - plain).abs().mean()

    _, again = latents(engine, case.prompt, case.request)
    assert torch.equal(again, plain)


def test_wan_with_two_transformers(engines: Any) -> None:
    """The hand-over is read off the schedule; vLLM-Omni's own code counts on another one."""
    engine = engines("wan_two")
    picture, plain = latents(engine, "a red cat", {})
    calls = {"transformer": 0, "transformer_2": 0}
    hooks = [
        getattr(engine.pipeline, name).register_forward_pre_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
        for name in calls
    ]
    with engine.cached(residual_diff_threshold=0.0, max_warmup_steps=0):
        untouched, same = latents(engine, "a red cat", {})
        assert torch.equal(same, plain)
        assert (untouched == picture).all()
    true = {name: count // 2 for name, count in calls.items()}
    assert true == {"transformer": 4, "transformer_2": 4}
    for request in ({}, {"guidance_scale": 1.0}, {"num_inference_steps": 12}):
        calls.update(transformer=0, transformer_2=0)
        with engine.cached(DYNAMIC):
            latents(engine, "a red cat", request)
            rows = engine.handle.stats().branches
            branches = {row.branch for row in rows}
            assert len(branches) == (1 if "guidance_scale" in request else 2)
            for row in rows:
                assert len(row.executed_steps) == calls[row.transformer] / len(branches)
                assert row.cached_steps
                assert min(row.cached_steps) >= 2
    for hook in hooks:
        hook.remove()
    _, again = latents(engine, "a red cat", {})
    assert torch.equal(again, plain)

    # The own code splits another schedule, without the shift of the flow: one step for the first
    # transformer, of which two forwards make one, and seven for the second.
    with engine.cached(DYNAMIC, adapter="engine"):
        latents(engine, "a red cat", {})
        contexts = engine.pipeline.transformer._context_manager._cached_context_manager.values()
        counted = {item.cache_config.num_inference_steps for item in contexts}
        assert counted == {1, 7}


def test_bagel(engines: Any) -> None:
    """Guidance on an interval, a state that is no tensor, and prompts that are no steps."""
    engine = engines("bagel")
    picture, plain = latents(engine, "a red cat", {})
    with engine.cached(residual_diff_threshold=0.0, max_warmup_steps=0):
        untouched, same = latents(engine, "a red cat", {})
        assert torch.equal(same, plain)
        assert (untouched == picture).all()
        (row,) = engine.handle.stats().branches
        # BAGEL executes one step less than it is asked for.
        assert row.executed_steps == tuple(range(STEPS - 1))
    for config in (DYNAMIC, STATIC):
        with engine.cached(config):
            _, ours = latents(engine, "a red cat", {})
            assert ours.isfinite().all()
            assert not torch.equal(ours, plain)
            (row,) = engine.handle.stats().branches
            assert row.cached_steps
            assert min(row.cached_steps) >= 2
    with engine.cached(DYNAMIC, adapter="engine"):
        latents(engine, "a red cat", {})
        ((cached, _),) = engine.cached_steps().values()
        # The own code takes the two prompts for its two steps of warm-up: its step 3 is step 1.
        assert cached[0] == 3
    _, again = latents(engine, "a red cat", {})
    assert torch.equal(again, plain)


def test_every_checkpoint_is_tried() -> None:
    assert {case.model for case in CASES.values()} | {"wan_two", "bagel"} == set(checkpoints.MODELS)
