"""Text encoders, tokenizers and processors for the pipelines that do not run from embeddings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from .common import Stub, builder

IMAGE_TOKEN = "<|image_pad|>"
SPECIAL = (
    "[UNK]",
    "[PAD]",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_TOKEN,
)


class TextEncoderStub(Stub):
    """An embedding where the pipelines expect the hidden states of a language model."""

    def __init__(self, width: int = 24, vocabulary: int = 64) -> None:
        """Hidden states of this width for token ids below this number."""
        super().__init__()
        self.model = nn.Module()
        # The final norm, which one pipeline hooks.
        self.model.norm = nn.Identity()
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """The same hidden states for every layer."""
        hidden = self.model.norm(self.embedding(input_ids))
        return SimpleNamespace(hidden_states=(hidden,) * 4, last_hidden_state=hidden)


@builder("TextEncoderStub")
def _text_encoder(**config: Any) -> TextEncoderStub:
    return TextEncoderStub(**config)


@builder("WordTokenizer")
def word_tokenizer() -> Any:
    """A tokenizer with a vocabulary of a few words, made here."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, "a", "red", "cat", "system", "user", "assistant"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", padding_side="right"
    )


class ImageProcessorStub:
    """What cuts a picture into patches for a vision-language model: always four patches."""

    merge_size = 2

    def __call__(self, images: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Patches and their grid."""
        return {
            "pixel_values": torch.zeros(4, 6),
            "image_grid_thw": torch.tensor([[1, 2, 2]]),
        }


class ProcessorStub(Stub):
    """A vision-language processor: a tokenizer and an image processor."""

    def __init__(self) -> None:
        """The same tokenizer and image processor for every pipeline."""
        super().__init__()
        self.tokenizer = word_tokenizer()
        self.image_processor = ImageProcessorStub()

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> list[list[int]]:
        """The token ids of a system message."""
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
            made["pixel_values"] = torch.zeros(4, 6)
            made["image_grid_thw"] = torch.tensor([[1, 2, 2]])
        return made


@builder("ProcessorStub")
def _processor() -> ProcessorStub:
    return ProcessorStub()
