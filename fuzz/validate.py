"""Fuzz target: whatever bytes a file holds, nothing raises but the project's own errors, and soon.

Each input is checked as `validate` does it, mended, written in every format, described as `show`
and `explain` do, and compiled against a small pipeline where torch is installed. Half of the
inputs are mutated by their lines and by the words of the language, the others by their bytes.

``python fuzz/validate.py -max_total_time=60`` with atheris installed (``make fuzz``). A
failure is written to ``crash-*``; turn it into a golden file or a case of tests/validation.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import atheris

with atheris.instrument_imports(include=["cachedit_yaml"]):
    from cachedit_yaml.cli import show
    from cachedit_yaml.cli.explanation import Explainer
    from cachedit_yaml.cli.named import Named
    from cachedit_yaml.cli.output import say
    from cachedit_yaml.cli.validation.formats import (
        github_report,
        human,
        json_report,
        junit_report,
        sarif_report,
    )
    from cachedit_yaml.cli.validation.report import FileResult, Report
    from cachedit_yaml.engines.configs import check_config, recognise
    from cachedit_yaml.errors import CacheditYamlError
    from cachedit_yaml.language.schemas import load
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.registry.entry import TextEntry
    from cachedit_yaml.registry.registry import Registry
    from cachedit_yaml.rules.class_names import check_classes
    from cachedit_yaml.rules.findings import too_long
    from cachedit_yaml.rules.fix import apply_edits, edits_for
    from cachedit_yaml.rules.ignores import apply_ignores
    from cachedit_yaml.yaml.reader import read_text

    try:
        # At once, so that time and memory of an input are its own.
        import cache_dit.caching.cache_contexts.calibrators  # noqa: F401
        import torch

        from cachedit_yaml.compiler.compile import compile_adapter
    except ImportError:  # nothing is compiled then
        compile_adapter = None

LEVELS = frozenset({"file", "schema", "meaning", "names", "engine", "ignores"})
REGISTRY = Registry([])
#: Processor time that an input may take.
SECONDS = 2
FORMATS = (human, json_report, sarif_report, github_report, junit_report)


def one_input(data: bytes) -> None:
    """Do all of it, in no more processor time than anybody waits for."""
    before = time.process_time()
    use_file(data)
    spent = time.process_time() - before
    assert spent < SECONDS, f"{spent:.1f} s of processor time for {len(data)} bytes"


def use_file(data: bytes) -> None:
    """Check one file as the command does, and use everything that it found."""
    document, found = read_text(data, "a.yaml")
    kind = recognise(document.data)
    if kind == "adapter":
        entry = TextEntry(data, "a.yaml", REGISTRY.resolve)
        found = list(entry.diagnostics)
        if not too_long(found):
            found += check_classes(entry.document)
        if entry.checked_spec is not None:
            use(entry, entry.checked_spec)
    else:
        found = found + check_config(kind, document, REGISTRY)
    found = apply_ignores(found, document, LEVELS)
    report = Report([FileResult("a.yaml", kind, None, found)], texts=dict(document.sources))
    for form in FORMATS:
        stream = io.StringIO()
        form.write(report, stream)
        harmless(stream.getvalue(), own=form is github_report)
    for item in found:
        harmless(item.summary())
    edits, _ = edits_for("a.yaml", found)
    if edits:
        read_text(apply_edits(document.text, edits), "a.yaml")


def use(entry: TextEntry, spec: AdapterSpec) -> None:
    """What the commands do with an adapter in which nothing is wrong."""
    shown = io.StringIO()
    say(*show._describe(Named(entry, None), spec), stream=shown)
    harmless(shown.getvalue())
    with contextlib.suppress(CacheditYamlError):
        Explainer(spec, None, profile=None, steps=8, settings=None).explain()
    if compile_adapter is not None:
        with contextlib.suppress(CacheditYamlError):
            compile_adapter(spec, Pipeline()).describe(8)


def harmless(text: str, own: bool = False) -> None:
    """Nothing that was printed moves a cursor or is a command of GitHub's."""
    bad = [char for char in text if not char.isprintable() and char != "\n"]
    assert not bad, bad
    assert "##[" not in text
    assert own or not any(line.lstrip().startswith("::") for line in text.split("\n"))


if compile_adapter is not None:

    class Block(torch.nn.Module):
        """One block, with the arguments that most have."""

        def forward(self, hidden_states: Any, encoder_hidden_states: Any, temb: Any = None) -> Any:
            """Both as they are."""
            return hidden_states, encoder_hidden_states

    class Transformer(torch.nn.Module):
        """A transformer with the names of block lists that most have."""

        def __init__(self) -> None:
            super().__init__()
            for name in ("blocks", "transformer_blocks", "single_transformer_blocks", "layers"):
                setattr(self, name, torch.nn.ModuleList(Block() for _ in range(4)))

        def forward(self, hidden_states: Any, encoder_hidden_states: Any, timestep: Any) -> Any:
            """Run the blocks."""
            for block in self.blocks:
                hidden_states, encoder_hidden_states = block(hidden_states, encoder_hidden_states)
            return hidden_states

    class Scheduler:
        """What has steps."""

        def __init__(self) -> None:
            self.config = {"num_train_timesteps": 1000}

        def set_timesteps(self, steps: int) -> None:
            """Nothing."""

        def step(self, *_: Any) -> None:
            """Nothing."""

    class Pipeline:
        """A pipeline of which some attributes cannot be read."""

        def __init__(self) -> None:
            self.transformer = self.transformer_2 = self.unet = Transformer()
            self.scheduler, self.config = Scheduler(), {"boundary_ratio": 0.9}

        @property
        def prior(self) -> Any:
            """Raise what nobody expects."""
            raise RuntimeError("not now\n::error::x")


# --- mutations that know the language ---


def _words(schema: Any) -> Iterator[str]:
    """The keys and words of the language."""
    if isinstance(schema, dict):
        yield from (name for name in schema.get("properties", {}))
        yield from (str(word) for word in schema.get("enum", ()))
        for item in schema.values():
            yield from _words(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from _words(item)


WORDS = sorted(set(_words(load("adapter"))))
VALUES = [
    *WORDS, "1", "0", "-1", "4", "0.12", "1e309", "null", "true", "[]", "{}", "[1, 0, 1, 1]",
    "FluxPipeline", "'*'", "'A**Z*'", "transformer", "transformer.blocks", "pipeline.prior",
    "blocks", "transformer_blocks", "not pipeline.config.x", "&a [*a]",
    '"\\n::error::x\\e[31m\\u202e##[a]"',
    "x" * 300, "9" * 30, "~", "../a.yaml", "|\n  text",
]  # fmt: skip


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a file by its bytes, or by its lines and the words of the language."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        line = lines[at]
        indent = " " * max(0, len(line) - len(line.lstrip()) + chance.choice((0, 0, 2, -2)))
        key, _, value = line.partition(":")
        word, other = chance.choice(WORDS), chance.choice(VALUES)
        lines[at : at + 1] = chance.choice(
            (
                [],
                [line, line],
                [line, f"{indent}{word}: {other}"],
                [f"{key}: {other}"],
                [f"{indent}{word}:{value}"],
                [line.replace(chance.choice(line.split() or [" "]), other, 1)],
                [chance.choice(lines)],
            )
        )
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "replace")[:max_size]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()
