"""The demo's second model: FLUX.1 in small, with words for text, and its flow-matching training."""

from __future__ import annotations

from typing import Any

import torch

from .captions import END, LENGTH, PAD, UNKNOWN, tokens_of, vocabulary
from .dit import noise_levels

TEXT_WIDTH = 64
TEXT_DROPOUT = 0.1
SIDE = 12  # tokens of 2 x 2 latents along each edge


def build_transformer() -> Any:
    """An untrained `diffusers.FluxTransformer2DModel`: 8 + 8 blocks, 3.9 million parameters."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=8,
        num_single_layers=8,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 10, 10),
    )
    ends = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "norm" in name and name.endswith("linear")
    ]
    for module in (*ends, model.proj_out):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    return model


def build_encoders() -> tuple[Any, Any]:
    """The text encoders of one layer each: CLIP's for the whole prompt, T5's for its words."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    known = vocabulary()
    sizes: dict[str, Any] = {"vocab_size": len(known), "pad_token_id": known[PAD]}
    clip = CLIPTextConfig(
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=known[UNKNOWN],
        eos_token_id=known[END],
        **sizes,
    )
    t5 = T5Config(
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=2 * TEXT_WIDTH,
        num_layers=1,
        num_heads=4,
        dropout_rate=0.0,
        eos_token_id=known[END],
        **sizes,
    )
    return CLIPTextModel(clip), T5EncoderModel(t5)


class TextFlow(torch.nn.Module):
    """The transformer with its text encoders, which are trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = build_transformer()
        self.clip, self.t5 = build_encoders()
        torch.nn.init.normal_(self.t5.get_input_embeddings().weight, std=1.0)
        torch.nn.init.normal_(self.clip.get_input_embeddings().weight, std=0.3)
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("none", torch.zeros(LENGTH, 3), persistent=False)

    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The flow of packed latents (N, 144, 16) at noise levels (N,) under tokens (N, 8)."""
        flow: torch.Tensor = self.transformer(
            hidden_states=latents,
            timestep=sigma,
            pooled_projections=self.clip(tokens).pooler_output,
            encoder_hidden_states=self.t5(tokens)[0],
            txt_ids=self.none,
            img_ids=self.places,
            return_dict=False,
        )[0]
        return flow


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, 4, 24, 24) as tokens (N, 144, 16), as the pipeline packs them."""
    from diffusers import FluxPipeline

    packed: torch.Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return packed


def text_loss(model: TextFlow, clean: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The flow-matching loss at random noise levels; some prompts are left out."""
    sigma = noise_levels(len(clean))
    noise = torch.randn_like(clean)
    mix = sigma[:, None, None]
    empty = torch.tensor(tokens_of(""))
    tokens = torch.where(torch.rand(len(clean))[:, None] < TEXT_DROPOUT, empty, tokens)
    flow = model((1 - mix) * clean + mix * noise, sigma, tokens)
    return torch.nn.functional.mse_loss(flow, noise - clean)


def build_tokenizer() -> Any:
    """Words to numbers, for both encoders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = vocabulary()
    words = Tokenizer(models.WordLevel(known, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, known[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=LENGTH,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
    )


def build_pipeline(model: TextFlow, vae: Any) -> Any:
    """The trained parts as a `diffusers.FluxPipeline`."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    tokenizer = build_tokenizer()
    vae.register_to_config(shift_factor=0.0)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=model.clip,
        tokenizer=tokenizer,
        text_encoder_2=model.t5,
        tokenizer_2=tokenizer,
        transformer=model.transformer,
    )
