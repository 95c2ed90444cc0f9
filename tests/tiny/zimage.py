"""Z-Image, with ControlNet and with pictures as input (Omni)."""

from __future__ import annotations

from typing import Any

from .common import builder
from .flux import PARTS as _FLUX

PARTS: dict[str, Any] = {
    "ZImageTransformer2DModel": {
        "in_channels": 4,
        "dim": 32,
        "n_layers": 4,
        # The released models have as few.
        "n_refiner_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 24,
        "axes_dims": [4, 6, 6],
        "axes_lens": [256, 32, 32],
    },
    "ZImageControlNetModel": {
        "control_layers_places": [0, 2],
        "control_refiner_layers_places": [0, 1],
        "control_in_dim": 4,
        "dim": 32,
        "n_refiner_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 2,
    },
    "AutoencoderKL/flux": _FLUX["AutoencoderKL/flux"],
    # The pipeline with pictures as input takes none smaller than 64 x 64.
    "AutoencoderKL/zimage_omni": {
        **_FLUX["AutoencoderKL/flux"],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [4, 4, 4, 4],
    },
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
    "Siglip2VisionModel": {
        "hidden_size": 20,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 16,
        "num_patches": 16,
    },
    "Siglip2ImageProcessor": {"patch_size": 16, "max_num_patches": 16},
}


@builder("Siglip2VisionModel")
def _image_encoder(**config: Any) -> Any:
    """The image encoder of the Omni models."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    return Siglip2VisionModel(Siglip2VisionConfig(**config, vision_use_head=False))


@builder("Siglip2ImageProcessor")
def _image_processor(**config: Any) -> Any:
    """What prepares pictures for the image encoder."""
    from transformers import Siglip2ImageProcessor

    return Siglip2ImageProcessor(**config)


FORWARD: dict[str, Any] = {
    "ZImageTransformer2DModel": {
        "x": {"repeat": {"randn": ["in_channels", 1, 8, 8]}, "times": 2},
        "t": {"full": [2], "value": 0.5},
        "cap_feats": {
            "items": [{"randn": [7, "cap_feat_dim"]}, {"randn": [40, "cap_feat_dim"]}],
        },
    },
}

_COMPONENTS = {
    "transformer": "ZImageTransformer2DModel",
    "vae": "AutoencoderKL/flux",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_CONTROLNET = {**_COMPONENTS, "controlnet": "ZImageControlNetModel"}
# Pictures, a mask and the pictures without what is masked.
_INPAINT_CONTROLNET = {
    **_COMPONENTS,
    "controlnet": {"part": "ZImageControlNetModel", "config": {"control_in_dim": 9}},
}


def _refined(kind: str, control_in_dim: int) -> dict[str, Any]:
    """A ControlNet of the second generation, whose refiners also read the control image."""
    config = {"add_control_noise_refiner": kind, "control_in_dim": control_in_dim}
    return {"components": {"controlnet": {"part": "ZImageControlNetModel", "config": config}}}


# No guidance, as with the distilled models; guidance doubles the batch, and as prompts are padded
# to a multiple of 32 tokens the longer of two makes an attention mask.
_INPUTS = {
    "prompt_embeds": {"items": [{"randn": [7, "cap_feat_dim"]}]},
    "guidance_scale": 0.0,
    "height": 16,
    "width": 16,
    "generator": {"generator": 0},
}
_GUIDED = {
    "guided": {
        "guidance_scale": 5.0,
        "negative_prompt_embeds": {"items": [{"randn": [5, "cap_feat_dim"]}]},
    },
    "guided_unequal": {
        "guidance_scale": 5.0,
        "negative_prompt_embeds": {"items": [{"randn": [40, "cap_feat_dim"]}]},
        "cfg_normalization": True,
    },
    # Guidance, and with it the doubled batch, only in the first steps.
    "guided_truncated": {
        "guidance_scale": 5.0,
        "negative_prompt_embeds": {"items": [{"randn": [5, "cap_feat_dim"]}]},
        "cfg_truncation": 0.3,
    },
}
_IMAGE = {"rand": [1, 3, 16, 16]}
_MASK = {"mask": [1, 1, 16, 16]}
_WHOLE = {"whole_strength": {"strength": 1.0}}

_SEGMENT = {"randn": [7, "cap_feat_dim"]}
_SEGMENTS = {"items": [{"items": [_SEGMENT, _SEGMENT, _SEGMENT]}]}
_ONE_SEGMENT = {"items": [{"items": [_SEGMENT]}]}

PIPELINES: dict[str, Any] = {
    "ZImagePipeline": {
        "components": _COMPONENTS,
        "inputs": _INPUTS,
        "cases": {**_GUIDED, "batch": {"num_images_per_prompt": 2}},
    },
    "ZImageImg2ImgPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, "image": _IMAGE, "strength": 0.75},
        "cases": {**_GUIDED, **_WHOLE},
    },
    "ZImageInpaintPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, "image": _IMAGE, "mask_image": _MASK, "strength": 0.75},
        "cases": {**_GUIDED, **_WHOLE},
    },
    "ZImageControlNetPipeline": {
        "components": _CONTROLNET,
        "inputs": {**_INPUTS, "control_image": _IMAGE},
        "cases": _GUIDED,
        "variants": {
            "refined": _refined("control_noise_refiner", 4),
            "refined_by_layers": _refined("control_layers", 4),
        },
    },
    "ZImageControlNetInpaintPipeline": {
        "components": _INPAINT_CONTROLNET,
        "inputs": {
            **_INPUTS,
            "control_image": _IMAGE,
            "image": _IMAGE,
            "mask_image": _MASK,
        },
        "cases": _GUIDED,
        "variants": {"refined": _refined("control_noise_refiner", 9)},
    },
    "ZImageOmniPipeline": {
        "components": {
            **_COMPONENTS,
            "transformer": {
                "part": "ZImageTransformer2DModel",
                "config": {"siglip_feat_dim": 20},
            },
            # The pipeline gives the VAE bfloat16 whatever its dtype.
            "vae": {"part": "AutoencoderKL/zimage_omni", "dtype": "bfloat16"},
            "siglip": "Siglip2VisionModel",
            "siglip_processor": "Siglip2ImageProcessor",
        },
        "inputs": {
            **_INPUTS,
            "prompt_embeds": _SEGMENTS,
            "image": {"items": [{"pil": [64, 64]}]},
            "height": 64,
            "width": 64,
        },
        "cases": {
            "guided": {"guidance_scale": 5.0, "negative_prompt_embeds": _SEGMENTS},
            "without_image": {"image": None, "prompt_embeds": _ONE_SEGMENT},
        },
    },
}
