"""SGLang's own transformers, cached by its own stage with our adapters, and by its own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Module

import cachedit_yaml
from cachedit_yaml.probe.recipe import GUIDED, PLAIN
from tests.engines.apart import apart
from tests.engines.sglang.models import MODELS, STEPS
from tests.engines.sglang.stage import begin, end, stage

pytestmark = pytest.mark.engines

NO_HIT = {"max_warmup_steps": STEPS}
#: Two steps run, all others hit.
HITS = {
    "max_warmup_steps": 2,
    "max_continuous_cached_steps": STEPS,
    "scm_compute_bins": [2],
    "scm_cache_bins": [STEPS - 2],
    "scm_policy": "static",
}


def handle(transformer: torch.nn.Module) -> Any:
    return cachedit_yaml.handle_of(transformer)


@contextmanager
def counting(lists: dict[str, list[torch.nn.Module]]) -> Iterator[Counter[tuple[str, int, str]]]:
    """Count how often what each block holds is called, which is what a skipped block saves."""
    calls: Counter[tuple[str, int, str]] = Counter()
    hooks = []
    for name, blocks in lists.items():
        for index, block in enumerate(blocks):
            # One of the engine's holds a layer of another module, by plain reference.
            held = {part: item for part, item in vars(block).items() if isinstance(item, Module)}
            for part, module in {**dict(block.named_modules()), **held}.items():
                if part:
                    key = (name, index, part)
                    hooks.append(
                        module.register_forward_hook(lambda *_, key=key: calls.update([key]))
                    )
    yield calls
    for hook in hooks:
        hook.remove()


#: Each model with one forward a step and with two, as its probe has the cases.
BRANCHES = [
    (name, model.recipe.branches(case))
    for name, model in MODELS.items()
    for case in model.recipe.cases
    if case in (PLAIN, GUIDED)
]


@pytest.mark.parametrize(("name", "branches"), BRANCHES)
def test_exact_with_no_hit_and_f_plus_b_blocks_on_a_hit(name: str, branches: int) -> None:
    model = MODELS[name].build()
    lists = MODELS[name].lists(model)
    with counting(lists) as whole:
        plain = MODELS[name].generate(model, branches)
    owner = stage(model)
    begin(owner, STEPS, NO_HIT, guided=branches == 2)
    assert handle(model).plan.spec.engine == "sglang"
    assert torch.equal(MODELS[name].generate(model, branches), plain)
    leader = {item.path: item.follows for item in handle(model).plan.transformers[0].lists}
    for last in (0, 1):
        for _ in range(2):  # the second request finds the cache on, and begins anew
            begin(owner, STEPS, {**HITS, "Bn_compute_blocks": last}, guided=branches == 2)
            with counting(lists) as calls:
                cached = MODELS[name].generate(model, branches)
            assert torch.isfinite(cached).all()
            assert not torch.equal(cached, plain)
            assert len(whole) >= sum(len(blocks) for blocks in lists.values())
            for (path, index, part), number in whole.items():
                # One decision a forward: the first block of the first list, the last of the last.
                leads, ends = leader[path] is None, path not in leader.values()
                always = (leads and index < 1) or (ends and index >= len(lists[path]) - last)
                expected = number if always else number * 2 // STEPS
                assert calls[path, index, part] == expected, (path, index, part)
    end(owner)
    assert handle(model) is None
    assert torch.equal(MODELS[name].generate(model, branches), plain)


def test_auto_drafts_an_adapter_for_a_class_that_none_names() -> None:
    """The first request runs uncached; from the second on everything is as with an adapter."""
    model = MODELS["wan"].build()
    plain = MODELS["wan"].generate(model)
    cls = type(model)
    model.__class__ = type("UnknownTransformer", (cls,), {"forward": cls.forward})
    owner = stage(model)
    asked = {**HITS, "adapter": "auto"}
    begin(owner, STEPS, asked)
    assert torch.equal(MODELS["wan"].generate(model), plain)
    for _ in range(2):
        begin(owner, STEPS, asked)
        cached = MODELS["wan"].generate(model)
        assert not torch.equal(cached, plain)
        assert handle(model).plan.spec.name == "UnknownTransformer"
        assert handle(model).stats().num_steps == STEPS
        assert handle(model).stats().hit_ratio > 0
    # Other settings: the engine switches off and on, and the draft is known.
    begin(owner, STEPS, {**NO_HIT, "adapter": "auto"})
    assert torch.equal(MODELS["wan"].generate(model), plain)
    assert handle(model).plan.spec.name == "UnknownTransformer"
    end(owner)
    assert handle(model) is None
    assert torch.equal(MODELS["wan"].generate(model), plain)


def test_auto_takes_the_adapter_that_there_is() -> None:
    model = MODELS["wan"].build()
    owner = stage(model)
    begin(owner, STEPS, {**HITS, "adapter": "auto"})
    assert handle(model).plan.spec.name == "wan"
    end(owner)


#: What SGLang's own cache code gives beside ours, without guidance and with it. It differs where
#: cache-dit's table declares guidance the other way round (two forwards are counted as one step,
#: or share a buffer), and for FLUX.1, whose two lists it takes for one.
ENGINE: dict[str, tuple[str | None, str | None]] = {
    "flux": ("other", "other"),
    "wan": ("other", "equal"),
    "qwen-image": ("other", "equal"),
    "z-image": ("equal", "other"),
    "glm-image": ("other", "equal"),
    "flux2": ("equal", "other"),
    # Neither SGLang nor cache-dit fits these classes.
    "hunyuan-video": ("AttributeError", "AttributeError"),
    "ideogram-4": ("ValueError", "ValueError"),
    "krea-2": ("equal", "equal"),
    "ernie-image": ("equal", "equal"),
    "anima": ("equal", "equal"),
    "longcat-image": ("other", "equal"),
    "stable-diffusion-3": ("ValueError", "ValueError"),
    "kandinsky6": ("equal", "equal"),
    "qwen-image-2.1": ("equal", "equal"),
    "ming-image": ("equal", "equal"),
    "sana": ("equal", "other"),
    "sana-video": ("equal", "other"),
    "flux3": ("equal", None),
    "minimax-h3": ("equal", "equal"),
    # Its own stage adds the class to SGLang's table.
    "hunyuan-image-3": (None, "ValueError"),
    # Not in its table either.
    "joyimage-edit": ("ValueError", "ValueError"),
    "ltx-2": ("equal", "other"),
    "lingbot-video": ("ValueError", "ValueError"),
    "kandinsky6-sr": ("ValueError", "ValueError"),
    "llada-image": ("ValueError", "ValueError"),
    "hunyuan3d-2": ("ValueError", "ValueError"),
    "moss-image": ("ValueError", "ValueError"),
}


@pytest.mark.parametrize(("name", "branches"), BRANCHES)
def test_beside_the_engines_own(name: str, branches: int, tmp_path: Path) -> None:
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline

    # cache-dit leaves this on its class, and refuses the next transformer.
    if "_is_cached" in vars(FakeDiffusionPipeline):
        del FakeDiffusionPipeline._is_cached
    model, guided = MODELS[name].build(), branches == 2
    owner = stage(model)
    lists = apart(name, tmp_path)
    begin(owner, STEPS, HITS if lists is None else {**HITS, "adapter": lists}, guided=guided)
    ours = MODELS[name].generate(model, branches)
    end(owner)
    try:
        begin(owner, STEPS, {**HITS, "adapter": "engine"}, guided=guided)
    except Exception as error:
        found = type(error).__name__
    else:
        assert handle(model) is None
        found = "equal" if torch.equal(MODELS[name].generate(model, branches), ours) else "other"
        end(owner)
    assert found == ENGINE[name][guided]
