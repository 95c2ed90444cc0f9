"""DiT: class-conditional images."""

from __future__ import annotations

from typing import Any

PARTS: dict[str, Any] = {
    "DiTTransformer2DModel": {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 4,
        "sample_size": 8,
        "patch_size": 2,
        "num_embeds_ada_norm": 1000,
    },
    "AutoencoderKL/4": {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [4, 4],
        "latent_channels": 4,
        "norm_num_groups": 2,
        "sample_size": 16,
    },
    "DDIMScheduler": {},
}

FORWARD: dict[str, Any] = {
    "DiTTransformer2DModel": {
        "hidden_states": {"randn": [2, "in_channels", "sample_size", "sample_size"]},
        "timestep": {"full": [2], "value": 500, "dtype": "int64"},
        "class_labels": {"count": 2},
    },
}

PIPELINES: dict[str, Any] = {
    "DiTPipeline": {
        "components": {
            "transformer": "DiTTransformer2DModel",
            "vae": "AutoencoderKL/4",
            "scheduler": "DDIMScheduler",
        },
        # Guidance doubles the batch; this pipeline always decodes.
        "inputs": {
            "class_labels": [1, 2],
            "guidance_scale": 4.0,
            "generator": {"generator": 0},
            "output_type": "pt",
        },
        "cases": {"unguided": {"guidance_scale": 1.0}},
    },
}
