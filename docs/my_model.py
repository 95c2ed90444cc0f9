"""The model of docs/add-a-model.md: small, untrained, and with names of its own."""

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, 2, batch_first=True)
        self.think = nn.Linear(width, width)

    def forward(self, img, txt, temb):
        both = self.norm(torch.cat([txt, img], dim=1)) * (1 + temb[:, None])
        both = 0.1 * self.look(both, both, both, need_weights=False)[0]
        txt, img = txt + both[:, : txt.shape[1]], img + both[:, txt.shape[1] :]
        return txt, img + 0.1 * self.think(img).tanh()


class MyTransformer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, channels=4, width=16, num_layers=6):
        super().__init__()
        self.into = nn.Linear(channels, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(num_layers))
        self.out = nn.Linear(width, channels)

    def forward(self, latents, sigma, text):
        img, temb = self.into(latents), sigma[:, None].expand(-1, text.shape[-1])
        for layer in self.layers:
            text, img = layer(img, text, temb)
        return self.out(img)


class MyPipeline(DiffusionPipeline):
    def __init__(self, transformer, scheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, prompt="a cat", num_inference_steps=20, generator=None):
        text = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(len(prompt)))
        latents = torch.randn(1, 9, 4, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for timestep in self.scheduler.timesteps:
            output = self.transformer(latents, timestep.expand(1) / 1000, text)
            latents = self.scheduler.step(output, timestep, latents, return_dict=False)[0]
        return latents


def make():
    torch.manual_seed(0)
    return MyPipeline(MyTransformer().eval(), FlowMatchEulerDiscreteScheduler())
