"""Small models of SGLang's own transformer classes, and what to call them with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

#: Steps of a generation in these tests.
STEPS = 8
_DITS = "sglang.multimodal_gen.runtime.models.dits"
_CONFIGS = "sglang.multimodal_gen.configs.models.dits"


@dataclass(frozen=True)
class Model:
    """One transformer class.

    Attributes:
        module: where it is, below SGLang's models.
        name: the class.
        config: module and class of its config.
        arch: the config of a small one.
        lists: its block lists.
        inputs: what its forward takes, with the timestep.
    """

    module: str
    name: str
    config: tuple[str, str]
    arch: dict[str, Any]
    lists: tuple[str, ...]
    inputs: Callable[[torch.Tensor], dict[str, Any]]
    flags: dict[str, Any] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """Make one with seeded weights, in float32."""
        module, name = self.config
        config = getattr(importlib.import_module(f"{_CONFIGS}.{module}"), name)()
        config.update_model_arch(dict(self.arch))
        for key, value in self.flags.items():
            setattr(config, key, value)
        cls = getattr(importlib.import_module(f"{_DITS}.{self.module}"), self.name)
        model: torch.nn.Module = cls(config, {}).float().eval()
        torch.manual_seed(0)
        with torch.no_grad():
            for key, value in model.named_parameters():
                scale = 1.0 if value.ndim == 1 and "norm" in key and "weight" in key else 0.0
                value.copy_(torch.randn(value.shape) * 0.1 + scale)
        return model

    def blocks(self, model: torch.nn.Module) -> list[tuple[str, list[torch.nn.Module]]]:
        """Its block lists, by name."""
        return [(name, list(getattr(model, name))) for name in self.lists]

    def step(self, model: torch.nn.Module, timestep: float, branch: int = 1) -> torch.Tensor:
        """One forward, as SGLang's denoising loop does it."""
        from sglang.multimodal_gen.runtime.managers.forward_context import set_forward_context

        torch.manual_seed(branch)
        inputs = self.inputs(torch.tensor([timestep]))
        with torch.no_grad(), set_forward_context(current_timestep=0, attn_metadata=None):
            output = model(**inputs)
        return output if isinstance(output, torch.Tensor) else output[0]

    def generate(
        self, model: torch.nn.Module, branches: int = 1, steps: int = STEPS
    ) -> torch.Tensor:
        """The outputs of a generation. Inputs differ between branches, timesteps between steps."""
        outputs = [
            self.step(model, 1000.0 - 100 * step, branch)
            for step in range(steps)
            for branch in range(1, branches + 1)
        ]
        return torch.stack([output.clone() for output in outputs])


