"""The static look at a transformer's loops, which decides what native execution refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cachedit_yaml import CompileError
from cachedit_yaml.compiler.loops import LoopReport, inspect_loop
from cachedit_yaml.errors import CacheRuntimeError
from tests import tiny
from tests.runtime.models import ALWAYS, SmallPipeline, adapter, small, start


def report(name: str, blocks: str) -> LoopReport:
    """What the loop over one list of a real transformer does."""
    if name not in tiny.transformers():
        pytest.skip(f"this release of diffusers has no {name}")
    return inspect_loop(tiny.transformer(name), blocks)


@pytest.mark.parametrize(
    ("name", "blocks", "arguments"),
    [
        ("FluxTransformer2DModel", "transformer_blocks", {"controlnet_block_samples"}),
        (
            "FluxTransformer2DModel",
            "single_transformer_blocks",
            {"controlnet_single_block_samples"},
        ),
        (
            "SD3Transformer2DModel",
            "transformer_blocks",
            {"skip_layers", "block_controlnet_hidden_states"},
        ),
        ("QwenImageTransformer2DModel", "transformer_blocks", {"controlnet_block_samples"}),
        ("ZImageTransformer2DModel", "layers", {"controlnet_block_samples"}),
        ("WanTransformer3DModel", "blocks", set()),
        ("PixArtTransformer2DModel", "transformer_blocks", set()),
        ("LongCatImageTransformer2DModel", "transformer_blocks", set()),
        ("LongCatImageTransformer2DModel", "single_transformer_blocks", set()),
    ],
)
def test_arguments_that_bring_work_in(name: str, blocks: str, arguments: set[str]) -> None:
    found = report(name, blocks)
    assert found.found
    assert found.always == ()
    assert set(found.arguments) == arguments


def test_work_that_no_argument_switches() -> None:
    """VACE adds a hint in the body; DiT reads its first block's norm after the loop."""
    vace = report("WanVACETransformer3DModel", "blocks")
    assert vace.found
    assert set(vace.always) == {"if i in self.config.vace_layers:"}
    dit = report("DiTTransformer2DModel", "transformer_blocks")
    assert dit.always == ("self.transformer_blocks[0]",)
    for pipeline in ("WanVACEPipeline", "DiTPipeline"):
        with pytest.raises(
            CompileError, match=r"forward also does `.*`, which goes wrong natively"
        ):
            start(tiny.build(pipeline), None, execution="native", **ALWAYS)


def test_keywords_of_the_block() -> None:
    flux = report("FluxTransformer2DModel", "transformer_blocks")
    assert {"hidden_states", "encoder_hidden_states"} <= flux.keywords
    assert report("WanTransformer3DModel", "blocks").keywords == frozenset()


def test_a_list_that_is_not_there() -> None:
    assert not report("WanTransformer3DModel", "no_such_blocks").found


def test_source_that_is_not_there() -> None:
    model = small()
    scope: dict[str, Any] = {"nn": nn}
    exec("class Hidden(nn.Module):\n    def forward(self, x):\n        return x\n", scope)
    assert not inspect_loop(scope["Hidden"](), "blocks").found
    model.forward = lambda *args: None  # type: ignore[method-assign]
    # What counts is the class: an instance's forward may be anybody's hook.
    assert inspect_loop(model, "blocks").found


class Adding(type(small())):  # type: ignore[misc]
    """Work in the body that an argument switches on, and a plain default."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: Any = None,
        extra: torch.Tensor | None = None,
        repeat: bool = False,
    ) -> torch.Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states)
            if extra is not None:
                hidden_states = hidden_states + extra
            if repeat:
                hidden_states = hidden_states * 2
        return hidden_states


def test_native_execution_refuses_the_call_not_the_model() -> None:
    pipe = SmallPipeline(Adding())
    assert inspect_loop(pipe.transformer, "blocks").arguments == ("extra", "repeat")
    plain = pipe(4)
    for switch in ({"extra": torch.ones(8)}, {"repeat": True}):
        with start(pipe, adapter(), execution="native", **ALWAYS) as handle:
            # Given, but without any effect.
            pipe(4, extra=None, repeat=False)
            assert handle.stats().branches[0].cached_steps
            with pytest.raises(CacheRuntimeError, match=f"would lose what {next(iter(switch))!r}"):
                pipe(4, **switch)
            pipe(4)
            assert handle.stats().branches[0].cached_steps
    assert torch.equal(pipe(4), plain)
    with start(pipe, adapter(), **ALWAYS):
        assert pipe(4, extra=torch.ones(8)).isfinite().all()


class Checkpointed(type(small())):  # type: ignore[misc]
    """A loop as diffusers writes it, with gradient checkpointing."""

    gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states, index)
            else:
                hidden_states = block(hidden_states)
        return hidden_states


class CheckpointedCall(Checkpointed):
    """As PRX writes it."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block.__call__, hidden_states)
            else:
                hidden_states = block(hidden_states)
        return hidden_states


class Repeating(Checkpointed):
    """As ERNIE-Image writes it: the same list in every round; the other one is made anew."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        shift, scale = 0.0, 1.0
        for block in self.blocks:
            temb = [shift, scale, 1]
            hidden_states = block(hidden_states, temb[0])
        for block in self.others:
            temb = [shift, hidden_states]
            hidden_states = block(hidden_states, temb[0])
        return hidden_states


class Asking(Checkpointed):
    """As the prior of Wuerstchen writes it: blocks of several kinds."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        for block in self.blocks:
            if isinstance(block, nn.Linear):
                hidden_states = block(hidden_states, timestep)
            else:
                hidden_states = block(hidden_states)
        return hidden_states


def test_a_loop_that_asks_for_the_kind_of_block() -> None:
    assert inspect_loop(Asking(), "blocks").always == ("if isinstance(block, nn.Linear):",)


def test_what_is_the_same_in_every_round_is_no_work() -> None:
    found = inspect_loop(Repeating(), "blocks")
    assert found.found
    assert not found.always
    assert inspect_loop(Repeating(), "others").always == ("temb = [shift, hidden_states]",)


def test_gradient_checkpointing_is_no_work() -> None:
    assert not inspect_loop(CheckpointedCall(), "blocks").always
    found = inspect_loop(Checkpointed(), "blocks")
    assert found == LoopReport(found=True)


class Numbered(type(small())):  # type: ignore[misc]
    """Blocks that get something of their own: by index, and with an argument of forward."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: Any = None,
        kept: dict[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states, extra=kept[index] if kept is not None else None)
        return hidden_states


class Picked(type(small())):  # type: ignore[misc]
    """Blocks that get something of their own in every call."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        for block, scale in zip(self.blocks, self.scales, strict=True):
            hidden_states = block(hidden_states, scale)
        return hidden_states


def test_arguments_that_differ_from_block_to_block() -> None:
    assert inspect_loop(Numbered(), "blocks").arguments == ("kept",)
    assert inspect_loop(Numbered(), "blocks").always == ()
    assert inspect_loop(Picked(), "blocks").always == ("scale",)
