"""Small checkpoints of the models that vLLM-Omni knows, made here and never downloaded.

A checkpoint is a folder as the engine loads it: transformers from ``tests.tiny`` with random
weights, small text encoders and tokenizers whose vocabulary is a few bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tests import tiny

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
CHAT += ["<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: A VAE with the scale of the released ones, 8, so that a picture of 64 x 64 has 16 tokens.
VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [4] * 4,
    "norm_num_groups": 2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": 0.0609,
    "scaling_factor": 1.5035,
}
#: What the VAEs of Qwen-Image and Wan share.
VIDEO_VAE: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 4,
    "num_res_blocks": 1,
    "dim_mult": [1, 1, 1, 1],
    "latents_mean": [0.0, 0.1, -0.1, 0.2],
    "latents_std": [1.0, 1.1, 0.9, 1.2],
}
#: Width of every text encoder's hidden states.
TEXT = 24


def save(part: Any, folder: Path, seed: str = "") -> None:
    """Save a component; a module gets random weights first."""
    if isinstance(part, torch.nn.Module):
        tiny.randomise(part, seed or folder.name)
    part.save_pretrained(folder)


def index(folder: Path, pipeline: str, **more: Any) -> None:
    """Write the file that names the pipeline's class."""
    text = json.dumps({"_class_name": pipeline, "_diffusers_version": "0.40.0", **more})
    (folder / "model_index.json").write_text(text, encoding="utf-8")


def clip(folder: Path, name: str, *, projection: bool, width: int, **config: Any) -> None:
    """A CLIP text encoder and its tokenizer of single letters."""
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    suffix = name.removeprefix("text_encoder")
    place = folder / f"tokenizer{suffix}"
    place.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    CLIPTokenizer(
        str(place / "vocab.json"), str(place / "merges.txt"), model_max_length=77
    ).save_pretrained(place)
    cls = CLIPTextModelWithProjection if projection else CLIPTextModel
    settings = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=52,
        eos_token_id=53,
        **config,
    )
    save(cls(settings), folder / name)


def t5(folder: Path, name: str, *, width: int, umt5: bool = False) -> None:
    """A T5 encoder and its tokenizer of single letters."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -1.0), ("▁", -2.0)]
    words = [*special, *((letter, -3.0) for letter in LETTERS)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    suffix = name.removeprefix("text_encoder")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    ).save_pretrained(folder / f"tokenizer{suffix}")
    settings = {
        "vocab_size": 64,
        "d_model": width,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 1,
        "num_heads": 2,
    }
    model = (
        UMT5EncoderModel(UMT5Config(**settings)) if umt5 else T5EncoderModel(T5Config(**settings))
    )
    save(model, folder / name)


def bytes_tokenizer() -> Any:
    """A tokenizer of single bytes with the special tokens of Qwen's."""
    vocabulary = {word: number for number, word in enumerate([*BYTES, *CHAT])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=CHAT,
        chat_template=TEMPLATE,
        model_max_length=4096,
    )


def qwen_tokenizer(place: Path) -> None:
    """The same, with the vocabulary in files of its own."""
    bytes_tokenizer().save_pretrained(place)
    vocabulary = {word: number for number, word in enumerate(BYTES)}
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def language_model(**more: Any) -> dict[str, Any]:
    """The config of a small Qwen."""
    return {
        "vocab_size": 300,
        "hidden_size": TEXT,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "pad_token_id": 256,
        **more,
    }


def qwen_vl(folder: Path) -> None:
    """A small Qwen2.5-VL."""
    rope = {"type": "mrope", "mrope_section": [2, 2, 2], "rope_type": "default"}
    config = Qwen2_5_VLConfig(
        text_config=language_model(rope_scaling=rope),
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": TEXT, "fullatt_block_indexes": [0],
        },
        image_token_id=261, video_token_id=262, vision_start_token_id=259, vision_end_token_id=260,
    )  # fmt: skip
    save(Qwen2_5_VLForConditionalGeneration(config), folder / "text_encoder")


def flux(folder: Path) -> None:
    """FLUX.1 with guidance embedded."""
    save(tiny.transformer("FluxTransformer2DModel"), folder / "transformer")
    save(diffusers.AutoencoderKL(latent_channels=4, **VAE), folder / "vae")
    scheduler(folder, use_dynamic_shifting=True)
    clip(folder, "text_encoder", projection=False, width=24)
    t5(folder, "text_encoder_2", width=32)
    index(folder, "FluxPipeline")


def scheduler(folder: Path, **config: Any) -> None:
    """The flow-matching scheduler."""
    diffusers.FlowMatchEulerDiscreteScheduler(**config).save_pretrained(folder / "scheduler")


