"""Parts that engines load from one folder: they come back from it as what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, ByT5Tokenizer, LlamaForCausalLM

from cachedit_yaml.engines.vllm_omni.worker import placed
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.attributes import attributes
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.parts import build_part


def test_a_language_model_and_its_tokenizer_in_one_folder(tmp_path: Path) -> None:
    build_part(Part(part="llama-of-bytes"), "llama").save_pretrained(tmp_path)
    model: Any = LlamaForCausalLM.from_pretrained(tmp_path)
    ids = AutoTokenizer.from_pretrained(tmp_path)("a cat", return_tensors="pt").input_ids
    assert ids.shape == (1, 5)
    assert model(ids).logits.shape == (1, 5, 300)
    with pytest.raises(ProbeError, match="has NoSuchModel"):
        build_part(Part(part="llama-of-bytes", config={"name": "NoSuchModel"}), "llama")


def test_a_vision_processor(tmp_path: Path) -> None:
    build_part(Part(part="pixtral-processor"), "tokenizer").save_pretrained(tmp_path)
    from transformers import PixtralProcessor

    loaded: Any = PixtralProcessor.from_pretrained(tmp_path)
    message = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
    made = loaded.apply_chat_template([message], tokenize=True, return_dict=True)
    # What begins and ends a turn are one token each; the rest are bytes.
    assert len(made["input_ids"][0]) == len("user\na cat\n") + 2


def test_bytes_of_byt5(tmp_path: Path) -> None:
    build_part(Part(part="byt5"), "tokenizer").save_pretrained(tmp_path)
    assert ByT5Tokenizer.from_pretrained(tmp_path)("ab").input_ids == [100, 101, 1]


def test_a_folder_of_the_checkpoint_in_the_engines_config(tmp_path: Path) -> None:
    given = {"extras": {"encoder": {"folder": "llama"}, "n": 1}, "folder": 2}
    assert placed(given, tmp_path) == {
        "extras": {"encoder": str(tmp_path / "llama"), "n": 1},
        "folder": 2,
    }
    assert placed("bfloat16", tmp_path) == "bfloat16"


def test_what_a_call_leaves_on_a_model_counts_by_its_numbers() -> None:
    from types import SimpleNamespace

    block = torch.nn.Linear(2, 2)
    model: Any = torch.nn.Sequential(block)
    lists = [SimpleNamespace(holder=model, blocks=[block])]
    plan: Any = SimpleNamespace(
        scheduler=None, transformers=[SimpleNamespace(module=model, lists=lists)]
    )
    target = SimpleNamespace(model=model)
    model.cached = [(torch.ones(2), torch.zeros(3, dtype=torch.bfloat16))]
    before = attributes(target, plan)
    model.cached = [(torch.ones(2), torch.zeros(3, dtype=torch.bfloat16))]
    assert attributes(target, plan) == before
    model.cached = [(torch.ones(2), torch.zeros(3))]
    assert attributes(target, plan) != before
    model.cached = [(torch.zeros(2), torch.zeros(3, dtype=torch.bfloat16))]
    assert attributes(target, plan) != before
    del model.cached
    assert attributes(target, plan) != before
