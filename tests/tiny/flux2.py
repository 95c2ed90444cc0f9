"""FLUX.2 and FLUX.2 klein."""

from __future__ import annotations

from typing import Any

from .flux import PARTS as _FLUX

PARTS: dict[str, Any] = {
    "Flux2Transformer2DModel": {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 4,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 24,
        "timestep_guidance_channels": 32,
        "axes_dims_rope": [4, 4, 4, 4],
        "guidance_embeds": True,
    },
    # The pipelines take no image smaller than 64 x 64, which is 8 x 8 latents and 16 tokens.
    "AutoencoderKLFlux2": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [4, 4, 4, 4],
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 2,
        "sample_size": 64,
    },
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
}

FORWARD: dict[str, Any] = {
    "Flux2Transformer2DModel": {
        "hidden_states": {"randn": [1, 16, "in_channels"]},
        "encoder_hidden_states": {"randn": [1, 7, "joint_attention_dim"]},
        "timestep": {"full": [1], "value": 0.5},
        "img_ids": {"rand": [1, 16, 4]},
        "txt_ids": {"full": [1, 7, 4], "value": 0.0},
        "guidance": {"full": [1], "value": 3.5},
    },
}

_COMPONENTS = {
    "transformer": "Flux2Transformer2DModel",
    "vae": "AutoencoderKLFlux2",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_KLEIN = {
    **_COMPONENTS,
    "transformer": {"part": "Flux2Transformer2DModel", "config": {"guidance_embeds": False}},
}
_DISTILLED = {"distilled": {"config": {"is_distilled": True}, "without": ["guided"]}}

_INPUTS = {
    "prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "height": 64,
    "width": 64,
    "generator": {"generator": 0},
}
_PICTURE = {"pil": [64, 64]}
_IMAGES = {
    "image": {"image": _PICTURE},
    "two_images": {"image": {"items": [_PICTURE, _PICTURE]}},
}
_UNGUIDED = {"guidance_scale": 1.0}
_GUIDED = {
    "guided": {
        "guidance_scale": 4.0,
        "negative_prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    }
}
_BATCH = {"batch": {"num_images_per_prompt": 2}}

PIPELINES: dict[str, Any] = {
    "Flux2Pipeline": {
        "components": _COMPONENTS,
        "inputs": _INPUTS,
        "cases": {**_IMAGES, **_BATCH},
    },
    "Flux2KleinPipeline": {
        "components": _KLEIN,
        "inputs": {**_INPUTS, **_UNGUIDED},
        "cases": {**_GUIDED, **_IMAGES, **_BATCH},
        "variants": _DISTILLED,
    },
    # The keys and values of the given pictures are kept from the first step on.
    "Flux2KleinKVPipeline": {
        "components": _KLEIN,
        "inputs": {**_INPUTS, "image": _PICTURE},
        "cases": {
            "two_images": _IMAGES["two_images"],
            "without_image": {"image": None},
            **_BATCH,
        },
    },
    "Flux2KleinInpaintPipeline": {
        "components": _KLEIN,
        "inputs": {
            **_INPUTS,
            **_UNGUIDED,
            "image": _PICTURE,
            "mask_image": {"pil": [64, 64], "mode": "L"},
            "strength": 0.75,
        },
        "cases": {
            **_GUIDED,
            "whole_strength": {"strength": 1.0},
            "with_reference": {"image_reference": _PICTURE},
        },
        "variants": _DISTILLED,
    },
}