def _rope(tokens: int, dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.rand(tokens, dims)
    return angles.cos(), angles.sin()


def _randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


_HEADS: dict[str, Any] = {"num_layers": 4, "attention_head_dim": 16, "num_attention_heads": 2}
_TWO = ("transformer_blocks", "single_transformer_blocks")


def _qwen21(t: torch.Tensor) -> dict[str, Any]:
    layout = {
        "segments": [(0, 7, False)],
        "encoder_seq_len": 7,
        "text_indices": torch.arange(7),
        "image_indices": torch.arange(0),
        "target_rope": torch.polar(torch.ones(16, 8), torch.rand(16, 8)),
        "prefix_rope": torch.polar(torch.ones(7, 8), torch.rand(7, 8)),
    }
    return {
        "hidden_states": _randn(1, 16, 16),
        "encoder_hidden_states": _randn(1, 7, 24),
        "timestep": t,
        "layouts": [layout],
    }


MODELS: dict[str, Model] = {
    "flux": Model(
        "flux",
        "FluxTransformer2DModel",
        ("flux", "FluxConfig"),
        {
            "in_channels": 16,
            "num_layers": 4,
            "num_single_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 24,
            "axes_dims_rope": (4, 6, 6),
        },
        _TWO,
        lambda t: {
            "hidden_states": _randn(1, 16, 16),
            "encoder_hidden_states": _randn(1, 7, 32),
            "pooled_projections": _randn(1, 24),
            "timestep": t,
            "guidance": torch.tensor([3.5]),
            "freqs_cis": _rope(23, 8),
        },
    ),
    "wan2.2": Model(
        "wanvideo",
        "WanTransformer3DModel",
        ("wanvideo", "WanVideoConfig"),
        {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "text_dim": 24,
            "freq_dim": 32,
            "ffn_dim": 48,
            "num_layers": 4,
        },
        ("blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 3, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "timestep": t,
        },
    ),
    "qwen-image": Model(
        "qwen_image",
        "QwenImageTransformer2DModel",
        ("qwenimage", "QwenImageDitConfig"),
        {
            "in_channels": 16,
            "out_channels": 4,
            "patch_size": 2,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (4, 6, 6),
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 16, 16),
            "encoder_hidden_states": _randn(1, 7, 32),
            "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.bool),
            "timestep": t,
            "img_shapes": [[(1, 4, 4)]],
            "txt_seq_lens": [7],
            "freqs_cis": (torch.cat(_rope(16, 8), -1), torch.cat(_rope(7, 8), -1)),
        },
    ),
    "z-image": Model(
        "zimage",
        "ZImageTransformer2DModel",
        ("zimage", "ZImageDitConfig"),
        {
            "in_channels": 4,
            "dim": 32,
            "num_layers": 4,
            "n_refiner_layers": 2,
            "num_attention_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 24,
            "axes_dims": (4, 6, 6),
            "axes_lens": (256, 32, 32),
        },
        ("layers",),
        lambda t: {
            "hidden_states": _randn(2, 4, 1, 8, 8),
            "encoder_hidden_states": [_randn(7, 24), _randn(40, 24)],
            "timestep": t.repeat(2),
        },
    ),
    "glm-image": Model(
        "glm_image",
        "GlmImageTransformer2DModel",
        ("glmimage", "GlmImageDitConfig"),
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "condition_dim": 8,
            "prior_vq_quantizer_codebook_size": 16,
            "text_embed_dim": 24,
            "time_embed_dim": 32,
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "prior_token_id": torch.randint(0, 16, (1, 16)),
            "prior_token_drop": torch.zeros(1, 16, dtype=torch.bool),
            "timestep": t,
            "target_size": torch.tensor([[8.0, 8.0]]),
            "crop_coords": torch.tensor([[0.0, 0.0]]),
            "freqs_cis": _rope(16, 8),
        },
    ),
    "flux2": Model(
        "flux_2",
        "Flux2Transformer2DModel",
        ("flux", "FluxConfig"),
        {
            "in_channels": 16,
            "num_layers": 4,
            "num_single_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (4, 4, 4, 4),
            "mlp_ratio": 2.0,
            "timestep_guidance_channels": 32,
            "rope_theta": 2000,
            "eps": 1e-6,
        },
        _TWO,
        lambda t: {
            "hidden_states": _randn(1, 16, 16),
            "encoder_hidden_states": _randn(1, 7, 32),
            "timestep": t,
            "guidance": torch.tensor([3.5]),
            "freqs_cis": _rope(23, 8),
        },
    ),
    "hunyuan-video": Model(
        "hunyuanvideo",
        "HunyuanVideoTransformer3DModel",
        ("hunyuanvideo", "HunyuanVideoConfig"),
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 4,
            "num_single_layers": 4,
            "num_refiner_layers": 1,
            "rope_axes_dim": (4, 6, 6),
            "text_embed_dim": 24,
            "pooled_projection_dim": 12,
            "mlp_ratio": 2.0,
        },
        ("double_blocks", "single_blocks"),
        lambda t: {
            "hidden_states": _randn(1, 4, 3, 8, 8),
            "encoder_hidden_states": [_randn(1, 8, 24), _randn(1, 12)],
            "timestep": t,
            "guidance": torch.tensor([6000.0]),
        },
    ),
    "ideogram-4": Model(
        "ideogram",
        "Ideogram4Transformer2DModel",
        ("ideogram", "Ideogram4DiTConfig"),
        {
            "adaln_dim": 24,
            "in_channels": 16,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "llm_features_dim": 104,
            "mrope_section": (4, 2, 2),
        },
        ("layers",),
        lambda t: {
            "x": _randn(1, 20, 16),
            "t": t / 1000,
            "position_ids": torch.randint(0, 16, (1, 20, 3)),
            "segment_ids": torch.ones(1, 20, dtype=torch.long),
            "indicator": torch.tensor([[3] * 4 + [2] * 16]),
            "llm_features": _randn(1, 20, 104),
        },
        flags={"use_weight_only_fp8_linears": False},
    ),
    "krea-2": Model(
        "krea2",
        "Krea2Transformer2DModel",
        ("krea2", "Krea2DitConfig"),
        {
            "features": 32,
            "heads": 2,
            "kvheads": 1,
            "layers": 4,
            "multiplier": 2,
            "channels": 4,
            "patch": 2,
            "tdim": 32,
            "txtdim": 24,
            "txtlayers": 3,
            "txtheads": 2,
            "txtkvheads": 2,
            "axes_dims": (4, 6, 6),
            "in_channels": 16,
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 16, 16),
            "encoder_hidden_states": _randn(1, 7, 3, 24),
            "timestep": t,
            "pos": torch.rand(1, 23, 3),
        },
    ),
    "ernie-image": Model(
        "ernie_image",
        "ErnieImageTransformer2DModel",
        ("ernie_image", "ErnieImageDitConfig"),
        {
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "ffn_hidden_size": 48,
            "text_in_dim": 24,
            "rope_axes_dim": (4, 6, 6),
        },
        ("layers",),
        lambda t: {
            "hidden_states": _randn(1, 16, 4, 4),
            "encoder_hidden_states": [_randn(1, 7, 24)],
            "timestep": t,
        },
    ),
    "anima": Model(
        "anima",
        "AnimaTransformer3DModel",
        ("anima", "AnimaDiTConfig"),
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 4,
            "mlp_ratio": 2.0,
            "text_embed_dim": 24,
            "adaln_lora_dim": 8,
            "max_size": (8, 16, 16),
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 1, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "timestep": t / 1000,
            "padding_mask": torch.zeros(1, 1, 8, 8),
        },
    ),
    "longcat-image": Model(
        "longcat_image",
        "LongCatImageTransformer2DModel",
        ("longcat_image", "LongCatImageDitConfig"),
        {
            "in_channels": 16,
            "num_layers": 4,
            "num_single_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "axes_dims_rope": [4, 6, 6],
        },
        _TWO,
        lambda t: {
            "hidden_states": _randn(1, 16, 16),
            "encoder_hidden_states": _randn(1, 7, 32),
            "timestep": t / 1000,
            "img_ids": torch.rand(16, 3),
            "txt_ids": torch.rand(7, 3),
        },
    ),
    "stable-diffusion-3": Model(
        "stablediffusion3",
        "SD3Transformer2DModel",
        ("stablediffusion3", "StableDiffusion3TransformerConfig"),
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 24,
            "pos_embed_max_size": 16,
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 32),
            "pooled_projections": _randn(1, 24),
            "timestep": t,
        },
    ),
    "kandinsky6": Model(
        "kandinsky6",
        "Kandinsky6Transformer3DModel",
        ("kandinsky6", "Kandinsky6VideoAudioConfig"),
        {
            "model_dim": 32,
            "time_dim": 16,
            "time_dim_a": 16,
            "model_dim_a": 32,
            "ff_dim_a": 48,
            "axes_dims_a": (4, 6, 6),
            "ff_dim": 48,
            "axes_dims": (4, 6, 6),
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": 16,
            "in_text_dim2": 8,
            "in_audio_dim": 4,
            "out_audio_dim": 4,
            "num_text_blocks": 1,
            "num_visual_blocks": 4,
            "visual_cond": False,
        },
        ("visual_transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 2, 4, 4, 4),
            "hidden_states_audio": _randn(1, 5, 4),
            "encoder_hidden_states": _randn(1, 7, 16),
            "pooled_projections": _randn(1, 8),
            "timestep": t,
            "visual_rope_pos": [torch.arange(n) for n in (2, 2, 2)],
            "text_rope_pos": torch.arange(7),
        },
    ),
    "qwen-image-2.1": Model(
        "qwen_image21",
        "QwenImage21Transformer2DModel",
        ("qwenimage21", "QwenImage21DitConfig"),
        {
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "context_in_dim": 24,
            "mlp_ratio": 2,
            "axes_dims_rope": (4, 6, 6),
        },
        ("transformer_blocks",),
        _qwen21,
    ),
    "ming-image": Model(
        "ming_image",
        "MingImageTransformer2DModel",
        ("ming_image", "MingImageDitConfig"),
        {
            "in_channels": 4,
            "out_channels": 4,
            "dim": 32,
            "n_layers": 4,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 24,
            "axes_dims": (4, 6, 6),
            "axes_lens": (256, 64, 64),
            "alignment_padding_mode": "learned",
            "multi_frame_output": True,
        },
        ("layers",),
        lambda t: {
            "hidden_states": _randn(1, 4, 1, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "timestep": t,
            "direct_embeddings": _randn(1, 3, 32),
        },
    ),
    "sana": Model(
        "sana",
        "SanaTransformer2DModel",
        ("sana", "SanaConfig"),
        {
            "patch_size": 1,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 24,
            "mlp_ratio": 2.0,
            "sample_size": 8,
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "timestep": t,
        },
    ),
    "sana-video": Model(
        "sana_video",
        "SanaVideoTransformer3DModel",
        ("sana_video", "SanaVideoConfig"),
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 4,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 24,
            "cross_attention_dim": 48,
            "caption_channels": 24,
            "mlp_ratio": 2.0,
            "sample_size": 8,
        },
        ("transformer_blocks",),
        lambda t: {
            "hidden_states": _randn(1, 4, 2, 8, 8),
            "encoder_hidden_states": _randn(1, 7, 24),
            "timestep": t,
        },
    ),
}
