"""Stand-ins for the classes of the package ``boogu``, which is on no package index.

They have its class names, and what an adapter depends on: the block lists and the blocks' forwards
with their arguments by position, what happens between the lists, a scheduler whose time rises from
0 to 1, and how many forwards a step makes under each guidance. The blocks are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import nn

from tests import tiny

DIM = 8
PATCHES = 6


def attend(query: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention of ``[b x s x d]`` over tokens, of which a mask ``[b x t]`` says which count."""
    found: torch.Tensor = nn.functional.scaled_dot_product_attention(
        query, tokens, tokens, attn_mask=mask[:, None, :]
    )
    return found


class BooguImageDoubleStreamTransformerBlock(nn.Module):
    """Image and instruction tokens, each stream with its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.img_self = nn.Linear(DIM, DIM)
        self.img_joint = nn.Linear(DIM, DIM)
        self.instruct_joint = nn.Linear(DIM, DIM)
        self.modulation = nn.Linear(1, DIM)

    def forward(
        self,
        img_hidden_states: torch.Tensor,
        instruct_hidden_states: torch.Tensor,
        img_attention_mask: torch.Tensor,
        joint_attention_mask: torch.Tensor,
        image_rotary_emb: torch.Tensor,
        rotary_emb: torch.Tensor,
        temb: torch.Tensor | None = None,
        encoder_seq_lengths: Sequence[int] = (),
        seq_lengths: Sequence[int] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``[b x i x d]`` and ``[b x t x d]`` to the same, the image first."""
        joint = fuse(img_hidden_states, instruct_hidden_states, encoder_seq_lengths, seq_lengths)
        joint = attend(joint + rotary_emb, joint, joint_attention_mask)
        shift = self.modulation(temb)[:, None]
        img = attend(img_hidden_states + image_rotary_emb, img_hidden_states, img_attention_mask)
        img_joint = torch.zeros_like(img_hidden_states)
        instruct_joint = torch.zeros_like(instruct_hidden_states)
        for row, (text, total) in enumerate(zip(encoder_seq_lengths, seq_lengths, strict=True)):
            instruct_joint[row, :text] = joint[row, :text]
            img_joint[row, : total - text] = joint[row, text:total]
        img_hidden_states = img_hidden_states + 0.2 * torch.tanh(self.img_self(img) + shift)
        img_hidden_states = img_hidden_states + 0.2 * torch.tanh(self.img_joint(img_joint))
        instruct = 0.2 * torch.tanh(self.instruct_joint(instruct_joint) + shift)
        return img_hidden_states, instruct_hidden_states + instruct


class BooguImageSingleStreamTransformerBlock(nn.Module):
    """All tokens in one sequence; without `temb` as a context refiner."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)
        self.modulation = nn.Linear(1, DIM)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        image_rotary_emb: torch.Tensor,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        found = attend(hidden_states + image_rotary_emb, hidden_states, attention_mask)
        shift = 0.0 if temb is None else self.modulation(temb)[:, None]
        return hidden_states + 0.3 * torch.tanh(self.linear(found) + shift)


def fuse(
    img: torch.Tensor, instruct: torch.Tensor, texts: Sequence[int], totals: Sequence[int]
) -> torch.Tensor:
    """One sequence of each row's instruction and image tokens, padded at its end."""
    joint = img.new_zeros(len(totals), max(totals), DIM)
    for row, (text, total) in enumerate(zip(texts, totals, strict=True)):
        joint[row, :text] = instruct[row, :text]
        joint[row, text:total] = img[row, : total - text]
    return joint


class BooguImageTransformer2DModel(nn.Module):
    """The transformer."""

    def __init__(self) -> None:
        super().__init__()
        single, double = (
            BooguImageSingleStreamTransformerBlock,
            BooguImageDoubleStreamTransformerBlock,
        )
        self.context_refiner = nn.ModuleList(single() for _ in range(2))
        self.noise_refiner = nn.ModuleList(single() for _ in range(2))
        self.double_stream_layers = nn.ModuleList(double() for _ in range(4))
        self.single_stream_layers = nn.ModuleList(single() for _ in range(5))
        self.norm_out = nn.Linear(DIM, DIM)
        tiny.randomise(self, 0)
        self.eval().requires_grad_(False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        instruction_hidden_states: torch.Tensor,
        freqs_cis: torch.Tensor,
        instruction_attention_mask: torch.Tensor,
        ref_image_hidden_states: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = False,
    ) -> torch.Tensor:
        """``[b x i x d]`` to ``[b x i x d]``."""
        batch, tokens = hidden_states.shape[:2]
        temb = timestep[:, None].to(hidden_states.dtype)
        texts = instruction_attention_mask.sum(dim=1).tolist()
        instruct = instruction_hidden_states
        for layer in self.context_refiner:
            instruct = layer(
                instruct, instruction_attention_mask.bool(), freqs_cis[: instruct.shape[1]]
            )
        everywhere = hidden_states.new_ones(batch, tokens, dtype=torch.bool)
        for layer in self.noise_refiner:
            hidden_states = layer(hidden_states, everywhere, freqs_cis[:tokens], temb)
        img = hidden_states
        if ref_image_hidden_states is not None:
            img = torch.cat([ref_image_hidden_states, img], dim=1)
        totals = [text + img.shape[1] for text in texts]
        joint_mask = hidden_states.new_zeros(batch, max(totals), dtype=torch.bool)
        for row, total in enumerate(totals):
            joint_mask[row, :total] = True
        img_mask = hidden_states.new_ones(batch, img.shape[1], dtype=torch.bool)
        img_freqs, freqs = freqs_cis[: img.shape[1]], freqs_cis[: max(totals)]

        for layer in self.double_stream_layers:
            layer.enable_taylorseer = False  # as the package's loop sets it on every block
            img, instruct = layer(
                img, instruct, img_mask, joint_mask, img_freqs, freqs, temb, texts, totals
            )

        hidden_states = fuse(img, instruct, texts, totals)
        for layer in self.single_stream_layers:
            hidden_states = layer(hidden_states, joint_mask, freqs, temb)
        hidden_states = self.norm_out(hidden_states)
        rows = [hidden_states[row, total - tokens : total] for row, total in enumerate(totals)]
        return torch.stack(rows)


