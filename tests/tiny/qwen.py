"""Qwen-Image: text to image, editing, ControlNet, layered."""

from __future__ import annotations

from typing import Any

from . import text as _text  # noqa: F401 - registers the makers of the text parts
from .flux import PARTS as _FLUX

_SHAPE = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "axes_dims_rope": [4, 6, 6],
}
_VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "num_res_blocks": 1,
    "latents_mean": [0.0, 0.1, -0.1, 0.2],
    "latents_std": [1.0, 1.1, 0.9, 1.2],
}

PARTS: dict[str, Any] = {
    "QwenImageTransformer2DModel": {**_SHAPE, "num_layers": 4, "guidance_embeds": False},
    "QwenImageControlNetModel": {**_SHAPE, "num_layers": 2},
    "AutoencoderKLQwenImage": {**_VAE, "dim_mult": [1, 1], "temperal_downsample": [False]},
    # The editing pipelines scale every picture to about as many pixels as 1024 x 1024 have: with a
    # factor of 64 they are 256 latents, which are 64 tokens.
    "AutoencoderKLQwenImage/coarse": {
        **_VAE,
        "base_dim": 2,
        "num_res_blocks": 0,
        "dim_mult": [1, 1, 1, 1, 1, 1, 1],
        "temperal_downsample": [False] * 6,
    },
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
    "TextEncoderStub": {},
}

FORWARD: dict[str, Any] = {
    "QwenImageTransformer2DModel": {
        "hidden_states": {"randn": [1, 16, "in_channels"]},
        "encoder_hidden_states": {"randn": [1, 7, "joint_attention_dim"]},
        "encoder_hidden_states_mask": {"ones": [1, 7]},
        "timestep": {"full": [1], "value": 0.5},
        "img_shapes": [[[1, 4, 4]]],
    },
}


_COMPONENTS = {
    "transformer": "QwenImageTransformer2DModel",
    "vae": "AutoencoderKLQwenImage",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_COARSE = {**_COMPONENTS, "vae": "AutoencoderKLQwenImage/coarse"}


def _with(part: str, name: str, **config: Any) -> dict[str, Any]:
    """The ordinary components, with one more or with another config of one."""
    return {**_COMPONENTS, name: {"part": part, "config": config}}


_EMBEDS = {
    "prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
    "prompt_embeds_mask": {"ones": [1, 7], "tail": 2},
}
_NEGATIVE = {
    "negative_prompt_embeds": {"randn": [1, 5, "joint_attention_dim"]},
    "negative_prompt_embeds_mask": {"ones": [1, 5], "tail": 1},
}
_INPUTS = {
    **_EMBEDS,
    "true_cfg_scale": 1.0,
    "height": 16,
    "width": 16,
    "generator": {"generator": 0},
}
_GUIDED = {"guided": {**_NEGATIVE, "true_cfg_scale": 4.0}}
_BATCH = {"batch": {"num_images_per_prompt": 2}}
_WHOLE = {"whole_strength": {"strength": 1.0}}
_HALF = {"half_controlled": {"control_guidance_end": 0.5}}
_IMAGE = {"rand": [1, 3, 16, 16]}
_MASK = {"mask": [1, 1, 16, 16]}
_CONTROLLED = {"control_image": _IMAGE, "controlnet_conditioning_scale": 0.8}
# A tall picture: it is scaled to 256 x 4096, which PyTorch convolves far faster than 1024 x 1024.
_TALL = {"pil": [16, 256]}
_EDIT = {**_INPUTS, "image": _TALL, "height": 512, "width": 512}


PIPELINES: dict[str, Any] = {
    "QwenImagePipeline": {
        "components": _COMPONENTS,
        "inputs": _INPUTS,
        "cases": {
            **_GUIDED,
            **_BATCH,
            # Prompts of the same length, without a mask.
            "guided_unmasked": {
                "prompt_embeds_mask": None,
                "negative_prompt_embeds": {"randn": [1, 7, "joint_attention_dim"]},
                "true_cfg_scale": 4.0,
            },
        },
    },
    "QwenImageImg2ImgPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, "image": _IMAGE, "strength": 0.75},
        "cases": {**_GUIDED, **_WHOLE},
    },
    "QwenImageInpaintPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, "image": _IMAGE, "mask_image": _MASK, "strength": 0.75},
        "cases": {**_GUIDED, **_WHOLE},
    },
    "QwenImageControlNetPipeline": {
        "components": _with("QwenImageControlNetModel", "controlnet"),
        "inputs": {**_INPUTS, **_CONTROLLED},
        "cases": {**_GUIDED, **_HALF},
    },
    "QwenImageControlNetInpaintPipeline": {
        "components": _with("QwenImageControlNetModel", "controlnet", extra_condition_channels=4),
        "inputs": {**_INPUTS, **_CONTROLLED, "control_mask": _MASK},
        "cases": {**_GUIDED, **_HALF},
    },
    "QwenImageEditPipeline": {
        "components": _COARSE,
        "inputs": _EDIT,
        "cases": _GUIDED,
    },
    "QwenImageEditInpaintPipeline": {
        "components": _COARSE,
        "inputs": {**_EDIT, "mask_image": {**_TALL, "mode": "L"}, "strength": 0.75},
        "cases": {**_GUIDED, **_WHOLE},
    },
    "QwenImageEditPlusPipeline": {
        "components": _COARSE,
        "inputs": _EDIT,
        "cases": {
            **_GUIDED,
            "two_images": {"image": {"items": [_TALL, _TALL]}},
        },
        # The 2511 checkpoint: the given pictures are modulated as at timestep 0.
        "variants": {
            "zero_cond_t": {
                "components": {
                    "transformer": {
                        "part": "QwenImageTransformer2DModel",
                        "config": {"zero_cond_t": True},
                    }
                }
            }
        },
    },
    "QwenImageLayeredPipeline": {
        "components": {
            **_COARSE,
            "transformer": {
                "part": "QwenImageTransformer2DModel",
                "config": {
                    "in_channels": 32,
                    "out_channels": 8,
                    "use_additional_t_cond": True,
                    "use_layer3d_rope": True,
                },
            },
            # Latents of four channels would be taken for a picture with transparency.
            "vae": {
                "part": "AutoencoderKLQwenImage/coarse",
                "config": {
                    "input_channels": 4,
                    "z_dim": 8,
                    "latents_mean": [0.1] * 8,
                    "latents_std": [1.1] * 8,
                },
            },
            "text_encoder": "TextEncoderStub",
        },
        "inputs": {
            **_EMBEDS,
            # Only so that no caption is asked for: the embeddings are used.
            "prompt": "a",
            # Scaled to 128 x 3200, tall for the reason given above.
            "image": {"pil": [8, 200], "mode": "RGBA"},
            "layers": 1,
            "resolution": 640,
            "true_cfg_scale": 1.0,
            "generator": {"generator": 0},
            # Asked for latents, this pipeline of diffusers 0.42 fails after the last step.
            "output_type": "pt",
        },
        "cases": {
            **_GUIDED,
            "guided_normalised": {
                **_NEGATIVE,
                "true_cfg_scale": 4.0,
                "cfg_normalize": True,
            },
        },
    },
}
