"""Stable Diffusion 3, with ControlNet and with perturbed-attention guidance."""

from __future__ import annotations

from typing import Any

from .flux import PARTS as _FLUX

_SHAPE = {
    "sample_size": 32,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 20,
    "pos_embed_max_size": 16,
    "qk_norm": "rms_norm",
}

PARTS: dict[str, Any] = {
    "SD3Transformer2DModel": {**_SHAPE, "num_layers": 4},
    "SD3ControlNetModel": {**_SHAPE, "num_layers": 2},
    "AutoencoderKL/sd3": {**_FLUX["AutoencoderKL/flux"], "latent_channels": 16},
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
}

FORWARD: dict[str, Any] = {
    "SD3Transformer2DModel": {
        "hidden_states": {"randn": [2, "in_channels", 8, 8]},
        "encoder_hidden_states": {"randn": [2, 7, "joint_attention_dim"]},
        "pooled_projections": {"randn": [2, "pooled_projection_dim"]},
        "timestep": {"full": [2], "value": 500.0},
    },
}

_COMPONENTS = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL/sd3",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_CONTROLNET = {**_COMPONENTS, "controlnet": "SD3ControlNetModel"}
_INPAINT_CONTROLNET = {
    **_COMPONENTS,
    "controlnet": {"part": "SD3ControlNetModel", "config": {"extra_conditioning_channels": 1}},
}
# The first two blocks have a second attention of their own, as those of SD 3.5 medium.
_DUAL = {
    "dual": {
        "components": {
            "transformer": {
                "part": "SD3Transformer2DModel",
                "config": {"dual_attention_layers": [0, 1]},
            }
        }
    }
}

_INPUTS = {
    "prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "pooled_prompt_embeds": {"randn": [1, "pooled_projection_dim"]},
    "negative_prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "negative_pooled_prompt_embeds": {"randn": [1, "pooled_projection_dim"]},
    "guidance_scale": 7.0,
    "height": 16,
    "width": 16,
    "generator": {"generator": 0},
}
_UNGUIDED = {
    "guidance_scale": 1.0,
    "negative_prompt_embeds": None,
    "negative_pooled_prompt_embeds": None,
}
_IMAGE = {"rand": [1, 3, 16, 16]}
_MASK = {"mask": [1, 1, 16, 16]}
# Every step but the first is within the interval; one more call of the transformer in each.
_SKIP = {
    "skip_guidance_layers": [1, 2],
    "skip_layer_guidance_start": 0.0,
    "skip_layer_guidance_stop": 1.0,
}


def _pipeline(
    components: dict[str, Any],
    inputs: dict[str, Any],
    cases: dict[str, Any] | None = None,
    variants: dict[str, Any] = _DUAL,
) -> dict[str, Any]:
    """One entry of the table of pipelines; guidance doubles the batch in "plain"."""
    return {
        "components": components,
        "inputs": {**_INPUTS, **inputs},
        "cases": {"unguided": _UNGUIDED, **(cases or {})},
        "variants": variants,
    }


_WHOLE = {"whole_strength": {"strength": 1.0}}
_CONTROLLED = {"control_image": _IMAGE, "controlnet_conditioning_scale": 0.8}
_HALF = {"half_controlled": {"control_guidance_end": 0.5}}
_PAG = {"pag_scale": 3.0}
_WITHOUT_PAG = {"without_pag": {"pag_scale": 0.0}}

PIPELINES: dict[str, Any] = {
    "StableDiffusion3Pipeline": _pipeline(
        _COMPONENTS,
        {},
        {"skip_layers": _SKIP, "skip_last_layer": {**_SKIP, "skip_guidance_layers": [3]}},
    ),
    "StableDiffusion3Img2ImgPipeline": _pipeline(
        _COMPONENTS, {"image": _IMAGE, "strength": 0.75}, _WHOLE
    ),
    "StableDiffusion3InpaintPipeline": _pipeline(
        _COMPONENTS, {"image": _IMAGE, "mask_image": _MASK, "strength": 0.75}, _WHOLE
    ),
    "StableDiffusion3ControlNetPipeline": _pipeline(_CONTROLNET, _CONTROLLED, _HALF),
    "StableDiffusion3ControlNetInpaintingPipeline": _pipeline(
        _INPAINT_CONTROLNET, {**_CONTROLLED, "control_mask": _MASK}, _HALF
    ),
    # Perturbed-attention guidance makes the batch three times as large. Its attention processor
    # does not serve the blocks with a second attention.
    "StableDiffusion3PAGPipeline": _pipeline(_COMPONENTS, _PAG, _WITHOUT_PAG, {}),
    "StableDiffusion3PAGImg2ImgPipeline": _pipeline(
        _COMPONENTS, {"image": _IMAGE, "strength": 0.75, **_PAG}, {**_WITHOUT_PAG, **_WHOLE}, {}
    ),
}