def sd3(folder: Path) -> None:
    """Stable Diffusion 3; the engine's first run has 512 x 512 pixels."""
    transformer = tiny.transformer(
        "SD3Transformer2DModel", pos_embed_max_size=64, sample_size=64, dual_attention_layers=()
    )
    save(transformer, folder / "transformer")
    save(diffusers.AutoencoderKL(latent_channels=16, **VAE), folder / "vae")
    scheduler(folder)
    clip(folder, "text_encoder", projection=True, width=12, projection_dim=10)
    clip(folder, "text_encoder_2", projection=True, width=12, projection_dim=10)
    t5(folder, "text_encoder_3", width=TEXT)
    index(folder, "StableDiffusion3Pipeline")


def qwen_image(folder: Path) -> None:
    """Qwen-Image."""
    vae = diffusers.AutoencoderKLQwenImage(temperal_downsample=[False] * 3, **VIDEO_VAE)
    save(tiny.transformer("QwenImageTransformer2DModel"), folder / "transformer")
    save(vae, folder / "vae")
    scheduler(folder, use_dynamic_shifting=True)
    qwen_vl(folder)
    qwen_tokenizer(folder / "tokenizer")
    index(folder, "QwenImagePipeline")


def longcat_image(folder: Path) -> None:
    """LongCat-Image."""
    save(tiny.transformer("LongCatImageTransformer2DModel"), folder / "transformer")
    save(diffusers.AutoencoderKL(latent_channels=16, **VAE), folder / "vae")
    scheduler(folder, use_dynamic_shifting=True)
    qwen_vl(folder)
    qwen_tokenizer(folder / "tokenizer")
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(), bytes_tokenizer(), Qwen2VLVideoProcessor(), chat_template=TEMPLATE
    ).save_pretrained(folder / "text_processor")
    index(folder, "LongCatImagePipeline")


def z_image(folder: Path) -> None:
    """Z-Image; the engine takes its transformer's shape from its own defaults."""
    save(tiny.transformer("ZImageTransformer2DModel"), folder / "transformer")
    save(diffusers.AutoencoderKL(latent_channels=4, **VAE), folder / "vae")
    scheduler(folder, use_dynamic_shifting=True)
    save(Qwen3ForCausalLM(Qwen3Config(**language_model(head_dim=12))), folder / "text_encoder")
    qwen_tokenizer(folder / "tokenizer")
    index(folder, "ZImagePipeline")


def wan(folder: Path, *, two: bool = False) -> None:
    """Wan 2.1 with one transformer, Wan 2.2 with two."""
    names = ["transformer", "transformer_2"] if two else ["transformer"]
    for name in names:
        made = tiny.transformer("WanTransformer3DModel", rope_max_seq_len=64)
        save(made, folder / name, seed=name)
    vae = diffusers.AutoencoderKLWan(
        temperal_downsample=[True, True, False],
        scale_factor_spatial=8,
        scale_factor_temporal=4,
        **VIDEO_VAE,
    )
    save(vae, folder / "vae")
    t5(folder, "text_encoder", width=TEXT, umt5=True)
    index(folder, "WanPipeline")


def wan_two(folder: Path) -> None:
    """Wan 2.2 with a transformer for the noisy steps and one for the others."""
    wan(folder, two=True)


def bagel(folder: Path) -> None:
    """BAGEL: configs and a tokenizer; the tests fill in the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    language = language_model(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", num_hidden_layers=4,
        rms_norm_eps=1e-6, rope_theta=10000.0, hidden_act="silu", use_sliding_window=False,
    )  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "num_channels": 3,
        "model_type": "siglip_vision_model",
    }  # fmt: skip
    whole = {
        "architectures": ["BagelForConditionalGeneration"], "model_type": "bagel",
        "llm_config": language, "vit_config": vision,
        "vae_config": {"z_channels": 4, "downsample": 8}, "max_latent_size": 64,
        "vit_max_num_patch_per_side": 8, "latent_patch_size": 2, "timestep_shift": 1.0,
    }  # fmt: skip
    for name, content in (
        ("config.json", whole),
        ("llm_config.json", language),
        ("vit_config.json", vision),
        ("preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor"}),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    qwen_tokenizer(folder)
    from safetensors.torch import save_file

    save_file({"nothing": torch.zeros(1)}, folder / "ema.safetensors")


MODELS: dict[str, Callable[[Path], None]] = {
    "flux": flux,
    "qwen_image": qwen_image,
    "sd3": sd3,
    "longcat_image": longcat_image,
    "wan": wan,
    "wan_two": wan_two,
    "z_image": z_image,
    "bagel": bagel,
}
"""Every checkpoint by name."""


def build(name: str, folder: Path) -> Path:
    """Make a checkpoint, unless it is there already."""
    place = folder / name
    if not (place / ".complete").exists():
        place.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            MODELS[name](place)
        (place / ".complete").touch()
    return place