class FlowMatchEulerDiscreteScheduler(SchedulerMixin, ConfigMixin):
    """The package's scheduler: not diffusers' of this name, and its time rises."""

    order = 1

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000) -> None:
        self.timesteps = torch.linspace(0, 1, num_train_timesteps + 1)[:-1]
        self._step_index: int | None = None

    @property
    def step_index(self) -> int | None:
        """The step that comes next; None before the first."""
        return self._step_index

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: Any = None,
        timesteps: Any = None,
        num_tokens: int | None = None,
    ) -> None:
        """Begin anew."""
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.linspace(0, 1, num_inference_steps + 1)[:-1]
        self._timesteps = torch.cat([self.timesteps, torch.ones(1)])
        self._step_index = None

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor]:
        """One step of Euler."""
        index = self._step_index or 0
        self._step_index = index + 1
        return (sample + (self._timesteps[index + 1] - self._timesteps[index]) * model_output,)


class BooguImagePipeline:
    """Text to image, and images with an instruction to image."""

    def __init__(self) -> None:
        self.transformer = BooguImageTransformer2DModel()
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(
        self,
        num_inference_steps: int = 6,
        text_guidance_scale: float = 4.0,
        image_guidance_scale: float = 1.0,
        empty_instruction_guidance_scale: float = 0.0,
        cfg_range: tuple[float, float] = (0.0, 1.0),
        reference: bool = False,
        batch: int = 1,
    ) -> torch.Tensor:
        """Latents ``[b x i x d]``."""
        made = torch.Generator().manual_seed(0)

        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=made)

        self.latents = randn(batch, PATCHES, DIM)
        self.prompts = {}
        for name, length in (("positive", 5), ("negative", 3), ("empty", 2)):
            mask = torch.ones(batch, length, dtype=torch.int64)
            mask[1:, -1] = 0  # the second instruction is shorter
            self.prompts[name] = (randn(batch, length, DIM), mask)
        self.ref_latents = randn(batch, 4, DIM) if reference else None
        self.freqs_cis = 0.1 * randn(16, DIM)
        self.scales = text_guidance_scale, image_guidance_scale, empty_instruction_guidance_scale
        self.cfg_range = cfg_range
        return self.processing(num_inference_steps)

    def processing(self, num_inference_steps: int) -> torch.Tensor:
        """The denoising loop."""
        latents = self.latents
        self.scheduler.set_timesteps(num_inference_steps, num_tokens=PATCHES)
        timesteps = self.scheduler.timesteps
        for i, t in enumerate(timesteps):
            pred = self.predict(t, latents, "positive", self.ref_latents)
            guided = self.cfg_range[0] <= i / len(timesteps) <= self.cfg_range[1]
            text, image, empty = self.scales if guided else (1.0, 1.0, 0.0)
            if self.ref_latents is not None and text > 1.0 and image > 1.0:
                drop_text = self.predict(t, latents, "negative", self.ref_latents)
                drop_all = self.predict(t, latents, "negative", None)
                of_empty = torch.zeros_like(pred)
                if empty:
                    of_empty = self.predict(t, latents, "empty", self.ref_latents) - drop_text
                of_text, of_image = pred - drop_text, drop_text - drop_all
                pred = pred + (text - 1) * of_text + (image - 1) * of_image + empty * of_empty
            elif self.ref_latents is not None and text > 1.0:
                drop_text = self.predict(t, latents, "negative", self.ref_latents)
                pred = pred + (text - 1) * (pred - drop_text)
            elif self.ref_latents is not None and image > 1.0:
                drop_image = self.predict(t, latents, "positive", None)
                pred = pred + (image - 1) * (pred - drop_image)
            elif text > 1.0:
                drop_all = self.predict(t, latents, "negative", None)
                pred = pred + (text - 1) * (pred - drop_all)
            latents = self.scheduler.step(pred, t, latents, return_dict=False)[0]
        return latents

    def predict(
        self, t: torch.Tensor, latents: torch.Tensor, prompt: str, reference: torch.Tensor | None
    ) -> torch.Tensor:
        """One forward."""
        found: torch.Tensor = self.transformer(
            latents,
            t.expand(latents.shape[0]).to(latents.dtype),
            self.prompts[prompt][0],
            self.freqs_cis,
            self.prompts[prompt][1],
            ref_image_hidden_states=reference,
        )
        return found


class BooguImageTurboPipeline(BooguImagePipeline):
    """Few steps, unguided, with a schedule of its own: it never calls the scheduler."""

    def processing(self, num_inference_steps: int) -> torch.Tensor:
        """The denoising loop."""
        latents = self.latents
        noise = torch.Generator().manual_seed(1)
        sigmas = torch.linspace(0.001, 1.0, num_inference_steps + 1)[:-1]
        for i, sigma in enumerate(sigmas):
            pred = self.predict(sigma, latents, "positive", self.ref_latents)
            latents = latents + (1 - sigma) * pred
            if i < num_inference_steps - 1:
                fresh = torch.randn(latents.shape, generator=noise)
                latents = (1 - sigmas[i + 1]) * fresh + sigmas[i + 1] * latents
        return latents
