"""Wan: text, image or video to video, VACE and Animate."""

from __future__ import annotations

from typing import Any

from .common import builder

_SHAPE = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 48,
    "num_layers": 4,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
_IMAGE_TOKENS = {"image_dim": 20, "added_kv_proj_dim": 32}

PARTS: dict[str, Any] = {
    "WanTransformer3DModel": _SHAPE,
    "WanVACETransformer3DModel": {**_SHAPE, "vace_layers": [0, 2], "vace_in_channels": 24},
    "WanAnimateTransformer3DModel": {
        **_SHAPE,
        "in_channels": 12,
        "latent_channels": 4,
        **_IMAGE_TOKENS,
        "motion_encoder_channel_sizes": {"4": 8, "8": 8, "16": 8},
        "motion_encoder_size": 16,
        "motion_style_dim": 8,
        "motion_dim": 4,
        "motion_encoder_dim": 16,
        "face_encoder_hidden_dim": 16,
        "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 2,
    },
    # A factor of 4 both in space and in time.
    "AutoencoderKLWan": {
        "base_dim": 4,
        "z_dim": 4,
        "num_res_blocks": 1,
        "dim_mult": [1, 1, 1],
        "temperal_downsample": [True, True],
        "scale_factor_spatial": 4,
        "scale_factor_temporal": 4,
        "latents_mean": [0.0, 0.1, -0.1, 0.2],
        "latents_std": [1.0, 1.1, 0.9, 1.2],
    },
    "UniPCMultistepScheduler/flow": {
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "num_train_timesteps": 1000,
        "flow_shift": 3.0,
    },
    "CLIPVisionModel": {
        "hidden_size": 20,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    },
    "CLIPImageProcessor": {
        "size": {"shortest_edge": 8},
        "crop_size": {"height": 8, "width": 8},
    },
}


@builder("CLIPVisionModel")
def _image_encoder(**config: Any) -> Any:
    """The image encoder of the first Wan image-to-video models."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**config))


@builder("CLIPImageProcessor")
def _image_processor(**config: Any) -> Any:
    """What prepares pictures for the image encoder."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(**config)


_FORWARD = {
    "hidden_states": {"randn": [1, "in_channels", 3, 8, 8]},
    "timestep": {"full": [1], "value": 500, "dtype": "int64"},
    "encoder_hidden_states": {"randn": [1, 7, "text_dim"]},
    "encoder_hidden_states_image": {"randn": [1, 5, "image_dim"]},
}

FORWARD: dict[str, Any] = {
    "WanTransformer3DModel": _FORWARD,
    "WanVACETransformer3DModel": {
        **_FORWARD,
        "control_hidden_states": {"randn": [1, "vace_in_channels", 3, 8, 8]},
    },
    "WanAnimateTransformer3DModel": {
        **_FORWARD,
        "pose_hidden_states": {"randn": [1, "latent_channels", 2, 8, 8]},
        "face_pixel_values": {
            "rand": [1, 3, 5, "motion_encoder_size", "motion_encoder_size"],
        },
    },
}

_COMPONENTS = {
    "transformer": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
    "scheduler": "UniPCMultistepScheduler/flow",
}


def _transformer(name: str = "WanTransformer3DModel", **config: Any) -> dict[str, Any]:
    """A transformer with another config."""
    return {"part": name, "config": config}


def _stages(transformer: Any, **more: Any) -> dict[str, Any]:
    """The variants of Wan 2.2 with one transformer for high and another for low noise.

    The pipeline may also be loaded with only one of them.
    """
    names = "transformer", "transformer_2"
    return {
        name: {
            "components": dict(zip(names, components, strict=True)),
            "config": {"boundary_ratio": boundary},
            **more,
        }
        for name, components, boundary in (
            ("two", (transformer, transformer), 0.875),
            ("high_only", (transformer, None), 0.0),
            ("low_only", (None, transformer), 1.1),
        )
    }


_INPUTS = {
    "prompt_embeds": {"randn": [1, 7, "text_dim"]},
    "guidance_scale": 1.0,
    "height": 32,
    "width": 32,
    "generator": {"generator": 0},
}
_GUIDED = {
    "guided": {
        "guidance_scale": 5.0,
        "negative_prompt_embeds": {"randn": [1, 7, "text_dim"]},
    }
}
_FRAMES = {"num_frames": 9}
_PICTURE = {"pil": [32, 32]}
_VIDEO = {"repeat": _PICTURE, "times": 9}
_MASKS = {"repeat": {"pil": [32, 32], "mode": "L"}, "times": 9}

PIPELINES: dict[str, Any] = {
    "WanPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, **_FRAMES},
        "cases": _GUIDED,
        "variants": {
            **_stages(_transformer()),
            # Wan 2.2 5B: a timestep for every token.
            "expand_timesteps": {"config": {"expand_timesteps": True}},
        },
    },
    "WanImageToVideoPipeline": {
        "components": {
            **_COMPONENTS,
            "transformer": _transformer(in_channels=12, **_IMAGE_TOKENS),
            "image_encoder": "CLIPVisionModel",
            "image_processor": "CLIPImageProcessor",
        },
        "inputs": {**_INPUTS, **_FRAMES, "image": _PICTURE},
        "cases": _GUIDED,
        "variants": {
            **_stages(
                _transformer(in_channels=12),
                cases={"last_image": {"last_image": _PICTURE}},
            ),
            # Wan 2.1, first and last frame.
            "first_last": {
                "components": {
                    "transformer": _transformer(
                        in_channels=12, **_IMAGE_TOKENS, pos_embed_seq_len=10
                    ),
                },
                "inputs": {"last_image": _PICTURE},
            },
            "expand_timesteps": {
                "components": {"transformer": _transformer()},
                "config": {"expand_timesteps": True},
            },
        },
    },
    "WanVideoToVideoPipeline": {
        "components": _COMPONENTS,
        "inputs": {**_INPUTS, "video": _VIDEO, "strength": 0.75},
        "cases": {**_GUIDED, "whole_strength": {"strength": 1.0}},
    },
    "WanVACEPipeline": {
        "components": {**_COMPONENTS, "transformer": "WanVACETransformer3DModel"},
        "inputs": {**_INPUTS, **_FRAMES, "video": _VIDEO, "mask": _MASKS},
        "cases": {
            **_GUIDED,
            "reference": {"reference_images": {"items": [_PICTURE]}},
            "unconditioned": {"video": None, "mask": None},
        },
        "variants": _stages(_transformer("WanVACETransformer3DModel")),
    },
    # Two segments of five frames; every segment runs the whole loop of steps.
    "WanAnimatePipeline": {
        "components": {
            **_COMPONENTS,
            "transformer": "WanAnimateTransformer3DModel",
            "image_encoder": "CLIPVisionModel",
            "image_processor": "CLIPImageProcessor",
        },
        "inputs": {
            **_INPUTS,
            "image": _PICTURE,
            "pose_video": _VIDEO,
            "face_video": _VIDEO,
            "segment_frame_length": 5,
        },
        "cases": {
            **_GUIDED,
            "replace": {"mode": "replace", "background_video": _VIDEO, "mask_video": _MASKS},
        },
    },
}
