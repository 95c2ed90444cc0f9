"""Models of full size: what diffusers' configs say, and inputs of real length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch


@dataclass(frozen=True)
class Architecture:
    """A transformer that can be built with random weights.

    Attributes:
        name: what the results call it.
        transformer: its class in diffusers.
        config: of the released model.
        tiny: what to change to try the code on any machine.
        lists: its block lists and their patterns.
        inputs: makes the arguments of a forward from the config, without the timestep; the second
            argument asks for a tiny one.
        scale: the timestep of the first step.
        steps: of a generation.
    """

    name: str
    transformer: str
    config: Mapping[str, Any]
    tiny: Mapping[str, Any]
    lists: Mapping[str, str]
    inputs: Callable[[Mapping[str, Any], bool], dict[str, Any]]
    scale: float
    steps: int

    def build(self, *, tiny: bool) -> torch.nn.Module:
        """Build it where the current device and default dtype say."""
        torch.manual_seed(0)
        config = {**self.config, **(self.tiny if tiny else {})}
        model: torch.nn.Module = getattr(diffusers, self.transformer)(**config)
        return model.eval().requires_grad_(False)

    def arguments(self, steps: int, *, tiny: bool) -> list[dict[str, Any]]:
        """The arguments of the forwards of a generation, the timesteps falling."""
        torch.manual_seed(1)
        config = {**self.config, **(self.tiny if tiny else {})}
        fixed = {**self.inputs(config, tiny), "return_dict": False}
        schedule = torch.tensor([self.scale * (1 - step / steps) for step in range(steps)])
        # As pipelines do: a view of the schedule.
        return [{**fixed, "timestep": schedule[step].expand(1)} for step in range(steps)]


def _flux_inputs(config: Mapping[str, Any], tiny: bool) -> dict[str, Any]:
    """1024 x 1024: 64 x 64 tokens of two by two latents, and 512 of text."""
    side, text = (8, 16) if tiny else (64, 512)
    rows = torch.arange(side, dtype=torch.float32).repeat_interleave(side)
    columns = torch.arange(side, dtype=torch.float32).repeat(side)
    return {
        "hidden_states": torch.randn(1, side * side, config["in_channels"]),
        "encoder_hidden_states": torch.randn(1, text, config["joint_attention_dim"]),
        "pooled_projections": torch.randn(1, config["pooled_projection_dim"]),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=-1),
        "txt_ids": torch.zeros(text, 3),
        "guidance": torch.tensor([3.5]),
    }


def _qwen_inputs(config: Mapping[str, Any], tiny: bool) -> dict[str, Any]:
    """1024 x 1024: 64 x 64 tokens of two by two latents, and 256 of text."""
    side, text = (8, 16) if tiny else (64, 256)
    return {
        "hidden_states": torch.randn(1, side * side, config["in_channels"]),
        "encoder_hidden_states": torch.randn(1, text, config["joint_attention_dim"]),
        "img_shapes": [[(1, side, side)]],
    }


def _wan_inputs(config: Mapping[str, Any], tiny: bool) -> dict[str, Any]:
    """81 frames of 832 x 480: 21 x 30 x 52 tokens, and 512 of text."""
    frames, height, width, text = (2, 8, 8, 16) if tiny else (21, 60, 104, 512)
    return {
        "hidden_states": torch.randn(1, config["in_channels"], frames, height, width),
        "encoder_hidden_states": torch.randn(1, text, config["text_dim"]),
    }


_WAN: Mapping[str, Any] = {
    "transformer": "WanTransformer3DModel",
    "tiny": {"num_attention_heads": 2, "ffn_dim": 512, "num_layers": 4, "text_dim": 64},
    "lists": {"blocks": "Pattern_2"},
    "inputs": _wan_inputs,
    "scale": 1000.0,
    "steps": 20,
}
_WAN_CONFIG: Mapping[str, Any] = {
    "patch_size": (1, 2, 2),
    "in_channels": 16,
    "out_channels": 16,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "flux": Architecture(
        name="FLUX.1-dev",
        transformer="FluxTransformer2DModel",
        config={
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "guidance_embeds": True,
        },
        tiny={
            "num_layers": 3,
            "num_single_layers": 4,
            "num_attention_heads": 2,
            "joint_attention_dim": 64,
            "pooled_projection_dim": 32,
        },
        lists={"transformer_blocks": "Pattern_1", "single_transformer_blocks": "Pattern_1"},
        inputs=_flux_inputs,
        scale=1.0,
        steps=28,
    ),
    "qwen-image": Architecture(
        name="Qwen-Image",
        transformer="QwenImageTransformer2DModel",
        config={
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 60,
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "joint_attention_dim": 3584,
        },
        tiny={"num_layers": 4, "num_attention_heads": 2, "joint_attention_dim": 64},
        lists={"transformer_blocks": "Pattern_1"},
        inputs=_qwen_inputs,
        scale=1.0,
        steps=28,
    ),
    "wan-1.3b": Architecture(
        name="Wan 2.1 1.3B",
        config={**_WAN_CONFIG, "num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        **_WAN,
    ),
    "wan-14b": Architecture(
        name="Wan 2.1 14B",
        config={**_WAN_CONFIG, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
        **_WAN,
    ),
}
