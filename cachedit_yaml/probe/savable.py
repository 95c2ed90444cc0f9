"""Parts that engines load from one folder, where diffusers is given objects: processors of
vision-language models, and language models with their tokenizers. None of them knows a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cachedit_yaml.probe.classes import ProbeError, find_part, refuse_settings
from cachedit_yaml.probe.tokenizers import bytes_tokenizer


class LanguageModel:
    """A language model of transformers with a tokenizer of bytes, saved in one folder.

    Args:
        name: its class.
        **config: fields of its config.
    """

    def __init__(self, name: str = "LlamaForCausalLM", **config: Any) -> None:
        cls: Any = find_part(name)
        refuse_settings(config, name)
        self._model = cls(cls.config_class(**config))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both into a folder."""
        self._model.save_pretrained(folder)
        bytes_tokenizer().save_pretrained(folder)


def vision_processor(
    name: str, special: Sequence[str] = (), image: str = "", video: str = "", **image_config: Any
) -> Any:
    """A processor of a vision-language model, with a tokenizer of bytes.

    Args:
        name: what its class's name begins with, such as ``Qwen3VL``.
        special: tokens of its own.
        image: what the name of its image processor's class begins with, if not ``name``.
        video: the same of its video processor.
        **image_config: of the image processor.
    """
    import transformers

    found = getattr(transformers, f"{name}Processor", None)
    if not (inspect.isclass(found) and issubclass(found, transformers.ProcessorMixin)):
        raise ProbeError(f"{name}Processor is no processor of transformers")
    cls: Any = found
    refuse_settings(image_config, name)
    images: Any = find_part(f"{image or name}ImageProcessor")
    saved = bytes_tokenizer(special)
    parts = {"image_processor": images(**image_config), "tokenizer": saved.tokenizer}
    if "video_processor" in cls.get_attributes():
        parts["video_processor"] = find_part(f"{video or name}VideoProcessor")()
    return cls(**parts, chat_template=saved.tokenizer.chat_template)
