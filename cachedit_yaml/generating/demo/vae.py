"""The demo model's autoencoder: 96x96x3 pictures to 24x24x4 latents and back."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from .muon import make_optimizers

LATENT_CHANNELS = 4
KL_WEIGHT = 1e-5


def build_vae() -> Any:
    """Make an untrained `diffusers.AutoencoderKL` of about 0.5 million parameters."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=96,
        scaling_factor=1.0,
    )
    with torch.no_grad():  # start with little noise on the latents: variance exp(-5)
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0.0
        vae.quant_conv.bias[LATENT_CHANNELS:] = -5.0
    return vae


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mix absolute error, squared error and the error of the picture's edges."""
    error = output - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.5 * edges


def train_vae(
    vae: Any, pictures: torch.Tensor, minutes: float, rate: float = 3e-3, batch: int = 4
) -> int:
    """Train for the given time with a warmed-up cosine rate; returns the number of steps."""
    vae.train().to(memory_format=torch.channels_last)
    optimizers, weights = make_optimizers(vae)
    start, step, done = time.monotonic(), 0, 0.0
    while done < 1.0:
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 30) * cosine
        target = pictures[torch.randint(len(pictures), (batch,))]
        target = target.contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(target).latent_dist
        output = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(output, target) + KL_WEIGHT * posterior.kl().mean()
        vae.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        done = (time.monotonic() - start) / (60 * minutes)
        if step % 50 == 0:
            mse = torch.nn.functional.mse_loss(output.detach().clamp(-1, 1), target).item()
            print(
                f"vae step {step} {done:.0%} loss {loss.item():.4f} "
                f"psnr {10 * math.log10(4 / mse):.2f} kl {posterior.kl().mean().item():.0f}",
                flush=True,
            )
    vae.eval()
    return step


@torch.no_grad()
def encode_all(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Encode the pictures to the means of their latents."""
    parts = torch.split(pictures, 64)
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts])


@torch.no_grad()
def normalise_latents(vae: Any, pictures: torch.Tensor) -> None:
    """Fold every latent channel's mean and deviation into the 1x1 convolutions around it.

    Afterwards the latents of the training set have mean 0 and deviation 1 in every channel, so
    that the scaling factor of the pipeline can stay 1.
    """
    latents = encode_all(vae, pictures)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= deviation[None, :, None, None]
    channels = LATENT_CHANNELS
    before.weight[:channels] /= deviation[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / deviation
    before.bias[channels:] -= 2 * deviation.log()
