"""FLUX.1: every denoising pipeline."""

from __future__ import annotations

from typing import Any

_SHAPE = {
    "patch_size": 1,
    "in_channels": 16,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 24,
    "guidance_embeds": True,
    "axes_dims_rope": [4, 6, 6],
}

PARTS: dict[str, Any] = {
    "FluxTransformer2DModel": {**_SHAPE, "num_layers": 4, "num_single_layers": 4},
    "FluxControlNetModel": {**_SHAPE, "num_layers": 2, "num_single_layers": 2},
    # One downsampling step: 16 pixels are 8 latents, which are packed into 4 tokens.
    "AutoencoderKL/flux": {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [4, 4],
        "latent_channels": 4,
        "norm_num_groups": 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.0609,
        "scaling_factor": 1.5035,
    },
    "FlowMatchEulerDiscreteScheduler": {},
}

FORWARD: dict[str, Any] = {
    "FluxTransformer2DModel": {
        "hidden_states": {"randn": [1, 16, "in_channels"]},
        "encoder_hidden_states": {"randn": [1, 7, "joint_attention_dim"]},
        "pooled_projections": {"randn": [1, "pooled_projection_dim"]},
        "timestep": {"full": [1], "value": 0.5},
        "img_ids": {"rand": [16, 3]},
        "txt_ids": {"full": [7, 3], "value": 0.0},
        "guidance": {"full": [1], "value": 3.5},
    },
}

_COMPONENTS = {
    "transformer": "FluxTransformer2DModel",
    "vae": "AutoencoderKL/flux",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_CONTROLNET = {**_COMPONENTS, "controlnet": "FluxControlNetModel"}
# A union of ControlNets takes one image at a time (its mode is not repeated for a batch).
_UNION = {
    "components": {"controlnet": {"part": "FluxControlNetModel", "config": {"num_mode": 3}}},
    "inputs": {"control_mode": 1},
    "without": ["batch"],
}

_INPUTS = {
    "prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "pooled_prompt_embeds": {"randn": [1, "pooled_projection_dim"]},
    "height": 16,
    "width": 16,
    "generator": {"generator": 0},
}
_IMAGE = {"rand": [1, 3, 16, 16]}
_MASK = {"mask": [1, 1, 16, 16]}
_TRUE_CFG = {
    "true_cfg_scale": 4.0,
    "negative_prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "negative_pooled_prompt_embeds": {"randn": [1, "pooled_projection_dim"]},
}
_GUIDED = {"guided": _TRUE_CFG, "batch": {"num_images_per_prompt": 2}}
_WHOLE = {"whole_strength": {"strength": 1.0}}


def _widened(channels: int) -> dict[str, Any]:
    """Components whose transformer takes more channels than it returns."""
    config = {"in_channels": channels, "out_channels": 16}
    return {**_COMPONENTS, "transformer": {"part": "FluxTransformer2DModel", "config": config}}


def _pipeline(
    components: dict[str, Any], inputs: dict[str, Any], *cases: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """One entry of the table of pipelines."""
    merged: dict[str, Any] = {}
    for case in cases:
        merged |= case
    return {"components": components, "inputs": {**_INPUTS, **inputs}, "cases": merged, **more}


_CONTROLLED = {"control_image": _IMAGE, "controlnet_conditioning_scale": 0.8}
_HALF_CONTROLLED = {"half_controlled": {"control_guidance_end": 0.5}}
_KONTEXT = {"max_area": 256, "_auto_resize": False}

PIPELINES: dict[str, Any] = {
    "FluxPipeline": _pipeline(
        _COMPONENTS,
        {},
        _GUIDED,
        variants={
            "schnell": {
                "components": {
                    "transformer": {
                        "part": "FluxTransformer2DModel",
                        "config": {"guidance_embeds": False},
                    }
                }
            }
        },
    ),
    "FluxImg2ImgPipeline": _pipeline(
        _COMPONENTS, {"image": _IMAGE, "strength": 0.75}, _GUIDED, _WHOLE
    ),
    "FluxInpaintPipeline": _pipeline(
        _COMPONENTS, {"image": _IMAGE, "mask_image": _MASK, "strength": 0.75}, _GUIDED, _WHOLE
    ),
    "FluxFillPipeline": _pipeline(_widened(48), {"image": _IMAGE, "mask_image": _MASK}),
    "FluxControlPipeline": _pipeline(_widened(32), {"control_image": _IMAGE}),
    "FluxControlImg2ImgPipeline": _pipeline(
        _widened(32), {"image": _IMAGE, "control_image": _IMAGE, "strength": 0.75}, _WHOLE
    ),
    "FluxControlInpaintPipeline": _pipeline(
        _widened(32),
        {"image": _IMAGE, "control_image": _IMAGE, "mask_image": _MASK, "strength": 0.75},
        _WHOLE,
    ),
    "FluxControlNetPipeline": _pipeline(
        _CONTROLNET,
        _CONTROLLED,
        _GUIDED,
        _HALF_CONTROLLED,
        variants={"union": _UNION},
    ),
    "FluxControlNetImg2ImgPipeline": _pipeline(
        _CONTROLNET,
        {**_CONTROLLED, "image": _IMAGE, "strength": 0.75},
        _WHOLE,
        _HALF_CONTROLLED,
    ),
    "FluxControlNetInpaintPipeline": _pipeline(
        _CONTROLNET,
        {**_CONTROLLED, "image": _IMAGE, "mask_image": _MASK, "strength": 0.75},
        _WHOLE,
        _HALF_CONTROLLED,
    ),
    "FluxKontextPipeline": _pipeline(
        _COMPONENTS,
        {"image": _IMAGE, **_KONTEXT},
        _GUIDED,
        {"without_image": {"image": None}},
    ),
    "FluxKontextInpaintPipeline": _pipeline(
        _COMPONENTS,
        {"image": _IMAGE, "mask_image": _MASK, "strength": 1.0, **_KONTEXT},
        _GUIDED,
        {"with_reference": {"image_reference": _IMAGE}, "part_strength": {"strength": 0.75}},
    ),
}
