"""Parts that no config makes: tokenizers, which need a vocabulary, and what stands in for large
language models. None of them knows a pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import nn

from cachedit_yaml.probe.limits import budget
from cachedit_yaml.probe.savable import LanguageModel, vision_processor
from cachedit_yaml.probe.tokenizers import (
    IMAGE_TOKEN,
    byt5_tokenizer,
    bytes_tokenizer,
    clip_tokenizer,
    gemma_tokenizer,
    qwen2_vl_processor,
    qwen3_vl_processor,
    t5_tokenizer,
    wav2vec2_processor,
    word_tokenizer,
)
from cachedit_yaml.probe.values import generator


class _Stub(nn.Module):
    """A module that is asked for its dtype and device."""

    @property
    def device(self) -> torch.device:
        """Where every small pipeline is made."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of every small pipeline."""
        return torch.float32


class Embedding(_Stub):
    """An embedding where a pipeline expects the hidden states of a language model.

    Args:
        width: of the hidden states.
        vocabulary: token ids are below this.
        layers: how many layers' hidden states it returns, all of them the same.
    """

    def __init__(self, width: int = 24, vocabulary: int = 64, layers: int = 4) -> None:
        super().__init__()
        # A final norm and last layers where language models have them: pipelines hook them.
        norm = nn.Identity()
        inner = nn.ModuleDict({"norm": norm, "layers": nn.ModuleList([nn.Identity()])})
        self.model = nn.ModuleDict({"norm": norm, "language_model": inner})
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = layers

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Hidden states ``[b x s x width]`` for token ids ``[b x s]``."""
        hidden = self.model["norm"](self.embedding(input_ids))
        hidden = self.model["language_model"]["layers"][-1](hidden)  # type: ignore[index]
        return SimpleNamespace(hidden_states=(hidden,) * self.layers, last_hidden_state=hidden)


class _Patches:
    """What cuts a picture into patches for a vision-language model: always four patches."""

    merge_size = 2

    def __call__(self, images: Any, **_: Any) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": torch.zeros(4, 6),
            "image_grid_thw": torch.tensor([[1, 2, 2]]),
        }


class Processor(_Stub):
    """A vision-language processor: a tokenizer and what cuts pictures into patches."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = word_tokenizer()
        self.image_processor = _Patches()

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> list[list[int]]:
        """The token ids of the first message."""
        text = messages[0]["content"][0]["text"]
        return [self.tokenizer.encode(f"<|im_start|>system\n{text}<|im_end|>\n")]

    def forward(self, text: list[str], images: list[Any] | None = None, **_: Any) -> Any:
        """Token ids, with one image token for each 32 x 32 pixels of a picture."""
        pictures = iter(images or [])
        pieces = []
        for one in text:
            first, *rest = one.split(IMAGE_TOKEN)
            for piece in rest:
                width, height = next(pictures).size
                first += IMAGE_TOKEN * ((width // 32) * (height // 32)) + piece
            pieces.append(first)
        made = self.tokenizer(pieces, padding=True, padding_side="left", return_tensors="pt")
        if images:
            made.update(_Patches()(images))
        return made


class SafetyChecker(_Stub):
    """A checker that finds everything safe, for pipelines that do not run without one."""

    def check_text_safety(self, prompt: str) -> bool:
        """Whether a prompt is safe."""
        return True

    def check_video_safety(self, frames: Any) -> Any:
        """The frames as they are."""
        return frames


class NoWeights:
    """A file of weights that holds none: what loads it keeps those that it has.

    Args:
        file: its name.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file).name

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it into a folder."""
        torch.save({}, Path(folder) / self.file)


class Weights:
    """A file of weights that no class of its own has, for engines that read it by themselves.

    Args:
        **shapes: of its tensors, by name; in a name, two underscores stand for a dot.
    """

    def __init__(self, **shapes: Sequence[int]) -> None:
        self._shapes = {name.replace("__", "."): shape for name, shape in shapes.items()}
        for shape in self._shapes.values():
            budget().spend("parameters", math.prod(shape) if min(shape, default=0) >= 0 else -1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it into a folder."""
        from safetensors.torch import save_file

        Path(folder).mkdir(parents=True, exist_ok=True)
        made = {
            name: torch.randn(*shape, generator=generator("weights", name)) / shape[-1] ** 0.5
            for name, shape in self._shapes.items()
        }
        save_file(made, Path(folder) / "model.safetensors")


BUILDERS: Final[Mapping[str, Callable[..., Any]]] = {
    "tokenizer": word_tokenizer,
    "clip-tokenizer": clip_tokenizer,
    "t5-tokenizer": t5_tokenizer,
    "bytes-tokenizer": bytes_tokenizer,
    "qwen2-vl-processor": qwen2_vl_processor,
    "wav2vec2-processor": wav2vec2_processor,
    "byt5-tokenizer": byt5_tokenizer,
    "gemma-tokenizer": gemma_tokenizer,
    "qwen3-vl-processor": qwen3_vl_processor,
    "embedding": Embedding,
    "no-weights": NoWeights,
    "language-model": LanguageModel,
    "vision-processor": vision_processor,
    "processor": Processor,
    "safety-checker": SafetyChecker,
    "weights": Weights,
}
