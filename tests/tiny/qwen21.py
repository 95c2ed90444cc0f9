"""Qwen-Image 2.1."""

from __future__ import annotations

from typing import Any

from . import text as _text  # noqa: F401 - registers the makers of the text parts
from .flux import PARTS as _FLUX

PARTS: dict[str, Any] = {
    "QwenImage21Transformer2DModel": {
        "patch_size": 1,
        "in_channels": 8,
        "out_channels": 8,
        "num_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "context_in_dim": 24,
        "mlp_ratio": 2,
        "axes_dims_rope": [4, 6, 6],
        "causal_condition": True,
    },
    # The pipeline assumes a factor of 16.
    "AutoencoderKLQwenImage21": {
        "base_dim": 4,
        "decoder_base_dim": 4,
        "z_dim": 8,
        "dim_mult": [1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, False, False, False],
        "latents_mean": [0.1] * 8,
        "latents_std": [1.1] * 8,
    },
    "FlowMatchEulerDiscreteScheduler": _FLUX["FlowMatchEulerDiscreteScheduler"],
    "TextEncoderStub": {},
    "ProcessorStub": {},
}

FORWARD: dict[str, Any] = {
    "QwenImage21Transformer2DModel": {
        "hidden_states": {"randn": [1, 16, "in_channels"]},
        "encoder_hidden_states": {"randn": [1, 7, "context_in_dim"]},
        "timestep": {"full": [1], "value": 0.5},
        "img_shapes": [[[1, 4, 4]]],
        # Seven tokens of text, then one for each 2 x 2 tokens of the image.
        "img_mask": {"flags": [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]},
    },
}

_NEGATIVE = {
    "negative_prompt_embeds": {"randn": [1, 5, "context_in_dim"]},
    "negative_prompt_embeds_mask": {"ones": [1, 5], "tail": 1},
    "true_cfg_scale": 4.0,
}
# A prompt, not embeddings, as the pipeline itself cannot take embeddings with an image.
_IMAGE = {
    "prompt": "a red cat",
    "prompt_embeds": None,
    "prompt_embeds_mask": None,
    "image": {"pil": [64, 64], "mode": "RGBA"},
    "output_resolution": 64,
}

PIPELINES: dict[str, Any] = {
    "QwenImage21Pipeline": {
        "components": {
            "transformer": "QwenImage21Transformer2DModel",
            "vae": "AutoencoderKLQwenImage21",
            "scheduler": "FlowMatchEulerDiscreteScheduler",
            "text_encoder": "TextEncoderStub",
            "processor": "ProcessorStub",
        },
        # The keys and values of the text are kept from the first step on.
        "inputs": {
            "prompt_embeds": {"randn": [1, 7, "context_in_dim"]},
            "prompt_embeds_mask": {"ones": [1, 7], "tail": 2},
            "height": 64,
            "width": 64,
            "generator": {"generator": 0},
        },
        "cases": {
            "guided": _NEGATIVE,
            "without_kv_cache": {"use_kv_cache": False},
            "guided_without_kv_cache": {**_NEGATIVE, "use_kv_cache": False},
            "image": _IMAGE,
            "image_without_kv_cache": {**_IMAGE, "use_kv_cache": False},
        },
    },
}
