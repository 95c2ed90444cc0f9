"""Small tokenizers whose vocabularies are letters, bytes or a few words.

Engines load a tokenizer as a certain class from certain files, so each kind has those.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

IMAGE_TOKEN: Final = "<|image_pad|>"
_SPECIAL: Final = (
    "[UNK]",
    "[PAD]",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_TOKEN,
)
_WORDS: Final = ("a", "red", "cat", "system", "user", "assistant")
_LETTERS: Final = tuple(chr(code) for code in range(ord("a"), ord("z") + 1))
#: Qwen's special tokens, whose ids follow those of the 256 bytes: 256 to 262.
_CHAT: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_TOKEN,
    "<|video_pad|>",
)
#: The turns of a chat, each of texts and of what stands for pictures.
_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def word_tokenizer(special: Sequence[str] = (), **settings: Any) -> Any:
    """A tokenizer with a vocabulary of a few words.

    Args:
        special: more tokens that stay whole.
        **settings: of ``transformers.PreTrainedTokenizerFast``, such as ``model_max_length``.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    whole = [*_SPECIAL, *special]
    vocabulary = {word: index for index, word in enumerate([*whole, *_WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in whole])
    given = {"unk_token": "[UNK]", "pad_token": "[PAD]", "padding_side": "right", **settings}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given)


class WithVocabulary:
    """A tokenizer that is saved with its vocabulary in files of its own too.

    Args:
        tokenizer: the tokenizer itself.
        vocabulary: its words.
    """

    def __init__(self, tokenizer: Any, vocabulary: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self._vocabulary = {word: number for number, word in enumerate(vocabulary)}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it into a folder."""
        place = Path(folder)
        self.tokenizer.save_pretrained(place)
        (place / "vocab.json").write_text(json.dumps(self._vocabulary), encoding="utf-8")
        (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def clip_tokenizer(model_max_length: int = 77) -> Any:
    """CLIP's tokenizer of single letters: 54 words, the last two begin and end a text."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS), start, end]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], end_of_word_suffix="</w>", unk_token=end))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.add_special_tokens([AddedToken(start, special=True), AddedToken(end, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 52), (end, 53)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=end,
        pad_token=end,
        model_max_length=model_max_length,
    )
    return WithVocabulary(made, words)


def t5_tokenizer(model_max_length: int = 512) -> Any:
    """T5's tokenizer of single letters: 30 words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -1.0), ("▁", -2.0)]
    words = [*special, *((letter, -3.0) for letter in _LETTERS)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=model_max_length,
    )


def bytes_tokenizer(
    special: Sequence[str] = (), ids: Mapping[str, int] | None = None, **settings: Any
) -> Any:
    """Qwen's tokenizer of single bytes, with the special tokens and the template of a chat.

    Args:
        special: more tokens that stay whole; their ids begin at 263.
        ids: more such tokens, whose ids a model knows by heart.
        **settings: of ``transformers.PreTrainedTokenizerFast``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = [*_CHAT, *special]
    vocabulary = {word: number for number, word in enumerate([*letters, *whole])}
    if ids:
        whole += ids
        # A vocabulary has no holes: the ids between have words that no text has.
        taken = set(ids.values())
        between = set(range(len(vocabulary), max(taken) + 1)) - taken
        vocabulary |= {**ids, **{f"<|{number}|>": number for number in between}}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{
            "pad_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "additional_special_tokens": whole,
            "chat_template": _TEMPLATE,
            "model_max_length": 4096,
            **settings,
        },
    )
    return WithVocabulary(made, letters)


def qwen2_vl_processor(smallest: int = 784, largest: int = 12544) -> Any:
    """The processor of Qwen2-VL and Qwen2.5-VL: their tokenizer, and what cuts pictures.

    Args:
        smallest: pixels of a picture, which is scaled up to them; 784 are one token.
        largest: pixels of a picture, which is scaled down to them.
    """
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": smallest, "longest_edge": largest}
    return Qwen2VLProcessor(
        Qwen2VLImageProcessor(size=size),
        bytes_tokenizer().tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=_TEMPLATE,
    )


def wav2vec2_processor() -> Any:
    """The processor of Wav2Vec2: a tokenizer of single letters, and what scales sound."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "|", *_LETTERS])}
    with tempfile.TemporaryDirectory() as place:
        vocabulary = Path(place) / "vocab.json"
        vocabulary.write_text(json.dumps(words), encoding="utf-8")
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer)


def byt5_tokenizer() -> Any:
    """ByT5's tokenizer: its vocabulary is the bytes, so it needs no files."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


def gemma_tokenizer(**settings: Any) -> Any:
    """Gemma's tokenizer of single letters, with what begins and ends a turn.

    Args:
        **settings: of ``transformers.GemmaTokenizer``.
    """
    from transformers import GemmaTokenizer

    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "▁"]
    vocabulary = {word: number for number, word in enumerate([*words, *_LETTERS])}
    given = {"model_max_length": 512, **settings}
    return GemmaTokenizer(vocab=vocabulary, **given)


def qwen3_vl_processor(patch_size: int = 4) -> Any:
    """Qwen3-VL's processor: the tokenizer of bytes, and what cuts pictures and videos into patches.

    Args:
        patch_size: pixels of a patch's side.
    """
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    tokenizer = bytes_tokenizer().tokenizer
    sizes = {"patch_size": patch_size, "temporal_patch_size": 2, "merge_size": 2}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=tokenizer.chat_template,
    )
