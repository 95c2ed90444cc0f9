"""LongCat-Image."""

from __future__ import annotations

from typing import Any

from . import text as _text  # noqa: F401 - registers the makers of the text parts
from .flux import PARTS as _FLUX

PARTS: dict[str, Any] = {
    # The pipelines assume latents of 16 channels.
    "LongCatImageTransformer2DModel": {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 4,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 24,
        "pooled_projection_dim": 24,
        "axes_dims_rope": [4, 6, 6],
    },
    "AutoencoderKL/longcat": {**_FLUX["AutoencoderKL/flux"], "latent_channels": 16},
    # The editing pipeline scales every picture to about 1024 x 1024: with a factor of 64 that is
    # 16 x 16 latents, which are 64 tokens.
    "AutoencoderKL/longcat_coarse": {
        **_FLUX["AutoencoderKL/flux"],
        "down_block_types": ["DownEncoderBlock2D"] * 7,
        "up_block_types": ["UpDecoderBlock2D"] * 7,
        "block_out_channels": [4] * 7,
        "layers_per_block": 0,
        "latent_channels": 16,
    },
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
    "TextEncoderStub": {},
    "WordTokenizer": {},
    "ProcessorStub": {},
}

FORWARD: dict[str, Any] = {
    "LongCatImageTransformer2DModel": {
        "hidden_states": {"randn": [1, 16, "in_channels"]},
        "encoder_hidden_states": {"randn": [1, 7, "joint_attention_dim"]},
        "timestep": {"full": [1], "value": 0.5},
        "img_ids": {"rand": [16, 3]},
        "txt_ids": {"full": [7, 3], "value": 0.0},
    },
}

_COMPONENTS = {
    "transformer": "LongCatImageTransformer2DModel",
    "vae": "AutoencoderKL/longcat",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
    "text_encoder": "TextEncoderStub",
    "tokenizer": "WordTokenizer",
    "text_processor": "ProcessorStub",
}

# The pipelines cannot be called with embeddings: without a prompt they fail.
_INPUTS = {
    "prompt": "a red cat",
    "guidance_scale": 1.0,
    "generator": {"generator": 0},
}
_GUIDED = {"guided": {"guidance_scale": 4.5, "negative_prompt": "a cat"}}
_BATCH = {"batch": {"num_images_per_prompt": 2}}
_SHORT = {"tokenizer_max_length": 7}

PIPELINES: dict[str, Any] = {
    "LongCatImagePipeline": {
        "components": _COMPONENTS,
        "attributes": _SHORT,
        "inputs": {**_INPUTS, "height": 16, "width": 16, "enable_prompt_rewrite": False},
        "cases": {
            **_GUIDED,
            **_BATCH,
            "guided_without_renorm": {**_GUIDED["guided"], "enable_cfg_renorm": False},
        },
    },
    "LongCatImageEditPipeline": {
        "components": {**_COMPONENTS, "vae": "AutoencoderKL/longcat_coarse"},
        "attributes": _SHORT,
        "inputs": {**_INPUTS, "image": {"pil": [32, 32]}},
        "cases": _GUIDED,
    },
}
