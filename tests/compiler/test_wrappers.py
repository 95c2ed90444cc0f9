"""A wrapped transformer is cached inside, or named as that, and what to do about it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel

from cachedit_yaml import AdapterNotFoundError, CompileError, compile_adapter, enable
from cachedit_yaml.compiler.wrappers import explain_wrapper, unwrap
from tests.runtime.models import ALWAYS, NEVER, SmallPipeline, adapter, row, small

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:FSDP"
)
SPEC = adapter(cache={"Fn_compute_blocks": 1}, transformer={"class": ["Small"]})


@pytest.fixture(scope="module")
def _ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path_factory.mktemp("ranks") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def peft(module: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)]
    return get_peft_model(module, LoraConfig(target_modules=targets[:1]))


#: Nothing inside of these can be left out.
CLOSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "torch.compile": (lambda x: torch.compile(x, backend="eager"), "._orig_mod"),
    "FSDP": (
        lambda x: FullyShardedDataParallel(x, device_id=torch.device("cpu")),
        "enable caching before it is wrapped",
    ),
}
#: These do no more than call what is inside.
OPEN: dict[str, Callable[[Any], Any]] = {
    "PEFT": peft,
    "DDP": lambda x: torch.nn.parallel.DistributedDataParallel(x),
    "DataParallel": lambda x: torch.nn.DataParallel(x),
    "AveragedModel": lambda x: torch.optim.swa_utils.AveragedModel(x),
    "DDP of PEFT": lambda x: torch.nn.parallel.DistributedDataParallel(peft(x)),
}


@pytest.mark.usefixtures("_ranks")
@pytest.mark.parametrize("name", CLOSED)
def test_refused(name: str) -> None:
    wrap, advice = CLOSED[name]
    module = wrap(small().requires_grad_(True))
    says = f"transformer is a Small wrapped by .*{name}"
    with pytest.raises(AdapterNotFoundError, match=f"^{says}") as found:
        enable(module)
    assert advice in str(found.value)
    with pytest.raises(CompileError, match=f"\n  - {says}"):
        enable(module, SPEC)
    with pytest.raises(CompileError, match=rf"\n  - pipeline\.{says}") as found_in_pipeline:
        enable(SmallPipeline(module), SPEC)
    assert len(found_in_pipeline.value.problems) == 1
    if advice.startswith("."):
        assert f"transformer = transformer{advice}" in str(found.value)
        inside = eval(f"transformer{advice}", {"transformer": module})
        assert inside is unwrap(module)
        compile_adapter(SPEC, inside)


@pytest.mark.usefixtures("_ranks")
@pytest.mark.parametrize("name", OPEN)
def test_cached_inside(name: str) -> None:
    """As exact as unwrapped, with the same hits."""
    pipe = SmallPipeline(OPEN[name](small().requires_grad_(True)).requires_grad_(False).eval())
    plain = pipe(6)
    with enable(pipe, SPEC, cache_config=NEVER):
        assert torch.equal(pipe(6), plain)
    with enable(pipe, SPEC, cache_config=ALWAYS) as handle:
        assert handle.plan.notes == (
            f"pipeline.transformer is wrapped by {type(pipe.transformer).__name__}; what is "
            "inside is cached",
        )
        pipe(6)
        assert row(handle).cached_steps == tuple(range(1, 6))
        assert handle.stats().what == "SmallPipeline"
        assert not handle.stats().warnings
    with enable(pipe.transformer, SPEC, cache_config=ALWAYS) as handle:
        pipe(6)
        assert row(handle).cached_steps == tuple(range(1, 6))
    assert torch.equal(pipe(6), plain)


def test_wrappers_in_wrappers() -> None:
    module = torch.nn.DataParallel(torch.compile(small(), backend="eager"))
    assert explain_wrapper(module, "it") == (
        "it is a Small wrapped by DataParallel and torch.compile: cache the module inside, "
        "with it = it.module._orig_mod"
    )
    assert explain_wrapper(small(), "it") is None


def test_a_graph_has_nothing_inside() -> None:
    module = torch.jit.script(torch.nn.Linear(1, 1))
    with pytest.raises(CompileError, match="wrapped by TorchScript: no block of its graph"):
        enable(SmallPipeline(module), SPEC)


class Holder(torch.nn.Module):
    """A wrapper that nobody knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model


def test_a_wrapper_of_ones_own() -> None:
    with pytest.raises(CompileError, match=r"holds one: pipeline\.transformer\.model"):
        enable(SmallPipeline(Holder(small())), SPEC)
    from diffusers import DiTTransformer2DModel

    tiny = DiTTransformer2DModel(num_attention_heads=1, attention_head_dim=4, num_layers=1)
    with pytest.raises(AdapterNotFoundError, match="its model is a DiTTransformer2DModel") as found:
        enable(Holder(tiny))
    assert "enable_transformer(transformer.model, 'dit')" in str(found.value)
