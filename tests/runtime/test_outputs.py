"""Blocks that return a mapping, an object or a longer tuple: `returns` says where what is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.utils import BaseOutput

from cachedit_yaml.errors import AdapterError, CacheRuntimeError, CompileError
from tests.runtime import models
from tests.runtime.models import ALWAYS, NEVER, Block, Small, SmallPipeline, adapter, row, start


@dataclasses.dataclass
class Output(BaseOutput):  # type: ignore[misc]
    """What diffusers' models return."""

    hidden: torch.Tensor = None  # type: ignore[assignment]
    router: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A dataclass of somebody's own."""

    hidden: torch.Tensor
    router: Any


@dataclasses.dataclass(slots=True)
class Slots:
    """One without a dict of its own."""

    hidden: torch.Tensor
    router: Any


class Named(NamedTuple):
    """A tuple with names."""

    hidden: torch.Tensor
    router: Any


class Plain:
    """Any object."""

    def __init__(self, hidden: torch.Tensor, router: Any) -> None:
        self.hidden = hidden
        self.router = router


MAKERS: dict[str, Callable[[torch.Tensor, Any], Any]] = {
    "dict": lambda hidden, router: {"router": router, "hidden": hidden},
    "Output": lambda hidden, router: Output(hidden=hidden, router=router),
    "Frozen": Frozen,
    "Slots": Slots,
    "Named": Named,
    "Plain": Plain,
    "tuple": lambda hidden, router: (hidden, router, 7),
    "list": lambda hidden, router: [hidden, router, 7],
}
PLACES = {"tuple", "list"}


class RouterBlock(Block):
    """A mixture of experts, whose statistics stand beside what it returns."""

    kind = "dict"

    def forward(self, hidden_states: torch.Tensor, temb: Any = 0.0) -> Any:  # type: ignore[override]
        """``[b x s x d]`` to an output that holds the same."""
        router = {"load": hidden_states.mean((0, 1)), "drop": [hidden_states.amax() + temb]}
        return MAKERS[self.kind](hidden_states + self.delta(hidden_states, temb), router)


def taken(kind: str, output: Any, name: str) -> Any:
    """An entry of an output."""
    if kind in PLACES:
        return output[["hidden", "router"].index(name)]
    return output[name] if kind == "dict" else getattr(output, name)


class Routed(Small):
    """A loop that adds up what the routers say, writing over it."""

    block = RouterBlock

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.loads: list[torch.Tensor] = []
        self.kinds: set[type] = set()
        for block in self.blocks:
            block.kind = kind  # type: ignore[assignment]

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        temb = models.shift_of(timestep)
        load: Any = None
        for block in self.blocks:
            output = block(hidden_states, temb)
            hidden_states = taken(self.kind, output, "hidden")
            router = taken(self.kind, output, "router")
            load = router["load"].add_(router["drop"][0]) if load is None else load + router["load"]
            self.kinds.add(type(output))
        self.loads.append(load)
        return 0.2 * self.proj_out(hidden_states)


def spec_of(kind: str, **more: Any) -> Any:
    where: Any = 0 if kind in PLACES else "hidden"
    blocks = {"pattern": "Pattern_3", "returns": {"hidden_states": where, **more}}
    return adapter({"blocks": blocks})


@pytest.mark.parametrize("fn", [0, 1, 2])
@pytest.mark.parametrize("kind", MAKERS)
def test_outputs(kind: str, fn: int) -> None:
    model = Routed(kind)
    pipe = SmallPipeline(model)
    plain = pipe(6)
    loads = list(model.loads)
    model.loads.clear()
    if fn:
        with start(pipe, spec_of(kind), **{**NEVER, "Fn_compute_blocks": fn}):
            assert torch.equal(pipe(6), plain)
        assert all(map(torch.equal, model.loads, loads))
    model.loads.clear()
    mask = {"scm": {"mask": [1, 1, 0, 0, 1, 0], "policy": "static"}, "max_warmup_steps": 1}
    with start(pipe, spec_of(kind), Fn_compute_blocks=fn, **mask) as handle:
        for _ in range(2):
            model.loads.clear()
            pipe(6)
            assert row(handle).cached_steps == (2, 3, 5)
            # Computed steps say what they say; the others repeat what skipped blocks said last.
            assert all(torch.equal(model.loads[step], loads[step]) for step in (0, 1))
            if fn == 0:
                assert torch.equal(model.loads[2], model.loads[1])
                assert torch.equal(model.loads[3], model.loads[1])
                assert torch.equal(model.loads[5], model.loads[4])
    assert model.kinds == {type(MAKERS[kind](plain, None))}


def test_hits_are_those_of_a_block_that_returns_a_tensor() -> None:
    simple, routed = SmallPipeline(Small()), SmallPipeline(Routed("dict"))
    settings = {**ALWAYS, "calibrator": "taylorseer"}
    with start(simple, **settings), start(routed, spec_of("dict"), **settings):
        assert torch.equal(simple(8), routed(8))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_to_write_is_said(kind: str) -> None:
    pipe = SmallPipeline(Routed(kind))
    with start(pipe, adapter(), **ALWAYS), pytest.raises(CacheRuntimeError) as caught:
        pipe(3)
    name = "0" if kind in PLACES else "hidden"
    assert f"`returns: {{hidden_states: {name}}}`" in str(caught.value)
    assert "[1, 4, 8]" in str(caught.value)
    plain = pipe(3)
    assert plain.isfinite().all()


def test_wrong_entries() -> None:
    pipe = SmallPipeline(Routed("dict"))
    lists = {"blocks": {"pattern": "Pattern_3", "returns": {"hidden_states": "hiden"}}}
    with (
        start(pipe, adapter(lists), **ALWAYS),
        pytest.raises(CacheRuntimeError, match="has no 'hiden'; did you mean 'hidden'"),
    ):
        pipe(3)
    lists["blocks"]["returns"] = {"hidden_states": "router"}  # type: ignore[index]
    with (
        start(pipe, adapter(lists), **ALWAYS),
        pytest.raises(CacheRuntimeError, match="whose 'router' is no tensor"),
    ):
        pipe(3)
    with pytest.raises(AdapterError, match="Pattern_3 returns only the hidden states"):
        spec_of("dict", encoder_hidden_states="text")
    with pytest.raises(CompileError, match="tensors and pairs"):
        start(pipe, spec_of("dict"), **ALWAYS, execution="native")


def test_nothing_is_kept_afterwards() -> None:
    pipe = SmallPipeline(Routed("Output"))
    with start(pipe, spec_of("Output"), **ALWAYS) as handle:
        pipe(4)
        states = [
            branch
            for generation in handle._clock.history
            for state in generation.transformers.values()
            for branch in state.branches.values()
        ]
        assert states
        assert not any(branch.kept for branch in states)
