"""The demo model's class-conditional diffusion transformer and its flow-matching training."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from .muon import make_optimizers

NULL_CLASS = 1000  # `diffusers.DiTPipeline` fixes this number for "no class"
CLASS_DROPOUT = 0.1


def build_transformer() -> Any:
    """Make an untrained `diffusers.DiTTransformer2DModel` of about 4.6 million parameters."""
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=28,
        in_channels=4,
        out_channels=4,
        num_layers=12,
        sample_size=24,
        patch_size=2,
        num_embeds_ada_norm=NULL_CLASS,
    )
    for block in model.transformer_blocks:
        torch.nn.init.zeros_(block.norm1.linear.weight)
        torch.nn.init.zeros_(block.norm1.linear.bias)
        # The training below drops classes itself, equally in all blocks.
        block.norm1.emb.class_embedder.dropout_prob = 0.0
        table = block.norm1.emb.class_embedder.embedding_table.weight
        torch.nn.init.normal_(table, std=0.3)
    torch.nn.init.zeros_(model.proj_out_2.weight)
    torch.nn.init.zeros_(model.proj_out_2.bias)
    return model


def build_scheduler() -> Any:
    """Make the sampler: DPM-Solver++ (2M) along straight flow-matching paths."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )


def noise_levels(batch: int) -> torch.Tensor:
    """Noise levels to train at, ``[b]``: a mix of uniform and logit-normal ones."""
    uniform = (torch.randperm(batch) + torch.rand(batch)) / batch  # stratified
    middle = torch.sigmoid(torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)))
    return torch.where(torch.rand(batch) < 0.5, uniform, middle).clamp(1e-3, 0.999)


def flow_loss(model: Any, clean: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the flow-matching loss at random noise levels with random class dropout."""
    sigma = noise_levels(len(clean))
    noise = torch.randn_like(clean)
    mix = sigma[:, None, None, None]
    noisy = (1 - mix) * clean + mix * noise
    labels = torch.where(torch.rand(len(clean)) < CLASS_DROPOUT, NULL_CLASS, labels)
    flow = model(noisy, timestep=sigma * 1000, class_labels=labels).sample
    return torch.nn.functional.mse_loss(flow, noise - clean)


@torch.no_grad()
def update_average(average: Any, model: Any, decay: float) -> None:
    """Move the averaged weights towards the model's."""
    targets = list(average.parameters())
    torch._foreach_lerp_(targets, list(model.parameters()), 1 - decay)


def train_transformer(
    model: Any,
    latents: torch.Tensor,
    labels: torch.Tensor,
    minutes: float,
    rate: float = 2.5e-3,
    batch: int = 12,
    on_average: Callable[[Any, int, float], None] | None = None,
    loss_of: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor] = flow_loss,
) -> tuple[Any, int]:
    """Train for the given time; returns the averaged model and the number of steps.

    ``on_average(average, step, done)`` is called about every fifth of the time.
    """
    model.train()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizers, weights = make_optimizers(model, weight_decay=0.01)
    start, step, done, losses, calls = time.monotonic(), 0, 0.0, 0.0, 1
    while done < 1.0:
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 50) * cosine
        chosen = torch.randint(len(latents), (batch,))
        loss: Any = loss_of(model, latents[chosen], labels[chosen])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        update_average(average, model, min(0.998, step / (step + 10)))
        losses += loss.item()
        done = (time.monotonic() - start) / (60 * minutes)
        if step % 50 == 0:
            print(f"step {step} {done:.1%} loss {losses / 50:.4f}", flush=True)
            losses = 0.0
        if on_average is not None and done >= calls / 5 and done < 1.0:
            on_average(average, step, done)
            calls += 1
    return average, step
