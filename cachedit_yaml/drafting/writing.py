"""A draft as the text of a YAML file, as people write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

_WIDTH: Final = 120
#: A text that needs no quotes.
_PLAIN: Final = re.compile(r"[A-Za-z_][\w./-]*( [\w./(),;'-]+)*", re.ASCII)


def text_of(
    data: Mapping[str, Any],
    evidence: Mapping[str, tuple[str, ...]],
    doubts: Sequence[str],
    steps: int,
) -> str:
    """Write an adapter with what a run has shown of it in comments.

    Args:
        data: the adapter.
        evidence: what the run has shown, by the attribute path of block lists.
        doubts: what somebody has to look at.
        steps: how many denoising steps the run had.
    """
    lines = [f"# Drafted by `cachedit-yaml init` from a call of {steps} steps."]
    lines += [f"# To decide: {text}" for text in doubts]
    for key, value in data.items():
        if key == "transformers":
            lines += ["transformers:"]
            for path, transformer in value.items():
                lines += _transformer(path, transformer, evidence)
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _transformer(
    path: str, transformer: Mapping[str, Any], evidence: Mapping[str, tuple[str, ...]]
) -> list[str]:
    lines = [f"  {path}:"]
    for key, value in transformer.items():
        if key != "blocks":
            lines.append(f"    {key}: {_flow(value)}")
            continue
        lines.append("    blocks:")
        for name, blocks in value.items():
            first, *more = evidence.get(f"{path}.{name}") or evidence.get(name) or ("",)
            lines += [f"      # {text[:1].upper()}{text[1:]}." for text in more]
            line = f"      {name}: {_flow(blocks)}"
            fits = len(line) + len(first) + 8 <= _WIDTH
            lines.append(f"{line}      # {first}" if first and fits else line)
    others = {
        name.removeprefix(f"{path}."): texts
        for name, texts in evidence.items()
        if name.startswith(f"{path}.")
        and name.removeprefix(f"{path}.") not in (transformer.get("blocks") or {})
        and name.count(".") <= path.count(".") + 1
    }
    lines += [f"    # {name}: {text}." for name, texts in others.items() for text in texts]
    return lines


def _flow(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    text = str(value)
    if not isinstance(value, str) or (_PLAIN.fullmatch(text) and not _means_more(text)):
        return text
    return json.dumps(text)  # which YAML reads alike


def _means_more(text: str) -> bool:
    """Whether a text alone is read as something else: a number, a truth value, nothing."""
    return not isinstance(yaml.safe_load(text), str)
