"""PixArt-alpha and PixArt-sigma."""

from __future__ import annotations

from typing import Any

from .dit import PARTS as _DIT

PARTS: dict[str, Any] = {
    "PixArtTransformer2DModel": {
        # The size conditions take a third of the width each.
        "num_attention_heads": 3,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 4,
        "cross_attention_dim": 48,
        "caption_channels": 24,
        "sample_size": 8,
        "patch_size": 2,
        "use_additional_conditions": False,
        "interpolation_scale": 1.0,
    },
    "AutoencoderKL/4": _DIT["AutoencoderKL/4"],
    # The default epsilon prediction divides by the signal's share, which for the first step and
    # a random model makes latents of a size that hides the blocks' work.
    "DPMSolverMultistepScheduler": {"prediction_type": "v_prediction"},
}

FORWARD: dict[str, Any] = {
    "PixArtTransformer2DModel": {
        "hidden_states": {"randn": [2, "in_channels", "sample_size", "sample_size"]},
        "encoder_hidden_states": {"randn": [2, 7, "caption_channels"]},
        "timestep": {"full": [2], "value": 500, "dtype": "int64"},
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "encoder_attention_mask": {"ones": [2, 7], "tail": 2},
    },
}

_COMPONENTS = {
    "transformer": "PixArtTransformer2DModel",
    "vae": "AutoencoderKL/4",
    "scheduler": "DPMSolverMultistepScheduler",
}

_INPUTS = {
    "prompt_embeds": {"randn": [1, 7, "caption_channels"]},
    "prompt_attention_mask": {"ones": [1, 7], "tail": 2},
    "negative_prompt": None,
    "negative_prompt_embeds": {"randn": [1, 7, "caption_channels"]},
    "negative_prompt_attention_mask": {"ones": [1, 7], "tail": 4},
    "guidance_scale": 4.5,
    "use_resolution_binning": False,
    "height": 16,
    "width": 16,
    "generator": {"generator": 0},
}

_UNGUIDED = {
    "guidance_scale": 1.0,
    "negative_prompt_embeds": None,
    "negative_prompt_attention_mask": None,
}

_PLAIN = {
    "components": _COMPONENTS,
    # Guidance doubles the batch.
    "inputs": _INPUTS,
    "cases": {"unguided": _UNGUIDED},
}

PIPELINES: dict[str, Any] = {
    "PixArtAlphaPipeline": {
        **_PLAIN,
        # The 1024 checkpoints: the size conditions are used.
        "variants": {
            "sized": {
                "components": {
                    "transformer": {
                        "part": "PixArtTransformer2DModel",
                        "config": {"sample_size": 128, "use_additional_conditions": True},
                    }
                }
            }
        },
    },
    "PixArtSigmaPipeline": _PLAIN,
    "PixArtSigmaPAGPipeline": {
        **_PLAIN,
        # Perturbed-attention guidance makes the batch three times as large.
        "inputs": {**_INPUTS, "pag_scale": 3.0},
        "cases": {"unguided": _UNGUIDED, "without_pag": {"pag_scale": 0.0}},
    },
}
