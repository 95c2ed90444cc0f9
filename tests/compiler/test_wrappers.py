"""A wrapped transformer is named as that, and what to do about it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel

from cachedit_yaml import AdapterNotFoundError, CompileError, compile_adapter, enable
from cachedit_yaml.compiler.wrappers import explain_wrapper, unwrap
from tests.runtime.models import ALWAYS, NEVER, SmallPipeline, adapter, row, small, start

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


WRAPPERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "torch.compile": (lambda x: torch.compile(x, backend="eager"), "._orig_mod"),
    "PEFT": (peft, ".get_base_model()"),
    "DDP": (lambda x: torch.nn.parallel.DistributedDataParallel(x), ".module"),
    "DataParallel": (lambda x: torch.nn.DataParallel(x), ".module"),
    "AveragedModel": (lambda x: torch.optim.swa_utils.AveragedModel(x), ".module"),
    "FSDP": (
        lambda x: FullyShardedDataParallel(x, device_id=torch.device("cpu")),
        "enable caching before it is wrapped",
    ),
}


@pytest.mark.usefixtures("_ranks")
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped(name: str) -> None:
    wrap, advice = WRAPPERS[name]
    inner = small().requires_grad_(True)
    module = wrap(inner)
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


def test_what_forwards_its_attributes_is_cached_where_no_class_is_asked_for() -> None:
    pipe = SmallPipeline(peft(small()))
    with start(pipe, **NEVER):
        exact = pipe(4)
    assert torch.equal(exact, pipe(4))
    with start(pipe, **{**ALWAYS, "max_continuous_cached_steps": -1}) as handle:
        pipe(4)
        assert row(handle).cached_steps == (1, 2, 3)
