"""The snippets of docs/engines.md and of the README, taken out and run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import yaml
from diffusers import DiffusionPipeline

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.engines.cache_dit.configs import read_config
from cachedit_yaml.engines.vllm_omni.settings import read
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
SNIPPETS = {
    (title, kind): code
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    for kind, code in re.findall(r"```(\w+)\n(.*?)```", body, re.DOTALL)
}
README = dict(
    re.findall(
        r"^\*\*([\w-]+)\*\*[^\n]*\n```\w+\n(.*?)```",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
#: What runs elsewhere: `make test-engines`.
ENGINE_ONLY = {
    ("vLLM-Omni", "python"),
    ("vLLM-Omni", "sh"),
    ("vLLM-Omni", "json"),
    ("SGLang diffusion", "sh"),
    ("SGLang diffusion", "json"),
    ("SGLang diffusion", "yaml"),
}


@pytest.fixture
def pipe() -> Iterator[Any]:
    found = tiny.build("FluxPipeline")
    yield found
    cachedit_yaml.uninstall()


def test_every_snippet_is_known() -> None:
    run_here = {("diffusers", "python"), ("cache-dit", "python"), ("cache-dit", "yaml")}
    assert set(SNIPPETS) == run_here | {("Other engines", "python")} | ENGINE_ONLY


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The small pipelines that stand in for what is on the hub; they take the same call."""
    made: list[Any] = []

    def from_hub(name: str, **given: Any) -> Any:
        assert name == "Qwen/Qwen-Image"
        assert given in ({}, {"use_safetensors": True})
        made.append(tiny.build("QwenImagePipeline"))
        call = tiny.cases("QwenImagePipeline")["plain"](made[0])
        cls = type("QwenImagePipeline", (type(made[0]),), {
            "__call__": lambda self, prompt: super(cls, self).__call__(**call)
        })  # fmt: skip
        made[0].__class__ = cls
        return made[0]

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_hub)
    return made


def test_diffusers(made: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = SNIPPETS["diffusers", "python"].replace(".images[0]", "")
    exec(code, {"cachedit_yaml": cachedit_yaml})
    assert "qwen-image (loop)" in capsys.readouterr().out
    assert cachedit_yaml.disable(made[0])


def test_the_readme(made: list[Any], pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(README) == {"diffusers", "vLLM-Omni", "SGLang", "cache-dit"}
    exec(README["diffusers"].replace(".images[0]", ""), {})
    assert "qwen-image (loop)" in capsys.readouterr().out
    assert not cachedit_yaml.disable(made[0])
    exec(README["cache-dit"], {"pipe": pipe})
    assert pipe.transformer._is_cached
    cache_dit.disable_cache(pipe)
    words = shlex.split(README["vLLM-Omni"])
    assert read(yaml.safe_load(words[words.index("--cache-config") + 1])).profile == "fast"


def test_cache_dit(pipe: Any) -> None:
    exec(SNIPPETS["cache-dit", "python"], {"pipe": pipe})
    assert not getattr(pipe.transformer, "_is_cached", False)
    assert cachedit_yaml.uninstall() is False


def test_a_file_with_sections(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(SNIPPETS["cache-dit", "yaml"], encoding="utf-8")
    config = read_config(path)
    assert config is not None
    assert config.settings.residual_diff_threshold == 0.24
    sections = set(yaml.safe_load(path.read_text(encoding="utf-8"))) - {"cache_config"}
    assert set(config.sections) == sections
    # The others need what is not installed here: other processes, torchao.
    backend = {"attention_backend": config.sections["attention_backend"]}
    loaded = dataclasses.replace(config, sections=backend).load()
    assert loaded["attention_backend"] == "native"
    assert main(["validate", str(path)]) == 0


def test_other_engines(pipe: Any) -> None:
    exec(SNIPPETS["Other engines", "python"], {"pipeline": pipe})
    assert not cachedit_yaml.disable(pipe)


def test_what_only_the_engine_runs_is_read_as_it_says() -> None:
    config = re.search(r"cache_config=(\{.*\})", SNIPPETS["vLLM-Omni", "python"])
    assert config is not None
    request = read(yaml.safe_load(config[1]))
    assert (request.adapter, request.profile, request.unknown) == ("wan", "fast", ())
    assert request.settings().residual_diff_threshold == 0.2
    words = shlex.split(SNIPPETS["vLLM-Omni", "sh"])
    request = read(yaml.safe_load(words[words.index("--cache-config") + 1]))
    assert (request.profile, request.unknown) == ("fast", ())
